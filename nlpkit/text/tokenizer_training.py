"""Learning a vocabulary: byte-level BPE, WordPiece, unigram, words or characters.

Sources: Sennrich et al. 2016 (BPE), Radford et al. 2019 (bytes, the split at apostrophes and before words),
Schuster and Nakajima 2012 (WordPiece), Kudo 2018 (unigram). The counting and merging is the ``tokenizers``
library's; what is added here is that a run of a million characters cannot hold it up, and that WordPiece gives
the same vocabulary every time. (All kinds do but unigram: the library sums its probabilities in the order of a
randomly seeded hash table, so two runs can differ in a few rare pieces.)
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nlpkit import console
from nlpkit.errors import DataError, NlpkitError, UsageError, did_you_mean
from nlpkit.text.bpe_training import learn, lines_of
from nlpkit.text.byte_fallback import SPELLING, check_byte_fallback, lossless, with_bytes
from nlpkit.text.documents import batches
from nlpkit.text.long_texts import LONG, pieces
from nlpkit.text.recipe import Recipe
from nlpkit.text.standardize import Standardizer
from nlpkit.text.tokenizer import SPECIALS, Tokenizer

KINDS = ("bpe", "wordpiece", "unigram", "word", "char")
LONGEST = 1000  # bytes of a run without space (or of space) that is learned from as one piece
_RUN = re.compile(r"\S{251,}|\s{251,}")
# Bytes as they can be part of a run: without white space, and of it (other than ASCII: of both).
_RUNS = bytes(32 if bytes([b]).isspace() or 28 <= b < 32 else 120 for b in range(256))
_SPACES = bytes(32 if bytes([b]).isspace() or 28 <= b < 32 or b > 127 else 120 for b in range(256))


def train(
    texts: Iterable[str | bytes],
    kind: str,
    vocab_size: int,
    min_frequency: int | None,
    add_tokens: tuple[str, ...],
    recipe: Recipe,
    byte_fallback: bool = False,
) -> Tokenizer:
    """A tokenizer learned from ``texts``, which are read once and never held in memory as a whole.

    A text is a document, or bytes: lines of UTF-8, a document each. ``min_frequency`` is 2 for BPE and WordPiece and
    1 for the other kinds unless given. ``add_tokens`` are whole tokens that text is never cut within; they take the
    last ids. ``byte_fallback`` (unigram) spells characters that the vocabulary lacks in bytes.

    :raises UsageError: an unknown kind, a vocabulary that is too small, a recipe that the kind cannot hold.
    :raises DataError: the texts are empty.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown tokenizer kind {kind!r}{did_you_mean(kind, KINDS)}")
    if byte_fallback:
        check_byte_fallback(kind)
    in_bytes = kind == "bpe" or byte_fallback
    least = len(SPECIALS) + (256 if in_bytes else 1) + (len(SPELLING) if byte_fallback else 0)
    learned = vocab_size - len(add_tokens)
    if learned < least:
        why = "256 bytes and 6 special tokens" if in_bytes else "6 special tokens and one more"
        raise UsageError(f"--vocab-size {vocab_size} is too small: a {kind} tokenizer starts from {why}")
    clash = sorted(set(add_tokens) & set(SPECIALS))
    if clash or any(not t.strip() for t in add_tokens) or len(set(add_tokens)) < len(add_tokens):
        raise UsageError(f"--add-tokens: {(clash or ['a token'])[0]} is empty, named twice or there already")
    inside, outside = placed(recipe, kind)
    if outside:
        texts = map(Standardizer(outside), lines_of(texts))
    frequency = min_frequency if min_frequency is not None else 2 if kind in ("bpe", "wordpiece") else 1
    counted = Counted(texts, capped=kind != "char")
    raw = untrained(kind, inside)
    if byte_fallback:
        lossless(raw)
        raw = with_bytes(_learn(raw, kind, learned - 256 - len(SPELLING), frequency, counted))
    else:
        raw = _learn(raw, kind, learned, frequency, counted)
    counted.report()
    if add_tokens:
        from tokenizers import AddedToken

        raw.add_tokens([AddedToken(t, normalized=False) for t in add_tokens])
    made = Tokenizer(raw.to_str(), recipe=recipe, raw=raw)
    assert made.ours
    return made


class Counted:
    """Texts with very long runs cut into pieces, counted as they pass."""

    def __init__(self, texts: Iterable[str | bytes], capped: bool) -> None:
        self.texts, self.capped = texts, capped
        self.characters = self.cut = 0

    def __iter__(self) -> Iterator[str]:
        for text in lines_of(self.items()):
            if len(text) <= LONG:
                yield text
            else:  # the library takes many times its size, and more time than for its parts
                for piece, _ in pieces(text):
                    yield piece

    def items(self) -> Iterator[str | bytes]:
        """Documents and, where no line of them has to be cut, blocks of lines."""
        for item in self.texts:
            self.characters += len(item) if not item.isspace() else 0
            if not self.capped or len(item) <= LONGEST // 4:
                yield item
            elif isinstance(item, str):
                yield from self._pieces(item)
            elif b"x" * 251 in item.translate(_RUNS) or b" " * 251 in item.translate(_SPACES):
                yield from self._around(item)
            else:
                yield item

    def report(self) -> None:
        """Say what was cut.

        :raises DataError: there was no text.
        """
        if self.characters == 0:
            raise DataError("nothing to learn from: the input has no text; give it some")
        if self.cut:
            console.warn(f"{self.cut:,} runs over {LONGEST:,} bytes were cut into pieces to learn from")

    def _around(self, block: bytes) -> Iterator[str | bytes]:
        """A block of lines, parted where a line has to be cut."""
        whole: list[bytes] = []
        for line in block.removesuffix(b"\n").split(b"\n"):
            pieces = list(self._pieces(line.decode())) if len(line) > LONGEST // 4 else ()
            if len(pieces) > 1:
                if whole:
                    yield b"\n".join(whole) + b"\n"
                    whole = []
                yield from pieces
            else:
                whole.append(line)
        if whole:
            yield b"\n".join(whole) + b"\n"

    def _pieces(self, text: str) -> Iterator[str]:
        start = 0
        for run in _RUN.finditer(text):
            size = LONGEST if run.group().isascii() else LONGEST // 4
            if run.end() - run.start() <= size:
                continue
            self.cut += 1
            for at in range(run.start() + size, run.end(), size):
                yield text[start:at]
                start = at
        yield text[start:]


def placed(recipe: Recipe, kind: str) -> tuple[list[Any], Recipe | None]:
    """The library's normalizers for a recipe, or (word tokenizers only) the recipe to be applied before."""
    if not recipe:
        return [], None
    made: list[Any] = []
    for step in recipe.steps:
        normalizers = _normalizers(step, recipe)
        if normalizers is None:
            if kind == "word":
                return [], recipe
            name = step.partition(":")[0]
            raise UsageError(
                f"step {step!r} cannot live in a {kind} tokenizer: tokenizer.json has no {name}, so other programs "
                "would see other text; use --kind word, or nlpkit standardize before"
            )
        made.extend(normalizers)
    return made, None


def _normalizers(step: str, recipe: Recipe) -> list[Any] | None:
    from tokenizers import Regex, normalizers

    composed = [] if {"nfd", "nfkd"} & set(recipe.steps) else [normalizers.NFC()]
    apart = normalizers.NFKD() if "nfkd" in recipe.steps else normalizers.NFD()
    table: dict[str, Callable[[], list[Any]]] = {
        "nfc": lambda: [normalizers.NFC()],
        "nfkc": lambda: [normalizers.NFKC()],
        "nfd": lambda: [normalizers.NFD()],
        "nfkd": lambda: [normalizers.NFKD()],
        "lower": lambda: [normalizers.Lowercase()],
        "strip-accents": lambda: [apart, normalizers.Replace(Regex(r"\p{Mn}"), ""), *composed],
        "strip-punct": lambda: [normalizers.Replace(Regex(r"[\p{P}\p{S}]"), " ")],
        "strip-digits": lambda: [normalizers.Replace(Regex(r"\p{N}"), " ")],
        "collapse-space": lambda: [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()],
    }
    return table[step]() if step in table else None


def untrained(kind: str, inside: list[Any]) -> Any:
    """A tokenizer of the library's with the split and decoder of a kind and the normalizers ``inside``."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Raw

    if kind == "bpe":
        raw = Raw(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
    elif kind == "wordpiece":
        raw = Raw(models.WordPiece(unk_token="[UNK]"))
        raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        raw.decoder = decoders.WordPiece(prefix="##", cleanup=False)
        clean = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False
        )
        inside = [clean, *inside]
    elif kind == "unigram":
        raw = Raw(models.Unigram())
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        raw.decoder = decoders.Metaspace(prepend_scheme="first")
    elif kind == "word":
        raw = Raw(models.WordLevel(unk_token="[UNK]"))
        raw.pre_tokenizer = pre_tokenizers.Whitespace()
    else:
        raw = Raw(models.WordLevel(unk_token="[UNK]"))
        raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        raw.decoder = decoders.Fuse()
    if inside:
        raw.normalizer = normalizers.Sequence(inside) if len(inside) > 1 else inside[0]
    return raw


def _learn(raw: Any, kind: str, size: int, frequency: int, texts: Counted) -> Any:
    from tokenizers import AddedToken, pre_tokenizers, trainers

    # A mask takes the place of a word with its space: «the [MASK] sat» is masked just as in training.
    special = [
        AddedToken(s, normalized=False, special=True, lstrip=s == "[MASK]" and kind in ("bpe", "unigram"))
        for s in SPECIALS
    ]
    options: dict[str, Any] = {"vocab_size": size, "special_tokens": special, "show_progress": False}
    if kind == "bpe" and raw.normalizer is None:
        learn(raw, texts.items(), special, size, frequency)
    elif kind == "bpe":
        options |= {"min_frequency": frequency, "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
        raw.train_from_iterator(texts, trainers.BpeTrainer(**options))
    elif kind == "wordpiece":
        from nlpkit.text.wordpiece_training import learn_wordpiece

        return learn_wordpiece(raw, options | {"min_frequency": frequency}, texts)
    elif kind == "unigram":
        _learn_unigram(raw, options, texts)
    elif kind == "char":
        _learn_characters(raw, options, frequency, texts)
    else:
        raw.train_from_iterator(texts, trainers.WordLevelTrainer(min_frequency=frequency, **options))
    return raw


def _learn_characters(raw: Any, options: dict[str, Any], frequency: int, texts: Counted) -> None:
    """The most frequent characters, ties by code point, as the library's trainer has them."""
    import numpy as np
    from tokenizers import models

    counts = np.zeros(0x110000, np.int64)
    for batch in batches(texts):
        text = "".join(batch if raw.normalizer is None else map(raw.normalizer.normalize_str, batch))
        found = np.bincount(np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32))
        counts[: len(found)] += found
    ranked = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts >= max(1, frequency))]
    names = [*SPECIALS, *map(chr, ranked[: options["vocab_size"] - len(SPECIALS)].tolist())]
    raw.model = models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    raw.add_special_tokens(options["special_tokens"])


def _learn_unigram(raw: Any, options: dict[str, Any], texts: Counted) -> None:
    from tokenizers import trainers

    try:
        raw.train_from_iterator(texts, trainers.UnigramTrainer(unk_token="[UNK]", **options))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError | NlpkitError):
            raise
        if texts.characters == 0:
            return
        reason = str(error).split("\n")[0]
        raise UsageError(
            f"a unigram vocabulary of {options['vocab_size']} cannot be made from this text ({reason}); "
            "every character of the text needs a place: raise --vocab-size"
        ) from error

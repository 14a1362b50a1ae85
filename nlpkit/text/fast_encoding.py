"""Bulk encoding of lines by a faster library (gigatoken) behind ``tokenizers``, whose ids stay the rule.

L lines of a block, T tokens of a block.

The library is used only where it was seen to agree: byte-level BPE with GPT-2's split (Radford et al. 2019), no
normalizer, ids without a template, nothing cut. It is compared with ``tokenizers`` on a probe set whenever it is
loaded. A line end becomes a token of its own that no text can reach, so a block of lines is one call and its ids
never leave numpy. Lines that spell an added token (``[MASK]`` takes the space before it) go through ``tokenizers``.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nlpkit import console
from nlpkit.text.blocks import line_blocks
from nlpkit.text.compression import reading
from nlpkit.text.documents import Counts, Source, batches

if TYPE_CHECKING:
    from nlpkit.text.tokenizer import Tokenizer

LIBRARY = "gigatoken"
SMALL = 1 << 19  # bytes; below, the library's start costs more than it saves
LARGE = 1 << 23  # bytes; from here on the lack of the library is worth a word
_BLOCK = 1 << 22
#: Texts that faster encoders got wrong before: odd spaces, contractions, marks, runs, unassigned characters.
PROBE = (
    "", " ", "  ", "a", " a", "a ", "  a  b  ", "hello world", "Hello, World!", "don't I'll we've they're it's I'm",
    "DON'T I'LL", "x1y2z3", "3.14159 2,000,000", "a\tb\t\tc", "\t", "a\rb", "\r\r ", "\x0b\x0c\x1c\x1d\x1e\x1f",
    "a\x00b", "é e\u0301 \u0301", "ﬁ ½ ² Ⅳ ١٢٣", "naïve café", "\u00a0\u00a0x", "\u3000全角", "\u2028\u2029\x85",
    "日本語のテキスト", "한국어 텍스트", "русский язык", "العربية", "हिन्दी", "ไทย", "👍🏽 🇩🇪", "a\u200d\u200b\ufeff",
    "\U0010ffff\ue000\U000e0001", "a" * 300, " " * 300, "ab" * 200, "-" * 100, "!?" * 40, "http://a.b/c?d=e&f",
    "«quoted» “text” ‘here’", "''''s 's't 'S ’s", "_a_ __b__", "1st 2nd", "end  ", "𝔘𝔫𝔦 ǅ ß ẞ İ ı", "x\u0345 Σ ς",
    "\\n \\t", "<|endoftext|", "[ MASK ]", "the [MASK] sat", "a<|endoftext|>b",
)  # fmt: skip


def supports(tokenizer: "Tokenizer") -> bool:
    """Whether bulk text may go through the library: whether its ids are known to be equal for such a tokenizer."""
    from tokenizers.pre_tokenizers import ByteLevel

    raw = tokenizer.raw
    model, split = raw.model, raw.pre_tokenizer
    if tokenizer.recipe or raw.normalizer is not None or type(model).__name__ != "BPE":
        return False
    if type(split) is not ByteLevel or split.add_prefix_space or not split.use_regex:
        return False
    changed = (
        model.dropout,
        model.continuing_subword_prefix,
        model.end_of_word_suffix,
        model.byte_fallback,
        model.ignore_merges,
    )
    if any(changed) or any(raw.token_to_id(symbol) is None for symbol in ByteLevel.alphabet()):
        return False
    return all(token.content for token in raw.get_added_tokens_decoder().values())


class Disagreement(Exception):
    """The library gave other ids than ``tokenizers``."""


def _patterns(tokens: Iterable[bytes]) -> list[re.Pattern[bytes]]:
    """What finds the tokens: a pattern for each first byte, which the search then jumps to."""
    rests: dict[bytes, list[bytes]] = {}
    for token in tokens:
        rests.setdefault(token[:1], []).append(re.escape(token[1:]))
    return [re.compile(re.escape(first) + b"(?:" + b"|".join(rest) + b")") for first, rest in rests.items()]


def _with_line_end(definition: str, id: int) -> str:
    """A tokenizer's definition whose only added token is the line end."""
    if not definition.startswith('{"added_tokens":['):
        definition = json.dumps({"added_tokens": [], **json.loads(definition)})
    start = definition.index("[")
    _, stop = json.JSONDecoder().raw_decode(definition, start)
    token = {"id": id, "content": "\n", "special": True}
    token |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return definition[:start] + json.dumps([token]) + definition[stop:]


class FastEncoder:
    """Blocks of lines to ids by the library, equal to the tokenizer's own.

    :raises ImportError: the library is not installed.
    :raises Disagreement: it refuses the tokenizer, or its ids differ on the probe set.
    """

    def __init__(self, tokenizer: "Tokenizer") -> None:
        from gigatoken.gigatoken_rs import load_hf_json

        self.tokenizer = tokenizer
        self.size = tokenizer.vocab_size
        self._added = _patterns(t.content.encode() for t in tokenizer.raw.get_added_tokens_decoder().values())
        try:
            self._encode = load_hf_json(_with_line_end(tokenizer.definition, self.size)).encode
        except Exception as error:
            raise Disagreement(f"{LIBRARY} cannot read it: {str(error).splitlines()[0][:120]}") from error
        ids, lengths = self("\n".join((*PROBE, "")).encode())
        expected = tokenizer.encode(PROBE)
        whole = [id for row in expected for id in row]
        if ids.tolist() != whole or lengths.tolist() != [len(row) for row in expected]:
            raise Disagreement(f"{LIBRARY} gave other ids than tokenizers")

    def __call__(self, block: bytes, end: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids (T,) uint32 and their number for each line (L,) int64 of UTF-8 lines; ``end`` is put after each line.

        :raises Disagreement: what came back cannot be ids of these lines.
        """
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        if not block.endswith(b"\n") and block:
            block += b"\n"
        apart: dict[int, bytes] = {}
        if any(pattern.search(block) for pattern in self._added):
            lines = block.split(b"\n")
            apart = {i: x for i, x in enumerate(lines) if any(pattern.search(x) for pattern in self._added)}
            for number in apart:
                lines[number] = b""
            block = b"\n".join(lines)
        ids = self._run(block)
        ends = np.flatnonzero(ids == self.size)
        if len(ends) != block.count(b"\n") or (len(ids) and int(ids.max()) > self.size):
            raise Disagreement(f"{LIBRARY} lost lines")
        if apart:
            rows = self.tokenizer.encode([line.decode() for line in apart.values()])
            places = np.repeat(ends[list(apart)], [len(row) for row in rows])
            ids = np.insert(ids, places, np.fromiter((i for row in rows for i in row), ids.dtype))
            ends = np.flatnonzero(ids == self.size)
        if end is None:
            return ids[ids != self.size], np.diff(ends, prepend=-1) - 1
        ids = ids if ids.flags.writeable else ids.copy()
        ids[ends] = end
        return ids, np.diff(ends, prepend=-1)

    def _run(self, block: bytes) -> np.ndarray:
        try:
            return np.asarray(self._encode(block), np.uint32) if block else np.empty(0, np.uint32)
        except BaseException as error:  # a panic of the library is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            raise Disagreement(f"{LIBRARY} failed: {str(error).splitlines()[0][:120]}") from error


def encode_lines(
    found: Sequence[Source], tokenizer: "Tokenizer", *, errors: str = "replace", end: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of ids and lengths for the lines of text sources, in order; ``end`` is put after each line.

    Input below :data:`SMALL` bytes, and everything the library cannot do, is encoded by ``tokenizers``. The
    tokenizer is one that :func:`supports` allows. Replaced and dropped bytes are said at the end.
    """
    counts = Counts()
    fast: FastEncoder | None = None
    reason, seen, tried, said = "", 0, False, False
    for source in found:
        with reading(source.path) as file:
            for block in line_blocks(file, _BLOCK, numbered=errors == "strict"):
                data = block.clean()
                seen += 0 if data is None else len(data)
                if not tried and seen >= SMALL:
                    tried = True
                    fast, reason = _load(tokenizer)
                if fast is not None and data is not None:
                    try:
                        yield fast(data, end)
                        continue
                    except Disagreement as error:
                        console.warn(f"{error}; the rest is encoded by tokenizers")
                        fast, said = None, True
                if fast is None and tried and not said and seen >= LARGE:
                    said = True
                    console.note(f"encoding with tokenizers: {reason}")
                yield from _plain(block.lines(source.name, errors, counts), tokenizer, end)
    counts.report()


def _load(tokenizer: "Tokenizer") -> tuple[FastEncoder | None, str]:
    try:
        return FastEncoder(tokenizer), ""
    except ImportError:
        return (
            None,
            f'{LIBRARY} is not installed; pip install "nlpkit[fast]" encodes bulk text many times faster',
        )
    except Disagreement as error:
        return None, str(error)


def _plain(
    texts: Iterable[str], tokenizer: "Tokenizer", end: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for batch in batches(texts, first=2048):
        rows = tokenizer.encode(batch)
        if end is not None:
            rows = [[*row, end] for row in rows]
        lengths = np.array([len(row) for row in rows], np.int64)
        yield np.fromiter((id for row in rows for id in row), np.uint32, int(lengths.sum())), lengths

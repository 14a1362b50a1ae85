"""Bulk encoding of lines by faster engines beside ``tokenizers``, whose ids stay the rule.

L lines of a block, T tokens of a block.

An engine is used only where its ids are known to be equal: for byte-level BPE with GPT-2's split (Radford et al. 2019)
a library (gigatoken), where spaces part words a table of words (:mod:`nlpkit.text.word_encoding`), where a character
is a token a table of characters (:mod:`nlpkit.text.character_encoding`). It is compared with ``tokenizers`` on a probe
set whenever it is loaded. A line end becomes an id of its own that no text can reach, so a
block of lines is one call and its ids never leave numpy. Lines that spell an added token (``[MASK]`` takes the space
before it) go through ``tokenizers``.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from nlpkit import console
from nlpkit.text import character_encoding, word_encoding
from nlpkit.text.blocks import BLOCK, SMALL, Block, line_blocks, ordinary
from nlpkit.text.compression import reading
from nlpkit.text.documents import LIMIT, Counts, Source, batches
from nlpkit.text.shards import smallest_dtype
from nlpkit.text.tokenizer_file import with_added

if TYPE_CHECKING:
    from nlpkit.text.line_workers import Workers
    from nlpkit.text.tokenizer import Tokenizer

LIBRARY = "gigatoken"
BULK = 1 << 22  # bytes; below, compiling the loops of the table of words does
LARGE = 1 << 23  # bytes; from here on the lack of the library is worth a word
SHARED = 1 << 25  # bytes; from here on other processes pay
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
    """Whether an engine is known to give the ids of such a tokenizer."""
    return (
        byte_level(tokenizer) or word_encoding.supports(tokenizer) or character_encoding.supports(tokenizer)
    )


def byte_level(tokenizer: "Tokenizer") -> bool:
    """Whether the library is known to give the ids of such a tokenizer."""
    from tokenizers.pre_tokenizers import ByteLevel

    raw = tokenizer.raw
    model, split = raw.model, raw.pre_tokenizer
    if tokenizer.recipe or raw.normalizer is not None or type(model).__name__ != "BPE":
        return False
    if type(split) is not ByteLevel or split.add_prefix_space or not split.use_regex:
        return False
    changes = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
    if any(getattr(model, change) for change in changes):
        return False
    return all(raw.token_to_id(symbol) is not None for symbol in ByteLevel.alphabet())


class Disagreement(Exception):
    """An engine gave other ids than ``tokenizers``, or none."""


def _patterns(tokens: Iterable[bytes]) -> list[tuple[bytes, re.Pattern[bytes]]]:
    """What finds the tokens: for each first byte, which is sought first, a pattern."""
    rests: dict[bytes, list[bytes]] = {}
    for token in tokens:
        rests.setdefault(token[:1], []).append(re.escape(token[1:]))
    return [
        (first, re.compile(re.escape(first) + b"(?:" + b"|".join(rest) + b")"))
        for first, rest in rests.items()
    ]


def _library(tokenizer: "Tokenizer", end: int) -> Callable[[bytes], np.ndarray]:
    """The library with the tokenizer's definition, but for the added tokens: the only one is the line end."""
    from gigatoken.gigatoken_rs import load_hf_json

    token = {"id": end, "content": "\n", "special": True}
    token |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    try:
        encode: Callable[[bytes], np.ndarray] = load_hf_json(with_added(tokenizer.text, [token])).encode
    except Exception as error:
        raise Disagreement(f"{LIBRARY} cannot read it: {str(error).splitlines()[0][:120]}") from error
    return encode


class FastEncoder:
    """Blocks of lines to ids by an engine, equal to the tokenizer's own.

    :raises ImportError: the library is not installed.
    :raises Disagreement: it refuses the tokenizer, or its ids differ on the probe set.
    """

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self.tokenizer = tokenizer
        self.size = tokenizer.vocab_size
        self.dtype = smallest_dtype(self.size + 1)
        apart = [token.content for token in tokenizer.raw.get_added_tokens_decoder().values()]
        if byte_level(tokenizer):
            self.name, self.longest = LIBRARY, LIMIT
            self._encode = _library(tokenizer, self.size)
        elif character_encoding.supports(tokenizer):
            self.name, self.longest = "the table of characters", character_encoding.LONGEST
            self._encode = character_encoding.CharacterEncoder(tokenizer, self.size)
        else:
            self.name, self.longest = "the table of words", word_encoding.LONGEST
            self._encode = word_encoding.WordEncoder(tokenizer, self.size)
            apart.extend(filter(None, [word_encoding.kept_spaces(tokenizer)]))
        self._added = _patterns(token.encode() for token in apart)
        ids, lengths = self("\n".join((*PROBE, "")).encode())
        expected = tokenizer.encode(PROBE)
        whole = [id for row in expected for id in row]
        if ids.tolist() != whole or lengths.tolist() != [len(row) for row in expected]:
            raise Disagreement(f"{self.name} gave other ids than tokenizers")

    def __call__(self, block: bytes, end: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids (T,) and their number for each line (L,) int64 of UTF-8 lines; ``end`` is put after each line.

        :raises Disagreement: what came back cannot be ids of these lines.
        """
        if b"\r" in block:  # one byte is found several times faster than two
            block = block.replace(b"\r\n", b"\n")
        if not block.endswith(b"\n") and block:
            block += b"\n"
        apart: dict[int, bytes] = {}
        if self._spells_added(block):
            lines = block.split(b"\n")
            apart = {i: x for i, x in enumerate(lines) if self._spells_added(x)}
            for number in apart:
                lines[number] = b""
            block = b"\n".join(lines)
        ids = self._run(block)
        ends = np.flatnonzero(ids == self.size)
        lines_ = np.count_nonzero(np.frombuffer(block, np.uint8) == 10)
        if len(ends) != lines_ or (len(ids) and int(ids.max()) > self.size):
            raise Disagreement(f"{self.name} lost lines")
        ids = ids.astype(self.dtype)
        if apart:
            rows = self.tokenizer.encode([line.decode() for line in apart.values()])
            places = np.repeat(ends[list(apart)], [len(row) for row in rows])
            ids = np.insert(ids, places, np.fromiter((i for row in rows for i in row), ids.dtype))
            ends = np.flatnonzero(ids == self.size)
        if end is None:
            return ids[ids != self.size], np.diff(ends, prepend=-1) - 1
        ids[ends] = end
        return ids, np.diff(ends, prepend=-1)

    def piece(self, text: str) -> list[int] | None:
        """The ids of a text without line breaks; None when the engine cannot do it."""
        if "\n" in text or "\r" in text:
            return None
        try:
            return self(text.encode("utf-8", "surrogatepass") + b"\n")[0].tolist()
        except (Disagreement, UnicodeDecodeError):
            return None

    def _spells_added(self, text: bytes) -> bool:
        """Whether an added token stands in a text."""
        return any(
            (at := text.find(first)) >= 0 and pattern.search(text, at) for first, pattern in self._added
        )

    def _run(self, block: bytes) -> np.ndarray:
        try:
            return np.asarray(self._encode(block), np.uint32) if block else np.empty(0, np.uint32)
        except BaseException as error:  # a panic of the library is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            raise Disagreement(f"{self.name} failed: {str(error).splitlines()[0][:120]}") from error


Part = tuple[np.ndarray, np.ndarray]  # the ids of some lines, and how many each has


class LineEncoder:
    """Blocks of lines to parts, by the fastest way that is known to be right; :meth:`close` ends its processes.

    Input below :data:`SMALL` or :data:`BULK` bytes, and everything that the engine cannot do, is encoded by
    ``tokenizers``. The tokenizer is one that :func:`supports` allows. ``jobs`` processes share large input.
    """

    def __init__(self, tokenizer: "Tokenizer", end: int | None, jobs: int) -> None:
        self.tokenizer, self.end = tokenizer, end
        self.jobs = jobs if hasattr(os, "fork") else 1
        self._dtype = smallest_dtype(tokenizer.vocab_size)
        self._least = BULK if word_encoding.supports(tokenizer) else SMALL
        self._fast: FastEncoder | None = None
        self._reason, self._tried, self._said = "", False, False
        self._seen = self._size = 0  # bytes so far, and at least so many with the rest of the file
        self._workers: Workers | None = None

    def __call__(self, source: Source, errors: str, counts: Counts) -> Iterator[Part]:
        """The parts of a text source, in order."""
        with reading(source.path) as file:
            yield from self.blocks(
                line_blocks(file, BLOCK, numbered=errors == "strict"), source, errors, counts
            )

    def blocks(self, blocks: Iterator[Block], source: Source, errors: str, counts: Counts) -> Iterator[Part]:
        """The parts of what is left of a text source, in order."""
        path = source.path
        self._size = self._seen + (path.stat().st_size if path is not None and path.is_file() else 0)
        for block in blocks:
            if self.jobs > 1 and max(self._seen, self._size) >= SHARED and self._engine() is not None:
                yield from self._shared(chain([block], blocks), source.name, errors, counts)
                return
            yield from self._parts(block, source.name, errors, counts)

    def _shared(self, blocks: Iterator[Block], name: str, errors: str, counts: Counts) -> Iterator[Part]:
        from nlpkit.text.line_workers import Workers

        if self._workers is None:
            self._workers = Workers(self._packed, self.jobs)
        last: list[Block] = []
        for made, lines in self._workers(ordinary(blocks, last), name, errors, counts):
            lengths = np.frombuffer(made, np.int64, lines)
            yield np.frombuffer(made, self._dtype, offset=lengths.nbytes), lengths
        for block in last:
            yield from self._parts(block, name, errors, counts)

    def _packed(self, block: Block, name: str, errors: str, counts: Counts) -> tuple[bytes, int]:
        """What a worker sends: the lengths of a block's lines, then its ids; and the number of lines."""
        parts = list(self._parts(block, name, errors, counts))
        lengths = [lengths.astype(np.int64, copy=False) for _, lengths in parts]
        ids = [ids.astype(self._dtype, copy=False) for ids, _ in parts]
        return b"".join([part.data for part in (*lengths, *ids)]), sum(map(len, lengths))

    def _parts(self, block: Block, name: str, errors: str, counts: Counts) -> Iterator[Part]:
        data = block.clean()
        self._seen += 0 if data is None else len(data)
        fast = self._engine()
        if fast is not None and data is not None and len(data) < fast.longest:
            try:
                yield fast(data, self.end)
                return
            except Disagreement as error:
                console.warn(f"{error}; the rest is encoded by tokenizers")
                self._fast, self._said = None, True
                self.tokenizer.engine = None
        if self._fast is None and self._tried and not self._said and self._seen >= LARGE:
            self._said = True
            console.note(f"encoding with tokenizers: {self._reason}")
        yield from _plain(block.lines(name, errors, counts), self.tokenizer, self.end)

    def _engine(self) -> FastEncoder | None:
        """The engine, loaded as soon as there is enough for it to do."""
        if not self._tried and max(self._seen, self._size) >= self._least:
            self._tried = True
            self._fast, self._reason = _load(self.tokenizer)
            self.tokenizer.engine = None if self._fast is None else self._fast.piece
        return self._fast

    def close(self) -> None:
        """End the processes."""
        if self._workers is not None:
            self._workers.close()


def encode_lines(
    found: Sequence[Source], tokenizer: "Tokenizer", *, errors: str = "replace", end: int | None = None
) -> Iterator[Part]:
    """Parts of ids and lengths for the lines of text sources, in order; ``end`` is put after each line.

    Replaced and dropped bytes are said at the end.
    """
    counts = Counts()
    encoder = LineEncoder(tokenizer, end, jobs())
    try:
        for source in found:
            yield from encoder(source, errors, counts)
    finally:
        encoder.close()
    counts.report()


def jobs() -> int:
    """How many processes: as many as ``tokenizers`` would use threads, which is what -j sets."""
    told = os.environ.get("RAYON_NUM_THREADS", "")
    if told.isdecimal() and int(told):
        return int(told)
    from nlpkit.text.line_workers import processors

    return processors()


def engine_for(tokenizer: "Tokenizer") -> Callable[[str], list[int] | None] | None:
    """What gives the ids of a piece of a text (:meth:`FastEncoder.piece`), where an engine serves the tokenizer."""
    fast = _load(tokenizer)[0] if supports(tokenizer) else None
    return None if fast is None else fast.piece


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


def _plain(texts: Iterable[str], tokenizer: "Tokenizer", end: int | None) -> Iterator[Part]:
    for batch in batches(texts, first=2048):
        rows = tokenizer.encode(batch)
        if end is not None:
            rows = [[*row, end] for row in rows]
        lengths = np.array([len(row) for row in rows], np.int64)
        yield np.fromiter((id for row in rows for id in row), np.uint32, int(lengths.sum())), lengths

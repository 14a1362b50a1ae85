"""Bulk encoding where spaces part words for good: every distinct run of text between spaces is encoded once.

S slots of the table (a power of two), V distinct runs, N bytes of a block, W runs and line ends of it, T ids.

Where the pre-tokenizer drops white space and no step before it looks across a space (normal forms, case and the
removal or spacing of single characters do not), a line has the ids of its runs in a row: the model sees pieces
alone. The runs are encoded by ``tokenizers`` itself, many at a time with an added token between them; a compiled loop
finds the known ones. ASCII space, tab and line ends part runs; other white space is a run's own, because some of
it (U+001F, U+0085) is removed by some normalizers and so joins words.
"""

import functools
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nlpkit.text.tokenizer import Tokenizer

_SLOTS = 1 << 22  # half of them can be taken before the table is emptied
LONGEST = 1 << 22  # bytes of a block, one space or more a run: they fit an empty table
_ARENA = 1 << 25  # bytes of runs, or ids of results, before the table is emptied
_TOGETHER = 512  # runs that are encoded as one text
_PARTING = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
_CHARACTER_WISE = ("BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip")
_CLASSES = (r"\p{Mn}", r"[\p{P}\p{S}]", r"\p{N}", r"\s+")  # what Replace may look for


class Indistinct(Exception):
    """The ids of runs that were encoded together cannot be told apart."""


def supports(tokenizer: "Tokenizer") -> bool:
    """Whether a line's ids are known to be those of its runs, and added tokens to be found in the text as it is."""
    if tokenizer.recipe or type(tokenizer.raw.pre_tokenizer).__name__ not in _PARTING:
        return False
    body = tokenizer.body
    model, added = body["model"], body.get("added_tokens") or []
    normalized = any(token.get("normalized") for token in added) and body.get("normalizer") is not None
    return not (model.get("dropout") or normalized or _mark(tokenizer) is None) and _character_wise(
        body.get("normalizer")
    )


def _character_wise(normalizer: Any) -> bool:
    """Whether a normalizer does to a text what it does to its parts between spaces."""
    if normalizer is None:
        return True
    kind = normalizer.get("type")
    if kind == "Sequence":
        return all(map(_character_wise, normalizer.get("normalizers", [None])))
    if kind == "Replace":
        return normalizer.get("pattern", {}).get("Regex") in _CLASSES and normalizer.get("content") in (
            "",
            " ",
        )
    return kind in _CHARACTER_WISE


def _mark(tokenizer: "Tokenizer") -> dict[str, Any] | None:
    """An added token that can stand between two runs without touching them."""
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    return next((t for t in tokenizer.body.get("added_tokens") or [] if not any(map(t.get, flags))), None)


class WordEncoder:
    """Blocks of lines to ids (T,) uint32, with ``end`` for each line end.

    The lines spell no added token. The table is emptied when it has grown to its bounds.

    :raises ImportError: numba is not installed.
    """

    def __init__(self, tokenizer: "Tokenizer", end: int) -> None:
        mark = _mark(tokenizer)
        assert mark is not None
        self.tokenizer, self.end = tokenizer, end
        self._mark, self._mark_id = str(mark["content"]), int(mark["id"])
        from nlpkit.text import token_table

        self._table = token_table
        bytes_ = np.arange(256, dtype=np.uint8)
        bytes_[[9, 10, 13, 32]] = token_table._END
        self._bytes = np.stack([bytes_, bytes_])
        self._between = np.frombuffer(b"\n", np.uint8)  # no run holds one
        self.clear()

    def clear(self) -> None:
        """Forget all runs."""
        self._slots = np.zeros((_SLOTS, 2), np.uint64)  # a run's key and its number + 1
        self._found = np.zeros(_SLOTS // 2, np.int64)  # (V,): where a run's bytes are, start << 24 | length
        self._places = np.zeros(_SLOTS // 2, np.int64)  # (V,): where its ids are, in the same way
        self._runs = np.zeros(1 << 20, np.uint8)
        self._ids = np.zeros(1 << 20, np.uint32)
        self._count = self._used = self._made = 0

    def __call__(self, block: bytes) -> np.ndarray:
        """The ids of lines (N bytes, at most :data:`LONGEST`), the last of which has its end too.

        :raises Indistinct: the runs cannot be told apart; the table is empty then.
        """
        most = len(block) // 2  # runs that these bytes can hold
        if self._count + most > _SLOTS // 2 or max(self._used, self._made) > _ARENA:
            self.clear()
        scan, weigh, _ = self._table._loops()
        known, used = self._count, self._used
        self._runs = self._table._longer(self._runs, used + len(block) + most)
        stream = np.empty(len(block), np.int32)
        filled, self._count, self._used = scan(
            np.frombuffer(block, np.uint8), self._bytes, self._between, self._slots, self._found, self._runs,
            stream, known, used,
        )  # fmt: skip
        if self._count > known:
            try:
                self._encode(known, used)
            except BaseException:
                self.clear()  # it holds runs whose ids are not known
                raise
        stream = stream[:filled]
        room, _ = weigh(stream, self._places)
        out = np.empty(room, np.uint32)
        return out[: _emitter()(stream, self._places, self._ids, self.end, out)]

    def _encode(self, known: int, used: int) -> None:
        """Put the ids of the new runs into the table."""
        runs = self._runs[used : self._used].tobytes().decode().split("\n")
        runs.pop()
        mark = self._mark
        texts = [mark.join((*runs[at : at + _TOGETHER], "")) for at in range(0, len(runs), _TOGETHER)]
        rows = self.tokenizer.encode(texts)
        ids = np.fromiter(chain.from_iterable(rows), np.uint32, sum(map(len, rows)))
        ends = np.flatnonzero(ids == self._mark_id)
        if len(ends) != len(runs) or len(runs) != self._count - known:
            raise Indistinct(f"{mark} between words gave {len(ends):,} ids for {len(runs):,} words")
        lengths = np.diff(ends, prepend=-1) - 1
        kept = ids[ids != self._mark_id]
        self._places[known : self._count] = (self._made + np.cumsum(lengths) - lengths) << 24 | lengths
        self._ids = self._table._longer(self._ids, self._made + len(kept))
        self._ids[self._made : self._made + len(kept)] = kept
        self._made += len(kept)


def _emit(stream: np.ndarray, places: np.ndarray, ids: np.ndarray, end: int, out: np.ndarray) -> int:
    """Write the ids that ``stream`` (W,) names, ``end`` for a line end; how many."""
    at = 0
    for number in stream:
        if number < 0:
            out[at] = end
            at += 1
            continue
        place = places[number]
        start = place >> 24
        for i in range(start, start + (place & 0xFFFFFF)):
            out[at] = ids[i]
            at += 1
    return at


@functools.cache
def _emitter() -> Callable[..., int]:
    """The loop, compiled; the machine code is kept on disk where that is possible."""
    import numba

    try:
        return numba.njit(cache=True)(_emit)  # type: ignore[no-any-return]
    except RuntimeError:  # no place for the machine code
        return numba.njit(_emit)  # type: ignore[no-any-return]

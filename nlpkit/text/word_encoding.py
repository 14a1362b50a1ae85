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

from nlpkit.text.token_numbers import BITS, END, LENGTH, TokenNumbers, compiled, longer, runs_of

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
        byte = np.arange(256, dtype=np.uint8)
        byte[[9, 10, 13, 32]] = END
        self._numbers = TokenNumbers(byte, "\n", _SLOTS)  # no run holds a line end
        self.clear()

    def clear(self) -> None:
        """Forget all runs."""
        self._numbers.clear()
        self._places = np.zeros(_SLOTS // 2, np.int64)  # (V,): where a run's ids are
        self._ids = np.zeros(1 << 20, np.uint32)
        self._made = 0

    def __call__(self, block: bytes) -> np.ndarray:
        """The ids of lines (N bytes, at most :data:`LONGEST`), the last of which has its end too.

        :raises Indistinct: the runs cannot be told apart; the table is empty then.
        """
        most = len(block) // 2  # runs that these bytes can hold
        numbers = self._numbers
        if numbers.count + most > _SLOTS // 2 or max(numbers.used, self._made) > _ARENA:
            self.clear()
        weigh, emit = _loops()
        known, used = numbers.count, numbers.used
        stream = numbers(block)
        if numbers.count > known:
            try:
                self._encode(known, used)
            except BaseException:
                self.clear()  # it holds runs whose ids are not known
                raise
        out = np.empty(weigh(stream, self._places), np.uint32)
        return out[: emit(stream, self._places, self._ids, self.end, out)]

    def _encode(self, known: int, used: int) -> None:
        """Put the ids of the new runs into the table."""
        runs = self._numbers.since(known, used)
        assert runs is not None
        mark = self._mark
        texts = [mark.join((*runs[at : at + _TOGETHER], "")) for at in range(0, len(runs), _TOGETHER)]
        rows = self.tokenizer.encode(texts)
        ids = np.fromiter(chain.from_iterable(rows), np.uint32, sum(map(len, rows)))
        ends = np.flatnonzero(ids == self._mark_id)
        if len(ends) != len(runs):
            raise Indistinct(f"{mark} between words gave {len(ends):,} ids for {len(runs):,} words")
        lengths = np.diff(ends, prepend=-1) - 1
        kept = ids[ids != self._mark_id]
        self._places[known : known + len(runs)] = runs_of(lengths, self._made)
        self._ids = longer(self._ids, self._made + len(kept))
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
        start = place >> BITS
        for i in range(start, start + (place & LENGTH)):
            out[at] = ids[i]
            at += 1
    return at


def _weigh(stream: np.ndarray, places: np.ndarray) -> int:
    """The ids and line ends that ``stream`` (W,) names."""
    room = 0
    for number in stream:
        room += 1 if number < 0 else places[number] & LENGTH
    return room


@functools.cache
def _loops() -> list[Callable[..., Any]]:
    def weigh(numba: Any) -> tuple[Any, ...]:
        return numba.int32[::1], numba.int64[::1]

    def emit(numba: Any) -> tuple[Any, ...]:
        ids = numba.uint32[::1]
        return (*weigh(numba), ids, numba.int64, ids)

    return compiled({_weigh: weigh, _emit: emit})

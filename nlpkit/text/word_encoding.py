"""Bulk encoding where spaces part words for good: every distinct run of text between spaces is encoded once.

S slots of the table (a power of two), V distinct runs, N bytes of a block, W runs and line ends of it, T ids.

Where the pre-tokenizer drops white space and no step before it looks across a space (normal forms, case and the
removal or spacing of single characters do not), a line has the ids of its runs in a row: the model sees pieces
alone. The runs are encoded by ``tokenizers`` itself, many at a time with an added token between them; a compiled loop
finds the known ones. ASCII space, tab and line ends part runs; other white space is a run's own, because some of
it (U+001F, U+0085) is removed by some normalizers and so joins words.

Where a space becomes the first character of the word behind it (Metaspace: ``▁``), spaces alone part runs, and the
first token of each is known by its ``▁``, unless that is unknown: then each run is encoded as a text. Of several spaces
all but the last are words of their own, and so are those at a line's end: they are spelled ``▁`` for the loop. A text
that spells it itself is not for this table.
"""

import functools
from collections.abc import Callable, Sequence
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
_SPACED = 64  # the same, where one that cannot be told makes all of them go alone
_PARTING = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
_SPACE = "▁"  # U+2581, what Metaspace makes of a space
_CHARACTER_WISE = ("BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip")
_ENDS = b"\t\n\r "
_ONE_TO_ONE = ("NFC", "NFD", "Lowercase")  # they neither make a space nor leave nothing of a character
_CLASSES = (r"\p{Mn}", r"[\p{P}\p{S}]", r"\p{N}", r"\s+")  # what Replace may look for


class Indistinct(Exception):
    """The ids of runs that were encoded together cannot be told apart."""


def supports(tokenizer: "Tokenizer") -> bool:
    """Whether a line's ids are known to be those of its runs, and added tokens to be found in the text as it is."""
    if tokenizer.recipe:
        return False
    body = tokenizer.body
    normalizer, added = body.get("normalizer"), body.get("added_tokens") or []
    if body["model"].get("dropout") or (normalizer is not None and any(t.get("normalized") for t in added)):
        return False
    if kept_spaces(tokenizer):
        return _character_wise(normalizer, _ONE_TO_ONE)
    parted = type(tokenizer.raw.pre_tokenizer).__name__ in _PARTING
    return parted and _mark(tokenizer) is not None and _character_wise(normalizer)


def kept_spaces(tokenizer: "Tokenizer") -> str:
    """What a space becomes where it begins the word behind it; empty where spaces part words and are gone."""
    split = tokenizer.body.get("pre_tokenizer") or {}
    begins = split.get("prepend_scheme") in ("first", "always") and split.get("split", True)
    return (
        _SPACE if split.get("type") == "Metaspace" and begins and split.get("replacement") == _SPACE else ""
    )


def parting(ends: bytes = _ENDS) -> np.ndarray:
    """(256,): every byte itself, but END for those between runs."""
    made = np.arange(256, dtype=np.uint8)
    made[list(ends)] = END
    return made


def _character_wise(normalizer: Any, kinds: Sequence[str] = _CHARACTER_WISE) -> bool:
    """Whether a normalizer does to a text what it does to its parts between spaces."""
    if normalizer is None:
        return True
    kind = normalizer.get("type")
    if kind == "Sequence":
        return all(_character_wise(one, kinds) for one in normalizer.get("normalizers", [None]))
    if kind == "Replace" and kinds is _CHARACTER_WISE:
        return normalizer.get("pattern", {}).get("Regex") in _CLASSES and normalizer.get("content") in (
            "",
            " ",
        )
    return kind in kinds


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
        self.tokenizer, self.end = tokenizer, end
        self._space = kept_spaces(tokenizer).encode()
        ends = b"\n " if self._space else _ENDS
        self._numbers = TokenNumbers(parting(ends), "\n", _SLOTS)  # no run holds a line end
        names = map(tokenizer.id_to_token, range(tokenizer.vocab_size if self._space else 0))
        self._begins = np.array([name.startswith(_SPACE) for name in names], bool)
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
        most = len(block) // 2  # distinct runs that these bytes can hold
        if space := self._space:
            for _ in range(2):  # the second time for the last of three spaces, five, …
                block = block.replace(b"  ", b" " + space + b" ")
            block = block.replace(b" \n", b" " + space + b"\n")
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
        # A long run would be asked of this table, which does not know it yet.
        engine, self.tokenizer.engine = self.tokenizer.engine, lambda run: None
        try:
            kept, lengths = self._spaced(runs) if self._space else self._together(runs)
        finally:
            self.tokenizer.engine = engine
        self._places[known : known + len(runs)] = runs_of(lengths, self._made)
        self._ids = longer(self._ids, self._made + len(kept))
        self._ids[self._made : self._made + len(kept)] = kept
        self._made += len(kept)

    def _alone(self, runs: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of runs (T,), each a text, and how many each has (V,)."""
        rows = self.tokenizer.encode(runs)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return np.fromiter(chain.from_iterable(rows), np.uint32, int(lengths.sum())), lengths

    def _spaced(self, runs: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The same of runs that are encoded many at a time, a space between them."""
        groups = [runs[at : at + _SPACED] for at in range(0, len(runs), _SPACED)]
        kept, lengths = [], []
        for group, row in zip(
            groups, self.tokenizer.encode([" ".join(group) for group in groups]), strict=True
        ):
            ids = np.array(row, np.uint32)
            first = np.flatnonzero(self._begins[ids])
            sizes = np.diff(first, append=len(ids))
            if len(first) != len(group) or first[0]:  # a first token is unknown, or a run is a ▁ by itself
                ids, sizes = self._alone(group)
            kept.append(ids)
            lengths.append(sizes)
        return np.concatenate(kept), np.concatenate(lengths)

    def _together(self, runs: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The same of runs that are encoded many at a time."""
        added = _mark(self.tokenizer)
        assert added is not None
        mark, mark_id = str(added["content"]), int(added["id"])
        texts = [mark.join((*runs[at : at + _TOGETHER], "")) for at in range(0, len(runs), _TOGETHER)]
        ids, _ = self._alone(texts)
        ends = np.flatnonzero(ids == mark_id)
        if len(ends) != len(runs):
            raise Indistinct(f"{mark} between words gave {len(ends):,} ids for {len(runs):,} words")
        return ids[ids != mark_id], np.diff(ends, prepend=-1) - 1


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

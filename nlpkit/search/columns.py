"""The fields of documents as columns, so that a condition is asked of all of them at once. N documents, M values.

Every scalar of a document stands under its dotted name (see :func:`nlpkit.search.where.flat`; what is no scalar, list
or mapping is left out). A field is three arrays, one entry a value, so that a rare field costs little and a list is
nothing special: ``owners`` (M) int32, the document, ascending; ``kinds`` (M) uint8; ``values`` (M) int64. A value is
an integer itself, the bits of a float, 0 or 1 of a bool, or, for a string, its place in the sorted dictionary of the
field. An integer beyond 64 bits stands in the dictionary by its digits. So every number compares exactly.

On the disk the fields lie end to end in five files (:mod:`nlpkit.store.blocks`), and where each begins and ends in a
sixth (JSON, as an array of bytes). Nothing but that one is read until a condition names a field.
"""

import json
import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit.errors import ArtifactError
from nlpkit.search.where import Scalar, flat
from nlpkit.store import blocks

INTEGER, FLOAT, STRING, BOOL, LARGE = 1, 2, 3, 4, 5
_LEAST, _MOST = -(2**63), 2**63 - 1
_PARTS = ("owners", "kinds", "values", "letters", "ends")
_KINDS: tuple[type, ...] = (np.int32, np.uint8, np.int64, np.uint8, np.int64)
_EXTENTS = "columns-extents.npy"
Rows = np.ndarray | blocks.Checked


@dataclass
class Field:
    """The values of one field; ``letters`` are the UTF-8 bytes of its dictionary, ``ends`` where each string ends."""

    owners: np.ndarray
    kinds: np.ndarray
    values: np.ndarray
    letters: np.ndarray
    ends: np.ndarray
    _folded: list[str] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """How many strings the dictionary holds."""
        return len(self.ends)

    def __getitem__(self, code: int) -> bytes:
        start = int(self.ends[code - 1]) if code else 0
        return self.letters[start : int(self.ends[code])].tobytes()

    def words(self) -> list[bytes]:
        """The whole dictionary, sorted (UTF-8 sorts as code points do)."""
        raw, ends = self.letters.tobytes(), self.ends.tolist()
        return [raw[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def passing(self, sign: str, wanted: tuple[Scalar, ...]) -> np.ndarray:
        """Which values (M,) bool pass a test of :class:`nlpkit.search.where.Comparison`."""
        if sign == "exists":
            return np.ones(len(self.kinds), bool)
        made = np.zeros(len(self.kinds), bool)
        if sign == "in":
            for truth in (x for x in wanted if isinstance(x, bool)):
                made |= (self.kinds == BOOL) & (self.values == truth)
            texts = [x for x in wanted if isinstance(x, str)]
            if texts:
                codes = [self._code(text) for text in texts]
                made |= self._strings() & _isin(self.values, [c for c in codes if c is not None])
            numbers = [x for x in wanted if not isinstance(x, str | bool)]
            return made | self._numbers_in(numbers) if numbers else made
        (one,) = wanted
        if sign == "~":
            return self._strings() & _isin(self.values, self._containing(str(one).casefold()))
        if isinstance(one, str):
            side = bisect_left if sign in ("<", ">=") else bisect_right
            edge = side(self, _bytes(one))
            below = self.values < edge
            return self._strings() & (below if sign in ("<", "<=") else ~below)
        return self._ordered(sign, one)

    def _strings(self) -> np.ndarray:
        return self.kinds == STRING

    def _code(self, text: str) -> int | None:
        raw = _bytes(text)
        at = bisect_left(self, raw)
        return at if at < len(self) and self[at] == raw else None

    def _containing(self, part: str) -> list[int]:
        if self._folded is None:
            self._folded = [w.decode("utf-8", "surrogatepass").casefold() for w in self.words()]
        return [code for code, word in enumerate(self._folded) if part in word]

    def _numbers_in(self, wanted: Sequence[int | float]) -> np.ndarray:
        whole = [int(x) for x in wanted if math.isfinite(x) and x == int(x)]
        made = (self.kinds == INTEGER) & _isin(self.values, [x for x in whole if _LEAST <= x <= _MOST])
        exact = [float(x) for x in wanted if _as_float(x) == x]
        made |= (self.kinds == FLOAT) & np.isin(self._floats(), np.array(exact, np.float64))
        codes = (self._code(str(x)) for x in whole if not _LEAST <= x <= _MOST)
        return made | ((self.kinds == LARGE) & _isin(self.values, [c for c in codes if c is not None]))

    def _floats(self) -> np.ndarray:
        """The bits of every value as a float (M,); only those of kind FLOAT mean something."""
        return np.ascontiguousarray(self.values).view(np.float64)

    def _ordered(self, sign: str, one: int | float) -> np.ndarray:
        """``value SIGN one``, exactly: among integers by an integer bound, among floats by a float bound."""
        below, equal = sign in ("<", "<="), sign in ("<=", ">=")
        if isinstance(one, float) and math.isnan(one):
            return np.zeros(len(self.kinds), bool)
        # Everything is «value < edge» or its opposite, over the integers: x <= 2.5 is x < 3, and so is x < 2.5.
        if isinstance(one, float) and math.isinf(one):
            edge = _MOST + 1 if one > 0 else _LEAST
        else:
            up = math.floor(one) + 1  # the least integer above
            edge = up if (below == equal or one != int(one)) else int(one)
        if edge > _MOST:
            integers = np.ones(len(self.kinds), bool)
        elif edge <= _LEAST:
            integers = np.zeros(len(self.kinds), bool)
        else:
            integers = self.values < edge
        made = (self.kinds == INTEGER) & (integers if below else ~integers)
        near = _as_float(one)
        # No float lies between ``one`` and the float nearest to it, so that float's side of it decides.
        closed = equal if near == one else (near < one) == below
        floats = self._floats()
        with np.errstate(invalid="ignore"):
            if below:
                passed = floats <= near if closed else floats < near
            else:
                passed = floats >= near if closed else floats > near
        made |= (self.kinds == FLOAT) & passed
        for code in np.unique(self.values[self.kinds == LARGE]).tolist():
            value = int(self[code])
            if (value < one if below else value > one) or (equal and value == one):
                made |= (self.kinds == LARGE) & (self.values == code)
        return made


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _isin(values: np.ndarray, codes: Sequence[int]) -> np.ndarray:
    if not codes:
        return np.zeros(len(values), bool)
    if len(codes) == 1:
        return np.asarray(values == codes[0])
    return np.isin(values, np.array(codes, np.int64))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class Columns:
    """All fields of N documents.

    >>> columns = Columns.build([{"year": 2010}, {"tags": ["a", "b"]}, {"year": "2010"}])
    >>> columns.match("year", "in", (2010,)).tolist(), columns.match("tags", "~", ("B",)).tolist()
    ([True, False, False], [False, True, False])
    """

    def __init__(self, count: int, parts: Mapping[str, Rows], extents: Mapping[str, Sequence[int]]) -> None:
        self._count, self._parts, self._extents = count, parts, extents
        self._open: dict[str, Field] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def names(self) -> list[str]:
        """The dotted names that any document has, sorted."""
        return sorted(self._extents)

    def field(self, name: str) -> Field | None:
        """The values of a field, read (and checked) when it is first asked for."""
        if name not in self._open:
            if name not in self._extents:
                return None
            first, last, letters, letters_end, ends, ends_end = self._extents[name]
            owners, kinds, values = (self._parts[part][first:last] for part in _PARTS[:3])
            dictionary = self._parts["letters"][letters:letters_end], self._parts["ends"][ends:ends_end]
            self._open[name] = Field(owners, kinds, values, *dictionary)
        return self._open[name]

    def match(self, name: str, sign: str, values: tuple[Scalar, ...] = ()) -> np.ndarray:
        """Which documents (N,) bool have a value of the field that passes; see :mod:`nlpkit.search.where`."""
        made = np.zeros(self._count, bool)
        asked = self.field(name)
        if asked is not None:
            made[asked.owners[asked.passing(sign, values)]] = True
        return made

    @classmethod
    def build(cls, fields: Iterable[Mapping[str, Any]]) -> "Columns":
        """The columns of documents, in order; each is a mapping as JSON gives it."""
        made: dict[str, _Growing] = {}
        count = 0
        for count, one in enumerate(fields, 1):
            for name, value in flat(one):
                if name not in made:
                    made[name] = _Growing()
                made[name].add(count - 1, value)
        return cls._of(count, {name: made[name].settled() for name in sorted(made)})

    @classmethod
    def _of(cls, count: int, fields: Mapping[str, Field]) -> "Columns":
        extents, at, letters, ends = {}, 0, 0, 0
        for name, one in fields.items():
            sizes = (len(one.owners), len(one.letters), len(one.ends))
            extents[name] = [at, at + sizes[0], letters, letters + sizes[1], ends, ends + sizes[2]]
            at, letters, ends = at + sizes[0], letters + sizes[1], ends + sizes[2]
        parts: dict[str, Rows] = {
            part: np.concatenate(
                [np.empty(0, kind), *(getattr(one, part) for one in fields.values())], dtype=kind
            )
            for part, kind in zip(_PARTS, _KINDS, strict=True)
        }
        return cls(count, parts, extents)

    @classmethod
    def merge(cls, columns: Sequence["Columns"], keeps: Sequence[np.ndarray]) -> "Columns":
        """Several, one behind the other, without the documents whose ``keeps`` (N,) bool is false."""
        places, first = [], 0
        for keep in keeps:
            places.append((np.cumsum(keep) - 1 + first).astype(np.int32))
            first += int(np.count_nonzero(keep))
        made = {}
        for name in sorted({name for one in columns for name in one._extents}):
            kept = [
                (one, keep[one.owners], place)
                for part, keep, place in zip(columns, keeps, places, strict=True)
                if (one := part.field(name)) is not None
            ]
            joined = _joined(kept)
            if len(joined.owners):
                made[name] = joined
        return cls._of(first, made)

    def write(self, folder: Path) -> dict[str, int]:
        """Write the files into ``folder``; the number that :meth:`open` wants of each."""
        about = json.dumps({"documents": self._count, "fields": self._extents}, ensure_ascii=True).encode()
        told = {_EXTENTS: blocks.write(folder / _EXTENTS, np.frombuffer(about, np.uint8))}
        for part, rows in self._parts.items():
            told[f"columns-{part}.npy"] = blocks.write(folder / f"columns-{part}.npy", rows[:])
        return told

    @classmethod
    def open(cls, folder: Path, told: Mapping[str, int], remedy: str) -> "Columns":
        """Open what :meth:`write` wrote; its bytes are checked when a condition needs them."""
        try:
            numbers = {part: told[f"columns-{part}.npy"] for part in _PARTS}
            raw = blocks.Checked(folder / _EXTENTS, told[_EXTENTS], remedy).whole().tobytes()
            about = json.loads(raw)
            count, extents = int(about["documents"]), about["fields"]
        except (KeyError, ValueError, TypeError) as error:
            raise ArtifactError(f"{folder / _EXTENTS}: cannot be read ({error}); {remedy}") from error
        parts: Mapping[str, Rows] = _Lazy(folder, numbers, remedy)
        return cls(count, parts, extents)


class _Lazy(dict[str, Rows]):
    """The arrays of a folder, each opened when it is first used."""

    def __init__(self, folder: Path, told: Mapping[str, int], remedy: str) -> None:
        super().__init__()
        self._folder, self._told, self._remedy = folder, told, remedy

    def __missing__(self, part: str) -> Rows:
        made = blocks.Checked(self._folder / f"columns-{part}.npy", self._told[part], self._remedy)
        self[part] = made
        return made

    def items(self) -> Any:
        return [(part, self[part]) for part in self._told]


class _Growing:
    """A field while documents are read: the codes of strings are numbers in order of appearance."""

    def __init__(self) -> None:
        self.owners, self.kinds, self.values = array("i"), bytearray(), array("q")
        self.words: dict[bytes, int] = {}

    def add(self, owner: int, value: Scalar) -> None:
        self.owners.append(owner)
        if isinstance(value, str):
            self.kinds.append(STRING)
            self.values.append(self.words.setdefault(_bytes(value), len(self.words)))
        elif isinstance(value, bool):
            self.kinds.append(BOOL)
            self.values.append(value)
        elif isinstance(value, float):
            self.kinds.append(FLOAT)
            self.values.append(int(np.float64(value).view(np.int64)))
        elif _LEAST <= value <= _MOST:
            self.kinds.append(INTEGER)
            self.values.append(value)
        else:
            self.kinds.append(LARGE)
            self.values.append(self.words.setdefault(str(value).encode(), len(self.words)))

    def settled(self) -> Field:
        order = sorted(self.words)
        rank = np.empty(len(order), np.int64)
        rank[[self.words[word] for word in order]] = np.arange(len(order))
        kinds = np.frombuffer(bytes(self.kinds), np.uint8)
        values = np.array(self.values, np.int64)
        coded = (kinds == STRING) | (kinds == LARGE)
        values[coded] = rank[values[coded]]
        return Field(np.array(self.owners, np.int32), kinds, values, *_dictionary(order))


def _dictionary(words: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    ends = np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), dtype=np.int64)
    return np.frombuffer(b"".join(words), np.uint8), ends


def _joined(fields: Sequence[tuple[Field, np.ndarray, np.ndarray]]) -> Field:
    """One field of several: each with which of its values are kept (M,) and the new place of its documents (N,)."""
    used = []
    for one, kept, _ in fields:
        coded = kept & ((one.kinds == STRING) | (one.kinds == LARGE))
        there = np.zeros(len(one), bool)
        there[one.values[coded]] = True
        used.append((coded, there, one.words()))
    order = sorted(
        {word for _, there, words in used for word, is_used in zip(words, there, strict=True) if is_used}
    )
    number = {word: i for i, word in enumerate(order)}
    owners, kinds, values = [], [], []
    for (one, kept, place), (coded, there, words) in zip(fields, used, strict=True):
        moved = one.values.copy()
        rank = np.array([number[w] if u else 0 for w, u in zip(words, there, strict=True)], np.int64)
        moved[coded] = rank[one.values[coded]]
        owners.append(place[one.owners[kept]])
        kinds.append(one.kinds[kept])
        values.append(moved[kept])
    return Field(np.concatenate(owners), np.concatenate(kinds), np.concatenate(values), *_dictionary(order))

"""Vectors by key: a sealed base that FAISS proposes candidates from, and parts that came since, searched exactly.

Every score is an exact inner product with the float32 vectors of our own file, whose blocks are checked where they are
touched; codes of any kind only choose what is looked at. P vectors of width D, Q queries. A part never changes:
a write makes a new list of parts and puts it in the place of the old, so a search sees one state.
"""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit.errors import UsageError
from nlpkit.search.exact import Found, Numbered, Rows, best, dot, exact, stacked, whole
from nlpkit.search.faiss_choice import Codes, FaissCodes, Mask, check_factory, factory_for
from nlpkit.search.quantize import SignCodes
from nlpkit.search.recall import TARGET, Step, as_steps, measure, step_for
from nlpkit.search.vector_store import KEYS, VECTORS, Allowed, as_queries, as_rows, open_rows
from nlpkit.store import blocks
from nlpkit.store.blocks import Checked

CODES, SETTINGS = "vector-codes.npy", "vector-settings.npy"
EXACT_BELOW = 4096  # so few are faster multiplied than looked for
RESCORE = 4  # × k candidates of codes that were asked for by name
GROWTH = 0.3  # an index takes in so much more of what it learned from before it learns anew
_JOINED = 8192  # rows: smaller parts in memory are put together
QUANTIZE = ("", "int8", "binary")


class Part:
    """Keys (n,) ascending and their vectors (n, D), of which ``alive`` (n,) bool, or all, are still there."""

    def __init__(self, keys: Rows, vectors: Rows, alive: np.ndarray | None = None) -> None:
        self.keys, self.vectors, self.alive = keys, vectors, alive
        self.names, self.rows = Numbered(keys), Numbered(vectors)
        self.mask = None if alive is None else Mask(alive)
        self.count = len(keys) if self.mask is None else self.mask.count

    def find(self, wanted: np.ndarray) -> np.ndarray:
        """Positions of keys (n,), −1 for one that is not there."""
        if not len(self.keys) or not len(wanted):
            return np.full(len(wanted), -1, np.int64)
        if self.keys[-1:][0] < wanted.min() or self.keys[:1][0] > wanted.max():  # reads two blocks of a file
            return np.full(len(wanted), -1, np.int64)
        keys = whole(self.keys)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        there = keys[at] == wanted
        if self.alive is not None:
            there &= self.alive[at]
        return np.where(there, at, -1)

    def without(self, at: np.ndarray) -> "Part":
        """This part with the positions ``at`` gone."""
        alive = np.ones(len(self.keys), bool) if self.alive is None else self.alive.copy()
        alive[at] = False
        made = Part(self.keys, self.vectors, alive)
        made.names, made.rows = self.names, self.rows  # what they know of checked rows stays true
        return made

    def among(self, allowed: Allowed | None) -> Mask | None:
        """What may be found here; None where everything may."""
        if allowed is None:
            return self.mask
        keep = np.asarray(allowed(whole(self.keys)), bool)
        return Mask(keep if self.alive is None else keep & self.alive)

    def living(self) -> np.ndarray:
        """Positions that are alive."""
        return np.arange(len(self.keys)) if self.alive is None else np.flatnonzero(self.alive)


class FaissStore:
    """See :class:`~nlpkit.search.vector_store.VectorStore`; :meth:`snapshot` is where an index is built.

    ``factory`` is auto, flat, ivf, hnsw or a string of FAISS's index factory; ``quantize`` is int8 or binary, whose
    codes then stand in the place of auto's, with ``rescore`` × k candidates rescored; ``seed`` decides what is drawn.

    >>> store = FaissStore.create(2)
    >>> store.upsert(np.array([3, 7]), np.eye(2, dtype=np.float32))
    >>> store.search(np.array([[0.6, 0.8]], np.float32), 3)[0].tolist()
    [[7, 3, -1]]
    """

    def __init__(
        self, width: int, *, factory: str = "auto", quantize: str = "", rescore: int = RESCORE, seed: int = 1
    ) -> None:
        if quantize not in QUANTIZE:
            raise UsageError(f"--quantize {quantize}: int8 or binary")
        if quantize and factory not in (("auto", "ivf") if quantize == "int8" else ("auto",)):
            raise UsageError(f"--quantize {quantize} and --faiss {factory} exclude each other; leave one out")
        if rescore < 1:
            raise UsageError(f"--rescore {rescore}: at least 1 (that many times k are compared exactly)")
        if width < 1:
            raise UsageError(f"vectors of width {width}: at least 1")
        if factory not in ("auto", "flat", "ivf", "hnsw"):
            check_factory(width, factory)
        self.width, self.factory, self.quantize, self.rescore, self.seed = (
            width,
            factory,
            quantize,
            rescore,
            seed,
        )
        self._parts: tuple[Part, ...] = ()
        self._told: dict[str, Any] = {}  # what the snapshot says about its codes; empty: there are none
        self._file: Checked | None = None
        self._codes: Codes | None = None
        self._steps: tuple[Step, ...] = ()
        self._loading, self._writing = threading.Lock(), threading.Lock()

    @classmethod
    def create(cls, width: int, **options: Any) -> "FaissStore":
        """An empty store for vectors of ``width``; the options of the class.

        :raises UsageError: FAISS does not know the factory (with its reason), or options that exclude each other.
        """
        return cls(width, **options)

    @classmethod
    def open(
        cls, folder: Path, told: dict[str, int], width: int, remedy: str, **options: Any
    ) -> "FaissStore":
        """What :meth:`snapshot` wrote; O(1), nothing of size is read before it is needed. ``options`` for the next one.

        :raises ArtifactError: a file is missing or damaged; later too, when damage is met.
        """
        store = cls(width, **options)
        keys, vectors = open_rows(folder, told, width, remedy)
        store._parts = (Part(keys, vectors),)
        if SETTINGS in told:
            raw = Checked(folder / SETTINGS, told[SETTINGS], remedy).whole().tobytes()
            store._told = json.loads(raw)
            store._steps = as_steps(store._told["steps"])
            store._file = Checked(folder / CODES, told.get(CODES), remedy)
        return store

    def upsert(self, keys: np.ndarray, vectors: Rows) -> None:
        """See :class:`~nlpkit.search.vector_store.VectorStore`."""
        keys, vectors = as_rows(keys, vectors, self.width)
        if not len(keys):
            return
        with self._writing:
            parts, _ = _without(self._parts, keys)
            fresh = [*parts, Part(keys, vectors)]
            sealed = 1 if self._told else 0
            while len(fresh) > sealed + 1 and _joinable(fresh[-2], fresh[-1]):
                fresh[-2:] = [_joined(fresh[-2], fresh[-1])]
            self._parts = tuple(fresh)

    def delete(self, keys: np.ndarray) -> int:
        """See :class:`~nlpkit.search.vector_store.VectorStore`."""
        with self._writing:
            self._parts, gone = _without(self._parts, np.unique(np.asarray(keys, np.int64)))
        return gone

    def count(self) -> int:
        """See :class:`~nlpkit.search.vector_store.VectorStore`."""
        return sum(part.count for part in self._parts)

    def search(
        self, queries: np.ndarray, k: int, allowed: Allowed | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`~nlpkit.search.vector_store.VectorStore`."""
        queries = as_queries(queries, self.width)
        parts, k = self._parts, max(0, k)
        if not len(queries) or not k:
            return np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        found = []
        for number, part in enumerate(parts):
            mask = part.among(allowed)
            if (part.count if mask is None else mask.count) == 0:
                continue
            places, scores = self._nearest(part, queries, k, mask, coded=number == 0 and bool(self._told))
            found.append((part.names.take(places), scores))
        if not found:
            found = [(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))]
        keys, scores = (
            found[0]
            if len(found) == 1
            else [np.concatenate(some, axis=1) for some in zip(*found, strict=True)]
        )
        keys, scores = best(keys, scores, k)
        keys[np.isneginf(scores)] = -1
        return keys, scores

    def _nearest(self, part: Part, queries: np.ndarray, k: int, mask: Mask | None, *, coded: bool) -> Found:
        """For each query positions (Q, M) in a part, with the k best among them, and exact scores (−inf: none)."""
        number, alive = len(part.keys), part.count if mask is None else mask.count
        within = None if mask is None or alive == number else mask
        if not coded or alive <= min(EXACT_BELOW, number // 4):
            return exact(part.rows, _places(within), queries, k)
        effort, depth = self._step(k, alive / number)
        if depth >= alive // 4:
            return exact(part.rows, _places(within), queries, k)
        places = self._loaded().ranked(queries, depth, effort, mask)
        if places.min() >= 0:
            return places, part.rows.dots(queries, places)
        there = places >= 0
        places = np.where(there, places, 0)
        scores = np.where(there, part.rows.dots(queries, places), np.float32(-np.inf))
        short = np.flatnonzero(there.sum(1) < k)
        if len(short):  # the lists that were read hold too few of what may be found
            count = len(queries)
            places, scores = stacked([(places, scores), exact(part.rows, _places(within), queries[short], k)])
            places[short], scores[short] = places[count:], scores[count:]
            places, scores = places[:count], scores[:count]
        return places, scores

    def _step(self, k: int, share: float) -> tuple[int, int]:
        """Effort and depth for the k best among a ``share`` of all: its neighbours lie as far as those of k / share."""
        effort = step_for(self._steps, k / share)[0]
        return effort, step_for(self._steps, k)[1]

    def _loaded(self) -> Codes:
        if self._codes is None:
            with self._loading:
                if self._codes is None:
                    self._codes = self._read()
        return self._codes

    def _read(self) -> Codes:
        assert self._file is not None
        data, shape = self._file.whole(), (len(self._parts[0].keys), self.width)
        if self._told["codes"] == "signs":
            return SignCodes.from_bytes(data, shape, str(self._file.path))
        return FaissCodes.from_bytes(data, self._told["codes"], shape, str(self._file.path))

    def scores(self, query: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """See :class:`~nlpkit.search.vector_store.VectorStore`."""
        return dot(self.fetch(keys), as_queries(np.reshape(query, (1, -1)), self.width)[0])

    def fetch(self, keys: np.ndarray) -> np.ndarray:
        """See :class:`~nlpkit.search.vector_store.VectorStore`."""
        keys = np.asarray(keys, np.int64)
        made = np.empty((len(keys), self.width), np.float32)
        missing = np.ones(len(keys), bool)
        for part in self._parts:
            at = part.find(keys)
            here = at >= 0
            if here.any():
                made[here] = part.vectors[at[here]]
                missing &= ~here
        if missing.any():
            raise KeyError(int(keys[missing][0]))
        return made

    def snapshot(self, folder: Path) -> dict[str, int]:
        """See :class:`~nlpkit.search.vector_store.VectorStore`. Builds the index, or grows the one that there is.

        :raises UsageError: FAISS refuses the factory for these vectors, with its reason.
        """
        parts = self._parts
        keys, runs = _in_order(parts)
        told = {KEYS: blocks.write(folder / KEYS, keys)}
        told[VECTORS] = blocks.write(folder / VECTORS, runs or np.empty((0, self.width), np.float32))
        name = (
            "signs"
            if self.quantize == "binary"
            else factory_for(len(keys), self.width, self.factory, self.quantize)
        )
        if not name or not len(keys):
            return told
        vectors = Checked(folder / VECTORS, told[VECTORS])
        codes, learned = self._built(parts, keys, vectors, name)
        steps, asked = measure(codes, vectors, self.seed, self.rescore if self.quantize else 0)
        settings = {
            "codes": name,
            "learned": learned,
            "questions": asked,
            "steps": [vars(step) for step in steps],
        }
        told[CODES] = blocks.write(folder / CODES, codes.to_bytes(), block=1 << 20)
        raw = np.frombuffer(json.dumps(settings, sort_keys=True).encode(), np.uint8)
        told[SETTINGS] = blocks.write(folder / SETTINGS, raw)
        return told

    def _built(self, parts: Sequence[Part], keys: np.ndarray, vectors: Rows, name: str) -> tuple[Codes, int]:
        """Codes of all ``vectors``, and of how many they were learned."""
        if name == "signs":
            return SignCodes.build(vectors), len(keys)
        learned = self._told.get("learned", 0)
        auto = self.factory in ("auto", "ivf")
        held = self._told.get("codes", "")
        same = name == held or (auto and _but_lists(name) == _but_lists(held))
        if not (same and abs(len(keys) - learned) <= GROWTH * learned):
            return FaissCodes.build(vectors, name, self.seed, pad="x4fs" in name and auto), len(keys)
        codes = self._read()  # a copy of its own: searches go on in the other
        assert isinstance(codes, FaissCodes)
        base = whole(parts[0].keys)
        if parts[0].alive is None and np.array_equal(base, keys[: len(base)]):
            codes.add(vectors, len(base))
        else:
            codes.refill(vectors)
        return codes, learned

    def describe(self) -> dict[str, Any]:
        """What ``index info`` shows: how it searches, of how many, and the recall measured when it was built."""
        base = len(self._parts[0].keys) if self._parts and self._told else 0
        told: dict[str, Any] = {
            "kind": self._told.get("codes", "exact"),
            "vectors": self.count(),
            "width": self.width,
            "indexed": base,
            "tail": self.count() - (self._parts[0].count if base else 0),
            "deleted": base - self._parts[0].count if base else 0,
        }
        if self._told:
            told |= {
                "target": TARGET,
                "recall": {f"@{s.k}": s.recall for s in self._steps},
                "questions": self._told["questions"],
                "lists read": {f"@{s.k}": s.effort for s in self._steps},
                "rescored": {f"@{s.k}": s.depth for s in self._steps},
                "learned from": self._told["learned"],
            }
        return told


def _places(mask: Mask | None) -> np.ndarray | None:
    return None if mask is None else np.flatnonzero(mask.keep)


def _without(parts: Sequence[Part], keys: np.ndarray) -> tuple[tuple[Part, ...], int]:
    """The parts with some keys gone, and how many those were; empty parts are dropped, the first one stays."""
    made, gone = [], 0
    for part in parts:
        at = part.find(keys)
        at = at[at >= 0]
        gone += len(at)
        made.append(part.without(at) if len(at) else part)
    return tuple(part for i, part in enumerate(made) if part.count or not i), gone


def _but_lists(factory: str) -> str:
    """The codes of an inverted file, of any number of lists."""
    return factory.partition(",")[2] if factory.startswith("IVF") else factory


def _joinable(first: Part, second: Part) -> bool:
    """Two parts in memory, the first at most twice as large: rows are then copied a logarithm of times each."""
    held = isinstance(first.vectors, np.ndarray) and isinstance(second.vectors, np.ndarray)
    return held and len(first.keys) <= 2 * len(second.keys) and len(first.keys) + len(second.keys) <= _JOINED


def _joined(first: Part, second: Part) -> Part:
    keys, runs = _in_order((first, second))
    return Part(keys, np.concatenate(runs))


def _in_order(parts: Sequence[Part]) -> tuple[np.ndarray, list[np.ndarray]]:
    """All living keys, ascending, and their vectors as runs, each a view where the parts hold them so."""
    living = [part.living() for part in parts]
    if not sum(map(len, living)):
        return np.empty(0, np.int64), []
    keys = np.concatenate([whole(part.keys)[at] for part, at in zip(parts, living, strict=True)])
    owner = np.repeat(np.arange(len(parts)), [len(at) for at in living])
    places = np.concatenate(living)
    order = np.argsort(keys, kind="stable")
    owner, places = owner[order], places[order]
    cuts = np.flatnonzero((np.diff(owner) != 0) | (np.diff(places) != 1)) + 1
    starts, ends = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(keys)]])
    runs = [
        parts[owner[a]].vectors[int(places[a]) : int(places[a]) + int(b - a)]
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    return keys[order], runs

"""The searchable state: all derived segments as one, and every operation that came after them.

A :class:`View` is cheap to open: of each segment it reads the keys, and every other part when a search first needs it.
Position p of P stands for the passage ``keys[p]`` of the document ``keys[p] >> 20``; positions ascend with keys.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.errors import ArtifactError
from nlpkit.search import segments
from nlpkit.search.analyze import Analyzer, passages
from nlpkit.search.bm25 import BM25, count
from nlpkit.search.columns import Columns
from nlpkit.search.folder import Settings
from nlpkit.search.segments import PASSAGES, Part, id_hash
from nlpkit.search.store import Row, Store
from nlpkit.search.where import Where, record
from nlpkit.store import manifest

if TYPE_CHECKING:
    from nlpkit.search.faiss_store import FaissStore


class View:
    """Documents of the segments and of the tail; ``alive`` (P,) bool says which passages still are."""

    def __init__(self, settings: Settings, analyzer: Analyzer, parts: Sequence[Part], watermark: int) -> None:
        self.settings = settings
        self.analyze: Callable[[str], list[str]] = analyzer
        self.parts, self.seq, self.watermark = list(parts), watermark, watermark
        self.keys = _joined([part.keys for part in self.parts])
        self.alive = np.ones(len(self.keys), bool)
        self.sealed = len(self.keys)  # positions of the segments; those after them are the tail
        self.documents = sum(part.entry["rows"] for part in self.parts)
        self.tail: list[Row] = []
        self._tail_ids: dict[str, int] = {}
        self._bm25: BM25 | None = None
        self._dense: FaissStore | None = None
        self._taken = [0, 0]  # how much of the tail BM25 and the vector store hold
        self._left: list[np.ndarray] = []  # keys to be deleted from the vector store
        self._columns: Columns | None = None
        self._ids: list[tuple[np.ndarray, np.ndarray]] | None = None
        self._store: Store | None = None
        for part in self.parts:
            self._bury(part.gone.tolist())

    @classmethod
    def load(cls, folder: Path, made: manifest.Manifest, settings: Settings, analyzer: Analyzer) -> "View":
        """The state that the segments of an index hold, without what came later (see :meth:`advance`)."""
        derived = made.notes["derived"]
        parts = [Part(folder, entry) for entry in derived["segments"]]
        return cls(settings, analyzer, parts, int(derived["watermark"]))

    # Keeping up

    def advance(self, store: Store) -> None:
        """Take in what was written since, so that an acknowledged document is found at once.

        The number of documents is compared with the record's. ``store`` is asked for vectors until the next call.
        """
        self._store = store
        numbers = store.meta()
        if numbers["last"] != self.seq:
            added: dict[int, None] = {}
            buried: list[int] = []
            for _, op, row in store.ops(self.seq):
                if op == "add":
                    added[row] = None
                elif row in added:
                    del added[row]
                else:
                    buried.append(row)
            if buried:
                self._bury(buried)
            if added:
                self._append(list(store.fetch(added).values()))
            self.seq = numbers["last"]
        if self.documents != numbers["documents"]:
            raise store.damaged(
                f"{numbers['documents']} documents were written, the log and the derived files know {self.documents}"
            )

    def _append(self, documents: list[Row]) -> None:
        keys = [
            np.int64(one.row) << PASSAGES | np.arange(max(1, len(one.spans)), dtype=np.int64)
            for one in documents
        ]
        self.keys = np.concatenate([self.keys, *keys])
        self.alive = np.concatenate([self.alive, np.ones(len(self.keys) - len(self.alive), bool)])
        self.tail += documents
        self._tail_ids.update((one.id, one.row) for one in documents)
        self.documents += len(documents)
        self._columns = None

    def _bury(self, rows: list[int]) -> None:
        at = self.positions(rows)
        if len(at) and not self.alive[at].all():
            raise ArtifactError("the log deletes a document twice; rebuild the index")
        self.alive[at] = False
        self.documents -= len(rows)
        self._left.append(self.keys[at])
        if self._bm25 is not None:
            self._bm25.delete(at[at < len(self._bm25.alive)])

    def positions(self, rows: Iterable[int]) -> np.ndarray:
        """The positions of all passages of documents that are or were there."""
        wanted = np.sort(np.fromiter(rows, np.int64))
        first = np.searchsorted(self.keys, wanted << PASSAGES)
        counts = np.searchsorted(self.keys, (wanted + 1) << PASSAGES) - first
        if len(wanted) and not counts.all():
            raise ArtifactError("the log deletes a document that was never added; rebuild the index")
        ends = np.cumsum(counts)
        return np.repeat(first - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)

    # What searching needs

    @property
    def owners(self) -> np.ndarray:
        """The row (P,) int64 of the document that each passage belongs to."""
        return self.keys >> PASSAGES

    @property
    def bm25(self) -> BM25:
        """The scorer of words, over the same positions."""
        if self._bm25 is None:
            chosen = self.settings
            self._bm25 = BM25([part.bm25 for part in self.parts], k1=chosen.k1, b=chosen.b)
            self._bm25.delete(np.flatnonzero(~self.alive[: self.sealed]))
        if self._taken[0] < len(self.tail):
            fresh = self.tail[self._taken[0] :]
            first = len(self._bm25.alive)
            self._bm25.append(
                count([self.analyze(p) for one in fresh for p in passages(one.title, one.text, one.spans)])
            )
            self._bm25.delete(first + np.flatnonzero(~self.alive[first:]))
            self._taken[0] = len(self.tail)
        return self._bm25

    def vectors(self) -> "FaissStore":
        """The vector store, by key, of just the passages that are alive."""
        width = self.settings.width
        if self._dense is None:
            self._dense = self.parts[0].dense(self.settings)
            for part in self.parts[1:]:
                if len(part.keys):
                    self._dense.upsert(part.keys, part.vectors)
        # Of the tail, what was deleted again may have left the record with its vectors.
        at, first = self._taken[1], self.sealed
        first += sum(max(1, len(one.spans)) for one in self.tail[:at])
        fresh = self.tail[at:]
        if fresh:
            keys = self.keys[first:]
            alive = [one for one in fresh if self.alive[np.searchsorted(self.keys, one.row << PASSAGES)]]
            if alive:
                assert self._store is not None
                found = segments.vectors_of(self._store, alive, width)
                self._dense.upsert(keys[self.alive[first:]], found)
            self._taken[1] = len(self.tail)
        if self._left:
            left = np.sort(np.concatenate(self._left))
            if len(left):
                self._dense.delete(left)
            self._left = []
        return self._dense

    def mask(self, where: Where) -> np.ndarray:
        """The passages (P,) bool that are alive and whose documents' fields fulfil a condition."""
        made = [where.mask(part.columns)[_places(part.keys)] for part in self.parts]
        if self.tail:
            if self._columns is None:
                self._columns = Columns.build(record(one.id, one.title, one.fields) for one in self.tail)
            made.append(where.mask(self._columns)[_places(self.keys[self.sealed :])])
        return np.concatenate(made) & self.alive

    # What a writer needs

    def holders(self, names: Sequence[str]) -> dict[str, list[int]]:
        """Rows of living documents whose id may be one of ``names``, by the hashes in the segments.

        A document that the record's own index does not find is so known all the same.
        """
        if self._ids is None:
            self._ids = [part.ids() for part in self.parts]
        hashes = np.fromiter(map(id_hash, names), np.uint64, len(names))
        found: dict[str, list[int]] = {}
        for known, rows in self._ids:
            first = np.searchsorted(known, hashes)
            counts = np.searchsorted(known, hashes, "right") - first
            for i in np.flatnonzero(counts).tolist():
                some = rows[first[i] : first[i] + counts[i]].tolist()
                some = [row for row in some if self.alive[np.searchsorted(self.keys, row << PASSAGES)]]
                if some:
                    found.setdefault(names[i], []).extend(some)
        for name in names:
            row = self._tail_ids.get(name)
            if row is not None and self.alive[np.searchsorted(self.keys, row << PASSAGES)]:
                found.setdefault(name, []).append(row)
        return found

    def kept(self, first: int = 0) -> list[np.ndarray]:
        """For each segment from number ``first`` on, which of its passages are alive."""
        ends = np.cumsum([len(part.keys) for part in self.parts])
        return [
            self.alive[end - len(part.keys) : end]
            for part, end in zip(self.parts[first:], ends[first:].tolist(), strict=True)
        ]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([np.empty(0, np.int64), *parts])


def _places(keys: np.ndarray) -> np.ndarray:
    """For each passage, which of the distinct documents of its segment it belongs to."""
    rows = keys >> PASSAGES
    return np.cumsum(np.diff(rows, prepend=rows[:1]) != 0)


def describe(view: View) -> list[dict[str, Any]]:
    """What ``nlpkit index info`` says of each segment."""
    return [
        {k: part.entry[k] for k in ("folder", "rows", "passages", "gone")}
        | {"bytes": sum(p.stat().st_size for p in part.folder.iterdir())}
        for part in view.parts
    ]

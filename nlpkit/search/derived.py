"""What is derived from the documents and can be made again: BM25 counts and the FAISS index, in sealed folders.

``derived-000012/`` holds ``rows.npy`` (N) int64, the BM25 arrays, ``vectors.faiss`` where there is a model, and a
manifest with the number of the last operation that is in it (the watermark). A :class:`View` is the searchable
state in memory: the derived part, then every later operation. N positions; D width of a vector.
"""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit.errors import ArtifactError
from nlpkit.search.analyze import Analyzer, joined
from nlpkit.search.bm25 import BM25, Segment, count
from nlpkit.search.dense import VectorStore
from nlpkit.search.folder import Settings
from nlpkit.search.store import Row, Store
from nlpkit.store import manifest
from nlpkit.store.atomic import building

KIND = "index-derived"
VECTORS = "vectors.faiss"
_PARTS = ("letters", "ends", "starts", "documents", "counts", "lengths")


def _remedy(folder: Path) -> str:
    return f"nothing was changed; make the derived files again with: nlpkit index compact {folder.parent} --rebuild"


def sealed(folder: Path, made: manifest.Manifest, name: str) -> bytes:
    """The bytes of a sealed file, compared with their hash: what is checked is what is used."""
    path = folder / name
    if name not in made.files:
        raise ArtifactError(f"{folder}: has no sealed {name}; {_remedy(folder)}")
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{path}: missing; {_remedy(folder)}") from None
    if hashlib.sha256(raw).hexdigest() != made.files[name][1]:
        raise ArtifactError(f"{path}: damaged (SHA-256 differs); {_remedy(folder)}")
    return raw


def _array(raw: bytes) -> np.ndarray:
    """A read-only view of the array in the bytes of an ``.npy`` file (never pickled: we wrote and hashed it)."""
    stream = io.BytesIO(raw)
    np.lib.format.read_magic(stream)
    shape, _, kind = np.lib.format.read_array_header_1_0(stream)
    return np.frombuffer(raw, kind, offset=stream.tell()).reshape(shape)


def read_manifest(folder: Path, entry: dict[str, Any]) -> manifest.Manifest:
    """The manifest of the derived folder that ``entry`` of the index's notes names."""
    here = folder / entry["folder"]
    try:
        raw = (here / manifest.NAME).read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{here}: missing or incomplete; {_remedy(here)}") from None
    if hashlib.sha256(raw).hexdigest() != entry["manifest"]:
        raise ArtifactError(f"{here / manifest.NAME}: damaged (SHA-256 differs); {_remedy(here)}")
    return manifest.read(here, KIND)


class View:
    """The searchable state: position p holds document ``rows[p]``; ``bm25.alive[p]`` says whether it still exists."""

    def __init__(self, settings: Settings, analyzer: Analyzer) -> None:
        self.settings, self.analyze = settings, analyzer
        self.rows = np.empty(0, np.int64)
        self.bm25 = BM25(k1=settings.k1, b=settings.b)
        self.vectors: VectorStore | None = None
        self.seq = 0
        self.entry: dict[str, Any] = {}
        self._tail: list[np.ndarray] = []  # vectors that came after the derived part, until that is loaded

    @classmethod
    def load(cls, folder: Path, made: manifest.Manifest, settings: Settings, analyzer: Analyzer) -> "View":
        """Open the derived part of an index, all but the vectors (see :meth:`load_vectors`)."""
        view = cls(settings, analyzer)
        view.entry = dict(made.notes["derived"])
        inside = read_manifest(folder, view.entry)
        here = folder / view.entry["folder"]
        view.rows = _array(sealed(here, inside, "rows.npy"))
        arrays = [_array(sealed(here, inside, f"bm25-{part}.npy")) for part in _PARTS]
        view.bm25 = BM25(Segment(*arrays), k1=settings.k1, b=settings.b)
        view.seq = int(view.entry["watermark"])
        return view

    @classmethod
    def rebuild(cls, store: Store, settings: Settings, analyzer: Analyzer) -> "View":
        """Derive everything from the documents again."""
        view = cls(settings, analyzer)
        rows: list[int] = []

        def terms() -> Iterator[list[str]]:
            for batch in store.scan():
                rows.extend(one.row for one in batch)
                for one in batch:
                    yield analyzer(joined(one.title, one.text))

        view.bm25 = BM25(count(terms()), k1=settings.k1, b=settings.b)
        view.rows = np.array(rows, np.int64)
        view.seq = store.last()
        if settings.encoder:
            view.vectors = VectorStore.build(_matrix(store, view.rows, settings.width))
        return view

    def load_vectors(self, folder: Path) -> VectorStore:
        """The dense part, read on first use."""
        if self.vectors is None:
            here = folder / self.entry["folder"]
            raw = sealed(here, read_manifest(folder, self.entry), VECTORS)
            self.vectors = VectorStore.from_bytes(raw, self.settings.width)
            for vectors in self._tail:
                self.vectors.add(vectors)
            self._tail.clear()
        return self.vectors

    def advance(self, store: Store) -> None:
        """Take in what was written since, so that an acknowledged document is found at once."""
        added: dict[int, None] = {}
        gone: list[int] = []
        last = self.seq
        for seq, op, row in store.ops(self.seq):
            last = seq
            if op == "add":
                added[row] = None
            elif row in added:
                del added[row]
            else:
                gone.append(row)
        if gone:
            self.bm25.delete(self.positions(gone))
        if added:
            self._append(list(store.fetch(added).values()))
        self.seq = last

    def _append(self, documents: list[Row]) -> None:
        self.rows = np.concatenate([self.rows, np.array([d.row for d in documents], np.int64)])
        self.bm25.add(self.analyze(joined(d.title, d.text)) for d in documents)
        if self.settings.encoder:
            vectors = np.stack([_vector(d, self.settings.width) for d in documents])
            if self.vectors is None:
                self._tail.append(vectors)
            else:
                self.vectors.add(vectors)

    def positions(self, rows: list[int]) -> np.ndarray:
        """Positions of rows; numbers only grow, so ``rows`` is sorted."""
        wanted = np.asarray(rows, np.int64)
        at = np.searchsorted(self.rows, wanted)
        if len(wanted) and (at.max() >= len(self.rows) or (self.rows[at] != wanted).any()):
            raise ArtifactError("the log deletes a document that was never added; rebuild the index")
        return at

    def fold(self, store: Store, folder: Path) -> None:
        """Make the derived part whole again: no tail, no deleted positions."""
        alive = self.bm25.alive
        if self.settings.encoder:
            if alive.all():
                self.load_vectors(folder).fold()
            else:
                self.vectors = VectorStore.build(_matrix(store, self.rows[alive], self.settings.width))
        self.rows = self.rows[alive]
        self.bm25 = BM25(self.bm25.compacted(), k1=self.settings.k1, b=self.settings.b)

    def write(self, folder: Path, number: int) -> dict[str, Any]:
        """Write a folded view as ``derived-NUMBER``; the entry for the index's notes."""
        name = f"derived-{number:06d}"
        (segment,) = self.bm25.segments
        with building(folder / name) as made:
            np.save(made / "rows.npy", self.rows, allow_pickle=False)
            for part in _PARTS:
                np.save(made / f"bm25-{part}.npy", getattr(segment, part), allow_pickle=False)
            if self.vectors is not None:
                (made / VECTORS).write_bytes(self.vectors.to_bytes().data)
            manifest.seal(made, KIND, notes={"watermark": self.seq})
        total = manifest.sha256(folder / name / manifest.NAME)
        self.entry = {"folder": name, "manifest": total, "watermark": self.seq}
        return dict(self.entry)


def _vector(document: Row, width: int) -> np.ndarray:
    if document.vector is None or len(document.vector) != width:
        raise ArtifactError(f"document {document.id!r} has no vector of width {width}; rebuild the index")
    return document.vector


def _matrix(store: Store, rows: np.ndarray, width: int) -> np.ndarray:
    """The stored vectors (N, D) of ``rows``, which are all rows of the store in order."""
    made = np.empty((len(rows), width), np.float32)
    at = 0
    for batch in store.scan():
        for one in batch:
            if at >= len(rows) or one.row != rows[at]:
                raise ArtifactError(f"{store.path}: row {one.row} is not in the log; rebuild the index")
            made[at] = _vector(one, width)
            at += 1
    if at != len(rows):
        raise ArtifactError(f"{store.path}: row {rows[at]} is missing; rebuild the index")
    return made

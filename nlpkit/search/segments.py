"""Derived segments: immutable sealed folders ``derived-000012/`` with all that can be made again from the record.

A segment holds some documents, in the order of their rows: ``keys.npy`` (P) int64, row << 20 | passage; BM25 counts
and columns of fields; vectors; ``ids-hashes.npy`` and ``ids-rows.npy`` (N), sorted 64-bit hashes of documents' ids
with their rows; and ``gone.npy``, rows of earlier segments that were deleted. The first segment is the base, whose
vectors a vector store holds; those after it are small and hold theirs as a plain array. P passages, N documents, D
width.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.errors import ArtifactError
from nlpkit.search import bm25
from nlpkit.search.analyze import Analyzer, passages
from nlpkit.search.columns import Columns
from nlpkit.search.folder import Settings
from nlpkit.search.store import KEY, Row, Store
from nlpkit.search.vector_store import VectorStore
from nlpkit.search.where import record
from nlpkit.store import blocks, manifest
from nlpkit.store.atomic import building

if TYPE_CHECKING:
    from nlpkit.search.faiss_store import FaissStore

KIND = "index-derived"
PASSAGES = 20  # bits of a key that number the passages of a document
VECTORS = "vectors.npy"
_ARRAYS = ("keys.npy", "ids-hashes.npy", "ids-rows.npy", "gone.npy")
_FIELDS_AT_ONCE = 20_000  # documents whose fields become columns together
_COPIED = 4096  # vectors copied at a time


def remedy(index: Path) -> str:
    """What a person can do about damaged derived files."""
    return f"nothing was changed; make the derived files again with: nlpkit index rebuild {index}"


def id_hash(name: str) -> int:
    """64 bits of an id.

    >>> id_hash("a") == id_hash("b")
    False
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


class Part:
    """An opened segment. Nothing is read of it but its manifest, keys and deletions until it is asked for."""

    def __init__(self, index: Path, entry: dict[str, Any]) -> None:
        self.entry, self.folder, self._remedy = dict(entry), index / entry["folder"], remedy(index)
        made = self._manifest()
        self.told: dict[str, int] = made.notes["told"]
        self.keys = self._array("keys.npy")
        self.gone = self._array("gone.npy")
        self._bm25: bm25.Segment | None = None
        self._columns: Columns | None = None

    def _manifest(self) -> manifest.Manifest:
        path = self.folder / manifest.NAME
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            raise ArtifactError(f"{self.folder}: missing or incomplete; {self._remedy}") from None
        if hashlib.sha256(raw).hexdigest() != self.entry["manifest"]:
            raise ArtifactError(f"{path}: damaged (SHA-256 differs); {self._remedy}")
        return manifest.read(self.folder, KIND)

    def _open(self, name: str) -> blocks.Checked:
        return blocks.Checked(self.folder / name, self.told[name], self._remedy)

    def _array(self, name: str) -> np.ndarray:
        return self._open(name).whole()

    @property
    def bm25(self) -> bm25.Segment:
        """The counts of terms, by passage."""
        if self._bm25 is None:
            self._bm25 = bm25.Segment.open(self.folder, self.told, self._remedy)
        return self._bm25

    @property
    def columns(self) -> Columns:
        """The fields, by document."""
        if self._columns is None:
            self._columns = Columns.open(self.folder, self.told, self._remedy)
        return self._columns

    @property
    def vectors(self) -> blocks.Checked:
        """The vectors (P, D) of a small segment."""
        return self._open(VECTORS)

    def dense(self, settings: Settings) -> "FaissStore":
        """The vector store of the base."""
        from nlpkit.search.faiss_store import FaissStore

        return FaissStore.open(self.folder, self.told, settings.width, self._remedy, **settings.dense)

    def ids(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted hashes (N,) uint64 of the documents' ids, and their rows (N,) int64."""
        return self._array("ids-hashes.npy"), self._array("ids-rows.npy")

    def rows(self) -> np.ndarray:
        """The rows (N,) int64 of the documents, ascending."""
        return np.unique(self.keys >> PASSAGES)

    def problems(self) -> Iterator[str]:
        """What is wrong with its files, one line each, after every byte was read; and files that no seal covers."""
        for name in sorted(self.told):
            try:
                self._array(name)
            except ArtifactError as error:
                yield str(error)
        sealed = self._manifest()
        for name in sealed.files:
            try:
                manifest.check_file(self.folder, sealed, name)
            except ArtifactError as error:
                yield str(error)
        for path in sorted(self.folder.iterdir()):
            if path.name not in {*self.told, *sealed.files, manifest.NAME}:
                yield f"{path}: not part of the index (no seal covers it); move it away"


def derive(
    index: Path,
    number: int,
    batches: Iterable[list[Row]],
    store: Store,
    settings: Settings,
    analyzer: Analyzer,
    *,
    watermark: int,
    gone: Sequence[int] = (),
    base: bool,
) -> dict[str, Any]:
    """Write a segment of the documents of ``batches``, which come by ascending row; its entry for the index's notes."""
    name = f"derived-{number:06d}"
    keys, rows, hashes = array("q"), array("q"), array("Q")
    fields: list[dict[str, Any]] = []
    columns: list[Columns] = []
    with building(index / name) as made:
        scratch = made / "scratch"
        with open(scratch, "wb") as vectors:

            def terms() -> Iterator[list[str]]:
                for batch in batches:
                    for one in batch:
                        rows.append(one.row)
                        hashes.append(id_hash(one.id))
                        fields.append(record(one.id, one.title, one.fields))
                        for i, passage in enumerate(passages(one.title, one.text, one.spans)):
                            keys.append(one.row << PASSAGES | i)
                            yield analyzer(passage)
                    if settings.encoder:
                        vectors.write(vectors_of(store, batch, settings.width).tobytes())
                    if len(fields) >= _FIELDS_AT_ONCE:
                        columns.append(Columns.build(fields))
                        fields.clear()

            counted = bm25.count(terms())
        columns.append(Columns.build(fields))
        told = counted.write(made)
        ordered = np.frombuffer(keys, np.int64)
        told |= _write_columns(made, columns, [np.ones(len(c), bool) for c in columns])
        if settings.encoder:
            exact = _mapped(scratch, settings.width)
            told |= _write_vectors(made, ordered, exact, settings, base=base)
            del exact
        scratch.unlink()
        ids = np.frombuffer(hashes, np.uint64), np.frombuffer(rows, np.int64)
        return _seal(made, index / name, told, ordered, ids, gone, watermark)


def join(
    index: Path,
    number: int,
    parts: Sequence[Part],
    kept: Sequence[np.ndarray],
    settings: Settings,
    *,
    watermark: int,
    dense: VectorStore | None = None,
) -> dict[str, Any]:
    """Write one segment of several neighbours, of each the passages where ``kept`` (P, bool) is true.

    With ``dense``, which holds just these passages, it becomes the base; deletions that concern earlier segments stay.
    """
    name = f"derived-{number:06d}"
    keys = np.concatenate([p.keys[k] for p, k in zip(parts, kept, strict=True)])
    gone = np.setdiff1d(np.concatenate([p.gone for p in parts]), np.concatenate([p.rows() for p in parts]))
    left = np.unique(keys >> PASSAGES)
    with building(index / name) as made:
        told = bm25.merge([p.bm25 for p in parts], np.concatenate(kept)).write(made)
        told |= _write_columns(
            made, [p.columns for p in parts], [np.isin(p.rows(), left, assume_unique=True) for p in parts]
        )
        if dense is not None:
            told |= dense.snapshot(made)
        elif settings.encoder:
            scratch = made / "scratch"
            with open(scratch, "wb") as file:
                for part, keep in zip(parts, kept, strict=True):
                    vectors, at = part.vectors, np.flatnonzero(keep)
                    for start in range(0, len(at), _COPIED):
                        file.write(vectors[at[start : start + _COPIED]].tobytes())
            told |= _write_vectors(made, keys, _mapped(scratch, settings.width), settings, base=False)
            scratch.unlink()
        tables = [part.ids() for part in parts]
        hashes, rows = (np.concatenate([t[i] for t in tables]) for i in (0, 1))
        alive = np.isin(rows, left)
        return _seal(made, index / name, told, keys, (hashes[alive], rows[alive]), gone, watermark)


def vectors_of(store: Store, batch: Sequence[Row], width: int) -> np.ndarray:
    """The vectors (P, D) of all passages of some documents, in order."""
    for one in batch:
        if len(one.keys) != KEY * max(1, len(one.spans)):
            raise store.damaged(f"document {one.id!r} lacks the vectors of its passages")
    return store.vectors(b"".join(one.keys for one in batch), width)


def _mapped(path: Path, width: int) -> np.ndarray:
    """The rows (P, D) float32 in a file of nothing else."""
    count = path.stat().st_size // (4 * width)
    if not count:
        return np.empty((0, width), np.float32)
    return np.memmap(path, np.float32, "r", shape=(count, width))


def _write_vectors(
    made: Path, keys: np.ndarray, exact: np.ndarray, settings: Settings, *, base: bool
) -> dict[str, int]:
    if not base:
        return {VECTORS: blocks.write(made / VECTORS, exact)}
    from nlpkit.search.faiss_store import FaissStore

    store = FaissStore.create(settings.width, **settings.dense)
    store.upsert(keys, exact)
    told: dict[str, int] = store.snapshot(made)
    return told


def _write_columns(made: Path, columns: list[Columns], kept: list[np.ndarray]) -> dict[str, int]:
    one = len(columns) == 1 and bool(kept[0].all())
    return (columns[0] if one else Columns.merge(columns, kept)).write(made)


def _seal(
    made: Path,
    final: Path,
    told: dict[str, int],
    keys: np.ndarray,
    ids: tuple[np.ndarray, np.ndarray],
    gone: Sequence[int] | np.ndarray,
    watermark: int,
) -> dict[str, Any]:
    """Write the small arrays and the manifest of a segment; its entry. Every file checks itself, block by block."""
    order = np.argsort(ids[0], kind="stable")
    rows = np.sort(np.asarray(gone, np.int64))
    for name, some in zip(_ARRAYS, (keys, ids[0][order], ids[1][order], rows), strict=True):
        told[name] = blocks.write(made / name, some)
    notes = {"told": told, "watermark": watermark}
    manifest.seal(made, KIND, notes=notes, leave=told)
    return {
        "folder": final.name,
        "manifest": manifest.sha256(made / manifest.NAME),
        "rows": len(ids[0]),
        "passages": len(keys),
        "gone": len(rows),
    }

"""Which FAISS index for how many vectors, how it is trained, and how a search is asked of it.

N vectors of width D, of which positions 0 … N − 1 are the names that FAISS knows; Q queries. Below
:data:`APPROXIMATE_FROM` nothing is built and every search is exact; from there on it is an inverted file (Sivic and
Zisserman 2003) of 4-bit product codes (Jégou et al. 2011) that are scanned with SIMD look-ups (FastScan, André et al.
2015). FAISS only proposes candidates; their scores come from the exact vectors.
"""

import contextlib
import math
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from nlpkit.errors import ArtifactError, UsageError
from nlpkit.search.exact import Rows

APPROXIMATE_FROM = 20_000  # a search of so many × 384 reads 30 MB, about 3 ms
SAMPLE = 40  # vectors of the training sample for each list; FAISS asks for 39
_ADDED = 1 << 14  # vectors added at once
_EFFORTS = (
    1 / 64,
    1 / 32,
    3 / 64,
    1 / 16,
    3 / 32,
    1 / 8,
    3 / 16,
    1 / 4,
    3 / 8,
    1 / 2,
    3 / 4,
    1,
)  # of all lists
_BEAMS = (16, 32, 64, 128, 256, 512, 1024, 2048)  # efSearch of a graph
_one_at_a_time = threading.Lock()  # the number of FAISS's threads belongs to the process


class Mask:
    """Which of N positions may be found: ``keep`` (N,) bool, how many that are, and the bits as FAISS reads them."""

    def __init__(self, keep: np.ndarray) -> None:
        self.keep, self.count = keep, int(np.count_nonzero(keep))
        self._selector: Any = None
        self._asked: dict[int, Any] = {}

    def parameters(self, index: Any, effort: int) -> Any:
        """FAISS's search parameters with these positions selected, made once an effort."""
        if effort not in self._asked:
            if self._selector is None:
                self._selector = faiss().IDSelectorBitmap(np.packbits(self.keep, bitorder="little"))
            self._asked[effort] = _parameters(index, effort, {"sel": self._selector})
        return self._asked[effort]


class Codes(Protocol):
    """Compressed vectors that propose candidates; ``efforts`` are the steps of care that a search may take."""

    efforts: tuple[int, ...]

    def __len__(self) -> int: ...

    def ranked(self, queries: np.ndarray, depth: int, effort: int, mask: Mask | None = None) -> np.ndarray:
        """Positions (Q, depth) int64 of what looks nearest to queries (Q, D), best first, −1 where there is no more."""
        ...

    def cost(self, effort: int, depth: int) -> float:
        """What a search takes, in units that compare efforts and depths of these codes (about microseconds)."""
        ...

    def to_bytes(self) -> np.ndarray:
        """All of it as (bytes,) uint8."""
        ...


def faiss() -> Any:
    """The package, imported when it is first needed."""
    return import_module("faiss")


def factory_for(number: int, width: int, wanted: str = "auto", quantize: str = "") -> str:
    """FAISS's name of the index for ``number`` vectors of ``width``; "" where exact search by numpy is meant.

    ``wanted`` is auto, flat, ivf, hnsw, or a factory string, which is returned as it is.

    >>> factory_for(5_000, 384), factory_for(200_000, 384), factory_for(200_000, 50)
    ('', 'IVF256,PQ96x4fs', 'IVF256,PQ25x4fs')
    >>> factory_for(200_000, 384, "hnsw"), factory_for(5_000, 384, quantize="int8"), factory_for(200_000, 384, "Flat")
    ('HNSW16,SQ8', 'SQ8', '')
    """
    if wanted.lower() == "flat" or not number:
        return ""
    lists = f"IVF{2 ** int(math.log2(max(1, number)) / 2)}"
    if quantize == "int8" and wanted in ("auto", "ivf"):
        return "SQ8" if wanted == "auto" and number < APPROXIMATE_FROM else f"{lists},SQ8"
    if wanted == "hnsw":
        return "HNSW16,SQ8"
    if wanted not in ("auto", "ivf"):
        return wanted
    if wanted == "auto" and number < APPROXIMATE_FROM:
        return ""
    return f"{lists},PQ{padded(width) // _piece(width)}x4fs"


def _piece(width: int) -> int:
    """Numbers that one 4-bit code stands for: two where vectors are narrow and every bit counts."""
    return 2 if width <= 128 else 4


def padded(width: int) -> int:
    """The next width that whole codes divide; the numbers added are zeros, which change no inner product."""
    return -(-width // _piece(width)) * _piece(width)


def check_factory(width: int, wanted: str) -> None:
    """Raises UsageError, with FAISS's reason, where ``wanted`` is no index for vectors of ``width``."""
    if wanted.lower() not in ("auto", "flat", "ivf", "hnsw"):
        _made(width, wanted)


def _made(width: int, factory: str) -> Any:
    with refused(factory):
        index = faiss().index_factory(width, factory, faiss().METRIC_INNER_PRODUCT)
    inner, package = _inverted(index), faiss()
    if inner is not None and inner.nlist < 1:
        raise UsageError(f"--faiss {factory}: an inverted file needs at least one list")
    if isinstance(index, package.IndexRefine):  # we rescore ourselves, and hold the exact vectors once
        index = package.clone_index(index.base_index)
    if isinstance(index, package.IndexNSG | package.IndexNNDescent | package.IndexIDMap):
        raise UsageError(f"--faiss {factory}: not supported here; take an inverted file or HNSW")
    return index


@contextlib.contextmanager
def refused(factory: str) -> Iterator[None]:
    """What FAISS refuses, as a UsageError with its reason."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = str(error).split(" failed: ")[-1].rpartition(".cpp:")[2].partition(": ")
        told = (reason[2] or reason[0] or "out of memory").removeprefix("Error: ").strip()
        raise UsageError(
            f"--faiss {factory}: FAISS says: {told}; see https://github.com/facebookresearch/faiss/wiki"
        ) from None


def _inverted(index: Any) -> Any:
    """The inverted file in an index, or None."""
    try:
        return faiss().extract_index_ivf(index)
    except RuntimeError:
        return None


def _plain(index: Any) -> Any:
    """An index as the class it is."""
    return faiss().downcast_index(index)


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads in FAISS for a while."""
    package = faiss()
    with _one_at_a_time:
        before = package.omp_get_max_threads()
        package.omp_set_num_threads(number)
        try:
            yield
        finally:
            package.omp_set_num_threads(before)


class FaissCodes:
    """A FAISS index over positions. Whether it takes a selector is found by asking it."""

    def __init__(self, index: Any, factory: str, width: int) -> None:
        self.index, self.factory, self.width = index, factory, width
        inverted = _inverted(index)
        self.lists = 0 if inverted is None else int(inverted.nlist)
        self.efforts: tuple[int, ...] = (0,)
        if self.lists:
            self.efforts = tuple(sorted({max(1, round(self.lists * share)) for share in _EFFORTS}))
        self.graph = _graph(index)
        if self.graph:
            self.efforts = _BEAMS
        self._selects: bool | None = None
        self._parameters: dict[int, Any] = {}

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @classmethod
    def build(cls, vectors: Rows, factory: str, seed: int, *, pad: bool) -> "FaissCodes":
        """Train on a sample and add all of ``vectors`` (N, D), a block at a time. The same bytes for the same seed.

        ``pad``: the factory counts on :func:`padded` rows.

        :raises UsageError: FAISS refuses the factory.
        """
        number, width = vectors.shape
        index = _made(padded(width) if pad else width, factory)
        _quieten(index, seed)
        made = cls(index, factory, width)
        rng = np.random.default_rng(seed)
        wanted = max(APPROXIMATE_FROM, SAMPLE * made.lists)
        at = np.arange(number)
        if wanted < number:
            at = np.sort(rng.choice(number, wanted, replace=False))
        # One thread: FAISS's k-means gains little from more, and its threads spin where a core is busy.
        with refused(factory), threads(1):
            index.train(made._fit(vectors[at]))
        made.add(vectors, 0)
        return made

    def add(self, vectors: Rows, first: int) -> None:
        """Add the rows of ``vectors`` from ``first`` on, under the positions that follow."""
        # A graph depends on the order in which its threads come by.
        with refused(self.factory), threads(1 if self.graph else faiss().omp_get_max_threads()):
            for start in range(first, len(vectors), _ADDED):
                self.index.add(self._fit(vectors[start : start + _ADDED]))
        if len(self) != len(vectors):
            raise UsageError(
                f"--faiss {self.factory}: FAISS holds {len(self)} of {len(vectors)} vectors; choose another"
            )

    def refill(self, vectors: Rows) -> None:
        """Forget all positions and add ``vectors``, with what was learned."""
        self.index.reset()
        self.add(vectors, 0)

    def _fit(self, rows: np.ndarray) -> np.ndarray:
        wide = int(self.index.d)
        if wide == rows.shape[1]:
            return np.ascontiguousarray(rows, np.float32)
        made = np.zeros((len(rows), wide), np.float32)
        made[:, : rows.shape[1]] = rows
        return made

    @property
    def selects(self) -> bool:
        """Whether the index obeys a selector (plain FastScan and PQ indexes and some graphs do not)."""
        if self._selects is None:
            keep = np.zeros(len(self), bool)
            keep[-1] = True
            query = np.zeros((1, int(self.index.d)), np.float32)
            try:
                asked = Mask(keep).parameters(self.index, self.efforts[-1])
                found = self.index.search(query, 1, params=asked)[1]
                self._selects = found[0, 0] in (-1, len(self) - 1)
            except RuntimeError:
                self._selects = False
        return self._selects

    def _asked(self, effort: int) -> Any:
        if effort not in self._parameters:
            self._parameters[effort] = _parameters(self.index, effort, {})
        return self._parameters[effort]

    def ranked(self, queries: np.ndarray, depth: int, effort: int, mask: Mask | None = None) -> np.ndarray:
        """See :class:`Codes`. Without a selector it asks for more and leaves out what is masked."""
        queries, depth = self._fit(queries), min(depth, len(self))
        if self.graph:  # FAISS widens the beam to what is asked for; then a measured depth would say nothing
            depth = min(depth, effort)
        if mask is None or mask.count == len(self):
            return np.asarray(self.index.search(queries, depth, params=self._asked(effort))[1])
        if self.selects:
            return np.asarray(
                self.index.search(queries, depth, params=mask.parameters(self.index, effort))[1]
            )
        more = min(len(self), int(1.2 * depth * len(self) / max(1, mask.count)) + 8)
        found = self.index.search(queries, more, params=self._asked(effort))[1]
        keep = (found >= 0) & mask.keep[found]
        order = np.argsort(~keep, axis=1, kind="stable")[:, :depth]
        return np.where(np.take_along_axis(keep, order, 1), np.take_along_axis(found, order, 1), -1)

    def cost(self, effort: int, depth: int) -> float:
        """See :class:`Codes`: rows scanned at so many bytes, lists compared, exact rows fetched."""
        bytes_of_row = 4.0 * self.width
        with contextlib.suppress(RuntimeError, AttributeError):
            bytes_of_row = float(self.index.sa_code_size())
        fetched = depth * (0.05 + self.width / 2000)
        if self.lists:
            scanned = len(self) * effort / self.lists * bytes_of_row / 60_000
            return scanned + self.lists * self.width / 30_000 + fetched
        if self.graph:
            return effort * 32 * bytes_of_row / 10_000 + fetched
        return len(self) * bytes_of_row / 60_000 + fetched

    def to_bytes(self) -> np.ndarray:
        """See :class:`Codes`: as FAISS writes it."""
        return np.asarray(faiss().serialize_index(self.index))

    @classmethod
    def from_bytes(cls, data: np.ndarray, factory: str, shape: tuple[int, int], where: str) -> "FaissCodes":
        """What :meth:`to_bytes` gave for (N, D) vectors. The caller has checked the bytes: FAISS trusts every one."""
        try:
            index = faiss().deserialize_index(data)
        except RuntimeError as error:
            raise ArtifactError(f"{where}: this FAISS cannot read it ({error}); rebuild the index") from error
        if index.ntotal != shape[0] or index.d not in (shape[1], padded(shape[1])):
            raise ArtifactError(
                f"{where}: {index.ntotal} × {index.d}, the index says {shape}; rebuild the index"
            )
        return cls(index, factory, shape[1])


def _graph(index: Any) -> bool:
    package, index = faiss(), _plain(index)
    if isinstance(index, package.IndexPreTransform):
        return _graph(index.index)
    return isinstance(index, package.IndexHNSW)


def _parameters(index: Any, effort: int, options: dict[str, Any]) -> Any:
    """FAISS's search parameters, as deep as the index is nested."""
    package, index = faiss(), _plain(index)
    if isinstance(index, package.IndexPreTransform):
        return package.SearchParametersPreTransform(index_params=_parameters(index.index, effort, options))
    if isinstance(index, package.IndexIVF):
        return package.SearchParametersIVF(nprobe=max(1, effort), **options)
    if isinstance(index, package.IndexHNSW):
        return package.SearchParametersHNSW(efSearch=max(1, effort), **options)
    return package.SearchParameters(**options) if options else None


def _quieten(index: Any, seed: int) -> None:
    """Seed what is learned, and keep FAISS from advising on standard error about the size of the sample."""
    inverted = _inverted(index)
    for learner in (inverted, index) if inverted is not None else (index,):
        for clustering in (getattr(learner, "cp", None), getattr(getattr(learner, "pq", None), "cp", None)):
            if clustering is not None:
                clustering.seed, clustering.min_points_per_centroid = seed, 1

"""Nearest vectors by inner product: FAISS for the indexed part, numpy for the tail that came since.

N vectors of width D, unit rows, so that inner product is cosine. Below :data:`APPROXIMATE_FROM` the FAISS index is
flat and exact; from there on it is an inverted file (IVF, Sivic and Zisserman 2003; Jégou et al. 2011, section IV)
with 2·√N lists of which an eighth is read for a query.
"""

from importlib import import_module
from typing import Any

import numpy as np

from nlpkit.errors import ArtifactError
from nlpkit.search.topk import top

APPROXIMATE_FROM = 50_000
PROBED = 8  # one list in so many is read


class VectorStore:
    """Vectors by position; ``search`` masks the positions that are no longer alive."""

    def __init__(self, index: Any, width: int) -> None:
        self.index, self.width = index, width
        self.tail = np.empty((0, width), np.float32)

    def __len__(self) -> int:
        return int(self.index.ntotal) + len(self.tail)

    @classmethod
    def build(cls, vectors: np.ndarray, approximate_from: int = APPROXIMATE_FROM) -> "VectorStore":
        """Index ``vectors`` (N, D) float32."""
        import faiss

        number, width = vectors.shape
        vectors = np.ascontiguousarray(vectors, np.float32)
        index: Any
        if number < approximate_from:
            index = faiss.IndexFlatIP(width)
        else:
            lists = max(1, int(2 * number**0.5))
            index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
            index.train(vectors)
        index.add(vectors)
        return cls(index, width)

    @property
    def kind(self) -> str:
        """``flat (exact)`` or ``ivf`` with its figures."""
        lists = getattr(self.index, "nlist", None)
        return "flat (exact)" if lists is None else f"ivf ({lists} lists, {-(-lists // PROBED)} read)"

    def add(self, vectors: np.ndarray) -> None:
        """Append (n, D) vectors; they are searched by brute force until the index is folded."""
        self.tail = np.concatenate([self.tail, np.asarray(vectors, np.float32).reshape(-1, self.width)])

    def fold(self) -> None:
        """Move the tail into the FAISS index (no position changes)."""
        if len(self.tail):
            self.index.add(self.tail)
            self.tail = self.tail[:0]

    def search(self, query: np.ndarray, k: int, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions and inner products of the best ``k`` for one query (D,), among ``alive`` (N,) bool."""
        faiss: Any = import_module("faiss")
        query = np.ascontiguousarray(query, np.float32)
        indexed = int(self.index.ntotal)
        wanted = min(k, int(alive[:indexed].sum()))
        positions, scores = np.empty(0, np.int64), np.empty(0, np.float32)
        if wanted:
            options: dict[str, Any] = {}
            if not alive[:indexed].all():
                bits = np.packbits(alive[:indexed], bitorder="little")
                options["sel"] = faiss.IDSelectorBitmap(bits)
            if hasattr(self.index, "nlist"):
                parameters = faiss.SearchParametersIVF(nprobe=-(-self.index.nlist // PROBED), **options)
            else:
                parameters = faiss.SearchParameters(**options)
            found, at = self.index.search(query[None], wanted, params=parameters)
            positions, scores = at[0][at[0] >= 0], found[0][at[0] >= 0]
        live = np.flatnonzero(alive[indexed:])
        if len(live):
            positions = np.concatenate([positions, live + indexed])
            scores = np.concatenate([scores, self.tail[live] @ query])
        order = np.argsort(positions)  # equal scores then fall by position
        positions, scores = positions[order], scores[order]
        best = top(scores, k)
        return positions[best], scores[best]

    def to_bytes(self) -> np.ndarray:
        """The FAISS index as FAISS writes it, (bytes,) uint8; the tail has to be folded."""
        import faiss

        assert not len(self.tail)
        return np.asarray(faiss.serialize_index(self.index))

    @classmethod
    def from_bytes(cls, data: bytes, width: int) -> "VectorStore":
        """Read what :meth:`to_bytes` gave. The caller has compared its hash: FAISS trusts every byte."""
        import faiss

        try:
            index = faiss.deserialize_index(np.frombuffer(data, np.uint8))
        except RuntimeError as error:
            raise ArtifactError(
                f"vectors.faiss: FAISS cannot read it ({error}); rebuild the index"
            ) from error
        if index.d != width:
            raise ArtifactError(f"vectors.faiss: width {index.d}, the index says {width}; rebuild the index")
        return cls(index, width)

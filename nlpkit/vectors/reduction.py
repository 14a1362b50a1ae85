"""Smaller word vectors, and what that costs: fewer numbers a word (PCA), or one byte a number (int8).

V words, D width, K width that is kept. The loss is measured on the very vectors: the share of variance that is kept,
the error of reconstruction, and how many of a word's ten nearest words stay among its ten nearest.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit.errors import DataError, UsageError
from nlpkit.store import atomic
from nlpkit.vectors.tensors import writing_tensors
from nlpkit.vectors.vectors import Vectors, blocks, finish

NEAREST = 10
SAMPLE = 1000  # words whose neighbours are compared
LEVELS = 127  # of an int8, on either side of zero


@dataclass(frozen=True)
class Projection:
    """Vectors (V, D) less ``origin`` (D,), times ``axes`` (D, K)."""

    origin: np.ndarray
    axes: np.ndarray
    explained: float  # the share of the variance that the axes keep

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Rows (N, D) → (N, K) float32."""
        return ((rows - self.origin) @ self.axes).astype(np.float32)

    def back(self, rows: np.ndarray) -> np.ndarray:
        """Rows (N, K) → (N, D) in the first space."""
        found: np.ndarray = rows @ self.axes.T + self.origin
        return found


def principal_axes(matrix: np.ndarray, size: int, *, remove: int = 0) -> Projection:
    """The ``size`` axes of greatest variance about the mean (Pearson 1901), from the covariance in float64.

    The origin stays where it is, so that all axes together keep every cosine. With ``remove`` the mean is taken off
    and so many of the first axes are left out: «all but the top» (Mu and Viswanath 2018, algorithm 1).
    """
    width = matrix.shape[1]
    if not 1 <= size <= width - remove or remove < 0:
        raise UsageError(f"--size: expected 1 to {max(0, width - remove):,}, got {size}")
    if len(matrix) < 2:
        raise DataError("PCA needs two words or more")
    total, squares = np.zeros(width), np.zeros((width, width))
    for rows in blocks(matrix):
        part = rows.astype(np.float64)
        total += part.sum(axis=0)
        squares += part.T @ part
    mean = total / len(matrix)
    variance, axes = np.linalg.eigh(squares / len(matrix) - np.outer(mean, mean))  # from the least on
    variance, axes = np.maximum(variance[::-1], 0), axes[:, ::-1]
    kept = slice(remove, remove + size)
    explained = float(variance[kept].sum() / variance.sum()) if variance.sum() > 0 else 1.0
    origin = mean if remove else np.zeros(width)
    signs = np.sign(
        axes[np.abs(axes).argmax(axis=0), np.arange(width)]
    )  # one of the two directions of an axis
    return Projection(origin, (axes * signs)[:, kept], explained)


def to_int8(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (N, D) as int8 with a scale each (N,) float32: the largest of a row becomes 127.

    >>> to_int8(np.array([[1.0, -0.5], [0.0, 0.0]], np.float32))[0].tolist()
    [[127, -64], [0, 0]]
    """
    scale = (np.abs(rows).max(axis=1) / LEVELS).astype(np.float32)
    packed = np.rint(rows / np.where(scale > 0, scale, 1)[:, None])
    return np.clip(packed, -LEVELS, LEVELS).astype(np.int8), scale


def reduce_vectors(
    vectors: Vectors,
    output: str | Path,
    *,
    method: str,
    size: int | None = None,
    remove: int = 0,
    seed: int = 0,
    force: bool = False,
) -> dict[str, Any]:
    """Write smaller vectors into a folder; the measured loss, which the folder's manifest notes too.

    ``method`` is ``pca`` (to ``size`` numbers, the first ``remove`` axes left out) or ``int8``. The error is
    ‖X - X'‖ / ‖X‖ over all vectors X; the overlap is the mean over a sample of words.
    """
    if (method == "pca") != (size is not None):
        raise UsageError("--size is needed for --method pca, and for no other")
    if remove and method != "pca":
        raise UsageError("--remove-top is part of --method pca")
    if method not in ("pca", "int8"):
        raise UsageError(f"--method {method!r} is not known; known: pca, int8")
    project = principal_axes(vectors.matrix, size, remove=remove) if size is not None else None
    off = whole = 0.0
    scales = []
    smaller = np.empty((len(vectors), size or vectors.width), np.float32)
    at = 0
    with atomic.building(output, force=force) as folder:
        with writing_tensors(folder / "vectors.safetensors") as writer:
            for rows in blocks(vectors.matrix):
                if project is not None:
                    small = project(rows)
                    again = project.back(small)
                    writer.append("word", small)
                else:
                    packed, scale = to_int8(rows)
                    small = again = packed * scale[:, None]
                    writer.append("word_int8", packed)
                    scales.append(scale)
                smaller[at : at + len(rows)] = small
                at += len(rows)
                off += float(np.square(rows - again, dtype=np.float64).sum())
                whole += float(np.square(rows, dtype=np.float64).sum())
            if scales:
                writer.append("word_scale", np.concatenate(scales))
        after = Vectors(vectors.words, smaller, vectors.recipe, vectors.counts)
        notes: dict[str, Any] = {"method": method, "from_size": vectors.width, "size": after.width}
        if project is not None:
            notes |= {"removed": remove, "explained_variance": round(project.explained, 6)}
        notes["reconstruction_error"] = round((off / whole) ** 0.5, 6) if whole else 0.0
        notes |= _overlap(vectors, after, seed)
        finish(
            folder, vectors.words, vectors.counts, vectors.recipe, made_of=vectors.fingerprint, notes=notes
        )
    return notes


def _overlap(before: Vectors, after: Vectors, seed: int) -> dict[str, Any]:
    """The mean share of the nearest words that stay the nearest, over a sample of words."""
    k = min(NEAREST, len(before) - 1)
    if k < 1:
        return {}
    rows = np.sort(np.random.default_rng(seed).permutation(len(before))[:SAMPLE])
    alone = [[int(row)] for row in rows]
    shares = [
        len({word for word, _ in one} & {word for word, _ in other}) / k
        for one, other in zip(
            before.nearest_rows(rows, k, alone), after.nearest_rows(rows, k, alone), strict=True
        )
    ]
    return {f"neighbour_overlap_at_{k}": round(float(np.mean(shares)), 4), "sample": len(shares)}

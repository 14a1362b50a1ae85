"""Smooth inverse frequency: the sentence vectors that every other encoder has to beat (Arora et al. 2017). Numpy alone.

V vocabulary, D width, N texts. The vector of a text is the mean of a / (a + p(w)) · v(w) over its known words w,
where p(w) is the word's share of the counted text, without its part along one common direction: the first right
singular vector of the (N, D) matrix of such vectors. That direction belongs to the texts it was fitted on, so it is
kept: a fitted folder is a folder of vectors with one more sealed file, ``sif.json``, and whoever opens it projects
documents and queries alike. Fitting holds D × D numbers, however many texts pass.
"""

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nlpkit.errors import ArtifactError, DataError, UsageError
from nlpkit.store import atomic, jsonfile, manifest
from nlpkit.vectors.vectors import KIND, Vectors

FILE = "sif.json"
A = 1e-3  # Arora et al. 2017, §4.1: between 1e-4 and 1e-3 on all their sets
NOTHING = 1e-5  # share of a vector's length below which what projection leaves is rounding


@dataclass(frozen=True)
class Fitted:
    """What was learned from ``texts`` texts with a known word: the common direction (D,), of length 1."""

    a: float
    direction: np.ndarray
    texts: int


def smoothed(vectors: Vectors, a: float = A) -> Vectors:
    """The same words with vectors a / (a + p(w)) · v(w), so that :meth:`Vectors.mean` is the weighted mean.

    >>> from nlpkit.text.standardize import Recipe
    >>> held = Vectors(["the", "cat"], np.ones((2, 1), np.float32), Recipe(()), np.array([3, 1]))
    >>> smoothed(held, a=0.25).matrix[:, 0].tolist()
    [0.25, 0.5]
    """
    share = vectors.counts / max(1, int(vectors.counts.sum()))
    weights = (a / (a + share)).astype(np.float32)
    return Vectors(
        vectors.words,
        vectors.matrix * weights[:, None],
        vectors.recipe,
        vectors.counts,
        vectors.fingerprint,
    )


def fit(smooth: Vectors, batches: Iterable[Sequence[str]], a: float = A) -> Fitted:
    """The common direction of the texts in ``batches`` under smoothed vectors; they are read once.

    :raises DataError: fewer than two texts have a known word.
    """
    moment, texts = np.zeros((smooth.width, smooth.width)), 0
    for batch in batches:
        rows = smooth.mean(list(batch)).astype(np.float64)
        moment += rows.T @ rows
        texts += int(rows.any(axis=1).sum())
    if texts < 2:
        raise DataError(
            f"{texts} texts hold a word of the vectors; the common direction is learned from many: give more text"
        )
    direction = np.linalg.eigh(moment)[1][:, -1]
    direction *= np.sign(direction[np.abs(direction).argmax()])  # either sign projects alike; one is written
    return Fitted(a, direction.astype(np.float32), texts)


def without(rows: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Rows (N, D) without their part along ``direction`` (D,); a row of that direction alone becomes zeros.

    >>> without(np.array([[3.0, 4.0], [5.0, 0.0]]), np.array([1.0, 0.0])).tolist()
    [[0.0, 4.0], [0.0, 0.0]]
    """
    left = rows - (rows @ direction)[:, None] * direction
    left[np.linalg.norm(left, axis=1) <= NOTHING * np.linalg.norm(rows, axis=1)] = 0
    return left


def fingerprint(vectors: Vectors, fitted: Fitted) -> str:
    """SHA-256 of what decides the rows: the vectors, the weighting and the common direction."""
    digest = hashlib.sha256(f"{vectors.fingerprint} {fitted.a!r} ".encode())
    digest.update(np.ascontiguousarray(fitted.direction, "<f4").tobytes())
    return digest.hexdigest()


def save(source: str | Path, fitted: Fitted, output: str | Path, *, force: bool = False) -> None:
    """Write a fitted folder: the sealed files of the vectors in ``source``, and what was fitted.

    Raises UsageError where ``output`` exists (unless ``force``), ArtifactError for damaged vectors.
    """
    source, output = Path(source), Path(output)
    if output.exists() and output.resolve() == source.resolve():
        raise UsageError(f"{output}: holds the vectors themselves; choose another folder")
    with atomic.building(output, force=force) as building:
        made = manifest.check(source, KIND)
        for name in made.files:
            (building / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, building / name)
        values = {"a": fitted.a, "texts": fitted.texts, "direction": fitted.direction.tolist()}
        jsonfile.write(building / FILE, values)
        manifest.seal(
            building, KIND, made_with={**made.made_with, "vectors": made.fingerprint}, notes=made.notes
        )


def read(folder: str | Path, width: int) -> Fitted | None:
    """What was fitted for the vectors in ``folder``, or None for vectors as they were trained.

    :raises ArtifactError: damaged, or of another width.
    """
    path = Path(folder) / FILE
    sealed = manifest.read(folder, KIND)
    if FILE not in sealed.files:
        return None
    values = jsonfile.read(manifest.check_file(folder, sealed, FILE))
    try:
        a, texts = float(values["a"]), int(values["texts"])
        direction = np.array(values["direction"], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: not a fitted weighting; {manifest.remedy(Path(folder))}") from error
    if direction.shape != (width,) or not abs(float(np.linalg.norm(direction)) - 1) < 1e-3 or not a > 0:
        raise ArtifactError(f"{path}: is not for vectors of width {width}; {manifest.remedy(Path(folder))}")
    return Fitted(a, direction, texts)

"""Smooth inverse frequency: the weights and the common direction against a plain computation, and fitted folders."""

import json
from pathlib import Path

import numpy as np
import pytest

from nlpkit.errors import ArtifactError, DataError, UsageError
from nlpkit.store import atomic, manifest
from nlpkit.text.standardize import Recipe
from nlpkit.vectors import sif, vectors

WORDS = ["the", "cat", "dog", "list", "of"]
COUNTS = np.array([600, 10, 20, 30, 340])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(3)
    table = draw.normal(size=(5, 4)).astype(np.float32)
    with atomic.building(tmp_path / "glove") as made:
        vectors.save(
            made,
            words=WORDS,
            counts=COUNTS,
            word=table,
            context=np.zeros_like(table),
            recipe=Recipe.of(["lower"]),
        )
    return tmp_path / "glove"


TEXTS = ["The cat", "the dog of the list", "unknown words", "list", "dog cat of", "the of"]


def plainly(held: vectors.Vectors, a: float) -> np.ndarray:
    """The weighted means of TEXTS, word by word."""
    rows = []
    for text in TEXTS:
        known = [w for w in text.lower().split() if w in WORDS]
        weighted = [
            a / (a + COUNTS[WORDS.index(w)] / COUNTS.sum()) * held.matrix[WORDS.index(w)] for w in known
        ]
        rows.append(np.mean(weighted, axis=0) if known else np.zeros(3))
    return np.array(rows)


def test_weights_and_direction_are_those_of_the_paper(folder: Path) -> None:
    held = vectors.Vectors.load(folder)
    smooth = sif.smoothed(held)
    rows = plainly(held, 1e-3)
    assert smooth.mean(TEXTS) == pytest.approx(rows, rel=1e-5)
    fitted = sif.fit(smooth, [TEXTS[:2], TEXTS[2:5], TEXTS[5:]])
    first = np.linalg.svd(rows)[2][0]
    assert abs(float(first @ fitted.direction)) == pytest.approx(1, abs=1e-5) and fitted.texts == 5
    left = sif.without(smooth.mean(TEXTS), fitted.direction)
    assert left == pytest.approx(rows - np.outer(rows @ first, first), abs=1e-5)
    assert left @ fitted.direction == pytest.approx(np.zeros(6), abs=1e-6)


def test_the_direction_does_not_depend_on_the_batches(folder: Path) -> None:
    smooth = sif.smoothed(vectors.Vectors.load(folder))
    one, many = sif.fit(smooth, [TEXTS]), sif.fit(smooth, ([t] for t in TEXTS))
    assert one.direction == pytest.approx(many.direction, abs=1e-6)


def test_too_few_known_texts_are_refused(folder: Path) -> None:
    smooth = sif.smoothed(vectors.Vectors.load(folder))
    with pytest.raises(DataError, match="1 texts hold a word"):
        sif.fit(smooth, [["cat", "nothing known", ""]])


def test_a_fitted_folder_is_vectors_with_one_more_sealed_file(folder: Path, tmp_path: Path) -> None:
    held = vectors.Vectors.load(folder)
    fitted = sif.fit(sif.smoothed(held), [TEXTS])
    sif.save(folder, fitted, tmp_path / "fitted")
    again = vectors.Vectors.load(tmp_path / "fitted")
    assert (again.matrix == held.matrix).all() and again.fingerprint != held.fingerprint
    made = manifest.check(tmp_path / "fitted", "vectors")
    assert made.made_with["vectors"] == held.fingerprint and sif.FILE in made.files
    read = sif.read(tmp_path / "fitted", 3)
    assert read is not None and (read.direction == fitted.direction).all()
    assert (read.a, read.texts) == (1e-3, 5) and sif.read(folder, 3) is None
    with pytest.raises(UsageError, match="exists"):
        sif.save(folder, fitted, tmp_path / "fitted")
    with pytest.raises(UsageError, match="themselves"):
        sif.save(folder, fitted, folder, force=True)
    with pytest.raises(ArtifactError, match="width 7"):
        sif.read(tmp_path / "fitted", 7)


@pytest.mark.parametrize(
    "values",
    [{}, {"a": 1, "texts": 2, "direction": [1, "x", 0]}, {"a": 1, "texts": 2, "direction": [2, 0, 0]}],
)
def test_what_is_no_fitted_weighting_is_refused(folder: Path, values: dict[str, object]) -> None:
    (folder / sif.FILE).write_text(json.dumps(values))
    old = manifest.read(folder)
    manifest.seal(folder, "vectors", made_with=old.made_with)
    with pytest.raises(ArtifactError, match=r"sif\.json"):
        sif.read(folder, 3)


def test_a_flipped_byte_is_found(folder: Path, tmp_path: Path) -> None:
    sif.save(folder, sif.fit(sif.smoothed(vectors.Vectors.load(folder)), [TEXTS]), tmp_path / "fitted")
    path = tmp_path / "fitted" / sif.FILE
    path.write_bytes(path.read_bytes().replace(b"0.001", b"0.002"))
    with pytest.raises(ArtifactError, match="damaged"):
        sif.read(tmp_path / "fitted", 3)

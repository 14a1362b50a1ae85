"""Smaller vectors against scikit-learn and their stated loss; vectors of unseen words against the true ones."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from nlpkit.errors import DataError, NotFound, UsageError
from nlpkit.store import manifest
from nlpkit.text.recipe import Recipe
from nlpkit.vectors.oov import add_words, induce
from nlpkit.vectors.reduction import principal_axes, reduce_vectors, to_int8
from nlpkit.vectors.vectors import Vectors, unit_rows


def some(rows=300, width=12, seed=0):
    rng = np.random.default_rng(seed)
    mixed = (
        rng.normal(size=(rows, width)) @ np.diag(0.7 ** np.arange(width)) @ rng.normal(size=(width, width))
    )
    return Vectors(
        [f"w{i}" for i in range(rows)], (mixed + 0.3).astype(np.float32), Recipe(()), np.arange(rows)[::-1]
    )


def test_axes_are_those_of_scikit_learn():
    matrix = some().matrix
    for remove in (0, 2):
        found = principal_axes(matrix, 4, remove=remove)
        theirs = PCA(4 + remove).fit(matrix.astype(np.float64))
        share = theirs.explained_variance_ratio_[remove:]
        assert found.explained == pytest.approx(share.sum(), abs=1e-9)
        cosines = np.abs(np.einsum("kd,dk->k", theirs.components_[remove:], found.axes))
        np.testing.assert_allclose(cosines, 1, atol=1e-6)
        if remove:
            np.testing.assert_allclose(found(matrix).mean(axis=0), 0, atol=1e-5)


def test_pca_tells_what_it_loses(tmp_path):
    vectors = some()
    made = reduce_vectors(vectors, tmp_path / "r", method="pca", size=5)
    after = Vectors.load(tmp_path / "r")
    assert (after.words, after.width, after.counts.tolist()) == (vectors.words, 5, vectors.counts.tolist())
    axes = principal_axes(vectors.matrix, 5)
    lost = vectors.matrix - axes.back(after.matrix)
    error = np.linalg.norm(lost) / np.linalg.norm(vectors.matrix)
    assert made["reconstruction_error"] == pytest.approx(error, abs=1e-5)
    shares = [
        len({w for w, _ in vectors.nearest(word)} & {w for w, _ in after.nearest(word)}) / 10
        for word in vectors.words
    ]
    assert made["neighbour_overlap_at_10"] == pytest.approx(np.mean(shares), abs=1e-3)
    assert manifest.read(tmp_path / "r").notes == made
    whole = reduce_vectors(vectors, tmp_path / "w", method="pca", size=12)
    assert (whole["explained_variance"], whole["neighbour_overlap_at_10"]) == (1.0, 1.0)


def test_int8_is_within_half_a_step(tmp_path):
    vectors = some()
    vectors.matrix[7] = 0
    made = reduce_vectors(vectors, tmp_path / "r", method="int8")
    after = Vectors.load(tmp_path / "r")
    assert after.matrix.dtype == np.float32
    step = np.abs(vectors.matrix).max(axis=1, keepdims=True) / 127
    assert (np.abs(after.matrix - vectors.matrix) <= 0.5001 * step).all()
    assert 0 < made["reconstruction_error"] < 0.02
    assert made["neighbour_overlap_at_10"] > 0.9
    packed, scale = to_int8(vectors.matrix)
    np.testing.assert_array_equal(packed * scale[:, None], after.matrix)
    assert (tmp_path / "r" / "vectors.safetensors").stat().st_size < 300 * (12 + 4) + 1100


@pytest.mark.parametrize(
    "options",
    [
        {"method": "pca"},
        {"method": "pca", "size": 13},
        {"method": "pca", "size": 0},
        {"method": "pca", "size": 11, "remove": 2},
        {"method": "int8", "size": 3},
        {"method": "int8", "remove": 1},
        {"method": "svd"},
    ],
)
def test_what_cannot_be_asked(tmp_path, options):
    with pytest.raises(UsageError, match="--"):
        reduce_vectors(some(), tmp_path / "r", **options)
    assert list(tmp_path.iterdir()) == []


def discourse(width=6, words=200, texts=1200, length=30, seed=0):
    """Words drawn by the log-linear model of a discourse vector (Arora et al. 2016), and their true vectors."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(words, width)) * (1.5 ** -np.arange(width))
    made = []
    for _ in range(texts):
        goal = rng.normal(size=width) + np.eye(width)[0]
        odds = np.exp(matrix @ goal)
        made.append(" ".join(f"w{i}" for i in rng.choice(words, size=length, p=odds / odds.sum())))
    return [f"w{i}" for i in range(words)], matrix.astype(np.float32), made


def test_induced_vectors_are_nearer_than_the_mean_of_contexts(tmp_path):
    words, matrix, texts = discourse()
    kept, held = slice(0, 170), slice(170, 200)
    vectors = Vectors(words[kept], matrix[kept], Recipe(()), np.ones(170, np.int64))
    found = induce(vectors, texts, words[held], window=10)
    assert found.words == words[held]
    assert found.learned_on == 170
    assert found.counts.tolist() == [sum(t.split().count(w) for t in texts) for w in words[held]]
    true = unit_rows(matrix[held])
    near = (unit_rows(found.matrix) * true).sum(axis=1)
    plain = (unit_rows(found.means) * true).sum(axis=1)
    assert near.mean() > 0.9
    assert near.mean() > plain.mean() + 0.2
    add_words(vectors, found, tmp_path / "v")
    added = Vectors.load(tmp_path / "v")
    assert added.words == words
    np.testing.assert_array_equal(added.matrix[held], found.matrix)
    assert added.counts[180] == found.counts[10]


def test_context_means_equal_a_plain_loop(monkeypatch):
    words, matrix, texts = discourse(texts=40)
    vectors = Vectors(words[:150], matrix[:150], Recipe(()), np.ones(150, np.int64))
    for size in (1 << 14, 100):
        monkeypatch.setattr("nlpkit.vectors.oov.TOKENS", size)
        found = induce(vectors, texts, ["w180"], window=3)
        around = [
            vectors.vector(near)
            for split in map(str.split, texts)
            for i, word in enumerate(split)
            if word == "w180"
            for j, near in enumerate(split)
            if 0 < abs(i - j) <= 3 and near in vectors
        ]
        np.testing.assert_allclose(found.means[0], np.mean(around, axis=0), rtol=1e-4, atol=1e-6)


def test_oov_words_that_cannot_be():
    words, matrix, texts = discourse(texts=20)
    vectors = Vectors(words[:150], matrix[:150], Recipe(("lower",)), np.ones(150, np.int64))
    for word, error, says in (
        ("w3", UsageError, "'w3' has a vector already"),
        ("W3", UsageError, "'W3' has a vector already"),
        ("two words", UsageError, "more than one word"),
        ("nowhere", NotFound, "'nowhere' has no known word near it"),
    ):
        with pytest.raises(error, match=says):
            induce(vectors, texts, [word])
    with pytest.raises(DataError, match="6 or more are needed"):
        induce(vectors, ["w1 w199 w2"], ["w199"])
    with pytest.raises(UsageError, match="--window"):
        induce(vectors, texts, ["w199"], window=0)

"""Expressions over words against numpy, their faults by column; maps whose labels do not cover one another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpkit.errors import NlpkitError, NotFound, UsageError
from nlpkit.text.recipe import Recipe
from nlpkit.vectors import plotting
from nlpkit.vectors.arithmetic import Expression, answer
from nlpkit.vectors.vectors import Vectors, unit_rows

WORDS = ["king", "queen", "man", "woman", "new-york", "don't", "7", "the"]
RNG = np.random.default_rng(0)
VECTORS = Vectors(WORDS, RNG.normal(size=(8, 5)).astype(np.float32), Recipe(()), np.ones(8, np.int64))
UNIT = dict(zip(WORDS, unit_rows(VECTORS.matrix.astype(np.float64)), strict=True))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("king - man + woman", UNIT["king"] - UNIT["man"] + UNIT["woman"]),
        ("king-man+woman", UNIT["king"] - UNIT["man"] + UNIT["woman"]),
        ("king - (man - woman)", UNIT["king"] - UNIT["man"] + UNIT["woman"]),
        ("-king", -UNIT["king"]),
        ("2*king/4", UNIT["king"] / 2),
        ("king * .5 + 2 * (queen + king)", 2.5 * UNIT["king"] + 2 * UNIT["queen"]),
        ("(1 + 2) * king", 3 * UNIT["king"]),
        ("king - -queen", UNIT["king"] + UNIT["queen"]),
        ("'new-york' - don't + \"7\"", UNIT["new-york"] - UNIT["don't"] + UNIT["7"]),
    ],
)
def test_expressions(text, wanted):
    np.testing.assert_allclose(Expression(text, VECTORS).vector, wanted, atol=1e-6)


def test_an_answer_is_an_analogy():
    found = answer("king - man + woman", VECTORS, 3)
    assert [w for w, _ in found] == [w for w, _ in VECTORS.analogy("man", "king", "woman", 3)]
    assert found[0][1] == pytest.approx(VECTORS.analogy("man", "king", "woman", 1)[0][1], abs=1e-6)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("", UsageError, "column 1: expected a word, found the end"),
        ("king +", UsageError, "column 7: expected a word, found the end"),
        ("king queen", UsageError, "column 6: expected a sign or the end, found 'queen'"),
        ("(king", UsageError, r"column 6: expected '\)', found the end"),
        ("king)", UsageError, r"column 5: expected a sign or the end, found '\)'"),
        ("king * queen", UsageError, "column 6: nothing can be multiplied with a word but by a number"),
        ("2 / queen", UsageError, "column 3: nothing can be divided by a word"),
        ("king / 0", UsageError, "column 6: division by zero"),
        ("king + 2", UsageError, "column 6: a number cannot be added"),
        ("1 + 2", UsageError, "column 1: a number is no direction"),
        ("king - king", UsageError, "column 1: the sum has no direction"),
        ("king * " + "9" * 400, UsageError, "column 1: the sum has no direction"),
        ("king - 'que", UsageError, "column 8: a quote that is not closed"),
        ("(" * 300 + "king", UsageError, "column 101: over 100 parentheses"),
        ("king - quene", NotFound, "column 8: 'quene' is not among the 8 words; did you mean 'queen'"),
    ],
)
def test_faults_are_told_by_their_column(text, error, says):
    with pytest.raises(error, match=says):
        Expression(text, VECTORS)


@given(st.text(alphabet="king q'\"()+-*/17.", max_size=30))
def test_any_text_is_worked_out_or_refused(text):
    try:
        found = Expression(text, VECTORS).vector
    except NlpkitError as error:
        told = str(error)
    else:
        assert np.isfinite(found).all()
        return
    assert told.startswith("column ")


def many(rows=60, width=10):
    rng = np.random.default_rng(1)
    words = [f"a longer word {i}" if i % 7 == 0 else f"word{i}" for i in range(rows)]
    return Vectors(words, rng.normal(size=(rows, width)).astype(np.float32), Recipe(()), np.ones(rows))


def test_flat_keeps_what_pca_and_tsne_promise():
    rng = np.random.default_rng(2)
    flat_already = np.hstack([rng.normal(size=(20, 2)), np.zeros((20, 4))])
    units = unit_rows(flat_already)
    places, axes = plotting.flat(flat_already, "pca")
    apart = np.linalg.norm(units[:, None] - units, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(places[:, None] - places, axis=-1), apart, atol=1e-6)
    assert sum(float(a.split("(")[1].split(" %")[0]) for a in axes) == pytest.approx(100, abs=1)
    groups = np.repeat(np.eye(3, 6), 12, axis=0) + 0.01 * rng.normal(size=(36, 6))
    places, _ = plotting.flat(groups, "tsne")
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert (apart.argmin(axis=1) // 12 == np.arange(36) // 12).all()


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_a_map_is_written_whole(tmp_path, suffix):
    target = tmp_path / f"map.{suffix}"
    vectors = many()
    vectors.words[3] = "$x_1$"
    plotting.plot_words(
        vectors, ["$x_1$", "word4"], target, analogy=("word1", "word2", "word5", "word6"), neighbours=2
    )
    raw = target.read_bytes()
    assert raw.startswith({"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[suffix])
    if suffix == "svg":
        again = tmp_path / "again.svg"
        plotting.plot_words(
            vectors, ["$x_1$", "word4"], again, analogy=("word1", "word2", "word5", "word6"), neighbours=2
        )
        assert again.read_bytes() == raw


def test_labels_do_not_cover_one_another(tmp_path, monkeypatch):
    boxes = []
    covered = plotting._covered

    def spy(box, taken, own):
        boxes[:] = [taken]
        return covered(box, taken, own)

    monkeypatch.setattr(plotting, "_covered", spy)
    vectors = many(40)
    plotting.plot_words(vectors, vectors.words, tmp_path / "m.png")
    labels = boxes[0][40:]
    assert len(labels) == 39
    wide = np.minimum(labels[:, None, 2], labels[None, :, 2]) - np.maximum(
        labels[:, None, 0], labels[None, :, 0]
    )
    high = np.minimum(labels[:, None, 3], labels[None, :, 3]) - np.maximum(
        labels[:, None, 1], labels[None, :, 1]
    )
    areas = np.maximum(wide, 0) * np.maximum(high, 0)
    whole = np.trace(areas)
    assert (areas.sum() - whole) / 2 < 0.005 * whole


def test_maps_that_cannot_be(tmp_path):
    vectors = many(3)
    for words, name, method in (
        (["word1"], "m.svg", "pca"),
        (["word1", "word2"], "m.svg", "tsne"),
        (["word1", "word2"], "m.gif", "pca"),
        (["word1", "word2"], "m.svg", "umap"),
    ):
        with pytest.raises(UsageError):
            plotting.plot_words(vectors, words, tmp_path / name, method=method)
    with pytest.raises(NotFound, match="word9"):
        plotting.plot_words(vectors, ["word9"], tmp_path / "m.svg")
    assert list(tmp_path.iterdir()) == []

"""Evaluation against answers worked out by hand, by scipy and by plain loops."""

import numpy as np
import pytest
import scipy.stats

from nlpkit.errors import DataError
from nlpkit.metrics.correlation import spearman, spearman_resampled
from nlpkit.metrics.intervals import (
    bootstrap_mean,
    bootstrap_p,
    bootstrap_share,
    mcnemar,
    percentile_interval,
)
from nlpkit.text.recipe import Recipe
from nlpkit.vectors.evaluation import Judge, evaluate, read_test
from nlpkit.vectors.vectors import Vectors

WORDS = ["king", "queen", "man", "woman", "King", "apple", "rare"]
MATRIX = np.array(
    [[1, 1, 0], [1, -1, 0], [0, 1, 0.1], [0, -1, 0.1], [1, 0.9, 0], [0, 0, 1], [1, -1, 0.01]], np.float32
)
QUESTIONS = ": royal\nman king woman queen\nman king woman apple\n: more\nman king nobody queen\nMAN KING WOMAN QUEEN\n"


@pytest.fixture
def vectors():
    return Vectors(WORDS, MATRIX, Recipe(()), np.ones(7))


def given(tmp_path, text, name="t"):
    (tmp_path / name).write_text(text)
    return read_test(tmp_path / name)


def test_questions_by_hand(tmp_path, vectors):
    test = given(tmp_path, QUESTIONS)
    (found,) = evaluate([test], Judge(vectors))
    assert (found["items"], found["known"], found["correct"], found["accuracy"]) == (4, 3, 2, 2 / 3)
    assert found["coverage"] == 0.75
    assert [(s["section"], s["items"], s["counted"], s["correct"]) for s in found["sections"]] == [
        ("royal", 2, 2, 1),
        ("more", 2, 1, 1),
    ]
    low, high = found["interval"]
    assert 0 <= low <= 2 / 3 <= high <= 1
    (strict,) = evaluate([test], Judge(vectors, case_sensitive=True))
    assert strict["known"] == 2
    (wrong,) = evaluate([test], Judge(vectors, unknown_wrong=True))
    assert (wrong["known"], wrong["counted"], wrong["accuracy"]) == (3, 4, 0.5)
    (first,) = evaluate([test], Judge(vectors, restrict=3))
    assert (first["known"], first["accuracy"], first["interval"]) == (0, None, None)


def test_another_case_of_an_asked_word_is_no_answer(tmp_path):
    # «King» would be the nearest to king - man + woman here, but is a form of a word that was asked with.
    matrix = np.array([[1, 0.2, 0], [1, -1, 0], [0, 1, 0], [0, 0.8, 0.3], [1, 0.1, 0.3]], np.float32)
    vectors = Vectors(["king", "queen", "man", "woman", "King"], matrix, Recipe(()), np.ones(5))
    assert vectors.analogy("man", "king", "woman", 1)[0][0] == "King"
    test = given(tmp_path, ": x\nman king woman queen\n")
    assert evaluate([test], Judge(vectors))[0]["accuracy"] == 1.0
    assert evaluate([test], Judge(vectors, case_sensitive=True))[0]["accuracy"] == 0.0


def test_answers_equal_a_plain_loop(tmp_path):
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]
    vectors = Vectors(words, rng.normal(size=(60, 4)).astype(np.float32), Recipe(()), np.ones(60))
    asked = [[f"w{i}" for i in rng.permutation(50)[:3]] for _ in range(200)]
    for method in ("3cosadd", "3cosmul"):
        lines = []
        for n, (a, b, c) in enumerate(asked):
            best = next(w for w, _ in vectors.analogy(a, b, c, 60, method=method) if int(w[1:]) < 50)
            lines.append(f"{a} {b} {c} {best if n % 4 else 'w1'}")
        test = given(tmp_path, ": all\n" + "\n".join(lines))
        (found,) = evaluate([test], Judge(vectors, restrict=50, method=method))
        assert found["known"] == 200
        assert 150 <= found["correct"] < 165


def test_pairs_equal_scipy(tmp_path, vectors):
    rng = np.random.default_rng(2)
    words = [f"w{i}" for i in range(40)]
    vectors = Vectors(words, rng.normal(size=(40, 4)).astype(np.float32), Recipe(()), np.ones(40))
    pairs = [(f"w{i}", f"W{j}", int(rng.integers(6))) for i, j in rng.integers(40, size=(120, 2))]
    body = "".join(f"{a}\t{b}\t{s}\n" for a, b, s in pairs)
    test = given(tmp_path, "word1\tword2\tscore\n# a comment\n" + body + "w1\tunknown\t3\n")
    (found,) = evaluate([test], Judge(vectors))
    gold = [s for _, _, s in pairs]
    cosines = [vectors.similarity(a, b.lower()) for a, b, _ in pairs]
    assert (found["items"], found["known"]) == (121, 120)
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(gold, cosines).statistic, abs=1e-9)
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(gold, cosines).statistic, abs=1e-9)
    theirs = scipy.stats.bootstrap(
        (gold, cosines),
        lambda x, y: scipy.stats.spearmanr(x, y).statistic,
        paired=True, vectorized=False, n_resamples=500, method="percentile", rng=0,
    )  # fmt: skip
    assert found["interval"] == pytest.approx(tuple(theirs.confidence_interval), abs=0.06)
    assert evaluate([test], Judge(vectors))[0] == found
    (zero,) = evaluate([test], Judge(vectors, unknown_wrong=True))
    assert zero["spearman"] == pytest.approx(scipy.stats.spearmanr([*gold, 3], [*cosines, 0]).statistic)


def test_words_go_through_the_recipe(tmp_path):
    vectors = Vectors(["run", "walk"], MATRIX[:2], Recipe(("lower", "stem:en")), np.ones(2))
    test = given(tmp_path, "Running walks 3\nrun run 5\n")
    assert evaluate([test], Judge(vectors))[0]["known"] == 2


def test_two_vectors_on_what_both_know(tmp_path):
    rng = np.random.default_rng(4)
    words = [f"w{i}" for i in range(60)]
    good = Vectors(words, rng.normal(size=(60, 8)).astype(np.float32), Recipe(()), np.ones(60))
    noise = rng.normal(size=(50, 8)).astype(np.float32)
    bad = Vectors(words[:50], good.matrix[:50] + 3 * noise, Recipe(()), np.ones(50))
    pairs = rng.integers(60, size=(300, 2))
    lines = [f"w{i} w{j} {good.similarity(f'w{i}', f'w{j}')}" for i, j in pairs]
    test = given(tmp_path, "\n".join(lines))
    (found,) = evaluate([test], Judge(good), Judge(bad))
    against = found["against"]
    assert against["common"] == sum(max(p) < 50 for p in pairs.tolist())
    assert against["ours"] == pytest.approx(1.0)
    assert against["difference"] == pytest.approx(1.0 - against["theirs"])
    assert 0 < against["interval"][0] < against["difference"] < against["interval"][1]
    assert against["p"] < 0.001
    (same,) = evaluate([test], Judge(good), Judge(good))
    assert (same["against"]["difference"], same["against"]["p"]) == (0.0, 1.0)
    asked = [[f"w{i}" for i in rng.permutation(50)[:3]] for _ in range(60)]
    lines = [f"{a} {b} {c} {good.analogy(a, b, c, 1)[0][0]}" for a, b, c in asked]
    questions = given(tmp_path, ": x\n" + "\n".join(lines))
    (found,) = evaluate([questions], Judge(good), Judge(bad))
    right = [Judge(v).answers(questions)[1] for v in (good, bad)]
    both = [all(int(w[1:]) < 50 for w in item) for item in questions.items]
    one, two = (values[both].astype(bool) for values in right)
    exact = scipy.stats.binomtest(int((one & ~two).sum()), int((one ^ two).sum())).pvalue
    assert found["against"]["p"] == pytest.approx(exact)
    assert found["against"]["ours"] == 1.0


def test_resampled_ranks_equal_ranks_of_resamples():
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 6, 30).astype(float)
    models = np.round(gold + rng.normal(size=(2, 30)) * 3)
    drawn = np.random.default_rng(7).integers(30, size=(40, 30))
    wanted = [[spearman(gold[i], model[i]) for model in models] for i in drawn]
    np.testing.assert_allclose(spearman_resampled(gold, models, resamples=40, seed=7), wanted, atol=1e-12)


def test_the_interval_of_a_share_is_that_of_a_mean():
    assert bootstrap_share(30, 80) == pytest.approx(bootstrap_mean([1] * 30 + [0] * 50), abs=0.02)
    with pytest.raises(DataError, match="share"):
        bootstrap_share(0, 0)


def test_tests_of_difference():
    a, b = np.arange(300) % 3 > 0, np.arange(300) % 2 > 0
    wanted = scipy.stats.binomtest(int((a & ~b).sum()), int((a ^ b).sum())).pvalue
    assert mcnemar(a, b) == pytest.approx(wanted, rel=1e-9)
    assert mcnemar(a, a) == 1.0
    assert mcnemar([True] * 2000, [False] * 2000) < 1e-300
    assert bootstrap_p([0.0] * 10) == 1.0
    assert np.isnan(percentile_interval([np.nan])).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no questions"),
        (": a\n", "sections but no questions"),
        (": a\nx y z\n", ":2: four words are needed in a question, found 3"),
        ("a b 1\nc d\n", ":2: word, word and score are needed, found 2"),
        ("a b c d\n", "questions begin with a line"),
        ("a b 1\nc d x\n", ":2: the score 'x' is not a number"),
        ("a b nan\n", ":1: the score 'nan' is not finite"),
        ("word1 word2 score\n", "a header but no pairs"),
    ],
)
def test_a_bad_file_is_told_by_its_line(tmp_path, text, says):
    with pytest.raises(DataError, match=says):
        given(tmp_path, text)


def test_one_pair_has_no_correlation(tmp_path, vectors):
    (found,) = evaluate([given(tmp_path, "king man 3\n")], Judge(vectors), Judge(vectors))
    assert found["spearman"] is None
    assert found["against"]["p"] is None

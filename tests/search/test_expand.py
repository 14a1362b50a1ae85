"""RM3 on an example worked by hand, and what it leaves out."""

import pytest

from nlpkit.errors import UsageError
from nlpkit.search.bm25 import BM25
from nlpkit.search.expand import expand

FILL = [[f"x{i}"] for i in range(40)]  # so that no term of the examples is frequent
TEXTS = [["cat", "cat", "purr", "milk"], ["cat", "purr", "milk", "milk"], ["dog", "bark"], *FILL]


def over(texts, **options):
    index = BM25()
    index.add(texts)
    return index, lambda query, **more: expand(
        index, query, lambda at: [texts[i] for i in at], **options | more
    )


def test_weights_by_hand():
    index, grow = over(TEXTS)
    positions, scores = index.top(["cat", "zoo"], 10)
    assert positions.tolist() == [0, 1]
    first, second = scores / scores.sum()
    # P(t|d) is 2/4, 1/4, 1/4 in the first and 1/4, 1/4, 2/4 in the second; half of all is the query's.
    expected = {
        "cat": 0.25 + 0.5 * (first / 2 + second / 4),
        "zoo": 0.25,
        "purr": 0.5 * (first / 4 + second / 4),
        "milk": 0.5 * (first / 4 + second / 2),
    }
    assert grow(["cat", "zoo"]) == pytest.approx(expected, rel=1e-12)
    assert grow({"cat": 3.0, "zoo": 3.0}) == pytest.approx(expected, rel=1e-12)


def test_only_the_strongest_terms_of_a_document_and_of_all():
    index, grow = over(TEXTS, terms=2, weight=0.0)
    scores = index.top(["cat"], 10)[1]
    first, second = scores / scores.sum()
    # The first keeps cat 2 and milk 1 (before purr by name), the second milk 2 and cat 1.
    share = (first * 2 + second) / 3
    assert grow(["cat"]) == pytest.approx({"cat": share, "milk": 1 - share}, rel=1e-12)


def test_how_many_documents_and_which():
    index, grow = over(TEXTS, weight=0.0, documents=1)
    assert set(grow(["bark"])) == {"dog", "bark"}
    allowed = index.scores(["purr"]) < 0
    assert grow(["cat"], allowed=allowed) == {"cat": 1.0}


def test_frequent_terms_and_signs_are_left_out():
    texts = [["cat", "the", "x", "-", "c2", "w" * 21], *([["the"]] * 9), *FILL]
    grow = over(texts)[1]
    assert set(grow(["cat"])) == {"cat", "c2"}
    index = BM25()
    index.add([*texts, ["c2"], ["c2"], ["c2"], ["c2"], ["c2"]])
    assert set(expand(index, ["cat"], lambda at: [texts[i] for i in at])) == {"cat"}
    index.delete(range(50, 55))  # the documents that made it frequent
    assert set(expand(index, ["cat"], lambda at: [texts[i] for i in at])) == {"cat", "c2"}


def test_nothing_asked_or_found():
    grow = over(TEXTS)[1]
    assert grow([]) == {}
    assert grow(["bird", "bird", "fish"]) == {"bird": 2 / 3, "fish": 1 / 3}
    with pytest.raises(UsageError, match="above 0"):
        grow({"cat": 0.0})


def test_an_expanded_query_finds_what_shares_no_term_with_the_first():
    texts = [["cat", "purr"], ["cat", "purr"], ["purr", "fur"], *FILL]
    index, grow = over(texts)
    assert index.top(["cat"], 9)[0].tolist() == [0, 1]
    assert index.top(grow(["cat"]), 9)[0].tolist() == [0, 1, 2]

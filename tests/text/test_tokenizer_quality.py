"""The figures of a tokenizer: known answers, entropies, breaks of the round trip, and paired intervals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.errors import DataError
from nlpkit.text.documents import Document
from nlpkit.text.recipe import Recipe
from nlpkit.text.tokenizer import Tokenizer
from nlpkit.text.tokenizer_quality import GROUPS, evaluate, fertility_interval, renyi_efficiency, rows

TEXTS = ["the cat can't sit", "the mat", "", "naïve café the cat"] * 3


def documents(texts=TEXTS):
    return [Document(text) for text in texts]


@pytest.fixture(scope="module")
def byte_level():
    return Tokenizer.train(TEXTS, kind="bpe", vocab_size=290)


@pytest.fixture(scope="module")
def words():
    return Tokenizer.train(["the cat sat"], kind="word", vocab_size=20)


def test_known_answers(words):
    found = evaluate(documents(["the cat", "the dog the"]), words)["tokenizer"]
    assert (found["documents"], found["words"], found["tokens"], found["bytes"]) == (2, 5, 5, 18)
    assert found["vocabulary"] == 9
    assert found["fertility"] == 1
    assert found["bytes_per_token"] == 18 / 5
    assert found["unknown_rate"] == 1 / 5
    p = np.array([3, 1, 1]) / 5
    assert found["renyi_efficiency"] == pytest.approx(math.log((p**2.5).sum()) / -1.5 / math.log(9))
    # 6 special tokens aside, [UNK], the and cat were met: of the 3 ordinary ones only sat was not.
    assert found["unused_share"] == pytest.approx(1 / 3)


def test_the_round_trip_is_proved_and_its_breaks_are_shown(words, byte_level):
    found = evaluate(documents(["the cat", "the dog cat", "the  cat"]), words)["tokenizer"]["round_trip"]
    assert (found["exact"], found["broken"], found["compared_with"]) == (1, 2, "text")
    assert found["first_breaks"][0] == {"document": 2, "expected": "dog", "got": "[UNK]"}
    assert found["first_breaks"][1] == {"document": 3, "expected": " ", "got": "cat"}
    whole = evaluate(documents(), byte_level)["tokenizer"]
    assert (whole["round_trip"]["broken"], whole["unknown_rate"]) == (0, 0)
    many = evaluate(documents(["dog"] * 20), words)["tokenizer"]["round_trip"]
    assert (many["broken"], len(many["first_breaks"])) == (20, 5)


def test_with_a_normalizer_the_standardized_text_comes_back():
    lower = Tokenizer.train(TEXTS, kind="bpe", vocab_size=290, recipe=Recipe(("nfc", "lower")))
    found = evaluate(documents(["The CAT"]), lower)["tokenizer"]["round_trip"]
    assert (found["broken"], found["compared_with"]) == (0, "standardized text")
    stemmed = Tokenizer.train(["cats sat"], kind="word", vocab_size=20, recipe=Recipe(("lower", "stem:en")))
    found = evaluate(documents(["Cat"]), stemmed)["tokenizer"]["round_trip"]
    assert (found["broken"], found["compared_with"]) == (0, "standardized text")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=2, max_size=30).filter(any))
def test_efficiency_is_between_none_and_full(counts):
    value = renyi_efficiency(counts)
    assert -1e-12 <= value <= 1 + 1e-12
    assert value <= renyi_efficiency(counts, 1) + 1e-12  # the entropy falls as its order rises
    assert renyi_efficiency(counts, 1 + 1e-7) == pytest.approx(renyi_efficiency(counts, 1), abs=1e-4)


def test_uniform_and_single():
    assert renyi_efficiency([4] * 9) == pytest.approx(1)
    assert renyi_efficiency([4, 0, 0]) == 0
    assert renyi_efficiency([4]) == 0
    with pytest.raises(DataError):
        renyi_efficiency([0, 0])


def test_two_tokenizers_side_by_side(byte_level, words):
    found = evaluate(documents(), byte_level, words)
    apart = found["fertility_difference"]
    assert apart["value"] == found["tokenizer"]["fertility"] - found["against"]["fertility"]
    assert apart["low"] <= apart["value"] <= apart["high"]
    assert found["tokenizer"] == evaluate(documents(), byte_level)["tokenizer"]
    same = evaluate(documents(), byte_level, byte_level)["fertility_difference"]
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)
    assert {len(row) for row in rows(found)} == {3}


def test_the_interval_covers_as_often_as_it_says():
    draw = np.random.default_rng(0)
    hits = 0
    for seed in range(100):
        size = draw.integers(5, 20, 60)
        apart = draw.normal(0.5 * size, 3)
        low, high = fertility_interval(apart, np.zeros(60), size, resamples=300, seed=seed)
        hits += low <= 0.5 <= high
    assert 85 <= hits <= 100


def test_many_documents_are_drawn_in_groups():
    count = 3 * GROUPS + 1
    draw = np.random.default_rng(0)
    apart = draw.normal(1, 1, count)
    low, high = fertility_interval(apart, np.zeros(count), np.ones(count), resamples=200)
    assert low < apart.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(count), rel=0.3)


def test_text_without_words_is_refused(words):
    with pytest.raises(DataError, match="no words"):
        evaluate(documents(["", "  "]), words)

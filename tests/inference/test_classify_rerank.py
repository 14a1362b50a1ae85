"""Classification of a stream and scores of a cross-encoder, against one plain forward pass a text."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from nlpkit.core.batch import pad
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.inference import rerank
from nlpkit.inference.batching import by_length
from nlpkit.inference.classify import classify
from nlpkit.inference.rerank import CrossEncoder, second_text

TEXTS = ["the cat", "", "a dict maps keys to values and a list is a sequence", "café", "the dog sat"] * 9


def test_each_text_gets_the_answer_it_gets_alone(loaded: Any) -> None:
    held = loaded("classifier", labels=("no", "yes", "maybe"))
    found = list(classify(held, iter(TEXTS), batch_tokens=64))
    assert len(found) == len(TEXTS)
    for text, one in zip(TEXTS, found, strict=True):
        ids = torch.tensor(held.tokenizer.encode([text], special=True))
        with torch.no_grad():
            chance = held.model(ids)[0].softmax(-1).tolist()
        assert list(one.probabilities) == ["no", "yes", "maybe"]
        assert list(one.probabilities.values()) == pytest.approx(chance, abs=1e-5)
        assert one.probability == max(one.probabilities.values()) == one.probabilities[one.label]


def test_a_stream_is_read_as_it_is_answered(loaded: Any) -> None:
    read = []

    def endless() -> Iterator[str]:
        while True:
            read.append(1)
            yield "the cat"

    answers = classify(loaded("classifier", labels=("a", "b")), endless())
    for _ in range(5):
        next(answers)
    assert len(read) < 100


def test_long_texts_are_cut_and_counted(loaded: Any, capsys: pytest.CaptureFixture[str]) -> None:
    held = loaded("classifier", labels=("a", "b"), context=16)
    assert len(list(classify(held, ["the cat " * 50, "the cat", "the dog " * 50]))) == 3
    assert "2 texts" in capsys.readouterr().err


def test_wrong_kinds_and_labels(loaded: Any) -> None:
    with pytest.raises(UsageError, match="mlm"):
        list(classify(loaded("mlm"), ["x"]))
    held = loaded("classifier", labels=("a", "b"))
    held.labels.append("c")
    with pytest.raises(ArtifactError, match="3 label names for 2"):
        list(classify(held, ["x"]))
    assert list(classify(loaded("classifier", labels=("a", "b")), [])) == []


@pytest.fixture
def cross(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> CrossEncoder:
    held = loaded("crossencoder", family="bert", context=64)
    monkeypatch.setattr(rerank, "load_model", lambda path, device: held)
    monkeypatch.setattr(rerank.jsonfile, "read", lambda path: {"nlpkit": {"kind": "crossencoder"}})
    monkeypatch.setattr(type(held), "fingerprint", "f")
    return CrossEncoder("unused")


def test_scores_are_those_of_each_pair_alone(cross: CrossEncoder) -> None:
    texts = ["a dict maps keys to values", "cat", "the dog sat on the log", "cat"]
    scores = cross.score("the cat", texts, batch_tokens=40)
    assert scores.dtype == np.float32 and scores.shape == (4,)
    tokenizer, model = cross.loaded.tokenizer, cross.loaded.model
    assert tokenizer is not None
    for text, score in zip(texts, scores, strict=True):
        ids = torch.tensor(tokenizer.encode(["the cat"], pairs=[text], special=True))
        with torch.no_grad():
            assert float(score) == pytest.approx(float(model(ids).sigmoid()), abs=1e-5)
    assert cross.score("the cat", []).shape == (0,)


def test_long_pairs_are_cut_and_counted(cross: CrossEncoder, capsys: pytest.CaptureFixture[str]) -> None:
    cross.score("the cat", ["the dog " * 90, "cat", "on the log " * 90])
    cross.score("the cat", ["the dog " * 90])
    assert cross.truncated == 3
    assert capsys.readouterr().err.count("warning") == 1


def test_token_types_tell_the_second_text() -> None:
    ids = torch.tensor([[2, 9, 9, 3, 8, 3, 0], [2, 9, 3, 8, 8, 8, 3]])
    types = second_text(ids, (ids != 0).long(), 3)
    assert types.tolist() == [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1]]


def test_batches_hold_every_text_once_within_the_budget() -> None:
    lengths = [int(n) for n in np.random.default_rng(0).integers(0, 50, size=300)]
    batches = list(by_length(lengths, 100))
    assert sorted(i for batch in batches for i in batch) == list(range(300))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) * longest <= 100 or len(batch) == 1
    ids, segments = pad([[5, 6], []], 0)
    assert ids.tolist() == [[5, 6], [0, 0]] and segments.tolist() == [[1, 1], [0, 0]]

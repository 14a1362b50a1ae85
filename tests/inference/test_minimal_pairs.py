"""Minimal pairs: the likelier sentence wins, ties are half and counted, files of either naming are read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nlpkit.errors import DataError, UsageError
from nlpkit.inference.minimal_pairs import Pair, judge, read_pairs
from nlpkit.metrics.forced_choice import report
from nlpkit.text.tokenizer import Tokenizer

WORDS = "the cat sits sit dogs on mat"


@pytest.fixture
def biased(loaded: Any) -> Any:
    """A word model for which ``sits`` is likelier than ``sit`` wherever it stands, and all else alike."""

    def make(kind: str) -> Any:
        tokenizer = Tokenizer.train([WORDS] * 3, kind="word", vocab_size=30)
        held = replace(loaded(kind, vocab=tokenizer.vocab_size), tokenizer=tokenizer)
        bias = torch.zeros(tokenizer.vocab_size)
        bias[tokenizer.token_to_id("sits")] = 1.0
        held.model.head.register_forward_hook(lambda module, inputs, output: output * 0 + bias)
        return held

    return make


@pytest.mark.parametrize("kind", ["clm", "mlm"])
def test_the_likelier_sentence_wins(biased: Any, kind: str) -> None:
    pairs = [
        Pair("the cat sits", "the cat sit", "agreement"),
        Pair("dogs sit", "dogs sits", "agreement"),
        Pair("the cat", "the dogs", "noun"),
        Pair("on", "on", "noun"),
    ]
    judged = list(judge(biased(kind), pairs))
    assert [one.right for one in judged] == [1.0, 0.0, 0.5, 0.5]
    assert judged[0].bad.nats - judged[0].good.nats == pytest.approx(1.0, abs=1e-5)
    found = report((one.pair.group, one.right) for one in judged)
    assert found["accuracy"] == 0.5 and found["ties"] == 2 and found["pairs"] == 4
    assert found["groups"]["agreement"]["accuracy"] == 0.5 and found["groups"]["agreement"]["ties"] == 0
    assert found["groups"]["noun"]["ties"] == 2 and found["mean_of_groups"] == 0.5
    low, high = found["accuracy_interval"]
    assert 0 <= low < 0.5 < high <= 1
    assert found["groups"]["noun"]["accuracy_interval"] == [0.5, 0.5]


def test_equal_sentences_are_a_tie_under_any_model(loaded: Any) -> None:
    held = loaded("clm", depth=3)
    pairs = [Pair(f"the cat {'sat ' * n}", f"the cat {'sat ' * n}") for n in range(1, 12)]
    assert {one.right for one in judge(held, pairs)} == {0.5}


def test_files_of_both_namings(tmp_path: Path) -> None:
    tsv, jsonl = tmp_path / "pairs.tsv", tmp_path / "blimp.jsonl"
    tsv.write_text("group\tgood\tbad\nx\tthe cat sits\tthe cat sit\n")
    jsonl.write_text(json.dumps({"sentence_good": "a", "sentence_bad": "b", "UID": "u", "field": "s"}) + "\n")
    assert list(read_pairs(tsv)) == [Pair("the cat sits", "the cat sit", "x")]
    assert list(read_pairs(jsonl)) == [Pair("a", "b", "u")]


@pytest.mark.parametrize(
    ("name", "text", "error", "said"),
    [
        ("p.tsv", "good\tworse\na\tb\n", DataError, "p.tsv:2: no field 'bad'"),
        ("p.tsv", "good\tbad\na\t\n", DataError, "no sentence"),
        ("p.jsonl", '{"good": "a", "bad": 1}\n', DataError, "p.jsonl:1: field 'bad'"),
        ("p.txt", "a b\n", UsageError, "records"),
    ],
)
def test_bad_files_are_one_error(tmp_path: Path, name: str, text: str, error: Any, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(error, match=said):
        list(read_pairs(path))
    with pytest.raises(DataError, match="no pairs"):
        report([])

"""Beam search: wide enough it is exhaustive, one beam is greedy, and what it finds is worth what it says."""

import itertools
from typing import Any

import pytest
import torch

from nlpkit.errors import UsageError
from nlpkit.inference import beam, generate
from nlpkit.inference.generate import Sampling


def log_probability(held: Any, prompt: list[int], ids: list[int]) -> float:
    """The chain rule over the tokens that may be offered, written out."""
    seen, total = list(prompt), 0.0
    for token in ids:
        with torch.no_grad():
            logits = held.model(torch.tensor([seen]))[0, -1].double()
        logits[:5] = -torch.inf
        total += float(logits.log_softmax(-1)[token])
        seen.append(token)
    return total


def narrow(held: Any, allowed: list[int]) -> Any:
    """Only these tokens can follow."""
    bias = torch.full((held.tokenizer.vocab_size,), -1e4)
    bias[allowed] = 0.0
    held.model.head.register_forward_hook(lambda module, inputs, output: output + bias)
    return held


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_wide_enough_it_finds_the_best_of_all(loaded: Any, family: str, length_penalty: float) -> None:
    held = loaded("clm", family=family, context=16)
    end = held.tokenizer.eos_id
    allowed, prompt, most = [end, 60, 70, 80], [50, 51], 4
    narrow(held, allowed)
    worth = []
    for length in range(1, most + 1):
        for ids in itertools.product(allowed, repeat=length):
            if end in ids[:-1] or (length < most and ids[-1] != end):
                continue
            total = log_probability(held, prompt, list(ids))
            worth.append((total / length**length_penalty, total, [i for i in ids if i != end]))
    worth.sort(key=lambda one: -one[0])
    found = beam.search(held, prompt, 200, max_new_tokens=most, length_penalty=length_penalty)
    for one, (score, total, _) in zip(found[:20], worth[:20], strict=True):
        assert one.score == pytest.approx(score, abs=1e-4)
        assert one.log_probability == pytest.approx(total, abs=1e-4)
    assert found[0].ids == worth[0][2]


def test_one_beam_is_greedy_and_more_are_no_worse(loaded: Any) -> None:
    for seed in range(3):
        held = loaded("clm", seed=seed)
        greedy = list(generate.tokens(held, [50], max_new_tokens=12, sampling=Sampling(0)))
        (one,) = beam.search(held, [50], 1, max_new_tokens=12)
        assert one.ids == greedy
        many = beam.search(held, [50], 4, max_new_tokens=12)
        assert len(many) == 4 and [h.score for h in many] == sorted((h.score for h in many), reverse=True)
        for h in many:
            ended = [held.tokenizer.eos_id] if h.ended == "end" else []
            assert h.log_probability == pytest.approx(log_probability(held, [50], h.ids + ended), abs=1e-3)


def test_beams_go_on_past_the_context(loaded: Any) -> None:
    held = loaded("clm", context=8)
    (best, *_) = beam.search(held, [50, 60], 3, max_new_tokens=20)
    assert best.ended == "end" or len(best.ids) == 20


def test_a_stop_string_finishes_a_beam_and_is_left_out(loaded: Any) -> None:
    held = loaded("clm")
    ids = held.tokenizer.encode([" cat sat"])[0]
    narrow(held, ids)
    made = beam.complete(held, "the", 2, max_new_tokens=30, stops=["sat"])
    assert made.ended == "stop" and "sat" not in made.text and made.tokens < 30
    assert beam.complete(held, "the", 2, max_new_tokens=0).text == ""


def test_bad_settings_are_one_error(loaded: Any) -> None:
    with pytest.raises(UsageError, match="--beam"):
        beam.search(loaded("clm"), [50], 0)
    with pytest.raises(UsageError, match="mlm"):
        beam.search(loaded("mlm"), [50], 2)

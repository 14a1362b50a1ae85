"""Generation: the cache changes nothing, seeds repeat, sampling obeys its limits, text streams whole."""

from typing import Any

import pytest
import torch

from nlpkit.errors import UsageError
from nlpkit.inference import generate
from nlpkit.inference.generate import Sampling, choose, stream

GREEDY = Sampling(temperature=0)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_cached_equals_uncached_past_the_context_too(loaded: Any, family: str) -> None:
    held = loaded("clm", family=family, context=12)
    held.model.double()
    for prompt in ([7], list(range(20, 29)), list(range(20, 40))):
        with_cache = list(generate.tokens(held, prompt, max_new_tokens=30, sampling=GREEDY))
        without = list(generate.tokens(held, prompt, max_new_tokens=30, sampling=GREEDY, cached=False))
        assert with_cache == without and len(with_cache) > 5


def test_greedy_takes_the_likeliest_token_at_every_step(loaded: Any) -> None:
    held = loaded("clm", context=64)
    ids = [50, 60]
    for token in generate.tokens(held, list(ids), max_new_tokens=8, sampling=GREEDY):
        with torch.no_grad():
            logits = held.model(torch.tensor([ids]))[0, -1]
        logits[:5] = -torch.inf
        assert token == int(logits.argmax())
        ids.append(token)


def test_a_seed_repeats_and_another_differs(loaded: Any) -> None:
    held = loaded("clm")
    draws = [
        "".join(stream(held, "the cat", max_new_tokens=20, sampling=Sampling(1.5, 0, seed=seed)))
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_it_stops_at_the_end_of_text(loaded: Any) -> None:
    held = loaded("clm")
    end = held.tokenizer.eos_id
    bias = torch.zeros(held.tokenizer.vocab_size)
    bias[end] = 1e4
    held.model.head.register_forward_hook(lambda module, inputs, output: output + bias)
    assert list(generate.tokens(held, [50], max_new_tokens=5, sampling=GREEDY)) == []
    assert "".join(stream(held, "the cat", max_new_tokens=5)) == ""


def test_special_tokens_are_never_drawn(loaded: Any) -> None:
    held = loaded("clm")
    bias = torch.zeros(held.tokenizer.vocab_size)
    bias[:5] = 1e4
    held.model.head.register_forward_hook(lambda module, inputs, output: output + bias)
    drawn = list(generate.tokens(held, [50], max_new_tokens=10, sampling=Sampling(1.0, 0)))
    assert drawn and min(drawn) >= 5


def test_top_k_and_top_p_limit_the_choice() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    draw = torch.Generator().manual_seed(0)

    def seen(how: Sampling) -> set[int]:
        return {choose(logits, how, draw) for _ in range(300)}

    assert seen(Sampling(1.0, 0)) == {0, 1, 2, 3}
    assert seen(Sampling(1.0, 2)) == {0, 1}
    assert seen(Sampling(1.0, 0, 0.7)) == {0, 1}
    assert seen(Sampling(1.0, 0, 0.5)) == {0}
    assert seen(Sampling(1.0, 0, 0.01)) == {0}
    counts = (
        torch.bincount(torch.tensor([choose(logits, Sampling(1.0, 0), draw) for _ in range(4000)])) / 4000
    )
    assert counts.tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)


def test_pieces_are_whole_characters_and_join_to_the_text(
    loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = loaded("clm")
    tail = " größer 日本語 ✓ naïve and so on, the cat sat" * 2
    planned = held.tokenizer.encode([tail])[0]
    monkeypatch.setattr(generate, "tokens", lambda *a, **k: iter(planned))
    pieces = list(stream(held, "the dog"))
    assert "".join(pieces) == tail
    assert len(pieces) > 10 and not any("\ufffd" in piece for piece in pieces)
    monkeypatch.setattr(generate, "tokens", lambda *a, **k: iter(held.tokenizer.encode([" 日"])[0][:-1]))
    assert "".join(stream(held, "x")).startswith(" ")


def test_bad_settings_are_one_error(loaded: Any) -> None:
    for wrong in (
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.1},
    ):
        with pytest.raises(UsageError):
            Sampling(**wrong)
    with pytest.raises(UsageError, match="mlm"):
        list(stream(loaded("mlm"), "the"))

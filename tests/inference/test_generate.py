"""Generation: the cache changes nothing, seeds repeat, sampling obeys its limits, text streams whole."""

from typing import Any

import pytest
import torch

from nlpkit.errors import UsageError
from nlpkit.inference import generate
from nlpkit.inference.decoding import Decoding, Step
from nlpkit.inference.generate import Sampling, choose, complete, penalise, stream
from nlpkit.inference.text_stream import Stops, TextStream

GREEDY = Sampling(temperature=0)


SHAPES: list[dict[str, Any]] = [
    {"family": "llama"},
    {"family": "llama", "heads": 4, "kv_heads": 2, "depth": 3, "tied": False},
    {"family": "qwen3"},
    {"family": "qwen3", "heads": 4, "kv_heads": 2, "tied": False},
    {"family": "gpt2"},
    {"family": "gpt2", "depth": 1, "width": 24, "hidden": 40},
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_cached_equals_uncached_past_the_context_too(
    loaded: Any, shape: dict[str, Any], dtype: torch.dtype, seed: int
) -> None:
    held = loaded("clm", context=12, seed=seed, **shape)
    held.model.to(dtype)
    assert Step.fits(held.model)
    for prompt in ([7], list(range(20, 29)), list(range(20, 40))):
        with_cache = list(generate.tokens(held, prompt, max_new_tokens=30, sampling=GREEDY))
        without = list(generate.tokens(held, prompt, max_new_tokens=30, sampling=GREEDY, cached=False))
        assert with_cache == without and len(with_cache) > 5


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_is_the_models_own_forward(loaded: Any, shape: dict[str, Any]) -> None:
    held = loaded("clm", context=12, **shape)
    held.model.double()
    prompts = [[7, 20, 9], list(range(20, 29)), [50]]
    fast, slow = Decoding(held, prompts), Decoding(held, prompts, cached=False)
    for number in range(14):  # past the context of the longest, which all read again
        one, other = fast.logits(), slow.logits()
        assert torch.allclose(one, other, atol=1e-9)
        for decoding in (fast, slow):
            decoding.append(other.argmax(-1).tolist())
            if number == 3:
                decoding.select([2, 0, 2])
    assert fast.rows == slow.rows and fast.rows[0][:1] == [50]


def test_a_model_with_hooks_or_windows_is_read_by_its_own_forward(loaded: Any) -> None:
    held = loaded("clm", context=12)
    plain = list(generate.tokens(held, [7], max_new_tokens=9, sampling=GREEDY))
    handle = held.model.encoder.trunk.blocks[0].mlp.register_forward_hook(lambda m, i, output: output)
    assert not Step.fits(held.model)
    assert list(generate.tokens(held, [7], max_new_tokens=9, sampling=GREEDY)) == plain
    many = [c.text for c in complete(held, ["the cat", "a"], max_new_tokens=9, sampling=GREEDY)]
    handle.remove()
    assert many == [c.text for c in complete(held, ["the cat", "a"], max_new_tokens=9, sampling=GREEDY)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("how", [GREEDY, Sampling(1.2, 20, 0.9, 3, 0.01, 1.3)])
def test_many_prompts_together_are_each_as_alone(
    loaded: Any, family: str, dtype: torch.dtype, how: Sampling
) -> None:
    held = loaded("clm", family=family, context=16)
    held.model.to(dtype)
    prompts = ["the cat", "", "a list is a sequence of items, a dict maps", "import", "the dog sat", "a"] * 2
    alone = ["".join(stream(held, p, max_new_tokens=24, sampling=how, stops=["he"])) for p in prompts]
    for batch_tokens in (40, 8192):
        made = list(
            complete(held, prompts, max_new_tokens=24, sampling=how, stops=["he"], batch_tokens=batch_tokens)
        )
        assert [c.prompt for c in made] == prompts
        assert [c.text for c in made] == alone


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


def test_min_p_keeps_what_is_near_the_likeliest() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    draw = torch.Generator().manual_seed(0)
    for min_p, wanted in ((0.09, {0, 1, 2, 3}), (0.2, {0, 1, 2}), (0.5, {0, 1}), (1.0, {0})):
        assert {choose(logits, Sampling(1.0, 0, min_p=min_p), draw) for _ in range(300)} == wanted
    # After the temperature: at 0.5 the shares of the likeliest one's are squared.
    assert {choose(logits, Sampling(0.5, 0, min_p=0.2), draw) for _ in range(300)} == {0, 1}


def test_the_repetition_penalty_is_the_published_one(loaded: Any) -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    torch.manual_seed(0)
    logits, ids = torch.randn(3, 40), torch.randint(40, (3, 9))
    wanted = RepetitionPenaltyLogitsProcessor(1.7)(ids, logits.clone())
    for row, seen in zip(logits, ids.tolist(), strict=True):
        penalise(row, seen, 1.7)
    assert torch.equal(logits, wanted)
    held = loaded("clm")
    plain = list(generate.tokens(held, [50], max_new_tokens=40, sampling=GREEDY))
    strict = Sampling(0, repetition_penalty=1e6)
    other = list(generate.tokens(held, [50], max_new_tokens=40, sampling=strict))
    assert len(set(plain)) < len(plain) and len(set(other)) > len(set(plain))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_stop_string_ends_the_text_wherever_it_is_cut(size: int) -> None:
    for text, stops, wanted, met in [
        ("one two\n\nthree", ["\n\n"], "one two", "\n\n"),
        ("one two\nthree\n", ["\n\n"], "one two\nthree\n", ""),
        ("aaab", ["aab"], "a", "aab"),
        ("xabcz", ["bc", "abc"], "x", "abc"),
        ("xabcz", ["b", "abc"], "xa", "b"),
        ("EN END", ["END"], "EN ", "END"),
        ("EN EN", ["END"], "EN EN", ""),
        ("größer ✓ ja", ["✓"], "größer ", "✓"),
    ]:
        stopping = Stops(stops)
        out = [stopping.push(text[at : at + size]) for at in range(0, len(text), size)]
        assert "".join(out) + ("" if stopping.met else stopping.close()) == wanted
        assert stopping.met == met
        if met and size == 1:
            assert all(wanted.startswith("".join(out[:n])) for n in range(len(out)))


def test_nothing_of_a_stop_string_streams_out_across_tokens(
    loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = loaded("clm")
    planned = held.tokenizer.encode([" the cat größer END OF it END and on"])[0]
    drawn: list[int] = []

    def plan(*args: Any, **named: Any) -> Any:
        for token in planned:
            drawn.append(token)
            yield token

    monkeypatch.setattr(generate, "tokens", plan)
    pieces = list(stream(held, "the dog", stops=["END and", "ßer END  "]))
    assert "".join(pieces) == " the cat größer END OF it "
    assert len(drawn) < len(planned)  # no token is made behind it
    text = TextStream(held.tokenizer, [], ["END O"])
    assert "".join([text.push(t) for t in planned] + [text.close()]) == " the cat größer "


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
        {"min_p": -0.1},
        {"repetition_penalty": 0},
    ):
        with pytest.raises(UsageError):
            Sampling(**wrong)
    with pytest.raises(UsageError, match="mlm"):
        list(stream(loaded("mlm"), "the"))
    with pytest.raises(UsageError, match="--stop"):
        list(stream(loaded("clm"), "the", stops=[""]))
    with pytest.raises(UsageError, match="--max-new-tokens"):
        list(complete(loaded("clm"), ["the"], max_new_tokens=-1))

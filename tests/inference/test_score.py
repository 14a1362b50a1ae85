"""Scores equal sums of log-probabilities written out, whatever the batch, the window and the kind of model."""

import math
from typing import Any

import pytest
import torch

from nlpkit.errors import UsageError
from nlpkit.inference.score import Score, score, total

TEXTS = ["the cat sat on the mat", "", "a", "the dog and the naïve cat and the dog ran far away from here"]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize(("batch_tokens", "overlap"), [(8, 0), (4096, 0), (64, 3), (4096, 7)])
def test_the_chain_rule(loaded: Any, family: str, batch_tokens: int, overlap: int) -> None:
    held = loaded("clm", family=family, context=8)
    found = list(score(held, TEXTS, batch_tokens=batch_tokens, overlap=overlap))
    for text, one in zip(TEXTS, found, strict=True):
        (ids,) = held.tokenizer.encode([text])
        seen, loss = [held.tokenizer.eos_id, *ids], 0.0
        for at in range(len(ids)):
            # The window that asks for the token: the first 8, then each 8 - overlap more.
            number = 0 if at < 8 else 1 + (at - 8) // (8 - overlap)
            begin = number * (8 - overlap)
            with torch.inference_mode():
                logits = held.model(torch.tensor([seen[begin : at + 1]]))[0, -1]
            loss -= float(logits.log_softmax(-1)[ids[at]])
        assert one.nats == pytest.approx(loss, rel=1e-5)
        assert (one.tokens, one.bytes) == (len(ids), len(text.encode()))
    assert len(held.tokenizer.encode(TEXTS)[3]) > 16


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("pll", ["original", "within-word"])
def test_pseudo_log_likelihood(loaded: Any, family: str, pll: str) -> None:
    held = loaded("mlm", family=family)
    tokenizer = held.tokenizer
    found = list(score(held, TEXTS, pll=pll, batch_tokens=100))
    for text, one in zip(TEXTS, found, strict=True):
        (encoding,) = tokenizer.encodings([text])
        ids, words, loss = encoding.ids, tokenizer.raw.encode(text, add_special_tokens=False).word_ids, 0.0
        for at, token in enumerate(ids):
            masked = list(ids)
            for other in range(at, len(ids)):
                if other == at or (pll == "within-word" and words[other] == words[at]):
                    masked[other] = tokenizer.mask_id
            with torch.inference_mode():
                row = torch.tensor([[tokenizer.cls_id, *masked, tokenizer.sep_id]])
                loss -= float(held.model(row)[0, at + 1].log_softmax(-1)[token])
        assert one.nats == pytest.approx(loss, rel=1e-4)


def test_hiding_the_word_changes_words_of_several_tokens_only(loaded: Any) -> None:
    held = loaded("mlm")
    whole, split = " the", " größer"
    assert [len(ids) > 1 for ids in held.tokenizer.encode([whole, split])] == [False, True]
    first = list(score(held, [whole, split]))
    second = list(score(held, [whole, split], pll="within-word"))
    assert first[0].nats == pytest.approx(second[0].nats)
    assert abs(first[1].nats - second[1].nats) > 1e-3


@pytest.mark.parametrize("overlap", [0, 5])
def test_a_masked_model_reads_long_texts_in_windows(loaded: Any, overlap: int) -> None:
    held = loaded("mlm", family="bert", context=12)
    text = "the cat sat on the mat and the dog sat on the log " * 2
    (one,) = score(held, [text], overlap=overlap)
    (ids,) = held.tokenizer.encode([text])
    assert one.tokens == len(ids) > 20 and 0 < one.nats < math.inf
    (alone,) = score(held, [text], overlap=overlap, batch_tokens=12)
    (together,) = score(held, [text], overlap=overlap)
    assert alone.nats == pytest.approx(together.nats, rel=1e-5)


@pytest.mark.parametrize("length", [1, 9, 10, 11, 19, 20, 21, 47])
@pytest.mark.parametrize("overlap", [0, 1, 4, 9])
def test_windows_ask_for_each_token_once(length: int, overlap: int) -> None:
    from nlpkit.inference.score import _around, _behind

    ids = list(range(length))
    around = list(_around(0, ids, [], 10, overlap))
    behind = list(_behind(0, [99, *ids], 10, overlap))
    for windows, most in ((around, 10), (behind, 11)):
        assert [t for w in windows for t in w.ids[w.first : w.last]] == ids
        assert all(len(w.ids) <= most for w in windows)
    for window in behind[1:]:
        assert window.first == overlap + 1
    for window in around[1:]:
        assert window.first >= overlap // 2


def test_unlikely_text_costs_more_bits_a_byte_and_both_kinds_compare(loaded: Any) -> None:
    for kind in ("clm", "mlm"):
        held = loaded(kind)
        for parameter in held.model.parameters():
            parameter.data.zero_()
        (one,) = score(held, ["the cat sat"])
        wanted = one.tokens * math.log2(held.tokenizer.vocab_size) / len("the cat sat")
        assert one.bits_per_byte == pytest.approx(wanted, rel=1e-6)
        assert one.perplexity == pytest.approx(held.tokenizer.vocab_size, rel=1e-5)


def test_empty_texts_have_no_score_and_are_counted() -> None:
    told = total([Score(8 * math.log(2), 2, 4), Score(0.0, 0, 0), Score(0.0, 2, 4)])
    assert told["texts"] == 3 and told["empty"] == 1
    assert told["bits_per_byte"] == pytest.approx(1.0) and told["perplexity"] == pytest.approx(4.0)
    assert Score(0.0, 0, 0).record() == dict.fromkeys(("loss", "perplexity", "bits_per_byte")) | {"tokens": 0}
    assert total([])["loss"] is None


def test_few_logits_are_held_at_once(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held = loaded("clm")
    whole = [one.nats for one in score(held, TEXTS)]
    seen = []
    held.model.head.register_forward_hook(lambda m, i, output: seen.append(output.shape[0]))
    monkeypatch.setattr("nlpkit.inference.score.LOGITS", 3 * held.tokenizer.vocab_size)
    assert [one.nats for one in score(held, TEXTS)] == pytest.approx(whole)
    assert max(seen) == 3


def test_what_cannot_be_scored_is_one_error(loaded: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="classifier"):
        list(score(loaded("classifier", labels=("a", "b")), TEXTS))
    with pytest.raises(UsageError, match="--pll"):
        list(score(loaded("mlm"), TEXTS, pll="all"))
    with pytest.raises(UsageError, match="--overlap"):
        list(score(loaded("clm", context=8), TEXTS, overlap=8))


def test_unknown_tokens_are_told(loaded: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import replace

    from nlpkit.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.train(["the cat sat"] * 3, kind="word", vocab_size=20)
    held = replace(loaded("clm", vocab=tokenizer.vocab_size), tokenizer=tokenizer)
    list(score(held, ["the cat flew"]))
    assert "1 of 3 tokens" in capsys.readouterr().err

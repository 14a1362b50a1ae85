"""Perplexity: equal to the product of the chances of the tokens one by one, whatever the batch and the length."""

import math

import pytest
import torch

from nlpkit.errors import UsageError
from nlpkit.inference.loading import LoadedModel
from nlpkit.inference.perplexity import perplexity
from nlpkit.models import clm, mlm
from nlpkit.text.tokenizer import Tokenizer

TEXTS = ["the cat sat on the mat", "", "a", "the dog and the cat and the dog ran far away from here"]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("batch_tokens", [8, 4096])
def test_token_by_token(tmp_path, family, batch_tokens):
    tokenizer = Tokenizer.train(TEXTS, kind="bpe", vocab_size=280)
    torch.manual_seed(0)
    config = clm.Config(family=family, vocab=tokenizer.vocab_size, width=16, depth=2, heads=2, context=8)
    model = clm.Model(config).eval()
    found = list(
        perplexity(LoadedModel("clm", model, tokenizer, tmp_path, []), TEXTS, batch_tokens=batch_tokens)
    )
    wanted = []
    for ids in tokenizer.encode(TEXTS):
        seen, loss = [tokenizer.eos_id, *ids], 0.0
        for at, token in enumerate(ids):
            begin = at // 8 * 8  # the piece that the token is predicted in
            with torch.inference_mode():
                logits = model(torch.tensor([seen[begin : at + 1]]))[0, -1]
            loss -= float(logits.log_softmax(-1)[token])
        wanted.append(math.exp(loss / len(ids)) if ids else math.inf)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert len(tokenizer.encode(TEXTS)[3]) > 8


def test_another_kind_of_model(tmp_path):
    tokenizer = Tokenizer.train(TEXTS, kind="bpe", vocab_size=280)
    model = mlm.Model(mlm.Config(vocab=tokenizer.vocab_size, width=16, depth=1, heads=2))
    with pytest.raises(UsageError, match="mlm"):
        list(perplexity(LoadedModel("mlm", model, tokenizer, tmp_path, []), TEXTS))

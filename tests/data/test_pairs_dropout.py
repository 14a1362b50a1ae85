"""Token dropout leaves tokens out anew at each step, purely, and never from what is measured on."""

import torch

from nlpkit.data.pairs import PairData, Pairs, PairsConfig
from nlpkit.text.tokenizer import Tokenizer


def test_token_dropout() -> None:
    words = [f"w{i}" for i in range(60)]
    texts = [" ".join(words[i : i + 20]) for i in range(40)]
    tokenizer = Tokenizer.train(texts, kind="word", vocab_size=100)
    pairs = Pairs(texts, texts, None)

    def made(share: float) -> PairData:
        config = PairsConfig(batch_size=40, token_dropout=share)
        return PairData(pairs, pairs, tokenizer, config, seed=1)

    whole, thin = made(0.0), made(0.5)
    size = whole.batch(0)[0]["query_segments"].sum().item()
    assert size == 40 * 22
    first = thin.batch(0)[0]
    assert 0.4 < first["query_segments"].sum().item() / size < 0.7
    assert torch.equal(first["query_ids"], thin.batch(0)[0]["query_ids"])
    assert not torch.equal(first["query_ids"], first["doc_ids"])
    assert (first["query_ids"][:, 0] == tokenizer.cls_id).all()
    assert next(iter(thin.valid()))["query_segments"].sum().item() == size

"""Folders that transformers wrote (no seal, no key of ours) answer as transformers' own models do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nlpkit.inference.classify import classify
from nlpkit.inference.embed import load_encoder
from nlpkit.inference.fill_mask import fill
from nlpkit.inference.generate import Sampling, tokens
from nlpkit.inference.loading import load_model
from nlpkit.inference.rerank import CrossEncoder, second_text

transformers = pytest.importorskip("transformers")
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture
def foreign(loaded: Any, tmp_path: Path) -> Any:
    """``foreign(class name, config)`` → (their model, its saved folder, the tokenizer)."""
    tokenizer = loaded("mlm").tokenizer

    def make(name: str, config: Any) -> tuple[Any, Path, Any]:
        torch.manual_seed(0)
        model = getattr(transformers, name)(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        folder = tmp_path / name
        model.save_pretrained(folder)
        tokenizer.export(folder)
        return model, folder, tokenizer

    return make


def bert(tokenizer_size: int, **more: Any) -> Any:
    return transformers.BertConfig(vocab_size=tokenizer_size, max_position_embeddings=64, **SHAPE, **more)


@torch.no_grad()
def test_fill_mask_and_classify(foreign: Any, loaded: Any) -> None:
    size = loaded("mlm").tokenizer.vocab_size
    model, folder, tokenizer = foreign("BertForMaskedLM", bert(size))
    ids = tokenizer.encode(["the cat[MASK] on the mat"], special=True)[0]
    chance = model(torch.tensor([ids])).logits[0, ids.index(tokenizer.mask_id)].softmax(-1)
    for one in next(fill(load_model(folder), ["the cat <MASK> on the mat"], 5)).masks[0]:
        assert one.probability == pytest.approx(float(chance[one.id]), rel=1e-4)
    names = {0: "x", 1: "y", 2: "z"}
    model, folder, _ = foreign("BertForSequenceClassification", bert(size, id2label=names))
    chance = model(torch.tensor(tokenizer.encode(["the cat"], special=True))).logits[0].softmax(-1)
    found = next(classify(load_model(folder), ["the cat"])).probabilities
    assert found == pytest.approx(dict(zip("xyz", chance.tolist(), strict=True)), abs=1e-5)


@torch.no_grad()
def test_a_published_cross_encoder_sees_token_types(foreign: Any, loaded: Any) -> None:
    size = loaded("mlm").tokenizer.vocab_size
    model, folder, tokenizer = foreign("BertForSequenceClassification", bert(size, num_labels=1))
    ids = torch.tensor(tokenizer.encode(["the cat"], pairs=["a list"], special=True))
    types = second_text(ids, torch.ones_like(ids), tokenizer.sep_id)
    expected = float(model(input_ids=ids, token_type_ids=types).logits.sigmoid())
    assert CrossEncoder(folder).score("the cat", ["a list"])[0] == pytest.approx(expected, abs=1e-5)
    assert float(model(input_ids=ids).logits.sigmoid()) != pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_embed_takes_the_mean_where_a_folder_says_nothing(foreign: Any, loaded: Any) -> None:
    model, folder, tokenizer = foreign("BertModel", bert(loaded("mlm").tokenizer.vocab_size))
    hidden = (
        model(input_ids=torch.tensor(tokenizer.encode(["the cat"], special=True)))
        .last_hidden_state[0]
        .mean(0)
    )
    row = load_encoder(folder).encode(["the cat"])[0]
    assert row == pytest.approx((hidden / hidden.norm()).numpy(), abs=1e-5)
    assert np.linalg.norm(row) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("family", ["GPT2", "Llama", "Qwen3"])
def test_greedy_text_is_that_of_transformers(foreign: Any, loaded: Any, family: str) -> None:
    size, ends = loaded("mlm").tokenizer.vocab_size, {"bos_token_id": 5, "eos_token_id": 5}
    if family == "GPT2":
        config = transformers.GPT2Config(
            vocab_size=size, n_embd=16, n_layer=2, n_head=2, n_positions=64, **ends
        )
    else:
        more = {"head_dim": 8, "num_key_value_heads": 1} if family == "Qwen3" else {}
        kind = getattr(transformers, f"{family}Config")
        config = kind(vocab_size=size, max_position_embeddings=64, **SHAPE, **ends, **more)
    model, folder, tokenizer = foreign(
        "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM", config
    )
    prompt = tokenizer.encode(["the cat"])[0]
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(12):
            logits = model(torch.tensor([ids])).logits[0, -1]
            logits[:5] = -torch.inf
            ids.append(int(logits.argmax()))
            if ids[-1] == 5:
                ids.pop()
                break
    held = load_model(folder)
    assert (
        list(tokens(held, prompt, max_new_tokens=12, sampling=Sampling(temperature=0))) == ids[len(prompt) :]
    )

"""Small models that are not trained, and a tokenizer, shared by the tests of inference."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nlpkit import registry
from nlpkit.inference.loading import LoadedModel
from nlpkit.text.tokenizer import Tokenizer

TEXT = [
    "the cat sat on the mat and the dog sat on the log",
    "a list is a sequence of items, a dict maps keys to values",
    "naïve café, größer: unicode is read as bytes",
    "import math; print(math.pi)",
] * 4


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXT, kind="bpe", vocab_size=330)


@pytest.fixture(scope="session")
def loaded(tokenizer: Tokenizer) -> Any:
    """``loaded(kind, **sizes)``: a LoadedModel with random weights, large enough to matter."""

    def make(kind: str, *, seed: int = 0, labels: tuple[str, ...] = (), **sizes: Any) -> LoadedModel:
        torch.manual_seed(seed)
        module = registry.module(kind)
        shape = {"vocab": tokenizer.vocab_size, "width": 16, "depth": 2, "heads": 2, "context": 64, **sizes}
        if labels:
            shape["labels"] = labels
        model = module.Model(module.Config(**shape)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return LoadedModel(kind, model, tokenizer, Path(f"model-{kind}"), list(labels))

    return make

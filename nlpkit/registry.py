"""Every model by name: its module, its task and one line. Strings only, so that listing them imports nothing."""

from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from nlpkit.errors import UsageError, did_you_mean


class Entry(NamedTuple):
    """Where a model lives and what it is for."""

    module: str
    task: str
    summary: str


MODELS: dict[str, Entry] = {
    "mlm": Entry("nlpkit.models.mlm", "language", "masked language model (BERT, ModernBERT)"),
    "clm": Entry("nlpkit.models.clm", "language", "next-token language model (GPT-2, Llama, Qwen3)"),
    "classifier": Entry("nlpkit.models.classifier", "text classification", "text classifier on [CLS]"),
    "biencoder": Entry("nlpkit.models.biencoder", "search", "one vector a text, trained on pairs"),
    "crossencoder": Entry("nlpkit.models.crossencoder", "search", "scores a query and a text read together"),
    "cnn": Entry("nlpkit.models.cnn", "image classification", "small convolutional classifier"),
    "vit": Entry("nlpkit.models.vit", "image classification", "vision transformer"),
    "vae": Entry("nlpkit.models.vae", "image generation", "variational autoencoder"),
}


def entry(name: str) -> Entry:
    """The registry line of ``name``, or a usage error with the nearest name."""
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}{did_you_mean(name, MODELS)} (see: nlpkit models)")
    return MODELS[name]


def module(name: str) -> ModuleType:
    """The imported module of a model: it has ``Config`` and ``Model``."""
    return import_module(entry(name).module)

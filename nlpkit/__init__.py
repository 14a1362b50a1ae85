"""nlpkit: from raw text to a trained model and a working semantic search.

The public Python API is six names, each loaded on first use, so that ``import nlpkit`` costs nothing:
``Index``, ``Tokenizer``, ``Vectors``, ``load_model``, ``train``, ``evaluate``.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Index", "Tokenizer", "Vectors", "evaluate", "load_model", "train"]

if TYPE_CHECKING:
    from nlpkit.api import evaluate, load_model, train
    from nlpkit.search.index import Index
    from nlpkit.text.tokenizer import Tokenizer
    from nlpkit.vectors.vectors import Vectors

_HOME = {
    "Index": "nlpkit.search.index",
    "Tokenizer": "nlpkit.text.tokenizer",
    "Vectors": "nlpkit.vectors.vectors",
    "load_model": "nlpkit.api",
    "train": "nlpkit.api",
    "evaluate": "nlpkit.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nlpkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

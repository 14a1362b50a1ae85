"""Texts of many lengths → batches of a bounded size, so that results can go back in the order of the input.

Shapes: N texts, B batch, T tokens. Texts of like length share a batch, so little padding is computed; sorting
happens inside windows of the stream, so that memory stays bounded and results keep flowing.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import nn

from nlpkit.core.text_encoder import TextConfig, TextEncoder
from nlpkit.errors import ArtifactError
from nlpkit.text.documents import batches
from nlpkit.text.tokenizer import Tokenizer

T = TypeVar("T")

WINDOW = 4096  # texts that are held and sorted at once
BATCH_TOKENS = 8192  # padded tokens of one batch
MAX_ROWS = 256  # texts of one batch, however short


def windows(items: Iterable[T], size: int = WINDOW) -> Iterator[list[T]]:
    """Consecutive lists: short at first, so that a pipe sees results soon, then doubling up to ``size``.

    >>> [len(window) for window in windows(range(100), 64)]
    [16, 32, 52]
    """
    return batches(items, first=min(16, size), most=size)


def by_length(lengths: Sequence[int], batch_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Indices of texts in batches of like length, longest first; rows x longest row stays within the budget.

    A text longer than the budget is a batch of its own. Every index appears once.

    >>> list(by_length([2, 9, 3], batch_tokens=9))
    [[1], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    while start < len(order):
        rows = max(1, min(MAX_ROWS, batch_tokens // max(1, lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


def trunk_of(model: nn.Module) -> TextEncoder:
    """The text network inside a model with a head; ArtifactError for a model that reads no text."""
    for module in model.modules():
        if isinstance(module, TextEncoder):
            return module
    raise ArtifactError("this model has no text encoder: it does not read text")


def text_config(model: nn.Module) -> TextConfig:
    """The architecture of a text model: its context length among others."""
    return trunk_of(model).config


def special_ids(tokenizer: Tokenizer, *roles: str) -> set[int]:
    """The ids of those of the named special tokens (pad, unk, cls, sep, mask, eos) that a tokenizer has."""
    found = set()
    for role in roles:
        try:
            found.add(int(getattr(tokenizer, f"{role}_id")))
        except ArtifactError:
            continue
    return found


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device

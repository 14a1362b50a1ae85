"""How a model's weights begin, beside its own random start: at those of another model, or at word vectors.

Shapes: T tokens of a tokenizer, V ≥ T rows of a table, W its width.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nlpkit.core.folder import load_trunk


def from_model(model: nn.Module, folder: Path) -> str:
    """Copy the weights that fit from a model folder; what was copied and what starts fresh, in words."""
    copied, fresh = load_trunk(model, folder)
    left = f"; starting fresh: {', '.join(fresh[:6])}{' …' if len(fresh) > 6 else ''}" if fresh else ""
    return f"{len(copied)} tensors copied{left}"


def embedding_of(model: nn.Module) -> Tensor:
    """The token embedding (V, W) of a text model, its memory shared and no gradient recorded.

    A language model's output is the same table where they are tied.
    """
    encoder: Any = model.encoder
    table: Tensor = encoder.embed.token.weight.detach()
    return table


def from_rows(model: nn.Module, rows: np.ndarray, ids: np.ndarray) -> None:
    """Give the tokens ``ids`` (K,) their rows (K, W); the other tokens, and an untied output, stay as they are."""
    embedding_of(model)[torch.from_numpy(ids)] = torch.from_numpy(rows)

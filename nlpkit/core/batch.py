"""The only currency between data, models and training: named tensors.

Text: ``input_ids`` (B, T), ``segments`` (B, T; 0 padding, equal numbers see one another), ``labels``. Pairs:
``query_ids``, ``query_segments``, ``doc_ids``, ``doc_segments``, ``doc_key`` (B,). Images: ``pixels`` (B, C, H, W)
in [0, 1], ``labels`` (B,).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Batch = dict[str, Tensor]

IGNORE = -100  # the label of a token that is not scored


def pad(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Id lists as ``(input_ids, segments)``, int64 (B, T) with T the longest row; segments: 1 on tokens, else 0.

    >>> pad([[5, 6], [7]], 0)[1].tolist()
    [[1, 1], [1, 0]]
    """
    ids = np.full((len(rows), max(map(len, rows), default=1) or 1), pad_id, np.int64)
    segments = np.zeros_like(ids)
    for r, row in enumerate(rows):
        ids[r, : len(row)] = row
        segments[r, : len(row)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(segments).to(device)

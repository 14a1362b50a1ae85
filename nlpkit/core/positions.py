"""Positions: counted inside each segment, then rotary (Su et al. 2021) or sinusoidal (Vaswani et al. 2017).

Shapes: B batch, T tokens, D width, d width of a head.
"""

import torch
from torch import Tensor

from nlpkit.core.cache import Cache


def positions_in(
    segments: Tensor | None, length: int, cache: Cache | None = None, device: torch.device | None = None
) -> Tensor:
    """The place of each token in its segment, (B, T) int64, or (1, T) where there is one segment.

    With a cache a token goes on counting behind the cached tokens of its segment.

    >>> positions_in(torch.tensor([[1, 1, 1, 2, 2, 0]]), 6)
    tensor([[0, 1, 2, 0, 1, 0]])
    """
    past = cache.length if cache is not None else 0
    before = cache.segments if cache is not None else None
    if segments is None and before is None:
        return torch.arange(past, past + length, device=device)[None]
    if not past or cache is None:
        assert segments is not None
        index = torch.arange(length, device=segments.device).expand_as(segments)
        start = torch.zeros_like(segments, dtype=torch.bool)
        start[:, 1:] = segments[:, 1:] != segments[:, :-1]
        return index - torch.cummax(index * start, 1).values
    seen = cache.joined(segments, length)
    earlier = torch.ones(length, past + length, dtype=torch.bool, device=seen.device).tril(past - 1)
    return ((seen[:, past:, None] == seen[:, None, :]) & earlier).sum(-1)


def rotary_table(positions: Tensor, dim: int, base: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B|1, 1, T, d/2). The angles are float32, as in the published checkpoints."""
    inverse = 1.0 / base ** (torch.arange(0, dim, 2, dtype=torch.float32, device=positions.device) / dim)
    angles = positions[:, None, :, None].float() * inverse
    return angles.cos().to(dtype), angles.sin().to(dtype)


def sinusoidal(positions: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """The fixed sine and cosine positions (B|1, T, D) of Vaswani et al. 2017, §3.5."""
    even = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device)
    angles = positions[..., None].float() / 10_000.0 ** (even / width)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)[..., :width].to(dtype)

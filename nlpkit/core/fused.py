"""What a block computes around its matrix products, in few passes over memory; and products of one input made as one.

Shapes: B batch, H heads, T tokens, d width of a head, D width. Beside fast matrix units these passes are what a step
waits for. Where a block is compiled the compiler does the same, and the plain formulas are what it is given.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOGETHER = 256  # tokens from which joining weights costs less than reading the input again


def side_by_side(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """Each linear layer of x (B, T, D), in training as one product: (B, T, outputs of the layer) each."""
    if not torch.is_grad_enabled() or x.shape[:-1].numel() < TOGETHER:
        return tuple(layer(x) for layer in layers)
    weight = torch.cat(tuple(layer.weight for layer in layers))
    biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
    made = F.linear(x, weight, torch.cat(tuple(biases)) if biases else None)
    return made.split([layer.out_features for layer in layers], -1)


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (x_i, x_{i+d/2}) of x (B, H, T, d) by the angle of its position (Su et al. 2021).

    ``table``: the cosines and the sines, (B|1, 1, T, d/2) each.
    """
    cos, sin = table
    if torch.compiler.is_compiling() or x.dtype != cos.dtype:
        first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
    return _Rotation.apply(x, cos, sin)


def _turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, way: int) -> Tensor:
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-way)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin, value=way)
    return out


class _Rotation(torch.autograd.Function):
    """The gradient is turned back. Heads lie together behind it, and tokens lie together before it: no copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, x.new_empty(x.shape), 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        batch, heads, length, width = grad.shape
        out = grad.new_empty(batch, length, heads, width).transpose(1, 2)
        cos, sin = ctx.saved_tensors
        return _turn(grad, cos, sin, out, -1), None, None


class RMSNorm(nn.RMSNorm):
    """x / √(mean x² + ε) · gain over the last axis (Zhang & Sennrich 2019).

    >>> [round(unit, 4) for unit in RMSNorm(2, eps=0.0)(torch.tensor([3.0, 4.0])).tolist()]
    [0.8485, 1.1314]
    """

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        if self.weight is not None and x.dtype != self.weight.dtype:  # autocast: the mean needs its digits
            return self.forward(x.to(self.weight.dtype)).to(x.dtype)
        if self.weight is None or torch.compiler.is_compiling():
            return super().forward(x)
        return _RootMeanSquare.apply(x, self.weight, self.eps or 0.0)


class _RootMeanSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, gain, scale)
        return (x * scale).mul_(gain)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        x, gain, scale = ctx.saved_tensors
        unit = x * scale
        d_gain = (grad * unit).flatten(0, -2).sum(0)
        inner = grad * gain
        along = (inner * unit).sum(-1, keepdim=True).div_(x.shape[-1])
        return unit.mul_(along).neg_().add_(inner).mul_(scale), d_gain, None

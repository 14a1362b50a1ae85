"""Convolutional parts for images.

Shapes: B batch, C channels, H height, W width.
"""

import math

from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Convolution 3×3, GroupNorm (Wu & He 2018), ReLU: (B, C, H, W) → (B, C', H, W).

    GroupNorm looks at one image at a time, so that micro-batches, batches and evaluation agree.
    """

    def __init__(self, inside: int, outside: int, groups: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(math.gcd(groups, outside), outside)
        self.activation = nn.ReLU()
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H, W)."""
        return self.activation(self.norm(self.conv(x)))

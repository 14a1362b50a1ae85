"""An image as a sequence of patches, read by a transformer (Dosovitskiy et al. 2021, "ViT").

Shapes: B batch, C channels, P pixels of a patch's side, N = (size / P)² patches, D width.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nlpkit.core.transformer import Transformer, TransformerConfig


@dataclass(frozen=True)
class ImageConfig:
    """Everything that decides the shape and the arithmetic of an image network."""

    size: int  # height and width of an image, pixels
    patch: int  # and of a patch
    in_channels: int = 3
    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    family: str = "vit"
    tied: bool = False  # no output shares an embedding

    def __post_init__(self) -> None:
        if min(self.size, self.patch, self.in_channels, self.trunk.width, self.trunk.mlp.hidden) < 1:
            raise ValueError("size, patch, in_channels, width and hidden must be positive")
        if self.size % self.patch:
            raise ValueError(f"patches of {self.patch} pixels do not divide images of {self.size}")

    @property
    def patches(self) -> int:
        """How many patches an image has."""
        return (self.size // self.patch) ** 2


class PatchEmbedding(nn.Module):
    """Pixels (B, C, H, W) → [CLS] and the patches with their learned positions, (B, 1 + N, D)."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        width = config.trunk.width
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, 1 + config.patches, width))
        self.patch = nn.Conv2d(config.in_channels, width, config.patch, stride=config.patch)
        self.dropout = nn.Dropout(config.trunk.dropout)
        for weight in (self.position, self.patch.weight):
            nn.init.trunc_normal_(weight, 0.0, 0.02)
        nn.init.zeros_(self.patch.bias)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> Tensor:
        """The embedded sequence."""
        x = self.patch(pixels).flatten(2).transpose(1, 2)  # (B, N, D), rows of the image from the top
        x = torch.cat((self.cls.expand(len(x), -1, -1).to(x.dtype), x), 1)
        return self.dropout(x + self.position)


class ImageEncoder(nn.Module):
    """Pixels (B, C, H, W) → hidden states (B, 1 + N, D), that of [CLS] first.

    >>> encoder = ImageEncoder(ImageConfig(8, 4, 1, TransformerConfig(width=8, depth=1)))
    >>> encoder(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = PatchEmbedding(config)
        self.trunk = Transformer(config.trunk)

    def forward(self, pixels: Tensor) -> Tensor:
        """The hidden states."""
        return self.trunk(self.embed(pixels))

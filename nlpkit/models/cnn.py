"""Small convolutional classifier (LeCun et al. 1998, with GroupNorm and global pooling).

Shapes: B batch, C channels, H height, W width, L labels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpkit.core.batch import Batch
from nlpkit.core.conv import ConvBlock
from nlpkit.core.seeded import seeded
from nlpkit.errors import DataError, UsageError


@dataclass(frozen=True)
class Config:
    """The images and the network: one stage of two convolutions a width, halving the image between stages."""

    in_channels: int = 1
    size: int = 28  # height and width of an image, pixels
    channels: tuple[int, ...] = (32, 64, 128)
    labels: tuple[str, ...] = tuple("0123456789")
    dropout: float = 0.1


class Model(nn.Module):
    """Convolution stages, a mean over the image, a linear layer.

    >>> model = Model(Config(size=8, channels=(8, 16)))
    >>> model(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        if len(config.labels) < 2 or not config.channels:
            raise UsageError("a cnn needs two labels or more and one stage or more (channels)")
        if config.size >> (len(config.channels) - 1) < 1:
            raise UsageError(
                f"{len(config.channels)} stages halve {config.size} pixels away: use fewer channels"
            )
        self.config = config
        stages: list[nn.Module] = []
        inside = config.in_channels
        for i, outside in enumerate(config.channels):
            if i:
                stages.append(nn.MaxPool2d(2))
            stages += [ConvBlock(inside, outside), ConvBlock(outside, outside)]
            inside = outside
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(inside, len(config.labels))

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, C, H, W) in [0, 1] → logits (B, L)."""
        c = self.config
        if tuple(pixels.shape[1:]) != (c.in_channels, c.size, c.size):
            raise DataError(
                f"images of shape {tuple(pixels.shape[1:])}, the model reads {(c.in_channels, c.size, c.size)}"
            )
        x = self.stages(pixels - 0.5).mean((2, 3))
        return self.classifier(self.dropout(x))

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Mean cross-entropy in nats and accuracy over the images; ``labels`` (B,)."""
        with seeded(generator, self.config.dropout if self.training else 0.0):
            logits = self(batch["pixels"])
        labels = batch["labels"]
        hits = (logits.detach().argmax(-1) == labels).float().mean()
        count = torch.tensor(float(labels.numel()), device=logits.device)
        return {"loss": F.cross_entropy(logits.float(), labels), "count": count, "accuracy": hits}

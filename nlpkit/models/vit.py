"""Vision transformer: a classifier of images read as patches (Dosovitskiy et al. 2021).

Shapes: B batch, C channels, H height, W width, D width of the network, L labels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpkit.core.batch import Batch
from nlpkit.core.families import initialize
from nlpkit.core.image_encoder import ImageConfig, ImageEncoder
from nlpkit.core.seeded import seeded
from nlpkit.core.transformer import AttentionConfig, MlpConfig, NormConfig, TransformerConfig
from nlpkit.errors import DataError, UsageError


@dataclass(frozen=True)
class Config:
    """The images and the network; images are taken as (pixels - mean) / std."""

    in_channels: int = 1
    size: int = 28  # height and width of an image, pixels
    patch: int = 4  # of a patch; it divides size
    width: int = 64
    depth: int = 4
    heads: int = 4
    hidden: int | None = None  # of the MLP; None: 4 · width
    activation: Literal["gelu", "gelu_tanh", "silu", "relu"] = "gelu"
    eps: float = 1e-12
    labels: tuple[str, ...] = tuple("0123456789")
    dropout: float = 0.0
    mean: tuple[float, ...] = (0.5,)  # one for all channels, or one a channel
    std: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        if any(len(values) not in (1, self.in_channels) for values in (self.mean, self.std)):
            raise ValueError(f"mean and std take one number, or one for each of {self.in_channels} channels")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std}: must be above 0")

    def architecture(self) -> ImageConfig:
        """The complete architecture; UsageError for sizes that do not fit each other."""
        hidden = 4 * self.width if self.hidden is None else self.hidden
        try:
            trunk = TransformerConfig(
                self.width,
                self.depth,
                AttentionConfig(self.heads),
                NormConfig(eps=self.eps),
                MlpConfig(hidden, self.activation),
                dropout=self.dropout,
            )
            return ImageConfig(self.size, self.patch, self.in_channels, trunk)
        except ValueError as error:
            raise UsageError(f"vit: {error}") from error


class Model(nn.Module):
    """Patches, a stack of transformer blocks, a linear layer on [CLS].

    >>> model = Model(Config(size=8, width=8, depth=1, heads=2))
    >>> model(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        if len(config.labels) < 2:
            raise UsageError("a vit needs two labels or more")
        self.config = config
        self.encoder = ImageEncoder(config.architecture())
        self.classifier = nn.Linear(config.width, len(config.labels))
        initialize(self)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, C, H, W) in [0, 1] → logits (B, L)."""
        c = self.config
        if tuple(pixels.shape[1:]) != (c.in_channels, c.size, c.size):
            raise DataError(
                f"images of shape {tuple(pixels.shape[1:])}, the model reads {(c.in_channels, c.size, c.size)}"
            )
        mean, std = (pixels.new_tensor(values).view(-1, 1, 1) for values in (c.mean, c.std))
        return self.classifier(self.encoder((pixels - mean) / std)[:, 0])

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Mean cross-entropy in nats and accuracy over the images; ``labels`` (B,)."""
        with seeded(generator, self.config.dropout if self.training else 0.0):
            logits = self(batch["pixels"])
        labels = batch["labels"]
        hits = (logits.detach().argmax(-1) == labels).float().mean()
        count = torch.tensor(float(labels.numel()), device=logits.device)
        return {"loss": F.cross_entropy(logits.float(), labels), "count": count, "accuracy": hits}

"""Bi-encoder: one unit vector a text, so that a query lies near its documents (Reimers & Gurevych 2019).

Shapes: B batch, T tokens, D width.

Trained by InfoNCE with the other documents of the batch as negatives (multiple negatives ranking, Henderson et
al. 2017, §4; van den Oord et al. 2018, §2.3), in both directions: query → document and document → query.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpkit.core.batch import Batch
from nlpkit.core.families import Sizes, initialize
from nlpkit.core.heads import pool
from nlpkit.core.seeded import seeded
from nlpkit.core.text_encoder import TextEncoder
from nlpkit.errors import UsageError


@dataclass(frozen=True)
class Config(Sizes):
    """Sizes of the shared encoder, its pooling, and the temperature of the softmax over cosines."""

    pooling: Literal["mean", "cls", "last"] = "mean"
    temperature: float = 0.05


class Model(nn.Module):
    """One encoder for queries and documents.

    >>> model = Model(Config(vocab=16, width=8, depth=1, heads=2))
    >>> model.encode(torch.tensor([[2, 7, 3]])).norm(dim=-1).round(decimals=4)
    tensor([1.], grad_fn=<RoundBackward1>)
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.temperature <= 0:
            raise UsageError(f"temperature must be positive, not {config.temperature}")
        self.config = config
        self.text = config.architecture()
        self.encoder = TextEncoder(self.text)
        initialize(self)

    def encode(self, input_ids: Tensor, segments: Tensor | None = None) -> Tensor:
        """The unit vectors of the texts, (B, T) → (B, D)."""
        hidden = self.encoder(input_ids, segments)
        return F.normalize(pool(hidden, segments, self.config.pooling).float(), dim=-1)

    def forward(self, input_ids: Tensor, segments: Tensor | None = None) -> Tensor:
        """The same as :meth:`encode`."""
        return self.encode(input_ids, segments)

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Mean InfoNCE of both directions in nats, and how often the right document is the nearest of the batch.

        Row i of queries and documents is a pair. ``doc_key`` (B,), where given, tells which rows hold the same
        document: such rows are no negatives of one another. As the negatives are the batch, the loss of a batch
        is not the mean of its parts' losses.
        """
        with seeded(generator, self.text.trunk.dropout if self.training else 0.0):
            queries = self.encode(batch["query_ids"], batch.get("query_segments"))
            documents = self.encode(batch["doc_ids"], batch.get("doc_segments"))
        # In float32 even under autocast: bfloat16 knows cosines to 1/256, which the temperature makes 20 times coarser.
        with torch.autocast(queries.device.type, enabled=False):
            scores = queries @ documents.T / self.config.temperature  # (B, B)
        target = torch.arange(len(scores), device=scores.device)
        if "doc_key" in batch:
            key = batch["doc_key"]
            same = (key[:, None] == key[None, :]) & (target[:, None] != target[None, :])
            scores = scores.masked_fill(same, -torch.inf)
        loss = (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2
        hits = (scores.detach().argmax(-1) == target).float().mean()
        return {
            "loss": loss,
            "count": torch.tensor(float(len(scores)), device=scores.device),
            "accuracy": hits,
        }

"""Text classifier: a label from the vector of [CLS] (Devlin et al. 2019, §4.1).

Shapes: B batch, T tokens, D width, L labels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpkit.core.batch import Batch
from nlpkit.core.families import Sizes, initialize
from nlpkit.core.heads import ClassifierHead, Pooling
from nlpkit.core.seeded import seeded
from nlpkit.core.text_encoder import TextEncoder
from nlpkit.errors import UsageError


@dataclass(frozen=True)
class Config(Sizes):
    """Sizes of the network, the names of the labels, and how a text becomes one vector."""

    labels: tuple[str, ...] = ()
    head_dropout: float = 0.1
    pooling: Pooling | None = None  # None: the first token ([CLS]); in causal families the last


class Model(nn.Module):
    """A text encoder with a classification head.

    >>> model = Model(Config(vocab=16, width=8, depth=1, heads=2, labels=("no", "yes")))
    >>> model(torch.tensor([[2, 7, 3]])).shape
    torch.Size([1, 2])
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        if len(config.labels) < 2:
            raise UsageError(f"a classifier needs two labels or more, found {len(config.labels)}")
        self.config = config
        self.text = config.architecture()
        self.encoder = TextEncoder(self.text)
        self.head = ClassifierHead(self.text, len(config.labels), config.head_dropout, config.pooling)
        initialize(self)

    def forward(
        self,
        input_ids: Tensor,
        segments: Tensor | None = None,
        types: Tensor | None = None,
    ) -> Tensor:
        """Logits of the labels, (B, L)."""
        return self.head(self.encoder(input_ids, segments, types=types), segments)

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Mean cross-entropy in nats and accuracy over the texts; ``labels`` (B,)."""
        dropout = max(self.text.trunk.dropout, self.config.head_dropout) if self.training else 0.0
        with seeded(generator, dropout):
            logits = self(batch["input_ids"], batch.get("segments"), batch.get("types"))
        labels = batch["labels"]
        count = torch.tensor(float(labels.numel()), device=logits.device)
        hits = (logits.detach().argmax(-1) == labels).float().mean()
        return {"loss": F.cross_entropy(logits.float(), labels), "count": count, "accuracy": hits}

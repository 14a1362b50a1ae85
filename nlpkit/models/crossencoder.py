"""Cross-encoder: query and document read together, one score (Nogueira & Cho 2019, §3).

Shapes: B batch, T tokens.

The text is ``[CLS] query [SEP] document [SEP]``; the score is one logit on [CLS].
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


@dataclass(frozen=True)
class Config(Sizes):
    """Sizes of the network and the dropout before the score."""

    head_dropout: float = 0.1
    pooling: Pooling | None = None  # None: the first token ([CLS]); in causal families the last


class Model(nn.Module):
    """A text encoder with one logit: relevance, or likeness of meaning.

    >>> model = Model(Config(vocab=16, width=8, depth=1, heads=2))
    >>> model(torch.tensor([[2, 7, 3, 9, 3]])).shape
    torch.Size([1])
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.text = config.architecture()
        self.encoder = TextEncoder(self.text)
        self.head = ClassifierHead(self.text, 1, config.head_dropout, config.pooling)
        initialize(self)

    def forward(
        self,
        input_ids: Tensor,
        segments: Tensor | None = None,
        types: Tensor | None = None,
    ) -> Tensor:
        """The logit of each pair, (B,): its sigmoid is the predicted relevance."""
        return self.head(self.encoder(input_ids, segments, types=types), segments).squeeze(-1)

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Mean binary cross-entropy in nats against ``labels`` (B,) in [0, 1]; accuracy at the threshold 1/2."""
        dropout = max(self.text.trunk.dropout, self.config.head_dropout) if self.training else 0.0
        with seeded(generator, dropout):
            logits = self(batch["input_ids"], batch.get("segments"), batch.get("types")).float()
        labels = batch["labels"].to(logits.dtype)
        hits = ((logits.detach() > 0) == (labels > 0.5)).float().mean()
        count = torch.tensor(float(labels.numel()), device=logits.device)
        return {"loss": F.binary_cross_entropy_with_logits(logits, labels), "count": count, "accuracy": hits}

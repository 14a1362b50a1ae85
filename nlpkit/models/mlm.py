"""Masked language model: predict the hidden tokens from both sides (Devlin et al. 2019; Warner et al. 2024).

Shapes: B batch, T tokens, D width, M scored tokens, V vocabulary.

Logits are made at the scored tokens only: with 15 to 30 % of the tokens masked, the output matrix is most of the
work saved.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nlpkit.core.batch import IGNORE, Batch
from nlpkit.core.families import Sizes, initialize
from nlpkit.core.heads import MaskedHead
from nlpkit.core.seeded import seeded
from nlpkit.core.text_encoder import TextEncoder
from nlpkit.errors import UsageError


@dataclass(frozen=True)
class Config(Sizes):
    """Sizes of the network; families bert and modernbert."""


class Model(nn.Module):
    """A bidirectional encoder with a vocabulary head.

    >>> model = Model(Config(vocab=16, width=8, depth=1, heads=2))
    >>> model(torch.tensor([[2, 4, 9, 3]])).shape
    torch.Size([1, 4, 16])
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.text = config.architecture()
        if self.text.causal:
            raise UsageError(f"mlm reads both sides; {self.text.family!r} is causal: use bert or modernbert")
        self.encoder = TextEncoder(self.text)
        self.head = MaskedHead(self.text)
        initialize(self)

    def start_from(self, counts: Tensor) -> None:
        """Begin with the output bias at the log frequencies of the tokens; ``counts`` (V,) are theirs in the text.

        Otherwise the first hundreds of steps go into learning these frequencies through the hidden states.
        """
        share = (counts.double() + 1.0) / (counts.sum() + len(counts))
        with torch.no_grad():
            self.head.vocabulary.bias.copy_(share.log())  # type: ignore[union-attr]

    def forward(
        self,
        input_ids: Tensor,
        segments: Tensor | None = None,
        types: Tensor | None = None,
    ) -> Tensor:
        """Logits over the vocabulary at every token, (B, T, V)."""
        hidden = self.encoder(input_ids, segments, types=types)
        return self.head(hidden, self.encoder.embed.token.weight)

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Mean cross-entropy in nats and accuracy over the M tokens with a label (``labels`` (B, T), -100: none).

        ``causal``: the batch is read left to right, and a label is the token that follows.
        """
        causal = batch.get("causal")
        with seeded(generator, self.text.trunk.dropout if self.training else 0.0):
            hidden = self.encoder(
                batch["input_ids"],
                batch.get("segments"),
                types=batch.get("types"),
                causal=None if causal is None else bool(causal),
            )
        scored = batch["labels"] != IGNORE
        return self.head.loss(hidden[scored], self.encoder.embed.token.weight, batch["labels"][scored])

"""Next-token language model (Radford et al. 2019; Touvron et al. 2023).

Shapes: B batch, T tokens, D width, M scored tokens, V vocabulary.

The hidden state of token t sees the tokens ≤ t, itself included, and predicts token t + 1. (A mask that shows the
tokens ≥ t, as one sometimes reads, would show the answer: it is a slip of the sign.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nlpkit.core.batch import IGNORE, Batch
from nlpkit.core.cache import Cache
from nlpkit.core.families import Family, Sizes, initialize
from nlpkit.core.heads import LanguageHead
from nlpkit.core.seeded import seeded
from nlpkit.core.text_encoder import TextEncoder
from nlpkit.errors import UsageError


@dataclass(frozen=True)
class Config(Sizes):
    """Sizes of the network; families llama, qwen3 and gpt2."""

    family: Family = "llama"


class Model(nn.Module):
    """A causal decoder with a vocabulary head.

    >>> model = Model(Config(vocab=16, width=8, depth=1, heads=2))
    >>> model(torch.tensor([[5, 7, 9]])).shape
    torch.Size([1, 3, 16])
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.text = config.architecture()
        if not self.text.causal:
            raise UsageError(
                f"clm reads left to right; {self.text.family!r} does not: use llama, qwen3 or gpt2"
            )
        self.encoder = TextEncoder(self.text)
        self.head = LanguageHead(self.text)
        initialize(self)

    def forward(
        self,
        input_ids: Tensor,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Cache | None = None,
        *,
        last: bool = False,
    ) -> Tensor:
        """Logits of the token behind each token, (B, T, V); with ``last`` behind the last one only, (B, 1, V).

        With a ``cache`` the inputs are only the new tokens.
        """
        hidden = self.encoder(input_ids, segments, positions, cache)
        return self.head(hidden[:, -1:] if last else hidden, self.encoder.embed.token.weight)

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Mean cross-entropy in nats and accuracy over the M tokens with a label.

        ``labels`` (B, T) are shifted already: ``labels[t]`` is the token that follows ``input_ids[t]``; -100: none.
        ``prefix`` (B, T): the tokens of a document's beginning that are seen by all of it, and not scored.
        """
        with seeded(generator, self.text.trunk.dropout if self.training else 0.0):
            hidden = self.encoder(batch["input_ids"], batch.get("segments"), prefix=batch.get("prefix"))
        labels, scored = batch["labels"], batch["labels"] != IGNORE
        if bool(scored.all()):
            hidden, labels = hidden.flatten(0, 1), labels.flatten()
        else:
            hidden, labels = hidden[scored], labels[scored]  # (M, D), (M,)
        return self.head.loss(hidden, self.encoder.embed.token.weight, labels)

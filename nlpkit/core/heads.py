"""What stands on a text network, in the layouts of Hugging Face's task classes.

Shapes: B batch, T tokens, D width, M scored tokens, V vocabulary, L labels.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpkit.core.cross_entropy import linear_cross_entropy
from nlpkit.core.text_encoder import TextConfig
from nlpkit.core.transformer import ACTIVATIONS, make_norm

Pooling = Literal["cls", "mean", "last"]


def pool(hidden: Tensor, segments: Tensor | None, how: Pooling) -> Tensor:
    """One vector a text, (B, T, D) → (B, D): the first token, the mean, or the last; padding (0) is not seen."""
    if how == "cls":
        return hidden[:, 0]
    if segments is None:
        return hidden.mean(1) if how == "mean" else hidden[:, -1]
    real = segments != 0
    if how == "mean":
        weights = real.to(hidden.dtype).unsqueeze(-1)
        return (hidden * weights).sum(1) / weights.sum(1).clamp_min(1.0)
    index = torch.arange(hidden.shape[1], device=hidden.device)
    last = (index * real).argmax(1)
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]


class Vocabulary(nn.Module):
    """Hidden states → logits over the vocabulary; the weight is the token embedding's where they are tied."""

    def __init__(self, config: TextConfig, bias: bool) -> None:
        super().__init__()
        width = config.trunk.width
        self.weight = (
            None if config.tied else nn.Parameter(torch.empty(config.vocab, width).normal_(0.0, 0.02))
        )
        self.bias = nn.Parameter(torch.zeros(config.vocab)) if bias else None

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """(…, D) → (…, V); ``embedding`` (V, D) is the token embedding."""
        return F.linear(hidden, embedding if self.weight is None else self.weight, self.bias)

    def loss(self, hidden: Tensor, embedding: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Mean cross-entropy and accuracy of hidden (M, D) for labels (M,), and their ``count``."""
        weight = embedding if self.weight is None else self.weight
        loss, hits = linear_cross_entropy(hidden, weight, self.bias, labels)
        count = torch.tensor(float(labels.numel()), device=loss.device)
        return {"loss": loss, "count": count, "accuracy": hits}


class MaskedHead(nn.Module):
    """The MLM head of BERT and ModernBERT: dense, GELU, norm, vocabulary with a bias."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width = config.trunk.width
        self.dense = nn.Linear(width, width, bias=config.head_bias)
        self.activation = ACTIVATIONS[config.trunk.mlp.activation if config.family == "bert" else "gelu"]
        self.norm = make_norm(config.trunk.norm, width)
        self.vocabulary = Vocabulary(config, bias=True)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """(…, D) → (…, V)."""
        return self.vocabulary(self.norm(self.activation(self.dense(hidden))), embedding)

    def loss(self, hidden: Tensor, embedding: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss and accuracy of hidden (M, D) for labels (M,)."""
        return self.vocabulary.loss(self.norm(self.activation(self.dense(hidden))), embedding, labels)


class LanguageHead(nn.Module):
    """The next-token head of GPT-2, Llama and Qwen3."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.vocabulary = Vocabulary(config, bias=False)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """(…, D) → (…, V)."""
        return self.vocabulary(hidden, embedding)

    def loss(self, hidden: Tensor, embedding: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss and accuracy of hidden (M, D) for labels (M,)."""
        return self.vocabulary.loss(hidden, embedding, labels)


class ClassifierHead(nn.Module):
    """Pooled text → logits (B, L), as in ``ForSequenceClassification``.

    BERT: [CLS], dense, tanh. ModernBERT: [CLS] (or the mean), dense, GELU, norm. GPT-2, Llama, Qwen3: the last token.
    """

    def __init__(
        self, config: TextConfig, labels: int, dropout: float = 0.0, pooling: Pooling | None = None
    ) -> None:
        super().__init__()
        width, family = config.trunk.width, config.family
        self.family = family
        self.pooling: Pooling = pooling or ("last" if config.causal else "cls")
        self.dense = (
            None if config.causal else nn.Linear(width, width, bias=family == "bert" or config.head_bias)
        )
        self.norm = make_norm(config.trunk.norm, width) if family == "modernbert" else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, labels, bias=not config.causal)

    def forward(self, hidden: Tensor, segments: Tensor | None = None) -> Tensor:
        """Hidden states (B, T, D) → logits (B, L)."""
        x = pool(hidden, segments, self.pooling)
        if self.dense is not None:
            x = self.dense(x)
            x = torch.tanh(x) if self.norm is None else self.norm(F.gelu(x))
        return self.classifier(self.dropout(x))

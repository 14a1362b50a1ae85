"""From token ids to vectors: tokens, absolute positions, token types, a norm.

Shapes: B batch, T tokens, D width.
"""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from nlpkit.core.positions import sinusoidal
from nlpkit.core.transformer import make_norm

if TYPE_CHECKING:
    from nlpkit.core.text_encoder import TextConfig


class TextEmbedding(nn.Module):
    """Token ids (B, T) with their positions → (B, T, D). Rotary positions are the attention's, not added here."""

    def __init__(self, config: "TextConfig") -> None:
        super().__init__()
        width = config.trunk.width
        self.positions = config.positions
        self.token = nn.Embedding(config.vocab, width)
        self.position = nn.Embedding(config.context, width) if config.positions == "learned" else None
        self.token_type = nn.Embedding(config.types, width) if config.types else None
        self.norm = make_norm(config.trunk.norm, width) if config.embed_norm else nn.Identity()
        self.dropout = nn.Dropout(config.trunk.dropout)

    def forward(self, input_ids: Tensor, positions: Tensor, types: Tensor | None = None) -> Tensor:
        """The embedded tokens (B, T, D)."""
        x = self.token(input_ids)
        if self.position is not None:
            x = x + self.position(positions)
        elif self.positions == "sinusoidal":
            x = x + sinusoidal(positions, x.shape[-1], x.dtype)
        if self.token_type is not None:
            x = x + (self.token_type.weight[0] if types is None else self.token_type(types))
        return self.dropout(self.norm(x))

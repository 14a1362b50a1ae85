"""A text network without a head: embedding, then the transformer stack. ``TextConfig`` is its whole architecture.

Shapes: B batch, T tokens, D width, V vocabulary.
"""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from nlpkit.core.cache import Cache
from nlpkit.core.embed import TextEmbedding
from nlpkit.core.positions import positions_in
from nlpkit.core.transformer import Transformer, TransformerConfig
from nlpkit.errors import DataError

Family = Literal["bert", "modernbert", "gpt2", "llama", "qwen3"]
FAMILIES: tuple[Family, ...] = ("bert", "modernbert", "gpt2", "llama", "qwen3")


@dataclass(frozen=True)
class TextConfig:
    """Everything that decides the shape and the arithmetic of a text network."""

    family: Family
    vocab: int
    context: int  # the longest text, in tokens
    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    positions: Literal["rotary", "learned", "sinusoidal"] = "rotary"
    types: int = 0  # token types (BERT: which text of a pair); 0: none
    embed_norm: bool = False
    tied: bool = True  # the output of a language model shares the token embedding
    head_bias: bool = False  # bias in the dense layer of the MLM or classification head
    pad_id: int | None = None
    bos_id: int | None = None  # encoders: [CLS]
    eos_id: int | None = None  # encoders: [SEP]

    def __post_init__(self) -> None:
        if min(self.vocab, self.context, self.trunk.width, self.trunk.mlp.hidden) < 1 or self.trunk.depth < 0:
            raise ValueError("vocab, context, width and hidden must be positive")

    @property
    def causal(self) -> bool:
        """Whether it reads left to right (GPT-2, Llama, Qwen3)."""
        return self.trunk.attention.causal


class TextEncoder(nn.Module):
    """Token ids (B, T) → hidden states (B, T, D).

    >>> import torch
    >>> from nlpkit.core.families import text_config
    >>> encoder = TextEncoder(text_config("modernbert", vocab=16, width=8, depth=1, heads=2))
    >>> encoder(torch.tensor([[2, 7, 3, 0]]), torch.tensor([[1, 1, 1, 0]])).shape
    torch.Size([1, 4, 8])
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = TextEmbedding(config)
        self.trunk = Transformer(config.trunk)

    def forward(
        self,
        input_ids: Tensor,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Cache | None = None,
        types: Tensor | None = None,
        prefix: Tensor | None = None,
        causal: bool | None = None,
    ) -> Tensor:
        """The hidden states (B, T, D).

        ``segments`` (B, T): equal numbers see one another, 0 is padding. ``positions`` (B|1, T) count from 0 in
        each segment unless given. ``cache`` holds the tokens before, for generation. ``types`` (B, T): token
        types, 0 unless given. ``prefix`` and ``causal`` are those of
        :class:`~nlpkit.core.transformer.Transformer`. Raises DataError for a text longer than a table of learned
        positions.
        """
        if positions is None:
            positions = positions_in(segments, input_ids.shape[1], cache, input_ids.device)
        total = input_ids.shape[1] + (cache.length if cache is not None else 0)
        if self.embed.position is not None and total > self.config.context:
            longest = int(positions.max()) + 1
            if longest > self.config.context:
                raise DataError(
                    f"a text of {longest} tokens, but this model reads {self.config.context}: truncate or split it"
                )
        x = self.embed(input_ids, positions, types)
        return self.trunk(x, segments, positions, cache=cache, prefix=prefix, causal=causal)

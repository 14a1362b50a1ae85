"""The five text families: sizes → architecture, and how weights begin.

| family | reference |
|---|---|
| bert | Devlin et al. 2019: post-norm, learned positions, token types |
| modernbert | Warner et al. 2024: pre-norm, no biases, rotary, gated MLP, windows, each third layer global |
| gpt2 | Radford et al. 2019: pre-norm, causal, learned positions |
| llama | Touvron et al. 2023: RMSNorm, rotary positions, gated SiLU MLP, causal |
| qwen3 | Yang et al. 2025: Llama with QK-norm (Henry et al. 2020; Dehghani et al. 2023) |
"""

import math
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from nlpkit.core.text_encoder import FAMILIES, Family, TextConfig
from nlpkit.core.transformer import (
    Attention,
    AttentionConfig,
    Block,
    Mlp,
    MlpConfig,
    NormConfig,
    TransformerConfig,
)
from nlpkit.errors import UsageError, did_you_mean

STD = 0.02  # of new weights


@dataclass(frozen=True)
class Sizes:
    """The sizes by which every text model's config names its architecture; ``text`` overrides all of them."""

    family: Family = "modernbert"
    vocab: int = 8192
    width: int = 256
    depth: int = 4
    heads: int = 4
    hidden: int | None = None  # of the MLP; None: the family's share of the width
    context: int = 512
    dropout: float = 0.0
    kv_heads: int | None = None  # Llama, Qwen3: fewer key/value heads than heads
    tied: bool = True  # a language model's output shares the token embedding
    text: TextConfig | None = None  # a complete architecture, as an opened folder has

    def architecture(self) -> TextConfig:
        """The complete architecture."""
        if self.text is not None:
            return self.text
        values = {f.name: getattr(self, f.name) for f in fields(Sizes) if f.name not in ("family", "text")}
        return text_config(self.family, **values)


def text_config(
    family: str,
    *,
    vocab: int = 8192,
    width: int = 256,
    depth: int = 4,
    heads: int = 4,
    hidden: int | None = None,
    context: int = 512,
    dropout: float = 0.0,
    kv_heads: int | None = None,
    tied: bool = True,
) -> TextConfig:
    """The architecture of a family at these sizes, with the special tokens of nlpkit's tokenizers.

    ``hidden``: of the MLP; by default 4 · width, and in gated MLPs 3/2 (ModernBERT) or 8/3 (Llama, Qwen3) of it,
    rounded up to a multiple of 8. ``kv_heads`` is for Llama and Qwen3. Raises UsageError for an unknown family.

    >>> text_config("llama", width=96).trunk.mlp.hidden
    256
    """
    if family not in FAMILIES:
        raise UsageError(f"unknown family {family!r}{did_you_mean(family, FAMILIES)}")
    share = {"bert": 4.0, "gpt2": 4.0, "modernbert": 1.5, "llama": 8 / 3, "qwen3": 8 / 3}[family]
    hidden = hidden or 8 * math.ceil(share * width / 8 - 1e-9)
    try:
        trunk = _trunk(family, width, depth, heads, hidden, dropout, kv_heads)
        learned = family in ("bert", "gpt2")
        causal = family in ("gpt2", "llama", "qwen3")
        return TextConfig(
            family=family,  # type: ignore[arg-type]
            vocab=vocab,
            context=context,
            trunk=trunk,
            positions="learned" if learned else "rotary",
            types=2 if family == "bert" else 0,
            embed_norm=not causal,
            tied=tied,
            head_bias=family == "bert",
            pad_id=0,
            bos_id=5 if causal else 2,
            eos_id=5 if causal else 3,
        )
    except ValueError as error:
        raise UsageError(f"{family}: {error}") from error


def _trunk(
    family: str, width: int, depth: int, heads: int, hidden: int, dropout: float, kv_heads: int | None
) -> TransformerConfig:
    if family == "bert":
        attention = AttentionConfig(heads)
        norm = NormConfig(eps=1e-12, place="post", final_norm=False)
        mlp = MlpConfig(hidden)
    elif family == "modernbert":
        attention = AttentionConfig(
            heads, bias=False, rope=160_000.0, local_rope=10_000.0, window=64, global_every=3
        )
        norm = NormConfig(bias=False, first_norm=False)
        mlp = MlpConfig(hidden, gated=True, bias=False)
    elif family == "gpt2":
        attention = AttentionConfig(heads, causal=True)
        norm = NormConfig()
        mlp = MlpConfig(hidden, activation="gelu_tanh")
    else:
        attention = AttentionConfig(
            heads, kv_heads, bias=False, causal=True, rope=10_000.0, qk_norm=family == "qwen3"
        )
        norm = NormConfig(kind="rms", eps=1e-6, bias=False)
        mlp = MlpConfig(hidden, activation="silu", gated=True, bias=False)
    return TransformerConfig(width, depth, attention, norm, mlp, dropout=dropout)


def sizes(text: TextConfig) -> dict[str, Any]:
    """The sizes by which the models' configs name an architecture (``text_config`` backwards)."""
    return {
        "family": text.family,
        "vocab": text.vocab,
        "width": text.trunk.width,
        "depth": text.trunk.depth,
        "heads": text.trunk.attention.heads,
        "hidden": text.trunk.mlp.hidden,
        "context": text.context,
        "dropout": text.trunk.dropout,
        "kv_heads": text.trunk.attention.kv_heads,
        "tied": text.tied,
        "text": text,
    }


def initialize(model: nn.Module) -> None:
    """Give new weights: normal with σ = 0.02, biases 0, norms 1.

    What a block adds to the residual stream is scaled by 1/√(sublayers in the stack), so that the stream's
    variance does not grow with depth (Radford et al. 2019, §2.3). Modulations (adaLN-zero) stay 0.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, 0.0, STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
    blocks = [m for m in model.modules() if isinstance(m, Block)]
    parts = sum(b.parts for b in blocks)
    for block in blocks:
        for module in block.modules():
            if isinstance(module, Attention):
                nn.init.normal_(module.out.weight, 0.0, STD / math.sqrt(parts))
            elif isinstance(module, Mlp):
                nn.init.normal_(module.down.weight, 0.0, STD / math.sqrt(parts))
        if block.modulation is not None:
            nn.init.zeros_(block.modulation.weight)


__all__ = ["FAMILIES", "Family", "Sizes", "initialize", "sizes", "text_config"]

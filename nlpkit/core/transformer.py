"""One transformer stack for BERT, ModernBERT, GPT-2, Llama, Qwen3 and vision transformers (Vaswani et al. 2017).

Shapes: B batch, T tokens (queries), S tokens that can be seen (cached ones included), D width, H heads,
K key/value heads, d width of a head.

Notable: q, k and v stay separate; masks and rotary tables are made once a forward and shared by all layers; a
batch that is one unpadded segment needs no mask at all; ``segments`` serves padding and packing alike.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nlpkit.core.cache import Cache
from nlpkit.core.fused import RMSNorm, rotate, side_by_side
from nlpkit.core.positions import positions_in, rotary_table
from nlpkit.core.tiled_attention import LONGEST, Tiles, attend, tiles

WORTH = 0.6  # share of the pairs from which, in float32, PyTorch's kernel over all of them is the faster


@dataclass(frozen=True)
class AttentionConfig:
    """Who attends to whom, and with what positions."""

    heads: int = 4
    kv_heads: int | None = (
        None  # fewer than heads: grouped-query attention (Ainslie et al. 2023); None: heads
    )
    head_dim: int | None = None  # None: width / heads
    bias: bool = True
    causal: bool = False  # token t sees the tokens ≤ t
    rope: float | None = None  # base of the rotary positions (Su et al. 2021); None: no rotary positions
    local_rope: float | None = None  # their base in windowed layers; None: the same
    window: int | None = None  # a windowed layer sees |i - j| ≤ window
    global_every: int = 0  # layers 0, n, 2n, … have no window; 0: every layer has it
    qk_norm: bool = False  # an RMSNorm over each head of q and k, before they turn (Henry et al. 2020)

    def __post_init__(self) -> None:
        if self.heads < 1 or self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads = {self.heads} is not a multiple of kv_heads = {self.kv_heads}")


@dataclass(frozen=True)
class NormConfig:
    """Which normalisation, and where."""

    kind: Literal["layer", "rms", "none"] = "layer"  # none: to see what a norm is worth
    eps: float = 1e-5
    bias: bool = True
    place: Literal["pre", "post"] = "pre"
    first_norm: bool = True  # pre: whether the attention of layer 0 has a norm (ModernBERT's has none)
    final_norm: bool = True  # a norm behind the last layer


@dataclass(frozen=True)
class MlpConfig:
    """The two-layer network of a block."""

    hidden: int = 512
    activation: Literal["gelu", "gelu_tanh", "silu", "relu"] = "gelu"
    gated: bool = False  # GLU (Shazeer 2020): activation(gate(x)) · up(x)
    bias: bool = True


@dataclass(frozen=True)
class TransformerConfig:
    """A stack of ``depth`` equal blocks of width ``width``."""

    width: int = 128
    depth: int = 2
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    norm: NormConfig = field(default_factory=NormConfig)
    mlp: MlpConfig = field(default_factory=MlpConfig)
    cross: bool = False  # a second attention, to an external sequence of the same width
    residual: bool = True  # False: each sublayer's output takes the place of its input
    condition: bool = False  # adaLN-zero (Peebles & Xie 2023, §3.2): a vector (B, D) shifts, scales and gates
    dropout: float = 0.0

    def __post_init__(self) -> None:
        a = self.attention
        if a.head_dim is None and self.width % a.heads:
            raise ValueError(f"width = {self.width} is not a multiple of heads = {a.heads}")
        if a.rope and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even width of a head, not {self.head_dim}")
        if self.condition and self.norm.place == "post":
            raise ValueError("condition needs norm.place = 'pre'")

    @property
    def head_dim(self) -> int:
        """The width of one head."""
        return self.attention.head_dim or self.width // self.attention.heads


class Mask(NamedTuple):
    """What a query may see: an additive mask (B|1, 1, T, S), or none of it, or the plain causal triangle, or tiles."""

    add: Tensor | None
    triangle: bool = False
    tiles: Tiles | None = None


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "relu": F.relu,
}


def make_norm(c: NormConfig, width: int, affine: bool = True) -> nn.Module:
    """A LayerNorm (Ba et al. 2016) or RMSNorm (Zhang & Sennrich 2019) over the last axis."""
    if c.kind == "none":
        return nn.Identity()
    if c.kind == "rms":
        return RMSNorm(width, eps=c.eps, elementwise_affine=affine)
    return nn.LayerNorm(width, eps=c.eps, elementwise_affine=affine, bias=c.bias)


class Attention(nn.Module):
    """Multi-head scaled dot-product attention of x (B, T, D) to a source (B, S, D)."""

    def __init__(self, c: TransformerConfig) -> None:
        super().__init__()
        a, d = c.attention, c.head_dim
        self.heads, self.kv_heads, self.head_dim, self.dropout = a.heads, a.kv_heads or a.heads, d, c.dropout
        self.q = nn.Linear(c.width, self.heads * d, bias=a.bias)
        self.k = nn.Linear(c.width, self.kv_heads * d, bias=a.bias)
        self.v = nn.Linear(c.width, self.kv_heads * d, bias=a.bias)
        self.out = nn.Linear(self.heads * d, c.width, bias=a.bias)
        self.q_norm = RMSNorm(d, eps=c.norm.eps) if a.qk_norm else None  # one gain for all heads
        self.k_norm = RMSNorm(d, eps=c.norm.eps) if a.qk_norm else None

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        mask: Mask,
        rope: tuple[Tensor, Tensor] | None = None,
        cache: Cache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """The attended values, (B, T, D)."""
        if source is x:
            q, k, v = side_by_side(x, self.q, self.k, self.v)
        else:
            q, (k, v) = self.q(x), side_by_side(source, self.k, self.v)
        q = q.unflatten(-1, (self.heads, self.head_dim))  # (B, T, H, d)
        k = k.unflatten(-1, (self.kv_heads, self.head_dim))  # (B, S, K, d)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = q.transpose(1, 2), k.transpose(1, 2)  # (B, H, T, d), (B, K, S, d)
        v = v.unflatten(-1, (self.kv_heads, self.head_dim)).transpose(1, 2)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        if cache is not None:
            k, v = cache.append(layer, k, v)
        if self.kv_heads != self.heads:
            groups = self.heads // self.kv_heads
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        if mask.tiles is not None:
            y = attend(q, k, v.to(q.dtype), mask.tiles)
        else:
            y = F.scaled_dot_product_attention(
                q, k, v, mask.add, self.dropout if self.training else 0.0, is_causal=mask.triangle
            )
        return self.out(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """The position-wise network, gated or plain."""

    def __init__(self, c: TransformerConfig) -> None:
        super().__init__()
        m = c.mlp
        self.activation = ACTIVATIONS[m.activation]
        self.gate = nn.Linear(c.width, m.hidden, bias=m.bias) if m.gated else None
        self.up = nn.Linear(c.width, m.hidden, bias=m.bias)
        self.down = nn.Linear(m.hidden, c.width, bias=m.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        if self.gate is None:
            return self.down(self.activation(self.up(x)))
        gate, up = side_by_side(x, self.gate, self.up)
        return self.down(self.activation(gate) * up)


class Block(nn.Module):
    """Attention, perhaps cross-attention, and the MLP, each with a residual and a norm."""

    def __init__(self, c: TransformerConfig, layer: int) -> None:
        super().__init__()
        every = c.attention.global_every
        self.layer = layer
        self.local = c.attention.window is not None and not (every and layer % every == 0)
        self.post, self.residual = c.norm.place == "post", c.residual
        affine = not c.condition
        skip = layer == 0 and not c.norm.first_norm and not self.post
        self.attention_norm = nn.Identity() if skip else make_norm(c.norm, c.width, affine)
        self.attention = Attention(c)
        self.cross_norm = make_norm(c.norm, c.width, affine) if c.cross else None
        self.cross = Attention(c) if c.cross else None
        self.mlp_norm = make_norm(c.norm, c.width, affine)
        self.mlp = Mlp(c)
        self.dropout = nn.Dropout(c.dropout)
        self.parts = 3 if c.cross else 2
        self.recompute = (
            False  # in training: keep no activations, run the forward pass again for the gradients
        )
        self.modulation = nn.Linear(c.width, 3 * self.parts * c.width) if c.condition else None
        if self.modulation is not None:  # zero: every block starts as the identity
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        rope: tuple[Tensor, Tensor] | None,
        cache: Cache | None,
        memory: Tensor | None,
        memory_mask: Mask,
        condition: Tensor | None,
    ) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        change: list[tuple[Tensor, Tensor, Tensor] | None] = [None] * self.parts
        if self.modulation is not None:
            if condition is None:
                raise ValueError("this stack is conditioned: pass condition (B, D)")
            thirds = self.modulation(F.silu(condition)).unsqueeze(1).chunk(3 * self.parts, -1)
            change = [(thirds[3 * i], thirds[3 * i + 1], thirds[3 * i + 2]) for i in range(self.parts)]

        def before(x: Tensor, norm: nn.Module, i: int) -> Tensor:
            if self.post:
                return x
            h, m = norm(x), change[i]
            return h if m is None else h * (1 + m[1]) + m[0]

        def after(x: Tensor, y: Tensor, norm: nn.Module, i: int) -> Tensor:
            y, m = self.dropout(y), change[i]
            if not self.residual:
                x = torch.zeros_like(x)
            if self.post:
                return norm(x + y)
            return x + (y if m is None else m[2] * y)

        h = before(x, self.attention_norm, 0)
        x = after(x, self.attention(h, h, mask, rope, cache, self.layer), self.attention_norm, 0)
        if self.cross is not None and self.cross_norm is not None:
            if memory is None:
                raise ValueError("this stack has cross-attention: pass memory (B, S, D)")
            h = before(x, self.cross_norm, 1)
            x = after(x, self.cross(h, memory, memory_mask), self.cross_norm, 1)
        h = before(x, self.mlp_norm, self.parts - 1)
        return after(x, self.mlp(h), self.mlp_norm, self.parts - 1)


class Transformer(nn.Module):
    """The stack: embedded tokens (B, T, D) → hidden states (B, T, D).

    >>> stack = Transformer(TransformerConfig(width=8, depth=1, attention=AttentionConfig(heads=2)))
    >>> stack(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        blocks = [Block(config, i) for i in range(config.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.local = [block.local for block in blocks]
        self.norm = make_norm(config.norm, config.width) if config.norm.final_norm else nn.Identity()
        self.head_dim = config.head_dim

    def forward(
        self,
        x: Tensor,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        *,
        cache: Cache | None = None,
        memory: Tensor | None = None,
        memory_segments: Tensor | None = None,
        condition: Tensor | None = None,
        prefix: Tensor | None = None,
        causal: bool | None = None,
    ) -> Tensor:
        """The hidden states of ``x``.

        ``segments`` (B, T): tokens see one another where their numbers are equal; 0 is padding; ``None`` is one
        segment. ``positions`` (B|1, T): for rotary positions; by default they count from 0 in each segment.
        ``cache``: the tokens before, for generation; ``x`` and ``segments`` are then only the new ones.
        ``memory`` (B, S, D) with ``memory_segments`` (B, S): what cross-attention looks at; 0 is hidden.
        ``prefix`` (B, T), not 0 on the tokens that a segment begins with and that all of its tokens see, causal or
        not; it is read without a cache. ``causal`` takes the place of the configuration's.
        """
        a, (_, length, _) = self.config.attention, x.shape
        past = cache.length if cache is not None else 0
        if positions is None and a.rope is not None:
            positions = positions_in(segments, length, cache, x.device)
        seen = cache.extend(segments, x) if cache is not None else segments
        causal = a.causal if causal is None else causal
        masks = self._tiled(segments, prefix, causal, x) if not past and cache is None else None
        masks = masks or self._masks(segments, seen, past, x, prefix, causal)
        ropes: list[tuple[Tensor, Tensor] | None] = [None, None]
        if a.rope is not None and positions is not None:
            kind = x.device.type
            dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
            wide = rotary_table(positions, self.head_dim, a.rope, dtype)
            same = a.local_rope is None or a.local_rope == a.rope or masks[1] is None
            ropes = [
                wide,
                wide if same else rotary_table(positions, self.head_dim, a.local_rope or 0.0, dtype),
            ]
        memory_mask = _hide(memory_segments, x.dtype)
        for block, local in zip(self.blocks, self.local, strict=True):
            given = (x, masks[local] or masks[0], ropes[local], cache, memory, memory_mask, condition)
            if block.recompute and self.training and torch.is_grad_enabled():
                x = checkpoint(block, *given, use_reentrant=False)
            else:
                x = block(*given)
        return self.norm(x)

    def _tiled(
        self, segments: Tensor | None, prefix: Tensor | None, causal: bool, x: Tensor
    ) -> tuple[Mask, Mask | None] | None:
        """The masks as tiles, where those are the faster way; else ``None``."""
        a, (batch, length, _) = self.config.attention, x.shape
        low = x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
        dropped = self.training and self.config.dropout > 0
        if x.device.type != "cpu" or length > LONGEST or dropped or torch.compiler.is_compiling():
            return None
        plain = prefix is None and (segments is None or _one_segment(segments, causal))
        if plain and not low:
            return None
        held = None if plain or segments is None else segments.numpy()
        given: dict[str, Any] = {"causal": causal, "prefix": None if prefix is None else prefix.numpy()}
        whole = tiles(batch, a.heads, length, held, **given)
        if not low and whole.pairs > WORTH * batch * a.heads * length**2:
            return None
        if not any(self.local):
            return Mask(None, tiles=whole), None
        near = tiles(batch, a.heads, length, held, window=a.window, **given)
        return Mask(None, tiles=whole), Mask(None, tiles=near)

    def _masks(
        self,
        new: Tensor | None,
        seen: Tensor | None,
        past: int,
        x: Tensor,
        prefix: Tensor | None,
        causal: bool,
    ) -> tuple[Mask, Mask | None]:
        """The masks of global and of windowed layers (``None`` where no layer is windowed)."""
        a, length = self.config.attention, x.shape[1]
        total = past + length
        triangle = causal and length > 1
        plain = prefix is None and (seen is None or _one_segment(seen, triangle and not past))
        windowed = any(self.local)
        keys = torch.arange(total, device=x.device)
        queries = keys[past:, None]
        allowed: Tensor | None = None  # (B, T, S) or (T, S)
        if not plain and seen is not None:
            mine = seen[:, past:]
            allowed = mine[:, :, None] == seen[:, None, :]
        if triangle and (allowed is not None or past or prefix is not None):
            earlier = keys <= queries
            if prefix is not None:
                earlier = earlier | (prefix != 0)[:, None, :]
            allowed = earlier if allowed is None else allowed & earlier
        whole = Mask(_additive(allowed, x.dtype), triangle and allowed is None)
        if not windowed:
            return whole, None
        window = a.window or 0
        if total - 1 <= window:
            return whole, whole
        near = (keys - queries).abs() <= window
        if triangle and allowed is None:
            near = near & (keys <= queries)
        return whole, Mask(_additive(near if allowed is None else allowed & near, x.dtype))


def _one_segment(seen: Tensor, padding_behind: bool) -> bool:
    """Whether no mask is needed: one segment a row, unpadded; under a causal triangle padding may follow it."""
    first = seen[:, :1]
    if bool(((seen == first) & (first != 0)).all()):
        return True
    if not padding_behind:
        return False
    real = seen != 0
    return bool(((seen == first) | ~real).all() & real[:, 0].all() & (real[:, 1:] <= real[:, :-1]).all())


def _additive(allowed: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """0 where allowed, -inf elsewhere, with axes for batch and heads: one conversion for all layers."""
    if allowed is None:
        return None
    allowed = allowed[:, None] if allowed.dim() == 3 else allowed[None, None]
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, -math.inf)


def _hide(segments: Tensor | None, dtype: torch.dtype) -> Mask:
    """The mask of an external sequence; a row that is all padding sees zeros' uniform mean rather than NaN."""
    if segments is None or bool((segments != 0).all()):
        return Mask(None)
    allowed = segments != 0
    allowed = allowed | ~allowed.any(-1, keepdim=True)
    return Mask(_additive(allowed[:, None, :], dtype))

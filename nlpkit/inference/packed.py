"""Hidden states of many texts at once on a processor, with no padding at all, in float32, bfloat16 or int8.

Shapes: T tokens of all texts, one behind the other; D width, N columns of a product.

Texts of any length stand in one array (T, D). Matrix products are PyTorch's, over all rows; what is between them is
:mod:`nlpkit.inference.packed_loops`, a row or a text at a time. The residual stream and attention are float32 in every
precision. int8: a scale and a zero for each token, found as it comes, and a scale for each column of the weights.
"""

import threading
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from nlpkit.core.text_encoder import TextEncoder
from nlpkit.core.transformer import Attention, Block
from nlpkit.errors import UsageError
from nlpkit.inference import packed_loops as loops

Precision = Literal["fp32", "bf16", "int8"]
FORMS = {"fp32": loops.FLOAT, "bf16": loops.HALF, "int8": loops.WHOLE}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
STEP = 32  # rows that products are rounded up to
NORMS = {"none": 0, "layer": 1, "rms": 2}


@dataclass(frozen=True)
class Product:
    """The weights of one product: (N, inner) in their precision, and (3, N) scale, scale · sum, bias."""

    weight: Tensor
    columns: np.ndarray
    packed: Tensor | None  # float32 in the layout of oneDNN, where that is the faster way


@dataclass(frozen=True)
class Norm:
    """A norm's kind (0: none), weight and bias (D,), and epsilon."""

    kind: int
    weight: np.ndarray
    bias: np.ndarray
    eps: float


@dataclass(frozen=True)
class Layer:
    """One block."""

    qkv: Product
    out: Product
    up: Product
    down: Product
    attention_norm: Norm
    mlp_norm: Norm
    window: int
    gains: np.ndarray  # of QK-norm, (H + K, d); none: (0, d)


def can(trunk: TextEncoder) -> bool:
    """Whether this network is one that is computed here: residual, with self-attention only."""
    c = trunk.config.trunk
    return c.residual and not c.cross and not c.condition and c.mlp.activation in loops.ACTIVATIONS


def whole_numbers_are_exact() -> bool:
    """Whether int8 products sum exactly on this machine (older ones saturate on the way)."""
    left = torch.full((32, 64), 127, dtype=torch.int8)
    try:
        made = torch._int_mm(left, left[:16].t().contiguous())
    except RuntimeError:
        return False
    return bool((made == 127 * 127 * 64).all())


class Packed:
    """A text network's weights in one precision; :meth:`rows` gives the hidden states. Safe for several threads.

    Raises UsageError for int8 on a machine that does not compute it exactly.
    """

    def __init__(self, trunk: TextEncoder, precision: Precision = "fp32") -> None:
        if precision == "int8" and not whole_numbers_are_exact():
            raise UsageError("int8 products are not exact on this machine; use --precision bf16 or fp32")
        self.config, self.precision, self.form = trunk.config, precision, FORMS[precision]
        c = self.config.trunk
        embed = trunk.embed
        self.token = _floats(embed.token.weight)
        self.position = None if embed.position is None else _floats(embed.position.weight)
        self.type = None if embed.token_type is None else _floats(embed.token_type.weight)
        self.embed_norm, self.final_norm = _norm(embed.norm, c.width), _norm(trunk.trunk.norm, c.width)
        with torch.inference_mode():
            self.layers = [self._layer(block) for block in trunk.trunk.blocks if isinstance(block, Block)]
        self.groups = c.attention.kv_heads or c.attention.heads
        self.space = _Space()

    def _layer(self, block: Block) -> Layer:
        a, m, c = block.attention, block.mlp, self.config.trunk
        return Layer(
            self._product(a.q, a.k, a.v),
            self._product(a.out),
            self._product(m.up) if m.gate is None else self._product(m.gate, m.up),
            self._product(m.down),
            _norm(block.attention_norm, c.width),
            _norm(block.mlp_norm, c.width),
            c.attention.window if block.local and c.attention.window is not None else -1,
            _gains(a),
        )

    def _product(self, *parts: nn.Linear) -> Product:
        weight = torch.cat([p.weight.detach().float() for p in parts])  # (N, inner)
        bias = torch.cat([torch.zeros(len(p.weight)) if p.bias is None else p.bias.float() for p in parts])
        scale, total, packed = torch.ones(len(weight)), torch.zeros(len(weight)), None
        if self.precision == "int8":
            scale = weight.abs().amax(1).clamp_min(1e-20) / 127
            weight = (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
            total = scale * weight.sum(1, dtype=torch.int32)
        elif self.precision == "bf16":
            weight = weight.to(torch.bfloat16)
        else:
            packed = _reordered(weight)
        return Product(weight, torch.stack([scale, total, bias]).numpy(), packed)

    def rows(self, ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Hidden states (T, D) float32 of ids (T,); text n is the tokens from ``starts[n]`` to ``starts[n + 1]``."""
        with torch.inference_mode():
            return _Pass(self, ids, starts).run()


class _Space(threading.local):
    """Memory that a thread's passes use again: fresh pages would cost as much as the loops that fill them."""

    def __init__(self) -> None:
        self.held: dict[str, Tensor] = {}

    def matrix(self, name: str, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """Numbers of no meaning (rows, columns), with more rows behind up to a multiple of :data:`STEP`.

        Valid until the next of this name. Products are of few shapes so: of a new one oneDNN makes new code.
        """
        rows = -(-rows // STEP) * STEP
        count = rows * columns
        held = self.held.get(name)
        if held is None or held.dtype != dtype or len(held) < count:
            held = self.held[name] = torch.zeros(count, dtype=dtype)
        return held[:count].view(rows, columns)


class _Pass:
    """One pass through the network: what the loops and products hand to each other."""

    def __init__(self, net: Packed, ids: np.ndarray, starts: np.ndarray) -> None:
        self.net, self.starts = net, np.ascontiguousarray(starts, np.int64)
        lengths = np.diff(self.starts)
        places = np.arange(len(ids)) - np.repeat(self.starts[:-1], lengths)
        self.x = net.token[ids]
        if net.position is not None:
            self.x += net.position[places]
        elif net.config.positions == "sinusoidal":
            from nlpkit.core.positions import sinusoidal

            self.x += sinusoidal(torch.from_numpy(places), self.x.shape[1], torch.float32).numpy()
        if net.type is not None:
            self.x += net.type[0]
        self.longest = int(lengths.max(initial=0))
        self.scales = np.zeros((len(ids), 2), np.float32)
        self.made = torch.empty(0)

    def run(self) -> np.ndarray:
        net, c = self.net, self.net.config.trunk
        a, post = c.attention, c.norm.place == "post"
        gated, how = c.mlp.gated, loops.ACTIVATIONS[c.mlp.activation]
        turns = [self._turns(a.rope), self._turns(a.local_rope or a.rope)]
        self._settle(None, net.embed_norm, keeps=True, to=net.form if post else loops.NOTHING)
        for n, layer in enumerate(net.layers):
            if n == 0 and not post:
                self._settle(None, layer.attention_norm, keeps=False, to=net.form)
            product, out = self._multiply(layer.qkv), self._out(a.heads * c.head_dim)
            loops.attend(
                *product, self.starts, a.heads, net.groups, c.head_dim,
                layer.gains, c.norm.eps, turns[layer.window >= 0], layer.window, bool(a.causal), net.form, *out,
            )  # fmt: skip
            self._settle(layer.out, layer.attention_norm if post else layer.mlp_norm, keeps=post, to=net.form)
            product, out = self._multiply(layer.up), self._out(c.mlp.hidden)
            loops.activate(*product, len(self.x), how, gated, net.form, *out)
            final = n + 1 == len(net.layers)
            if post:
                self._settle(layer.down, layer.mlp_norm, keeps=True, to=loops.NOTHING if final else net.form)
            elif final:
                self._settle(layer.down, net.final_norm, keeps=True, to=loops.NOTHING)
            else:
                self._settle(layer.down, net.layers[n + 1].attention_norm, keeps=False, to=net.form)
        if post and net.final_norm.kind:
            self._settle(None, net.final_norm, keeps=True, to=loops.NOTHING)
        return self.x

    def _turns(self, base: float | None) -> np.ndarray:
        """Cosines and sines (longest, 2, d/2) of rotary positions; none: (0, 2, 1)."""
        if base is None:
            return np.zeros((0, 2, 1), np.float32)
        d = self.net.config.trunk.head_dim
        inverse = np.float32(1.0) / np.float32(base) ** (np.arange(0, d, 2, dtype=np.float32) / np.float32(d))
        angles = np.arange(self.longest, dtype=np.float32)[:, None] * inverse
        return np.ascontiguousarray(np.stack([np.cos(angles), np.sin(angles)], 1), np.float32)

    def _out(self, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the next product's input (T, width) goes: float32, bfloat16 and int8, two of them empty."""
        self.made = self.net.space.matrix("made", len(self.x), width, DTYPES[self.net.precision])
        if self.net.form == loops.FLOAT:
            return self.made.numpy(), NO_HALF, NO_BYTE
        if self.net.form == loops.HALF:
            return NO_FLOAT, self.made.view(torch.int16).numpy().view(np.uint16), NO_BYTE
        return NO_FLOAT, NO_HALF, self.made.numpy()

    def _multiply(self, product: Product) -> tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The product of what was made last, as the loops take it."""
        form, columns = self.net.form, product.columns
        if form == loops.FLOAT and product.packed is not None:
            done = torch.ops.mkldnn._linear_pointwise(self.made, product.packed, None, "none", [], "")
            return form, done.numpy().view(np.int32), NO_HALF, self.scales, columns
        dtype = torch.int32 if form == loops.WHOLE else product.weight.dtype
        done = self.net.space.matrix("done", len(self.made), len(product.weight), dtype)
        multiply = torch._int_mm if form == loops.WHOLE else torch.mm
        multiply(self.made, product.weight.t(), out=done)
        if form == loops.HALF:
            return form, NO_WIDE, done.view(torch.int16).numpy().view(np.uint16), self.scales, columns
        return form, done.numpy().view(np.int32), NO_HALF, self.scales, columns

    def _settle(self, product: Product | None, norm: Norm, *, keeps: bool, to: int) -> None:
        given = (self.net.form, NO_WIDE, NO_HALF, self.scales, NO_COLUMN)
        if product is not None:
            given = self._multiply(product)
        out = self._out(self.x.shape[1]) if to != loops.NOTHING else (NO_FLOAT, NO_HALF, NO_BYTE)
        loops.settle(
            *given, self.x, product is not None, norm.kind, norm.weight, norm.bias, norm.eps, keeps, to, *out
        )


NO_FLOAT, NO_COLUMN = np.zeros((1, 1), np.float32), np.zeros((3, 1), np.float32)
NO_WIDE, NO_HALF, NO_BYTE = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.uint16), np.zeros((1, 1), np.int8)


def _floats(weight: Tensor) -> np.ndarray:
    return np.ascontiguousarray(weight.detach().float().numpy())


def _gains(a: Attention) -> np.ndarray:
    if a.q_norm is None or a.k_norm is None:
        return np.zeros((0, a.head_dim), np.float32)
    q, k = a.q_norm.weight, a.k_norm.weight
    return _floats(torch.cat((q.expand(a.heads, -1), k.expand(a.kv_heads, -1))))


def _norm(module: nn.Module, width: int) -> Norm:
    one, none = np.ones(width, np.float32), np.zeros(width, np.float32)
    if isinstance(module, nn.LayerNorm):
        bias = none if module.bias is None else _floats(module.bias)
        return Norm(NORMS["layer"], _floats(module.weight), bias, module.eps)
    if isinstance(module, nn.RMSNorm):
        return Norm(NORMS["rms"], _floats(module.weight), none, float(module.eps or 0.0))
    return Norm(NORMS["none"], one, none, 0.0)


def _reordered(weight: Tensor) -> Tensor | None:
    """A float32 matrix in oneDNN's own layout, which is the faster one where PyTorch's BLAS is not at home.

    None where this build cannot, or gives another result.
    """
    probe = torch.linspace(-1, 1, 4 * weight.shape[1]).view(4, -1)
    try:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, 1024)
        made = torch.ops.mkldnn._linear_pointwise(probe, packed, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return None
    return packed if torch.allclose(made, probe @ weight.t(), rtol=1e-3, atol=1e-4) else None

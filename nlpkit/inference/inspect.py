"""What a model is made of and what it does with one text: its weights, its operations, its attention.

Shapes: T tokens of the text, D width, H heads, K key/value heads, d width of a head, L layers.

Attention weights are not what the fused kernels return, so they are made again from what the model itself computed:
its q, k and v are taken where they leave their projections, turned by its own rotary positions and masked as the
layer masks. Weights · values, put through ``out``, give the attention's own output (tested).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nlpkit.core.batch import pad
from nlpkit.core.fused import rotate
from nlpkit.core.image_encoder import ImageEncoder, PatchEmbedding
from nlpkit.core.operations import head_of, image_operations, is_windowed, text_operations
from nlpkit.core.positions import rotary_table
from nlpkit.core.text_encoder import TextEncoder
from nlpkit.core.transformer import Attention, TransformerConfig
from nlpkit.errors import DataError, UsageError
from nlpkit.inference.batching import device_of, trunk_of
from nlpkit.inference.fill_mask import MARK
from nlpkit.inference.loading import LoadedModel

MOST_WEIGHTS = 16_000_000  # attention weights that are held at once: 64 MB


@dataclass(frozen=True)
class Module:
    """A module with weights of its own: name, class, the shape of each of its tensors, and their values together."""

    name: str
    kind: str
    shapes: dict[str, list[int]]
    parameters: int


@dataclass(frozen=True)
class Totals:
    """Sums over a model: values, those outside look-up tables, bytes in memory and of its weights on disk.

    ``tied``: the output over the vocabulary is the token embedding.
    """

    parameters: int
    without_embeddings: int
    bytes_in_memory: int
    bytes_on_disk: int
    tied: bool


@dataclass(frozen=True)
class Read:
    """A text as the model reads it: T ids with the names of their tokens, their texts and their positions."""

    text: str
    ids: list[int]
    tokens: list[str]  # as the vocabulary writes them
    pieces: list[str]  # as people do
    positions: list[int]


@dataclass(frozen=True)
class HeadView:
    """One head of one layer: q, k and v (T, d), turned already by rotary positions, and the weights (T, T).

    Row i of ``weights`` says how much of each token's v goes into token i; it sums to 1. ``window``: how far a
    windowed layer sees, else None. ``kv_head``: which key/value head this head shares.
    """

    layer: int
    head: int
    kv_head: int
    window: int | None
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    weights: np.ndarray


def modules(model: nn.Module) -> list[Module]:
    """Every module that has parameters of its own, in the model's order."""
    found = []
    for name, module in model.named_modules():
        own = {n: list(p.shape) for n, p in module.named_parameters(recurse=False)}
        if own:
            count = sum(p.numel() for p in module.parameters(recurse=False))
            found.append(Module(name or "(model)", type(module).__name__, own, count))
    return found


def together(rows: Sequence[Module]) -> list[tuple[str, str, int, int]]:
    """Equal modules of a stack's blocks as one line: (name, shapes, how many, parameters of all).

    >>> row = lambda i: Module(f"blocks.{i}.q", "Linear", {"weight": [2, 3], "bias": [2]}, 8)
    >>> together([row(0), row(1), row(2)])
    [('blocks.0-2.q', '2×3 + 2', 3, 24)]
    """
    groups: dict[tuple[str, str], list[tuple[int, Module]]] = {}
    for row in rows:
        match = re.match(r"(.*?\bblocks\.)(\d+)(\..*)$", row.name)
        shown = " + ".join("×".join(map(str, shape)) for shape in row.shapes.values())
        if list(row.shapes) == ["bias"]:
            shown = f"bias {shown}"
        name = row.name if match is None else f"{match[1]}{{}}{match[3]}"
        groups.setdefault((name, shown), []).append((int(match[2]) if match else 0, row))
    return [
        (
            name.replace("{}", _spans([i for i, _ in group])),
            shown,
            len(group),
            sum(m.parameters for _, m in group),
        )
        for (name, shown), group in groups.items()
    ]


def _spans(numbers: Sequence[int]) -> str:
    """``0-2,5`` for 0, 1, 2, 5."""
    spans: list[list[int]] = []
    for n in numbers:
        if spans and n == spans[-1][1] + 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def totals(loaded: LoadedModel) -> Totals:
    """The sums of a model; tied weights count once."""
    parameters = list(loaded.model.parameters())
    tables = {
        id(p)
        for m in loaded.model.modules()
        if isinstance(m, nn.Embedding | PatchEmbedding)
        for p in m.parameters(recurse=False)
    }
    return Totals(
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if id(p) not in tables),
        sum(p.numel() * p.element_size() for p in parameters),
        sum(path.stat().st_size for path in loaded.folder.glob("*.safetensors")),
        head_of(loaded.model) != "none" and trunk_of(loaded.model).config.tied,
    )


def operations(loaded: LoadedModel, tokens: int | None) -> dict[str, int]:
    """Operations of matrix products in a forward pass, and three times as many for a training step, of one item.

    A text of ``tokens`` tokens (None: a full context), or one image; then convolutions are counted too.
    """
    model: Any = loaded.model
    if any(isinstance(m, TextEncoder) for m in model.modules()):
        length = tokens if tokens is not None else trunk_of(model).config.context
        forward = text_operations(model, length)
        return {"tokens": length, "forward": forward, "training": 3 * forward}
    if any(isinstance(m, ImageEncoder) for m in model.modules()):
        forward = image_operations(model)
        return {"images": 1, "forward": forward, "training": 3 * forward}
    from torch.utils.flop_counter import FlopCounterMode

    c = model.config
    pixels = torch.zeros(1, c.in_channels, c.size, c.size, device=device_of(model))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.loss({"pixels": pixels, "labels": torch.zeros(1, dtype=torch.long, device=pixels.device)})
    forward = int(counter.get_total_flops())
    return {"images": 1, "forward": forward, "training": 3 * forward}


def read(loaded: LoadedModel, text: str) -> Read:
    """The text as this kind of model reads it: with its special tokens; ``<MASK>`` is understood.

    Raises ArtifactError for a model that reads no text, DataError for a text without tokens or longer than the
    model's context.
    """
    tokenizer, context = loaded.text, trunk_of(loaded.model).config.context
    marked = text
    if head_of(loaded.model) == "masked":
        mask = tokenizer.id_to_token(tokenizer.mask_id)
        marked = re.sub(rf" *(?:{MARK.pattern})", lambda _: mask, text)
    special = loaded.kind != "clm" or not tokenizer.ours  # as generate and classify do
    ids = tokenizer.encode([marked], special=special)[0]
    if not ids:
        raise DataError("the text has no tokens; give at least one word")
    if len(ids) > context:
        raise DataError(
            f"a text of {len(ids)} tokens, but {loaded.folder} reads {context}; give a shorter one"
        )
    tokens = [tokenizer.id_to_token(i) for i in ids]
    pieces = [
        piece_of(tokenizer.decode([i], special=True), token) for i, token in zip(ids, tokens, strict=True)
    ]
    return Read(text, ids, tokens, pieces, list(range(len(ids))))


def piece_of(decoded: str, token: str) -> str:
    """A token for people: its text without a leading space, or the vocabulary's writing of a part of a character.

    >>> piece_of(" cat", "Ġcat"), piece_of("\\ufffd", "Ã")
    ('cat', 'Ã')
    """
    return token if not decoded.strip() or "\ufffd" in decoded else decoded.strip()


@dataclass
class _Taken:
    """What left the projections of one attention, and their norms where it has any: (T, heads · d) each."""

    q: Tensor | None = None
    k: Tensor | None = None
    v: Tensor | None = None


@dataclass
class Watched:
    """The attention of every layer of a text model over one text, head by head on demand."""

    config: TransformerConfig
    length: int
    taken: list[_Taken] = field(default_factory=list)

    def head(self, layer: int, head: int) -> HeadView:
        """One head's q, k, v and weights, layers and heads counted from 0; UsageError out of range."""
        c, a = self.config, self.config.attention
        for what, number, count in (("--layer", layer, c.depth), ("--head", head, a.heads)):
            if not 0 <= number < count:
                raise UsageError(
                    f"{what} {number}: expected 0 to {count - 1}" if count else f"{what}: there is none"
                )
        shared = head // (a.heads // (a.kv_heads or a.heads))
        q, k, v = (
            _one(t, n, c.head_dim)
            for t, n in zip(self._projected(layer), (head, shared, shared), strict=True)
        )
        local = is_windowed(a, layer)
        if a.rope is not None:
            positions = torch.arange(self.length, device=q.device)[None]
            table = rotary_table(
                positions, c.head_dim, (a.local_rope or a.rope) if local else a.rope, q.dtype
            )
            q, k = (rotate(x[None, None], table)[0, 0] for x in (q, k))
        scores = q @ k.T / c.head_dim**0.5  # (T, T)
        at = torch.arange(self.length, device=q.device)
        far = at[None, :] - at[:, None]  # key minus query
        window = a.window if local else None
        hidden = torch.zeros_like(far, dtype=torch.bool)
        if a.causal:
            hidden |= far > 0
        if window is not None:
            hidden |= far.abs() > window
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        values = (x.cpu().numpy() for x in (q, k, v, weights))
        return HeadView(layer, head, shared, window, *values)

    def layer(self, layer: int) -> np.ndarray:
        """The weights of all heads of a layer, (H, T, T)."""
        return np.stack([self.head(layer, h).weights for h in range(self.config.attention.heads)])

    def all(self) -> np.ndarray:
        """The weights of all layers, (L, H, T, T); DataError for a text too long to hold them."""
        count = self.config.depth * self.config.attention.heads
        if count * self.length**2 > MOST_WEIGHTS:
            longest = int((MOST_WEIGHTS / count) ** 0.5)
            raise DataError(
                f"{count} maps of {self.length} tokens are too many to draw; give a text of up to {longest} tokens, "
                "or choose one with --layer and --head"
            )
        return np.stack([self.layer(i) for i in range(self.config.depth)])

    def _projected(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        one = self.taken[layer]
        assert one.q is not None and one.k is not None and one.v is not None
        return one.q, one.k, one.v


def _one(projected: Tensor, head: int, width: int) -> Tensor:
    """One head of projected rows, (T, d)."""
    return projected[:, head * width : (head + 1) * width]


@torch.inference_mode()
def watch(model: nn.Module, ids: Sequence[int]) -> Watched:
    """Read one text and keep every layer's q, k and v, before positions turn them."""
    encoder = trunk_of(model)
    watched = Watched(encoder.config.trunk, len(ids))
    handles = []
    for block in encoder.trunk.blocks:
        taken = _Taken()
        watched.taken.append(taken)
        attention: Any = block.attention
        assert isinstance(attention, Attention)
        last = {"q": attention.q_norm or attention.q, "k": attention.k_norm or attention.k, "v": attention.v}
        for name, module in last.items():
            handles.append(module.register_forward_hook(_keep(taken, name)))
    try:
        rows, segments = pad([list(ids)], 0, device_of(model))
        encoder(rows, segments)
    finally:
        for handle in handles:
            handle.remove()
    return watched


def _keep(taken: _Taken, name: str) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        setattr(taken, name, output.detach().flatten(2).flatten(0, 1))  # a norm's is (1, T, heads, d)

    return hook


def as_json(view: HeadView) -> Mapping[str, Any]:
    """A head's matrices as nested lists."""
    matrices = {name: getattr(view, name).tolist() for name in ("q", "k", "v", "weights")}
    return {
        "layer": view.layer,
        "head": view.head,
        "kv_head": view.kv_head,
        "window": view.window,
        "q": matrices["q"],
        "k": matrices["k"],
        "v": matrices["v"],
        "a": matrices["weights"],
    }

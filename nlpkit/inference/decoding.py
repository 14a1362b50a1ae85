"""Reads growing rows of tokens with a next-token model: the prompts in one pass, then one token of each row a step.

Shapes: B rows, T tokens, S tokens so far, D width, H heads, K key/value heads, d width of a head, V vocabulary.

Notable: a step is bound by how fast the weights come out of memory. :class:`Step` therefore keeps its own copy of
the stack's matrices, input dimension first and fused (q, k, v; gate and up): a product of a few rows with such a
matrix reads it in order, about twice as fast as ``nn.Linear``'s layout. It takes the sizes and the arithmetic of
:mod:`nlpkit.core.transformer`; stacks that it does not know (windows, other positions) are read by their own forward.
"""

from collections.abc import Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpkit.core.batch import pad
from nlpkit.core.cache import Cache
from nlpkit.core.positions import rotary_table
from nlpkit.core.transformer import Attention, Block
from nlpkit.inference.batching import device_of, special_ids, text_config
from nlpkit.inference.loading import LoadedModel


class _Matrix:
    """Linear layers of the same input as one matrix (D, outputs), their biases behind one another."""

    def __init__(self, *layers: nn.Linear) -> None:
        self.weight = torch.cat([layer.weight.detach() for layer in layers]).t().contiguous()
        biases = [layer.bias for layer in layers]
        self.bias = None if biases[0] is None else torch.cat([b.detach() for b in biases])

    def __call__(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.weight) if self.bias is None else torch.addmm(self.bias, x, self.weight)


class _Layer:
    """The matrices and norms of one block."""

    def __init__(self, block: Block) -> None:
        a, m = block.attention, block.mlp
        self.before_attention, self.before_mlp = _norm(block.attention_norm), _norm(block.mlp_norm)
        self.qkv, self.out = _Matrix(a.q, a.k, a.v), _Matrix(a.out)
        self.up = _Matrix(m.up) if m.gate is None else _Matrix(m.gate, m.up)
        self.down, self.gated, self.activation = _Matrix(m.down), m.gate is not None, m.activation
        self.qk_gain = _qk_gain(a)
        self.qk_eps = 0.0 if a.q_norm is None else cast(float, a.q_norm.eps)


def _qk_gain(a: Attention) -> Tensor | None:
    """The gains of QK-norm for the heads of q and k behind one another, (H + K, d); None: it has none."""
    if a.q_norm is None or a.k_norm is None:
        return None
    q, k = (norm.weight.detach() for norm in (a.q_norm, a.k_norm))
    return torch.cat((q.expand(a.heads, -1), k.expand(a.kv_heads, -1)))


def _norm(norm: nn.Module) -> Any:
    """The norm as a function of x (B, D) without a module's call around it."""
    if isinstance(norm, nn.LayerNorm):
        shape, weight, bias, eps = norm.normalized_shape, norm.weight, norm.bias, norm.eps
        return lambda x: F.layer_norm(x, shape, weight, bias, eps)
    if isinstance(norm, nn.RMSNorm):
        scale, small = norm.weight.detach(), cast(float, norm.eps)
        return lambda x: x.square().mean(-1, True).add_(small).rsqrt_() * x * scale
    return norm


class Step:
    """One new token of each row, (B,) ids → (B, V) logits; the model's own forward, laid out for few rows."""

    def __init__(self, model: Any) -> None:
        encoder, c = model.encoder, model.encoder.config
        a = c.trunk.attention
        self.heads, self.kv_heads, self.width = a.heads, a.kv_heads or a.heads, c.trunk.head_dim
        self.tokens = encoder.embed.token.weight.detach()
        self.places = None if encoder.embed.position is None else encoder.embed.position.weight.detach()
        self.layers = [_Layer(block) for block in encoder.trunk.blocks]
        self.norm = _norm(encoder.trunk.norm)
        own = model.head.vocabulary.weight
        self.head = (self.tokens if own is None else own.detach()).t().contiguous()
        self.cos = self.sin = None
        if a.rope is not None:
            every = torch.arange(c.context, device=self.tokens.device)[None]
            cos, sin = (t[0, 0] for t in rotary_table(every, self.width, a.rope, self.tokens.dtype))
            # Two halves of a head turn together: x · [cos, cos] + [second, first] · [-sin, sin].
            self.cos, self.sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)  # (context, d)

    @staticmethod
    def fits(model: nn.Module) -> bool:
        """Whether the model's arithmetic is the one that is done here: plain modules, and nobody's hooks in them."""
        c = text_config(model)
        for module in model.modules():
            linear = isinstance(module, nn.Linear) and type(module) is not nn.Linear
            if linear or module._forward_hooks or module._forward_pre_hooks:
                return False
        a, t = c.trunk.attention, c.trunk
        return (
            c.causal
            and c.positions in ("rotary", "learned")
            and not c.embed_norm
            and not c.types
            and a.window is None
            and t.norm.place == "pre"
            and not (t.cross or t.condition)
            and (a.rope is not None) == (c.positions == "rotary")
        )

    def __call__(self, ids: Tensor, places: Tensor, cache: Cache, hidden: Tensor | None) -> Tensor:
        """Logits of the token behind each row's new one.

        ``places`` (B,) or (1,): the position of the new tokens in their rows. ``hidden``: 0, and -inf where a row
        has padding, (B, 1, 1, S).
        """
        x = self.tokens[ids]  # (B, D)
        rows, both = x.shape[0], self.heads + self.kv_heads
        if self.places is not None:
            x = x + self.places[places]
        cos = sin = None
        if self.cos is not None and self.sin is not None:
            cos, sin = self.cos[places, None], self.sin[places, None]  # (B|1, 1, d)
        cache.extend(None, x[:, None])
        half, grouped = self.width // 2, self.kv_heads != self.heads
        for number, layer in enumerate(self.layers):
            qkv = layer.qkv(layer.before_attention(x)).view(rows, -1, self.width)  # (B, H + 2K, d)
            qk = qkv[:, :both]
            if layer.qk_gain is not None:
                qk = qk.square().mean(-1, True).add_(layer.qk_eps).rsqrt_() * qk * layer.qk_gain
            if cos is not None and sin is not None:
                qk = torch.addcmul(qk * cos, qk.roll(half, -1), sin)
            q = qk[:, : self.heads, None]
            k, v = cache.append(number, qk[:, self.heads :, None], qkv[:, both:, None])  # (B, K, S, d)
            if grouped:
                groups = self.heads // self.kv_heads
                k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
            y = F.scaled_dot_product_attention(q, k, v, hidden)
            x = x + layer.out(y.view(rows, -1))
            h = layer.up(layer.before_mlp(x))
            if layer.gated:
                gate, up = h.chunk(2, -1)
                h = layer.activation(gate) * up
            else:
                h = layer.activation(h)
            x = x + layer.down(h)
        return torch.mm(self.norm(x), self.head)


_STEPS: "WeakKeyDictionary[nn.Module, tuple[list[tuple[int, int]], Step]]" = WeakKeyDictionary()


@torch.inference_mode()
def step_of(model: nn.Module) -> Step | None:
    """The model's :class:`Step`, made again when its weights have changed; ``None`` where its arithmetic is another.

    Where each lies and torch's count of its changes in place tell.
    """
    if not Step.fits(model):
        return None
    state = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in model.parameters()]
    known = _STEPS.get(model)
    like = next(model.parameters())
    if known is None or known[0] != state or known[1].tokens.dtype != like.dtype:
        _STEPS[model] = known = state, Step(model)
    return known[1]


class Decoding:
    """Rows of token ids, and what the model has read of them.

    When a row fills the model's context, its older half is dropped and the newer half read again. Prompts of unequal
    length are padded on their left, where nobody sees it, so that each row's answers are those that it has alone.
    """

    def __init__(
        self, loaded: LoadedModel, prompts: Sequence[Sequence[int]], *, room: int = 0, cached: bool = True
    ) -> None:
        """Make room for ``room`` more tokens a row at once.

        ``cached=False`` reads each row whole for every token: slower, the same up to rounding.
        """
        loaded.need("clm", verb="generate")
        self.model, tokenizer = cast(Any, loaded.model), loaded.text
        self.context, self.device = text_config(self.model).context, device_of(self.model)
        self.end, self._pad = tokenizer.eos_id, tokenizer.eos_id
        barred = special_ids(tokenizer, "pad", "unk", "cls", "sep", "mask") - {self.end}
        self._barred = torch.tensor(sorted(barred), device=self.device, dtype=torch.long)
        self.rows = [list(prompt) for prompt in prompts]
        if not all(self.rows):
            raise ValueError("a prompt needs at least one token")
        self.starts = [max(0, len(row) - self.context) for row in self.rows]  # what lies before is not read
        self._step = step_of(self.model) if cached else None
        self._cached, self._room = cached, room
        self._cache: Cache | None = None
        self._hidden: Tensor | None = None  # (B, 1, 1, context): -inf at padding; None: there is none
        self._places: Tensor | None = None  # (B,): where the next token of each row stands

    @torch.inference_mode()
    def logits(self) -> Tensor:
        """Logits (B, V) of the next token of each row; special tokens but the end of text are never offered."""
        for r, row in enumerate(self.rows):
            if len(row) - self.starts[r] > self.context:
                self.starts[r] = len(row) - max(1, self.context // 2)
                self._cache = None
        if self._cache is not None and self._cache.length >= self.context:
            self._cache = None  # a row that has gone was the longest: the others stand behind padding
        if self._cache is None:
            found = self._read()
        else:
            last = torch.tensor([row[-1] for row in self.rows], device=self.device)
            if self._step is not None and self._places is not None:
                length = self._cache.length + 1
                hidden = None if self._hidden is None else self._hidden[..., :length]
                found = self._step(last, self._places, self._cache, hidden)
                self._places += 1
            else:
                new = None if self._hidden is None else torch.ones_like(last)[:, None]
                found = self.model(last[:, None], new, cache=self._cache, last=True)[:, -1]
        return found.index_fill_(-1, self._barred, -torch.inf)

    def _read(self) -> Tensor:
        """Read every row from its start."""
        shown = [row[start:] for row, start in zip(self.rows, self.starts, strict=True)]
        longest = max(map(len, shown))
        padding = [longest - len(row) for row in shown]
        inputs, _ = pad(
            [[self._pad] * n + row for n, row in zip(padding, shown, strict=True)], 0, self.device
        )
        segments = None
        if any(padding):
            empty = torch.arange(self.context) < torch.tensor(padding)[:, None]
            segments = (~empty[:, :longest]).long().to(self.device)
            like = next(self.model.parameters())
            self._hidden = like.new_zeros(len(shown), 1, 1, self.context)
            self._hidden.masked_fill_(empty[:, None, None].to(self.device), -torch.inf)
        else:
            self._hidden = None
        self._cache = Cache(min(self.context, longest + self._room)) if self._cached else None
        self._places = torch.tensor([len(row) for row in shown], device=self.device)
        found: Tensor = self.model(inputs, segments, cache=self._cache, last=True)[:, -1]
        return found

    def append(self, tokens: Sequence[int]) -> None:
        """Put one token behind each row."""
        for row, token in zip(self.rows, tokens, strict=True):
            row.append(token)

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order: finished ones go, beams are copied."""
        if list(rows) == list(range(len(self.rows))):
            return
        self.rows = [list(self.rows[r]) for r in rows]
        self.starts = [self.starts[r] for r in rows]
        index = torch.tensor(list(rows), device=self.device, dtype=torch.long)
        if self._cache is not None:
            self._cache.select(index)
        if self._hidden is not None:
            self._hidden = self._hidden[index]
        if self._places is not None:
            self._places = self._places[index]

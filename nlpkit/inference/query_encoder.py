"""A few texts → unit vectors without torch: the forward pass of BERT and ModernBERT in numpy, over mapped weights.

Shapes: T tokens of all texts, one behind the other; D width, H heads, L tokens of one text, d width of a head.

A search loads nothing but a tokenizer and the rows of the embedding that it needs; the answers are those of
:func:`nlpkit.inference.embed.load_encoder` to 1e-5, under the same fingerprint. What is not computed here (other
families, unusual settings, many tokens) goes that way. Bounds are checked here, by no native parser; seals are compared
with hashes that may be remembered (:mod:`nlpkit.inference.known_files`).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit.errors import ArtifactError
from nlpkit.inference.known_files import Known, check, fingerprint
from nlpkit.inference.loading import find, resolve
from nlpkit.inference.sentences import Encoder, SentenceEncoder, batches, packed
from nlpkit.inference.tensors_file import Tensors
from nlpkit.store import jsonfile, manifest
from nlpkit.text.recipe import Recipe
from nlpkit.text.tokenizer import CONFIG_FILE, FILE, RECIPE_FILE, Tokenizer

FEW = 4096  # tokens of a call; more are worth the import of torch
WEIGHTS = "model.safetensors"
ARCHITECTURES = {
    ("bert", "BertModel"), ("bert", "BertForMaskedLM"),
    ("modernbert", "ModernBertModel"), ("modernbert", "ModernBertForMaskedLM"),
}  # fmt: skip
USUAL: dict[str, dict[str, Any]] = {  # anything else is left to the strict reader
    "bert": {
        "position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False,
        "hidden_act": "gelu", "quantization_config": None,
    },
    "modernbert": {
        "embedding_norm": True, "hidden_activation": "gelu", "quantization_config": None, "norm_bias": False,
        "attention_bias": False, "mlp_bias": False,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What of config.json the forward pass needs."""

    family: str
    width: int
    depth: int
    heads: int
    hidden: int
    vocab: int
    context: int
    eps: float
    window: int = 0
    every: int = 1
    rope: float = 0.0
    local_rope: float = 0.0


class _Unusual(Exception):
    """Something that is left to load_encoder, which can it, or says what is wrong."""


def _shape(values: Mapping[str, Any]) -> Shape:
    family = values.get("model_type")
    names = values.get("architectures")
    own = values.get("nlpkit")
    if not (isinstance(names, list) and names and (family, names[0]) in ARCHITECTURES):
        raise _Unusual
    if own is not None and not (
        isinstance(own, dict) and own.get("kind") in ("biencoder", "mlm") and own.get("format") == 1
    ):
        raise _Unusual  # fmt: skip
    family = str(family)
    if any(values.get(key, value) != value for key, value in USUAL[family].items()):
        raise _Unusual

    def number(key: str, whole: bool = True) -> Any:
        value = values.get(key)
        if (type(value) is not int and (whole or type(value) is not float)) or not 0 < value < 2**31:
            raise _Unusual
        return value

    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    width, depth, heads, hidden = (number(name) for name in sizes)
    vocab, context = number("vocab_size"), number("max_position_embeddings")
    if width % heads or (family == "modernbert" and width // heads % 2):
        raise _Unusual
    if family == "bert":
        eps = number("layer_norm_eps", whole=False)
        return Shape(family, width, depth, heads, hidden, vocab, context, eps)
    every, kinds = number("global_attn_every_n_layers"), values.get("layer_types")
    if kinds is not None and kinds != [
        "sliding_attention" if i % every else "full_attention" for i in range(depth)
    ]:
        raise _Unusual
    ropes = values.get("rope_parameters")
    wide, local = (number(f"{where}_rope_theta", whole=False) for where in ("global", "local"))
    if ropes is not None:
        usual = [{"rope_type": "default", "rope_theta": base} for base in (wide, local)]
        if ropes != {"full_attention": usual[0], "sliding_attention": usual[1]}:
            raise _Unusual
    eps, window = number("norm_eps", whole=False), number("local_attention") // 2
    return Shape(family, width, depth, heads, hidden, vocab, context, eps, window, every, wide, local)


class _Weights:
    """The tensors by their names without the family's prefix, and their shapes compared."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self.file = Tensors(path, manifest.remedy(path.parent))
        prefix = "bert." if shape.family == "bert" else "model."
        self.names = {name.removeprefix(prefix): name for name in self.file.names}
        self.path, c = path, shape
        self.token = f"embeddings.{'word' if c.family == 'bert' else 'tok'}_embeddings.weight"
        self._need(self.token, c.vocab, c.width)

    def _need(self, name: str, *shape: int) -> str:
        stored = self.names.get(name)
        if stored is None:
            raise _Unusual  # an older name, or damage: the strict reader tells which
        if self.file.shape(stored) != shape:
            raise ArtifactError(
                f"{self.path}: {name} has the shape {list(self.file.shape(stored))}, "
                f"its config.json says {list(shape)}"
            )
        return stored

    def get(self, name: str, *shape: int) -> np.ndarray:
        """A tensor of this shape."""
        return self.file[self._need(name, *shape)]

    def first(self, name: str, width: int) -> np.ndarray:
        """The first row of a matrix of any height."""
        height = self.file.shape(self.names[name])[0] if name in self.names else 1
        return self.rows(name, np.zeros(1, np.int64), height, width)[0]

    def rows(self, name: str, at: np.ndarray, *shape: int) -> np.ndarray:
        """Rows of a matrix of this shape."""
        return self.file.rows(self._need(name, *shape), at)


class QueryEncoder(SentenceEncoder):
    """A BERT or ModernBERT for a few texts at a time; many are given to :func:`~nlpkit.inference.embed.load_encoder`.

    ``name`` is what to open then.
    """

    def __init__(self, name: str | Path, folder: Path, shape: Shape, known: Known) -> None:
        tokenizer = _tokenizer(folder, known)
        super().__init__(folder, tokenizer, shape.context, shape.width)
        self.name, self.shape, self.weights = name, shape, _Weights(folder / WEIGHTS, shape)
        self.fingerprint = fingerprint(folder, known)
        self._forward = _bert if shape.family == "bert" else _modernbert
        self._other: SentenceEncoder | None = None

    def vectors(self, ids: list[list[int]], batch_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As its parent; by torch where there are many tokens or unusual tensors, and from then on."""
        if self._other is None and sum(map(len, ids)) <= FEW:
            try:
                made = []
                for batch in batches(np.array([len(text) for text in ids]), batch_tokens):
                    flat, starts = packed([ids[i] for i in batch])
                    made.append((batch, self.pool(self._hidden(flat, starts), starts)))
                yield from made
                return
            except _Unusual:
                pass
        if self._other is None:
            from nlpkit.inference.embed import load_encoder

            other = load_encoder(self.name)
            assert isinstance(other, SentenceEncoder)
            self._other = other
        yield from self._other.vectors(ids, batch_tokens)

    def _hidden(self, ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Hidden states (T, D) float32."""
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self.shape.vocab:
            raise ArtifactError(f"{self.folder}: its tokenizer gives ids that its vectors do not have")
        return self._forward(self.weights, self.shape, ids, starts)


def _bert(w: _Weights, c: Shape, ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Devlin et al. 2018; the norm behind each sublayer."""
    width, places = c.width, _places(starts)
    x = w.rows(w.token, ids, c.vocab, width)
    x = x + w.rows("embeddings.position_embeddings.weight", places, c.context, width)
    x = x + w.first("embeddings.token_type_embeddings.weight", width)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return _norm(x, w.get(f"{name}.weight", width), w.get(f"{name}.bias", width), c.eps)

    def linear(x: np.ndarray, name: str, inner: int, outer: int) -> np.ndarray:
        return x @ w.get(f"{name}.weight", outer, inner).T + w.get(f"{name}.bias", outer)

    x = norm(x, "embeddings.LayerNorm")
    for n in range(c.depth):
        at = f"encoder.layer.{n}."
        q, k, v = (
            linear(x, f"{at}attention.self.{part}", width, width) for part in ("query", "key", "value")
        )
        made = linear(_attend(q, k, v, starts, c.heads, 0), f"{at}attention.output.dense", width, width)
        x = norm(x + made, f"{at}attention.output.LayerNorm")
        made = _gelu(linear(x, f"{at}intermediate.dense", width, c.hidden))
        x = norm(x + linear(made, f"{at}output.dense", c.hidden, width), f"{at}output.LayerNorm")
    return x


def _modernbert(w: _Weights, c: Shape, ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Warner et al. 2024: rotary positions, gated MLPs, windows in most layers, norms before the sublayers."""
    width, places = c.width, _places(starts)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return _norm(x, w.get(f"{name}.weight", width), None, c.eps)

    def linear(x: np.ndarray, name: str, inner: int, outer: int) -> np.ndarray:
        return x @ w.get(f"{name}.weight", outer, inner).T

    x = norm(w.rows(w.token, ids, c.vocab, width), "embeddings.norm")
    turns = [_turns(places, width // c.heads, base) for base in (c.rope, c.local_rope)]
    for n in range(c.depth):
        at, local = f"layers.{n}.", n % c.every != 0
        h = norm(x, f"{at}attn_norm") if n else x
        q, k, v = np.split(linear(h, f"{at}attn.Wqkv", width, 3 * width), 3, 1)
        q, k = (_turn(part, c.heads, turns[local]) for part in (q, k))
        made = _attend(q, k, v, starts, c.heads, c.window if local else 0)
        x = x + linear(made, f"{at}attn.Wo", width, width)
        gate, up = np.split(linear(norm(x, f"{at}mlp_norm"), f"{at}mlp.Wi", width, 2 * c.hidden), 2, 1)
        x = x + linear(_gelu(gate) * up, f"{at}mlp.Wo", c.hidden, width)
    return norm(x, "final_norm")


def _places(starts: np.ndarray) -> np.ndarray:
    """The place of each token in its text."""
    return np.asarray(np.arange(starts[-1]) - np.repeat(starts[:-1], np.diff(starts)))


def _norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, eps: float) -> np.ndarray:
    x = x - x.mean(1, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(1, keepdims=True) + np.float32(eps)) * weight
    return x if bias is None else x + bias


def _gelu(x: np.ndarray) -> np.ndarray:
    """x Φ(x), with erf to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26)."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    p = np.float32(1.061405429)
    for c in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        p = p * t + np.float32(c)
    tail = np.float32(0.5) * p * t * np.exp(-z * z)
    return np.asarray(x * np.where(x >= 0, 1 - tail, tail))


def _turns(places: np.ndarray, d: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    inverse = 1 / np.float32(base) ** (np.arange(0, d, 2, dtype=np.float32) / np.float32(d))
    angles = places[:, None, None].astype(np.float32) * inverse
    return np.cos(angles), np.sin(angles)  # (T, 1, d/2)


def _turn(x: np.ndarray, heads: int, turns: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    first, second = np.split(x.reshape(len(x), heads, -1), 2, 2)
    cos, sin = turns
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], 2).reshape(x.shape)


def _attend(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, starts: np.ndarray, heads: int, window: int
) -> np.ndarray:
    """Softmax attention of each text to itself; ``window``: |i - j| ≤ window, 0 for all."""
    out = np.empty_like(q)
    scale = np.float32((q.shape[1] // heads) ** -0.5)
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        qs, ks, vs = (a[begin:end].reshape(end - begin, heads, -1).swapaxes(0, 1) for a in (q, k, v))
        scores = qs @ ks.swapaxes(1, 2) * scale  # (H, L, L)
        if window and end - begin > window + 1:
            at = np.arange(end - begin)
            scores = np.where(np.abs(at[:, None] - at) <= window, scores, np.float32(-np.inf))
        scores = np.exp(scores - scores.max(2, keepdims=True))
        made = scores @ vs / scores.sum(2, keepdims=True)
        out[begin:end] = made.swapaxes(0, 1).reshape(end - begin, -1)
    return out


def _tokenizer(folder: Path, known: Known) -> Tokenizer:
    """The folder's tokenizer. What was checked of the same bytes before is not checked again."""
    name = f"tokenizer {known.sha256(folder / FILE)}"
    if (folder / RECIPE_FILE).is_file():
        name += f" {known.sha256(folder / RECIPE_FILE)}"
    held = known.get(name)
    if not isinstance(held, str) or (folder / manifest.NAME).exists():
        made = Tokenizer.load(folder)
        if not isinstance(held, str):
            known.remember(name, made.fingerprint)
        return made
    config = jsonfile.read(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {}
    recipe = Recipe.load(folder / RECIPE_FILE) if (folder / RECIPE_FILE).is_file() else None
    return Tokenizer((folder / FILE).read_text("utf-8"), recipe=recipe, config=config, fingerprint=held)


def load_query_encoder(name: str | Path) -> Encoder:
    """An encoder for a few texts that imports no torch where it can do without; else that of ``load_encoder``.

    Raises UsageError (not there, another kind of model) and ArtifactError (damaged).
    """
    folder = find(name)
    known = Known()
    try:
        if (folder / manifest.NAME).is_file() and manifest.read(folder).kind == "vectors":
            raise _Unusual
        inner = resolve(name)
        check(inner, known)
        shape = _shape(jsonfile.read(inner / "config.json"))
        if not (inner / WEIGHTS).is_file() or not (inner / FILE).is_file():
            raise _Unusual
        made = QueryEncoder(name, inner, shape, known)
    except _Unusual:
        from nlpkit.inference.embed import load_encoder

        return load_encoder(name)
    known.keep()
    return made

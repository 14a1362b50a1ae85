"""``config.json`` of the five text families ⇄ TextConfig. What cannot be represented is refused, never dropped.

The file may come from anywhere: nothing in it is executed (``auto_map`` is ignored), and every value is checked.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nlpkit.core.text_encoder import FAMILIES, Family, TextConfig
from nlpkit.core.transformer import AttentionConfig, MlpConfig, NormConfig, TransformerConfig
from nlpkit.errors import ArtifactError, UsageError, did_you_mean

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}
TO_HF = {"gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu", "relu": "relu"}
MUST_BE: dict[str, dict[str, Any]] = {  # settings of other networks than ours
    "bert": {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
    "gpt2": {
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
    "modernbert": {"decoder_bias": True, "classifier_activation": "gelu", "embedding_norm": True},
    "llama": {},
    "qwen3": {"use_sliding_window": False},
}


class Reader:
    """Checked access to the values of a ``config.json``."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def refuse(self, message: str) -> ArtifactError:
        """An ArtifactError that names the file."""
        return ArtifactError(f"{self.where}: {message}")

    def whole(self, key: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise self.refuse(f"{key}: expected a positive whole number, got {value!r}")
        return value

    def number(self, key: str, default: float) -> float:
        """A number that is not negative."""
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
            raise self.refuse(f"{key}: expected a number, got {value!r}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.refuse(f"{key}: expected true or false, got {value!r}")
        return value

    def token(self, key: str, vocab: int) -> int | None:
        """A token id within the vocabulary, or None."""
        value = self.values.get(key)
        if isinstance(value, list) and value:  # several ends of text: the first
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < vocab:
            return None
        return value

    def activation(self, key: str, default: str) -> Any:
        """Our name of an activation."""
        name = self.values.get(key, default)
        if not isinstance(name, str) or name not in ACTIVATIONS:
            raise self.refuse(f"{key}: {name!r} is not supported{did_you_mean(str(name), ACTIVATIONS)}")
        return ACTIVATIONS[name]

    def rope(self, values: Any, old: float) -> float:
        """The base out of a rope_parameters table (transformers 5) or an old key's value."""
        if values is None:
            return old
        if not isinstance(values, Mapping):
            raise self.refuse(f"rope_parameters: expected a table, got {values!r}")
        kind = values.get("rope_type", values.get("type", "default"))
        if kind != "default":
            raise self.refuse(f"rotary positions of type {kind!r} are not supported (only 'default')")
        return Reader(values, self.where).number("rope_theta", old)


def read(values: Mapping[str, Any], where: str) -> TextConfig:
    """The architecture that a ``config.json`` describes; ArtifactError where it is none of ours."""
    family = values.get("model_type")
    if family not in FAMILIES:
        raise ArtifactError(
            f"{where}: model_type {family!r} is not a text family of nlpkit ({', '.join(FAMILIES)})"
        )
    r = Reader(values, where)
    for key, value in MUST_BE[family].items():
        if values.get(key, value) != value:
            raise r.refuse(f"{key} = {values[key]!r} is not supported (only {value!r})")
    if values.get("quantization_config"):
        raise r.refuse("quantized weights are not supported: use the unquantized folder")
    vocab = r.whole("vocab_size")
    readers = {"bert": _bert, "modernbert": _modernbert, "gpt2": _gpt2, "llama": _llama, "qwen3": _qwen3}
    try:
        text = readers[family](r, vocab)
    except ValueError as error:
        raise r.refuse(str(error)) from error
    return text


def _bert(r: Reader, vocab: int) -> TextConfig:
    width = r.whole("hidden_size", 768)
    trunk = TransformerConfig(
        width,
        r.whole("num_hidden_layers", 12),
        AttentionConfig(r.whole("num_attention_heads", 12)),
        NormConfig(eps=r.number("layer_norm_eps", 1e-12), place="post", final_norm=False),
        MlpConfig(r.whole("intermediate_size", 3072), r.activation("hidden_act", "gelu")),
        dropout=r.number("hidden_dropout_prob", 0.1),
    )
    return TextConfig(
        "bert",
        vocab,
        r.whole("max_position_embeddings", 512),
        trunk,
        positions="learned",
        types=r.whole("type_vocab_size", 2),
        embed_norm=True,
        tied=r.flag("tie_word_embeddings", True),
        head_bias=True,
        pad_id=r.token("pad_token_id", vocab),
        bos_id=r.token("cls_token_id", vocab),
        eos_id=r.token("sep_token_id", vocab),
    )


def _modernbert(r: Reader, vocab: int) -> TextConfig:
    depth = r.whole("num_hidden_layers", 22)
    every = r.whole("global_attn_every_n_layers", 3)
    kinds = r.values.get("layer_types")
    if kinds is not None:
        wholes = [i for i, kind in enumerate(kinds) if kind == "full_attention"]
        every = wholes[1] if len(wholes) > 1 else max(depth, every)
        known = ["sliding_attention" if i % every else "full_attention" for i in range(depth)]
        if list(kinds) != known:
            raise r.refuse("layer_types: only every n-th layer, from the first, may have full attention")
        stated = r.values.get("global_attn_every_n_layers")
        if stated is not None and [bool(i % stated) for i in range(depth)] == [
            bool(i % every) for i in range(depth)
        ]:
            every = stated
    ropes = r.values.get("rope_parameters") or {}
    if not isinstance(ropes, Mapping):
        raise r.refuse(f"rope_parameters: expected a table, got {ropes!r}")
    local = r.number("local_rope_theta", 10_000.0)
    attention = AttentionConfig(
        r.whole("num_attention_heads", 12),
        bias=r.flag("attention_bias", False),
        rope=r.rope(ropes.get("full_attention"), r.number("global_rope_theta", 160_000.0)),
        local_rope=r.rope(ropes.get("sliding_attention"), local),
        window=r.whole("local_attention", 128) // 2,
        global_every=every,
    )
    norm = NormConfig(eps=r.number("norm_eps", 1e-5), bias=r.flag("norm_bias", False), first_norm=False)
    mlp = MlpConfig(
        r.whole("intermediate_size", 1152),
        r.activation("hidden_activation", "gelu"),
        gated=True,
        bias=r.flag("mlp_bias", False),
    )
    return TextConfig(
        "modernbert",
        vocab,
        r.whole("max_position_embeddings", 8192),
        TransformerConfig(
            r.whole("hidden_size", 768), depth, attention, norm, mlp, dropout=r.number("mlp_dropout", 0.0)
        ),
        embed_norm=True,
        tied=r.flag("tie_word_embeddings", True),
        head_bias=r.flag("classifier_bias", False),
        pad_id=r.token("pad_token_id", vocab),
        bos_id=r.token("cls_token_id", vocab),
        eos_id=r.token("sep_token_id", vocab),
    )


def _gpt2(r: Reader, vocab: int) -> TextConfig:
    width = r.whole("n_embd", 768)
    trunk = TransformerConfig(
        width,
        r.whole("n_layer", 12),
        AttentionConfig(r.whole("n_head", 12), causal=True),
        NormConfig(eps=r.number("layer_norm_epsilon", 1e-5)),
        MlpConfig(r.whole("n_inner", 4 * width), r.activation("activation_function", "gelu_new")),
        dropout=r.number("resid_pdrop", 0.1),
    )
    return TextConfig(
        "gpt2",
        vocab,
        r.whole("n_positions", 1024),
        trunk,
        positions="learned",
        tied=r.flag("tie_word_embeddings", True),
        pad_id=r.token("pad_token_id", vocab),
        bos_id=r.token("bos_token_id", vocab),
        eos_id=r.token("eos_token_id", vocab),
    )


def _llama(r: Reader, vocab: int) -> TextConfig:
    width, heads = r.whole("hidden_size", 4096), r.whole("num_attention_heads", 32)
    head_dim = r.whole("head_dim", max(width // heads, 1))
    return _decoder(r, vocab, "llama", head_dim, 11008, 2048, r.flag("mlp_bias", False))


def _qwen3(r: Reader, vocab: int) -> TextConfig:
    kinds = r.values.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds)):
        raise r.refuse("layer_types: only 'full_attention' is supported")
    return _decoder(r, vocab, "qwen3", r.whole("head_dim", 128), 22016, 32768, False)


def _decoder(
    r: Reader, vocab: int, family: Family, head_dim: int, hidden: int, context: int, bias: bool
) -> TextConfig:
    """What Llama and Qwen3 have in common; ``hidden`` and ``context`` where the file says nothing."""
    width, heads = r.whole("hidden_size", 4096), r.whole("num_attention_heads", 32)
    kv_heads = r.whole("num_key_value_heads", heads)
    rope = r.rope(r.values.get("rope_parameters"), r.number("rope_theta", 10_000.0))
    r.rope(r.values.get("rope_scaling"), rope)  # raises where the angles are scaled
    attention = AttentionConfig(
        heads,
        None if kv_heads == heads else kv_heads,
        None if head_dim * heads == width else head_dim,
        r.flag("attention_bias", False),
        causal=True,
        rope=rope,
        qk_norm=family == "qwen3",
    )
    mlp = MlpConfig(r.whole("intermediate_size", hidden), r.activation("hidden_act", "silu"), True, bias)
    norm = NormConfig("rms", r.number("rms_norm_eps", 1e-6), bias=False)
    depth = r.whole("num_hidden_layers", 32)
    return TextConfig(
        family,
        vocab,
        r.whole("max_position_embeddings", context),
        TransformerConfig(width, depth, attention, norm, mlp, dropout=r.number("attention_dropout", 0.0)),
        tied=r.flag("tie_word_embeddings", False),
        pad_id=r.token("pad_token_id", vocab),
        bos_id=r.token("bos_token_id", vocab),
        eos_id=r.token("eos_token_id", vocab),
    )


def write(text: TextConfig) -> dict[str, Any]:
    """The keys of ``config.json`` for this architecture; UsageError where Hugging Face's family cannot hold it."""
    c, a, n, m = text.trunk, text.trunk.attention, text.trunk.norm, text.trunk.mlp
    act = TO_HF[m.activation]
    values: dict[str, Any] = {
        "model_type": text.family,
        "vocab_size": text.vocab,
        "pad_token_id": text.pad_id,
        "bos_token_id": text.bos_id,
        "eos_token_id": text.eos_id,
        "initializer_range": 0.02,
        "tie_word_embeddings": text.tied,
    }
    usual: dict[str, Any] = {
        "hidden_size": c.width,
        "num_hidden_layers": c.depth,
        "num_attention_heads": a.heads,
        "intermediate_size": m.hidden,
        "max_position_embeddings": text.context,
    }
    encoder = {"cls_token_id": text.bos_id, "sep_token_id": text.eos_id}
    drop = c.dropout
    if text.family == "bert":
        values |= usual | encoder
        values |= {"hidden_act": act, "type_vocab_size": text.types, "layer_norm_eps": n.eps}
        values |= {"hidden_dropout_prob": drop, "attention_probs_dropout_prob": drop}
    elif text.family == "modernbert":
        kinds = [
            "sliding_attention" if a.global_every == 0 or i % a.global_every else "full_attention"
            for i in range(c.depth)
        ]
        wide, local = a.rope or 0.0, a.local_rope or a.rope or 0.0
        values |= usual | encoder
        values |= {
            "hidden_activation": act,
            "norm_eps": n.eps,
            "norm_bias": n.bias,
            "attention_bias": a.bias,
            "mlp_bias": m.bias,
            "classifier_bias": text.head_bias,
            "local_attention": 2 * (a.window or 0),
            "global_attn_every_n_layers": a.global_every,
            "layer_types": kinds,
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": wide},
                "sliding_attention": {"rope_type": "default", "rope_theta": local},
            },
            "global_rope_theta": wide,  # for readers older than transformers 5
            "local_rope_theta": local,
            "attention_dropout": drop,
            "embedding_dropout": drop,
            "mlp_dropout": drop,
        }
    elif text.family == "gpt2":
        values |= {
            "n_embd": c.width,
            "n_layer": c.depth,
            "n_head": a.heads,
            "n_inner": m.hidden,
            "n_positions": text.context,
            "activation_function": act,
            "layer_norm_epsilon": n.eps,
            "resid_pdrop": drop,
            "embd_pdrop": drop,
            "attn_pdrop": drop,
        }
    else:
        values |= usual
        values |= {
            "num_key_value_heads": a.kv_heads or a.heads,
            "head_dim": c.head_dim,
            "hidden_act": act,
            "rms_norm_eps": n.eps,
            "attention_bias": a.bias,
            "rope_parameters": {"rope_type": "default", "rope_theta": a.rope},
            "rope_theta": a.rope,  # for readers older than transformers 5
            "attention_dropout": drop,
        }
        values |= {"mlp_bias": m.bias} if text.family == "llama" else {"use_sliding_window": False}
    try:
        again = read(values, text.family)
    except ArtifactError as error:
        raise UsageError(f"this architecture has no Hugging Face layout: {error}") from error
    if _plain(again) != _plain(text):
        raise UsageError(
            f"this architecture has no Hugging Face layout: it changes what a {text.family} is; nearest: {again}"
        )
    return values


def _plain(text: TextConfig) -> TextConfig:
    """The same architecture with its defaults spelled out, for comparison."""
    a = text.trunk.attention
    a = replace(a, kv_heads=a.kv_heads or a.heads, head_dim=text.trunk.head_dim)
    return replace(text, trunk=replace(text.trunk, attention=a))

"""Hugging Face tensors ⇄ ours: one table of names a family, read in both directions.

A row says: a stored tensor is the concatenation of these of ours, perhaps transposed. Nothing is lost in silence:
a stored tensor without a place, or a place without a tensor, is an ArtifactError. The names are those on disk
(transformers renames some in memory, and leaves tied tensors out of the file).
"""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from nlpkit.core.transformer import TransformerConfig
from nlpkit.errors import ArtifactError

Task = Literal["mlm", "clm", "classify", "bare", "image"]


class Architecture(Protocol):
    """What the tables ask of a network's config: a TextConfig or an ImageConfig."""

    @property
    def family(self) -> str:
        """The name of its table."""

    @property
    def trunk(self) -> TransformerConfig:
        """Its stack."""

    @property
    def tied(self) -> bool:
        """Whether its output shares the token embedding."""


class Row(NamedTuple):
    """A stored name, ours ({} is the layer), and whether the stored matrix is transposed (GPT-2's Conv1D)."""

    stored: str
    ours: tuple[str, ...]
    transposed: bool = False


def _rows(
    prefix: str, inner: str, pairs: Mapping[str, str | tuple[str, ...]], transposed: bool = False
) -> list[Row]:
    return [
        Row(
            prefix + stored,
            tuple(inner + o for o in ((ours,) if isinstance(ours, str) else ours)),
            transposed,
        )
        for stored, ours in pairs.items()
    ]


EMBED, BLOCK = "encoder.embed.", "encoder.trunk.blocks.{}."
QKV = ("attention.q", "attention.k", "attention.v")

LLAMA = [
    Row("embed_tokens", (EMBED + "token",)),
    *_rows(
        "layers.{}.",
        BLOCK,
        {
            "input_layernorm": "attention_norm",
            "self_attn.q_proj": "attention.q",
            "self_attn.k_proj": "attention.k",
            "self_attn.v_proj": "attention.v",
            "self_attn.o_proj": "attention.out",
            "post_attention_layernorm": "mlp_norm",
            "mlp.gate_proj": "mlp.gate",
            "mlp.up_proj": "mlp.up",
            "mlp.down_proj": "mlp.down",
        },
    ),
    Row("norm", ("encoder.trunk.norm",)),
]

BASE: dict[str, list[Row]] = {
    "bert": [
        *_rows(
            "embeddings.",
            EMBED,
            {
                "word_embeddings": "token",
                "position_embeddings": "position",
                "token_type_embeddings": "token_type",
                "LayerNorm": "norm",
            },
        ),
        *_rows(
            "encoder.layer.{}.",
            BLOCK,
            {
                "attention.self.query": "attention.q",
                "attention.self.key": "attention.k",
                "attention.self.value": "attention.v",
                "attention.output.dense": "attention.out",
                "attention.output.LayerNorm": "attention_norm",
                "intermediate.dense": "mlp.up",
                "output.dense": "mlp.down",
                "output.LayerNorm": "mlp_norm",
            },
        ),
    ],
    "modernbert": [
        *_rows("embeddings.", EMBED, {"tok_embeddings": "token", "norm": "norm"}),
        *_rows(
            "layers.{}.",
            BLOCK,
            {
                "attn_norm": "attention_norm",
                "attn.Wqkv": QKV,
                "attn.Wo": "attention.out",
                "mlp_norm": "mlp_norm",
                "mlp.Wi": ("mlp.gate", "mlp.up"),
                "mlp.Wo": "mlp.down",
            },
        ),
        Row("final_norm", ("encoder.trunk.norm",)),
    ],
    "gpt2": [
        *_rows("", EMBED, {"wte": "token", "wpe": "position"}),
        *_rows("h.{}.", BLOCK, {"ln_1": "attention_norm", "ln_2": "mlp_norm"}),
        *_rows(
            "h.{}.",
            BLOCK,
            {
                "attn.c_attn": QKV,
                "attn.c_proj": "attention.out",
                "mlp.c_fc": "mlp.up",
                "mlp.c_proj": "mlp.down",
            },
            transposed=True,
        ),
        Row("ln_f", ("encoder.trunk.norm",)),
    ],
    "llama": LLAMA,
    "qwen3": [
        *LLAMA,
        *_rows("layers.{}.self_attn.", BLOCK + "attention.", {"q_norm": "q_norm", "k_norm": "k_norm"}),
    ],
    "vit": [
        *_rows(
            "embeddings.",
            EMBED,
            {"cls_token": "cls", "position_embeddings": "position", "patch_embeddings.projection": "patch"},
        ),
        *_rows(
            "encoder.layer.{}.",
            BLOCK,
            {
                "layernorm_before": "attention_norm",
                "attention.attention.query": "attention.q",
                "attention.attention.key": "attention.k",
                "attention.attention.value": "attention.v",
                "attention.output.dense": "attention.out",
                "layernorm_after": "mlp_norm",
                "intermediate.dense": "mlp.up",
                "output.dense": "mlp.down",
            },
        ),
        Row("layernorm", ("encoder.trunk.norm",)),
    ],
}
HEAD: dict[tuple[str, str], list[Row]] = {
    ("bert", "mlm"): [
        *_rows("cls.predictions.transform.", "head.", {"dense": "dense", "LayerNorm": "norm"}),
        Row("cls.predictions.bias", ("head.vocabulary.bias",)),
        Row("cls.predictions.decoder.weight", ("head.vocabulary.weight",)),
    ],
    ("modernbert", "mlm"): [
        *_rows("head.", "head.", {"dense": "dense", "norm": "norm"}),
        *_rows("", "head.", {"decoder": "vocabulary"}),
    ],
    ("gpt2", "clm"): [Row("lm_head", ("head.vocabulary",))],
    ("llama", "clm"): [Row("lm_head", ("head.vocabulary",))],
    ("qwen3", "clm"): [Row("lm_head", ("head.vocabulary",))],
    ("bert", "classify"): [
        Row("bert.pooler.dense", ("head.dense",)),
        Row("classifier", ("head.classifier",)),
    ],
    ("modernbert", "classify"): [
        *_rows("", "head.", {"head.dense": "dense", "head.norm": "norm", "classifier": "classifier"}),
    ],
    ("gpt2", "classify"): [Row("score", ("head.classifier",))],
    ("llama", "classify"): [Row("score", ("head.classifier",))],
    ("qwen3", "classify"): [Row("score", ("head.classifier",))],
    ("vit", "image"): [Row("classifier", ("classifier",))],
}
PREFIX = {
    "bert": "bert.",
    "modernbert": "model.",
    "gpt2": "transformer.",
    "llama": "model.",
    "qwen3": "model.",
    "vit": "vit.",
}
ARCHITECTURES: dict[tuple[str, Task], str] = {
    ("bert", "mlm"): "BertForMaskedLM",
    ("bert", "classify"): "BertForSequenceClassification",
    ("bert", "bare"): "BertModel",
    ("modernbert", "mlm"): "ModernBertForMaskedLM",
    ("modernbert", "classify"): "ModernBertForSequenceClassification",
    ("modernbert", "bare"): "ModernBertModel",
    ("gpt2", "clm"): "GPT2LMHeadModel",
    ("gpt2", "classify"): "GPT2ForSequenceClassification",
    ("gpt2", "bare"): "GPT2Model",
    ("llama", "clm"): "LlamaForCausalLM",
    ("llama", "classify"): "LlamaForSequenceClassification",
    ("llama", "bare"): "LlamaModel",
    ("qwen3", "clm"): "Qwen3ForCausalLM",
    ("qwen3", "classify"): "Qwen3ForSequenceClassification",
    ("qwen3", "bare"): "Qwen3Model",
    ("vit", "image"): "ViTForImageClassification",
}
TASKS = {name: task for (_, task), name in ARCHITECTURES.items()} | {"BertForPreTraining": "mlm"}
BUFFERS = re.compile(r"(^|\.)(position_ids|token_type_ids|attn\.(bias|masked_bias)|rotary_emb\.inv_freq)$")
OUTPUT = {
    "bert": "cls.predictions.decoder.weight",
    "modernbert": "decoder.weight",
    "gpt2": "lm_head.weight",
    "llama": "lm_head.weight",
    "qwen3": "lm_head.weight",
}
TOKENS = {
    "bert": "embeddings.word_embeddings.weight",
    "modernbert": "embeddings.tok_embeddings.weight",
    "gpt2": "wte.weight",
    "llama": "embed_tokens.weight",
    "qwen3": "embed_tokens.weight",
}
# Parts of BERT that the task at hand does not use: carried from folder to folder, so that nothing is lost.
CARRIED = {
    ("bert", "mlm"): re.compile(r"^(bert\.pooler\.dense|cls\.seq_relationship)\.(weight|bias)$"),
    ("bert", "bare"): re.compile(r"^pooler\.dense\.(weight|bias)$"),
}


class Entry(NamedTuple):
    """One stored tensor: its name, the names of ours in it, transposed or not."""

    stored: str
    ours: tuple[str, ...]
    transposed: bool


def entries(text: Architecture, task: Task, ours: Mapping[str, object]) -> list[Entry]:
    """The table of a family and task, written out for the tensors that our module has."""
    prefix = "" if task == "bare" else PREFIX[text.family]
    rows = [Row(prefix + r.stored, r.ours, r.transposed) for r in BASE[text.family]]
    rows += HEAD.get((text.family, task), [])
    found: list[Entry] = []
    for row in rows:
        for layer in range(text.trunk.depth) if "{}" in row.stored else [0]:
            stored = row.stored.replace("{}", str(layer))
            names = tuple(o.replace("{}", str(layer)) for o in row.ours)
            for suffix in ("", ".weight", ".bias"):
                if names[0] + suffix in ours:
                    transposed = row.transposed and suffix == ".weight"
                    found.append(Entry(stored + suffix, tuple(n + suffix for n in names), transposed))
    placed = {name for entry in found for name in entry.ours}
    homeless = sorted(set(ours) - placed)
    if homeless:
        raise ArtifactError(f"{text.family}, {task}: no Hugging Face name for {_some(homeless)}")
    return found


def to_hf(state: Mapping[str, Tensor], text: Architecture, task: Task) -> dict[str, Tensor]:
    """Our tensors under the stored names, in their own dtype; tied ones are left out."""
    stored: dict[str, Tensor] = {}
    for entry in entries(text, task, state):
        parts = [state[name].detach() for name in entry.ours]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts, 0)
        stored[entry.stored] = (tensor.T if entry.transposed else tensor).contiguous()
    if text.family == "bert" and task == "mlm" and not text.tied:
        stored["cls.predictions.decoder.bias"] = stored["cls.predictions.bias"].clone()
    return stored


def normalise(tensors: Mapping[str, Tensor], text: Architecture, task: Task) -> dict[str, Tensor]:
    """The stored tensors under the names of the table.

    Buffers go, old LayerNorm names (gamma, beta) are renewed, and the prefix of the base model is set as the task
    needs it: hubs hold both kinds.
    """
    base = PREFIX[text.family]
    roots = {r.stored.split(".")[0] for r in BASE[text.family]} | (
        {"pooler"} if text.family == "bert" else set()
    )
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if BUFFERS.search(name):
            continue
        renewed = re.sub(r"(LayerNorm)\.gamma$", r"\1.weight", name)
        renewed = re.sub(r"(LayerNorm)\.beta$", r"\1.bias", renewed)
        if task == "bare":
            renewed = renewed.removeprefix(base)
        elif renewed.split(".")[0] in roots and not renewed.startswith(base):
            renewed = base + renewed
        result[renewed] = tensor
    if text.family == "bert" and "cls.predictions.decoder.bias" in result:
        result["cls.predictions.bias"] = result.pop("cls.predictions.decoder.bias")
    return result


def is_untied(tensors: Mapping[str, Tensor], text: Architecture) -> bool:
    """Whether a stored output matrix differs from the token embedding (or is said to be its own)."""
    output = tensors.get(OUTPUT[text.family])
    base = PREFIX[text.family] + TOKENS[text.family]
    embedding = tensors.get(base, tensors.get(TOKENS[text.family]))
    return output is not None and embedding is not None and not (text.tied and torch.equal(output, embedding))


def from_hf(
    tensors: Mapping[str, Tensor],
    text: Architecture,
    task: Task,
    shapes: Mapping[str, torch.Size],
    where: str,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our tensors out of normalised stored ones, in the stored dtype, and those that are only carried along.

    ``shapes`` are those of our module. ArtifactError: a tensor missing, left over, or of another shape.
    """
    left = dict(tensors)
    if text.tied:
        left.pop(OUTPUT[text.family], None)
    state: dict[str, Tensor] = {}
    missing: list[str] = []
    for entry in entries(text, task, shapes):
        stored = left.pop(entry.stored, None)
        if stored is None:
            missing.append(entry.stored)
            continue
        lengths = [shapes[name][0] for name in entry.ours]
        needed = [sum(lengths), *shapes[entry.ours[0]][1:]]
        tensor = stored.T if entry.transposed and stored.dim() == 2 else stored
        if list(tensor.shape) != needed:
            found, other = list(stored.shape), needed[::-1] if entry.transposed else needed
            raise ArtifactError(
                f"{where}: {entry.stored} has the shape {found}, its config.json says {other}"
            )
        for name, part in zip(entry.ours, tensor.split(lengths, 0), strict=True):
            state[name] = part.clone(memory_format=torch.contiguous_format)
    if missing:
        raise ArtifactError(f"{where}: tensors missing: {_some(missing)}; is config.json of the same model?")
    pattern = CARRIED.get((text.family, task))
    carried = {n: t.clone() for n, t in left.items() if pattern is not None and pattern.match(n)}
    over = sorted(set(left) - set(carried))
    if over:
        raise ArtifactError(f"{where}: tensors without a place in a {text.family} ({task}): {_some(over)}")
    return state, carried


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more

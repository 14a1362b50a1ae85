"""A model as a folder: ``config.json`` and ``model.safetensors``.

Text models are Hugging Face folders (``AutoModel.from_pretrained`` opens them; a bi-encoder is a
sentence-transformers folder too), with one more key, ``nlpkit``, in config.json. Other models keep their config
under ``model_type: nlpkit-…``. No pickle is written or read.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nlpkit import config as plain
from nlpkit import registry
from nlpkit.core import hf, hf_config, hf_image
from nlpkit.core.families import Sizes, sizes
from nlpkit.core.text_encoder import TextConfig
from nlpkit.errors import ArtifactError, DiskError, UsageError
from nlpkit.store import jsonfile, manifest

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
FORMAT = 1
TASKS: dict[str, hf.Task] = {
    "mlm": "mlm",
    "clm": "clm",
    "classifier": "classify",
    "crossencoder": "classify",
    "biencoder": "bare",
}
IMAGE_TASKS: dict[str, hf.Task] = {"vit": "image"}
POOLINGS = {  # sentence-transformers' names for them, newer and older
    "mean": "mean",
    "mean_tokens": "mean",
    "cls": "cls",
    "cls_token": "cls",
    "last": "last",
    "lasttoken": "last",
}
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
NOT_OURS = ("auto_map", "custom_pipelines", "_name_or_path", "transformers_version", "torch_dtype")


def save(model: nn.Module, kind: str, folder: Path) -> None:
    """Write ``model`` into a folder that exists (and is being built).

    ``kind`` is its name in the registry. The weights keep their dtype. Raises UsageError for an architecture
    that the family's Hugging Face class cannot hold, DiskError where the disk is full.
    """
    folder, config = Path(folder), _config(model)
    state = model.state_dict()
    if kind in TASKS:
        text: TextConfig = config.architecture()
        stored = hf.to_hf(state, text, TASKS[kind])
        carried = getattr(model, "carried", {})
        if kind == "biencoder" and text.family == "bert" and not carried:
            # BertModel always has a pooler, which no bi-encoder uses: zeros, so that it opens with nothing missing
            width, like = text.trunk.width, next(model.parameters())
            carried = {
                "pooler.dense.weight": like.new_zeros(width, width),
                "pooler.dense.bias": like.new_zeros(width),
            }
        stored |= carried
        values = _text_values(model, kind, text)
    elif kind in IMAGE_TASKS:
        image = config.architecture()
        stored = hf.to_hf(state, image, IMAGE_TASKS[kind])
        values = _image_values(model, kind)
        jsonfile.write(folder / hf_image.PROCESSOR, hf_image.processor(image, config.mean, config.std))
    else:
        stored = {name: tensor.detach().contiguous() for name, tensor in state.items()}
        values = {
            "model_type": f"nlpkit-{kind}",
            "nlpkit": {"kind": kind, "format": FORMAT, **plain.to_dict(config)},
        }
    try:
        save_file(
            {n: t.detach().cpu().contiguous() for n, t in stored.items()}, folder / WEIGHTS, {"format": "pt"}
        )
    except SafetensorError as error:
        raise DiskError(f"{folder / WEIGHTS}: {error}; free some space or choose another place") from error
    jsonfile.write(folder / CONFIG, values)
    if kind == "biencoder":
        _sentence_transformers(folder, config, config.architecture())


def open(folder: str | Path, *, dtype: torch.dtype | None = torch.float32) -> tuple[str, nn.Module]:
    """The kind and the model of a folder, in evaluation mode.

    Sealed files are compared with their manifest before they are parsed. The kind is the ``nlpkit`` key of
    config.json, or else follows from ``architectures``. ``dtype`` ``None`` keeps the stored one. Raises
    ArtifactError for a damaged folder, another architecture, pickled weights, or tensors missing or left over.
    """
    folder = Path(folder)
    check(folder)
    values = read_config(folder)
    kind = kind_of(values, str(folder / CONFIG))
    tensors = read_tensors(folder)
    if kind in IMAGE_TASKS:
        return kind, _open_image(folder, kind, values, tensors, dtype)
    if kind not in TASKS:
        return kind, _open_plain(folder, kind, values, tensors, dtype)
    where, task = str(folder), TASKS[kind]
    text = hf_config.read(values, str(folder / CONFIG))
    if text.trunk.depth > len(tensors):
        raise ArtifactError(f"{where}: {len(tensors)} tensors for {text.trunk.depth} layers")
    tensors = hf.normalise(tensors, text, task)
    if task in ("mlm", "clm") and text.tied and hf.is_untied(tensors, text):
        text = replace(text, tied=False)
    model = _empty(kind, {**sizes(text), **_own_values(folder, kind, values)}, where)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    state, carried = hf.from_hf(tensors, text, task, shapes, where)
    _fill(model, state, dtype)
    model.carried = carried  # type: ignore[assignment]
    model.source = values  # type: ignore[assignment]
    return kind, model.eval()


def check(folder: Path) -> None:
    """Compare the sealed files of a model folder (or those of the run around it) with their hashes."""
    if not folder.is_dir():
        raise FileNotFoundError(2, "No such file or directory", str(folder))
    if (folder / manifest.NAME).exists():
        manifest.check(folder)
        return
    around = folder.resolve().parent
    if (around / manifest.NAME).exists():
        sealed = manifest.read(around)
        for name in sealed.files:
            if name.startswith(folder.resolve().name + "/"):
                manifest.check_file(around, sealed, name)


def read_config(folder: str | Path) -> dict[str, Any]:
    """The values of ``config.json``."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise ArtifactError(
            f"{folder}: not a model folder (it has no {CONFIG}); name a run or a model folder"
        )
    return jsonfile.read(path)


def text_config(folder: str | Path) -> TextConfig:
    """The text architecture of a model folder, without its weights; config.json is compared with its seal."""
    folder = Path(folder)
    if (folder / manifest.NAME).exists():
        manifest.check_file(folder, manifest.read(folder), CONFIG)
    return hf_config.read(read_config(folder), str(folder / CONFIG))


def kind_of(values: Mapping[str, Any], where: str) -> str:
    """The registry's name for what a ``config.json`` describes."""
    own = values.get("nlpkit")
    if isinstance(own, Mapping):
        kind = own.get("kind")
        if not isinstance(kind, str) or kind not in registry.MODELS:
            raise ArtifactError(f"{where}: no model is called {kind!r}; a newer nlpkit may have made it")
        if not isinstance(own.get("format", FORMAT), int) or own.get("format", FORMAT) > FORMAT:
            raise ArtifactError(
                f"{where}: format {own['format']!r} is newer than this nlpkit reads; upgrade nlpkit"
            )
        return kind
    names = values.get("architectures") or []
    name = names[0] if isinstance(names, list) and names else None
    task = hf.TASKS.get(name) if isinstance(name, str) else None
    if task is None:
        raise ArtifactError(f"{where}: architectures {names!r} is none of {', '.join(sorted(hf.TASKS))}")
    if task == "classify":
        return "crossencoder" if len(_labels(values)) == 1 else "classifier"
    return {"mlm": "mlm", "clm": "clm", "bare": "biencoder", "image": "vit"}[task]


def read_tensors(folder: str | Path) -> dict[str, Tensor]:
    """All tensors of a folder, from one safetensors file or the shards that its index names."""
    folder = Path(folder)
    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file():
        if not (folder / INDEX).is_file():
            pickles = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
            if pickles:
                raise ArtifactError(
                    f"{folder / pickles[0]}: a pickle can run code when it is opened, so it is refused; "
                    f"convert it to {WEIGHTS} where you trust it"
                )
            raise ArtifactError(f"{folder}: has no {WEIGHTS}")
        shards = jsonfile.read(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ArtifactError(f"{folder / INDEX}: has no weight_map")
        names = sorted({str(s) for s in shards.values()})
    tensors: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        if Path(name).name != name or path.suffix != ".safetensors" or not path.is_file():
            raise ArtifactError(
                f"{folder / INDEX}: names {name!r}, which is not a safetensors file beside it"
            )
        try:
            tensors |= load_file(path)
        except (SafetensorError, ValueError, KeyError) as error:
            raise ArtifactError(
                f"{path}: not a whole safetensors file ({error}); {manifest.remedy(folder)}"
            ) from error
    return tensors


def read_pooling(path: Path) -> str:
    """mean, cls or last: the pooling of a sentence-transformers folder; another one is an ArtifactError.

    Newer versions write ``pooling_mode``, older ones a switch for each mode.
    """
    values = jsonfile.read(path)
    named = values.get("pooling_mode")
    switched = [
        k.removeprefix("pooling_mode_") for k, on in values.items() if k.startswith("pooling_mode_") and on
    ]
    modes = switched if named is None else [named] if isinstance(named, str) else list(named)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        said = "+".join(map(str, modes)) or "unset"
        raise ArtifactError(f"{path}: pooling {said} is not supported; known: mean, cls, last")
    return POOLINGS[modes[0]]


def load_trunk(model: nn.Module, folder: str | Path) -> tuple[list[str], list[str]]:
    """Start ``model`` from the weights of another folder; the names that were copied, and those that stay fresh.

    Embeddings and stack are copied, and the head where both models are of the same kind. A shorter table of
    learned positions takes the first rows. ArtifactError: another family or other arithmetic (heads, norms,
    positions), or nothing that fits.
    """
    kind, source = open(folder)
    mine, theirs = model.state_dict(), source.state_dict()
    text = getattr(model, "text", None)
    if text is not None and kind in TASKS:
        _same_arithmetic(text, source.text, Path(folder))  # type: ignore[arg-type]
    alike = type(model) is type(source)
    labels = [getattr(_config(m), "labels", None) for m in (model, source)]
    copied: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        if name not in mine or not (alike or name.startswith("encoder.")):
            continue
        if labels[0] != labels[1] and "classifier" in name.split("."):
            continue
        if name == "encoder.embed.position.weight":
            tensor = tensor[: mine[name].shape[0]]
        if tensor.shape == mine[name].shape:
            copied[name] = tensor
    if not copied:
        raise ArtifactError(
            f"{folder}: a {kind} of other sizes: not one tensor fits; give the same width and vocab"
        )
    model.load_state_dict(copied, strict=False)
    return sorted(copied), sorted(set(mine) - set(copied))


def _same_arithmetic(mine: TextConfig, theirs: TextConfig, folder: Path) -> None:
    if mine.family != theirs.family:
        raise ArtifactError(f"{folder}: is a {theirs.family}, a {mine.family} is needed")
    for part in ("attention", "norm", "mlp"):
        one, other = getattr(mine.trunk, part), getattr(theirs.trunk, part)
        for field in fields(one):
            a, b = getattr(one, field.name), getattr(other, field.name)
            if a != b:
                raise ArtifactError(f"{folder}: {part}.{field.name} is {b} there and {a} here: take the same")


def _config(model: nn.Module) -> Any:
    return model.config


def _text_values(model: nn.Module, kind: str, text: TextConfig) -> dict[str, Any]:
    """The whole ``config.json`` of a text model; unknown keys of the folder it came from survive."""
    config, values = _config(model), hf_config.write(text)
    source = {k: v for k, v in getattr(model, "source", {}).items() if k not in NOT_OURS}
    if source and hf_config.read(source, CONFIG) == replace(
        text, tied=source.get("tie_word_embeddings", text.tied)
    ):
        values = {**values, **source, "tie_word_embeddings": text.tied}
    else:
        values = {**source, **values}
    values["architectures"] = [hf.ARCHITECTURES[text.family, TASKS[kind]]]
    values["dtype"] = str(next(model.parameters()).dtype).removeprefix("torch.")
    if TASKS[kind] == "classify":
        labels = config.labels if kind == "classifier" else ("relevance",)
        if kind == "classifier" or "id2label" not in values:
            values["id2label"] = {str(i): name for i, name in enumerate(labels)}
            values["label2id"] = {name: i for i, name in enumerate(labels)}
        values["problem_type"] = "single_label_classification" if kind == "classifier" else None
        if text.family == "bert":
            values["classifier_dropout"] = config.head_dropout
        elif text.family == "modernbert":
            values["classifier_dropout"] = config.head_dropout
            values["classifier_pooling"] = config.pooling or "cls"
    names = {f.name for f in fields(config)} - {f.name for f in fields(Sizes)} - {"labels"}
    own = {name: getattr(config, name) for name in sorted(names) if getattr(config, name) is not None}
    values["nlpkit"] = {"kind": kind, "format": FORMAT, **own}
    return values


def _image_values(model: nn.Module, kind: str) -> dict[str, Any]:
    """The whole ``config.json`` of an image model; unknown keys of the folder it came from survive."""
    config = _config(model)
    values: dict[str, Any] = {k: v for k, v in getattr(model, "source", {}).items() if k not in NOT_OURS}
    ours = hf_image.write(config.architecture())
    if values.get("hidden_dropout_prob") == ours["hidden_dropout_prob"]:
        ours.pop("attention_probs_dropout_prob")
    values |= ours
    values["architectures"] = [hf.ARCHITECTURES[config.architecture().family, IMAGE_TASKS[kind]]]
    values["dtype"] = str(next(model.parameters()).dtype).removeprefix("torch.")
    values["id2label"] = {str(i): name for i, name in enumerate(config.labels)}
    values["label2id"] = {name: i for i, name in enumerate(config.labels)}
    values["nlpkit"] = {"kind": kind, "format": FORMAT}
    return values


def _labels(values: Mapping[str, Any]) -> tuple[str, ...]:
    names = values.get("id2label")
    if isinstance(names, dict) and names and all(str(k).isdigit() for k in names):
        return tuple(str(names[k]) for k in sorted(names, key=int))
    count = values.get("num_labels", 2)
    return tuple(f"LABEL_{i}" for i in range(count if isinstance(count, int) and 0 < count < 2**20 else 2))


def _own_values(folder: Path, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the model's config beside its sizes."""
    own = dict(values["nlpkit"]) if isinstance(values.get("nlpkit"), Mapping) else {}
    foreign = not own
    own.pop("kind", None)
    own.pop("format", None)
    if kind == "classifier":
        own["labels"] = list(_labels(values))
    if foreign and TASKS[kind] == "classify":
        dropout = values.get("classifier_dropout")
        own["head_dropout"] = float(dropout) if isinstance(dropout, int | float) else 0.1
        if values.get("classifier_pooling") == "mean":
            own["pooling"] = "mean"
    if foreign and kind == "biencoder" and (folder / "1_Pooling" / CONFIG).is_file():
        own["pooling"] = read_pooling(folder / "1_Pooling" / CONFIG)
    return own


def _empty(kind: str, values: Mapping[str, Any], where: str) -> nn.Module:
    """The model without memory for its weights (they come from the file)."""
    module = registry.module(kind)
    try:
        with torch.device("meta"):
            model: nn.Module = module.Model(plain.build(module.Config, values))
    except UsageError as error:
        raise ArtifactError(f"{where}/{CONFIG}: {error}") from error
    return model


def _fill(model: nn.Module, state: Mapping[str, Tensor], dtype: torch.dtype | None) -> None:
    ready = {n: t.to(dtype) if dtype is not None and t.is_floating_point() else t for n, t in state.items()}
    model.load_state_dict(ready, strict=True, assign=True)


def _open_plain(
    folder: Path,
    kind: str,
    values: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype | None,
) -> nn.Module:
    own = {k: v for k, v in values["nlpkit"].items() if k not in ("kind", "format")}
    model = _empty(kind, own, str(folder))
    needed = {n: list(t.shape) for n, t in model.state_dict().items()}
    found = {n: list(t.shape) for n, t in tensors.items()}
    if needed != found:
        names = sorted(n for n in needed.keys() | found.keys() if needed.get(n) != found.get(n))
        first = names[0]
        raise ArtifactError(
            f"{folder / WEIGHTS}: {first}: {found.get(first, 'absent')}, config.json needs {needed.get(first, 'none')}"
        )
    _fill(model, {n: t.clone() for n, t in tensors.items()}, dtype)
    return model.eval()


def _open_image(
    folder: Path,
    kind: str,
    values: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype | None,
) -> nn.Module:
    where, task = str(folder), IMAGE_TASKS[kind]
    own = hf_image.read(values, folder, str(folder / CONFIG))
    if own["depth"] > len(tensors):
        raise ArtifactError(f"{where}: {len(tensors)} tensors for {own['depth']} layers")
    model = _empty(kind, {**own, "labels": list(_labels(values))}, where)
    image = _config(model).architecture()
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    state, _ = hf.from_hf(hf.normalise(tensors, image, task), image, task, shapes, where)
    _fill(model, state, dtype)
    model.source = values  # type: ignore[assignment]
    return model.eval()


def _sentence_transformers(folder: Path, config: Any, text: TextConfig) -> None:
    """The files by which sentence-transformers opens the folder: transformer, pooling, normalisation."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    pooling = {
        "word_embedding_dimension": text.trunk.width,
        "pooling_mode_cls_token": config.pooling == "cls",
        "pooling_mode_mean_tokens": config.pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
        "pooling_mode_weightedmean_tokens": False,
        "pooling_mode_lasttoken": config.pooling == "last",
        "include_prompt": True,
    }
    transformer = {"max_seq_length": text.context, "do_lower_case": False}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    for path, values in (
        (folder / "modules.json", modules),
        (folder / "1_Pooling" / CONFIG, pooling),
        (folder / "sentence_bert_config.json", transformer),
    ):
        jsonfile.write(path, values)

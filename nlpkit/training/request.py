"""From what a person asked (a recipe, a file, ``-s key=value``, flags) to a checked configuration of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nlpkit import config as plain
from nlpkit import registry
from nlpkit.core.families import Sizes
from nlpkit.errors import UsageError, did_you_mean
from nlpkit.training.settings import TrainConfig

RECIPES = {
    "mlm": "tiny-mlm",
    "clm": "tiny-clm",
    "classifier": "small-classifier",
    "biencoder": "small-biencoder",
    "crossencoder": "small-crossencoder",
    "cnn": "small-cnn",
    "vit": "small-vit",
    "vae": "small-vae",
}
#: A rate to begin with for an optimizer that is asked for in the place of the recipe's, whose rate is none for it.
RATES = {"adamw": 2e-3, "muon": 0.05, "sgd": 0.1, "avg-grad": 0.1}
TABLES = ("input", "model", "data", "train")
SIZED = ("mlm", "clm")  # kinds whose size a budget chooses (nlpkit.training.sizing) …
SIZE = (
    "width",
    "depth",
    "heads",
    "hidden",
    "kv_heads",
    "text",
)  # … unless one of these keys of [model] is given


@dataclass(frozen=True)
class Request:
    """What was asked for, in full: ``tables`` is the configuration before ``auto`` is decided."""

    kind: str
    tables: dict[str, Any]
    model: Any
    data: Any
    train: Any
    sizeable: bool = False  # a budget is to choose the size of the model, which nothing else fixes

    @property
    def paths(self) -> list[str]:
        """The inputs."""
        return list(self.tables["input"]["data"])

    @property
    def defaults(self) -> dict[str, Any]:
        """What a key of [data] or [train] is where a configuration does not name it."""
        return {"data": plain.to_dict(type(self.data)()), "train": plain.to_dict(TrainConfig())}

    @property
    def inputs(self) -> list[str]:
        """All files and folders that the run depends on."""
        named = self.tables["input"]
        return [
            p
            for p in (
                *(named["data"]),
                named["valid"],
                named["tokenizer"],
                named["from"],
                named.get("init_embeddings", ""),
            )
            if p not in ("", "-")
        ]


def request(
    kind: str,
    data: str | Path | Sequence[str | Path] = (),
    *,
    config: Mapping[str, Any] | str | Path | None = None,
    overrides: Sequence[str] = (),
    tokenizer: str | Path | None = None,
    start_from: str | Path | None = None,
    init_embeddings: str | Path | None = None,
    valid: str | Path | None = None,
    flags: Mapping[str, Any] | None = None,
    data_class: type[Any],
) -> Request:
    """The checked configuration: the kind's recipe < ``config`` (a table, a file, a recipe's name) < ``overrides``.

    ``data_class`` is the dataclass of [data]. ``flags`` are keys of [train] (and ``documents`` of [data]) that the
    command line has words for; None is unset. UsageError names an unknown kind, table or key.
    """
    registry.entry(kind)
    tables = plain.read_toml(RECIPES[kind])
    given = config if isinstance(config, Mapping) else plain.read_toml(config) if config else {}
    if given.get("kind", kind) != kind:
        raise UsageError(f"{config}: is a configuration of {given['kind']}, not {kind}")
    unknown = [k for k in given if k not in (*TABLES, "kind")]
    if unknown:
        raise UsageError(f"{config}: unknown table {unknown[0]!r}{did_you_mean(unknown[0], TABLES)}")
    explicit = plain.override({}, overrides)
    flags = {k: v for k, v in (flags or {}).items() if v is not None}
    if "documents" in flags:
        if kind not in ("mlm", "clm"):
            raise UsageError(f"--documents is for text to pretrain on; {kind} reads labelled rows")
        explicit.setdefault("data", {})["documents"] = flags.pop("documents")
    explicit.setdefault("train", {}).update(flags)
    # Steps that are asked for by name are exact: a recipe's epochs do not cap them.
    if explicit["train"].get("steps") and "epochs" not in explicit["train"]:
        explicit["train"]["epochs"] = 0.0
    paths = [data] if isinstance(data, str | Path) else list(data)
    named = {
        "tokenizer": tokenizer,
        "from": start_from,
        "init_embeddings": init_embeddings,
        "valid": valid,
    }
    explicit["input"] = {**explicit.get("input", {}), **{k: str(v) for k, v in named.items() if v}}
    if paths:
        explicit["input"]["data"] = [str(p) for p in paths]
    for layer in ({k: v for k, v in given.items() if k != "kind"}, explicit):
        asked, known = layer.get("train", {}), tables.get("train", {})
        if asked.get("optimizer", known.get("optimizer")) != known.get("optimizer") and "lr" not in asked:
            kept = {k: v for k, v in known.items() if k not in ("lr", "other_lr", "momentum")}
            own = {"lr": RATES[asked["optimizer"]]} if asked["optimizer"] in RATES else {}
            tables = {**tables, "train": {**kept, **own}}
        tables = _merged(tables, layer)
    stray = [k for k in tables if k not in TABLES]
    if stray:
        raise UsageError(f"unknown table {stray[0]!r}{did_you_mean(stray[0], TABLES)}")
    inputs = {"data": [], "valid": "", "tokenizer": "", "from": ""}
    # init_embeddings stands in [input] only where it is used: runs that began before it was known still go on.
    known_inputs = (*inputs, "init_embeddings")
    odd = [k for k in tables["input"] if k not in known_inputs]
    if odd:
        raise UsageError(f"unknown key 'input.{odd[0]}'{did_you_mean(odd[0], known_inputs)}")
    inputs |= tables["input"]
    if not inputs["data"]:
        raise UsageError("nothing to train on: pass --data (or input.data in the configuration)")
    classes: dict[str, Any] = {
        "train": TrainConfig,
        "data": data_class,
        "model": registry.module(kind).Config,
    }
    if inputs.get("init_embeddings"):
        if inputs["from"]:
            raise UsageError("--init-embeddings and --from both say how the weights begin; leave one out")
        if not issubclass(classes["model"], Sizes):
            raise UsageError(
                f"--init-embeddings: a {kind} reads no text and has no token embeddings; leave it out"
            )
    for table, cls in classes.items():  # a wrong key of a file is told with the file
        known = [f.name for f in fields(cls)]
        wrong = [k for k in given.get(table, {}) if k not in known]
        if wrong and not isinstance(config, Mapping):
            said = f"{config}: unknown key '{table}.{wrong[0]}'"
            raise UsageError(said + did_you_mean(wrong[0], known))
    train_config = plain.build(TrainConfig, tables.get("train", {}), "train.")
    fixed = {**given.get("model", {}), **explicit.get("model", {})}
    sizeable = bool(
        kind in SIZED and train_config.budget and not inputs["from"] and not set(SIZE) & set(fixed)
    )
    if sizeable:  # the recipe's is for runs without a budget
        tables["model"] = {k: v for k, v in tables["model"].items() if k not in SIZE}
    data_config: Any = plain.build(data_class, tables.get("data", {}), "data.")
    model_config = plain.build(classes["model"], tables.get("model", {}), "model.")
    whole = {
        "kind": kind,
        "input": inputs,
        "model": tables.get("model", {}),
        "data": plain.to_dict(data_config),
        "train": plain.to_dict(train_config),
    }
    return Request(kind, whole, model_config, data_config, train_config, sizeable)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result

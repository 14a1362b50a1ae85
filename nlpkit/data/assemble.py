"""From what a person names (files, a folder of parts, a shard, «digits») to the data object of a kind of model.

Text kinds need a tokenizer: the one given, or one that is trained on the training texts and kept with the run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit import console
from nlpkit.data import images, labelled, pairs
from nlpkit.data.images import ImageData, ImagesConfig
from nlpkit.data.labelled import LabelledConfig, LabelledData
from nlpkit.data.language import LanguageConfig, LanguageData
from nlpkit.data.pairs import PairData, PairsConfig, ScoredPairData
from nlpkit.data.records import parts_of
from nlpkit.data.sources import evaluation_files, is_shard, paths_of, read_tokens
from nlpkit.data.tokens import Tokens
from nlpkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from nlpkit.text.tokenizer import Tokenizer

CONFIGS: dict[str, type] = {
    "mlm": LanguageConfig,
    "clm": LanguageConfig,
    "classifier": LabelledConfig,
    "biencoder": PairsConfig,
    "crossencoder": PairsConfig,
    "cnn": ImagesConfig,
    "vit": ImagesConfig,
    "vae": ImagesConfig,
}
TEXT = ("mlm", "clm", "classifier", "biencoder", "crossencoder")
LANGUAGE = ("mlm", "clm")


@dataclass(frozen=True)
class Assembled:
    """The data of a run, its tokenizer, and what it decides about the model's config (``fill``)."""

    data: Any
    tokenizer: "Tokenizer | None"
    fill: dict[str, Any] = field(default_factory=dict)


def assemble(
    kind: str,
    paths: Sequence[str],
    config: Any,
    folder: Path,
    *,
    valid: str = "",
    tokenizer: "Tokenizer | None" = None,
    seed: int = 0,
) -> Assembled:
    """The data of ``kind`` from ``paths``; what is made on the way (tokens, a tokenizer) is kept in ``folder``.

    Raises UsageError for a missing or unfit file, DataError for empty or malformed data.
    """
    if kind in LANGUAGE:
        return _language(kind, paths, config, folder, valid, tokenizer, seed)
    if len(paths) != 1:
        raise UsageError(
            f"train {kind} takes one --data (a file or a folder with train, valid and test), got {len(paths)}"
        )
    if kind in TEXT:
        return _texts(kind, paths[0], config, folder, valid, tokenizer, seed)
    data = ImageData(images.load(paths[0]), config, seed=seed)
    channels, height, width = data.parts["train"].pixels.shape[1:]
    if height != width:
        raise DataError(f"{paths[0]}: images of {height}×{width}; square ones are needed")
    fill: dict[str, Any] = {"in_channels": channels, "size": height}
    return Assembled(data, None, {**fill, "labels": [str(i) for i in range(data.classes)]})


def part_files(path: str) -> dict[str, Path]:
    """The files of a data path by part: of a folder its train, valid and test; a file is train."""
    if not Path(path).is_dir():
        return {"train": Path(path)}
    found = parts_of(Path(path))
    if "train" not in found:
        raise UsageError(
            f"{path}: the folder has no train.tsv, .csv or .jsonl (plain or compressed); name one that has, or a file"
        )
    return found


def _texts(
    kind: str, path: str, config: Any, folder: Path, valid: str, tokenizer: "Tokenizer | None", seed: int
) -> Assembled:
    files = part_files(path)
    held_path = Path(valid) if valid else files.get("valid")
    read: Any = labelled.read_labelled if kind == "classifier" else pairs.read_pairs
    train = read(files["train"], config)
    texts = train.texts if kind == "classifier" else train.queries
    if held_path is not None:
        held = read(held_path, config)
    else:
        chosen = labelled.held_out(texts, config.valid_fraction)
        train, held = train.take(~chosen), train.take(chosen)
        texts = train.texts if kind == "classifier" else train.queries
    labelled.note_leak(texts, held.texts if kind == "classifier" else held.queries)
    if tokenizer is None:
        learn = train.texts if kind == "classifier" else [*train.queries, *train.docs]
        way, lower = getattr(config, "tokenizer", "bpe"), getattr(config, "lower", False)
        tokenizer = own_tokenizer(iter(learn), way, config.vocab_size, folder / "tokenizer", lower=lower)
    if kind == "classifier":
        data: Any = LabelledData(train, held, tokenizer, config, seed=seed)
        return Assembled(data, tokenizer, {"vocab": tokenizer.vocab_size, "labels": data.labels})
    data = (PairData if kind == "biencoder" else ScoredPairData)(train, held, tokenizer, config, seed=seed)
    return Assembled(data, tokenizer, {"vocab": tokenizer.vocab_size})


def own_tokenizer(
    texts: Iterator[str], kind: str, vocab_size: int, folder: Path, *, lower: bool = False
) -> "Tokenizer":
    """The tokenizer kept in ``folder``, trained on ``texts`` when there is none yet."""
    from nlpkit.text.recipe import Recipe
    from nlpkit.text.tokenizer import Tokenizer

    if folder.exists():
        return Tokenizer.load(folder)
    recipe = Recipe.of(["lower"]) if lower else None
    tokenizer = Tokenizer.train(texts, kind=kind, vocab_size=vocab_size, recipe=recipe)
    tokenizer.save(folder)
    console.note(
        f"no --tokenizer was given: trained a {kind} tokenizer of {tokenizer.vocab_size:,} tokens on the training "
        "texts; it is kept in the run"
    )
    return tokenizer


def _language(
    kind: str,
    paths: Sequence[str],
    config: LanguageConfig,
    folder: Path,
    valid: str,
    tokenizer: "Tokenizer | None",
    seed: int,
) -> Assembled:
    from nlpkit.text.documents import read_documents, required

    files = paths_of(paths)
    if tokenizer is None:
        if any(is_shard(p) for p in files):
            raise UsageError("token shards need the tokenizer they were made with: pass --tokenizer DIR")
        if not files or "-" in files:
            raise UsageError("text from standard input can be read once only: pass --tokenizer DIR")
        found = required(read_documents(files, documents=config.documents), files)
        texts = (d.text for d in found)
        tokenizer = own_tokenizer(texts, "bpe", config.vocab_size, folder / "tokenizer")
    train = read_tokens(
        paths,
        tokenizer,
        folder / "tokens",
        documents=config.documents,
        apart=bool(config.stages),
        against=evaluation_files(config.decontaminate, valid),
    )
    held = _held_tokens(valid, tokenizer, config, folder) if valid else None
    if held is not None:
        shared = int(np.isin(held.hashes, train.hashes).sum())
        if shared:
            console.warn(f"{shared} of {len(held.hashes)} validation documents are in the training text too")
    objective: Any = kind
    data = LanguageData(train, tokenizer, config, objective=objective, seed=seed, valid=held)
    return Assembled(data, tokenizer, {"vocab": tokenizer.vocab_size})


def _held_tokens(valid: str, tokenizer: "Tokenizer", config: LanguageConfig, folder: Path) -> Tokens:
    return read_tokens([valid], tokenizer, folder / "valid-tokens", documents=config.documents)


def measured_language(
    kind: str,
    paths: Sequence[str],
    named: dict[str, Any],
    config: LanguageConfig,
    home: Path,
    tokenizer: "Tokenizer",
) -> LanguageData:
    """Rows to measure a language model on (its ``valid()``): of ``paths``, or what the run in ``home`` held out."""
    import tempfile

    objective: Any = kind
    # What changes during a run is of no concern here: the last of it is what is measured with.
    still = replace(config, stages=(), lengths="", batches="")
    with tempfile.TemporaryDirectory() as scratch:
        if paths:
            where = Path(scratch) / "tokens"
            held = read_tokens(paths, tokenizer, where, documents=config.documents)
            return LanguageData(held, tokenizer, still, objective=objective, valid=held)
        train = read_tokens(named["data"], tokenizer, home / "tokens", documents=config.documents)
        other = _held_tokens(named["valid"], tokenizer, config, home) if named["valid"] else None
        return LanguageData(train, tokenizer, still, objective=objective, valid=other)

"""Where the parts are put together: train, evaluate and open models. The verbs and Python users call these.

>>> from nlpkit.api import train
>>> train("cnn", "digits", "runs/digits", steps=200)  # doctest: +SKIP
PosixPath('runs/digits')
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit import config as plain
from nlpkit import console, registry
from nlpkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import nn

    from nlpkit.inference.loading import LoadedModel
    from nlpkit.training.request import Request
    from nlpkit.vectors.vectors import Vectors


def load_model(path: str | Path) -> "LoadedModel":
    """The model of a run, a model folder or a name in the local Hugging Face cache, ready for use."""
    from nlpkit.inference.loading import load_model

    return load_model(path)


def train(
    kind: str,
    data: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    config: Mapping[str, Any] | str | Path | None = None,
    overrides: Sequence[str] = (),
    tokenizer: str | Path | None = None,
    start_from: str | Path | None = None,
    init_embeddings: str | Path | None = None,
    valid: str | Path | None = None,
    budget: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    documents: str | None = None,
    force: bool = False,
    from_checkpoint: int | None = None,
) -> Path:
    """Train a model of the registry into the run folder ``output``, or go on with the run that is there.

    ``data``: text files or a token shard (mlm, clm), a labelled file or a folder of train, valid and test
    (classifier, biencoder, crossencoder), ``digits``, an .npz or a folder of idx files (cnn, vae). ``budget`` ("2m") is
    wall time for the whole call. ``init_embeddings`` names word vectors that the token embeddings begin at.
    Raises the errors of nlpkit.errors: usage, data, artefact, locked, diverged, …
    """
    from nlpkit.data.assemble import CONFIGS
    from nlpkit.training.request import request

    started = time.monotonic()
    registry.entry(kind)
    flags = {
        "budget": budget,
        "steps": steps,
        "seed": seed,
        "device": device,
        "threads": threads,
        "documents": documents,
    }
    asked = request(
        kind,
        data,
        config=config,
        overrides=overrides,
        tokenizer=tokenizer,
        start_from=start_from,
        init_embeddings=init_embeddings,
        valid=valid,
        flags=flags,
        data_class=CONFIGS[kind],
    )
    return execute(asked, output, started=started, force=force, from_checkpoint=from_checkpoint)


def execute(
    asked: "Request",
    output: str | Path,
    *,
    started: float | None = None,
    force: bool = False,
    from_checkpoint: int | None = None,
) -> Path:
    """Carry out a request in the run folder ``output``: start it, go on with it, or say that it is finished."""
    from nlpkit.data.sources import paths_of
    from nlpkit.training import run as runs
    from nlpkit.training import world as worlds
    from nlpkit.training.trainer import Trainer

    started = time.monotonic() if started is None else started
    world = worlds.here()
    if world.rank:  # another process opens the run, prepares it, and writes it
        world.wait()
        run = runs.Run(Path(output), asked.kind).follow()
        if not run.finished:
            model, made, settings = prepare(asked, run, started)
            Trainer(model, made.data, settings, run, world).fit(from_checkpoint)
        return run.folder
    inputs = paths_of(asked.inputs)
    with runs.opened(
        output, asked.kind, asked.tables, inputs=inputs, defaults=asked.defaults, force=force
    ) as run:
        if run.finished:
            world.wait()
            console.note(f"{run.folder}: is finished; nothing to do (start over with --force)")
            return run.folder
        model, made, settings = prepare(asked, run, started)
        world.wait()
        trainer = Trainer(model, made.data, settings, run, world)
        state = trainer.fit(from_checkpoint)
        _finish(run, asked, model, made, state, trainer.place)
    return run.folder


def resume(run: str | Path) -> Path:
    """Go on with a run that was begun, whoever began it: its configuration is in its folder."""
    from nlpkit.data.assemble import CONFIGS
    from nlpkit.training.request import request
    from nlpkit.training.run import read_origin

    origin = read_origin(Path(run))
    kind = str(origin["kind"])
    return execute(request(kind, config=origin["requested"], data_class=CONFIGS[kind]), run)


def prepare(asked: "Request", run: Any, started: float) -> tuple["nn.Module", Any, Any]:
    """(model, assembled data, decided settings) of a run; what is decided is written to config.toml."""
    from nlpkit.data.assemble import assemble
    from nlpkit.inference.loading import find_tokenizer, resolve
    from nlpkit.training import device, sizing, start
    from nlpkit.training.planning import plan
    from nlpkit.training.settings import TrainConfig

    named = asked.tables["input"]
    words = _word_vectors(named)
    made = assemble(
        asked.kind,
        asked.paths,
        asked.data,
        run.folder,
        valid=named["valid"],
        tokenizer=find_tokenizer(named["tokenizer"], named["from"]),
        seed=asked.train.seed,
    )
    module = registry.module(asked.kind)
    resolved = run.resolved
    values = resolved["model"] if resolved else model_values(asked, made.fill, named["from"])
    train = asked.train
    if asked.sizeable and not resolved:
        values, train, why = sizing.choose(module, values, made.data, train, started)
        run.log(why)
    device.seed(train.seed, "weights")
    model = module.Model(plain.build(module.Config, values, "model."))
    _check_context(model, asked.data)
    if named["from"]:
        console.note(f"{named['from']}: {start.from_model(model, resolve(named['from']))}")
    elif asked.kind == "mlm":
        import torch

        model.start_from(torch.from_numpy(made.data.tokens.counts(made.data.vocab_size)))  # type: ignore[operator]
    covered = "" if words is None else _start_embeddings(model, words, made.tokenizer, asked.train.seed)
    if resolved:
        return model, made, plain.build(TrainConfig, resolved["train"], "train.")
    if words is not None:
        run.made_with(vectors=words.fingerprint)
        run.log(f"{named['init_embeddings']}: {covered}")
    parameters = sum(p.numel() for p in model.parameters())
    run.log(f"{asked.kind}, {parameters:,} parameters; {made.data.describe()}")
    settings, said = plan(model, made.data, train, started)
    run.decide({**asked.tables, "model": plain.to_dict(model.config), "train": plain.to_dict(settings)})
    run.log(said)
    return model, made, settings


def preview(kind: str, data: Sequence[str], output: str | Path, **options: Any) -> list[tuple[str, Any]]:
    """What :func:`train` with these arguments would read, write and train; nothing is written."""
    from nlpkit.data.assemble import CONFIGS
    from nlpkit.inference.loading import find_tokenizer
    from nlpkit.training import sizing
    from nlpkit.training.request import request

    registry.entry(kind)
    passed = {
        k: options.pop(k)
        for k in ("config", "overrides", "tokenizer", "start_from", "init_embeddings", "valid")
        if k in options
    }
    asked = request(kind, data, **passed, flags=options, data_class=CONFIGS[kind])
    named = asked.tables["input"]
    held = find_tokenizer(named["tokenizer"], named["from"])
    module = registry.module(kind)
    fill = {"vocab": held.vocab_size if held else getattr(asked.data, "vocab_size", 0), "labels": ["a", "b"]}
    known = {k: v for k, v in fill.items() if v and (k != "labels" or kind == "classifier")}
    values = model_values(asked, known, named["from"])
    model = module.Model(plain.build(module.Config, values, "model."))
    more = []
    if asked.sizeable:
        model, why = sizing.preview(module, values, asked)
        more.append(("size", why))
    if (words := _word_vectors(named)) is not None:
        more.append(("token embeddings", f"{named['init_embeddings']}, {len(words):,} words"))
    parameters = sum(p.numel() for p in model.parameters())
    size = sum(p.stat().st_size for p in sizing.files_in(asked.inputs))
    length = {n: v for n, v in asked.tables["train"].items() if n in ("steps", "epochs", "budget") and v}
    state = "goes on with" if (Path(output) / "origin.json").exists() else "makes"
    return [
        ("reads", f"{', '.join(asked.inputs)} ({size / 1e6:,.1f} MB)"),
        (state, str(output)),
        (
            "tokenizer",
            named["tokenizer"]
            or named["from"]
            or ("trained on the texts" if hasattr(model, "text") else "none"),
        ),
        *more,
        ("parameters", f"{parameters:,}"),
        ("memory for weights, gradients and moments", f"{16 * parameters / 1e6:,.0f} MB, and the batches"),
        ("a checkpoint on disk", f"{12 * parameters / 1e6:,.0f} MB"),
        (
            "length",
            ", ".join(f"{n} {v:g}" if isinstance(v, float) else f"{n} {v}" for n, v in length.items())
            or "3 epochs",
        ),
    ]


def model_values(asked: "Request", fill: Mapping[str, Any], start_from: str) -> dict[str, Any]:
    """The values of the model's config: as asked, with what the data and the model to start from decide."""
    known = {f.name for f in fields(asked.model)}
    values = {**asked.tables["model"], **{k: v for k, v in fill.items() if k in known}}
    if start_from:
        from nlpkit.core.families import sizes
        from nlpkit.core.folder import text_config
        from nlpkit.inference.loading import resolve

        text = text_config(resolve(start_from))
        values |= {k: v for k, v in plain.to_dict(sizes(text)).items() if k in known}
    return values


def _check_context(model: "nn.Module", data: Any) -> None:
    wanted = getattr(data, "max_length", getattr(data, "context", 0))
    text = getattr(model, "text", None)
    if text is not None and wanted > text.context:
        name = "data.max_length" if hasattr(data, "max_length") else "data.context"
        raise UsageError(
            f"{name} = {wanted} is more than the {text.context} tokens the model reads (model.context)"
        )


def _word_vectors(named: Mapping[str, Any]) -> "Vectors | None":
    """The word vectors that the token embeddings are to begin at, if any."""
    if not named.get("init_embeddings"):
        return None
    from nlpkit.inference.loading import find
    from nlpkit.vectors.vectors import Vectors

    return Vectors.load(find(named["init_embeddings"]))


def _start_embeddings(model: "nn.Module", words: "Vectors", tokenizer: Any, seed: int) -> str:
    """Begin the token embeddings at word vectors; the coverage, in words."""
    from nlpkit.training import start
    from nlpkit.vectors.token_vectors import in_width, token_vectors

    found, table = token_vectors(words, tokenizer), start.embedding_of(model)
    ids = found.known.nonzero()[0]
    rows = in_width(found.rows[ids], table.shape[1], float(table.std()), seed)
    start.from_rows(model, rows, ids)
    return found.describe()


def _finish(run: Any, asked: "Request", model: "nn.Module", made: Any, state: Any, place: Any) -> None:
    """Measure, write the model folder, the report and the seal."""
    from nlpkit.core import folder
    from nlpkit.report.card import card
    from nlpkit.report.run_html import write_report
    from nlpkit.store import atomic, manifest
    from nlpkit.training.measures import measure

    decode = made.tokenizer.decode if made.tokenizer is not None else None
    told = measure(asked.kind, model, made.data.valid(), place, decode)
    results = {"valid": told} if told else {}
    model.to("cpu")
    made_with: dict[str, str] = run.made_with()
    if made.tokenizer is not None:
        made_with["tokenizer"] = made.tokenizer.fingerprint
        if made.tokenizer.recipe_hash:
            made_with["recipe"] = made.tokenizer.recipe_hash
    with atomic.building(run.model, force=True) as building:
        folder.save(model, asked.kind, building)
        if made.tokenizer is not None:
            made.tokenizer.export(building)
        text = card(run.folder.name, asked.kind, run.resolved or {}, told)
        (building / "README.md").write_text(text, encoding="utf-8")
        manifest.seal(building, "model", made_with=made_with, notes={"kind": asked.kind, "step": state.step})
    run.write_json("eval.json", results)
    best = f" (best at step {state.best_step:,})" if state.best is not None else ""
    shown = ", ".join(f"{n} {v:.4f}" for n, v in headline(told))
    run.log(
        f"{run.folder}: {state.step:,} steps{best}{': valid ' + shown if shown else ''}; model: {run.model}"
    )
    run.flush()
    write_report(run.folder, _defaults(asked.kind))
    run.seal(made_with)


def _defaults(kind: str) -> dict[str, Any]:
    """What a run of a kind is configured with unasked."""
    from nlpkit.data.assemble import CONFIGS
    from nlpkit.training.request import request

    return request(kind, "-", data_class=CONFIGS[kind]).tables


def headline(told: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The measures that are said in one line."""
    wanted = ("loss", "perplexity", "accuracy", "macro_f1", "ndcg@10", "spearman", "elbo")
    return [(n, float(told[n])) for n in wanted if n in told]


def evaluate(
    run: str | Path,
    data: str | Path | Sequence[str | Path] | None = None,
    *,
    queries: str | Path | None = None,
    qrels: str | Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Measure a finished run, a model folder, word vectors, an index or a TREC run file.

    A run is measured on ``data``, or on its test part where it has one, else on its validation part; the result
    holds ``kind``, ``part``, ``data`` and the measures, and is added to the run's eval.json. An index is asked the
    queries of ``data`` (a BEIR folder) or ``queries`` and judged by ``qrels``, a TREC run only judged; ``options`` go
    to :func:`nlpkit.search.evaluate.judge`.
    """
    from nlpkit.store import manifest

    folder = Path(run)
    made = manifest.read(folder).kind if (folder / manifest.NAME).exists() else ""
    if made == "index" or folder.is_file():
        from nlpkit.search.evaluate import judge

        return judge(folder, data, queries=queries, qrels=qrels, **options)  # type: ignore[arg-type]
    given = [n for n, v in {"queries": queries, "qrels": qrels, **options}.items() if v is not None]
    if given and not folder.exists():
        raise UsageError(f"{run}: no such file or folder; check the path")
    if given:
        names = ", ".join(f"--{name.removesuffix('_file').replace('_', '-')}" for name in given)
        raise UsageError(f"{run}: is not an index; {names} are for one (nlpkit index build --model {run})")
    if made == "vectors":
        return _evaluate_vectors(folder, data)
    loaded = load_model(run)
    home = loaded.folder.parent
    of_run = loaded.folder.name == "model" and (home / "config.toml").is_file()
    resolved = plain.read_toml(home / "config.toml") if of_run else {}
    paths = [str(data)] if isinstance(data, str | Path) else [str(p) for p in data or ()]
    part, name, batches = _batches(loaded, home, resolved, paths)
    from nlpkit.training.measures import measure

    decode = loaded.tokenizer.decode if loaded.tokenizer is not None else None
    told = measure(loaded.kind, loaded.model, batches, decode=decode)
    if not told:
        raise DataError(f"{run}: there is nothing to measure on ({part}); pass --data")
    result = {"kind": loaded.kind, "part": part, "data": name, **told}
    if of_run and (home / manifest.NAME).exists():
        _keep(home, part if not paths else f"{part}:{name}", told)
    return result


def _evaluate_vectors(folder: Path, data: Any) -> dict[str, Any]:
    """How the cosines of word vectors' sentences go with people's scores of scored pairs."""
    from nlpkit.data.assemble import part_files
    from nlpkit.data.pairs import PairsConfig, read_pairs
    from nlpkit.inference.embed import load_encoder, weighting_of
    from nlpkit.metrics import correlation

    if not data or not isinstance(data, str | Path):
        raise UsageError(
            f"{folder}: word vectors are measured on one --data file of scored pairs of sentences"
        )
    files = part_files(str(data))
    path = files.get("test", files["train"])
    pairs = read_pairs(path, PairsConfig())
    if pairs.scores is None or len(set(pairs.scores)) < 2:
        raise DataError(
            f"{path}: has no column of scores that differ; word vectors are measured on scored pairs"
        )
    encoder = load_encoder(folder)
    cosines = (encoder.encode(pairs.queries) * encoder.encode(pairs.docs)).sum(1)
    return {
        "kind": f"vectors ({weighting_of(folder)})",
        "part": "given",
        "data": str(path),
        "spearman": correlation.spearman(cosines, pairs.scores),
        "pearson": correlation.pearson(cosines, pairs.scores),
        "count": len(pairs),
    }


def _batches(
    loaded: "LoadedModel", home: Path, resolved: Mapping[str, Any], paths: list[str]
) -> tuple[str, str, Any]:
    """(part, name of the data, batches) to measure a model on."""
    from nlpkit.data import assemble, images, labelled, pairs

    kind = loaded.kind
    named = {"data": [], "valid": "", **resolved.get("input", {})}
    config: Any = plain.build(assemble.CONFIGS[kind], resolved.get("data", {}), "data.")
    if not paths and not named["data"]:
        raise UsageError(f"{loaded.folder}: is no run that knows its data; pass --data")
    if kind in assemble.LANGUAGE:
        made = assemble.measured_language(kind, paths, named, config, home, loaded.text)
        return ("given", paths[0], made.valid()) if paths else ("valid", named["data"][0], made.valid())
    if kind not in assemble.TEXT:
        data = images.ImageData(images.load((paths or named["data"])[0]), config)
        if loaded.labels and data.classes > len(loaded.labels):
            raise DataError(
                f"{(paths or named['data'])[0]}: has {data.classes} classes, the model knows {len(loaded.labels)}"
            )
        return "test", str((paths or named["data"])[0]), data.part("test")
    files = assemble.part_files((paths or named["data"])[0])
    part = "given" if paths and "test" not in files else "test" if "test" in files else "valid"
    if part == "valid":
        path: Path | None = Path(named["valid"]) if named["valid"] else files.get("valid")
    else:
        path = files.get("test", files["train"])
    read: Any = labelled.read_labelled if kind == "classifier" else pairs.read_pairs
    held = read(path or files["train"], config)
    if path is None:
        texts = held.texts if kind == "classifier" else held.queries
        held = held.take(labelled.held_out(texts, config.valid_fraction))
    if kind == "classifier":
        rows: Any = labelled.LabelledData(held, held, loaded.text, config, labels=loaded.labels)
    else:
        rows = (pairs.PairData if kind == "biencoder" else pairs.ScoredPairData)(
            held, held, loaded.text, config
        )
    return part, str(path or files["train"]), rows.valid()


def _keep(folder: Path, name: str, told: Mapping[str, Any]) -> None:
    """Add a result to a finished run's eval.json, write its report anew and seal it again."""
    from nlpkit.report.run_html import write_report
    from nlpkit.store import jsonfile, lines, manifest
    from nlpkit.store.lock import locked

    with locked(folder, 2.0):
        sealed = manifest.read(folder, "run")
        manifest.check_file(folder, sealed, "eval.json")
        results = {**jsonfile.read(folder / "eval.json"), name: dict(told)}
        jsonfile.write(folder / "eval.json", results)
        write_report(folder, _defaults(str(sealed.notes["kind"])))
        known = {n: s for n, s in sealed.files.items() if n not in ("eval.json", "report.html")}
        manifest.seal(
            folder, "run", made_with=sealed.made_with, notes=sealed.notes, leave=lines.LOGS, known=known
        )


def sample(run: str | Path, n: int, path: str | Path, *, seed: int = 0) -> None:
    """Draw ``n`` images from a generative model and write them as one PNG grid."""
    import torch

    from nlpkit.report.grid import save_grid

    if n < 1:
        raise UsageError(f"-n {n}: expected 1 or more")
    loaded = load_model(run)
    draw: Any = getattr(loaded.model, "sample", None)
    if draw is None:
        raise UsageError(f"{run}: a {loaded.kind} cannot be sampled (a clm: nlpkit generate)")
    with torch.inference_mode():
        images = draw(n, generator=torch.Generator().manual_seed(seed))
    save_grid(images.float().numpy(), path)

"""``nlpkit train``: any model of the registry."""

from typing import Annotated, Any

import typer

from nlpkit.cli.options import (
    Budget,
    Configuration,
    DryRun,
    FromCheckpoint,
    InitEmbeddings,
    Overrides,
    RunFolder,
    StartFrom,
    StartOver,
    Steps,
    Threads,
    TrainDevice,
    TrainDocuments,
    TrainSeed,
    TrainTokenizer,
    Valid,
)

NEXT = {
    "mlm": "nlpkit fill-mask {run} 'some <MASK> text'",
    "clm": "nlpkit generate {run} 'Once'",
    "classifier": "nlpkit classify {run} texts.txt",
    "biencoder": "nlpkit index build IN -o indexes/NAME --model {run}",
    "crossencoder": "nlpkit search INDEX 'a question' --rerank {run}",
    "cnn": "nlpkit eval {run}",
    "vit": "nlpkit eval {run}",
    "vae": "nlpkit sample {run} -n 64 --grid grid.png",
}


def command(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="A model of the registry (see: nlpkit models).")
    ],
    *,
    output: RunFolder,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA", help="A file, a folder with train, valid and test files, or digits."),
    ] = None,
    valid: Valid = None,
    tokenizer: TrainTokenizer = None,
    start_from: StartFrom = None,
    init_embeddings: InitEmbeddings = None,
    config: Configuration = None,
    overrides: Overrides = None,
    budget: Budget = None,
    steps: Steps = None,
    documents: TrainDocuments = None,
    seed: TrainSeed = None,
    device: TrainDevice = None,
    jobs: Threads = None,
    from_checkpoint: FromCheckpoint = None,
    dry_run: DryRun = False,
    force: StartOver = False,
) -> None:
    """Train any model of the registry.

    Stopped, by Ctrl-C or otherwise, the same command goes on where it was.

    Example: nlpkit train classifier --data train.tsv -o runs/sentiment --budget 2m
    """
    from pathlib import Path

    from nlpkit import registry
    from nlpkit.errors import UsageError

    registry.entry(kind)
    for path in [*(data or []), *([valid] if valid else [])]:
        if path not in ("-", "digits") and not Path(path).exists():
            raise UsageError(f"{path}: no such file or folder; check the path")
    carry_out(
        kind,
        data or [],
        output,
        dry_run=dry_run,
        config=config,
        overrides=overrides or [],
        tokenizer=tokenizer,
        start_from=start_from,
        init_embeddings=init_embeddings,
        valid=valid,
        budget=budget,
        steps=steps,
        documents=documents,
        seed=seed,
        device=device,
        threads=jobs,
        force=force,
        from_checkpoint=from_checkpoint,
    )


def carry_out(kind: str, data: list[str], output: str, *, dry_run: bool, **options: Any) -> None:
    """Train and say what is next; with ``dry_run`` say what would be done."""
    from nlpkit import api, console

    if dry_run:
        for name in ("force", "from_checkpoint"):
            options.pop(name)
        console.table(api.preview(kind, data, output, **options), ["what", "value"])
        return
    run = api.train(kind, data, output, **options)
    console.note(f"next: {NEXT.get(kind, 'nlpkit eval {run}').format(run=run)}")

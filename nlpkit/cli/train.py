"""``nlpkit train``: any model of the registry."""

from typing import Annotated, Any

import typer

NEXT = {
    "mlm": "nlpkit fill-mask {run} 'some <MASK> text'",
    "clm": "nlpkit generate {run} 'Once'",
    "classifier": "nlpkit classify {run} texts.txt",
    "biencoder": "nlpkit index build IN -o indexes/NAME --model {run}",
    "crossencoder": "nlpkit search INDEX 'a question' --rerank {run}",
    "cnn": "nlpkit eval {run}",
    "vae": "nlpkit sample {run} -n 64 --grid grid.png",
}


def command(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="A model of the registry (see: nlpkit models).")
    ],
    *,
    output: Annotated[str, typer.Option("--output", "-o", metavar="RUN", help="The run's folder.")],
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA", help="A file, a folder with train, valid and test files, or digits."),
    ] = None,
    valid: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Validation data; else a share of the data is held out."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="DIR", help="Without it (and --from) one is trained on the texts.")
    ] = None,
    start_from: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help="Start from the weights of a run or folder.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", metavar="CONFIG", help="A TOML file, or a recipe by its name."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Such as train.lr=1e-3.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="At most this wall time for all of it: 90s, 2m, 1h.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the optimizer.")] = None,
    documents: Annotated[
        str | None, typer.Option(help="mlm and clm: a document is a line, paragraph (default) or file.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and dropout.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or auto.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="Threads.")] = None,
    from_checkpoint: Annotated[
        int | None, typer.Option(metavar="STEP", help="Go on from this checkpoint, not from the newest.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Start the run over.")] = False,
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
            raise UsageError(f"{path}: no such file or folder")
    carry_out(
        kind,
        data or [],
        output,
        dry_run=dry_run,
        config=config,
        overrides=overrides or [],
        tokenizer=tokenizer,
        start_from=start_from,
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

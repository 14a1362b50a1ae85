"""``nlpkit pretrain``: a masked or next-token language model from text; the same code as ``train mlm|clm``."""

from typing import Annotated

import typer

from nlpkit.errors import UsageError, did_you_mean

OBJECTIVES = ("mlm", "clm")


def command(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IN]...", help="Text files, folders or a token shard; none or - is stdin."),
    ] = None,
    *,
    output: Annotated[str, typer.Option("--output", "-o", metavar="RUN", help="The run's folder.")],
    objective: Annotated[str, typer.Option(help="mlm (masked words) or clm (the next token).")] = "mlm",
    tokenizer: Annotated[
        str | None, typer.Option(metavar="DIR", help="Without it (and --from) one is trained on the text.")
    ] = None,
    start_from: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help="Start from the weights of a run or folder.")
    ] = None,
    valid: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Validation text; else a share of the input is held out."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", metavar="CONFIG", help="A TOML file, or a recipe by its name."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Such as train.lr=1e-3.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Wall time for all of it, such as 90s, 2m, 1h.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the optimizer.")] = None,
    documents: Annotated[
        str | None, typer.Option(help="In text, a document is a line, paragraph (default) or file.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and masks.")] = None,
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
    """Train a masked or next-token language model from text.

    The run's folder holds the model as a Hugging Face folder (model/). Stopped, by Ctrl-C or otherwise, the same
    command goes on where it was.

    Example: nlpkit pretrain corpus.txt -o runs/mlm --objective mlm --tokenizer runs/tok --budget 10m
    """
    if objective not in OBJECTIVES:
        raise UsageError(f"--objective {objective!r}{did_you_mean(objective, OBJECTIVES)}")
    from nlpkit.text.documents import sources

    if not config or inputs:
        sources(inputs or [])  # missing files, and a terminal where text is needed, are said at once
    from nlpkit.cli.train import carry_out

    carry_out(
        objective,
        inputs or ([] if config else ["-"]),
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

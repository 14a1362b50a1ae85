"""``nlpkit pretrain``: a masked or next-token language model from text; the same code as ``train mlm|clm``."""

from typing import Annotated

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
from nlpkit.errors import UsageError, did_you_mean

OBJECTIVES = ("mlm", "clm")


def command(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="IN", help="Text files, folders or a token shard; none or - is stdin."),
    ] = None,
    *,
    output: RunFolder,
    objective: Annotated[
        str, typer.Option(metavar="NAME", help="mlm (masked words) or clm (the next token).")
    ] = "mlm",
    tokenizer: TrainTokenizer = None,
    start_from: StartFrom = None,
    init_embeddings: InitEmbeddings = None,
    valid: Valid = None,
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

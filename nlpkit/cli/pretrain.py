"""``nlpkit pretrain``: a masked or next-token language model from text; the same code as ``train mlm|clm``."""

from pathlib import Path
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

OBJECTIVES = ("mlm", "clm", "prefix")


def command(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="IN", help="Text files, folders or a token shard; none or - is stdin."),
    ] = None,
    *,
    output: RunFolder,
    objective: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="mlm (masked words), clm (the next token), prefix, or a mix such as mlm:.5,clm:.5.",
        ),
    ] = "mlm",
    tokenizer: TrainTokenizer = None,
    start_from: StartFrom = None,
    init_embeddings: InitEmbeddings = None,
    valid: Valid = None,
    config: Configuration = None,
    overrides: Overrides = None,
    budget: Budget = None,
    steps: Steps = None,
    mask: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="mlm: mask tokens, whole words (word) or spans of words (span)."),
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHARES", help='Sources by stage: "0-70%: web=.8,books=.2"; may be given again.'
        ),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(metavar="NAME", help="adamw, muon, sgd or avg-grad.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="NAME", help="auto (measured), float32 or bfloat16.")
    ] = None,
    compile: Annotated[
        str | None, typer.Option(metavar="WAY", help="auto (where it pays within the budget), on or off.")
    ] = None,
    fork_decay: Annotated[
        str | None,
        typer.Option(
            metavar="RUN[@STEP]",
            help="Go on from another run's checkpoint with --steps of falling rate only.",
        ),
    ] = None,
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
    names = [part.partition(":")[0].strip() for part in objective.split(",")]
    if odd := [name for name in names if name not in OBJECTIVES]:
        raise UsageError(f"--objective {odd[0]!r}{did_you_mean(odd[0], OBJECTIVES)}")
    kind = "mlm" if "mlm" in names else "clm"
    given = [] if objective == kind else [("data.objective", objective)]
    given += [
        (key, value)
        for key, value in (
            ("data.mask", mask),
            ("train.optimizer", optimizer),
            ("train.precision", precision),
            ("train.compile", compile),
        )
        if value
    ]
    if stage:
        given.append(("data.stages", "[" + ", ".join(f'"{one}"' for one in stage) + "]"))
    from nlpkit.text.documents import sources

    if fork_decay is not None:
        from nlpkit.training.fork import fork

        fork(fork_decay, output, steps, force=force)
        from nlpkit import api

        api.resume(output)
        return
    if not config or inputs:
        plain = [
            text.partition("=")[2] if "=" in text and not Path(text).exists() else text
            for text in inputs or []
        ]
        sources(plain)  # missing files, and a terminal where text is needed, are said at once
    from nlpkit.cli.train import carry_out

    carry_out(
        kind,
        inputs or ([] if config else ["-"]),
        output,
        dry_run=dry_run,
        config=config,
        overrides=[*(overrides or []), *(f"{key}={value}" for key, value in given)],
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

"""``nlpkit train-glove``: text in, a folder of GloVe word vectors out."""

from typing import Annotated

import typer

from nlpkit.cli.options import Documents, Errors, Force, Inputs, TextField, size_in_bytes
from nlpkit.errors import UsageError


def command(
    paths: Inputs = None,
    *,
    output: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")],
    size: Annotated[int, typer.Option(metavar="N", help="Numbers in a vector.")] = 100,
    window: Annotated[int, typer.Option(metavar="N", help="How many words away a context reaches.")] = 10,
    left_window: Annotated[
        bool, typer.Option("--left-window", help="Count only the words before a word.")
    ] = False,
    epochs: Annotated[int, typer.Option(metavar="N", help="Passes over the counts.")] = 15,
    min_count: Annotated[int, typer.Option(metavar="N", help="Leave out words that occur less often.")] = 5,
    max_vocab: Annotated[
        int | None, typer.Option(metavar="N", help="Keep this many of the most frequent words.")
    ] = None,
    x_max: Annotated[float, typer.Option("--x-max", metavar="X", help="Counts from here on weigh 1.")] = 10.0,
    alpha: Annotated[
        float, typer.Option(metavar="X", help="Smaller counts weigh (count / x-max)^alpha.")
    ] = 0.75,
    lr: Annotated[
        float | None, typer.Option(metavar="X", help="AdaGrad's rate (default: 0.05; of ratio 0.007).")
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="wls (least squares of log counts) or ratio (log-ratios of word triples)."
        ),
    ] = "wls",
    sampling: Annotated[
        str,
        typer.Option(
            metavar="WAY",
            help="Of the ratio objective: weighted (as GloVe weighs) or literal (by P(word|context)).",
        ),
    ] = "weighted",
    init: Annotated[
        str | None,
        typer.Option(
            "--init", metavar="VECTORS", help="Start from these vectors; their words stay in the output."
        ),
    ] = None,
    anchor: Annotated[
        float, typer.Option(metavar="X", help="How strongly words of --init are held to their vectors.")
    ] = 0.0,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Leave the vectors of --init as they are.")
    ] = False,
    valid_share: Annotated[
        float,
        typer.Option(
            "--valid-share", metavar="X", help="Hold out this share of the counts; keep the best epoch."
        ),
    ] = 0.0,
    patience: Annotated[
        int | None,
        typer.Option(metavar="N", help="Stop after N epochs that were no better (needs --valid-share)."),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of the first vectors, the order, the draws, what is held out.")
    ] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", metavar="N", help="Threads (default: all); the vectors do not depend on it."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="How to standardize (a TOML recipe); else as --init, or lower, no punctuation.",
        ),
    ] = None,
    standardized: Annotated[
        bool, typer.Option("--standardized", help="The text went through the recipe already.")
    ] = False,
    documents: Documents = "paragraph",
    text_field: TextField = "text",
    errors: Errors = "replace",
    max_memory: Annotated[
        str, typer.Option(metavar="SIZE", help="For counts and samples, as 512M or 4G; more goes to disk.")
    ] = "1G",
    checkpoint_every: Annotated[
        int | None,
        typer.Option(metavar="N", help="Epochs between checkpoints (default: when 30 s have passed)."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on from where the same command was stopped.")
    ] = True,
    force: Force = False,
) -> None:
    """Learn GloVe word vectors from text.

    Words are counted where they stand near one another in a document; the vectors explain the counts. Stopped
    by Ctrl-C, the same command goes on. With --init older vectors learn from new text.

    Example: nlpkit train-glove corpus.txt -o runs/vectors --size 100 --epochs 15
    """
    memory = size_in_bytes(max_memory, "--max-memory")
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs: expected 1 or more, got {jobs}")
    if checkpoint_every is not None and checkpoint_every < 1:
        raise UsageError(f"--checkpoint-every: expected 1 or more, got {checkpoint_every}")
    from time import monotonic

    from nlpkit import console
    from nlpkit.store import manifest
    from nlpkit.store.atomic import refuse_existing
    from nlpkit.text.documents import read_documents, required
    from nlpkit.text.standardize import Recipe

    refuse_existing(output, force)
    steps = None if recipe is None else Recipe.load(recipe)
    found = read_documents(paths or [], documents=documents, text_field=text_field, errors=errors)

    from nlpkit.vectors import glove

    started = monotonic()
    folder = glove.train(
        (document.text for document in required(found, paths or [])),
        output,
        size=size,
        window=window,
        epochs=epochs,
        min_count=min_count,
        max_vocab=max_vocab,
        x_max=x_max,
        alpha=alpha,
        lr=lr,
        seed=seed,
        objective=objective,
        sampling=sampling,
        init=init,
        anchor=anchor,
        freeze=freeze,
        valid_share=valid_share,
        patience=patience,
        recipe=steps,
        standardized=standardized,
        jobs=jobs,
        symmetric=not left_window,
        max_memory=memory,
        checkpoint_every=checkpoint_every,
        force=force,
        resume=resume,
    )
    made = manifest.read(folder).notes
    console.note(
        f"{folder}: {made['vocabulary']:,} words from {made['tokens']:,}, {made['nonzeros']:,} nonzero counts, "
        f"{monotonic() - started:.1f} s; next: nlpkit vectors nearest {folder} WORD"
    )

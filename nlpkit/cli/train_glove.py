"""``nlpkit train-glove``: text in, a folder of GloVe word vectors out."""

import re
from typing import Annotated

import typer

from nlpkit.cli.options import Documents, Errors, Force, Inputs, TextField
from nlpkit.errors import UsageError

_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


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
    lr: Annotated[float, typer.Option(metavar="X", help="AdaGrad's rate.")] = 0.05,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the first vectors and of the order.")] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", metavar="N", help="Threads (default: all); the vectors do not depend on it."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="How to standardize (a TOML recipe); else lower, no punctuation."),
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
    force: Force = False,
) -> None:
    """Learn GloVe word vectors from text.

    Words are counted where they stand near one another in a document; the vectors explain the counts. Stopped
    by Ctrl-C, the same command goes on.

    Example: nlpkit train-glove corpus.txt -o runs/vectors --size 100 --epochs 15
    """
    memory = _bytes(max_memory)
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
        recipe=steps,
        standardized=standardized,
        jobs=jobs,
        symmetric=not left_window,
        max_memory=memory,
        checkpoint_every=checkpoint_every,
        force=force,
    )
    made = manifest.read(folder).notes
    console.note(
        f"{folder}: {made['vocabulary']:,} words from {made['tokens']:,}, {made['nonzeros']:,} nonzero counts, "
        f"{monotonic() - started:.1f} s; next: nlpkit vectors nearest {folder} WORD"
    )


def _bytes(text: str) -> int:
    """A size in bytes: 4096, 512M, 1.5GiB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    size = int(float(match[1]) * 2 ** _UNITS[match[2]]) if match else 0
    if size < 1:
        raise UsageError(f"--max-memory {text!r}: expected a size such as 512M or 4G")
    return size

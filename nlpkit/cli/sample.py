"""``nlpkit sample``: draw from a generative model of images."""

from typing import Annotated

import typer

from nlpkit.cli.options import Force


def command(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run or folder of a model that can be sampled.")
    ],
    n: Annotated[int, typer.Option("-n", metavar="N", help="How many.")] = 64,
    grid: Annotated[str, typer.Option("--grid", "-o", metavar="FILE", help="The PNG to write.")] = "grid.png",
    seed: Annotated[int, typer.Option(metavar="N", help="Equal seeds give equal images.")] = 0,
    force: Force = False,
) -> None:
    """Draw images from a generative model, as one PNG grid.

    Example: nlpkit sample runs/vae -n 64 --grid grid.png
    """
    from nlpkit import api, console
    from nlpkit.store.atomic import refuse_existing

    path = refuse_existing(grid, force)
    api.sample(run, n, path, seed=seed)
    console.note(f"{path}: {n} samples of {run}")

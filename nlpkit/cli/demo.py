"""``nlpkit demo``: the whole chain on Python's own documentation."""

from typing import Annotated

import typer


def command(
    fast: Annotated[
        bool, typer.Option("--fast", help="Train less: about a minute instead of three.")
    ] = False,
) -> None:
    """Raw text to a trained model and a working semantic search, offline, in the current folder.

    Makes corpora/python, corpora/python-demo, runs/demo-* and indexes/python, and shows each command
    line before it runs it.

    Example: nlpkit demo --fast
    """
    from nlpkit.demo import demo

    demo(fast)

"""``nlpkit models``: what can be trained."""

from typing import Annotated

import typer


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the models that can be trained.

    Example: nlpkit models
    """
    import json

    from nlpkit import console
    from nlpkit.registry import MODELS

    rows = [{"name": name, "task": entry.task, "summary": entry.summary} for name, entry in MODELS.items()]
    if as_json:
        console.write(json.dumps(rows) + "\n")
    else:
        console.table([list(r.values()) for r in rows], ["name", "task", "what it is"])

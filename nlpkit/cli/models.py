"""``nlpkit models``: what can be trained."""

from nlpkit.cli.options import AsJson


def command(
    as_json: AsJson = False,
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

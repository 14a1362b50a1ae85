"""``nlpkit runs``: list and show training runs."""

from typing import Annotated

import typer

from nlpkit.cli.options import AsJson

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.command("ls")
def ls(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where the runs lie.")] = "runs",
    as_json: AsJson = False,
) -> None:
    """List the training runs of a folder, newest first.

    Example: nlpkit runs ls
    """
    import json

    from nlpkit import console
    from nlpkit.training.listing import listing

    found = listing(folder)
    if as_json:
        console.write(json.dumps(found) + "\n")
        return
    keys = ("name", "kind", "steps", "best", "made", "state")
    console.table(
        ([r[k] for k in keys] for r in found), ["name", "kind", "steps", "best loss", "when", "state"]
    )


@app.command("show")
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder.")],
    as_json: AsJson = False,
) -> None:
    """Show a run: its configuration, its last metrics, what it measured.

    Example: nlpkit runs show runs/sentiment
    """
    import json

    from nlpkit import console
    from nlpkit.report.run_html import flat
    from nlpkit.training.listing import describe

    told = describe(run)
    if as_json:
        console.write(json.dumps(told, ensure_ascii=False) + "\n")
        return
    shown = {k: v for k, v in told.items() if k != "config"}
    rows = [
        (name, value if isinstance(value, int | float | str) else json.dumps(value))
        for name, value in flat(shown)
    ]
    console.table(rows, ["what", "value"], str(run))
    console.table(
        [(n, json.dumps(v, ensure_ascii=False)) for n, v in flat(told["config"])], ["config", "value"]
    )

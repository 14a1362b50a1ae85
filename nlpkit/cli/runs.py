"""``nlpkit runs``: list, show, compare and draw training runs."""

from typing import Annotated

import typer

from nlpkit.cli.options import AsJson, Force

LONG = 40  # columns of a value in a comparison; --json has all of it

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
    from nlpkit.report.run_html import duration
    from nlpkit.training.listing import listing

    found = listing(folder)
    if as_json:
        console.write(json.dumps(found) + "\n")
        return
    rows = []
    for run in found:
        rate, spent = run["tokens_per_second"], run["seconds"]
        pace = ["" if rate is None else f"{rate:.0f}", "" if spent is None else duration(spent)]
        rows.append([run["name"], run["kind"], run["steps"], run["best"], *pace, run["made"], run["state"]])
    console.table(rows, ["name", "kind", "steps", "best loss", "tokens/s", "time", "when", "state"])


@app.command("show")
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder.")],
    as_json: AsJson = False,
) -> None:
    """Show a run: its configuration, its last metrics, what it measured.

    Example: nlpkit runs show runs/sentiment
    """
    import json

    from nlpkit import config, console
    from nlpkit.training.listing import describe

    told = describe(run)
    if as_json:
        console.write(json.dumps(told, ensure_ascii=False) + "\n")
        return
    shown = config.flat({k: v for k, v in told.items() if k != "config"})
    rows = [
        (name, value if isinstance(value, int | float | str) else json.dumps(value))
        for name, value in shown.items()
        if value not in ("", [])
    ]
    console.table(rows, ["what", "value"], str(run))
    console.table(
        [(n, json.dumps(v, ensure_ascii=False)) for n, v in config.flat(told["config"]).items()],
        ["config", "value"],
    )


@app.command("diff")
def diff(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder.")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The folder of the run to compare it with.")],
    as_json: AsJson = False,
) -> None:
    """Show what differs between two runs: configuration, origin (versions, seed, inputs), results.

    Example: nlpkit runs diff runs/a runs/b
    """
    import json

    from nlpkit import console
    from nlpkit.training.listing import differences

    found = differences(run, other)
    if as_json:
        console.write(json.dumps({"runs": [run, other], **found}, ensure_ascii=False) + "\n")
        return
    rows = [
        (part, name, _shown(a), _shown(b), "" if part == "origin" else _change(a, b))
        for part, differing in found.items()
        for name, (a, b) in differing.items()
    ]
    if not rows:
        console.note(f"{run} and {other}: nothing differs")
        return
    console.table(rows, ["of", "what", run, other, "change"])


@app.command("plot")
def plot(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="An .svg, .png or .pdf file.")
    ],
    axis: Annotated[
        str, typer.Option("--x", metavar="AXIS", help="What they are drawn over: step, tokens or seconds.")
    ] = "step",
    log_x: Annotated[bool, typer.Option("--log-x", help="A logarithmic axis of steps.")] = False,
    force: Force = False,
) -> None:
    """Draw loss, gradient norm, learning rate and throughput of runs in one figure.

    Example: nlpkit runs plot runs/a runs/b -o curves.svg --x tokens
    """
    from pathlib import Path

    from nlpkit import console
    from nlpkit.report.curves import plot_runs
    from nlpkit.report.history import history
    from nlpkit.training.listing import records_of

    names = [Path(run).resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = runs
    told = [history(name, records_of(run)) for name, run in zip(names, runs, strict=True)]
    plot_runs(told, output, axis=axis, log_x=log_x, force=force)
    console.note(f"{output}: {len(told)} run{'s' if len(told) > 1 else ''} over {axis}")


def _shown(value: object) -> str:
    """A value of a comparison: of a hash the first twelve digits, of a long list its beginning."""
    import json
    import re

    if value is None:
        return "-"
    if isinstance(value, str):
        return value[:12] if re.fullmatch(r"[0-9a-f]{40,64}", value) else value
    text = f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONG else text[: LONG - 1] + "…"


def _change(a: object, b: object) -> str:
    """How far the second number is from the first."""
    if isinstance(a, bool) or isinstance(b, bool):
        return ""
    if not (isinstance(a, int | float) and isinstance(b, int | float)):
        return ""
    share = f" ({100 * (b - a) / abs(a):+.1f} %)" if a else ""
    difference = f"{b - a:+,}" if isinstance(a, int) and isinstance(b, int) else f"{b - a:+,.4g}"
    return difference + share

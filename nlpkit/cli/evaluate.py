"""``nlpkit eval``: measure a run or an index, and hold it to what is required."""

import re
from typing import Annotated, Any

import typer

from nlpkit.cli.options import AsJson
from nlpkit.errors import NlpkitError, UsageError, did_you_mean


def command(
    run: Annotated[str, typer.Argument(metavar="RUN|INDEX", help="A run, a model folder or an index.")],
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="A file or folder; else the run's own test (or validation) part."),
    ] = None,
    queries: Annotated[
        str | None, typer.Option(metavar="FILE", help="Of an index: queries (jsonl, or id<TAB>text).")
    ] = None,
    qrels: Annotated[str | None, typer.Option(metavar="FILE", help="Of an index: judgements.")] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(metavar="EXPR", help='Leave with 1 unless this holds, such as "accuracy>=0.75".'),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a run or an index.

    Example: nlpkit eval runs/sentiment --data test.tsv --require "accuracy>=0.75"
    """
    import json

    wanted = [parse(text) for text in require or []]
    from nlpkit import api, console

    told = api.evaluate(run, data, queries=queries, qrels=qrels)
    if as_json:
        console.write(json.dumps(told, ensure_ascii=False) + "\n")
    else:
        title = f"{run}: {told['kind']} on {told['data']} ({told['part']})"
        console.table(rows(told), ["measure", "value"], title)
    missed = [text for text, name, sign, bound in wanted if not holds(told, name, sign, bound)]
    if missed:
        shown = ", ".join(f"{m} (is {told[parse(m)[1]]:.4f})" for m in missed)
        raise NlpkitError(f"{run}: required, but not met: {shown}")


def parse(text: str) -> tuple[str, str, str, float]:
    """(text, measure, sign, bound) of a requirement."""
    match = re.fullmatch(r"\s*([\w@]+)\s*(>=|<=|>|<)\s*([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)\s*", text)
    if not match:
        raise UsageError(f"--require {text!r}: expected MEASURE>=NUMBER (or <=, >, <)")
    return text, match[1], match[2], float(match[3])


def holds(told: dict[str, Any], name: str, sign: str, bound: float) -> bool:
    """Whether a requirement holds; UsageError when nothing of that name was measured."""
    value = told.get(name)
    if not isinstance(value, int | float):
        known = [n for n, v in told.items() if isinstance(v, int | float)]
        raise UsageError(f"--require: no measure {name!r}{did_you_mean(name, known)}")
    return {">=": value >= bound, "<=": value <= bound, ">": value > bound, "<": value < bound}[sign]


def rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    """The plain measures, with their intervals behind them."""
    found = []
    for name, value in told.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            shown = f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
            interval = told.get(f"{name}_interval")
            if interval:
                shown += f" [{interval[0]:.4f}, {interval[1]:.4f}]"
            found.append((name, shown))
    return found

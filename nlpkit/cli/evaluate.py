"""``nlpkit eval``: measure a run, an index or a TREC run file, compare it, and hold it to what is required."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from nlpkit.cli.options import AsJson, Force
from nlpkit.errors import NlpkitError, UsageError, did_you_mean


def command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|INDEX", help="A run, a model folder, word vectors, an index, a TREC run file."
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="A file or folder; else the run's own test (or validation) part. Of an index: a BEIR folder.",
        ),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Of an index: queries (jsonl, lines of id<TAB>text, or TREC topics)."
        ),
    ] = None,
    qrels: Annotated[
        str | None, typer.Option(metavar="FILE", help="Of an index: judgements (BEIR's TSV, or TREC's).")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a BEIR folder: which qrels (default: test).")
    ] = None,
    measures: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="With commas: ndcg@K, map, map@K, mrr@K, p@K, recall@K, r-precision, success@K, judged@K.",
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="bm25, dense or hybrid (hybrid where the index has a model)."),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("-k", metavar="N", min=1, help="Documents asked of an index a query (default: 100)."),
    ] = None,
    weight: Annotated[
        float | None, typer.Option(metavar="X", help="Share of the dense score in hybrid, 0 to 1.")
    ] = None,
    fuse: Annotated[
        str | None, typer.Option(metavar="WAY", help="norm (weighted scores) or rrf (reciprocal ranks).")
    ] = None,
    rerank: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A cross-encoder that reorders the first hits.")
    ] = None,
    pool: Annotated[
        int | None, typer.Option(metavar="N", help="How many first hits are fused or reranked.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="EXPR", help="Ask only documents whose fields fit.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="OTHER", help="Compare with an index, a TREC run or a file of --per-query."),
    ] = None,
    against_mode: Annotated[
        str | None, typer.Option(metavar="MODE", help="The mode in which OTHER is asked (default: --mode).")
    ] = None,
    trec: Annotated[
        Path | None, typer.Option("--run", metavar="OUT.trec", help="Write the hits as a TREC run file.")
    ] = None,
    per_query: Annotated[
        Path | None,
        typer.Option(metavar="OUT.tsv", help="Write the values of each query (a name in .json: as JSON)."),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(metavar="EXPR", help='Leave with 1 unless this holds, such as "accuracy>=0.75".'),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Of the intervals and tests (default: 0).")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Measure a run or an index.

    An index, or a TREC run file of any system, is judged as trec_eval does, with 95 % bootstrap intervals. A judged
    query without hits counts 0; one without a relevant document is left out and counted. --against tells the
    differences, their intervals, and the p-value of the paired randomisation test.

    Example: nlpkit eval runs/sentiment --data test.tsv --require "accuracy>=0.75"

    Example: nlpkit eval indexes/docs --queries q.tsv --qrels qrels.tsv --require "ndcg@10>=0.39"
    """
    import json

    wanted = [parse(text) for text in require or []]
    from nlpkit import api, console

    asked: dict[str, Any] = {
        "split": split, "measures": measures, "mode": mode, "k": k, "weight": weight, "fusion": fuse,
        "rerank": rerank, "pool": pool, "where": where, "against": against, "against_mode": against_mode,
        "run_file": trec, "per_query": per_query, "seed": seed, "force": force or None,
    }  # fmt: skip
    options = {name: value for name, value in asked.items() if value is not None}
    if judged := _is_judged(run):
        options["measures"] = _measures(measures, [name for _, name, _, _ in wanted])
    told = api.evaluate(run, data, queries=queries, qrels=qrels, **options)
    if as_json:
        console.write(json.dumps(told, ensure_ascii=False) + "\n")
    elif judged:
        show(run, told)
    else:
        title = f"{run}: {told['kind']} on {told['data']} ({told['part']})"
        console.table(rows(told), ["measure", "value"], title)
    missed = [text for text, name, sign, bound in wanted if not holds(told, name, sign, bound)]
    if missed:
        shown = ", ".join(f"{m} (is {value(told, parse(m)[1]):.4f})" for m in missed)
        raise NlpkitError(f"{run}: required, but not met: {shown}")


def _is_judged(run: str) -> bool:
    """Whether this is judged by queries and judgements: an index or a TREC run file."""
    from nlpkit.store import manifest

    folder = Path(run)
    return folder.is_file() or ((folder / manifest.NAME).exists() and manifest.read(folder).kind == "index")


def _measures(listed: str | None, required: list[str]) -> list[str]:
    """The measures that are listed, or the usual ones, and those that only a requirement names."""
    from nlpkit.metrics import ranking
    from nlpkit.search.evaluate import MEASURES

    found = list(MEASURES) if listed is None else [n.strip() for n in listed.split(",") if n.strip()]
    for name in required:
        try:
            ranking.parse(name)
        except UsageError:
            continue  # it may be another figure of the result, such as queries
        if name not in found:
            found.append(name)
    return found


def parse(text: str) -> tuple[str, str, str, float]:
    """(text, measure, sign, bound) of a requirement."""
    match = re.fullmatch(r"\s*([\w@.-]+?)\s*(>=|<=|>|<)\s*([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)\s*", text)
    if not match:
        raise UsageError(f"--require {text!r}: expected MEASURE>=NUMBER (or <=, >, <)")
    return text, match[1], match[2], float(match[3])


def value(told: dict[str, Any], name: str) -> Any:
    """The figure of a name, which may lead inwards with dots: ``latency_ms.p95``; None where there is none.

    >>> value({"latency_ms": {"p95": 2.5}}, "latency_ms.p95")
    2.5
    """
    found: Any = told.get(name)
    if found is None and "." in name:
        found = told
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def holds(told: dict[str, Any], name: str, sign: str, bound: float) -> bool:
    """Whether a requirement holds; UsageError when nothing of that name was measured."""
    found = value(told, name)
    if found is None:
        known = [n for n in told if value(told, n) is not None]
        raise UsageError(f"--require: no measure {name!r}{did_you_mean(name, known)}")
    return bool({">=": found >= bound, "<=": found <= bound, ">": found > bound, "<": found < bound}[sign])


def rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    """The plain measures, with their intervals behind them."""
    found = []
    for name in told:
        if (figure := value(told, name)) is not None:
            shown = f"{figure:.4f}" if isinstance(figure, float) else f"{figure:,}"
            interval = told.get(f"{name}_interval")
            if interval:
                shown += f" [{interval[0]:.4f}, {interval[1]:.4f}]"
            found.append((name, shown))
    return found


def show(run: str, told: dict[str, Any]) -> None:
    """Print what an index or a TREC run was measured to be, and how it differs from another."""
    from nlpkit import console

    how = f"{told['mode']}, {told['k']} documents a query" if "mode" in told else told["kind"]
    title = f"{run}: {how}; {told['queries']:,} queries of {told['data']} ({told['part']})"
    lines = [
        (name, f"{told[name]:.4f}", _interval(told[f"{name}_interval"]))
        for name in told
        if f"{name}_interval" in told
    ]
    for name, took in told.get("latency_ms", {}).items():
        lines.append((f"{name} of a query", f"{took:.2f}", "ms"))
    console.write(console.visible(title) + "\n")  # a drawn table would fold it to its own width
    console.table(lines, ["measure", "value", "95 % interval"])
    if "against" not in told:
        return
    other = told["against"]
    compared = [
        (
            name, f"{c['ours']:.4f}", f"{c['theirs']:.4f}", f"{c['difference']:.4f}", _interval(c["interval"]),
            f"{c['p']:.4f}", c["won"], c["tied"], c["lost"],
        )
        for name, c in other["measures"].items()
    ]  # fmt: skip
    first = next(iter(other["measures"]))
    asked = f", {other['mode']}" if "mode" in other else ""
    console.write(console.visible(f"\nagainst {other['name']}{asked}; {other['queries']:,} queries\n"))
    console.table(
        compared,
        ["measure", "ours", "other", "difference", "95 % interval", "p", "won", "tied", "lost"],
    )
    for word, name in (("wins", "won"), ("losses", "lost")):
        if other[word]:
            console.write(f"\n{name} most, by {first}\n")
            console.table(
                [
                    (
                        q["query"], f"{q['ours']:.4f}", f"{q['theirs']:.4f}", f"{q['difference']:.4f}",
                        _short(q["text"]),
                    )
                    for q in other[word]
                ],
                ["query", "ours", "other", "difference", "text"],
            )  # fmt: skip


def _interval(bounds: list[float]) -> str:
    return f"{bounds[0]:.4f} to {bounds[1]:.4f}"


def _short(text: str, most: int = 48) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"

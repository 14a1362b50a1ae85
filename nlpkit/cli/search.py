"""``nlpkit search``: ask an index."""

from pathlib import Path
from typing import Annotated

import typer

from nlpkit.cli.options import AsJson, Force


def command(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="An index (see: nlpkit index build).")],
    query: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", help="What to look for; none or '-': stdin, one a line."),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="Queries: lines of id<TAB>text, or jsonl with _id and text; '-' is stdin.",
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="bm25, dense or hybrid (hybrid where the index has a model)."),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many documents a query.")] = 10,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="EXPR", help="Only documents of which this holds: 'year > 2010 and lang = \"en\"'."
        ),
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Share of the dense score in hybrid, 0 to 1 (default: the index's own)."
        ),
    ] = None,
    fuse: Annotated[
        str, typer.Option(metavar="WAY", help="norm (weighted scores) or rrf (reciprocal ranks).")
    ] = "norm",
    pool: Annotated[
        int, typer.Option(metavar="N", help="How many first documents are fused or reranked.")
    ] = 100,
    expand: Annotated[
        bool, typer.Option("--expand", help="Add words of the first hits to the query (RM3).")
    ] = False,
    rerank: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A cross-encoder that reorders the first hits.")
    ] = None,
    rerank_ms: Annotated[
        float | None,
        typer.Option(metavar="N", help="Rerank as many (at least -k) as take this long a query."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show which words and which stage brought a document forward.")
    ] = False,
    json_: AsJson = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print JSON lines, one a hit.")] = False,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="OUT.trec", help="Write the hits as a TREC run file.")
    ] = None,
    exit_status: Annotated[
        bool, typer.Option("--exit-status", help="Exit with 1 where nothing is found.")
    ] = False,
    force: Force = False,
) -> None:
    """Ask an index: exact words, meaning, or both.

    A condition (--where) compares fields, id and title: = != < <= > >= in ("a", "b"), ~ "part of a string",
    exists(field), and, or, not. Only what it lets through is ranked.

    Example: nlpkit search indexes/python "read a file line by line" -k 5
    """
    from nlpkit.search.ask import ask

    found = ask(
        index,
        query,
        queries,
        form="json" if json_ else "jsonl" if jsonl else "text",
        run=run,
        explain=explain,
        force=force,
        k=k,
        mode=mode,
        weight=weight,
        fusion=fuse,
        where=where,
        rerank=rerank,
        rerank_ms=rerank_ms,
        expand=expand,
        pool=pool,
    )
    if exit_status and not found:
        raise typer.Exit(1)

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
            "--queries", metavar="FILE", help="Queries: lines of id<TAB>text, or jsonl with _id and text."
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="bm25, dense or hybrid (hybrid where the index has a model)."),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many hits a query.")] = 10,
    weight: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Share of the dense score in hybrid, 0 to 1 (default: the index's own)."
        ),
    ] = None,
    fuse: Annotated[
        str, typer.Option(metavar="WAY", help="norm (weighted scores) or rrf (reciprocal ranks).")
    ] = "norm",
    rerank: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A cross-encoder that reorders the first hits.")
    ] = None,
    pool: Annotated[int, typer.Option(metavar="N", help="How many first hits are fused or reranked.")] = 100,
    json_: AsJson = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print JSON lines, one a hit.")] = False,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="OUT.trec", help="Write the hits as a TREC run file.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each score is made of.")] = False,
    force: Force = False,
) -> None:
    """Ask an index: exact words, meaning, or both.

    Example: nlpkit search indexes/python "how do I read a file line by line" -k 5
    """
    from nlpkit.search.ask import ask

    ask(
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
        rerank=rerank,
        pool=pool,
    )

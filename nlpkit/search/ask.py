"""What ``nlpkit search`` does: queries from an argument, a file or a stream; hits as text, JSON or a TREC run."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from nlpkit import console
from nlpkit.errors import UsageError
from nlpkit.search.hits import Hit
from nlpkit.search.index import Index
from nlpkit.search.present import as_json, as_text
from nlpkit.store.atomic import refuse_existing

BATCH = 64  # queries answered at a time


def questions(query: str | None, queries: Path | None) -> Iterable[tuple[str, str]]:
    """(id, text) of each query; standard input has one a line, numbered."""
    from nlpkit.search.evaluate import read_queries
    from nlpkit.text.documents import read_documents

    if query is not None and queries is not None:
        raise UsageError("give a QUERY or --queries FILE, not both")
    if queries is not None:
        return read_queries(queries).items()
    if query is not None and query != "-":
        return [("1", query)]
    lines = (d.text for d in read_documents(["-"]))
    return ((str(i), line) for i, line in enumerate(lines, 1) if line.strip())


def ask(
    path: Path,
    query: str | None,
    queries: Path | None,
    *,
    form: str = "text",
    run: Path | None = None,
    explain: bool = False,
    force: bool = False,
    **options: Any,
) -> None:
    """Answer all queries on standard output; ``options`` go to :meth:`Index.search`."""
    if run is not None:
        refuse_existing(run, force)
    index = Index.open(path)
    options["rerank"] = _opened(options.get("rerank"))
    asked = iter(questions(query, queries))
    single = queries is None and query not in (None, "-")
    if run is not None:
        from nlpkit.search.evaluate import write_run

        pairs = ((name, hits) for name, _, hits in _answers(index, asked, options))
        console.note(f"{run}: {write_run(pairs, run, force=force):,} hits")
        return
    if form == "json":
        mode = options.get("mode") or ("hybrid" if index.settings.encoder else "bm25")
        documents = [
            ({} if single else {"query_id": name})
            | {"query": text, "mode": mode, "hits": as_json(hits, text, index.analyze)}
            for name, text, hits in _answers(index, asked, options)
        ]
        whole = documents[0] if single else documents
        console.write(json.dumps(whole, ensure_ascii=False, indent=1) + "\n")
        return
    for name, text, hits in _answers(index, asked, options):
        if form == "jsonl":
            for record in as_json(hits, text, index.analyze):
                about = {"query": text} if single else {"query_id": name, "query": text}
                console.write(json.dumps(about | record, ensure_ascii=False) + "\n")
            continue
        if not single:
            console.write(f"{console.visible(text)}\n")
        for line in as_text(hits, text, index.analyze, explain=explain):
            console.write(line + "\n")
        if not hits:
            console.note(f"no document matches {text!r}")


def _opened(rerank: Any) -> Any:
    """Open the reranker once for all queries."""
    if isinstance(rerank, str):
        from nlpkit.inference.rerank import CrossEncoder

        return CrossEncoder(rerank)
    return rerank


def _answers(
    index: Index, asked: Iterator[tuple[str, str]], options: dict[str, Any]
) -> Iterator[tuple[str, str, list[Hit]]]:
    while batch := list(islice(asked, BATCH)):
        found = index.search([text for _, text in batch], **options)
        for (name, text), hits in zip(batch, found, strict=True):
            yield name, text, hits

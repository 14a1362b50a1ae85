"""What ``nlpkit search`` does: queries from an argument, a file or a stream; hits as text, JSON or a TREC run.

Queries are read, answered and written a batch at a time; the first batches are small, so that answers begin at once.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from nlpkit import console
from nlpkit.errors import DataError, UsageError
from nlpkit.search.hits import Hit
from nlpkit.search.index import Index
from nlpkit.search.present import BOLD, OFF, as_json, as_text
from nlpkit.store.atomic import refuse_existing

FIRST, BATCH = 8, 64  # queries answered at a time, at first and later

HEADERS = {(a, b) for a in ("id", "_id", "query-id", "query_id", "qid") for b in ("text", "query")}

Question = tuple[str, str]  # id and text


def questions(query: str | None, queries: Path | None) -> Iterable[Question]:
    """The queries, in order.

    ``--queries FILE`` has records (jsonl; ``_id|id`` and ``text``), lines of ``id<TAB>text``, or all else that
    :func:`nlpkit.search.trec.read_queries` reads; ``-`` is standard input, whose records begin with a brace. Without
    it, standard input has one query a line. What has no id is numbered.
    """
    from nlpkit.search.trec import read_queries
    from nlpkit.text.documents import format_of

    if query is not None and queries is not None:
        raise UsageError("give a QUERY or --queries FILE, not both")
    if query is not None and query != "-":
        return [("1", query)]
    if queries is None or str(queries) == "-":
        return _streamed("-", named=queries is not None)
    if format_of(queries) in ("jsonl", "tsv"):
        return _streamed(queries, named=True)
    return read_queries(queries).items()


def _streamed(path: str | Path, *, named: bool) -> Iterator[Question]:
    """A query a line; with ``named`` a line may be a record, or an id, a tab and the query."""
    from nlpkit.text.documents import format_of, read_documents

    lines = (
        one.text for one in read_documents([path], documents="line", format="text")
    )  # a path that is not there is told now
    source = "stdin" if str(path) == "-" else str(path)
    return _read(lines, source, named, format_of(path) == "jsonl")


def _read(lines: Iterable[str], source: str, named: bool, records: bool) -> Iterator[Question]:
    number = 0
    for number, line in enumerate(lines, 1):
        if not line or line.isspace():
            continue
        if records or (named and line.lstrip().startswith("{")):
            yield _record(line, f"{source}:{number}", number)
            continue
        key, tab, text = line.partition("\t")
        if named and number == 1 and (key.strip().lower(), text.strip().lower()) in HEADERS:
            continue
        yield (key.strip() or str(number), text) if named and tab else (str(number), line)
    if not number and named:
        raise DataError(f"{source}: has no queries; name a file that has some")


def _record(line: str, where: str, number: int) -> Question:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not a JSON record ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise DataError(f"{where}: expected a record with a string 'text'")
    key = record.get("_id", record.get("id"))
    return (str(number) if key is None else str(key)), record["text"]


def ask(
    path: Path,
    query: str | None,
    queries: Path | None,
    *,
    form: str = "text",
    run: Path | None = None,
    force: bool = False,
    **options: Any,
) -> int:
    """Answer all queries on standard output or as a ``run`` file; ``options`` go to :meth:`Index.search`.

    ``form`` is text, json (one document) or jsonl (a line a hit). Returns how many hits there were.
    """
    if run is not None:
        refuse_existing(run, force)
    if isinstance(options.get("where"), str):
        from nlpkit.search.where import parse

        options["where"] = parse(options["where"])  # said before anything is read
    asked = iter(questions(query, queries))
    single = queries is None and query not in (None, "-")
    index = Index.open(path)
    options["rerank"] = _opened(options.get("rerank"))
    answers = _answers(index, asked, options)
    if run is not None:
        return _run(answers, run, force)
    if form == "json":
        return _json(index, answers, options.get("mode"), single)
    count = 0
    for name, text, hits in answers:
        count += len(hits)
        if form == "jsonl":
            for record in as_json(hits, text, index.analyze):
                about = {"query": text} if single else {"query_id": name, "query": text}
                console.write(json.dumps(about | record, ensure_ascii=False) + "\n")
            continue
        if not single:
            title = console.visible(" ".join(text.split()))
            console.write(f"{BOLD}{title}{OFF}\n\n" if console.colour() else f"{title}\n\n")
        for line in as_text(hits, text, index.analyze):
            console.write(line + "\n")
        if not hits:
            console.note(f"no document matches {text!r}")
    return count


def _run(answers: Iterator[tuple[str, str, list[Hit]]], path: Path, force: bool) -> int:
    from nlpkit.search.trec import write_run

    def distinct() -> Iterator[tuple[str, list[Hit]]]:
        seen: set[str] = set()
        for name, _, hits in answers:
            if name in seen:
                raise DataError(f"query id {name!r} occurs twice, and a run file tells queries by their ids")
            seen.add(name)
            yield name, hits

    count = write_run(distinct(), path, force=force)
    console.note(f"{path}: {count:,} hits")
    return count


def _json(index: Index, answers: Iterator[tuple[str, str, list[Hit]]], mode: str | None, single: bool) -> int:
    """One JSON document: the answer to a single query, or a list, written as the answers come."""
    count, before = 0, "["
    for name, text, hits in answers:
        count += len(hits)
        about = {"query": text} if single else {"query_id": name, "query": text}
        made = about | {"mode": mode or index.mode, "hits": as_json(hits, text, index.analyze)}
        written = json.dumps(made, ensure_ascii=False, indent=1)
        console.write(written + "\n" if single else f"{before}\n{written}")
        before = ","
    if not single:
        console.write("[]\n" if before == "[" else "\n]\n")
    return count


def _opened(rerank: Any) -> Any:
    """Open the reranker once for all queries."""
    if isinstance(rerank, str):
        from nlpkit.inference.rerank import CrossEncoder

        return CrossEncoder(rerank)
    return rerank


def _answers(
    index: Index, asked: Iterator[Question], options: dict[str, Any]
) -> Iterator[tuple[str, str, list[Hit]]]:
    size = FIRST
    while batch := list(islice(asked, size)):
        found = index.search([text for _, text in batch], **options)
        for (name, text), hits in zip(batch, found, strict=True):
            yield name, text, hits
        console.data_out().flush()
        size = min(2 * size, BATCH)

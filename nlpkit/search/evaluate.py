"""How well an index answers judged queries: nDCG@10, MRR@10, recall, MAP, P@10, and how long a query takes.

Reads BEIR folders (``corpus.jsonl``, ``queries.jsonl``, ``qrels/SPLIT.tsv``, compressed or not; Thakur et al. 2021),
plain query files and judgements, and writes TREC run files.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.metrics import ranking
from nlpkit.search.hits import Hit
from nlpkit.search.index import Index
from nlpkit.store.atomic import refuse_existing, writing
from nlpkit.text.documents import format_of, read_documents

MEASURES = ("ndcg@10", "mrr@10", "recall@10", "recall@100", "map", "p@10")
Qrels = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Judged:
    """A test collection: where its corpus lies, queries by id, judgements by query id and document id."""

    corpus: Path
    queries: dict[str, str]
    qrels: Qrels


def read_queries(path: str | Path) -> dict[str, str]:
    """Queries by id: jsonl with ``_id|id`` and ``text``, else lines of ``id<TAB>text``; a bare line is numbered."""
    found: dict[str, str] = {}
    if format_of(path) == "jsonl":
        pairs = ((d.id, d.text) for d in read_documents([path]))
    else:
        pairs = (_pair(d.text) for d in read_documents([path], format="text"))
    for number, (name, text) in enumerate(pairs, 1):
        if not text.strip() or (number == 1 and (name.lower(), text.lower()) in _HEADERS):
            continue
        name = name or str(number)
        if name in found:
            raise DataError(f"{path}:{number}: query id {name!r} occurs twice")
        found[name] = text
    if not found:
        raise DataError(f"{path}: has no queries; name a file that has some")
    return found


_HEADERS = {(a, b) for a in ("id", "_id", "query-id", "qid") for b in ("text", "query")}


def _pair(line: str) -> tuple[str, str]:
    name, tab, text = line.rstrip("\r\n").partition("\t")
    return (name.strip(), text) if tab else ("", name)


def read_qrels(path: str | Path) -> Qrels:
    """Judgements: ``query-id<TAB>corpus-id<TAB>score`` with a header (BEIR), or TREC's ``query 0 document grade``."""
    found: Qrels = {}
    for number, document in enumerate(read_documents([path], format="text"), 1):
        cells = document.text.split("\t") if "\t" in document.text else document.text.split()
        if not document.text.strip():
            continue
        if len(cells) == 4:
            cells = [cells[0], cells[2], cells[3]]
        try:
            query, name, grade = cells[0].strip(), cells[1].strip(), int(float(cells[2]))
        except (IndexError, ValueError, OverflowError) as error:
            if number == 1:
                continue  # the header
            raise DataError(f"{path}:{number}: expected query id, document id and a grade") from error
        found.setdefault(query, {})[name] = grade
    if not found:
        raise DataError(f"{path}: has no judgements; name a file that has some")
    return found


def _one_of(folder: Path, stem: str, ends: Sequence[str]) -> Path:
    for end in ends:
        for packed in ("", ".gz", ".zst", ".xz", ".bz2"):
            path = folder / f"{stem}{end}{packed}"
            if path.is_file():
                return path
    raise UsageError(
        f"{folder}: no {stem}{ends[0]}; a BEIR folder has corpus.jsonl, queries.jsonl and qrels/"
    )


def read_beir(folder: str | Path, split: str = "test") -> Judged:
    """A test collection in BEIR's layout; ``split`` names the file in ``qrels/``."""
    folder = Path(folder)
    corpus = _one_of(folder, "corpus", (".jsonl", ".tsv"))
    queries = read_queries(_one_of(folder, "queries", (".jsonl", ".tsv")))
    inside = sorted({p.name.partition(".")[0] for p in (folder / "qrels").glob("*.tsv*")})
    if inside and split not in inside:
        raise UsageError(f"{folder}/qrels: no split {split!r}{did_you_mean(split, inside)}")
    qrels = read_qrels(
        _one_of(folder / "qrels", split, (".tsv",)) if inside else _one_of(folder, "qrels", (".tsv",))
    )
    return Judged(corpus, queries, qrels)


def retrieve(
    index: Index, queries: Mapping[str, str], mode: str | None = None, k: int = 100, **options: Any
) -> tuple[dict[str, list[Hit]], list[float]]:
    """The hits of each query, asked one at a time, and how long each took in milliseconds."""
    run: dict[str, list[Hit]] = {}
    took: list[float] = []
    for text in list(queries.values())[:1]:
        index.search(text, k=k, mode=mode, **options)  # loads model and index
    for name, text in queries.items():
        began = time.perf_counter()
        run[name] = index.search(text, k=k, mode=mode, **options)[0]
        took.append(1000 * (time.perf_counter() - began))
    return run, took


def evaluate(
    index: Index,
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    mode: str | None = None,
    k: int = 100,
    *,
    measures: Sequence[str] = MEASURES,
    **options: Any,
) -> dict[str, Any]:
    """Means over the judged queries, and the latency of one query at a time in milliseconds.

    ``k`` documents are retrieved a query; ``options`` go to :meth:`Index.search`. The result holds plain values: the
    measures, ``queries``, ``mode``, ``k`` and ``latency_ms`` (p50, p95).
    """
    judged = {q: queries[q] for q in qrels if q in queries and any(g > 0 for g in qrels[q].values())}
    if not judged:
        raise DataError(
            "no query has a relevant document in the judgements; are the query ids the same in both?"
        )
    run, took = retrieve(index, judged, mode, k, **options)
    ranked = {name: [hit.id for hit in run[name]] for name in judged}
    scores = ranking.evaluate(ranked, {q: qrels[q] for q in judged}, measures)
    p50, p95 = np.percentile(took, [50, 95])
    return {
        **scores,
        "queries": len(judged),
        "mode": mode or ("hybrid" if index.settings.encoder else "bm25"),
        "k": k,
        "latency_ms": {"p50": round(float(p50), 3), "p95": round(float(p95), 3)},
    }


def write_run(
    run: Iterable[tuple[str, Sequence[Hit]]], output: str | Path, *, tag: str = "nlpkit", force: bool = False
) -> int:
    """A TREC run file, one line a hit: ``query Q0 document rank score tag``; how many lines."""
    path = refuse_existing(output, force)
    count = 0
    with writing(path, "w", encoding="utf-8") as file:
        for query, hits in run:
            for rank, hit in enumerate(hits, 1):
                for name in (query, hit.id):
                    if not name or any(c.isspace() for c in name):
                        raise DataError(
                            f"id {name!r} cannot stand in a TREC run file, which is split at spaces"
                        )
                file.write(f"{query} Q0 {hit.id} {rank} {hit.score:.9g} {tag}\n")
                count += 1
    return count

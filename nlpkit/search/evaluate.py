"""How well an index, or a run of any system, answers judged queries: nDCG@10, MRR, recall, MAP, …, and how fast.

What counts: means are over the judged queries with a relevant document (a grade of 1 or more). One of them without
hits counts 0. A query without a relevant document, and one that the judgements name but the queries do not, are left
out, counted and told. A TREC run is sorted as trec_eval does (:mod:`nlpkit.metrics.ranking`); the hits of an index
are taken in the order that a user sees, which is also the order of the run that is written.

Two systems are compared query by query: the difference of the means with its bootstrap interval, and the p-value of
Fisher's randomisation test (Smucker, Allan and Carterette 2007).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit import console
from nlpkit.errors import DataError, UsageError
from nlpkit.metrics import ranking
from nlpkit.metrics.intervals import bootstrap_mean, paired_randomisation
from nlpkit.search import trec
from nlpkit.search.hits import Hit
from nlpkit.search.index import Index
from nlpkit.search.trec import (
    Judged,
    Qrels,
    Values,
    falling,
    read_beir,
    read_qrels,
    read_queries,
    read_run,
    write_run,
)
from nlpkit.store import manifest
from nlpkit.store.atomic import refuse_existing

__all__ = [
    "MEASURES", "Judged", "Measured", "Qrels", "Task", "compare", "evaluate", "falling", "judge", "measure_index",
    "measure_run", "read_beir", "read_qrels", "read_queries", "read_run", "retrieve", "write_run",
]  # fmt: skip
MEASURES = ("ndcg@10", "mrr@10", "recall@10", "recall@100", "map", "p@10")
DEPTH = 100  # documents a query, unless a measure looks deeper
SHOWN = 5  # largest differences that are told


@dataclass(frozen=True)
class Task:
    """What is asked and how it is judged: only queries that count, and how many were left out for which reason."""

    queries: dict[str, str]
    qrels: Qrels
    left_out: dict[str, int]

    @classmethod
    def of(cls, queries: Mapping[str, str] | None, qrels: Mapping[str, Mapping[str, int]]) -> "Task":
        """The task of these judgements; without ``queries`` every judged one counts, its text unknown."""
        counted = ranking.counted(qrels)
        asked = [q for q in counted if queries is None or q in queries]
        if not asked:
            raise DataError(
                "no query has a relevant document in the judgements; are the query ids the same in both?"
            )
        left = {"without_relevant": len(qrels) - len(counted), "not_in_queries": len(counted) - len(asked)}
        texts = {q: queries[q] for q in asked} if queries is not None else {}
        return cls(texts, {q: dict(qrels[q]) for q in asked}, left)


@dataclass
class Measured:
    """The values of one system by measure and query, and what was seen on the way."""

    values: Values
    about: dict[str, Any] = field(default_factory=dict)
    without_hits: int = 0
    judged: int = 0  # hits that somebody judged, whatever the grade

    def means(self) -> dict[str, float]:
        """The mean of each measure."""
        return {name: float(np.mean(list(of.values()))) for name, of in self.values.items()}


def _blank(task: Task, measures: Sequence[str]) -> Measured:
    return Measured({name: dict.fromkeys(task.qrels, 0.0) for name in measures}, without_hits=len(task.qrels))


def answers(
    index: Index, queries: Mapping[str, str], took: list[float], k: int, **options: Any
) -> Iterator[tuple[str, list[Hit]]]:
    """The hits of each query, asked one at a time; ``took`` gets how long each took in milliseconds."""
    for text in list(queries.values())[:1]:
        index.search(text, k=k, **options)  # loads model and index
    for name, text in queries.items():
        began = time.perf_counter()
        hits = index.search(text, k=k, **options)[0]
        took.append(1000 * (time.perf_counter() - began))
        yield name, hits


def retrieve(
    index: Index, queries: Mapping[str, str], mode: str | None = None, k: int = DEPTH, **options: Any
) -> tuple[dict[str, list[Hit]], list[float]]:
    """The hits of each query, asked one at a time, and how long each took in milliseconds."""
    took: list[float] = []
    return dict(answers(index, queries, took, k, mode=mode, **options)), took


def measure_index(
    index: Index,
    task: Task,
    measures: Sequence[str] = MEASURES,
    *,
    mode: str | None = None,
    k: int = DEPTH,
    run_file: str | Path | None = None,
    force: bool = False,
    **options: Any,
) -> Measured:
    """Ask an index every query of a task, ``k`` documents each; ``run_file`` names a TREC file to write on the way.

    ``options`` go to :meth:`Index.search`. ``about`` of the result tells mode, k and the latency of one query at a
    time in milliseconds (p50, p95).
    """
    wanted = [ranking.parse(name) for name in measures]
    made, took = _blank(task, measures), list[float]()

    def measured() -> Iterator[tuple[str, list[Hit]]]:
        with console.progress("asking", len(task.queries), "queries") as bar:
            for query, hits in answers(index, task.queries, took, k, mode=mode, **options):
                ids = [hit.id for hit in hits]
                _enter(made, query, ids, task.qrels[query], wanted)
                bar.advance()
                yield query, hits

    if run_file is not None:
        write_run(measured(), run_file, force=force)
    else:
        for _ in measured():
            pass
    p50, p95 = np.percentile(took, [50, 95])
    made.about = {
        "mode": mode or ("hybrid" if index.settings.encoder else "bm25"),
        "k": k,
        "latency_ms": {"p50": round(float(p50), 3), "p95": round(float(p95), 3)},
    }
    return made


def _enter(
    made: Measured,
    query: str,
    results: ranking.Ranked,
    grades: Mapping[str, int],
    wanted: Sequence[ranking.Measure],
) -> None:
    if not results:
        return
    ordered = ranking.order(results)
    for of, value in zip(made.values.values(), ranking.of_query(ordered, grades, wanted), strict=True):
        of[query] = value
    made.without_hits -= 1
    made.judged += sum(name in grades for name in ordered)


def measure_run(path: str | Path, task: Task, measures: Sequence[str] = MEASURES) -> Measured:
    """Measure a TREC run file. :raises DataError: a malformed line, a document twice for a query."""
    wanted = [ranking.parse(name) for name in measures]
    made = _blank(task, measures)
    seen: set[str] = set()
    for query, results in read_run(path, task.qrels):
        made.without_hits += query in seen
        seen.add(query)
        _enter(made, query, results, task.qrels[query], wanted)
    if not seen:
        raise DataError(f"{path}: holds no result of a judged query; are the query ids the same in both?")
    return made


def evaluate(
    index: Index,
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    mode: str | None = None,
    k: int = DEPTH,
    *,
    measures: Sequence[str] = MEASURES,
    **options: Any,
) -> dict[str, Any]:
    """Means over the judged queries, and the latency of one query at a time in milliseconds.

    ``k`` documents are retrieved a query; ``options`` go to :meth:`Index.search`. The result holds plain values: the
    measures, ``queries``, ``mode``, ``k`` and ``latency_ms`` (p50, p95).
    """
    task = Task.of(queries, qrels)
    made = measure_index(index, task, measures, mode=mode, k=k, **options)
    return {**made.means(), "queries": len(task.qrels), **made.about}


# Comparing


def compare(
    ours: Values, theirs: Values, *, texts: Mapping[str, str] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Two systems over the queries and measures that both have: ``queries``, one record a measure, wins and losses.

    A record holds the means ``ours`` and ``theirs``, their ``difference`` with a 95 % ``interval``, the ``p`` of
    the paired randomisation test, and how many queries were ``won``, ``tied`` and ``lost``. ``wins`` and ``losses``
    are the largest differences of the first measure.
    """
    common = [name for name in ours if name in theirs]
    if not common:
        raise UsageError(
            f"--against: it has none of the measures {', '.join(ours)} (it has {', '.join(theirs) or 'none'})"
        )
    queries = [q for q in ours[common[0]] if all(q in theirs[name] for name in common)]
    if not queries:
        raise DataError("--against: it was measured on none of these queries; are the query ids the same?")
    told: dict[str, Any] = {"queries": len(queries), "measures": {}}
    for name in common:
        a, b = (np.array([of[name][q] for q in queries]) for of in (ours, theirs))
        apart = a - b
        told["measures"][name] = {
            "ours": float(a.mean()),
            "theirs": float(b.mean()),
            "difference": float(apart.mean()),
            "interval": list(bootstrap_mean(apart, seed=seed)),
            "p": paired_randomisation(a, b, seed=seed),
            "won": int((apart > 0).sum()),
            "tied": int((apart == 0).sum()),
            "lost": int((apart < 0).sum()),
        }
    first = common[0]
    apart_of = {q: ours[first][q] - theirs[first][q] for q in queries}
    for word, sign in (("wins", -1), ("losses", 1)):
        best = sorted((q for q in queries if sign * apart_of[q] < 0), key=lambda q: sign * apart_of[q])[
            :SHOWN
        ]
        told[word] = [
            {
                "query": q,
                "text": (texts or {}).get(q, ""),
                "ours": ours[first][q],
                "theirs": theirs[first][q],
                "difference": apart_of[q],
            }
            for q in best
        ]
    return told


# All of it, from files


def judge(
    system: str | Path,
    data: str | Path | None = None,
    *,
    queries: str | Path | None = None,
    qrels: str | Path | None = None,
    split: str = "test",
    measures: Sequence[str] = MEASURES,
    k: int | None = None,
    mode: str | None = None,
    against: str | Path | None = None,
    against_mode: str | None = None,
    run_file: str | Path | None = None,
    per_query: str | Path | None = None,
    seed: int = 0,
    force: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Measure an index or a TREC run file, with 95 % intervals, and compare it with another one.

    ``data`` is a BEIR folder; ``queries`` and ``qrels`` stand in its place or replace its files. ``against`` is an
    index (asked with the same options, or in ``against_mode``), a TREC run, or a file that ``per_query`` wrote.
    ``run_file`` and ``per_query`` name files to write. ``options`` go to :meth:`Index.search`.
    """
    system = Path(system)
    cuts = [cut for _, cut in map(ranking.parse, measures) if cut is not None]
    if not measures:
        raise UsageError("no measure is asked for; name some, such as ndcg@10")
    if len(set(measures)) != len(measures):
        raise UsageError(f"a measure is named twice: {', '.join(measures)}")
    for target in (run_file, per_query):
        if target is not None:
            refuse_existing(target, force)
    for name in (system, against):
        if name is not None and not Path(name).exists():
            raise UsageError(f"{name}: no such file or folder; check the path")
    if system.is_file() and (against is None or Path(against).is_file()):
        given = [n for n, v in {"k": k, "mode": mode, **options}.items() if v is not None]
        if given:
            raise UsageError(f"{system}: is a run already; {', '.join(given)} can change nothing in it")
    depth = k if k is not None else max([DEPTH, *cuts])
    if k is not None and cuts and max(cuts) > k:
        deep = ", ".join(m for m in measures if (ranking.parse(m)[1] or 0) > k)
        console.warn(f"-k {k}: {deep} can only see the first {k} documents")
    if isinstance(options.get("rerank"), str):
        from nlpkit.inference.rerank import CrossEncoder

        options["rerank"] = CrossEncoder(options["rerank"])
    asked, judged = _collection(system, data, queries, qrels, split)
    task = Task.of(asked, judged)
    options |= {"k": depth}
    ours = _measure(system, task, measures, {**options, "mode": mode, "run_file": run_file, "force": force})
    told = {
        "kind": "index" if ours.about else "TREC run",
        "part": split if data and not qrels else "given",
        "data": str(data or qrels),
        **ours.means(),
        **{f"{name}_interval": list(_interval(of, seed)) for name, of in ours.values.items()},
        "queries": len(task.qrels),
        "without_hits": ours.without_hits,
        "left_out": task.left_out,
        **ours.about,
    }
    theirs = None
    if against is not None:
        theirs = trec.read_values(against) if Path(against).is_file() else None
        if theirs is None:
            other = _measure(Path(against), task, measures, {**options, "mode": against_mode or mode})
            theirs, about = other.values, other.about
        else:
            about = {}
        told["against"] = {
            "name": str(against),
            **about,
            **compare(ours.values, theirs, texts=task.queries, seed=seed),
        }
    if per_query is not None:
        shared = None if theirs is None else {n: theirs[n] for n in ours.values if n in theirs}
        trec.write_values(ours.values, per_query, task.queries, against=shared, force=force)
    _tell(system, task, ours)
    return told


def _interval(of: Mapping[str, float], seed: int) -> tuple[float, float]:
    return bootstrap_mean(list(of.values()), seed=seed)


def _collection(
    system: Path, data: Any, queries: Any, qrels: Any, split: str
) -> tuple[dict[str, str] | None, Qrels]:
    """The queries (``None``: not needed and not given) and the judgements."""
    if data is not None and not isinstance(data, str | Path):
        raise UsageError("an index is measured on one --data folder (BEIR: queries.jsonl and qrels/)")
    is_run = system.is_file()
    if not data and not (qrels and (queries or is_run)):
        what = "a file: a TREC run" if is_run else "an index"
        needed = "--qrels" if is_run else "--queries and --qrels"
        raise UsageError(f"{system}: is {what}; pass --data (a BEIR folder), or {needed}")
    asked: dict[str, str] | None = None
    judged: Qrels = {}
    if data:
        collection = read_beir(data, split)
        asked, judged = collection.queries, collection.qrels
    if queries:
        asked = read_queries(queries)
    if qrels:
        judged = read_qrels(qrels)
    return asked, judged


def _measure(system: Path, task: Task, measures: Sequence[str], options: dict[str, Any]) -> Measured:
    if system.is_file():
        if options.get("run_file") is not None:
            raise UsageError(f"{system}: is a run already; --run is for an index")
        return measure_run(system, task, measures)
    kind = manifest.read(system).kind if (system / manifest.NAME).exists() else ""
    if kind == "run":
        raise UsageError(
            f"{system}: a training run keeps no values of single queries; name an index, a TREC run or a file of "
            "--per-query"
        )
    if not task.queries:
        raise UsageError(f"{system}: an index is asked the queries; pass --queries (or --data)")
    with Index.open(system) as index:
        return measure_index(index, task, measures, **options)


def _tell(system: Path, task: Task, made: Measured) -> None:
    """Say what was left out, and what looks like a mistake."""
    for name, words in (
        ("without_relevant", "judged queries have no relevant document and are left out"),
        ("not_in_queries", "judged queries are not among the queries and are left out"),
    ):
        if task.left_out[name]:
            console.note(f"{task.left_out[name]:,} {words}")
    if made.without_hits:
        console.note(f"{made.without_hits:,} queries have no hit and count 0")
    if not made.judged:
        console.warn(
            f"{system}: none of the documents found is among the judged ones; are the document ids the same?"
        )

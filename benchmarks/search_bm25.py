"""BM25 beside bm25s: the quality of the default settings, equal scores, throughput, building.

Used by benchmarks/search.py. Quality is that of an index which the command line builds without options, against bm25s
with its own tokenizer, its English stop words and Snowball stems. All else is measured on the same lists of tokens: of
SciFact, and of 200,000 pieces of at most 60 words of the paragraphs of novels100. Queries are asked one at a time of a
scorer that has answered none before, so that nothing it keeps from one round to the next helps; bm25s gets all in one
call, and has computed its scores when it was built. Beside the ratio stand those of asking the same scorer again, and,
where PYTHON has numba, against its backend that numba compiles.
"""

import gzip
import json
import random
import re
import statistics
import subprocess
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import NLPKIT, host, ratio_row, seconds, shown, version
from search_engine import questions

SETS = {  # title, measure, bar
    "scifact": ("SciFact", "ndcg@10", 0.68),
    "cacm": ("CACM", "map", 0.34),
    "cranfield": ("Cranfield", "ndcg@10", 0.36),
}
SHOWN = {"ndcg@10": "nDCG@10", "map": "MAP"}
DEPTH = 1000  # documents retrieved where quality is measured
MANY, WORDS, ASKED = 200_000, 60, 300  # of the novels: documents, words of one, queries
PEER = Path(__file__).parent / "peers" / "bm25_bm25s.py"


class Other:
    """bm25s in a process of its own, idle while it is not asked."""

    def __init__(self, python: str) -> None:
        self.process = subprocess.Popen(
            [python, str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, name: str, *words: object) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\t".join([name, *map(str, words)]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{PEER.name} ended with {self.process.wait()} when told: {name}")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def rows(options: Namespace) -> Iterator[dict[str, Any]]:
    """All rows, as they are measured."""
    peer = {"peer": "bm25s", "peer_version": version("bm25s", options.peers)}
    other = Other(options.peers)
    try:
        yield from _quality(options, other, peer)
        for name, make in (("SciFact", _scifact), ("200,000 pieces of novels", _novels)):
            texts, queries = make(options.data)
            path = options.folder / "tokens.json"
            path.write_text(json.dumps([texts, queries]), encoding="utf-8")
            other("tokens", path, "numpy")
            if name == "SciFact":
                yield _equal(texts, queries, other, peer)
            compiled = Other(options.peers) if version("numba", options.peers) else None
            if compiled:
                compiled("tokens", path, "numba")
            yield from _speed(name, texts, queries, other, compiled, options.runs, peer)
            if compiled:
                compiled.close()
            path.unlink()
    finally:
        other.close()


def _quality(options: Namespace, other: Other, peer: dict[str, str]) -> Iterator[dict[str, Any]]:
    from nlpkit.metrics import ranking
    from nlpkit.search.evaluate import evaluate
    from nlpkit.search.index import Index
    from nlpkit.search.trec import read_beir

    for name, (title, measure, bar) in SETS.items():
        judged = read_beir(options.data / name)
        path = options.folder / f"bm25-{name}"
        command = [NLPKIT, "index", "build", str(judged.corpus), "--model", "none", "-o", str(path)]
        seconds([*command, "--force"])
        with_rm3, plain = (
            evaluate(
                Index.open(path), judged.queries, judged.qrels, "bm25", DEPTH, measures=[measure], expand=e
            )[measure]
            for e in (True, False)
        )
        run = other("quality", options.data / name, DEPTH)
        figure = round(float(plain), 4)
        yield {
            "claim": f"BM25, default settings: {SHOWN[measure]} on {title}",
            "command": f"{shown(command)}; nlpkit eval {path.name} --data {name} --mode bm25",
            **peer,
            "figure": figure,
            "unit": SHOWN[measure],
            "peer_figure": round(ranking.evaluate(run, judged.qrels, [measure])[measure], 4),
            "with_rm3": round(float(with_rm3), 4),
            "bar": f">= {bar:g}",
            "met": figure >= bar,
            "host": host(),
        }


def _scifact(data: Path) -> tuple[list[list[str]], list[list[str]]]:
    from nlpkit.search.analyze import Analyzer, joined
    from nlpkit.search.trec import read_beir
    from nlpkit.text.documents import read_documents

    analyze, judged = Analyzer(), read_beir(data / "scifact")
    texts = [analyze(joined(d.title, d.text)) for d in read_documents([judged.corpus])]
    return texts, [analyze(judged.queries[q]) for q in judged.qrels]


def _novels(data: Path) -> tuple[list[list[str]], list[list[str]]]:
    from nlpkit.search.analyze import Analyzer

    with gzip.open(data / "novels100/train.txt.gz", "rt", encoding="utf-8", errors="replace") as file:
        paragraphs = [p.split() for p in re.split(r"\n\s*\n", file.read())]
    pieces = [" ".join(p[at : at + WORDS]) for p in paragraphs for at in range(0, len(p), WORDS)]
    random.Random(0).shuffle(pieces)
    analyze = Analyzer()
    return [analyze(p) for p in pieces[:MANY]], [analyze(q) for q in questions(data, ASKED)]


def _equal(texts: Any, queries: Any, other: Other, peer: dict[str, str]) -> dict[str, Any]:
    """The largest relative difference of a score among the first 100 of each query, and places that differ."""
    from nlpkit.search.bm25 import BM25, count

    index = BM25(count(texts))
    worst, misplaced = 0.0, 0
    for query, at, scores in zip(queries, *other("best", 100), strict=True):
        theirs, mine = np.array(scores), index.scores(query)
        positions, best = index.top(query, 100)
        found = theirs > 0
        worst = max(worst, float(np.abs(mine[at][found] / theirs[found] - 1).max(initial=0)))
        # A place differs where the document there has another score than ours has: ties may be ordered differently.
        misplaced += int((np.abs(mine[at][: len(best)] / best - 1) > 1e-5).sum()) + abs(
            found.sum() - len(positions)
        )
    return {
        "claim": "BM25 equals bm25s on the same tokens (SciFact, the first 100 of 300 queries)",
        "command": "BM25(count(texts)).top(query, 100)",
        **peer,
        "figure": float(f"{worst:.2g}"),
        "unit": "relative difference of a score at most",
        "misplaced": int(misplaced),
        "bar": "<= 1e-05, none misplaced",
        "met": bool(worst <= 1e-5 and misplaced == 0),
        "host": host(),
    }


def _ask(segment: Any, queries: list[list[str]]) -> tuple[float, float]:
    """Seconds to answer all queries one at a time with a new scorer, and once more with the same."""
    from nlpkit.search.bm25 import BM25

    index = BM25(segment)
    marks = [time.perf_counter()]
    for _ in range(2):
        for query in queries:
            index.top(query, 10)
        marks.append(time.perf_counter())
    return marks[1] - marks[0], marks[2] - marks[1]


def _speed(
    name: str,
    texts: Any,
    queries: Any,
    other: Other,
    compiled: Other | None,
    runs: int,
    peer: dict[str, str],
) -> Iterator[dict[str, Any]]:
    from nlpkit.search.bm25 import count

    taken: dict[str, list[float]] = {}

    def took(side: str, value: float) -> None:
        taken.setdefault(side, []).append(value)

    for _ in range(runs):
        started = time.perf_counter()
        segment = count(texts)
        took("built", time.perf_counter() - started)
        took("built there", other("index"))
        for side, time_taken in zip(("first", "again"), _ask(segment, queries), strict=True):
            took(side, time_taken)
        took("there", other("ask"))
        if compiled:
            took("compiled", compiled("ask"))
    middle = {side: statistics.median(values) for side, values in taken.items()}
    beside: dict[str, Any] = {"queries": len(queries), "again_ratio": middle["there"] / middle["again"]}
    if compiled:
        beside["numba_ratio"] = middle["compiled"] / middle["first"]
        beside["numba_again_ratio"] = middle["compiled"] / middle["again"]
    yield ratio_row(
        f"BM25, {name}: query throughput against bm25s (numpy, its default), k = 10",
        taken["first"], taken["there"], 1, command="BM25(segment).top(query, 10) for each query", **peer,
        **{key: round(value, 3) for key, value in beside.items()},
    )  # fmt: skip
    yield ratio_row(
        f"BM25, {name}: build from lists of tokens against bm25s", taken["built"], taken["built there"], 1.5,
        least=False, command="count(texts)", **peer,
    )  # fmt: skip

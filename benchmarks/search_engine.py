"""The whole engine at size: a cold search, a document more, warm hybrid queries, on real sentences of novels.

Used by benchmarks/search.py. Documents are sentences of 40 to 300 characters of novels100 (Brown's and the reviews of
IMDB where they are too few), ids by number; queries are runs of four to eight words of other novels.
"""

import gzip
import json
import random
import re
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import NLPKIT, host, seconds, shown, version

COLD, WARM = 100_000, 200_000  # documents


def sentences(data: Path) -> Iterator[str]:
    """Distinct sentences of moderate length, in the order of the books."""
    seen: set[str] = set()
    for name in ("novels100/train.txt.gz", "novels100/test.txt.gz"):
        with gzip.open(data / name, "rt", encoding="utf-8", errors="replace") as file:
            text = file.read()
        for paragraph in re.split(r"\n\s*\n", text):
            for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
                if 40 <= len(sentence) <= 300 and sentence not in seen:
                    seen.add(sentence)
                    yield sentence


def questions(data: Path, count: int) -> list[str]:
    """Runs of four to eight words from the validation novels."""
    with gzip.open(data / "novels100/valid.txt.gz", "rt", encoding="utf-8", errors="replace") as file:
        words = re.findall(r"[A-Za-z]{2,}", file.read())
    luck = random.Random(0)
    made = []
    for _ in range(count):
        at, size = luck.randrange(len(words) - 8), luck.randint(4, 8)
        made.append(" ".join(words[at : at + size]))
    return made


def corpus(data: Path, folder: Path, count: int) -> Path:
    """A jsonl of so many sentences."""
    path = folder / f"sentences{count}.jsonl"
    if not path.is_file():
        with open(path, "w", encoding="utf-8") as file:
            for i, sentence in zip(range(count), sentences(data), strict=False):
                file.write(json.dumps({"_id": f"s{i}", "text": sentence}, ensure_ascii=False) + "\n")
    return path


def index(options: Namespace, count: int) -> Path:
    """An index of so many sentences, made by the command line."""
    path = options.folder / f"index{count}"
    if not path.is_dir():
        texts = corpus(options.data, options.folder, count)
        command = [NLPKIT, "index", "build", str(texts), "--model", str(options.model), "-o", str(path)]
        taken = seconds(command)
        print(f"built {path.name} in {taken:.0f} s", flush=True)
    return path


def cold(options: Namespace) -> list[dict[str, Any]]:
    """Whole processes beside a Python that imports faiss, each run with another query."""
    where = index(options, COLD)
    asked = questions(options.data, options.runs + 1)
    peer = [sys.executable, "-c", "import faiss"]
    made = []
    for mode in ("bm25", "dense"):
        commands = [[NLPKIT, "search", str(where), query, "--mode", mode] for query in asked]
        seconds(commands[0])
        seconds(peer)
        ours, theirs = [], []
        for command in commands[1:]:
            ours.append(seconds(command))
            theirs.append(seconds(peer))
        ratio = statistics.median(ours) / statistics.median(theirs)
        made.append(
            {
                "claim": f"cold search of {COLD:,} documents, whole process, {mode}, against importing faiss",
                "command": shown(commands[0]),
                "peer": 'python -c "import faiss"',
                "peer_version": version("faiss-cpu"),
                "ours": [round(t, 4) for t in ours],
                "peer_runs": [round(t, 4) for t in theirs],
                "ratio": round(ratio, 3),
                "bar": "<= 3",
                "met": ratio <= 3,
                "host": host(),
            }
        )
    loaded = "import sys, nlpkit.cli; sys.argv = sys.argv[1:]; nlpkit.cli.run(sys.argv); print('torch' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", loaded, "search", str(where), asked[0], "--mode", "dense"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.endswith("False\n"), "torch was imported"
    return made


def added(options: Namespace) -> list[dict[str, Any]]:
    """One document more: acknowledged and found, in process and by the whole command."""
    from nlpkit.search.index import Index
    from nlpkit.text.documents import Document

    where = index(options, WARM)
    fresh = [s for _, s in zip(range(40), reversed(questions(options.data, 400)), strict=False)]
    took = []
    with Index.open(where, writable=True) as opened:
        opened.search("warm up", k=1)
        opened.add([Document("the first pays for what is loaded once", "bench-warm")])
        for i, text in enumerate(fresh[:20]):
            began = time.perf_counter()
            opened.add([Document(f"{text} zyx{i}q", f"bench-{i}")])
            hits = opened.search(f"zyx{i}q", k=1, mode="bm25")[0]
            near = opened.search(f"{text} zyx{i}q", k=1, mode="dense")[0]
            took.append(time.perf_counter() - began)
            assert hits[0].id == f"bench-{i}" and near[0].id == f"bench-{i}"
        opened.delete(["bench-warm", *(f"bench-{i}" for i in range(20))])
    commands = []
    for i in range(options.runs + 1):
        one = options.folder / f"one{i}.jsonl"
        one.write_text(json.dumps({"_id": f"cmd-{time.time_ns()}-{i}", "text": fresh[20 + i]}) + "\n")
        commands.append([NLPKIT, "index", "add", str(where), str(one)])
    whole = [seconds(command) for command in commands][1:]
    rows = []
    for claim, values, bar in (
        (f"a document more in an index of {WARM:,}, in process: written, and found by both parts", took, 0.1),
        (f"a document more in an index of {WARM:,}, the whole command", whole, 1.5),
    ):
        figure = statistics.median(values)
        rows.append(
            {
                "claim": claim,
                "command": shown(commands[0]) if values is whole else "Index.add, Index.search",
                "runs": [round(v, 4) for v in values],
                "figure": round(1000 * figure, 2),
                "unit": "ms",
                "bar": f"<= {1000 * bar:g}",
                "met": figure <= bar,
                "host": host(),
            }
        )
    return rows


def warm(options: Namespace) -> list[dict[str, Any]]:
    """Hybrid queries one at a time in a process that has the index open, and what ten documents cost."""
    from nlpkit.search.index import Index

    where = index(options, WARM)
    asked = questions(options.data, 520)
    opened = Index.open(where)
    for query in asked[:20]:
        opened.search(query, k=10)
    took = []
    for query in asked[20:]:
        began = time.perf_counter()
        opened.search(query, k=10)
        took.append(time.perf_counter() - began)
    p50, p95 = np.percentile(took, [50, 95])
    return [
        {
            "claim": f"warm hybrid queries in process, {WARM:,} documents, one at a time: 95th percentile",
            "command": "Index.search(query, k=10)",
            "runs": [round(float(p50), 5), round(float(p95), 5)],
            "figure": round(1000 * float(p95), 2),
            "unit": f"ms (median {1000 * p50:.1f} ms)",
            "bar": "<= 40",
            "met": bool(p95 <= 0.04),
            "host": host(),
        }
    ]


def fetched(options: Namespace) -> list[dict[str, Any]]:
    """What reading ten found documents from the record adds to a query."""
    from nlpkit.search.connections import snapshot
    from nlpkit.search.index import Index

    where = index(options, WARM)
    opened = Index.open(where)
    opened.search("warm up", k=10, mode="bm25")
    luck, took = random.Random(0), []
    with snapshot(where) as store:
        highest = store.connection.execute("SELECT max(row) FROM documents").fetchone()[0]
        rows = [sorted(luck.sample(range(1, min(highest, WARM)), 10)) for _ in range(300)]
        for some in rows[:100]:
            store.fetch(some)
        for some in rows[100:]:
            began = time.perf_counter()
            store.fetch(some)
            took.append(time.perf_counter() - began)
    figure = 1000 * statistics.median(took)
    return [
        {
            "claim": f"fetching ten documents of {WARM:,}, their checksums compared",
            "command": "Store.fetch(rows)",
            "runs": [round(t, 6) for t in took[:20]],
            "figure": round(figure, 3),
            "unit": "ms",
            "bar": "<= 0.3",
            "met": figure <= 0.3,
            "host": host(),
        }
    ]

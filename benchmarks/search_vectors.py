"""The vector store beside FAISS: recall and speed of the default index at 200,000 × 384, and what our path adds.

Run: python benchmarks/search_vectors.py --data DIR --model FOLDER [--runs 5]
     (writes benchmarks/results/search.json)

--data holds scifact/corpus.jsonl.gz and novels100/train.txt.gz, --model is all-MiniLM-L6-v2. Rows are as an index of
texts has them: sentences of both sets as the model sees them, each a mixture of two of them in random shares and
noise of half its length. Three kinds of queries: such mixtures that are not in the index, mixtures of sentences of
which the index holds none, and such sentences as they are. One core and one thread on both sides; queries come one by
one or in batches of 100. ``rows`` is for benchmarks/search.py.
"""

import argparse
import gzip
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import host, keep, on_one_core, ratio_row, tell, version

NUMBER, WIDTH, TAIL, GONE, ASKED = 200_000, 384, 1000, 2000, 200
SENTENCES = 8000  # of each set
NOISE = 0.5
K = 10


def sentences(text: str) -> list[str]:
    return [s.strip() for s in re.split(r"(?<=[.!?])\s+", text) if 30 <= len(s.strip()) <= 300]


def embedded(data: Path, model: Path, kept: Path) -> np.ndarray:
    """Unit vectors (16000, 384) of sentences of SciFact and of novels, in random order; made once."""
    if not kept.is_file():
        from nlpkit.inference.embed import load_encoder

        rng, texts = np.random.default_rng(0), []
        with gzip.open(data / "scifact/corpus.jsonl.gz", "rt") as abstracts:
            found = [[s for line in abstracts for s in sentences(json.loads(line)["text"])]]
        with gzip.open(data / "novels100/train.txt.gz", "rt") as novels:
            found.append([s for line in novels for s in sentences(line)])
        for listed in found:
            texts += [listed[i] for i in rng.choice(len(listed), SENTENCES, replace=False)]
        np.save(kept, load_encoder(str(model)).encode(texts))
    made = np.load(kept)
    return made[np.random.default_rng(1).permutation(len(made))]


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def mixtures(texts: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Unit rows (count, 384)."""
    made = np.empty((count, WIDTH), np.float32)
    for start in range(0, count, 10_000):
        some = min(10_000, count - start)
        first, second = rng.integers(len(texts), size=(2, some))
        share = rng.random((some, 1), np.float32)
        noise = rng.normal(size=(some, WIDTH)).astype(np.float32) * np.float32(NOISE / WIDTH**0.5)
        made[start : start + some] = unit(unit(share * texts[first] + (1 - share) * texts[second]) + noise)
    return made


class Bench:
    """Our store with deletions and a tail, and FAISS's own indexes of the same vectors."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        import faiss

        from nlpkit.search.faiss_store import FaissStore

        faiss.omp_set_num_threads(1)
        self.runs, rng = options.runs, np.random.default_rng(2)
        texts = embedded(options.data, options.model, options.embedded or folder / "embedded.npy")
        known, unknown = texts[: -len(texts) // 10], texts[-len(texts) // 10 :]
        self.vectors = mixtures(known, NUMBER, rng)
        tail = mixtures(known, TAIL, rng)
        self.queries = {
            "mixtures of indexed sentences": mixtures(known, ASKED, rng),
            "mixtures of other sentences": mixtures(unknown, ASKED, rng),
            "other sentences": unknown[:ASKED],
        }
        empty = FaissStore.create(WIDTH)
        empty.upsert(np.arange(NUMBER) << 20, self.vectors)
        self.built: list[float] = []
        for _ in range(2):
            for path in folder.glob("vector*"):
                path.unlink()
            started = time.perf_counter()
            told = empty.snapshot(folder)
            self.built.append(time.perf_counter() - started)
        self.store = FaissStore.open(folder, told, WIDTH, "build it again")
        self.clean = FaissStore.open(folder, told, WIDTH, "build it again")
        gone = np.sort(rng.choice(NUMBER, GONE, replace=False))
        self.store.delete(gone << 20)
        self.store.upsert((NUMBER + np.arange(TAIL)) << 20, tail)
        self.alive = np.ones(NUMBER + TAIL, bool)
        self.alive[gone] = False
        self.everything = np.concatenate([self.vectors, tail])
        self.flat = faiss.IndexFlatIP(WIDTH)
        self.flat.add(self.vectors)
        effort, depth = self.store._step(K, 1.0)
        codes = self.clean._loaded()
        self.raw = faiss.IndexRefine(codes.index, self.flat)
        inner = faiss.SearchParametersIVF(nprobe=effort)
        self.asked = faiss.IndexRefineSearchParameters(k_factor=depth / K, base_index_params=inner)
        self.about = self.store.describe()
        self.setting = f"{self.about['kind']}, {effort} lists read, {depth} rescored"

    def recall(self, queries: np.ndarray, k: int, allowed: np.ndarray) -> float:
        """The share of the true k best among what may be found (keep, bool by position)."""
        scores = queries @ self.everything.T
        scores[:, ~(allowed & self.alive)] = -np.inf
        truth = np.argpartition(-scores, k, axis=1)[:, :k]
        found = (
            self.store.search(queries, k, None if allowed.all() else lambda keys: allowed[keys >> 20])[0]
            >> 20
        )
        return float(np.mean([np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)]))

    def times(self, sides: dict[str, Callable[[np.ndarray], Any]], batch: int) -> dict[str, list[float]]:
        """Seconds for 1,000 queries, each side in turn."""
        taken: dict[str, list[float]] = {name: [] for name in sides}
        queries = self.queries["mixtures of indexed sentences"]
        for turn in range(self.runs + 1):
            for name, search in sides.items():
                asked = queries[:40] if name == "flat" and batch == 1 else queries
                started = time.perf_counter()
                for first in range(0, len(asked), batch):
                    search(asked[first : first + batch])
                if turn:  # the first warms up
                    taken[name].append(1000 * (time.perf_counter() - started) / len(asked))
        return taken


def rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of results; ``options`` has data, model, runs and embedded (a file to keep embeddings in, or None)."""
    cores = os.sched_getaffinity(0)
    on_one_core()
    try:
        with tempfile.TemporaryDirectory() as name:
            return list(_rows(Bench(options, Path(name))))
    finally:
        os.sched_setaffinity(0, cores)


def _rows(bench: Bench) -> Iterator[dict[str, Any]]:
    faiss = {"peer": "faiss-cpu", "peer_version": version("faiss-cpu")}
    command = "python benchmarks/search_vectors.py"
    shape = f"{NUMBER:,} × {WIDTH}, default index"
    everything = np.ones(len(bench.alive), bool)
    fifth = np.arange(len(bench.alive)) % 5 == 0
    for kind, queries in bench.queries.items():
        for k, allowed, said in (
            (K, everything, ""),
            (K, fifth, ", a filter that keeps a fifth"),
            (100, everything, ""),
        ):
            figure = bench.recall(queries, k, allowed)
            yield {
                "claim": f"recall@{k}, {shape}, {kind}{said}", "command": command, "figure": round(figure, 4),
                "unit": "", "setting": bench.setting, "measured_at_build": bench.about["recall"],
                "bar": ">= 0.95", "met": figure >= 0.95,
                "host": host(),
            }  # fmt: skip
    yield {
        "claim": f"vector index built, {shape}", "command": command, "figure": round(min(bench.built), 2),
        "unit": "s", "setting": bench.setting, "runs": [round(t, 2) for t in bench.built],
        "bar": "<= 15", "met": min(bench.built) <= 15, "host": host(),
    }  # fmt: skip
    for batch, said in ((1, "one by one"), (100, "in batches of 100")):
        taken = bench.times(
            {
                "flat": lambda q: bench.flat.search(q, K),
                "raw": lambda q: bench.raw.search(q, K, params=bench.asked),
                "clean": lambda q: bench.clean.search(q, K),
                "ours": lambda q: bench.store.search(q, K),
            },
            batch,
        )
        about = {"command": command, **faiss, "setting": bench.setting, "unit": "s for 1,000 queries"}
        yield ratio_row(
            f"vector search against FAISS flat, {shape}, {said}", taken["clean"], taken["flat"], 12, **about
        )
        yield ratio_row(
            f"our path (1 % deleted, a tail of {TAIL:,}, ids, exact) against raw FAISS on the same index, {said}",
            taken["ours"], taken["raw"], 0.8, **about,
        )  # fmt: skip
        plain = statistics.median(taken["clean"]) / statistics.median(taken["raw"])
        print(f"     without deletions and tail: {1 / plain:.2f} of raw FAISS, {said}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--embedded", type=Path, help="keep the embeddings of the sentences in this file")
    made = rows(parser.parse_args())
    for row in made:
        tell(row)
    keep("search", made)


if __name__ == "__main__":
    main()

"""Encoding beside sentence-transformers and OpenVINO: all-MiniLM-L6-v2, the same weights, one thread.

Used by benchmarks/search.py. The texts are real ones of mixed length: 88 abstracts of SciFact, 272 paragraphs (of more
than 200 characters) and 440 sentences of novels100, shuffled; about 78 tokens in the mean, half of them below 30, cut
at the model's 256. Tokenizing is part of the time on both sides. Every side is a process that stays, warmed up before
it is timed; they take turns, and all but one wait. Cosines are to sentence-transformers in fp32 on the same texts.
"""

import csv
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
from measure import host, ratio_row, version

PEERS = Path(__file__).parent / "peers" / "encode_peers.py"
SIDES = ("fp32", "bf16", "int8", "st-fp32", "st-bf16", "openvino-bf16")
SEED = 0


def texts(data: Path) -> list[str]:
    """The texts that are timed."""
    luck = random.Random(SEED)
    with gzip.open(data / "scifact/corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        documents = [json.loads(line) for line in file]
    abstracts = [f"{d['title']} {d['text']}".strip() for d in documents]
    with gzip.open(data / "novels100/train.txt.gz", "rt", encoding="utf-8", errors="replace") as file:
        paragraphs = [line.strip() for line in file if line.strip()]
    made = luck.sample(abstracts, 88)
    made += luck.sample([p for p in paragraphs if len(p) > 200], 272)
    found = [s for p in luck.sample(paragraphs, 2000) for s in re.split(r"(?<=[.!?])\s+", p) if s]
    made += luck.sample(found, 440)
    luck.shuffle(made)
    return made


class Side:
    """One way to encode, in a process of its own."""

    def __init__(self, kind: str, options: Namespace) -> None:
        program = [options.peers, str(PEERS)] if "-" in kind else [sys.executable, __file__]
        self.kind, self.folder = kind, options.folder
        self.process = subprocess.Popen(
            [*program, kind, str(options.model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def __call__(self, given: Path) -> float:
        """Seconds for the texts of a file; the rows are in :attr:`rows`."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"encode {given} {self.folder / self.kind}.npy\n")
        self.process.stdin.flush()
        return float(self._answer()["seconds"])

    @property
    def rows(self) -> np.ndarray:
        made: np.ndarray = np.load(self.folder / f"{self.kind}.npy")
        return made

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError(f"{self.kind} ended with {self.process.wait()}")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def cosines(rows: np.ndarray, reference: np.ndarray) -> np.ndarray:
    made: np.ndarray = (rows * reference).sum(1)
    return made / np.linalg.norm(rows, axis=1) / np.linalg.norm(reference, axis=1)


def rows(options: Namespace) -> Iterator[dict[str, Any]]:
    """All rows, as they are measured."""
    given = options.folder / "texts.json"
    given.write_text(json.dumps(texts(options.data)), encoding="utf-8")
    sides = {kind: Side(kind, options) for kind in SIDES}
    try:
        taken: dict[str, list[float]] = {kind: [] for kind in SIDES}
        for _ in range(options.runs):
            for kind, side in sides.items():
                taken[kind].append(side(given))
        made = {kind: side.rows for kind, side in sides.items()}
        yield from _speeds(options, taken, made)
        yield from _quality(options, sides)
    finally:
        for side in sides.values():
            side.close()


def _speeds(
    options: Namespace, taken: dict[str, list[float]], made: dict[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
    from nlpkit.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(options.model)
    texts_ = json.loads((options.folder / "texts.json").read_text("utf-8"))
    lengths = [len(ids) for ids in tokenizer.encode(texts_, special=True, max_length=256)]
    about = {
        "texts": len(lengths), "mean_tokens": round(statistics.mean(lengths), 1),
        "median_tokens": statistics.median(lengths), "cut": tokenizer.truncated,
    }  # fmt: skip
    st = {"peer": "sentence-transformers", "peer_version": version("sentence-transformers", options.peers)}
    ov = {"peer": "OpenVINO", "peer_version": version("openvino", options.peers)}
    least = {"fp32": 0.99999, "bf16": 0.9999, "int8": 0.985}
    for ours, theirs, bar, peer, name in (
        ("fp32", "st-fp32", 1.15, st, "fp32 against sentence-transformers' default"),
        ("bf16", "st-fp32", 2.4, st, "bf16 against sentence-transformers' default"),
        ("int8", "st-fp32", 3.4, st, "int8 against sentence-transformers' default"),
        ("bf16", "st-bf16", 1.3, st, "bf16 against sentence-transformers in bf16"),
        ("bf16", "openvino-bf16", 0.95, ov, "bf16 against OpenVINO in bf16"),
    ):
        near = cosines(made[ours], made["st-fp32"])
        row = ratio_row(
            f"encoding, {name}", taken[ours], taken[theirs], bar,
            command=f"load_encoder(MODEL, precision={ours!r}).encode(texts)", **peer, **about,
            cosine_mean=round(float(near.mean()), 6), cosine_least=round(float(near.min()), 6),
            peer_cosine_least=round(float(cosines(made[theirs], made["st-fp32"]).min()), 6),
            identical=bool(near.min() >= least[ours]),
        )  # fmt: skip
        yield row


def _quality(options: Namespace, sides: dict[str, Side]) -> Iterator[dict[str, Any]]:
    from nlpkit.metrics.correlation import spearman
    from nlpkit.metrics.ranking import evaluate

    path = options.folder / "some.json"

    def encoded(kind: str, some: list[str]) -> np.ndarray:
        path.write_text(json.dumps(some), encoding="utf-8")
        sides[kind](path)
        return sides[kind].rows

    with gzip.open(options.data / "stsb/test.tsv.gz", "rt", encoding="utf-8") as file:
        pairs = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    first, second = (encoded("fp32", [p[f"sentence{n}"] for p in pairs]) for n in (1, 2))
    found = 100 * spearman((first * second).sum(1), [float(p["score"]) for p in pairs])
    yield _figure("STS-B test, Spearman, fp32", round(found, 2), "82.0 ± 0.1", abs(found - 82.0) <= 0.1)
    folder = options.data / "scifact"
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        documents = [json.loads(line) for line in file]
    with gzip.open(folder / "queries.jsonl.gz", "rt", encoding="utf-8") as file:
        queries = {q["_id"]: q["text"] for q in map(json.loads, file)}
    qrels: dict[str, dict[str, int]] = {}
    with open(folder / "qrels/test.tsv", encoding="utf-8") as file:
        for judged in csv.reader(list(file)[1:], delimiter="\t"):
            qrels.setdefault(judged[0], {})[judged[1]] = int(judged[2])
    asked = sorted(qrels)
    scores = {}
    for kind in ("fp32", "bf16", "int8"):
        there = encoded(kind, [f"{d['title']} {d['text']}".strip() for d in documents])
        best = np.argsort(-encoded(kind, [queries[q] for q in asked]) @ there.T, kind="stable")[:, :10]
        run = {q: [documents[i]["_id"] for i in row] for q, row in zip(asked, best, strict=True)}
        scores[kind] = evaluate(run, qrels, ["ndcg@10"])["ndcg@10"]
        lost = scores["fp32"] - scores[kind]
        bar, met = (
            ("0.645 ± 0.003", abs(scores[kind] - 0.645) <= 0.003)
            if kind == "fp32"
            else ("0.005 at most below fp32", lost <= 0.005)
        )
        yield _figure(f"SciFact nDCG@10, MiniLM, {kind}", round(scores[kind], 4), bar, met)


def _figure(claim: str, figure: float, bar: str, met: bool) -> dict[str, Any]:
    return {
        "claim": claim, "command": "load_encoder(MODEL, precision=…).encode(texts)", "figure": figure, "unit": "",
        "bar": bar, "met": bool(met), "host": host(),
    }  # fmt: skip


def _serve(precision: str, model: str) -> None:
    """Our side: as benchmarks/peers/encode_peers.py."""
    import torch

    from nlpkit.inference.embed import load_encoder

    torch.set_num_threads(1)
    encoder = load_encoder(model, precision=precision)
    print(json.dumps({"ready": precision}), flush=True)
    warm = False
    for line in sys.stdin:
        _, given, out = line.split()
        some = json.loads(Path(given).read_text("utf-8"))
        if not warm:
            encoder.encode(some[:256])
            warm = True
        began, cpu = time.perf_counter(), time.process_time()
        made = encoder.encode(some)
        taken = time.perf_counter() - began, time.process_time() - cpu
        np.save(out, made)
        print(json.dumps({"seconds": taken[0], "cpu": taken[1]}), flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])

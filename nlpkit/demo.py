"""The main job, end to end: the documentation that every Python carries becomes a trained, searchable index.

Each step prints its command line and then runs that very command line in this process, so that what is shown can
be copied. The held-out table is measured on a throw-away index of bodies without their summaries.
"""

import json
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nlpkit import cli, console
from nlpkit.errors import NlpkitError
from nlpkit.store import atomic

QUERIES = (
    "split a string into lines",
    "remove duplicates from a list",
    "get the current working directory",
)
HELD_OUT = 300  # test queries, and as many others to choose the fusion weight on
SHORTEST = 3, 8  # words that a summary and a body need to be a query and its answer
COLUMNS = ("recall@10", "mrr@10", "ndcg@10")


@dataclass(frozen=True)
class Plan:
    """How much time the trained parts get, and their sizes."""

    pretrain: str
    biencoder: str
    epochs: int  # of GloVe
    vocabulary: int


FULL = Plan(pretrain="85s", biencoder="50s", epochs=40, vocabulary=6000)
FAST = Plan(pretrain="11s", biencoder="9s", epochs=20, vocabulary=4000)


def demo(fast: bool = False) -> None:
    """Run the chain in the current folder: corpora/python and python-demo, runs/demo-*, indexes/python."""
    started = time.monotonic()
    plan = FAST if fast else FULL
    work = Path("corpora/python-demo")
    for step in chain(plan, Path("corpora/python"), work):
        run(*step)
    queries, tune, test = held_out(work)
    weight, rows = measure(work / "bodies.jsonl", queries, tune, test)
    keep_weight(weight)
    console.write("\n")
    for query in QUERIES:
        run("search", "indexes/python", query, "-k", "3")
    console.write("\n")
    title = f"{len(test)} held-out summaries, each looking for its own body (fusion weight {weight:g})"
    console.table(rows, ("", *COLUMNS), title=title)
    seconds = time.monotonic() - started
    console.write(f"\nRaw text to semantic search in {seconds:.0f} s. Next, try:\n\n")
    console.write('  nlpkit search indexes/python "split a string into lines"\n')


def chain(plan: Plan, corpus: Path, work: Path) -> Iterator[tuple[str, ...]]:
    """The command lines from raw text to the index. What is held out trains nothing."""
    docs, train, words = f"{corpus}/docs.jsonl", f"{work}/split/train.jsonl", f"{work}/words.jsonl"
    recipe, ids, size, epochs = (
        f"{work}/words.toml",
        f"{work}/ids.npy",
        str(plan.vocabulary),
        str(plan.epochs),
    )
    yield "corpus", "python", "-o", f"{corpus}"
    yield "corpus", "split", docs, "--valid", "0.15", "--test", "0.15", "-o", f"{work}/split"
    yield "standardize", train, "--stopwords", "en", "--save-recipe", recipe, "-o", words
    yield "train-tokenizer", train, "--kind", "bpe", "--vocab-size", size, "-o", "runs/demo-tokenizer"
    yield "tokenize", train, "--tokenizer", "runs/demo-tokenizer", "--format", "npy", "-o", ids
    yield (
        "train-glove",
        words,
        "--standardized",
        "--recipe",
        recipe,
        "--epochs",
        epochs,
        "-o",
        "runs/demo-glove",
    )
    yield (
        *("pretrain", ids, "--objective", "mlm", "--tokenizer", "runs/demo-tokenizer", "-c", "demo-mlm"),
        *("--budget", plan.pretrain, "-o", "runs/demo-mlm"),
    )
    yield (
        *("train", "biencoder", "--data", train, "--from", "runs/demo-mlm", "-c", "demo-biencoder"),
        *("--budget", plan.biencoder, "-o", "runs/demo-biencoder"),
    )
    yield "index", "build", docs, "--model", "runs/demo-biencoder", "-o", "indexes/python"


def run(*words: str) -> None:
    """Show a command line, then run it; what a former demo left under its output's name is replaced."""
    target = Path(words[words.index("-o") + 1]) if "-o" in words else None
    if target is not None and target.exists():
        words = (*words, "--force")
    console.note("\n$ nlpkit " + shlex.join(words))
    cli.invoke(list(words))


def held_out(work: Path) -> tuple[dict[str, str], list[str], list[str]]:
    """Write bodies.jsonl (bodies without summaries, each once); its queries by document id, and who is whose.

    A query is the summary of a document that trained nothing; it has to be the summary of that document alone.
    """
    parts = {name: list(_records(work / "split" / f"{name}.jsonl")) for name in ("train", "valid", "test")}
    summaries = Counter(d["summary"] for docs in parts.values() for d in docs)
    bodies = Counter(d["body"] for docs in parts.values() for d in docs)
    written: set[str] = set()
    with atomic.writing(work / "bodies.jsonl", "w", encoding="utf-8") as file:
        for document in (d for docs in parts.values() for d in docs):
            if document["body"] and document["body"] not in written:
                written.add(document["body"])
                file.write(json.dumps({"id": document["id"], "text": document["body"]}) + "\n")

    def asks(d: dict[str, str]) -> bool:
        long = len(d["summary"].split()) >= SHORTEST[0] and len(d["body"].split()) >= SHORTEST[1]
        return long and summaries[d["summary"]] == bodies[d["body"]] == 1

    tune, test = ([d for d in parts[name] if asks(d)][:HELD_OUT] for name in ("valid", "test"))
    queries = {d["id"]: d["summary"] for d in (*tune, *test)}
    with atomic.writing(work / "queries.tsv", "w", encoding="utf-8") as file:
        file.writelines(f"{name}\t{' '.join(text.split())}\n" for name, text in queries.items())
    for name, part in (("tune", tune), ("test", test)):
        with atomic.writing(work / f"qrels.{name}.tsv", "w", encoding="utf-8") as file:
            file.write("query-id\tcorpus-id\tscore\n")
            file.writelines(f"{d['id']}\t{d['id']}\t1\n" for d in part)
    return queries, [d["id"] for d in tune], [d["id"] for d in test]


def _records(path: Path) -> Iterator[dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


Row = tuple[str, float, float, float]


def measure(
    bodies: Path, queries: dict[str, str], tune: list[str], test: list[str]
) -> tuple[float, list[Row]]:
    """The fusion weight that is best on ``tune``, and the table on ``test``, from throw-away indexes."""
    import numpy as np

    from nlpkit.metrics import ranking
    from nlpkit.search import fuse
    from nlpkit.search.evaluate import evaluate
    from nlpkit.search.index import Index
    from nlpkit.text.documents import read_documents

    judged = {name: {name: 1} for name in test}
    asked = {name: queries[name] for name in test}
    names = [d.id for d in read_documents([bodies])]
    draw = np.random.default_rng(0)
    order = {name: [names[i] for i in draw.choice(len(names), 10, replace=False)] for name in test}
    rows: list[Row] = [_row("random", ranking.evaluate(order, judged, COLUMNS))]
    place = bodies.with_name(".bodies-index")
    try:
        for model in ("runs/demo-glove", "runs/demo-biencoder"):
            with Index.build(read_documents([bodies]), place, encoder_path=model, force=True) as index:

                def row(name: str, mode: str, **options: float) -> Row:
                    return _row(name, evaluate(index, asked, judged, mode, 10, measures=COLUMNS, **options))

                if model == "runs/demo-glove":
                    rows += [row("BM25", "bm25"), row("GloVe average", "dense")]
                    continue
                chosen = fuse.tune(index, {q: queries[q] for q in tune}, {q: {q: 1} for q in tune})
                weight = float(chosen["weight"])
                rows += [row("bi-encoder", "dense"), row("hybrid", "hybrid", weight=weight)]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return weight, rows


def _row(name: str, scores: dict[str, float]) -> Row:
    return (name, scores["recall@10"], scores["mrr@10"], scores["ndcg@10"])


def keep_weight(weight: float) -> None:
    """Give the index that stays the weight that was chosen."""
    from nlpkit.search.index import Index

    if not 0 < weight < 1:
        raise NlpkitError(f"the fusion weight that was chosen is {weight}, not between 0 and 1")
    with Index.open("indexes/python", writable=True) as index:
        index.set_weight(weight)

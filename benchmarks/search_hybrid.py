"""Hybrid search of three judged collections: one weight, learned on SciFact's training queries, used for all of them.

Used by benchmarks/search.py. SciFact, CACM and Cranfield in BEIR's layout; indexes are built by the command line with
BM25's default recipe and the given model. Beside the mixture stand both of its sides and reciprocal ranks.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

from measure import NLPKIT, host, seconds, shown, version

SETS = {"scifact": ("SciFact", 0.733), "cacm": ("CACM", 0.56), "cranfield": ("Cranfield", 0.408)}
LEARNED = ("scifact", "train")


def index(options: Namespace, name: str) -> tuple[Path, list[str]]:
    """The index of a collection and the command that makes it; one that is there is taken."""
    from nlpkit.search.trec import read_beir

    path = options.folder / f"index-{name}"
    corpus = read_beir(options.data / name).corpus
    command = [NLPKIT, "index", "build", str(corpus), "--model", str(options.model), "-o", str(path)]
    if not path.is_dir():
        print(f"built {path.name} in {seconds(command):.0f} s", flush=True)
    return path, command


def rows(options: Namespace) -> list[dict[str, Any]]:
    """A row a collection."""
    from nlpkit.search.evaluate import evaluate
    from nlpkit.search.fuse import tune
    from nlpkit.search.index import Index
    from nlpkit.search.trec import read_beir

    opened, commands = {}, {}
    for name in SETS:
        path, command = index(options, name)
        opened[name], commands[name] = Index.open(path), shown(command)
    training = read_beir(options.data / LEARNED[0], LEARNED[1])
    found = tune(opened[LEARNED[0]], training.queries, training.qrels)
    weight = float(found["weight"])
    made = []
    for name, (title, bar) in SETS.items():
        judged = read_beir(options.data / name)

        def ndcg(mode: str, name: str = name, judged: Any = judged, **more: Any) -> float:
            measured = evaluate(
                opened[name], judged.queries, judged.qrels, mode, measures=["ndcg@10"], **more
            )
            return round(float(measured["ndcg@10"]), 4)

        figure = ndcg("hybrid", weight=weight)
        made.append(
            {
                "claim": f"hybrid BM25 + MiniLM, nDCG@10 on {title}, weight learned on SciFact's training queries",
                "command": f"{commands[name]}; nlpkit index tune; nlpkit eval --mode hybrid --weight {weight:g}",
                "figure": figure,
                "unit": "nDCG@10",
                "weight": weight,
                "training_queries": found["queries"],
                "bm25": ndcg("bm25"),
                "dense": ndcg("dense"),
                "half_and_half": ndcg("hybrid", weight=0.5),
                "rrf": ndcg("hybrid", fusion="rrf"),
                "nlpkit_version": version("nlpkit"),
                "bar": f">= {bar:g}",
                "met": figure >= bar,
                "host": host(),
            }
        )
    return made

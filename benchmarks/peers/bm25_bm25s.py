"""bm25s as the other side of a benchmark: obeys one command a line, answers with one line of JSON.

tokens FILE BACKEND    read lists of tokens (documents, queries), which are indexed from then on
index                  index the documents; seconds
ask                    the ten best documents of all queries in one call; seconds
best K                 positions and scores of the K best of each query
quality FOLDER K       its own pipeline on a collection in BEIR's layout: its tokenizer, its English stop
                       words, Snowball stems; the ids of the K best of each query
"""

import gzip
import json
import logging
import sys
import time

import bm25s

PARAMETERS = {"k1": 1.2, "b": 0.75}
QUIET = {"show_progress": False}


class Side:
    def __init__(self):
        self.documents, self.queries, self.backend, self.made = [], [], "numpy", None

    def tokens(self, path, backend):
        with open(path, encoding="utf-8") as file:
            self.documents, self.queries = json.load(file)
        self.backend = backend
        self.index()
        self.ask()  # numba compiles

    def index(self):
        started = time.perf_counter()
        self.made = bm25s.BM25(**PARAMETERS, backend=self.backend)
        self.made.index(self.documents, **QUIET)
        return time.perf_counter() - started

    def ask(self):
        started = time.perf_counter()
        self.made.retrieve(self.queries, k=10, **QUIET)
        return time.perf_counter() - started

    def best(self, k):
        found = self.made.retrieve(self.queries, k=int(k), **QUIET)
        return [found.documents.tolist(), found.scores.tolist()]

    def quality(self, folder, k):
        import Stemmer

        documents, queries = (list(_records(f"{folder}/{n}.jsonl.gz")) for n in ("corpus", "queries"))
        stemmer = Stemmer.Stemmer("english")
        tokenize = {"stopwords": "en", "stemmer": stemmer, **QUIET}
        made = bm25s.BM25(**PARAMETERS)
        made.index(
            bm25s.tokenize([f"{d.get('title', '')} {d['text']}" for d in documents], **tokenize), **QUIET
        )
        asked = bm25s.tokenize([q["text"] for q in queries], return_ids=False, **tokenize)
        found = made.retrieve(asked, k=min(int(k), len(documents)), **QUIET)
        return {
            q["_id"]: [documents[at]["_id"] for at, score in zip(row, scores, strict=True) if score > 0]
            for q, row, scores in zip(queries, found.documents.tolist(), found.scores.tolist(), strict=True)
        }


def _records(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    side = Side()
    for line in sys.stdin:
        name, *words = line.rstrip("\n").split("\t")
        print(json.dumps(getattr(side, name)(*words)), flush=True)

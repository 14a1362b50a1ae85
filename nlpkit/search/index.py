"""A search index: build, open, change, ask. Exact words (BM25), meaning (vectors), or both.

>>> import tempfile
>>> from nlpkit.text.documents import Document
>>> texts = ["How to open a file", "Sorting a list", "Closing files"]
>>> index = Index.build([Document(t) for t in texts], tempfile.mkdtemp() + "/index")
>>> [hit.text for hit in index.search("files", k=2)[0]]
['How to open a file', 'Closing files']
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from nlpkit.errors import ArtifactError, UsageError, did_you_mean
from nlpkit.search import change, encode, fuse
from nlpkit.search import folder as folders
from nlpkit.search.analyze import Analyzer
from nlpkit.search.change import Changed
from nlpkit.search.derived import View
from nlpkit.search.encode import Encoder, Loader
from nlpkit.search.fuse import Candidates
from nlpkit.search.hits import Hit
from nlpkit.search.rerank import Scorer
from nlpkit.search.rerank import rerank as reordered
from nlpkit.search.store import Store, snapshot
from nlpkit.search.topk import top
from nlpkit.search.writer import Writer
from nlpkit.text.documents import Document
from nlpkit.text.standardize import Recipe

__all__ = ["Changed", "Hit", "Index"]
MODES = ("bm25", "dense", "hybrid")
FUSIONS = ("norm", "rrf")
_TRIES = 8  # looks at a folder that a writer keeps changing
T = TypeVar("T")
_Ranked = tuple[np.ndarray, np.ndarray, list[dict[str, float]]]  # positions, scores, parts


class Index:
    """An open index. Readers take no lock and see every acknowledged change; a writer holds the folder's lock."""

    def __init__(self, path: str | Path, *, writable: bool = False, loader: Loader = encode.load) -> None:
        self.path = Path(path)
        self._loader = loader
        self._encoder: Encoder | None = None
        self._view: View | None = None
        self._seen: tuple[Any, ...] = ()
        self._guard = threading.RLock()
        self._writer = Writer(self.path) if writable else None
        if self._writer is None:
            self._current(lambda view, store: None)
        else:
            self.settings = self._writer.settings

    @classmethod
    def open(cls, path: str | Path, writable: bool = False, *, loader: Loader = encode.load) -> "Index":
        """Open an index; damage is an ArtifactError, another writer a LockedError after ten seconds.

        ``loader`` opens the model by its path; it is called when a search or a change first needs vectors.
        """
        return cls(path, writable=writable, loader=loader)

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        output: str | Path,
        *,
        encoder_path: str | Path | None = None,
        recipe: Recipe | None = None,
        k1: float = 1.2,
        b: float = 0.75,
        weight: float = 0.3,
        force: bool = False,
        loader: Loader = encode.load,
    ) -> "Index":
        """Index ``documents``, which are streamed; without ``encoder_path`` for BM25 only.

        A document without an id gets one from its content, and such documents of equal content are one. An id that
        occurs twice and an empty input are a DataError. ``changed`` of the result says what was counted.
        """
        encoder = None if encoder_path is None else loader(str(encoder_path))
        changed = change.build(
            documents,
            output,
            encoder=encoder,
            encoder_path="" if encoder_path is None else str(encoder_path),
            recipe=recipe,
            k1=k1,
            b=b,
            weight=weight,
            force=force,
        )
        made = cls(output, loader=loader)
        made._encoder, made.changed = encoder, changed
        return made

    changed = Changed()  # what :meth:`build` counted

    def close(self) -> None:
        """Let go of the writer's lock."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Changing

    def add(self, documents: Iterable[Document], *, update: bool = False) -> Changed:
        """Add documents, all or none: when this returns they are on the disk and found by the next search.

        :raises DataError: an id is there already and ``update`` is not set.
        """
        changed = Changed()
        source = iter(documents)
        first = next(source, None)
        if first is None:
            return changed
        encoder = self.encoder() if self.settings.encoder else None
        with self._writing().change("add") as store:
            for batch in change.batches(chain([first], source)):
                change.insert(store, batch, encoder, changed, update=update, fresh=False)
        return changed

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents, all or none; how many. :raises DataError: an unknown id, which it names."""
        wanted = list(ids)
        if not wanted:
            return 0
        with self._writing().change("delete") as store:
            return change.remove(store, wanted)

    def compact(self, *, rebuild: bool = False) -> None:
        """Fold recent changes into the derived files and give space back; ``rebuild`` makes them all anew."""
        self._writing().compact(rebuild=rebuild)

    def set_weight(self, weight: float) -> None:
        """Keep another fusion weight (0: BM25 only, 1: dense only)."""
        writer = self._writing()
        writer.configure(replace(writer.settings, weight=_weight(weight)))
        self.settings = writer.settings

    def _writing(self) -> Writer:
        if self._writer is None:
            raise UsageError(f"{self.path}: opened for reading; use Index.open(path, writable=True)")
        return self._writer

    # Asking

    def encoder(self) -> Encoder:
        """The model of the index, loaded on first use and checked to be the one that it was built with."""
        if not self.settings.encoder:
            raise UsageError(f"{self.path}: built without a model; use --mode bm25 or build it with --model")
        if self._encoder is None:
            self._encoder = encode.open_for(self.settings, self.path, self._loader)
        return self._encoder

    def search(
        self,
        query: str | Sequence[str],
        k: int = 10,
        mode: str | None = None,
        *,
        weight: float | None = None,
        fusion: str = "norm",
        rerank: Scorer | str | Path | None = None,
        pool: int = 100,
    ) -> list[list[Hit]]:
        """The best ``k`` documents for each query, a list a query (one list for a single string).

        ``mode`` is bm25, dense or hybrid (the default of an index with a model). ``weight`` is the share of the
        dense score in hybrid, ``fusion`` norm or rrf, over the first ``pool`` of both lists. ``rerank`` (a
        cross-encoder or its path) reorders the first ``pool`` hits.
        """
        queries = [query] if isinstance(query, str) else list(query)
        mode = self._mode(mode)
        _known("fusion", fusion, FUSIONS)
        for name, value in (("k", k), ("pool", pool)):
            if value < 1:
                raise UsageError(f"{name} is {value}; it has to be 1 or more")
        pool = max(k, pool)
        share = self.settings.weight if weight is None else _weight(weight)
        scorer = _scorer(rerank)
        depth = pool if scorer is not None else k
        vectors = None if mode == "bm25" else encode.vectors(self.encoder(), queries)

        def answer(view: View, store: Store) -> list[list[Hit]]:
            answers = []
            for i, text in enumerate(queries):
                if mode == "bm25":
                    found = _one("bm25", *view.bm25.top(view.analyze(text), depth))
                elif mode == "dense":
                    assert vectors is not None
                    at, scores = view.load_vectors(self.path).search(vectors[i], depth, view.bm25.alive)
                    found = _one("dense", at, scores)
                else:
                    assert vectors is not None
                    union = self._union(view, store, text, vectors[i], pool)
                    mixed = fuse.reciprocal(union, pool) if fusion == "rrf" else fuse.normed(union, share)
                    found = _both(union, mixed, depth)
                answers.append(_hits(view, store, found))
            return answers

        hits = self._current(answer)
        if scorer is None:
            return hits
        return [reordered(text, some, scorer, k) for text, some in zip(queries, hits, strict=True)]

    def candidates(self, queries: Sequence[str], pool: int = 100) -> list[tuple[Candidates, list[str]]]:
        """What fusion mixes, and the documents' ids, for each query."""
        vectors = encode.vectors(self.encoder(), queries)

        def answer(view: View, store: Store) -> list[tuple[Candidates, list[str]]]:
            made = []
            for text, vector in zip(queries, vectors, strict=True):
                union = self._union(view, store, text, vector, pool)
                rows = view.rows[union.positions].tolist()
                stored = store.fetch(rows)
                made.append((union, [stored[row].id for row in rows]))
            return made

        return self._current(answer)

    def _union(self, view: View, store: Store, text: str, vector: np.ndarray, pool: int) -> Candidates:
        """Both first lists as one, in position order, each with its exact other score."""
        near, nearness = view.load_vectors(self.path).search(vector, pool, view.bm25.alive)
        scores = view.bm25.scores(view.analyze(text))
        held = np.flatnonzero(scores > 0)
        positions = np.union1d(held[top(scores[held], pool)], near)
        dense = np.full(len(positions), np.nan)
        dense[np.searchsorted(positions, near)] = nearness
        missing = np.flatnonzero(np.isnan(dense))
        rows = view.rows[positions[missing]].tolist()
        stored = store.fetch(rows)
        for i, row in zip(missing, rows, strict=True):
            known = stored[row].vector
            if known is None:
                raise ArtifactError(
                    f"{self.path}: document {stored[row].id!r} has no vector; rebuild the index"
                )
            dense[i] = known @ vector
        return Candidates(positions, scores[positions], dense)

    def analyze(self, text: str) -> list[str]:
        """The terms of a text by the recipe of this index."""
        return self._current(lambda view, store: view.analyze(text))

    def _mode(self, mode: str | None) -> str:
        if mode is None:
            return "hybrid" if self.settings.encoder else "bm25"
        return _known("mode", mode, MODES)

    def _current(self, ask: Callable[[View, Store], T]) -> T:
        """Run ``ask`` on a view and a snapshot of the record that belong together, as of now."""
        with self._guard:
            for attempt in range(_TRIES):
                seen = folders.signature(self.path)
                try:
                    if self._view is None or seen != self._seen:
                        self._reload()
                    assert self._view is not None
                    with snapshot(self.path) as store:
                        self._view.advance(store)
                        made = ask(self._view, store)
                    self._seen = seen
                    return made
                except BaseException as error:
                    self._view = None
                    # A writer replaced what was being read: look again. Otherwise it is as it seems.
                    moved = folders.signature(self.path) != seen
                    if (
                        not isinstance(error, ArtifactError | FileNotFoundError)
                        or not moved
                        or attempt == _TRIES - 1
                    ):
                        raise
            raise AssertionError("unreachable")

    def _reload(self) -> None:
        made, _ = folders.inspect(self.path)
        self.settings = folders.settings(made)
        entry = dict(made.notes["derived"])
        if self._view is None or self._view.entry != entry:
            analyzer = Analyzer.of(self.settings, made)
            self._view = View.load(self.path, made, self.settings, analyzer)

    def info(self) -> dict[str, Any]:
        """What is in the index and how it was built."""

        def answer(view: View, store: Store) -> dict[str, Any]:
            chosen = self.settings
            dense = None
            if chosen.encoder:
                dense = view.load_vectors(self.path).kind
            return {
                "path": str(self.path),
                "documents": store.meta("documents"),
                "terms": max((len(s.ends) - 1 for s in view.bm25.segments), default=0),
                "mean_length": round(float(view.bm25.lengths[view.bm25.alive].mean()), 2)
                if view.bm25.alive.any()
                else 0.0,
                "recipe": list(chosen.recipe),
                "bm25": {"k1": chosen.k1, "b": chosen.b},
                "weight": chosen.weight,
                "model": encode.found_path(chosen.encoder, self.path) if chosen.encoder else None,
                "model_fingerprint": chosen.encoder_fingerprint or None,
                "width": chosen.width or None,
                "dense": dense,
                "default_mode": self._mode(None),
                "unfolded_operations": store.last() - int(view.entry["watermark"]),
                "state": "open (a writer is at work or was cut short)"
                if folders.marker(self.path) is not None
                else "closed",
                "bytes": sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file()),
            }

        return self._current(answer)


def _known(what: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise UsageError(f"unknown {what} {value!r}{did_you_mean(value, known)}")
    return value


def _weight(weight: float) -> float:
    if not 0 <= weight <= 1:
        raise UsageError(f"weight is {weight}; it has to be between 0 (BM25 only) and 1 (dense only)")
    return float(weight)


def _scorer(given: Scorer | str | Path | None) -> Scorer | None:
    if isinstance(given, str | Path):
        from nlpkit.inference.rerank import CrossEncoder

        return CrossEncoder(given)
    return given


def _one(name: str, positions: np.ndarray, scores: np.ndarray) -> _Ranked:
    return positions, scores, [{name: float(s)} for s in scores]


def _both(union: Candidates, mixed: np.ndarray, k: int) -> _Ranked:
    best = top(mixed, k)
    parts = [{"bm25": float(union.bm25[i]), "dense": float(union.dense[i])} for i in best]
    return union.positions[best], mixed[best], parts


def _hits(view: View, store: Store, found: _Ranked) -> list[Hit]:
    positions, scores, parts = found
    rows = view.rows[positions].tolist()
    stored = store.fetch(rows)
    return [
        Hit(stored[row].id, float(score), stored[row].text, stored[row].title, stored[row].fields, part)
        for row, score, part in zip(rows, scores, parts, strict=True)
    ]

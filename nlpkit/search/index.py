"""A search index: build, open, change, ask. Exact words (BM25), meaning (vectors), or both.

>>> import tempfile
>>> from nlpkit.text.documents import Document
>>> texts = ["How to open a file", "Sorting a list", "Closing files"]
>>> index = Index.build([Document(t) for t in texts], tempfile.mkdtemp() + "/index")
>>> [hit.text for hit in index.search("files", k=2)[0]]
['How to open a file', 'Closing files']
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from nlpkit.errors import ArtifactError, UsageError, did_you_mean
from nlpkit.search import build as building
from nlpkit.search import change, encode
from nlpkit.search import folder as folders
from nlpkit.search.analyze import STEPS, Analyzer
from nlpkit.search.change import Changed
from nlpkit.search.connections import Reader
from nlpkit.search.derived import View, describe
from nlpkit.search.encode import Encoder, Loader
from nlpkit.search.folder import Settings
from nlpkit.search.fuse import Candidates
from nlpkit.search.hits import Hit
from nlpkit.search.query import MODES, Ask, finish
from nlpkit.search.query import candidates as _candidates
from nlpkit.search.query import first as _first
from nlpkit.search.rerank import Scorer
from nlpkit.search.store import Store
from nlpkit.search.where import Where, parse
from nlpkit.search.writer import Writer
from nlpkit.text.documents import Document
from nlpkit.text.standardize import Recipe

if TYPE_CHECKING:
    from nlpkit.text.chunk import Chunks

__all__ = ["Changed", "Hit", "Index"]
_TRIES = 8  # looks at a folder that a writer keeps changing
_KEPT = 1024  # operations that a view may hold in memory when a writer has folded them
T = TypeVar("T")


class Index:
    """An open index. Readers take no lock and see every acknowledged change; a writer holds the folder's lock."""

    changed = Changed()  # what :meth:`build` counted

    def __init__(
        self,
        path: str | Path,
        *,
        writable: bool = False,
        loader: Loader | None = None,
        lock_timeout: float = 10.0,
    ) -> None:
        self.path = Path(path)
        self._loader = loader
        self._encoder: Encoder | None = None
        self._light: Encoder | None = None
        self._view: View | None = None
        self._stale = (
            False  # whether the view's segments were replaced, and files that it never opened may be gone
        )
        self._lineage = ""
        self._seen: tuple[Any, ...] = ()
        self._guard = threading.RLock()
        self._reader = Reader(self.path)
        self._writer = Writer(self.path, lock_timeout) if writable else None
        if self._writer is None:
            self._current(lambda view, store: None)
        else:
            self.settings = self._writer.settings

    @classmethod
    def open(
        cls,
        path: str | Path,
        writable: bool = False,
        *,
        loader: Loader | None = None,
        lock_timeout: float = 10.0,
    ) -> "Index":
        """Open an index; damage is an ArtifactError, another writer a LockedError after ``lock_timeout`` seconds.

        ``loader`` opens the model by its path; it is called when a search or a change first needs vectors.
        """
        return cls(path, writable=writable, loader=loader, lock_timeout=lock_timeout)

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        output: str | Path,
        *,
        encoder_path: str | Path | None = None,
        recipe: Recipe | None = None,
        chunks: "Chunks | str | None" = None,
        k1: float = 1.2,
        b: float = 0.75,
        weight: float = 0.5,
        dense: Mapping[str, Any] | None = None,
        unit: str = "",
        force: bool = False,
        loader: Loader | None = None,
        precision: str = "auto",
        lock_timeout: float = 10.0,
    ) -> "Index":
        """Index ``documents``, which are streamed; without ``encoder_path`` for BM25 only.

        A document without an id gets one from its content, and such documents of equal content are one. An id that
        occurs twice and an empty input are a DataError. ``chunks`` ("200/50") cuts documents into passages, of which
        the best one scores; its tokens are those of the model. ``dense`` are options of the vector store (factory,
        quantize, rescore), ``unit`` says what a document is in text, for later additions. ``precision`` is that of the
        model's products, as in :func:`nlpkit.inference.embed.load_encoder`.

        A build that was killed is gone on with by the same call: what went through the model is not paid for again.
        ``changed`` of the result says what was counted.
        """
        analyzer = Analyzer(Recipe(STEPS) if recipe is None else recipe)
        if k1 < 0 or not 0 <= b <= 1:
            raise UsageError(f"k1 is {k1}, b is {b}; k1 has to be 0 or more, b between 0 and 1")
        settings = Settings(
            *(analyzer.recipe.steps, analyzer.recipe.stopwords, k1, b, _weight(weight)),
            chunk=_chunk(chunks),
            documents=unit,
            dense=dict(dense or {}),
        )
        encoder = None
        if encoder_path is not None:
            name = str(encoder_path)
            encoder = encode.load(name, precision) if loader is None else loader(name)
            settings = building.with_encoder(settings, encoder, str(encoder_path), Path(output))
        changed = building.build(
            documents,
            output,
            settings,
            encoder=encoder,
            analyzer=analyzer,
            force=force,
            lock_timeout=lock_timeout,
        )
        made = cls(output, loader=loader)
        made._encoder, made.changed = encoder, changed
        return made

    def close(self) -> None:
        """Settle and seal what was written, and let go of the writer's lock."""
        writer, self._writer = self._writer, None
        self._reader.close()
        if writer is not None:
            writer.close()

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if error is None:  # else it is that what has to be told; the next writer settles the folder
                raise

    # Changing

    def add(self, documents: Iterable[Document], *, update: bool = False) -> Changed:
        """Add documents, all or none: when this returns they are on the disk and found by the next search.

        With ``update`` a document replaces the one of its id, and one that is there as it is costs nothing.

        :raises DataError: an id is there already and ``update`` is not set.
        """
        changed = Changed()
        source = iter(documents)
        first = next(source, None)
        writer = self._writing()
        if first is None:
            return changed
        with writer.change("update" if update else "add") as store:
            view = writer.view(store)
            inserting = change.Inserting(
                store, self.settings, changed, self.encoder, update=update, holders=view.holders
            )
            for batch in change.batches(chain([first], source)):
                change.embed(store, inserting.insert(batch), self.encoder, changed)
        return changed

    def update(self, documents: Iterable[Document]) -> Changed:
        """Add documents or replace those of the same id: :meth:`add` with ``update``."""
        return self.add(documents, update=True)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents, all or none; how many. :raises DataError: an unknown id, which it names."""
        wanted = list(ids)
        writer = self._writing()
        if not wanted:
            return 0
        with writer.change("delete") as store:
            return change.remove(store, wanted, writer.view(store).holders)

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

    def encoder(self, count: int = 1) -> Encoder:
        """The model of the index for ``count`` texts, checked to be the one that it was built with.

        For few texts it is opened without torch where that can be.
        """
        if not self.settings.encoder:
            raise UsageError(f"{self.path}: built without a model; use --mode bm25 or build it with --model")
        if self._encoder is None and self._loader is None and count <= encode.FEW:
            if self._light is None:
                self._light = encode.open_for(self.settings, self.path, encode.load_light)
            return self._light
        if self._encoder is None:
            self._encoder = encode.open_for(self.settings, self.path, self._loader or encode.load)
        return self._encoder

    def search(
        self,
        query: str | Sequence[str],
        k: int = 10,
        mode: str | None = None,
        *,
        weight: float | None = None,
        fusion: str = "norm",
        where: Where | str | None = None,
        rerank: Scorer | str | Path | None = None,
        rerank_ms: float | None = None,
        pool: int = 100,
        expand: bool = False,
        explain: bool = False,
    ) -> list[list[Hit]]:
        """The best ``k`` documents for each query, a list a query (one list for a single string).

        ``mode`` is bm25, dense or hybrid (the default of an index with a model). ``where`` is a condition that a
        document has to fulfil, as :mod:`nlpkit.search.where` has it; ``rerank`` a cross-encoder or its path. The other
        options are those of :class:`nlpkit.search.query.Ask`.
        """
        queries = [query] if isinstance(query, str) else list(query)
        ask = self._asked(
            *(k, mode, weight, pool),
            fusion=fusion,
            where=parse(where) if isinstance(where, str) else where,
            rerank=_scorer(rerank),
            rerank_ms=rerank_ms,
            expand=expand,
            explain=explain,
        )
        vectors = None
        if ask.mode != "bm25" and queries:
            vectors = encode.vectors(self.encoder(len(queries)), queries, "query")
        hits = self._current(lambda view, store: _first(view, store, queries, vectors, ask))
        return finish(queries, hits, ask)

    def candidates(self, queries: Sequence[str], pool: int = 100) -> list[tuple[Candidates, list[str]]]:
        """What fusion mixes, and the documents' ids, for each query."""
        asked = list(queries)
        vectors = encode.vectors(self.encoder(len(asked)), asked, "query")
        ask = self._asked(10, "hybrid", None, pool)
        return self._current(lambda view, store: _candidates(view, store, asked, vectors, ask))

    def _asked(self, k: int, mode: str | None, weight: float | None, pool: int, **options: Any) -> Ask:
        if mode is None:
            mode = self.mode
        elif mode not in MODES:
            raise UsageError(f"unknown mode {mode!r}{did_you_mean(mode, MODES)}")
        share = self.settings.weight if weight is None else weight
        return Ask(k=k, mode=mode, weight=share, pool=pool, **options)

    @property
    def mode(self) -> str:
        """How it is asked where nothing else is said."""
        return "hybrid" if self.settings.encoder else "bm25"

    def analyze(self, text: str) -> list[str]:
        """The terms of a text by the recipe of this index."""
        return self._current(lambda view, store: view.analyze(text))

    # One version for each answer

    def _current(self, ask: Callable[[View, Store], T]) -> T:
        """Run ``ask`` on a view and a snapshot of the record that belong together, as of now."""
        with self._guard:
            for attempt in range(_TRIES):
                seen = folders.signature(self.path)
                try:
                    if self._view is None or seen != self._seen:
                        self._reload()
                    assert self._view is not None
                    with self._reader.snapshot() as store:
                        self._view.advance(store)
                        made = ask(self._view, store)
                    self._seen = seen
                    return made
                except BaseException as error:
                    self._view, stale, self._stale = None, self._stale, False
                    self._reader.close()
                    # A writer replaced what was being read: look again. Otherwise it is as it seems.
                    moved = stale or folders.signature(self.path) != seen
                    wrong = isinstance(error, ArtifactError | FileNotFoundError)
                    if not wrong or not moved or attempt == _TRIES - 1:
                        raise
            raise AssertionError("unreachable")

    def _reload(self) -> None:
        """Look at the folder again. While little came since a view was loaded, it goes on from the log."""
        self._reader.close()  # the database may be another file now
        made, _ = folders.inspect(self.path)
        view, settings = self._view, folders.settings(made)
        derived, lineage = made.notes["derived"], str(made.notes["lineage"])
        watermark = int(derived["watermark"])
        kept = view is not None and watermark - view.watermark <= _KEPT
        if (
            view is not None
            and kept
            and (lineage, derived["segments"][0]) == (self._lineage, view.parts[0].entry)
        ):
            self._stale = self._stale or watermark != view.watermark
            view.settings = settings
        else:
            self._view = View.load(self.path, made, settings, Analyzer.of(settings, made))
            self._stale = False
        self.settings, self._lineage = settings, lineage

    def info(self) -> dict[str, Any]:
        """What is in the index and how it was built."""

        def answer(view: View, store: Store) -> dict[str, Any]:
            chosen, bm25, numbers = self.settings, view.bm25, store.meta()
            chunk = f"{chosen.chunk[0]}/{chosen.chunk[1]} tokens" if chosen.chunk[0] else None
            alive = bm25.lengths[bm25.alive]
            return {
                "path": str(self.path),
                "documents": numbers["documents"],
                "passages": int(view.alive.sum()),
                "terms": max((s.terms for s in bm25.segments), default=0),
                "mean_length": round(float(alive.mean()), 2) if len(alive) else 0.0,
                "unit": chosen.documents or None,
                "chunk": chunk,
                "recipe": list(chosen.recipe),
                "bm25": {"k1": chosen.k1, "b": chosen.b},
                "weight": chosen.weight,
                "model": encode.found_path(chosen.encoder, self.path) if chosen.encoder else None,
                "model_fingerprint": chosen.encoder_fingerprint or None,
                "width": chosen.width or None,
                "dense": view.vectors().describe() if chosen.encoder else None,
                "default_mode": self.mode,
                "segments": describe(view),
                "unfolded_operations": numbers["last"] - view.watermark,
                "state": "open (a writer is at work or was cut short)"
                if folders.marker(self.path) is not None
                else "closed",
                "bytes": _sizes(self.path),
            }

        with self._guard:
            self._view = None
            return self._current(answer)


def info_rows(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What :meth:`Index.info` says, for a table; what is not there is left out."""
    rows = []
    for name, value in known.items():
        if name == "segments":
            rows += [
                (one["folder"], _words({k: v for k, v in one.items() if k != "folder"})) for one in value
            ]
        elif value is not None:
            rows.append((name.replace("_", " "), _words(value)))
    return rows


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k.replace('_', ' ')} {_words(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of the record, of each kind of derived file, and in all."""
    made: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        inside = path.parent != folder
        kind = path.name.partition("-")[0].partition(".")[0] if inside else path.name.partition(".")[0]
        kind = kind if inside or kind == "documents" else "other"
        made[kind or "other"] = made.get(kind or "other", 0) + path.stat().st_size
    return made | {"all": sum(made.values())}


def known_backend(uri: str) -> None:
    """:raises UsageError: vectors cannot be kept at ``uri``."""
    if uri != "local":
        raise UsageError(f"--backend {uri!r} is not supported; known: local (in the folder of the index)")


def _chunk(given: "Chunks | str | None") -> tuple[int, int]:
    if not given:
        return 0, 0
    from nlpkit.text.chunk import Chunks

    chunks = Chunks.parse(given) if isinstance(given, str) else given
    return chunks.size, chunks.overlap


def _weight(weight: float) -> float:
    if not 0 <= weight <= 1:
        raise UsageError(f"weight is {weight}; it has to be between 0 (BM25 only) and 1 (dense only)")
    return float(weight)


def _scorer(given: Scorer | str | Path | None) -> Scorer | None:
    if isinstance(given, str | Path):
        from nlpkit.inference.rerank import CrossEncoder

        return CrossEncoder(given)
    return given

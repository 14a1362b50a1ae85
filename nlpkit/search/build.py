"""The making of a new index: it appears whole or not at all, and a killed build is gone on with.

First all documents are written, so that a bad one is told of at once; then each different passage goes through the
model, committed as it goes; then everything is derived. The unfinished folder lies beside the target under a hidden
name. The same command finds there the vectors that were paid for, by the content that they belong to, and does all else
anew: the result is that of a build that was never cut short.
"""

import secrets
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from nlpkit import console
from nlpkit.errors import DataError, LockedError, NlpkitError
from nlpkit.search import encode, segments, sums
from nlpkit.search import folder as folders
from nlpkit.search.analyze import Analyzer
from nlpkit.search.change import BATCH, Changed, Inserting, batches, embed_all
from nlpkit.search.connections import create, explained, fault
from nlpkit.search.encode import Encoder
from nlpkit.search.folder import Settings
from nlpkit.search.store import DATABASE, Store, checksum
from nlpkit.search.writer import take_over
from nlpkit.store import atomic, jsonfile
from nlpkit.store.atomic import refuse_existing
from nlpkit.store.lock import locked
from nlpkit.text.documents import Document

STATE = "building.json"
_OF_MODEL = (
    "encoder_fingerprint",
    "tokenizer_fingerprint",
    "encoder_recipe",
    "width",
)  # what a vector depends on


def with_encoder(settings: Settings, encoder: Encoder, path: str, output: Path) -> Settings:
    """``settings`` that name a model."""
    return Settings(
        **{
            **asdict(settings),
            "encoder": encode.stored_path(path, output),
            "encoder_fingerprint": encoder.fingerprint,
            "tokenizer_fingerprint": encode.tokenizer_fingerprint(encoder),
            "encoder_recipe": encode.recipe_hash(encoder),
            "width": encoder.width,
        }
    )


def build(
    documents: Iterable[Document],
    output: str | Path,
    settings: Settings,
    *,
    encoder: Encoder | None,
    analyzer: Analyzer,
    force: bool,
    lock_timeout: float = 10.0,
) -> Changed:
    """Make an index folder; with ``force`` it replaces an older index."""
    output = refuse_existing(output, force)
    folders.replaceable(output, force)
    changed = Changed()
    with take_over(output, lock_timeout), _unfinished(output, settings, lock_timeout) as made:
        store = create(made)
        try:
            with explained(store.path):
                _prepare(store)
                _write(store, documents, settings, changed, encoder)
                if encoder is not None:
                    embed_all(store, encoder, changed)
                fault("built")
                entry = _derive(store, made, settings, analyzer, changed.added)
                store.begin()
                last = store.meta()["last"]
                store.trim(last)
                store.forget()
                store.commit()
                store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                store.connection.execute("PRAGMA journal_mode=DELETE")
        finally:
            store.connection.close()
        (made / STATE).unlink()
        atomic.sync_tree(made)
        folders.seal(
            made,
            settings,
            {"watermark": last, "segments": [entry]},
            sums.write(made, sums.whole(made / DATABASE)),
            documents=changed.added,
            recipe_hash=analyzer.recipe.hash,
            generation=1,
            lineage=secrets.token_hex(8),
        )
        fault("derived")
        atomic.fsync_folder(made)
        refuse_existing(output, force)  # it may have come meanwhile
        atomic.place_folder(made, output)
    return changed


@contextmanager
def _unfinished(output: Path, settings: Settings, lock_timeout: float) -> Iterator[Path]:
    """The folder in which an index is made. It stays when the work ends badly after some vectors were paid for."""
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(output))
    output.parent.mkdir(parents=True, exist_ok=True)
    made = output.with_name(f".{output.name}.unfinished")
    made.mkdir(exist_ok=True)
    with locked(made, lock_timeout):
        if not (made / ".lock").exists():  # whoever held it has given the folder its name
            raise LockedError(f"{output}: another process has just built it; repeat the command if need be")
        try:
            state = {k: v for k, v in asdict(settings).items() if k in _OF_MODEL}
            if not _goes_on(made, state):
                _empty(made)
                jsonfile.write(made / STATE, state)
            for left in [*made.glob("derived-*"), *made.glob(".derived-*")]:
                shutil.rmtree(left)
            yield made
        except BaseException as error:
            count = _vectors_in(made) if settings.encoder else 0
            if count:
                console.note(
                    f"{output}: not finished; {count:,} vectors are kept in {made} for when the command is repeated"
                )
            else:
                shutil.rmtree(made, ignore_errors=True)
            atomic.blame(error, output)
            raise


def _goes_on(made: Path, state: dict[str, object]) -> bool:
    """Whether the folder holds whole vectors of the same model; those that are not whole are dropped."""
    try:
        if not (made / DATABASE).is_file() or not state["width"] or jsonfile.read(made / STATE) != state:
            return False
        store = create(made)
        try:
            if store.connection.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
                return False
            query = "SELECT number, key, vector, sum FROM embeddings"
            size = 4 * int(str(state["width"]))
            bad = [
                (number,)
                for number, key, vector, total in store.connection.execute(query)
                if checksum(key, vector) != total or len(vector) != size
            ]
            store.connection.executemany("DELETE FROM embeddings WHERE number = ?", bad)
        finally:
            store.connection.close()
    except (OSError, sqlite3.Error, NlpkitError):
        return False
    return True


def _empty(made: Path) -> None:
    for path in made.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


def _vectors_in(made: Path) -> int:
    with suppress(Exception):
        store = create(made)
        try:
            return int(store.connection.execute("SELECT count(*) FROM embeddings").fetchone()[0])
        finally:
            store.connection.close()
    return 0


def _prepare(store: Store) -> None:
    """A record without documents, which may hold the vectors of a killed build."""
    store.connection.execute("BEGIN IMMEDIATE")
    store.clear()
    store.commit()
    count = store.connection.execute("SELECT count(*) FROM embeddings").fetchone()[0]
    if count:
        console.note(f"{count:,} vectors of a build that was cut short are used again")


def _write(
    store: Store,
    documents: Iterable[Document],
    settings: Settings,
    changed: Changed,
    encoder: Encoder | None,
) -> None:
    def model(count: int) -> Encoder:
        assert encoder is not None
        return encoder

    inserting = Inserting(store, settings, changed, model)
    with console.progress("reading", unit="documents") as bar:
        store.begin()
        for batch in batches(documents):
            inserting.insert(batch)
            store.commit()
            store.begin()
            bar.advance(len(batch), f"{changed.added:,} documents")
        store.commit()
    if not changed.added:
        raise DataError("no documents to index: the input is empty; give it some")


def _derive(
    store: Store, made: Path, settings: Settings, analyzer: Analyzer, count: int
) -> dict[str, object]:
    with console.progress("indexing", total=count, unit="documents") as bar:

        def watched() -> Iterator[list[segments.Row]]:
            for batch in store.scan(BATCH):
                yield batch
                bar.advance(len(batch))

        return segments.derive(
            *(made, 1, watched(), store, settings, analyzer),
            watermark=store.meta()["last"],
            base=True,
        )

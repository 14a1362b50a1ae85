"""The one writer of an index: lock, marker, transactions, derived segments, checkpoint, seal, unmark; in that order.

The folder is marked before the first change and sealed when the writer closes; between the two a change is one commit
of SQLite, flushed to the disk. Whenever the process dies, the folder is either closed or marked, every committed change
is in the record, and the manifest names segments that are whole. Nothing is deleted before what replaces it is durable.

Segments are a log-structured merge (O'Neil et al. 1996): what came since the watermark becomes a small segment, small
ones become larger ones, and the base is written again when it is due or asked for.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit.search import folder as folders
from nlpkit.search import segments, sums
from nlpkit.search.analyze import Analyzer
from nlpkit.search.connections import alone, connect, explained, fault, settle
from nlpkit.search.derived import View
from nlpkit.search.folder import MARKER, Settings
from nlpkit.search.store import DATABASE, Row, Store
from nlpkit.store import atomic, manifest
from nlpkit.store.lock import locked

TAIL_LIMIT = 256  # operations that are served by brute force before they become a segment
MOST_SMALL = 6  # small segments before some of them become one
SHARE = 0.1  # of the base: when more than this is in small segments or deleted, the base is due at the writer's end
SHARE_OPEN = 0.5  # … and while it goes on
LOG_LIMIT = 64 << 20  # bytes of the write-ahead log before it is moved into the database
_FETCHED = 1000  # documents fetched at a time
Entry = dict[str, Any]


class Writer:
    """Holds the lock of a folder from the making until :meth:`close`."""

    def __init__(self, folder: Path, timeout: float = 10.0) -> None:
        self.folder = folder
        self._store: Store | None = None
        self._view: View | None = None
        self._sums: np.ndarray | None = None
        self._pages: set[int] = set()  # that were written since the sums were made
        self._lock = ExitStack()
        manifest.read(folder, folders.KIND)  # no lock file is made in a folder that is no index
        self._lock.enter_context(locked(folder, timeout))
        try:
            self.manifest, state = folders.inspect(folder, i_write=True)
            self.settings = folders.settings(self.manifest)
            if state == "crashed":
                self._open("recover")
                self.close(unlock=False)
            else:
                self._sums = sums.read(folder, self.manifest.notes["database"])
        except BaseException:
            self._unlock()
            raise

    # The state of the folder

    def _open(self, command: str) -> Store:
        """The connection; with the first one the folder is marked."""
        if self._store is None:
            self._sweep()
            folders.mark(self.folder, command)
            fault("marked")
            self._store = connect(self.folder)
        return self._store

    def close(self, *, unlock: bool = True, fold: bool = True) -> None:
        """Settle the folder, where anything was written, and let go of the lock."""
        try:
            if self._store is not None:
                store = self._store
                try:
                    try:
                        if fold:
                            self._tidy(store)
                    finally:
                        self._settle(store)
                finally:
                    self._store, self._view = None, None
                    store.connection.close()
        finally:
            if unlock:
                self._unlock()

    def _unlock(self) -> None:
        with suppress(OSError):
            os.truncate(self.folder / ".lock", 0)
        self._lock.close()

    def _settle(self, store: Store) -> None:
        with explained(store.path):
            documents = store.meta()["documents"]
        self._pages |= sums.logged(store.path)
        settle(store)
        fault("settled")
        with alone():
            before, path = self._sums, store.path
            made = sums.whole(path) if before is None else sums.renewed(path, before, self._pages)
            database = sums.write(self.folder, made)
        self._seal(self.manifest.notes["derived"], documents, database)
        self._sums, self._pages = made, set()
        fault("sealed")
        self._drop()  # before the mark goes, so that a closed folder never holds more than its seal says
        folders.unmark(self.folder)
        fault("unmarked")

    def _seal(self, derived: Entry, documents: int, database: dict[str, int]) -> None:
        self.manifest = folders.seal(
            self.folder,
            self.settings,
            derived,
            database,
            documents=documents,
            recipe_hash=self.manifest.made_with["recipe"],
            generation=int(self.manifest.notes["generation"]) + 1,
            lineage=self.manifest.notes["lineage"],
        )

    def configure(self, settings: Settings) -> None:
        """Seal other settings; the documents stay as they are."""
        before, self.settings = self.settings, settings
        notes = self.manifest.notes
        try:
            self._seal(notes["derived"], notes["documents"], notes["database"])
        except BaseException:
            self.settings = before
            raise

    # Changes

    @contextmanager
    def change(self, command: str) -> Iterator[Store]:
        """One transaction: all of the block or nothing. It is durable when the block's ``with`` has ended."""
        store = self._open(command)
        with explained(store.path):
            try:
                store.begin()
                yield store
                fault("changed")
                store.commit()
            except BaseException:
                with suppress(Exception):  # what went wrong is told; the rest is left to the next writer
                    store.rollback()
                raise
        fault("committed")
        with explained(store.path):
            self._fold(store)
            if self._due(SHARE_OPEN):
                self._fold_base(store)
            self._relieve(store)

    def view(self, store: Store) -> View:
        """The derived state as of now, inside a transaction of ``store``."""
        if self._view is None or self._view.watermark != self.watermark:
            self._view = View.load(
                self.folder, self.manifest, self.settings, Analyzer.of(self.settings, self.manifest)
            )
        self._view.advance(store)
        return self._view

    def compact(self, *, rebuild: bool = False) -> None:
        """One base of all there is, no log, no vectors that nothing refers to, no free space.

        ``rebuild`` derives everything from the record without looking at the derived files that are there.
        """
        store = self._open("compact")
        with explained(store.path):
            self._fold_base(store, rebuild=rebuild)
            fault("folded")
            store.begin()
            try:
                store.forget()
                store.commit()
            except BaseException:
                with suppress(Exception):
                    store.rollback()
                raise
            fault("trimmed")
            store.connection.execute("VACUUM")
            self._sums = None
        self.close(unlock=False, fold=False)

    # Derived segments

    @property
    def watermark(self) -> int:
        """The last operation that the derived segments hold."""
        return int(self.manifest.notes["derived"]["watermark"])

    @property
    def entries(self) -> list[Entry]:
        """The current segments, the base first."""
        return list(self.manifest.notes["derived"]["segments"])

    def _due(self, share: float) -> bool:
        """Whether the base is so much behind that it should be written again."""
        base, *small = self.entries
        return sum(e["rows"] + e["gone"] for e in small) > share * base["rows"]

    def _tidy(self, store: Store) -> None:
        with explained(store.path):
            self._fold(store)
            if self._due(SHARE):
                self._fold_base(store)

    def _fold(self, store: Store) -> None:
        """Make a long tail a segment, and then fewer segments of many."""
        if store.meta()["last"] - self.watermark <= TAIL_LIMIT:
            return
        entries, last = self._with_tail(store)
        while len(entries) - 1 > MOST_SMALL:
            sizes = [e["passages"] for e in entries]
            first = next(
                (i for i in range(1, len(entries) - 1) if sizes[i] <= sum(sizes[i + 1 :])), len(entries) - 2
            )
            entries = [*entries[:first], self._joined(entries, first, last)]
        self._name(store, entries, last)

    def _with_tail(self, store: Store) -> tuple[list[Entry], int]:
        """The segments with one more for all that came after the watermark; and the new watermark."""
        entries, mark, last = self.entries, self.watermark, store.meta()["last"]
        if last == mark:
            return entries, last
        added: dict[int, None] = {}
        gone: list[int] = []
        for _, op, row in store.ops(mark):
            if op == "add":
                added[row] = None
            elif row in added:
                del added[row]
            else:
                gone.append(row)
        entry = self._derived(store, _fetched(store, list(added)), gone, last, base=False)
        return [*entries, entry], last

    def _derived(
        self, store: Store, batches: Iterator[list[Row]], gone: list[int], last: int, *, base: bool
    ) -> Entry:
        analyzer = Analyzer.of(self.settings, self.manifest)
        entry = segments.derive(
            *(self.folder, self._number(), batches, store, self.settings, analyzer),
            watermark=last,
            gone=gone,
            base=base,
        )
        fault("derived")
        return entry

    def _joined(self, entries: list[Entry], first: int, last: int, *, base: bool = False) -> Entry:
        """One segment of all from number ``first`` on."""
        view = View(
            self.settings,
            Analyzer.of(self.settings, self.manifest),
            [segments.Part(self.folder, entry) for entry in entries],
            last,
        )
        dense = view.vectors() if base and self.settings.encoder else None
        entry = segments.join(
            *(self.folder, self._number(), view.parts[first:], view.kept(first), self.settings),
            watermark=last,
            dense=dense,
        )
        fault("derived")
        return entry

    def _fold_base(self, store: Store, *, rebuild: bool = False) -> None:
        """Make all segments one, and forget the log that it makes superfluous."""
        if rebuild:
            last = store.meta()["last"]
            entry = self._derived(store, store.scan(), [], last, base=True)
        else:
            entries, last = self._with_tail(store)
            entry = entries[0]
            if len(entries) > 1:
                entry = self._joined(entries, 0, last, base=True)
        self._name(store, [entry], last)
        store.begin()
        store.trim(last)
        store.commit()

    def _name(self, store: Store, entries: list[Entry], last: int) -> None:
        """Make segments the current ones, durably; then others go."""
        # Only what the manifest names may be needed, and the log may only be cut after that.
        self._seal({"watermark": last, "segments": entries}, store.meta()["documents"], {})
        self._drop()
        self._view = None

    def _number(self) -> int:
        return 1 + max((int(p.name[8:]) for p in self._folders()), default=0)

    def _relieve(self, store: Store) -> None:
        """Move a long write-ahead log into the database; the pages are noted first, for the seal."""
        log = store.path.with_name(DATABASE + "-wal")
        if log.stat().st_size > LOG_LIMIT:
            self._pages |= sums.logged(store.path)
            store.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _folders(self) -> list[Path]:
        return [p for p in self.folder.glob("derived-*") if p.is_dir() and p.name[8:].isdigit()]

    def _drop(self) -> None:
        """Remove derived folders that the manifest does not name."""
        current = {entry["folder"] for entry in self.entries}
        for path in self._folders():
            if path.name not in current:
                shutil.rmtree(path)

    def _sweep(self) -> None:
        """Remove what killed writers left, once the state of the folder is known to be good."""
        if all((self.folder / entry["folder"]).is_dir() for entry in self.entries):
            self._drop()
        for name in (MARKER, manifest.NAME, sums.SUMS):
            atomic.sweep(self.folder / name)
        for left in self.folder.glob(".derived-*.tmp-*"):
            shutil.rmtree(left, ignore_errors=True)


def _fetched(store: Store, rows: list[int]) -> Iterator[list[Row]]:
    for start in range(0, len(rows), _FETCHED):
        yield list(store.fetch(rows[start : start + _FETCHED]).values())


def take_over(folder: Path, timeout: float = 10.0) -> ExitStack:
    """The writer's lock of an index that is about to be replaced, damaged or not; empty where there is none."""
    stack = ExitStack()
    if (folder / ".lock").exists():
        stack.enter_context(locked(folder, timeout))
    elif folder.exists() and not folder.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(folder))
    return stack

"""The one writer of an index: lock, marker, transaction, derived files, checkpoint, seal, unmark; in that order.

Whenever the process dies, the folder is either closed or marked, every committed change is in the database, and the
manifest names a derived folder that is whole. Nothing is deleted before what replaces it is durable.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from nlpkit.search import folder as folders
from nlpkit.search.analyze import Analyzer
from nlpkit.search.derived import View
from nlpkit.search.folder import MARKER, Settings
from nlpkit.search.store import DATABASE, Store, connect, explained, fault, settle
from nlpkit.store import atomic, manifest
from nlpkit.store.lock import locked

TAIL_LIMIT = 256  # operations that are served by brute force before the derived files are written again


class Writer:
    """Holds the lock of a folder from the making until :meth:`close`."""

    def __init__(self, folder: Path, timeout: float = 10.0) -> None:
        self.folder = folder
        self._lock = ExitStack()
        manifest.read(folder, folders.KIND)  # no lock file is made in a folder that is no index
        self._lock.enter_context(locked(folder, timeout))
        try:
            self.manifest, state = folders.inspect(folder, full=True, i_write=True)
            self.settings = folders.settings(self.manifest)
            if state == "crashed":
                with self.change("recover"):
                    pass
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the lock; its file is left empty."""
        with suppress(OSError):
            os.truncate(self.folder / ".lock", 0)
        self._lock.close()

    @property
    def watermark(self) -> int:
        """The last operation that the derived files hold."""
        return int(self.manifest.notes["derived"]["watermark"])

    @contextmanager
    def change(self, command: str) -> Iterator[Store]:
        """One transaction: all of the block or nothing. It is durable when the block's ``with`` has ended."""
        self._sweep()
        folders.mark(self.folder, command)
        fault("marked")
        store = connect(self.folder)
        try:
            with explained(store.path):
                store.connection.execute("BEGIN IMMEDIATE")
                yield store
                fault("changed")
                store.connection.execute("COMMIT")
        except BaseException:
            # What went wrong is told; tidying up is tried, and otherwise left to the next writer.
            with suppress(Exception):
                self._abandon(store)
            raise
        fault("committed")
        entry = self.manifest.notes["derived"]
        try:
            with explained(store.path):
                if store.last() - self.watermark > TAIL_LIMIT:
                    entry = self._fold(store, rebuild=False)
        finally:
            self._close(store, entry)

    def compact(self, *, rebuild: bool = False) -> None:
        """Fold the tail, forget deleted documents, trim the log and give space back.

        ``rebuild`` derives everything from the documents without looking at the derived files that are there.
        """
        self._sweep()
        folders.mark(self.folder, "compact")
        store = connect(self.folder)
        try:
            with explained(store.path):
                entry = self._fold(store, rebuild=rebuild)
                # The log may only be cut after the manifest names derived files that no longer need it.
                self._seal(entry, store.meta("documents"), (0, ""))
                fault("folded")
                store.connection.execute("BEGIN IMMEDIATE")
                store.trim(self.watermark)
                store.connection.execute("COMMIT")
                fault("trimmed")
                store.connection.execute("VACUUM")
        except BaseException:
            with suppress(Exception):
                self._abandon(store)
            raise
        self._close(store, self.manifest.notes["derived"])

    def configure(self, settings: Settings) -> None:
        """Seal other settings; the documents stay as they are."""
        before, self.settings = self.settings, settings
        notes, known = self.manifest.notes, self.manifest.files[DATABASE]
        try:
            self._seal(notes["derived"], notes["documents"], known)
        except BaseException:
            self.settings = before
            raise

    def _fold(self, store: Store, *, rebuild: bool) -> dict[str, Any]:
        """Write new derived files; the entry that makes them current when it is sealed."""
        analyzer = Analyzer.of(self.settings, self.manifest)
        if rebuild:
            view = View.rebuild(store, self.settings, analyzer)
        else:
            view = View.load(self.folder, self.manifest, self.settings, analyzer)
            view.advance(store)
            view.fold(store, self.folder)
        number = 1 + max((int(p.name[8:]) for p in self._folders()), default=0)
        entry = view.write(self.folder, number)
        fault("derived")
        return entry

    def _abandon(self, store: Store) -> None:
        if store.connection.in_transaction:
            store.connection.execute("ROLLBACK")
        self._close(store, self.manifest.notes["derived"])

    def _close(self, store: Store, entry: dict[str, Any]) -> None:
        try:
            documents = store.meta("documents")
            settle(store)
            fault("settled")
            self._seal(entry, documents)
        finally:
            store.connection.close()
        fault("sealed")
        self._drop()  # before the mark goes, so that a closed folder never holds more than its seal says
        folders.unmark(self.folder)
        fault("unmarked")

    def _seal(self, entry: dict[str, Any], documents: int, known: tuple[int, str] | None = None) -> None:
        self.manifest = folders.seal(
            self.folder,
            self.settings,
            entry,
            documents=documents,
            recipe_hash=self.manifest.made_with["recipe"],
            generation=int(self.manifest.notes["generation"]) + 1,
            known=known,
        )

    def _folders(self) -> list[Path]:
        return [p for p in self.folder.glob("derived-*") if p.is_dir() and p.name[8:].isdigit()]

    def _drop(self) -> None:
        """Remove derived folders that the manifest does not name."""
        current = self.manifest.notes["derived"]["folder"]
        for path in self._folders():
            if path.name != current:
                shutil.rmtree(path)

    def _sweep(self) -> None:
        """Remove what killed writers left, once the state of the folder is known to be good."""
        current = self.folder / self.manifest.notes["derived"]["folder"]
        if current.is_dir():
            self._drop()
        for name in (MARKER, manifest.NAME):
            atomic.sweep(self.folder / name)
        for left in self.folder.glob(".derived-*.tmp-*"):
            shutil.rmtree(left, ignore_errors=True)


def take_over(folder: Path, timeout: float = 10.0) -> ExitStack:
    """The writer's lock of an index that is about to be replaced, damaged or not; empty where there is none."""
    stack = ExitStack()
    if (folder / ".lock").exists():
        stack.enter_context(locked(folder, timeout))
    elif folder.exists() and not folder.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(folder))
    return stack

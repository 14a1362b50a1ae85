"""How the record is opened: the one writer, and readers that no writer holds up. SQLite in WAL mode does the work.

A writer flushes each commit to the disk before it says so. A reader sees one moment of the database and nothing that
is committed meanwhile.
"""

import os
import signal
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nlpkit.errors import ArtifactError, DataError, DiskError, LockedError, NlpkitError
from nlpkit.search.store import DATABASE, TABLES, Store
from nlpkit.store.manifest import remedy

WAIT = 10.0  # seconds that a connection waits for another one's short lock


def fault(point: str) -> None:
    """A named moment at which the crash tests kill the process (``NLPKIT_FAULT=point``); nothing otherwise."""
    if os.environ.get("NLPKIT_FAULT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


def explain(error: sqlite3.Error, path: Path) -> NlpkitError:
    """What an error of SQLite means to a person."""
    text = str(error).lower()
    if isinstance(error, sqlite3.OperationalError):
        if "full" in text or "disk i/o" in text:
            return DiskError(f"{path}: {text}; free some space, then repeat the command (nothing is lost)")
        if "readonly" in text or "unable to open" in text:
            if not path.exists():
                return ArtifactError(f"{path}: missing; {remedy(path.parent)}")
            return DiskError(f"{path}: {text}; the folder has to be writable for this")
        if "locked" in text or "busy" in text:
            return LockedError(f"{path}: {text} by another process; wait for it to end")
    if isinstance(error, sqlite3.DataError) or "too big" in text:
        return DataError(f"{path}: {text}; split the document (SQLite holds up to 1 GB in one value)")
    return ArtifactError(f"{path}: damaged ({text}); nothing was changed; {remedy(path.parent)}")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into errors of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, path) from error
    except UnicodeDecodeError as error:  # what SQLite says of a damaged schema quotes its bytes
        raise ArtifactError(
            f"{path}: damaged ({error}); nothing was changed; {remedy(path.parent)}"
        ) from error


class _Gate:
    """Many readers, or one who is alone: reading the database as a plain file needs that nobody here has it open.

    Closing any handle of a file drops all POSIX locks that this process holds on it, SQLite's among them.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition(threading.RLock())
        self._inside: dict[int, int] = {}  # how often each thread is inside

    def enter(self, reader: "Reader") -> None:
        """Know a reader, whose idle connection may have to be closed."""
        with self._turn:
            _READERS.add(reader)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Among other readers."""
        me = threading.get_ident()
        with self._turn:
            self._inside[me] = self._inside.get(me, 0) + 1
        try:
            yield
        finally:
            with self._turn:
                self._inside[me] -= 1
                if not self._inside[me]:
                    del self._inside[me]
                    self._turn.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While no other thread is inside; idle connections of readers are closed first."""
        me = threading.get_ident()
        with self._turn:
            while any(thread != me for thread in self._inside):
                self._turn.wait()
            for reader in list(_READERS):
                reader.close()
            yield


_GATE = _Gate()
_READERS: "weakref.WeakSet[Reader]" = weakref.WeakSet()
alone = _GATE.alone


def create(folder: Path) -> Store:
    """A new database in a folder that is still being built, or the one that a killed build left there.

    Its commits survive the end of this process and leave a whole file after a power cut. The folder is flushed before
    it gets its name.
    """
    path = folder / DATABASE
    path.touch()  # a disk that refuses says why, which SQLite does not
    with explained(path):
        connection = sqlite3.connect(path, isolation_level=None, timeout=WAIT)
        try:
            fresh = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if fresh:
                connection.executescript(TABLES)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            connection.close()
            raise
    return Store(connection, path)


def connect(folder: Path) -> Store:
    """A connection that may write: write-ahead log, each commit flushed to the disk.

    The log is moved into the database only where :func:`checkpoint` says so, after its pages were noted.
    """
    path = folder / DATABASE
    with explained(path):
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA busy_timeout={int(WAIT * 1000)}")
            _set_journal(connection, "wal")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_autocheckpoint=0")
        except BaseException:
            connection.close()
            raise
    return Store(connection, path)


def _set_journal(connection: sqlite3.Connection, mode: str) -> bool:
    """Change the journal mode; readers hold the needed lock for milliseconds, and SQLite does not wait by itself."""
    deadline = time.monotonic() + (WAIT if mode == "wal" else 1.0)
    while True:
        try:
            if connection.execute(f"PRAGMA journal_mode={mode}").fetchone()[0] == mode:
                return True
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or (time.monotonic() >= deadline and mode == "wal"):
                raise
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)


def settle(store: Store) -> None:
    """Move the write-ahead log into the database and close it, so that one file holds everything."""
    with explained(store.path):
        deadline = time.monotonic() + WAIT
        while store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"{store.path}: a reader holds it; the next writer finishes (nothing is lost)"
                )
            time.sleep(0.01)
        fault("checkpointed")
        # Rollback mode lets readers open the closed file without making files beside it; where one of them is in
        # the way the empty write-ahead log simply stays.
        _set_journal(store.connection, "delete")
        store.connection.close()


class Reader:
    """A connection for reading that is kept from one snapshot to the next while the index is closed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / DATABASE
        self._connection: sqlite3.Connection | None = None
        self._log = self.path.with_name(self.path.name + "-wal")
        _GATE.enter(self)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def snapshot(self) -> Iterator[Store]:
        """A read-only view of one moment; no writer is held up by it."""
        with _GATE.shared(), explained(self.path):
            # An open connection in WAL mode keeps the writer from ending that mode, so only others are kept.
            if self._connection is None or self._log.exists():
                self.close()
                connection = _open(self.path, self._log)
            else:
                connection, self._connection = self._connection, None
                _begin(connection)
            keep = False
            try:
                yield Store(connection, self.path)
                connection.execute("ROLLBACK")
                keep = not self._log.exists()
            finally:
                if keep:
                    self._connection = connection
                else:
                    connection.close()


@contextmanager
def snapshot(folder: Path) -> Iterator[Store]:
    """A single read-only view of one moment."""
    reader = Reader(folder)
    try:
        with reader.snapshot() as store:
            yield store
    finally:
        reader.close()


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the snapshot begins here


def _open(path: Path, log: Path) -> sqlite3.Connection:
    last: sqlite3.Error | None = None
    for option in ("mode=ro", "mode=ro&immutable=1"):
        if "immutable" in option and log.exists() and log.stat().st_size:
            break  # a write-ahead log that cannot be read here holds documents: do not answer without them
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?{option}",
            uri=True,
            isolation_level=None,
            timeout=WAIT,
            check_same_thread=False,
        )
        try:
            _begin(connection)
            return connection
        except UnicodeDecodeError:
            connection.close()
            raise
        except sqlite3.OperationalError as error:
            connection.close()
            if "unable to open" not in str(error) and "readonly" not in str(error):
                raise
            last = error
    assert last is not None
    raise last

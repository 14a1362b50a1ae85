"""The store of record of an index: ``documents.sqlite``. Every row carries a checksum that each reading verifies.

Tables: ``documents`` (row, id, title, text, fields as JSON, vector as little-endian float32 (D), sum), ``oplog``
(seq, op, row, sum), one line a change, written in the same transaction as the change, and ``meta`` (key, value,
sum). Row and operation numbers only grow and are never used twice. D is the width of a vector.
"""

import hashlib
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit.errors import ArtifactError, DataError, DiskError, LockedError, NlpkitError
from nlpkit.store.manifest import remedy

DATABASE = "documents.sqlite"
WAIT = 10.0  # seconds that a connection waits for another one's short lock
# Closing any handle of a file drops all POSIX locks that this process holds on it, SQLite's among them; so the file
# is never hashed while a snapshot of it is open in another thread.
EXCLUSIVE = threading.RLock()
_TABLES = """
CREATE TABLE documents(row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL,
                       text TEXT NOT NULL, fields TEXT NOT NULL, vector BLOB, sum BLOB NOT NULL);
CREATE TABLE oplog(seq INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT NOT NULL, row INTEGER NOT NULL, sum BLOB NOT NULL);
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, sum BLOB NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = "row, id, title, text, fields, vector, sum"


def fault(point: str) -> None:
    """A named moment at which the crash tests kill the process (``NLPKIT_FAULT=point``); nothing otherwise."""
    if os.environ.get("NLPKIT_FAULT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Row:
    """One stored document; ``vector`` is (D,) float32, or None in an index without a model."""

    row: int
    id: str
    title: str
    text: str
    fields: dict[str, Any]
    vector: np.ndarray | None


def checksum(*parts: Any) -> bytes:
    """16 bytes of BLAKE2b over the parts of a row, each with its type and length before it.

    >>> checksum(1, "ab") == checksum(1, "a", "b")
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part if isinstance(part, bytes) else b"" if part is None else str(part).encode()
        digest.update(f"{type(part).__name__}{len(raw)}:".encode())
        digest.update(raw)
    return digest.digest()


def clean(text: str) -> str:
    """``text`` without lone surrogates, which UTF-8 cannot hold (JSON escapes can make them).

    >>> clean(chr(0xD800) + "a")
    '?a'
    """
    return text.encode("utf-8", "replace").decode()


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


class Store:
    """One connection to the database, inside one transaction or snapshot."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection, self.path = connection, path
        self._used: dict[str, int] = {}  # the last number of a table, read when the first is needed

    # Reading

    def _damaged(self, what: str) -> ArtifactError:
        return ArtifactError(f"{self.path}: {what}; nothing was changed; {remedy(self.path.parent)}")

    def _row(self, raw: tuple[Any, ...]) -> Row:
        number, name, title, text, fields, vector, total = raw
        if checksum(number, name, title, text, fields, vector) != total:
            raise self._damaged(f"row {number} is damaged (checksum differs)")
        unpacked = None if vector is None else np.frombuffer(vector, "<f4")
        return Row(number, name, title, text, json.loads(fields), unpacked)

    def meta(self, key: str) -> int:
        """A number of the ``meta`` table: ``documents`` (how many) or ``trimmed`` (last dropped operation)."""
        found = self.connection.execute("SELECT value, sum FROM meta WHERE key = ?", (key,)).fetchone()
        if found is None or checksum(key, found[0]) != found[1]:
            raise self._damaged(f"{key!r} of table meta is missing or damaged")
        return int(found[0])

    def last(self) -> int:
        """The number of the latest operation."""
        found = self.connection.execute("SELECT max(seq) FROM oplog").fetchone()[0]
        return int(found) if found is not None else self.meta("trimmed")

    def ops(self, after: int) -> Iterator[tuple[int, str, int]]:
        """The operations after number ``after``: (seq, "add" or "delete", row), in order."""
        if after < self.meta("trimmed"):
            raise self._damaged(f"operations after {after} are gone from the log")
        expected = after + 1
        query = "SELECT seq, op, row, sum FROM oplog WHERE seq > ? ORDER BY seq"
        for seq, op, row, total in self.connection.execute(query, (after,)):
            if checksum(seq, op, row) != total or seq != expected:
                raise self._damaged(f"operation {expected} of the log is missing or damaged")
            expected += 1
            yield seq, op, row

    def fetch(self, rows: Iterable[int]) -> dict[int, Row]:
        """The documents of these rows; a missing or damaged one is an ArtifactError."""
        found: dict[int, Row] = {}
        for row in rows:
            raw = self.connection.execute(f"SELECT {_COLUMNS} FROM documents WHERE row = ?", (int(row),))
            one = raw.fetchone()
            if one is None or one[0] != row:
                raise self._damaged(f"row {row} is missing")
            found[int(row)] = self._row(one)
        return found

    def scan(self, size: int = 1000) -> Iterator[list[Row]]:
        """All documents by row, ``size`` at a time."""
        cursor = self.connection.execute(f"SELECT {_COLUMNS} FROM documents ORDER BY row")
        while batch := cursor.fetchmany(size):
            yield [self._row(raw) for raw in batch]

    def find(self, ids: Iterable[str]) -> dict[str, int]:
        """The row of each id that is there."""
        found = {}
        for name in ids:
            one = self.connection.execute("SELECT row FROM documents WHERE id = ?", (name,)).fetchone()
            if one is not None:
                found[name] = int(one[0])
        return found

    def problems(self) -> Iterator[str]:
        """Everything that is wrong inside, one line each: structure, then every row's checksum."""
        try:
            for (line,) in self.connection.execute("PRAGMA integrity_check"):
                if line != "ok":
                    yield f"{self.path}: {line}"
            count = 0
            for raw in self.connection.execute(f"SELECT {_COLUMNS} FROM documents ORDER BY row"):
                count += 1
                if checksum(*raw[:-1]) != raw[-1]:
                    yield f"{self.path}: row {raw[0]} is damaged (checksum differs)"
            for _ in self.ops(self.meta("trimmed")):
                pass
            numbers = dict(self.connection.execute("SELECT name, seq FROM sqlite_sequence"))
            highest = self.connection.execute(
                "SELECT max(coalesce((SELECT max(row) FROM documents), 0), coalesce((SELECT max(row) FROM oplog), 0))"
            ).fetchone()[0]
            if numbers.get("documents", 0) < highest or numbers.get("oplog", 0) < self.last():
                yield f"{self.path}: row numbers would be used twice (sqlite_sequence is damaged)"
            if count != self.meta("documents"):
                yield f"{self.path}: {count} rows, {self.meta('documents')} were written"
        except (sqlite3.Error, ArtifactError, ValueError) as error:
            text = str(error)
            yield text if text.startswith(str(self.path)) else f"{self.path}: damaged ({text})"

    # Writing

    def set_meta(self, key: str, value: int) -> None:
        """Write a number of the ``meta`` table."""
        self.connection.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, str(value), checksum(key, str(value)))
        )

    def _next(self, table: str) -> int:
        """A number that was never used: known before the row is written, for its checksum holds it."""
        if table not in self._used:
            query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
            found = self.connection.execute(query, (table,)).fetchone()
            self._used[table] = found[0] if found else 0
        self._used[table] += 1
        return self._used[table]

    def _log(self, op: str, row: int) -> None:
        seq = self._next("oplog")
        self.connection.execute(
            "INSERT INTO oplog VALUES (?, ?, ?, ?)", (seq, op, row, checksum(seq, op, row))
        )

    def insert(
        self, name: str, title: str, text: str, fields: Mapping[str, Any], vector: np.ndarray | None
    ) -> int:
        """Add a document under a new row number, which is returned; the caller keeps ids unique."""
        packed = clean(json.dumps(dict(fields), ensure_ascii=False, default=str))
        blob = None if vector is None else np.ascontiguousarray(vector, "<f4").tobytes()
        row = self._next("documents")
        total = checksum(row, name, title, text, packed, blob)
        self.connection.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
            (row, name, title, text, packed, blob, total),
        )
        self._log("add", row)
        self.set_meta("documents", self.meta("documents") + 1)
        return row

    def remove(self, rows: Sequence[int]) -> None:
        """Delete documents by row."""
        for row in rows:
            self.connection.execute("DELETE FROM documents WHERE row = ?", (row,))
            self._log("delete", row)
        self.set_meta("documents", self.meta("documents") - len(rows))

    def trim(self, upto: int) -> None:
        """Drop operations up to and with number ``upto`` from the log."""
        self.connection.execute("DELETE FROM oplog WHERE seq <= ?", (upto,))
        self.set_meta("trimmed", max(upto, self.meta("trimmed")))


def create(folder: Path) -> Store:
    """A new database in a folder that is still being built, inside its first transaction.

    Nothing is synced here: the whole folder is flushed before it gets its name.
    """
    path = folder / DATABASE
    with explained(path):
        connection = sqlite3.connect(path, isolation_level=None, timeout=WAIT)
        try:
            connection.execute("PRAGMA journal_mode=MEMORY")
            connection.execute("PRAGMA synchronous=OFF")
            connection.executescript(_TABLES)
            connection.execute("BEGIN")
            store = Store(connection, path)
            store.set_meta("documents", 0)
            store.set_meta("trimmed", 0)
        except BaseException:
            connection.close()
            raise
    return store


def connect(folder: Path) -> Store:
    """A connection that may write: write-ahead log, each commit flushed to the disk."""
    path = folder / DATABASE
    with explained(path):
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None)
        try:
            connection.execute(f"PRAGMA busy_timeout={int(WAIT * 1000)}")
            _set_journal(connection, "wal")
            connection.execute("PRAGMA synchronous=FULL")
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


@contextmanager
def snapshot(folder: Path) -> Iterator[Store]:
    """A read-only view of one moment: nothing that a writer commits meanwhile is seen, no writer is held up."""
    path = folder / DATABASE
    with EXCLUSIVE, explained(path):
        store = Store(_open_reader(path), path)
        try:
            yield store
        finally:
            store.connection.close()


def _open_reader(path: Path) -> sqlite3.Connection:
    log = path.with_name(path.name + "-wal")
    last: sqlite3.Error | None = None
    for option in ("mode=ro", "mode=ro&immutable=1"):
        if "immutable" in option and log.exists() and log.stat().st_size:
            break  # a write-ahead log that cannot be read here holds documents: do not answer without them
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?{option}", uri=True, isolation_level=None, timeout=WAIT
        )
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the snapshot begins here
            return connection
        except sqlite3.OperationalError as error:
            connection.close()
            if "unable to open" not in str(error) and "readonly" not in str(error):
                raise
            last = error
    assert last is not None
    raise last

"""The record of an index, ``documents.sqlite``: what is written here cannot be made again from anything else.

``documents`` (row, id, title, fields as JSON, text, spans, keys, sum): ``spans`` are the character offsets of the
passages, pairs of little-endian int32, empty where the whole document is the one passage; ``keys`` the content hashes
of what was embedded of them, 16 bytes each, empty without a model. ``embeddings`` (number, key, vector as float32 (D),
sum): vectors by content hash, so that equal text is embedded once. ``oplog`` (seq, op, row, sum): one line a change,
written in the same transaction. ``meta`` (key, value, sum): how many documents there are and the last numbers used, so
that a lost row or operation is damage and never a silent miss. Every row has a checksum that each reading verifies.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit.errors import ArtifactError
from nlpkit.store.manifest import remedy

DATABASE = "documents.sqlite"
PAGE = 8192  # bytes; a page of vectors of width 384 is full but for a few bytes
KEY = 16  # bytes of a content hash
TABLES = f"""
PRAGMA page_size={PAGE};
BEGIN;
CREATE TABLE documents(row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, fields TEXT NOT NULL,
                       text TEXT NOT NULL, spans BLOB NOT NULL, keys BLOB NOT NULL, sum BLOB NOT NULL);
CREATE TABLE embeddings(number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, vector BLOB NOT NULL, sum BLOB NOT NULL);
CREATE TABLE oplog(seq INTEGER PRIMARY KEY, op TEXT NOT NULL, row INTEGER NOT NULL, sum BLOB NOT NULL);
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, sum BLOB NOT NULL) WITHOUT ROWID;
COMMIT;
"""
META = (
    "documents",
    "row",
    "last",
    "trimmed",
)  # how many; highest row, last operation, last dropped operation
_COLUMNS = "row, id, title, fields, text, spans, keys, sum"
_ASKED = 500  # values of one IN (…)


@dataclass(frozen=True, slots=True)
class Row:
    """One stored document. ``spans`` (P, 2) are offsets into ``text``; ``keys`` are P hashes end to end, or empty."""

    row: int
    id: str
    title: str
    fields: dict[str, Any]
    text: str
    spans: np.ndarray
    keys: bytes


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


def content_key(passage: str) -> bytes:
    """The hash that names what was embedded.

    >>> content_key("a") == content_key("a"), len(content_key("b"))
    (True, 16)
    """
    return hashlib.blake2b(passage.encode(), digest_size=KEY).digest()


def clean(text: str) -> str:
    """``text`` without lone surrogates, which UTF-8 cannot hold (JSON escapes can make them).

    >>> clean(chr(0xD800) + "a")
    '?a'
    """
    return text.encode("utf-8", "replace").decode()


def packed(fields: Mapping[str, Any]) -> str:
    """Fields as they are stored."""
    return clean(json.dumps(dict(fields), ensure_ascii=False, default=str))


class Store:
    """One connection to the record, inside one transaction or snapshot."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection, self.path = connection, path
        self._meta: dict[str, int] = {}  # inside a writing transaction: its numbers so far

    def damaged(self, what: str) -> ArtifactError:
        """The error of damage found in this database."""
        return ArtifactError(f"{self.path}: {what}; nothing was changed; {remedy(self.path.parent)}")

    # Reading

    def _row(self, raw: tuple[Any, ...]) -> Row:
        number, name, title, fields, text, spans, keys, total = raw
        if checksum(number, name, title, fields, text, spans, keys) != total:
            raise self.damaged(f"row {number} is damaged (checksum differs)")
        offsets = np.frombuffer(spans, "<i4").reshape(-1, 2)
        return Row(number, name, title, json.loads(fields), text, offsets, keys)

    def meta(self) -> dict[str, int]:
        """The numbers of :data:`META`, checked."""
        if self._meta:
            return self._meta
        found = {}
        for key, value, total in self.connection.execute("SELECT key, value, sum FROM meta"):
            if checksum(key, value) != total:
                raise self.damaged(f"{key!r} of table meta is damaged")
            found[str(key)] = int(value)
        if set(found) != set(META):
            raise self.damaged("a number of table meta is missing")
        return found

    def ops(self, after: int) -> Iterator[tuple[int, str, int]]:
        """The operations after number ``after``: (seq, "add" or "delete", row), in order and none missing."""
        numbers = self.meta()
        if after < numbers["trimmed"]:
            raise self.damaged(f"operations after {after} are gone from the log")
        expected = after + 1
        query = "SELECT seq, op, row, sum FROM oplog WHERE seq > ? ORDER BY seq"
        for seq, op, row, total in self.connection.execute(query, (after,)):
            if checksum(seq, op, row) != total or seq != expected:
                raise self.damaged(f"operation {expected} of the log is missing or damaged")
            expected += 1
            yield seq, op, row
        if expected != numbers["last"] + 1:
            raise self.damaged(f"operation {expected} of the log is missing")

    def fetch(self, rows: Iterable[int]) -> dict[int, Row]:
        """The documents of these rows; a missing or damaged one is an ArtifactError."""
        found: dict[int, Row] = {}
        query = f"SELECT {_COLUMNS} FROM documents WHERE row = ?"
        for row in rows:
            one = self.connection.execute(query, (int(row),)).fetchone()
            if one is None or one[0] != row:
                raise self.damaged(f"row {row} is missing")
            found[int(row)] = self._row(one)
        return found

    def scan(self, size: int = 1000, after: int = 0) -> Iterator[list[Row]]:
        """All documents by row, ``size`` at a time; others may be written meanwhile on this connection."""
        query = f"SELECT {_COLUMNS} FROM documents WHERE row > ? ORDER BY row LIMIT ?"
        while batch := self.connection.execute(query, (after, size)).fetchall():
            made = [self._row(raw) for raw in batch]
            yield made
            after = made[-1].row

    def find(self, ids: Sequence[str]) -> dict[str, int]:
        """The row of each id that is there, by the table's own index."""
        found: dict[str, int] = {}
        for start in range(0, len(ids), _ASKED):
            some = list(ids[start : start + _ASKED])
            marks = ",".join("?" * len(some))
            found.update(
                self.connection.execute(
                    f"SELECT id, row FROM documents WHERE id IN ({marks})", some
                ).fetchall()
            )
        return found

    def exists(self, row: int) -> str | None:
        """The id of a row, or None where there is none."""
        found = self.connection.execute("SELECT id FROM documents WHERE row = ?", (int(row),)).fetchone()
        return None if found is None else str(found[0])

    def embedded(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the content hashes that have a vector."""
        found: set[bytes] = set()
        for start in range(0, len(keys), _ASKED):
            some = list(keys[start : start + _ASKED])
            marks = ",".join("?" * len(some))
            query = f"SELECT key FROM embeddings WHERE key IN ({marks})"
            found.update(raw[0] for raw in self.connection.execute(query, some))
        return found

    def vectors(self, keys: bytes, width: int) -> np.ndarray:
        """The vectors (N, D) float32 of N hashes end to end, each compared with its checksum."""
        wanted = [keys[at : at + KEY] for at in range(0, len(keys), KEY)]
        distinct = list(dict.fromkeys(wanted))
        found: dict[bytes, bytes] = {}
        for start in range(0, len(distinct), _ASKED):
            some = distinct[start : start + _ASKED]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, vector, sum FROM embeddings WHERE key IN ({marks})"
            for key, vector, total in self.connection.execute(query, some):
                if checksum(key, vector) != total or len(vector) != 4 * width:
                    raise self.damaged(f"the vector of passage {key.hex()} is damaged (checksum differs)")
                found[key] = vector
        if len(found) != len(distinct):
            missing = next(key for key in distinct if key not in found)
            raise self.damaged(f"the vector of passage {missing.hex()} is missing")
        return np.frombuffer(b"".join([found[key] for key in wanted]), "<f4").reshape(-1, width)

    def problems(self) -> Iterator[str]:
        """Everything that is wrong inside, one line each: structure, then every row's checksum."""
        try:
            for (line,) in self.connection.execute("PRAGMA integrity_check"):
                if line != "ok":
                    yield f"{self.path}: {line}"
            count = highest = 0
            keys: set[bytes] = set()
            for raw in self.connection.execute(f"SELECT {_COLUMNS} FROM documents ORDER BY row"):
                count, highest = count + 1, raw[0]
                if checksum(*raw[:-1]) != raw[-1]:
                    yield f"{self.path}: row {raw[0]} is damaged (checksum differs)"
                    continue
                keys.update(raw[6][at : at + KEY] for at in range(0, len(raw[6]), KEY))
            query = "SELECT number, key, vector, sum FROM embeddings"
            for number, key, vector, total in self.connection.execute(query):
                if checksum(key, vector) != total:
                    yield f"{self.path}: vector {number} is damaged (checksum differs)"
                keys.discard(key)
            if keys:
                yield f"{self.path}: {len(keys)} vectors are missing"
            numbers = self.meta()
            for _, _, row in self.ops(numbers["trimmed"]):
                highest = max(highest, row)
            if numbers["row"] < highest:
                yield f"{self.path}: row numbers would be used twice (row {highest} is beyond the last)"
            if count != numbers["documents"]:
                yield f"{self.path}: {count} rows, {numbers['documents']} were written"
        except (sqlite3.Error, ArtifactError, ValueError) as error:
            text = str(error)
            yield text if text.startswith(str(self.path)) else f"{self.path}: damaged ({text})"

    # Writing

    def begin(self) -> None:
        """Begin a transaction that writes."""
        self.connection.execute("BEGIN IMMEDIATE")
        self._meta = dict(self.meta())

    def commit(self) -> None:
        """Write the numbers and end the transaction: durable when this returns, as far as the connection says."""
        self._put_meta(self._meta)
        self.connection.execute("COMMIT")
        self._meta = {}

    def rollback(self) -> None:
        """Give the transaction up."""
        self._meta = {}
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def _put_meta(self, numbers: Mapping[str, int]) -> None:
        self.connection.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)",
            [(key, str(value), checksum(key, str(value))) for key, value in numbers.items()],
        )

    def clear(self) -> None:
        """No documents and no operations; the vectors stay."""
        for table in ("documents", "oplog"):
            self.connection.execute(f"DELETE FROM {table}")
        self._meta = dict.fromkeys(META, 0)
        self._put_meta(self._meta)

    def _log(self, op: str, row: int) -> None:
        self._meta["last"] += 1
        seq = self._meta["last"]
        self.connection.execute(
            "INSERT INTO oplog VALUES (?, ?, ?, ?)", (seq, op, row, checksum(seq, op, row))
        )

    def insert(
        self, name: str, title: str, text: str, fields: str, spans: bytes = b"", keys: bytes = b""
    ) -> int:
        """Add a document under a new row number, which is returned; the caller keeps ids unique.

        ``fields`` is what :func:`packed` made of them.
        """
        self._meta["row"] += 1
        self._meta["documents"] += 1
        row = self._meta["row"]
        total = checksum(row, name, title, fields, text, spans, keys)
        self.connection.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (row, name, title, fields, text, spans, keys, total),
        )
        self._log("add", row)
        return row

    def remove(self, rows: Sequence[int]) -> None:
        """Delete documents by row."""
        for row in rows:
            self.connection.execute("DELETE FROM documents WHERE row = ?", (row,))
            self._log("delete", row)
        self._meta["documents"] -= len(rows)

    def embed(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keep the vectors (N, D) of N content hashes that have none."""
        blobs = [row.tobytes() for row in np.ascontiguousarray(vectors, "<f4")]
        self.connection.executemany(
            "INSERT INTO embeddings(key, vector, sum) VALUES (?, ?, ?)",
            [(key, blob, checksum(key, blob)) for key, blob in zip(keys, blobs, strict=True)],
        )

    def trim(self, upto: int) -> None:
        """Drop operations up to and with number ``upto`` from the log."""
        self.connection.execute("DELETE FROM oplog WHERE seq <= ?", (upto,))
        self._meta["trimmed"] = max(upto, self._meta["trimmed"])

    def forget(self) -> int:
        """Drop vectors that no document refers to; how many."""
        parts = [np.empty(0, "<u8")]
        for (keys,) in self.connection.execute("SELECT keys FROM documents WHERE length(keys) > 0"):
            parts.append(
                np.frombuffer(keys, "<u8")[::2]
            )  # half a hash tells enough: at worst one too many stays
        used = np.unique(np.concatenate(parts))
        count = 0
        cursor = self.connection.execute("SELECT number, key FROM embeddings")
        unused: list[tuple[int]] = []
        while some := cursor.fetchmany(10_000):
            heads = np.frombuffer(b"".join(key for _, key in some), "<u8")[::2]
            unused += [(some[i][0],) for i in np.flatnonzero(~np.isin(heads, used))]
        count = len(unused)
        self.connection.executemany("DELETE FROM embeddings WHERE number = ?", unused)
        return count

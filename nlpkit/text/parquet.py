"""Parquet: its rows as records, and records as its rows. Needs pyarrow; nothing of it is imported before it is used.

Both ways stream: reading holds a batch of rows, writing a block of records, whatever the size of the file. A Parquet
file says its columns' types before its first row, and records say theirs only as they come, so writing puts the
records aside (as JSON lines in an unnamed temporary file) until all of them have been seen.

What JSON lacks becomes what JSON has: dates and times ISO 8601 text, decimals text, NaN and infinities null, bytes
the text they spell in UTF-8. A field that a record lacks is null in its row.
"""

import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from shutil import copyfileobj
from typing import IO, Any

from nlpkit.errors import DataError, UsageError
from nlpkit.text.compression import reading
from nlpkit.text.documents import Counts, Source

MAGIC = b"PAR1"
_ROWS = 256  # of a batch that is read
_BUFFER = 1 << 20  # bytes that are read at once of each column
_BLOCK = 1 << 22  # bytes of JSON lines that are a row group


def _arrow() -> Any:
    """pyarrow with its Parquet part, or one line that says how to get it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise UsageError("Parquet needs pyarrow; run: pip install 'nlpkit[parquet]'") from error
    return pyarrow


def read_rows(
    source: Source, text_field: str, errors: str, counts: Counts
) -> Iterator[tuple[dict[str, Any], str]]:
    """``(record, "file:row")`` of each row, rows counted from 1.

    :raises UsageError: no pyarrow. :raises DataError: damaged, not Parquet, or ``text_field`` is not of text.
    """
    with _opened(source) as file:
        schema = file.schema_arrow
        _check_names(schema.names, source)
        at = schema.get_field_index(text_field)
        if at >= 0 and not _is_text(schema.field(at).type):
            raise DataError(
                f"{source.name}:1: field {text_field!r} is not text but {schema.field(at).type}; name another "
                "with --text-field"
            )
        number = 0
        batches = file.iter_batches(batch_size=_ROWS)
        while True:
            with _watched(source):
                batch = next(batches, None)
                if batch is None:
                    return
                held = [_values(column) for column in batch.columns]
            for row in zip(*held, strict=True):
                number += 1
                where = f"{source.name}:{number}"
                reader = _Plain(where, errors, counts)
                record = {name: reader(value) for name, value in zip(schema.names, row, strict=True)}
                if reader.bad:
                    counts.dropped += 1
                else:
                    yield record, where


def columns(source: Source) -> list[str]:
    """The names of a file's columns."""
    with _opened(source) as file:
        _check_names(file.schema_arrow.names, source)
        return list(file.schema_arrow.names)


def _check_names(names: list[str], source: Source) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{source.name}: the column {twice[:40]!r} stands twice; rename one")


def _is_text(kind: Any) -> bool:
    types = _arrow().types
    if types.is_dictionary(kind):
        kind = kind.value_type
    said = (
        types.is_string, types.is_large_string, types.is_binary, types.is_large_binary,
        types.is_fixed_size_binary, types.is_string_view, types.is_binary_view, types.is_null,
    )  # fmt: skip
    return any(says(kind) for says in said)


def _values(column: Any) -> list[Any]:
    """A column as Python values; text as bytes, since nobody has looked yet whether it is UTF-8."""
    arrow = _arrow()
    if arrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_text(column.type) and not arrow.types.is_null(column.type):
        column = column.cast(arrow.large_binary())
    return list(column.to_pylist())


class _Plain:
    """Values of one row as JSON knows them; ``bad`` when the row is to be dropped (not UTF-8, ``skip``)."""

    def __init__(self, where: str, errors: str, counts: Counts) -> None:
        self.where, self.errors, self.counts, self.bad = where, errors, counts, False

    def __call__(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return self._decoded(value)
        if value is None or isinstance(value, str | bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, list | tuple):
            return [self(part) for part in value]
        if isinstance(value, dict):
            return {str(name): self(part) for name, part in value.items()}
        if isinstance(value, timedelta):
            return value.total_seconds()
        return value.isoformat() if hasattr(value, "isoformat") else str(value)

    def _decoded(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.errors == "strict":
                raise DataError(
                    f"{self.where}: byte {raw[error.start]:#04x} at {error.start + 1} is not UTF-8; mend it or "
                    "pass --errors replace"
                ) from error
            self.bad = self.errors == "skip"
            text = raw.decode("utf-8", "replace")
            if not self.bad:
                self.counts.replaced += text.count("�") - raw.count(b"\xef\xbf\xbd")
            return text


@contextmanager
def _watched(source: Source) -> Iterator[None]:
    """Turns what pyarrow says about a broken file into one line."""
    arrow = _arrow()
    try:
        yield
    except (arrow.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the file
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise DataError(
            f"{source.name}: damaged or not Parquet ({reason}); restore it from its source"
        ) from error


@contextmanager
def _opened(source: Source) -> Iterator[Any]:
    """An open ``ParquetFile``.

    It must lie on a disk to be read from its end; a pipe or a compressed file is copied there first.
    """
    arrow = _arrow()
    with ExitStack() as held:
        file: Any = None
        if source.path is not None and source.path.is_file():
            file = held.enter_context(open(source.path, "rb"))
            if file.read(len(MAGIC)) != MAGIC:
                file = None
        if file is None:
            file = held.enter_context(tempfile.TemporaryFile(prefix="nlpkit-"))
            with reading(source.path) as stream:
                copyfileobj(stream, file)
        file.seek(0)
        with _watched(source):
            made = arrow.parquet.ParquetFile(
                file, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
            )
        yield made


class ParquetWriter:
    """Records to a Parquet file, which is written by :meth:`close`.

    Each column gets the type that holds all its values: whole numbers with fractions become fractions.
    """

    def __init__(self, file: IO[bytes], text_field: str) -> None:
        self._arrow = _arrow()
        self._file, self._text_field = file, text_field
        self._aside = tempfile.TemporaryFile(prefix="nlpkit-")
        self._block: list[bytes] = []
        self._waiting = self._before = 0
        self._kinds: dict[str, Any] = {}  # type of each column so far

    def write(self, line: bytes) -> None:
        """Add a record, as one line of JSON."""
        self._block.append(line)
        self._waiting += len(line)
        if self._waiting >= _BLOCK:
            self._settle()

    def _settle(self) -> None:
        """Put the block aside and learn its types."""
        records = [json.loads(line) for line in self._block]
        for name in dict.fromkeys(name for record in records for name in record):
            made = self._array(name, [record.get(name) for record in records], None)
            known = self._kinds.get(name)
            try:
                self._kinds[name] = made.type if known is None else self._either(known, made.type)
            except self._arrow.ArrowException as error:
                raise self._mixed(name, f"{known} before, now {made.type}") from error
        self._aside.write(len(self._block).to_bytes(8, "little"))
        self._aside.write(self._waiting.to_bytes(8, "little"))
        self._aside.writelines(self._block)
        self._before += len(self._block)
        self._block, self._waiting = [], 0

    def _either(self, one: Any, other: Any) -> Any:
        """The type that holds both."""
        schemas = [self._arrow.schema([("x", kind)]) for kind in (one, other)]
        return self._arrow.unify_schemas(schemas, promote_options="permissive").field("x").type

    def _array(self, name: str, values: list[Any], kind: Any) -> Any:
        try:
            return self._arrow.array(values, kind)
        except (self._arrow.ArrowException, OverflowError, TypeError) as error:
            raise self._mixed(name, " ".join(str(error).split())[:160].rstrip(".")) from error

    def _mixed(self, name: str, why: str) -> DataError:
        return DataError(
            f"field {name[:40]!r} of the records after the {self._before:,}th does not fit a Parquet column "
            f"({why}); write jsonl (-o NAME.jsonl)"
        )

    def close(self) -> None:
        """Write the file."""
        arrow = self._arrow
        if self._block:
            self._settle()
        if not self._kinds:
            self._kinds = {self._text_field: arrow.string()}
        self._before = 0
        schema = arrow.schema(list(self._kinds.items()))
        self._aside.seek(0)
        try:
            with arrow.parquet.ParquetWriter(
                self._file, schema, compression="zstd", write_page_checksum=True
            ) as out:
                while head := self._aside.read(16):
                    lines = self._aside.read(int.from_bytes(head[8:], "little")).splitlines()
                    records = [json.loads(line) for line in lines]
                    arrays = [
                        self._array(name, [r.get(name) for r in records], kind)
                        for name, kind in self._kinds.items()
                    ]
                    out.write_table(arrow.Table.from_arrays(arrays, schema=schema))
                    self._before += len(records)
        except arrow.ArrowNotImplementedError as error:  # such as an object without fields
            raise DataError(f"{error}; write jsonl (-o NAME.jsonl)") from error
        self._aside.close()

    def __del__(self) -> None:  # work that fails leaves nothing behind either
        if hasattr(self, "_aside"):
            self._aside.close()

"""Records: jsonl, csv (RFC 4180 quoting), tsv (no quoting) and Parquet, read and written.

Every complaint about a record names file:line (in Parquet file:row).
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nlpkit import console
from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.store import atomic
from nlpkit.text.compression import compressed, reading
from nlpkit.text.documents import (
    LIMIT,
    Counts,
    Document,
    Source,
    decoded_lines,
    format_of,
    without_surrogates,
)

if TYPE_CHECKING:
    from nlpkit.text.parquet import ParquetWriter

Record = dict[str, Any]


def read_records(
    source: Source, text_field: str = "text", errors: str = "replace", counts: Counts | None = None
) -> Iterator[tuple[Record, str]]:
    """``(record, "file:line")`` of a jsonl, csv, tsv or Parquet source; every record has text under ``text_field``.

    With an empty ``text_field`` nothing is asked of a record.

    :raises DataError: a record that is not one, or that has no text.
    """
    mine = counts or Counts()
    for record, where in _records(source, text_field, errors, mine):
        text = record.get(text_field) if text_field else ""
        if not isinstance(text, str):
            if text_field in record:
                kind = "null" if text is None else type(text).__name__
                raise DataError(f"{where}: field {text_field!r} is not text but {kind}")
            known = did_you_mean(text_field, map(str, record))
            raise DataError(f"{where}: no field {text_field!r}{known} (name it with --text-field)")
        yield record, where
    if counts is None:
        mine.report()


def _records(source: Source, text_field: str, errors: str, counts: Counts) -> Iterator[tuple[Record, str]]:
    if source.format == "parquet":
        from nlpkit.text.parquet import read_rows

        yield from read_rows(source, text_field, errors, counts)
        return
    with reading(source.path) as file:
        lines = decoded_lines(file, source.name, errors, counts, whole=True)
        if source.format == "jsonl":
            yield from _json_lines(lines, source.name, errors, counts)
        else:
            yield from _rows(lines, source, counts)


def _numbered(lines: Iterator[str], counts: Counts) -> Iterator[tuple[int, str]]:
    """Lines with their numbers in the source: those that were dropped on the way count too."""
    before = counts.dropped
    for number, line in enumerate(lines, 1):
        yield number + counts.dropped - before, line


def _json_lines(lines: Iterator[str], name: str, errors: str, counts: Counts) -> Iterator[tuple[Record, str]]:
    for number, line in _numbered(lines, counts):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            record = _JSON.decode(line)
        except RecursionError as error:
            raise DataError(f"{where}: not JSON: nested too deep; flatten it") from error
        except ValueError as error:
            reason = str(error).partition(";")[0]
            if isinstance(error, json.JSONDecodeError):
                reason = f"{error.msg} at column {error.colno}"
            raise DataError(f"{where}: not JSON: {reason}") from error
        if not isinstance(record, dict):
            raise DataError(f"{where}: a JSON object is needed, this is {_json_kind(record)}")
        if "\\ud" in line or "\\uD" in line:
            record = _spelled(record, counts, where if errors == "strict" else "")
        yield record, where


def _spelled(value: Any, counts: Counts, where: str) -> Any:
    """A JSON value whose strings UTF-8 can spell."""
    if isinstance(value, str):
        return without_surrogates(value, counts, where)
    if isinstance(value, list):
        return [_spelled(v, counts, where) for v in value]
    if isinstance(value, dict):
        return {_spelled(k, counts, where): _spelled(v, counts, where) for k, v in value.items()}
    return value


def _object(pairs: list[tuple[str, Any]]) -> Record:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {next(n for n in names if names.count(n) > 1)[:40]!r} stands twice")
    return made


def _number(digits: str) -> float:
    made = float(digits)
    if math.isinf(made):
        raise ValueError(f"the number {digits[:40]} is too large")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number, parse_constant=_no_constant)


def _json_kind(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _rows(lines: Iterator[str], source: Source, counts: Counts) -> Iterator[tuple[Record, str]]:
    if source.format == "tsv":
        rows: Iterator[tuple[int, list[str]]] = (
            (n, line.removesuffix("\n").split("\t")) for n, line in _numbered(lines, counts)
        )
    else:
        rows = _csv_rows(lines, source.name, counts)
    header: list[str] | None = None
    for number, row in rows:
        if row in ([], [""]) and (header is None or len(header) > 1):
            continue
        if header is None:
            header = row
            if len(set(header)) < len(header):
                twice = next(name for name in header if header.count(name) > 1)
                raise DataError(f"{source.name}:{number}: the header names {twice[:40]!r} twice; rename one")
            continue
        if len(row) != len(header):
            names = ", ".join(header)
            raise DataError(
                f"{source.name}:{number}: {len(row)} fields, the header has {len(header)} ({names})"
            )
        yield dict(zip(header, row, strict=True)), f"{source.name}:{number}"


def _csv_rows(lines: Iterator[str], name: str, counts: Counts) -> Iterator[tuple[int, list[str]]]:
    before, dropped = csv.field_size_limit(LIMIT), counts.dropped
    reader = csv.reader(lines, strict=True)
    try:
        for row in reader:
            yield reader.line_num + counts.dropped - dropped, row
    except csv.Error as error:
        line = reader.line_num + counts.dropped - dropped
        raise DataError(f"{name}:{line}: not CSV: {error}") from error
    finally:
        csv.field_size_limit(before)


def record_of(document: Document) -> Record:
    """The JSON record of a document: id and title where it has them, its text, its other fields.

    >>> record_of(Document("x", "7", fields={"label": "a"}))
    {'id': '7', 'text': 'x', 'label': 'a'}
    """
    made: Record = {}
    if document.id:
        made["id"] = document.id
    if document.title:
        made["title"] = document.title
    return {**made, "text": document.text, **document.fields}


_ENCODER = json.JSONEncoder(ensure_ascii=False)  # json.dumps would make one for every record
#: A text as JSON spells it, beyond ASCII as it is.
json_text: Callable[[str], str] = json.encoder.encode_basestring


def json_line(record: Record) -> bytes:
    """A record as one line of UTF-8 JSON."""
    if len(record) == 1:
        ((name, value),) = record.items()
        if (
            value.__class__ is str and name.__class__ is str
        ):  # a text alone: most documents, and in half the time
            return f"{{{json_text(name)}: {json_text(value)}}}\n".encode("utf-8", "replace")
    return _ENCODER.encode(record).encode("utf-8", "replace") + b"\n"


def _csv_line(cells: Sequence[Any]) -> bytes:
    held: list[str] = []

    class Sink:
        def write(self, text: str) -> None:
            held.append(text)

    csv.writer(Sink(), lineterminator="\n").writerow(cells)  # type: ignore[arg-type]
    return held[0].encode()


def _tsv_line(cells: Sequence[Any]) -> bytes:
    return ("\t".join(" ".join(str(c).split()) for c in cells) + "\n").encode("utf-8", "replace")


class Writer:
    """Writes records or bare texts in one form, one of ``text``, ``jsonl``, ``csv``, ``tsv``, ``parquet``; close it."""

    def __init__(self, file: IO[bytes], format: str, text_field: str = "text", between: str = "\n") -> None:
        self.file, self.format, self.text_field, self.between = file, format, text_field, between
        self.header: list[str] | None = None
        self.count = 0
        self._parquet: ParquetWriter | None = None
        if format == "parquet":
            from nlpkit.text import parquet

            self._parquet = parquet.ParquetWriter(file, text_field)

    def write(self, record: Record) -> None:
        """Write one record; of text, only its text is written."""
        self.count += 1
        if self.format == "text":
            self.file.write((record[self.text_field] + self.between).encode("utf-8", "replace"))
        elif self.format == "jsonl":
            self.file.write(json_line(record))
        elif self._parquet is not None:
            self._parquet.write(json_line(record))
        else:
            line: Callable[[Sequence[Any]], bytes] = _csv_line if self.format == "csv" else _tsv_line
            if self.header is None:
                self.header = list(record)
                self.file.write(line(self.header))
            if set(record) != set(self.header):
                raise DataError(
                    f"record {self.count}: its fields ({', '.join(record)}) are not those of the first "
                    f"({', '.join(self.header)}); write jsonl (-o NAME.jsonl)"
                )
            self.file.write(line([record[name] for name in self.header]))

    def close(self) -> None:
        """Write what the form can only write at the end; the file stays open."""
        if self._parquet is not None:
            self._parquet.close()


def form_written(output: str | Path | None, read: str) -> str:
    """The form that an output's name announces, or else the form that was read (Parquet then gives jsonl).

    >>> form_written("a.csv", "jsonl"), form_written(None, "tsv"), form_written("-", "parquet")
    ('csv', 'tsv', 'jsonl')
    """
    named = format_of(output)
    return named if named != "text" else "jsonl" if read == "parquet" else read


@contextmanager
def writing(output: str | Path | None, force: bool = False, form: str = "") -> Iterator[IO[bytes]]:
    """Standard output (``None`` or ``-``), or a file that appears whole; compressed when its name says so.

    :raises UsageError: it exists, or its name announces Parquet and ``form`` is another.
    """
    if output is None or str(output) == "-":
        yield console.data_out()
        return
    if format_of(output) == "parquet" and form != "parquet":
        raise UsageError(f"{output}: Parquet is not what would be written there; name another output")
    path = atomic.refuse_existing(output, force)
    with atomic.writing(path) as file, compressed(file, path) as out:
        yield out

"""Records: jsonl, csv (RFC 4180 quoting) and tsv (no quoting), read with file:line in every complaint, and written."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nlpkit import console
from nlpkit.errors import DataError, did_you_mean
from nlpkit.store import atomic
from nlpkit.text.compression import compressed, reading
from nlpkit.text.documents import (
    LIMIT,
    Counts,
    Document,
    Source,
    decoded_lines,
    without_surrogates,
)

Record = dict[str, Any]


def read_records(
    source: Source, text_field: str = "text", errors: str = "replace", counts: Counts | None = None
) -> Iterator[tuple[Record, str]]:
    """``(record, "file:line")`` of a jsonl, csv or tsv source; every record has text under ``text_field``.

    :raises DataError: a record that is not one, or that has no text.
    """
    mine = counts or Counts()
    with reading(source.path) as file:
        lines = decoded_lines(file, source.name, errors, mine)
        rows = _json_lines(lines, source.name, mine) if source.format == "jsonl" else _rows(lines, source)
        for record, where in rows:
            text = record.get(text_field)
            if not isinstance(text, str):
                if text_field in record:
                    raise DataError(f"{where}: field {text_field!r} is not text but {type(text).__name__}")
                known = did_you_mean(text_field, map(str, record))
                raise DataError(f"{where}: no field {text_field!r}{known} (name it with --text-field)")
            yield record, where
    if counts is None:
        mine.report()


def _json_lines(lines: Iterator[str], name: str, counts: Counts) -> Iterator[tuple[Record, str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deep")
            column = getattr(error, "colno", 1)
            raise DataError(f"{where}: not JSON: {reason} at column {column}") from error
        if not isinstance(record, dict):
            raise DataError(f"{where}: a JSON object is needed, this is {_json_kind(record)}")
        if "\\ud" in line or "\\uD" in line:
            record = {
                k: without_surrogates(v, counts) if isinstance(v, str) else v for k, v in record.items()
            }
        yield record, where


def _json_kind(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _rows(lines: Iterator[str], source: Source) -> Iterator[tuple[Record, str]]:
    if source.format == "tsv":
        rows: Iterator[tuple[int, list[str]]] = (
            (n, line.removesuffix("\n").split("\t")) for n, line in enumerate(lines, 1)
        )
    else:
        rows = _csv_rows(lines, source.name)
    header: list[str] | None = None
    for number, row in rows:
        if row in ([], [""]) and (header is None or len(header) > 1):
            continue
        if header is None:
            header = row
            continue
        if len(row) != len(header):
            names = ", ".join(header)
            raise DataError(
                f"{source.name}:{number}: {len(row)} fields, the header has {len(header)} ({names})"
            )
        yield dict(zip(header, row, strict=True)), f"{source.name}:{number}"


def _csv_rows(lines: Iterator[str], name: str) -> Iterator[tuple[int, list[str]]]:
    before = csv.field_size_limit(LIMIT)
    reader = csv.reader(lines, strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{name}:{reader.line_num}: not CSV: {error}") from error
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


def json_line(record: Record) -> bytes:
    """A record as one line of UTF-8 JSON."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


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
    """Writes records or bare texts in one form, one of ``text``, ``jsonl``, ``csv``, ``tsv``."""

    def __init__(self, file: IO[bytes], format: str, text_field: str = "text", between: str = "\n") -> None:
        self.file, self.format, self.text_field, self.between = file, format, text_field, between
        self.header: list[str] | None = None
        self.count = 0

    def write(self, record: Record) -> None:
        """Write one record; of text, only its text is written."""
        self.count += 1
        if self.format == "text":
            self.file.write((record[self.text_field] + self.between).encode("utf-8", "replace"))
        elif self.format == "jsonl":
            self.file.write(json_line(record))
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


@contextmanager
def writing(output: str | Path | None, force: bool = False) -> Iterator[IO[bytes]]:
    """Standard output (``None`` or ``-``), or a file that appears whole; compressed when its name says so."""
    if output is None or str(output) == "-":
        yield console.data_out()
        return
    path = atomic.refuse_existing(output, force)
    with atomic.writing(path) as file, compressed(file, path) as out:
        yield out

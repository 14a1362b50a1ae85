"""Rows of labelled files (.tsv, .csv, .jsonl, .parquet, plain or compressed) and the parts of a data folder.

Reading itself is :mod:`nlpkit.text.records`; here is which column is meant, and which file is which part.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.text.compression import reading
from nlpkit.text.documents import Counts, decoded_lines, sources
from nlpkit.text.records import read_records

PARTS = {"train": ("train",), "valid": ("valid", "dev", "val"), "test": ("test",)}
Row = dict[str, Any]


def parts_of(folder: Path) -> dict[str, Path]:
    """The files of a data folder by part: ``train.tsv.gz`` → train, ``dev.jsonl`` → valid, ``test.csv`` → test."""
    found: dict[str, Path] = {}
    for part, names in PARTS.items():
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name.split(".")[0] in names:
                found.setdefault(part, path)
    return found


def columns(path: str | Path) -> list[str]:
    """The names of a file's columns (of a .jsonl, the keys of its first object); empty for an empty file."""
    (source,) = sources([path])
    if source.format == "text":
        raise UsageError(
            f"{path}: expected a .tsv, .csv, .jsonl or .parquet file (plain or compressed), not plain text"
        )
    if source.format == "parquet":
        from nlpkit.text.parquet import columns as parquet_columns

        return parquet_columns(source)
    with reading(source.path) as file:
        first = next(
            (line for line in decoded_lines(file, source.name, "replace", Counts()) if line.strip()), ""
        )
    if not first:
        return []
    if source.format == "jsonl":
        try:
            row = json.loads(first)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:1: not JSON: {error}") from error
        return list(row) if isinstance(row, dict) else []
    if source.format == "tsv":
        return first.rstrip("\n").split("\t")
    import csv

    return next(csv.reader([first]))


def column(path: str | Path, names: Sequence[str], what: str) -> str:
    """The first of ``names`` that a file has, or a usage error that shows what there is."""
    found = columns(path)
    if not found:
        raise DataError(f"{path}: holds no rows; name a file that has some")
    for name in names:
        if name in found:
            return name
    near = did_you_mean(names[0], found).split("; known")[0]
    raise UsageError(
        f"{path}: no column for the {what}: expected {' or '.join(map(repr, names))}, found "
        f"{', '.join(map(repr, found))}{near}"
    )


def read_rows(path: str | Path, text_field: str) -> Iterator[tuple[Row, str]]:
    """(row, "file:line") for every row of a file; each has text under ``text_field``."""
    (source,) = sources([path])
    yield from read_records(source, text_field)

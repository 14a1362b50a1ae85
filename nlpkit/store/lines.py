"""Append-only logs whose every line carries a checksum: ``metrics.jsonl`` and ``log.txt``.

A line is ``TEXT<TAB>#CRC32`` in log.txt; in a .jsonl the checksum is the last key, so the file stays JSON lines.
A last line without its end is what a killed writer leaves: :func:`mend` cuts it off before appending goes on.
"""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nlpkit.errors import ArtifactError

LOGS = ("metrics.jsonl", "log.txt")


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def pack_record(record: Mapping[str, Any]) -> str:
    """One JSON line with its checksum.

    >>> pack_record({"step": 1})
    '{"step": 1, "crc": "3a87913d"}'
    """
    text = json.dumps(record)
    return f'{text[:-1]}{", " if record else ""}"crc": "{_crc(text)}"}}'


def unpack_record(line: str) -> dict[str, Any]:
    """The record of a line, without its checksum; ValueError when it does not hold."""
    record = json.loads(line)
    if not isinstance(record, dict) or "crc" not in record:
        raise ValueError("no checksum")
    record.pop("crc")
    if pack_record(record) != line:
        raise ValueError("checksum differs")
    return record


def pack_text(text: str) -> str:
    """One log line with its checksum behind a tab."""
    return f"{text}\t#{_crc(text)}"


def unpack_text(line: str) -> str:
    """The text of a log line; ValueError when its checksum does not hold."""
    text, mark, crc = line.rpartition("\t#")
    if not mark or crc != _crc(text):
        raise ValueError("checksum differs")
    return text


def append(path: Path, line: str) -> None:
    """Add one packed line."""
    with open(path, "ab") as file:
        file.write(line.encode() + b"\n")


def _lines(path: Path) -> tuple[list[str], bytes]:
    *whole, torn = path.read_bytes().split(b"\n")
    return [w.decode("utf-8", "surrogateescape") for w in whole], torn


def check(path: Path) -> list[Any]:
    """All records of a .jsonl log, or texts of another log; a damaged or torn line is an ArtifactError."""
    unpack: Any = unpack_record if path.suffix == ".jsonl" else unpack_text
    whole, torn = _lines(path)
    found = []
    for number, line in enumerate(whole, 1):
        try:
            found.append(unpack(line))
        except (ValueError, UnicodeError) as error:
            raise ArtifactError(f"{path}:{number}: damaged line (checksum differs)") from error
    if torn:
        raise ArtifactError(f"{path}:{len(whole) + 1}: torn last line (a killed writer); resuming mends it")
    return found


def mend(path: Path) -> None:
    """Cut off a torn last line, durably; whole lines are left alone."""
    if path.exists():
        _, torn = _lines(path)
        if torn:
            with open(path, "r+b") as file:
                file.truncate(path.stat().st_size - len(torn))
                os.fsync(file.fileno())

"""The seal of the database: a CRC-32 a page, in ``documents.sums.npy``, so that a change costs the pages it touched.

A writer knows the touched pages from the frames of the write-ahead log. What it did not touch keeps the checksum it
had, so damage there is never sealed as if it were whole.
"""

import os
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nlpkit.errors import ArtifactError
from nlpkit.search.store import DATABASE, PAGE
from nlpkit.store import blocks
from nlpkit.store.manifest import remedy

SUMS = "documents.sums.npy"
_LOG_HEADER, _FRAME_HEADER = 32, 24  # bytes (https://www.sqlite.org/fileformat2.html, section 4)
_AT_ONCE = 1024  # pages read at a time


def logged(database: Path) -> set[int]:
    """The pages (from 0) that the write-ahead log holds, those of earlier rounds of the log among them."""
    log = database.with_name(database.name + "-wal")
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return set()
    frames = max(0, size - _LOG_HEADER) // (_FRAME_HEADER + PAGE)
    with open(log, "rb") as file:
        handle = file.fileno()
        found = {
            int.from_bytes(os.pread(handle, 4, _LOG_HEADER + i * (_FRAME_HEADER + PAGE)), "big") - 1
            for i in range(frames)
        }
    return found


def whole(database: Path) -> np.ndarray:
    """The CRC-32 (pages,) uint32 of every page."""
    made: list[int] = []
    with open(database, "rb") as file:
        while some := file.read(_AT_ONCE * PAGE):
            view = memoryview(some)
            made += [zlib.crc32(view[at : at + PAGE]) for at in range(0, len(some), PAGE)]
    return np.array(made, np.uint32)


def renewed(database: Path, before: np.ndarray, pages: Iterable[int]) -> np.ndarray:
    """``before`` with the checksums of ``pages``, of page 0 (SQLite's own counters) and of all new ones made anew."""
    count = -(-database.stat().st_size // PAGE)
    made = np.zeros(count, np.uint32)
    kept = min(count, len(before))
    made[:kept] = before[:kept]
    with open(database, "rb") as file:
        for page in {0, *range(kept, count), *(p for p in pages if 0 <= p < count)}:
            made[page] = zlib.crc32(os.pread(file.fileno(), PAGE, page * PAGE))
    return made


def write(folder: Path, sums: np.ndarray) -> dict[str, int]:
    """Write the sidecar; what the manifest has to remember: the database's size, and what checks the sums."""
    temporary = folder / f".{SUMS}.tmp-{os.getpid()}"
    told = blocks.write(temporary, sums)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, folder / SUMS)
    return {"size": (folder / DATABASE).stat().st_size, "sums": told}


def read(folder: Path, entry: dict[str, int]) -> np.ndarray:
    """The sealed checksums of all pages."""
    made = blocks.Checked(folder / SUMS, entry["sums"], remedy(folder)).whole()
    if len(made) != -(-entry["size"] // PAGE):
        raise ArtifactError(f"{folder / SUMS}: does not belong to this database; {remedy(folder)}")
    return made


def check(folder: Path, entry: dict[str, int], *, every_page: bool) -> None:
    """Compare the database with its seal: its size, and the checksum of every page where that is asked for."""
    path = folder / DATABASE
    if not entry:
        raise ArtifactError(f"{folder}: was being written, and what said so is missing; {remedy(folder)}")
    if not path.is_file():
        raise ArtifactError(f"{path}: missing; {remedy(folder)}")
    size = path.stat().st_size
    if size != entry["size"]:
        raise ArtifactError(f"{path}: {size} bytes, sealed with {entry['size']}; {remedy(folder)}")
    if not every_page:
        return
    wrong = np.flatnonzero(whole(path) != read(folder, entry))
    if len(wrong):
        raise ArtifactError(
            f"{path}: damaged (the CRC-32 of {len(wrong)} of its {-(-size // PAGE)} pages differs, the first is "
            f"page {wrong[0]}); nothing was changed; {remedy(folder)}"
        )

"""The state of an index folder: closed, being written, or left open by a crash; each is told apart and checked.

A closed index has no ``open.json``, and its manifest seals the checksums of all pages of ``documents.sqlite``. A
writer puts the marker ``open.json`` there before its first change and takes it away after the manifest is sealed
again. So a mismatch without a marker is damage, and a marker whose writer is gone is a crash: SQLite recovers, rows are
checked, and what came after the derived files' watermark is searched by brute force until the next writer settles the
folder.

The manifest's notes hold the settings, the names and hashes of the current derived segments, and the watermark.
"""

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from nlpkit import config
from nlpkit.errors import ArtifactError, NlpkitError, UsageError
from nlpkit.search import sums
from nlpkit.search.connections import alone, snapshot
from nlpkit.search.store import DATABASE
from nlpkit.store import lines, manifest
from nlpkit.store.atomic import fsync_folder, write_bytes

KIND = "index"
MARKER = "open.json"
LAYOUT = 2  # of the record and the derived segments
# Bytes of a database that are read whole when it is opened; of a larger one rows are checked as they are touched.
READER_CHECKS, WRITER_CHECKS = 64 << 20, 1 << 30
State = Literal["closed", "writing", "crashed"]


@dataclass(frozen=True)
class Settings:
    """What an index was built with. ``encoder`` is a path relative to the folder, a name, or "" for none.

    ``weight``, the dense share in hybrid search, is one half until ``nlpkit index tune`` finds a better one: about
    what a good published model deserves, and more than a small one that was trained in minutes. ``chunk`` is the size
    and overlap of passages in tokens, (0, 0) for whole documents; ``documents`` says what a document is in text;
    ``dense`` goes to the vector store.
    """

    recipe: tuple[str, ...]
    stopwords: tuple[str, ...] = ()
    k1: float = 1.2
    b: float = 0.75
    weight: float = 0.5
    encoder: str = ""
    encoder_fingerprint: str = ""
    tokenizer_fingerprint: str = ""
    encoder_recipe: str = ""  # the hash of the recipe that the encoder's words went through
    width: int = 0
    chunk: tuple[int, ...] = (0, 0)
    documents: str = ""
    dense: dict[str, Any] = field(default_factory=dict)


def settings(made: manifest.Manifest) -> Settings:
    """The settings that the manifest seals."""
    if made.notes.get("layout") != LAYOUT:
        raise ArtifactError(
            "the index was made by another release of nlpkit, whose layout this one does not read; "
            "make it again with: nlpkit index build … --force"
        )
    try:
        return config.build(Settings, made.notes["settings"])
    except (KeyError, NlpkitError) as error:
        raise ArtifactError(
            f"the settings of the index cannot be read ({error}); rebuild the index"
        ) from error


def seal(
    folder: Path,
    chosen: Settings,
    derived: Mapping[str, Any],
    database: Mapping[str, int],
    *,
    documents: int,
    recipe_hash: str,
    generation: int,
    lineage: str,
) -> manifest.Manifest:
    """Write the manifest.

    ``database`` is what :func:`nlpkit.search.sums.write` gave, or empty while the index is open; ``lineage`` is drawn
    when an index is built and stays with it.
    """
    made_with = {"recipe": recipe_hash}
    if chosen.encoder:
        made_with["model"] = chosen.encoder_fingerprint
    if chosen.tokenizer_fingerprint:
        made_with["tokenizer"] = chosen.tokenizer_fingerprint
    if chosen.encoder_recipe:
        made_with["model_recipe"] = chosen.encoder_recipe
    notes = {
        "layout": LAYOUT,
        "settings": asdict(chosen),
        "derived": dict(derived),
        "database": dict(database),
        "documents": documents,
        "generation": generation,
        "lineage": lineage,
    }
    aside = {DATABASE, DATABASE + "-wal", DATABASE + "-shm", MARKER, sums.SUMS}
    return manifest.seal(folder, KIND, made_with=made_with, notes=notes, leave=aside)


def mark(folder: Path, command: str) -> None:
    """Say durably that the database is about to be written."""
    record = {"writing": DATABASE, "command": command, "pid": os.getpid(), "since": time.strftime("%H:%M:%S")}
    with alone():  # nobody here may be hashing the database as a plain file
        write_bytes(folder / MARKER, lines.pack_record(record).encode())


def unmark(folder: Path) -> None:
    """Say durably that the folder is closed."""
    (folder / MARKER).unlink()
    fsync_folder(folder)


def marker(folder: Path) -> dict[str, Any] | None:
    """What the marker says; None without one."""
    try:
        raw = (folder / MARKER).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return lines.unpack_record(raw.decode())
    except (ValueError, KeyError) as error:
        raise ArtifactError(
            f"{folder / MARKER}: damaged (checksum differs); nothing was changed; {manifest.remedy(folder)}"
        ) from error


def writer_alive(folder: Path) -> bool:
    """Whether a process holds the writer's lock right now."""
    try:
        handle = os.open(folder / ".lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def signature(folder: Path) -> tuple[Any, ...]:
    """Changes whenever a writer marks, seals or unmarks the folder."""
    found: list[Any] = []
    for name in (manifest.NAME, MARKER):
        try:
            seen = (folder / name).stat()
            found += [seen.st_ino, seen.st_mtime_ns, seen.st_size]
        except FileNotFoundError:
            found.append(None)
    return tuple(found)


def inspect(folder: Path, *, i_write: bool = False) -> tuple[manifest.Manifest, State]:
    """The manifest and state of an index after its database was checked as far as its state and size ask for.

    ``i_write``: the caller holds the writer's lock. Damage is an ArtifactError, unless the folder changed meanwhile;
    then the look is taken again.
    """
    if folder.is_dir() and not (folder / manifest.NAME).exists() and (folder / DATABASE).exists():
        raise ArtifactError(f"{folder}: {manifest.NAME} is missing; {manifest.remedy(folder)}")
    while True:
        before = signature(folder)
        try:
            made = manifest.read(folder, KIND)
            settings(made)
            return made, _checked(folder, made, i_write)
        except ArtifactError:
            if signature(folder) == before:
                raise


def _checked(folder: Path, made: manifest.Manifest, i_write: bool) -> State:
    most = WRITER_CHECKS if i_write else READER_CHECKS
    with alone():
        opened = marker(folder)
        if opened is None:
            entry = made.notes["database"]
            sums.check(folder, entry, every_page=entry.get("size", 0) <= most)
            log = folder / f"{DATABASE}-wal"
            if log.exists() and log.stat().st_size:
                raise ArtifactError(f"{log}: does not belong to this closed index; move it away")
            return "closed"
    if not i_write and writer_alive(folder):
        return "writing"
    with snapshot(folder) as store:
        if store.path.stat().st_size <= most:
            for problem in store.problems():
                raise ArtifactError(f"{problem}; nothing was changed; {manifest.remedy(folder)}")
    return "crashed"


def replaceable(output: Path, force: bool) -> None:
    """Refuse ``--force`` over anything but an index or an empty folder."""
    if not force or not output.exists() or not output.is_dir() or not any(output.iterdir()):
        return
    if (output / DATABASE).exists():
        return
    try:
        whose = json.loads((output / manifest.NAME).read_bytes()).get("nlpkit")
    except (OSError, ValueError, AttributeError):
        whose = None
    if whose != KIND:
        raise UsageError(f"{output}: is not an index and is not replaced; choose another -o")

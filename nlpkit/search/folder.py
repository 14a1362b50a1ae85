"""The state of an index folder: closed, being written, or left open by a crash; each is told apart and checked.

A closed index has no ``open.json`` and its manifest seals the hash of ``documents.sqlite``. A writer puts the marker
``open.json`` there before its first change and takes it away after the manifest is sealed again. So a mismatch
without a marker is damage, and a marker whose writer is gone is a crash: SQLite recovers, every row is checked, and
what came after the derived files' watermark is searched by brute force until the next writer settles the folder.

The manifest's notes hold the settings, the name and hash of the current derived folder, and the watermark.
"""

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from nlpkit import config
from nlpkit.errors import ArtifactError, NlpkitError, UsageError
from nlpkit.search.store import DATABASE, EXCLUSIVE, snapshot
from nlpkit.store import lines, manifest
from nlpkit.store.atomic import fsync_folder, write_bytes

KIND = "index"
MARKER = "open.json"
HASHED_UP_TO = 256 << 20  # bytes; a larger database is checked row by row as its rows are touched
State = Literal["closed", "writing", "crashed"]


@dataclass(frozen=True)
class Settings:
    """What an index was built with. ``encoder`` is a path relative to the folder, a name, or "" for none.

    ``weight``, the dense share in hybrid search, starts low: a weak model then costs little, and
    ``nlpkit index tune`` finds what a good one deserves.
    """

    recipe: tuple[str, ...]
    stopwords: tuple[str, ...] = ()
    k1: float = 1.2
    b: float = 0.75
    weight: float = 0.3
    encoder: str = ""
    encoder_fingerprint: str = ""
    tokenizer_fingerprint: str = ""
    encoder_recipe: str = ""  # the hash of the recipe that the encoder's words went through
    width: int = 0


def settings(made: manifest.Manifest) -> Settings:
    """The settings that the manifest seals."""
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
    *,
    documents: int,
    recipe_hash: str,
    generation: int,
    known: tuple[int, str] | None = None,
) -> manifest.Manifest:
    """Write the manifest. ``known``: size and hash of the database, taken as they are: (0, "") while it is open."""
    made_with = {"recipe": recipe_hash}
    if chosen.encoder:
        made_with["model"] = chosen.encoder_fingerprint
    if chosen.tokenizer_fingerprint:
        made_with["tokenizer"] = chosen.tokenizer_fingerprint
    if chosen.encoder_recipe:
        made_with["model_recipe"] = chosen.encoder_recipe
    notes = {
        "settings": asdict(chosen),
        "derived": dict(derived),
        "documents": documents,
        "generation": generation,
    }
    aside = {DATABASE + "-wal", DATABASE + "-shm", MARKER}
    with EXCLUSIVE:
        return manifest.seal(
            folder,
            KIND,
            made_with=made_with,
            notes=notes,
            leave=aside,
            known={} if known is None else {DATABASE: known},
        )


def mark(folder: Path, command: str) -> None:
    """Say durably that the database is about to be written."""
    record = {"writing": DATABASE, "command": command, "pid": os.getpid(), "since": time.strftime("%H:%M:%S")}
    with EXCLUSIVE:
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


def inspect(folder: Path, *, full: bool = False, i_write: bool = False) -> tuple[manifest.Manifest, State]:
    """The manifest and state of an index after its database was checked as far as its state asks for.

    ``full`` compares the hash of a large database too. ``i_write``: the caller holds the writer's lock.
    Damage is an ArtifactError, unless the folder changed meanwhile; then the look is taken again.
    """
    if folder.is_dir() and not (folder / manifest.NAME).exists() and (folder / DATABASE).exists():
        raise ArtifactError(f"{folder}: {manifest.NAME} is missing; {manifest.remedy(folder)}")
    while True:
        before = signature(folder)
        try:
            made = manifest.read(folder, KIND)
            return made, _checked(folder, made, full, i_write)
        except ArtifactError:
            if signature(folder) == before:
                raise


def _checked(folder: Path, made: manifest.Manifest, full: bool, i_write: bool) -> State:
    with EXCLUSIVE:
        opened = marker(folder)
        if opened is None:
            size, digest = made.files.get(DATABASE, (0, ""))
            if full or size <= HASHED_UP_TO or not digest:
                manifest.check_file(folder, made, DATABASE)
            elif not (folder / DATABASE).is_file() or (folder / DATABASE).stat().st_size != size:
                raise ArtifactError(f"{folder / DATABASE}: missing or cut short; {manifest.remedy(folder)}")
            log = folder / f"{DATABASE}-wal"
            if log.exists() and log.stat().st_size:
                raise ArtifactError(f"{log}: does not belong to this closed index; move it away")
            return "closed"
    if not i_write and writer_alive(folder):
        return "writing"
    with snapshot(folder) as store:
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

"""``MANIFEST.json``: what a sealed folder holds, with sizes and SHA-256, checked before any parser sees a byte.

The file's bytes are the canonical form of its own content and end with a checksum of it, so a flipped bit in
the manifest itself is found too. Folders inside a folder that have a manifest of their own are theirs to check.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlpkit.errors import ArtifactError
from nlpkit.store.atomic import write_bytes

NAME = "MANIFEST.json"
FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """The sealed content of an artefact.

    ``kind`` is tokenizer, vectors, run, model, checkpoint or index; ``made_with`` maps what it depends on
    (``tokenizer``, ``recipe``, ``model``) to fingerprints; ``files`` maps relative names to (size, sha256).
    """

    kind: str
    format: int
    made_with: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """One hash for the whole content: what other artefacts record in ``made_with``."""
        listing = json.dumps([self.kind, self.made_with, sorted(self.files.items())], sort_keys=True)
        return hashlib.sha256(listing.encode()).hexdigest()


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical(manifest: Manifest) -> bytes:
    body: dict[str, Any] = {
        "nlpkit": manifest.kind,
        "format": manifest.format,
        "made_with": dict(sorted(manifest.made_with.items())),
        "notes": manifest.notes,
        "files": {n: {"size": s, "sha256": h} for n, (s, h) in sorted(manifest.files.items())},
    }
    text = json.dumps(body, indent=1, ensure_ascii=True)
    check = hashlib.sha256(text.encode()).hexdigest()
    return (text[:-2] + f',\n "checksum": "{check}"\n}}\n').encode()


def seal(
    folder: str | Path,
    kind: str,
    *,
    made_with: Mapping[str, str] | None = None,
    notes: Mapping[str, Any] | None = None,
    leave: Iterable[str] = (),
    known: Mapping[str, tuple[int, str]] | None = None,
) -> Manifest:
    """Hash every file of ``folder`` and write its manifest (last, atomically).

    Left out: hidden files, the names in ``leave`` (append-only logs that carry their own checksums) and
    folders that have a manifest of their own. ``known`` gives hashes that were computed while writing.
    """
    folder = Path(folder)
    known = known or {}
    files = {n: known.get(n) or (p.stat().st_size, sha256(p)) for n, p in _members(folder, set(leave))}
    made = Manifest(kind, FORMAT, dict(made_with or {}), files, dict(notes or {}))
    write_bytes(folder / NAME, _canonical(made))
    return made


def _members(folder: Path, leave: set[str]) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(d for d in folders if d[0] != "." and not (here / d / NAME).exists())
        for name in sorted(files):
            relative = (here / name).relative_to(folder).as_posix()
            if name[0] != "." and relative not in leave and relative != NAME:
                found.append((relative, here / name))
    return found


def read(folder: str | Path, kind: str | Iterable[str] | None = None) -> Manifest:
    """The manifest of a folder, its own checksum verified; the files are not looked at."""
    folder = Path(folder)
    path = folder / NAME
    if not folder.exists():
        raise FileNotFoundError(2, "No such file or directory", str(folder))
    if not folder.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(folder))
    if not path.is_file():
        raise ArtifactError(
            f"{folder}: not an nlpkit artefact (it has no {NAME}); check the path or make it again"
        )
    raw = path.read_bytes()
    try:
        body = json.loads(raw)
        made = Manifest(
            body["nlpkit"],
            body["format"],
            body["made_with"],
            {n: (f["size"], f["sha256"]) for n, f in body["files"].items()},
            body["notes"],
        )
        whole = _canonical(made) == raw
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise ArtifactError(f"{path}: damaged (checksum differs); nothing was changed; {remedy(folder)}")
    if made.format > FORMAT:
        raise ArtifactError(f"{path}: format {made.format} is newer than this nlpkit reads; upgrade nlpkit")
    kinds = {kind} if isinstance(kind, str) else set(kind or ())
    if kinds and made.kind not in kinds:
        raise ArtifactError(f"{folder}: is a {made.kind}, a {' or '.join(sorted(kinds))} is needed")
    return made


def check_file(folder: str | Path, manifest: Manifest, name: str) -> Path:
    """The path of a sealed file, after its size and hash were compared."""
    folder = Path(folder)
    path = folder / name
    if name not in manifest.files:
        raise ArtifactError(f"{folder}: has no sealed {name}; {remedy(folder)}")
    size, digest = manifest.files[name]
    if not path.is_file():
        raise ArtifactError(f"{path}: missing; {remedy(folder)}")
    found = path.stat().st_size
    if found != size:
        raise ArtifactError(f"{path}: {found} bytes, sealed with {size}; {remedy(folder)}")
    if sha256(path) != digest:
        raise ArtifactError(f"{path}: damaged (SHA-256 differs); nothing was changed; {remedy(folder)}")
    return path


def check(folder: str | Path, kind: str | Iterable[str] | None = None) -> Manifest:
    """The manifest of a folder after every sealed file in it was compared with its hash."""
    manifest = read(folder, kind)
    for name in manifest.files:
        check_file(folder, manifest, name)
    return manifest


def remedy(folder: Path) -> str:
    """What a person can do about a damaged artefact."""
    return f"restore it from a copy or make it again ('nlpkit verify {folder}' lists all damage)"

"""Reads every byte of an artefact and compares it with its seal: what ``nlpkit verify`` prints.

Where :func:`nlpkit.store.manifest.check` stops at the first fault, this goes on to the last: damaged, missing
and unlisted files, nested artefacts (a run holds a model and checkpoints), and logs whose lines carry checksums.
Hidden files (``.lock``, temporary names) are nobody's content and are left out.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nlpkit.errors import ArtifactError, UsageError
from nlpkit.store import lines, manifest


@dataclass
class Report:
    """What was read of one artefact: its kind, files and bytes, a line a problem, and remarks that are none."""

    path: Path
    kind: str
    files: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        """Take in what was read of a nested artefact."""
        self.files += other.files
        self.bytes += other.bytes
        self.problems += other.problems
        self.remarks += other.remarks

    def read(self, path: Path, look: Callable[[], object]) -> None:
        """Count a file and note what ``look`` finds wrong with it."""
        self.files += 1
        try:
            look()
            self.bytes += path.stat().st_size
        except ArtifactError as fault:
            self.problems.append(_short(str(fault)))
        except OSError as fault:
            self.problems.append(f"{path}: cannot be read ({(fault.strerror or str(fault)).lower()})")


Special = Mapping[str, Callable[[Path], Report]]


def _short(message: str) -> str:
    """The fault without the advice to run the very command that is running."""
    head, mark, _ = message.partition("; nothing was changed")
    return head if mark else message.partition("; restore it from a copy")[0]


def verify(path: str | Path, special: Special | None = None) -> list[Report]:
    """A report for each artefact at ``path``: itself, or those below a folder that is none.

    ``special`` maps a manifest's kind to a function that verifies such a folder in its own way, and the key
    ``"file"`` to one that verifies what a single file is part of, or raises UsageError. Nothing is changed on disk.
    """
    path, special = Path(path), special or {}
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; check the path")
    if path.is_file():
        if path.name in lines.LOGS:
            report = Report(path, "log")
            report.read(path, lambda: lines.check(path))
            return [report]
        if "file" in special:
            return [special["file"](path)]
        raise UsageError(f"{path}: not an nlpkit artefact; name a folder or shard that nlpkit made")
    if _is_artefact(path):
        return [verify_folder(path, special)]
    found: list[Report] = []
    for child in sorted(path.iterdir()):
        if child.name[0] == "." or child.is_symlink() or (child.is_file() and not _is_sidecar(child)):
            continue
        try:
            found += verify(child, special)
        except UsageError:
            continue  # not an artefact: nothing to compare it with
    if not found:
        raise UsageError(
            f"{path}: no nlpkit artefact here (nothing with a {manifest.NAME}); name what nlpkit made"
        )
    return found


def _is_artefact(folder: Path) -> bool:
    return (folder / manifest.NAME).exists() or _is_run(folder)


def _is_sidecar(path: Path) -> bool:
    """Whether a file describes others beside it (a token shard's .json): it speaks for all of them."""
    return path.suffix == ".json" and path.with_suffix(".offsets.npy").is_file()


def _is_run(folder: Path) -> bool:
    return (folder / "config.toml").is_file() and (
        (folder / "checkpoints").is_dir() or (folder / "origin.json").is_file()
    )


def verify_folder(folder: Path, special: Special) -> Report:
    """The report of one artefact folder, nested ones included."""
    try:
        sealed = manifest.read(folder) if (folder / manifest.NAME).exists() else None
    except (ArtifactError, OSError) as fault:
        report = Report(folder, "unknown", files=1, problems=[_short(str(fault))])
        _nested(folder, report, set(), special, strict=False)
        return report
    if sealed is None:
        report = Report(folder, "run")
        report.remarks.append(
            f"{folder}: not finished: only its checkpoints and logs carry seals; start its command again to go on"
        )
        _nested(folder, report, set(), special, strict=False)
        return report
    if sealed.kind in special:
        return special[sealed.kind](folder)
    report = Report(folder, sealed.kind, files=1, bytes=(folder / manifest.NAME).stat().st_size)
    for name in sealed.files:
        report.read(folder / name, lambda name=name: manifest.check_file(folder, sealed, name))  # type: ignore[misc]
    _nested(folder, report, set(sealed.files), special, strict=True)
    inside = any(name.startswith("model/") for name in sealed.files)
    if sealed.kind == "run" and not inside and not (folder / "model" / manifest.NAME).is_file():
        report.problems.append(f"{folder / 'model'}: the run's sealed model is missing")
    return report


def _nested(folder: Path, report: Report, listed: set[str], special: Special, *, strict: bool) -> None:
    """Verify artefacts and logs inside ``folder``; with ``strict`` report files that no seal knows."""
    for root, folders, files in os.walk(folder):
        here = Path(root)
        for name in sorted(folders):
            if name[0] != "." and (here / name / manifest.NAME).exists():
                report.add(verify_folder(here / name, special))
        folders[:] = sorted(d for d in folders if d[0] != "." and not (here / d / manifest.NAME).exists())
        for name in sorted(files):
            path = here / name
            relative = path.relative_to(folder).as_posix()
            if name[0] == "." or relative == manifest.NAME or relative in listed:
                continue
            if here == folder and name in lines.LOGS:
                report.read(path, lambda path=path: lines.check(path))  # type: ignore[misc]
            elif strict:
                report.problems.append(f"{path}: not in the seal (an extra file)")

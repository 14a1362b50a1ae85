"""Read every byte of an index and compare it with its seal. Nothing is changed."""

from pathlib import Path

from nlpkit.errors import ArtifactError, LockedError
from nlpkit.search import derived
from nlpkit.search import folder as folders
from nlpkit.search.store import DATABASE, EXCLUSIVE, snapshot
from nlpkit.store import manifest
from nlpkit.store.verify import Report


def verify(folder: str | Path) -> list[str]:
    """All that is wrong with an index, one line each; an empty list when it is whole.

    An index that a crash left open is checked by its rows, not by the hash of its file. While a writer is at work
    nothing can be said: LockedError.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(2, "No such file or directory", str(folder))
    before = folders.signature(folder)
    problems = _problems(folder)
    if problems and folders.signature(folder) != before:
        return verify(folder)  # a writer came between: look again
    return problems


def report(folder: Path) -> Report:
    """What ``nlpkit verify`` says of an index, which judges itself: its database changes while it lives."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name[0] != "."]
    problems = [problem.partition("; nothing was changed")[0] for problem in verify(folder)]
    return Report(folder, "index", len(files), sum(p.stat().st_size for p in files), problems)


def _problems(folder: Path) -> list[str]:
    try:
        made = manifest.read(folder, folders.KIND)
        folders.settings(made)
        opened = folders.marker(folder)
    except ArtifactError as error:
        return [str(error)]
    if opened is not None and folders.writer_alive(folder):
        raise LockedError(f"{folder}: process {opened.get('pid')} is writing to it; verify it later")
    problems = []
    if opened is None:
        with EXCLUSIVE:
            problems += _seal(folder, made, DATABASE)
    if (folder / DATABASE).is_file():
        try:
            with snapshot(folder) as store:
                problems += store.problems()
        except ArtifactError as error:
            problems.append(str(error))
    elif opened is not None:
        problems.append(f"{folder / DATABASE}: missing")
    entry = made.notes["derived"]
    here = folder / entry["folder"]
    try:
        inside = derived.read_manifest(folder, entry)
    except ArtifactError as error:
        problems.append(str(error))
    else:
        for name in inside.files:
            problems += _seal(here, inside, name)
        problems += _strangers(here, {*inside.files, manifest.NAME})
    if opened is None:
        known = {*made.files, manifest.NAME, f"{DATABASE}-shm", here.name}
        log = folder / f"{DATABASE}-wal"
        if log.is_file() and not log.stat().st_size:
            known.add(log.name)
        problems += _strangers(folder, known)
    return problems


def _seal(folder: Path, made: manifest.Manifest, name: str) -> list[str]:
    try:
        manifest.check_file(folder, made, name)
    except ArtifactError as error:
        return [str(error)]
    return []


def _strangers(folder: Path, known: set[str]) -> list[str]:
    """Files that no seal covers. Hidden ones are not part of the index."""
    return [
        f"{p}: not part of the index (no seal covers it); move it away"
        for p in sorted(folder.iterdir())
        if p.name not in known and p.name[0] != "."
    ]

"""Read every byte of an index and compare it with its seal. Nothing is changed."""

from pathlib import Path

import numpy as np

from nlpkit.errors import ArtifactError, LockedError
from nlpkit.search import folder as folders
from nlpkit.search import sums
from nlpkit.search.analyze import Analyzer
from nlpkit.search.connections import alone, snapshot
from nlpkit.search.derived import View
from nlpkit.search.segments import PASSAGES, Part, remedy
from nlpkit.search.store import DATABASE, Store
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
        try:
            with alone():
                sums.check(folder, made.notes["database"], every_page=True)
        except ArtifactError as error:
            problems.append(str(error))
    parts, broken = [], []
    for entry in made.notes["derived"]["segments"]:
        try:
            parts.append(Part(folder, entry))
            broken += list(parts[-1].problems())
        except ArtifactError as error:
            broken.append(str(error))
    if not (folder / DATABASE).is_file():
        problems.append(f"{folder / DATABASE}: missing")
    else:
        try:
            with snapshot(folder) as store:
                problems += store.problems()
                if not problems and not broken:
                    _belong(folder, made, parts, store)
        except ArtifactError as error:
            problems.append(str(error))
    problems += broken
    if opened is None:
        known = {manifest.NAME, DATABASE, sums.SUMS, f"{DATABASE}-shm", *made.files}
        known |= {entry["folder"] for entry in made.notes["derived"]["segments"]}
        log = folder / f"{DATABASE}-wal"
        if log.is_file() and not log.stat().st_size:
            known.add(log.name)
        problems += _strangers(folder, known)
    return list(dict.fromkeys(problems))


def _belong(folder: Path, made: manifest.Manifest, parts: list[Part], store: Store) -> None:
    """Compare the documents that the derived files know with those of the record."""
    settings = folders.settings(made)
    view = View(settings, Analyzer.of(settings, made), parts, int(made.notes["derived"]["watermark"]))
    view.advance(store)
    known = np.unique(view.keys[view.alive] >> PASSAGES)
    rows = np.array([row for (row,) in store.connection.execute("SELECT row FROM documents ORDER BY row")])
    if len(known) != len(rows) or (known != rows).any():
        raise ArtifactError(
            f"{folder}: the derived files hold other documents than the record; {remedy(folder)}"
        )


def _strangers(folder: Path, known: set[str]) -> list[str]:
    """Files that no seal covers. Hidden ones are not part of the index."""
    return [
        f"{p}: not part of the index (no seal covers it); move it away"
        for p in sorted(folder.iterdir())
        if p.name not in known and p.name[0] != "."
    ]

"""``nlpkit verify``: read every byte of artefacts and compare it with their seals."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nlpkit.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from nlpkit.store.verify import Report


def command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Tokenizers, vectors, corpora, shards, runs, indexes."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Read every byte of an artefact and compare it with its seal.

    Prints "ok PATH (files, bytes)" for each artefact that is whole, or one line for each problem, and leaves
    with 4 when there is any. A folder that holds artefacts (runs/, indexes/) has each of them read. Nothing is
    changed on disk.

    Example: nlpkit verify runs/tok runs/mlm indexes/docs
    """
    import json

    from nlpkit import console
    from nlpkit.store.verify import verify

    special = {"index": _index, "file": _shard}
    reports = [report for path in paths for report in verify(path, special)]
    if as_json:
        found = [
            {
                "path": str(report.path),
                "kind": report.kind,
                "ok": not report.problems,
                "files": report.files,
                "bytes": report.bytes,
                "problems": report.problems,
                "remarks": report.remarks,
            }
            for report in reports
        ]
        console.write(json.dumps({"ok": not any(r.problems for r in reports), "artefacts": found}) + "\n")
    else:
        for report in reports:
            for problem in report.problems:
                console.write(console.visible(problem).replace("\n", " ") + "\n")
            if not report.problems:
                files = f"{report.files} file{'' if report.files == 1 else 's'}"
                console.write(console.visible(f"ok {report.path} ({files}, {report.bytes:,} bytes)") + "\n")
            for remark in report.remarks:
                console.note(remark)
    if any(report.problems for report in reports):
        raise typer.Exit(ArtifactError.exit_code)


def _index(folder: Path) -> "Report":
    """An index says itself what is wrong with it: its database changes while it lives."""
    from nlpkit.search.verify import verify
    from nlpkit.store.verify import Report

    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name[0] != "."]
    problems = [problem.partition("; nothing was changed")[0] for problem in verify(folder)]
    return Report(folder, "index", len(files), sum(p.stat().st_size for p in files), problems)


def _shard(path: Path) -> "Report":
    """The token shard that a file is part of; UsageError when it is part of none."""
    from nlpkit.store.verify import Report
    from nlpkit.text.shards import TokenShard

    stem = path.name.removesuffix(path.suffix).removesuffix(".offsets")
    sidecar = path.with_name(f"{stem}.json")
    parts = [path.with_name(f"{stem}{end}") for end in (".json", ".npy", ".bin", ".offsets.npy")]
    if not sidecar.is_file() or not any(part.is_file() for part in parts[1:]):
        raise UsageError(f"{path}: not an nlpkit artefact")
    report = Report(sidecar, "tokens")
    held = [part for part in parts if part.is_file()]
    report.files, report.bytes = len(held), sum(part.stat().st_size for part in held)
    try:
        shard = TokenShard.open(sidecar)
        claimed = {sidecar.name, *shard.about["files"]}
        report.problems += [
            f"{part}: not in the seal (an extra file)" for part in held if part.name not in claimed
        ]
        if sidecar.read_bytes() != _written(shard.about):
            report.problems.append(f"{sidecar}: not as it was written")
    except ArtifactError as fault:
        report.problems.append(str(fault).partition("; nothing was changed")[0])
    return report


def _written(about: dict[str, object]) -> bytes:
    import json

    return (json.dumps(about, indent=1) + "\n").encode()

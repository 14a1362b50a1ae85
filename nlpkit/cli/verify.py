"""``nlpkit verify``: read every byte of artefacts and compare it with their seals."""

from pathlib import Path
from typing import Annotated

import typer

from nlpkit.cli.options import AsJson
from nlpkit.errors import ArtifactError


def command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Tokenizers, vectors, corpora, shards, runs, indexes."),
    ],
    as_json: AsJson = False,
) -> None:
    """Read every byte of an artefact and compare it with its seal.

    Prints "ok PATH (files, bytes)" for each artefact that is whole, or one line for each problem, and leaves
    with 4 when there is any. A folder that holds artefacts (runs/, indexes/) has each of them read. Nothing is
    changed on disk.

    Example: nlpkit verify runs/tok runs/mlm indexes/docs
    """
    import json

    from nlpkit import console
    from nlpkit.search.verify import report as report_index
    from nlpkit.store.verify import verify
    from nlpkit.text.shards import report as report_shard

    special = {"index": report_index, "file": report_shard}
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

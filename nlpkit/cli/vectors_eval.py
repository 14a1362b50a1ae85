"""``nlpkit vectors eval``: word vectors against analogy questions and rated word pairs."""

from typing import Annotated, Any

import typer

from nlpkit.cli.options import AsJson
from nlpkit.errors import UsageError


def evaluate(
    folder: Annotated[str, typer.Argument(metavar="VECTORS", help="A folder of word vectors.")],
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Questions or rated pairs; none or - is stdin."),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="OTHER", help="Vectors to compare with, item by item.")
    ] = None,
    restrict_vocab: Annotated[
        int, typer.Option(metavar="N", min=0, help="Only the first N words count; 0: all.")
    ] = 300_000,
    case_sensitive: Annotated[bool, typer.Option("--case-sensitive", help="Case tells words apart.")] = False,
    unknown_wrong: Annotated[
        bool, typer.Option("--unknown-wrong", help="Unknown words count as wrong, not as left out.")
    ] = False,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="Of analogies: 3cosadd or 3cosmul.")
    ] = "3cosadd",
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Analogies (accuracy) and rated word pairs (Spearman), with coverage and 95 % bootstrap intervals.

    A file whose first line begins with ':' holds questions of four words in sections (questions-words.txt); any
    other holds pairs: word, word, score. With --against both sets of vectors answer what both know: McNemar's
    exact test for questions, a paired bootstrap for pairs.

    Example: nlpkit vectors eval runs/vectors questions-words.txt wordsim353.tsv --against runs/other
    """
    import json
    from pathlib import Path

    from nlpkit import console
    from nlpkit.vectors import evaluation
    from nlpkit.vectors.vectors import METHODS, Vectors

    if method not in METHODS:
        raise UsageError(f"--method {method!r} is not known; known: {', '.join(METHODS)}")
    tests = [evaluation.read_test(None if name == "-" else Path(name)) for name in files or ["-"]]
    judges = [
        evaluation.Judge(
            Vectors.load(name),
            restrict=restrict_vocab,
            case_sensitive=case_sensitive,
            unknown_wrong=unknown_wrong,
            method=method,
        )
        for name in (folder, against)
        if name is not None
    ]
    found = evaluation.evaluate(tests, *judges, seed=seed)
    if as_json:
        console.write(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
        return
    for record in found:
        if record["kind"] == "analogies":
            sections = [(s["section"], s["items"], s["counted"], s["accuracy"]) for s in record["sections"]]
            console.table(sections, ["section", "questions", "counted", "accuracy"], record["test"])
            console.write("\n")
    rows = [
        (r["test"], r["items"], r["known"], r["counted"], *_figure(r, "accuracy"), *_figure(r, "spearman"))
        for r in found
    ]
    names = ["test", "items", "known", "counted", "accuracy", "95 %", "spearman", "95 %"]
    used = [i for i in range(len(names)) if i < 4 or any(row[i] != "" for row in rows)]
    console.table([[row[i] for i in used] for row in rows], [names[i] for i in used])
    if against is not None:
        console.write("\n")
        console.table(
            [
                (r["test"], c["common"], c["ours"], c["theirs"], *_figure(c, "difference"), c["p"])
                for r in found
                for c in [r["against"]]
            ],
            ["test", "common", folder, against, "difference", "95 %", "p"],
        )


def _figure(record: dict[str, Any], name: str) -> tuple[Any, str]:
    """A figure and its interval as cells; empty where there is none."""
    if record.get(name) is None:
        return "", ""
    low, high = record["interval"] or (float("nan"), float("nan"))
    return record[name], f"{low:.4f} to {high:.4f}"

"""``nlpkit corpus``: make, count and split corpora."""

from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

Inputs = Annotated[
    list[str] | None, typer.Argument(metavar="[IN]...", help="Files or folders; none or - is stdin.")
]
Unit = Annotated[str, typer.Option("--documents", help="In text, a document is a line, paragraph or file.")]
TextField = Annotated[str, typer.Option("--text-field", help="The text field of records.")]
InputFormat = Annotated[
    str | None, typer.Option("--input-format", help="text, jsonl, csv or tsv; else by the file's name.")
]
Errors = Annotated[str, typer.Option("--errors", help="Not UTF-8: replace, skip or strict.")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing output.")]


@app.callback()
def corpus() -> None:
    """Make, count and split corpora."""


@app.command("python")
def python(
    output: Annotated[str, typer.Option("--output", "-o", help="The corpus folder.")] = ...,  # type: ignore[assignment]
    packages: Annotated[
        str | None, typer.Option(metavar="LIST", help="Installed packages to add, comma-separated.")
    ] = None,
    force: Force = False,
) -> None:
    """Python's own documentation as a corpus: docs.jsonl, made offline from this installation.

    Fields: id, title, text, summary, body, kind, module, source.

    Example: nlpkit corpus python -o corpora/python --packages numpy,typer
    """
    from nlpkit import console
    from nlpkit.text.python_docs import build

    names = [name.strip() for name in packages.split(",") if name.strip()] if packages else []
    count = build(output, names, force=force)
    console.note(f"{output}: {count:,} documents")


@app.command("stats")
def stats(
    paths: Inputs = None,
    documents: Unit = "line",
    text_field: TextField = "text",
    input_format: InputFormat = None,
    errors: Errors = "replace",
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Count documents, words, bytes and lengths.

    Example: nlpkit corpus stats corpora/python --json
    """
    from nlpkit import console
    from nlpkit.text import corpus as counting
    from nlpkit.text.documents import read_documents

    found = counting.stats(
        read_documents(
            paths or [], documents=documents, text_field=text_field, format=input_format, errors=errors
        )
    )
    if json:
        from json import dumps

        console.write(dumps(found) + "\n")
    else:
        console.table(counting.summary(found), ("what", "count"))


@app.command("split")
def split(
    paths: Inputs = None,
    output: Annotated[str, typer.Option("--output", "-o", help="The folder.")] = ...,  # type: ignore[assignment]
    valid: Annotated[float, typer.Option(min=0, max=1, help="Share for valid.jsonl.")] = 0.05,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share for test.jsonl.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    documents: Unit = "line",
    text_field: TextField = "text",
    input_format: InputFormat = None,
    errors: Errors = "replace",
    force: Force = False,
) -> None:
    """Split into train, valid and test.jsonl by a hash of the text: equal texts stay together.

    Example: nlpkit corpus split corpora/python -o corpora/python-split --valid 0.05 --test 0.05
    """
    from nlpkit import console
    from nlpkit.text import corpus as counting
    from nlpkit.text.documents import read_documents

    found = read_documents(
        paths or [], documents=documents, text_field=text_field, format=input_format, errors=errors
    )
    counts = counting.split(
        found, output, valid=valid, test=test, seed=seed, force=force, notes={"unit": documents}
    )
    console.note(f"{output}: " + ", ".join(f"{part} {count:,}" for part, count in counts.items()))

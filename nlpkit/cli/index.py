"""``nlpkit index``: build and change a search index."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nlpkit.cli.options import AsJson, Errors, Force, IdField, Inputs, Precision, TextField

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Build, change, inspect and tune a search index."
)

Where = Annotated[Path, typer.Argument(metavar="INDEX", help="The index.")]
LockTimeout = Annotated[
    float,
    typer.Option("--lock-timeout", metavar="SECONDS", help="How long to wait for another writer."),
]
Unit = Annotated[
    str | None,
    typer.Option(
        "--documents",
        metavar="UNIT",
        help="In text, a document is a line, a paragraph or a file (default: as the index was built).",
    ),
]

Hidden = Annotated[bool, typer.Option("--hidden", help="Read hidden files of folders too (.git never).")]


@app.command()
def build(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="INDEX", help="The index to make.")],
    inputs: Inputs = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="MODEL", help="What makes the vectors: a run, folder or name; or none."
        ),
    ] = "none",
    precision: Precision = "auto",
    documents: Annotated[
        str | None,
        typer.Option(
            "--documents",
            metavar="UNIT",
            help="A document of text is a line, a paragraph or a file (default: a paragraph of a named file, "
            "a whole file of a folder).",
        ),
    ] = None,
    chunk: Annotated[
        str | None,
        typer.Option(
            "--chunk", metavar="SIZE/OVERLAP", help="Cut documents into passages of so many tokens: 200/50."
        ),
    ] = None,
    text_field: TextField = "text",
    id_field: IdField = None,
    hidden: Hidden = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="FILE|STEPS",
            help="How BM25 sees words: a TOML file of standardize, or steps with commas.",
        ),
    ] = None,
    k1: Annotated[float, typer.Option("--k1", metavar="X", help="BM25: how soon repetition tires.")] = 1.2,
    b: Annotated[float, typer.Option("--b", metavar="X", help="BM25: what length costs, 0 to 1.")] = 0.75,
    faiss: Annotated[
        str | None,
        typer.Option("--faiss", metavar="FACTORY", help="A FAISS index by its factory string; else by size."),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option("--quantize", metavar="WAY", help="Search small copies of the vectors: int8 or binary."),
    ] = None,
    rescore: Annotated[
        int | None,
        typer.Option("--rescore", metavar="N", help="How many times k are compared exactly."),
    ] = None,
    backend: Annotated[
        str, typer.Option("--backend", metavar="URI", help="Where vectors are kept: local.")
    ] = "local",
    errors: Errors = "replace",
    lock_timeout: LockTimeout = 10.0,
    force: Force = False,
    json_: AsJson = False,
) -> None:
    """Index documents: text, Markdown, HTML, PDF and code, in files and folders; jsonl, csv, tsv or Parquet records.

    Folders honour .gitignore. A build that was cut short is gone on with by the same command.

    Example: nlpkit index build docs/ --chunk 200/50 -o indexes/docs
    """
    from nlpkit.search.index import Index, known_backend
    from nlpkit.store.atomic import refuse_existing
    from nlpkit.text.collection import read_collection
    from nlpkit.text.documents import required
    from nlpkit.text.standardize import Recipe

    known_backend(backend)
    refuse_existing(output, force)
    chosen = None
    if recipe is not None:
        is_file = Path(recipe).exists() or recipe.endswith(".toml")
        chosen = Recipe.load(recipe) if is_file else Recipe.of(s for s in recipe.split(",") if s)
    found = read_collection(
        inputs or [],
        documents=documents,
        text_field=text_field,
        id_field=id_field,
        errors=errors,
        hidden=hidden,
    )
    dense = {"factory": faiss, "quantize": quantize, "rescore": rescore}
    index = Index.build(
        required(found, inputs or [], "index"),
        output,
        encoder_path=None if model == "none" else model,
        precision=precision,
        recipe=chosen,
        chunks=chunk,
        k1=k1,
        b=b,
        dense={name: value for name, value in dense.items() if value is not None},
        unit=documents or "",
        force=force,
        lock_timeout=lock_timeout,
    )
    _say(output, index.changed, json_)


def _change(
    index: Path, inputs: list[str] | None, update: bool, timeout: float, json_: bool, **options: Any
) -> None:
    from nlpkit.search.index import Index
    from nlpkit.text.collection import read_collection

    with Index.open(index, writable=True, lock_timeout=timeout) as opened:
        options["documents"] = options["documents"] or opened.settings.documents or None
        changed = opened.add(read_collection(inputs or [], **options), update=update)
    _say(index, changed, json_)


def _say(index: Path, changed: Any, json_: bool) -> None:
    from dataclasses import asdict
    from json import dumps

    from nlpkit import console

    if json_:
        console.write(dumps({"path": str(index), **asdict(changed)}) + "\n")
    console.note(f"{index}: {changed.words()}")


@app.command()
def add(
    index: Where,
    inputs: Inputs = None,
    documents: Unit = None,
    text_field: TextField = "text",
    id_field: IdField = None,
    hidden: Hidden = False,
    errors: Errors = "replace",
    lock_timeout: LockTimeout = 10.0,
    json_: AsJson = False,
) -> None:
    """Add documents, all or none; they are on the disk and found when this returns. An id that is there is an error.

    Example: nlpkit index add indexes/docs new.jsonl
    """
    options = {"documents": documents, "text_field": text_field, "id_field": id_field, "hidden": hidden}
    _change(index, inputs, False, lock_timeout, json_, errors=errors, **options)


@app.command()
def update(
    index: Where,
    inputs: Inputs = None,
    documents: Unit = None,
    text_field: TextField = "text",
    id_field: IdField = None,
    hidden: Hidden = False,
    errors: Errors = "replace",
    lock_timeout: LockTimeout = 10.0,
    json_: AsJson = False,
) -> None:
    """Add documents or replace those of the same id, all or none; what is unchanged costs nothing.

    Example: nlpkit index update indexes/docs docs.jsonl
    """
    options = {"documents": documents, "text_field": text_field, "id_field": id_field, "hidden": hidden}
    _change(index, inputs, True, lock_timeout, json_, errors=errors, **options)


@app.command()
def delete(
    index: Where,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Ids of documents; -: from stdin, one a line.")
    ] = None,
    from_file: Annotated[
        Path | None, typer.Option("--ids", metavar="FILE", help="A file of ids, one a line.")
    ] = None,
    lock_timeout: LockTimeout = 10.0,
) -> None:
    """Delete documents by id, all or none.

    Example: nlpkit index delete indexes/docs faq-17 faq-18
    """
    from nlpkit import console
    from nlpkit.errors import UsageError
    from nlpkit.search.index import Index
    from nlpkit.text.documents import read_documents

    wanted = [i for i in ids or [] if i != "-"]
    listed = [str(from_file)] if from_file is not None else []
    listed += ["-"] if "-" in (ids or []) else []
    for source in listed:
        wanted += [line.text for line in read_documents([source], format="text") if line.text]
    if not ids and from_file is None:
        raise UsageError("name the ids of documents, or pass --ids FILE, or - for standard input")
    with Index.open(index, writable=True, lock_timeout=lock_timeout) as opened:
        count = opened.delete(wanted)
    console.note(f"{index}: {count:,} deleted")


@app.command()
def info(index: Where, json_: AsJson = False) -> None:
    """What is in an index and how it was built.

    Example: nlpkit index info indexes/docs --json
    """
    import json

    from nlpkit import console
    from nlpkit.search.index import Index, info_rows

    known = Index.open(index).info()
    if json_:
        console.write(json.dumps(known, ensure_ascii=False, indent=1) + "\n")
    else:
        console.table(info_rows(known), ("what", "value"))


@app.command()
def verify(index: Where, json_: AsJson = False) -> None:
    """Read every byte of an index and compare it with its seal; exit 4 and list the damage where there is any.

    Example: nlpkit index verify indexes/docs
    """
    import json

    from nlpkit import console
    from nlpkit.errors import ArtifactError
    from nlpkit.search.verify import verify as check

    problems = check(index)
    if json_:
        console.write(json.dumps({"path": str(index), "problems": problems}, indent=1) + "\n")
    if not problems:
        console.note(f"{index}: whole")
        return
    for problem in problems[1:]:
        console.note(problem)
    raise ArtifactError(problems[0])


@app.command()
def compact(index: Where, lock_timeout: LockTimeout = 10.0) -> None:
    """Fold recent changes into the index files and give the space of deleted documents back.

    Example: nlpkit index compact indexes/docs
    """
    _fold(index, lock_timeout, rebuild=False)


@app.command()
def rebuild(index: Where, lock_timeout: LockTimeout = 10.0) -> None:
    """Make the BM25 and FAISS files anew from the documents; no text goes through the model again.

    Example: nlpkit index rebuild indexes/docs
    """
    _fold(index, lock_timeout, rebuild=True)


def _fold(index: Path, timeout: float, *, rebuild: bool) -> None:
    from nlpkit import console
    from nlpkit.search.index import Index

    with Index.open(index, writable=True, lock_timeout=timeout) as opened:
        opened.compact(rebuild=rebuild)
    console.note(f"{index}: {'rebuilt' if rebuild else 'compacted'}")


@app.command()
def tune(
    index: Where,
    queries: Annotated[
        Path, typer.Option("--queries", metavar="FILE", help="Queries: id<TAB>text lines, or jsonl.")
    ],
    qrels: Annotated[
        Path,
        typer.Option("--qrels", metavar="FILE", help="Judgements: query, document, grade (BEIR or TREC)."),
    ],
    json_: AsJson = False,
) -> None:
    """Choose the share of the dense score in hybrid search by nDCG@10 on judged queries, and keep it in the index.

    Example: nlpkit index tune indexes/docs --queries dev.tsv --qrels qrels/dev.tsv
    """
    import json

    from nlpkit import console
    from nlpkit.search.evaluate import read_qrels, read_queries
    from nlpkit.search.fuse import tune as best
    from nlpkit.search.index import Index

    with Index.open(index, writable=True) as opened:
        found = best(opened, read_queries(queries), read_qrels(qrels))
        opened.set_weight(found["weight"])
    if json_:
        console.write(json.dumps(found, indent=1) + "\n")
    else:
        console.table([(w, m) for w, m in found["curve"].items()], ("weight", "ndcg@10"))
    console.note(
        f"{index}: weight {found['weight']} (nDCG@10 {found['ndcg@10']:.4f}, {found['queries']} queries)"
    )

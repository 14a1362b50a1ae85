"""``nlpkit index``: build and change a search index."""

from pathlib import Path
from typing import Annotated

import typer

from nlpkit.cli.options import AsJson, Documents, Errors, Force, IdField, Inputs, TextField

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Build, change, inspect and tune a search index."
)

Where = Annotated[Path, typer.Argument(metavar="INDEX", help="The index.")]


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
    documents: Documents = "paragraph",
    text_field: TextField = "text",
    id_field: IdField = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="FILE|STEPS",
            help="How BM25 sees words: a TOML file of standardize, or steps with commas.",
        ),
    ] = None,
    errors: Errors = "replace",
    force: Force = False,
) -> None:
    """Index documents: text files, jsonl, csv or tsv records.

    Example: nlpkit index build docs/*.txt --documents paragraph -o indexes/docs
    """
    from nlpkit import console
    from nlpkit.search.index import Index
    from nlpkit.store.atomic import refuse_existing
    from nlpkit.text.documents import read_documents, required
    from nlpkit.text.standardize import Recipe

    refuse_existing(output, force)
    chosen = None
    if recipe is not None:
        is_file = Path(recipe).exists() or recipe.endswith(".toml")
        chosen = Recipe.load(recipe) if is_file else Recipe.of(s for s in recipe.split(",") if s)
    found = read_documents(
        inputs or [], documents=documents, text_field=text_field, id_field=id_field, errors=errors
    )
    index = Index.build(
        required(found, inputs or [], "index"),
        output,
        encoder_path=None if model == "none" else model,
        recipe=chosen,
        force=force,
    )
    console.note(f"{output}: {index.changed.words()}")


@app.command()
def add(
    index: Where,
    inputs: Inputs = None,
    update: Annotated[bool, typer.Option("--update", help="Replace documents whose id is there.")] = False,
    documents: Documents = "paragraph",
    text_field: TextField = "text",
    id_field: IdField = None,
    errors: Errors = "replace",
) -> None:
    """Add documents, all or none; they are on the disk and found when this returns.

    Example: nlpkit index add indexes/docs new.jsonl --update
    """
    from nlpkit import console
    from nlpkit.search.index import Index
    from nlpkit.text.documents import read_documents

    found = read_documents(
        inputs or [], documents=documents, text_field=text_field, id_field=id_field, errors=errors
    )
    with Index.open(index, writable=True) as opened:
        changed = opened.add(found, update=update)
    console.note(f"{index}: {changed.words()}")


@app.command()
def delete(
    index: Where,
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of documents.")],
) -> None:
    """Delete documents by id, all or none.

    Example: nlpkit index delete indexes/docs faq-17 faq-18
    """
    from nlpkit import console
    from nlpkit.search.index import Index

    with Index.open(index, writable=True) as opened:
        count = opened.delete(ids)
    console.note(f"{index}: {count:,} deleted")


@app.command()
def info(index: Where, json_: AsJson = False) -> None:
    """What is in an index and how it was built.

    Example: nlpkit index info indexes/docs --json
    """
    import json

    from nlpkit import console
    from nlpkit.search.index import Index

    known = Index.open(index).info()
    if json_:
        console.write(json.dumps(known, ensure_ascii=False, indent=1) + "\n")
        return
    rows = []
    for name, value in known.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        if value is not None:
            rows.append((name.replace("_", " "), str(value)))
    console.table(rows, ("what", "value"))


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
def compact(
    index: Where,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the BM25 and FAISS files anew from the documents.")
    ] = False,
) -> None:
    """Fold recent changes into the index files and give the space of deleted documents back.

    Example: nlpkit index compact indexes/docs
    """
    from nlpkit import console
    from nlpkit.search.index import Index

    with Index.open(index, writable=True) as opened:
        opened.compact(rebuild=rebuild)
    console.note(f"{index}: compacted")


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

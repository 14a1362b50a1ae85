"""``nlpkit tokenize``: text to token ids."""

from typing import Annotated

import typer


def command(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[IN]...", help="Files or folders; none or - is stdin.")
    ] = None,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", metavar="DIR", help="A tokenizer's or model's folder.")
    ] = ...,  # type: ignore[assignment]
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="A file; NAME.npy or NAME.bin for a shard.")
    ] = None,
    format: Annotated[str, typer.Option(help="ids, tokens, jsonl, npy or bin.")] = "ids",
    special: Annotated[bool, typer.Option("--special", help="Add [CLS] and [SEP].")] = False,
    eos: Annotated[bool, typer.Option("--eos", help="End each document with <|endoftext|>.")] = False,
    standardized: Annotated[
        bool, typer.Option("--standardized", help="The text has been through the recipe already.")
    ] = False,
    max_length: Annotated[int | None, typer.Option(min=1, help="Cut longer documents; counted.")] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Threads (all cores); ids do not depend on it.")
    ] = None,
    documents: Annotated[
        str, typer.Option(help="In text, a document is a line, paragraph or file.")
    ] = "line",
    text_field: Annotated[str, typer.Option(help="The text field of records.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="The id field of records (_id or id).")] = None,
    input_format: Annotated[
        str | None, typer.Option(help="text, jsonl, csv or tsv; else by the file's name.")
    ] = None,
    errors: Annotated[str, typer.Option(help="Not UTF-8: replace, skip or strict.")] = "replace",
    force: Annotated[bool, typer.Option("--force", help="Replace existing output.")] = False,
) -> None:
    """Text to token ids: a filter, a line of ids for each document, in order.

    Example: zcat corpus.gz | nlpkit standardize | nlpkit tokenize --tokenizer runs/tok | head -1
    """
    import os

    if jobs is not None:
        os.environ["RAYON_NUM_THREADS"] = str(jobs)
    from nlpkit.text import filters
    from nlpkit.text.tokenizer import Tokenizer

    filters.tokenize(
        paths or [],
        Tokenizer.load(tokenizer),
        output,
        format=format,
        special=special,
        eos=eos,
        standardized=standardized,
        max_length=max_length,
        force=force,
        documents=documents,
        text_field=text_field,
        id_field=id_field,
        errors=errors,
        input_format=input_format,
    )

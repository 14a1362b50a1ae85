"""``nlpkit tokenize``: text to token ids."""

from typing import Annotated

import typer

from nlpkit.cli.options import Documents, Errors, Force, IdField, InputFormat, Inputs, TextField


def command(
    paths: Inputs = None,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", metavar="DIR", help="A tokenizer's or model's folder.")
    ] = ...,  # type: ignore[assignment]
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Write to this file instead of stdout; NAME.npy or NAME.bin for a shard.",
        ),
    ] = None,
    format: Annotated[str, typer.Option(metavar="FORM", help="ids, tokens, jsonl, npy or bin.")] = "ids",
    special: Annotated[bool, typer.Option("--special", help="Add [CLS] and [SEP].")] = False,
    eos: Annotated[bool, typer.Option("--eos", help="End each document with <|endoftext|>.")] = False,
    offsets: Annotated[
        bool, typer.Option("--offsets", help="jsonl: also each token's [start, end) bytes in the text.")
    ] = False,
    ngrams: Annotated[
        str | None,
        typer.Option(metavar="N|N-M", help="tokens: runs of so many tokens, a tab between two."),
    ] = None,
    pair_field: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Of records: the second text of a pair, [CLS] a [SEP] b [SEP]."),
    ] = None,
    standardized: Annotated[
        bool, typer.Option("--standardized", help="The text has been through the recipe already.")
    ] = False,
    max_length: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Cut longer documents (of a pair the longer part); counted."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", metavar="N", min=1, help="Threads (all cores); ids do not depend on it."
        ),
    ] = None,
    documents: Documents = "line",
    text_field: TextField = "text",
    id_field: IdField = None,
    input_format: InputFormat = None,
    errors: Errors = "replace",
    force: Force = False,
) -> None:
    """Text to token ids: a filter, a line of ids for each document, in order.

    Example: zcat corpus.gz | nlpkit standardize | nlpkit tokenize --tokenizer runs/tok | head -1
    """
    import os

    if jobs is not None:
        os.environ["RAYON_NUM_THREADS"] = str(jobs)
    from nlpkit.text import tokenize_stream
    from nlpkit.text.tokenizer import Tokenizer

    tokenize_stream.tokenize(
        paths or [],
        Tokenizer.load(tokenizer),
        output,
        format=format,
        special=special,
        eos=eos,
        standardized=standardized,
        max_length=max_length,
        offsets=offsets,
        ngrams=ngrams,
        pair_field=pair_field,
        force=force,
        documents=documents,
        text_field=text_field,
        id_field=id_field,
        errors=errors,
        input_format=input_format,
    )

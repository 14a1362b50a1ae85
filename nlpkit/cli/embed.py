"""``nlpkit embed``: a vector for each line."""

from typing import Annotated

import typer

from nlpkit.cli.options import Device, Documents, Errors, Force, IdField, Inputs, TextField
from nlpkit.errors import UsageError


def command(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A bi-encoder, masked model or GloVe folder, or a cached name."),
    ],
    paths: Inputs = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="OUT", help="Write to this file (.npy or .jsonl) instead of stdout."
        ),
    ] = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help='Write JSON lines with an "embedding" each.')
    ] = False,
    batch_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, help="Tokens of a batch, padding included.")
    ] = 8192,
    documents: Documents = "line",
    text_field: TextField = "text",
    id_field: IdField = None,
    errors: Errors = "replace",
    device: Device = "auto",
    force: Force = False,
) -> None:
    """A vector for each line: n documents in, n unit rows out (float32), in order.

    Writes a .npy file of shape (n, width) or, with --jsonl, records with an "embedding". A text of which nothing
    is known to a GloVe folder is a row of zeros.

    Example: nlpkit embed runs/bi questions.txt -o questions.npy
    """
    import shutil
    import sys
    import tempfile

    from nlpkit import console
    from nlpkit.inference.embed import load_encoder, write_npy
    from nlpkit.store import atomic
    from nlpkit.text.documents import batches, format_of, read_documents
    from nlpkit.text.records import json_line, record_of, writing

    to_stdout = output is None or output == "-"
    jsonl = jsonl or format_of(output) == "jsonl"
    if to_stdout and not jsonl and sys.stdout.isatty():
        raise UsageError("a terminal cannot show a .npy file; name one with -o OUT.npy, or pass --jsonl")
    if output is not None and not to_stdout:
        atomic.refuse_existing(output, force)
    found = read_documents(
        paths or [], documents=documents, text_field=text_field, id_field=id_field, errors=errors
    )
    encoder = load_encoder(model, device)
    with console.progress("embedding", unit="texts") as bar:

        def encoded():  # type: ignore[no-untyped-def]
            for window in batches(found, most=4096):
                yield window, encoder.encode([d.text for d in window], batch_tokens=batch_tokens)
                bar.advance(len(window))

        if jsonl:
            with writing(output, force) as file:
                for window, rows in encoded():
                    for document, row in zip(window, rows, strict=True):
                        file.write(json_line({**record_of(document), "embedding": row.tolist()}))
        elif to_stdout:
            with tempfile.TemporaryFile() as spool:
                write_npy(spool, (rows for _, rows in encoded()), encoder.width)
                spool.seek(0)
                shutil.copyfileobj(spool, console.data_out())
        else:
            with atomic.writing(str(output)) as file:
                write_npy(file, (rows for _, rows in encoded()), encoder.width)
    if cut := getattr(encoder, "truncated", 0):
        console.warn(f"{cut} texts were cut at the model's greatest length")

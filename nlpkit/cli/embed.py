"""``nlpkit embed``: a vector for each line."""

from typing import Annotated

import typer

from nlpkit.cli.options import Device, Documents, Errors, Force, IdField, Inputs, Precision, TextField
from nlpkit.errors import UsageError, did_you_mean

WEIGHTINGS = ("mean", "sif")


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
    weighting: Annotated[
        str | None,
        typer.Option(
            metavar="WAY",
            help="Of word vectors: mean, or sif (rare words weigh more, one common direction is removed).",
        ),
    ] = None,
    save_encoder: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Keep what sif learns from these texts, for embed, eval and index --model."
        ),
    ] = None,
    precision: Precision = "auto",
    batch_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, help="Tokens of a batch, at most (or one longer text).")
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
    is known to a GloVe folder is a row of zeros. What --weighting sif removes is learned from the texts, so they
    are read twice; --save-encoder keeps it, so that other texts (queries) are treated alike. Without -o it writes
    nothing else.

    With --precision auto bf16 is measured beside fp32 once there are some thousand words, and taken where it is
    faster: vectors then differ in the fourth digit. int8 is the fastest, and the cosine to fp32 is about 0.998.

    Example: nlpkit embed runs/bi questions.txt -o questions.npy
    """
    import shutil
    import sys
    import tempfile
    from pathlib import Path

    from nlpkit import console
    from nlpkit.inference.embed import fit_encoder, load_encoder, weighting_of, write_npy
    from nlpkit.store import atomic
    from nlpkit.text.documents import Counts, batches, format_of, read_documents
    from nlpkit.text.records import json_line, record_of, writing

    to_stdout = output is None or output == "-"
    jsonl = jsonl or format_of(output) == "jsonl"
    fits = _fits(model, weighting, weighting_of(model) if weighting or save_encoder else "", save_encoder)
    fit_only = output is None and save_encoder is not None
    if to_stdout and not jsonl and not fit_only and sys.stdout.isatty():
        raise UsageError("a terminal cannot show a .npy file; name one with -o OUT.npy, or pass --jsonl")
    if output is not None and not to_stdout:
        atomic.refuse_existing(output, force)
    if save_encoder is not None:
        atomic.refuse_existing(save_encoder, force)
    once = [path for path in paths or ["-"] if path == "-" or Path(path).is_fifo()]
    if fits and once and not fit_only:
        raise UsageError(
            f"{'standard input' if once[0] == '-' else once[0]}: can be read once, and sif learns from the texts "
            "first; name files, or fit with --save-encoder DIR alone and embed with that"
        )

    def documents_of(counts: Counts | None = None):  # type: ignore[no-untyped-def]
        return read_documents(
            paths or [],
            documents=documents,
            text_field=text_field,
            id_field=id_field,
            errors=errors,
            counts=counts,
        )

    # What was replaced on the way is said once: when the texts are embedded.
    found = documents_of(Counts() if fits and not fit_only else None)
    if fits:
        with console.progress("fitting", unit="texts") as bar:

            def learned_from():  # type: ignore[no-untyped-def]
                for window in batches(found, most=4096):
                    yield [d.text for d in window]
                    bar.advance(len(window))

            encoder, texts = fit_encoder(model, learned_from(), save_encoder, force=force)
        kept = (
            f"kept in {save_encoder}" if save_encoder else "keep it for other texts with --save-encoder DIR"
        )
        console.note(f"sif: the common direction of {texts:,} texts is removed; {kept}")
        if fit_only:
            return
        found = documents_of()
    else:
        encoder = load_encoder(model, device, precision)
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


def _fits(model: str, weighting: str | None, has: str, save_encoder: str | None) -> bool:
    """Whether the common direction has to be learned from the texts; ``has`` is the weighting of the folder."""
    if weighting is not None and weighting not in WEIGHTINGS:
        raise UsageError(f"--weighting {weighting!r}{did_you_mean(weighting, WEIGHTINGS)}")
    if save_encoder is not None and weighting != "sif":
        raise UsageError("--save-encoder keeps what --weighting sif learns: pass both")
    if weighting is None:
        return False
    if not has:
        raise UsageError(f"{model}: --weighting is for word vectors, this is a trained encoder; leave it out")
    if has == "sif" and (weighting == "mean" or save_encoder is not None):
        raise UsageError(f"{model}: was fitted for sif already; name the vectors it was made from")
    return weighting == "sif" and has == "mean"

"""``nlpkit classify``: a label and its probability for each line."""

from typing import Annotated

import typer

from nlpkit.cli.options import Device, Documents, Errors, Force, IdField, Inputs, TextField


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run or folder of a text classifier.")],
    paths: Inputs = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="OUT", help="Write to this file instead of stdout."),
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print JSON lines with all probabilities.")] = False,
    documents: Documents = "line",
    text_field: TextField = "text",
    id_field: IdField = None,
    errors: Errors = "replace",
    device: Device = "auto",
    force: Force = False,
) -> None:
    """A label and its probability for each line: a filter; n documents in, n lines out, in order.

    Prints LABEL<TAB>PROBABILITY; with --jsonl the record with "label", "probability" and "probabilities", other
    fields passed through.

    Example: printf 'How do I sort a list?\\n' | nlpkit classify runs/trec
    """
    from itertools import tee

    from nlpkit.inference.classify import classify
    from nlpkit.inference.loading import load_model
    from nlpkit.text.documents import read_documents
    from nlpkit.text.records import json_line, record_of, writing

    found = read_documents(
        paths or [], documents=documents, text_field=text_field, id_field=id_field, errors=errors
    )
    # Both ends of the tee stay within one window of documents of each other.
    kept, read = tee(found)
    predictions = classify(load_model(run, device), (document.text for document in read))
    with writing(output, force) as file:
        for prediction, document in zip(predictions, kept, strict=False):
            if jsonl:
                answer = {
                    "label": prediction.label,
                    "probability": prediction.probability,
                    "probabilities": prediction.probabilities,
                }
                file.write(json_line({**record_of(document), **answer}))
            else:
                label = " ".join(prediction.label.split())
                file.write(f"{label}\t{prediction.probability:.4f}\n".encode("utf-8", "replace"))

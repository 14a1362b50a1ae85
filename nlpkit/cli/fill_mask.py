"""``nlpkit fill-mask``: the likeliest words for <MASK>."""

from collections.abc import Iterable
from typing import Annotated

import typer

from nlpkit.cli.options import AsJson, Device


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run or folder of a masked language model.")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Texts with <MASK>; none or -: lines of stdin."),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top", metavar="N", help="Candidates for each mask.")] = 5,
    device: Device = "auto",
    as_json: AsJson = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print JSON lines, one a text.")] = False,
) -> None:
    """The likeliest words for <MASK>.

    Prints each text with the best words put in, then a line for each candidate: the mask's number, the word and
    its probability. [MASK] is understood too, and a text may have several.

    Example: nlpkit fill-mask runs/mlm 'a list is a <MASK> of items'
    """
    import dataclasses
    import json

    from nlpkit import console
    from nlpkit.inference.fill_mask import fill
    from nlpkit.inference.loading import load_model
    from nlpkit.text.documents import read_documents, sources

    if not texts or texts == ["-"]:
        sources(["-"])  # a terminal is refused before the model is read
        lines: Iterable[str] = (document.text for document in read_documents(["-"]))
    else:
        lines = texts
    answers = fill(load_model(run, device), lines, k)
    if as_json:
        console.write(json.dumps([dataclasses.asdict(a) for a in answers], ensure_ascii=False) + "\n")
        return
    for answer in answers:
        if jsonl:
            console.write(json.dumps(dataclasses.asdict(answer), ensure_ascii=False) + "\n")
            continue
        console.write(answer.filled + "\n")
        for number, candidates in enumerate(answer.masks, 1):
            for one in candidates:
                console.write(f"{number}\t{one.token}\t{one.probability:.4f}\n")

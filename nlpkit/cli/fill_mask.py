"""``nlpkit fill-mask``: the likeliest words for <MASK>."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from nlpkit.cli.options import AsJson, Device


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run or folder of a masked language model.")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Texts with <MASK>; none or -: lines of stdin."),
    ] = None,
    k: Annotated[
        int, typer.Option("-k", "--top", metavar="N", help="Candidates for each mask, or fillings.")
    ] = 5,
    joint: Annotated[
        bool, typer.Option("--joint", help="Fill the masks of a text together, so that they agree.")
    ] = False,
    beams: Annotated[int, typer.Option(metavar="N", help="Of --joint: partial fillings that are kept.")] = 10,
    order: Annotated[
        str,
        typer.Option(metavar="WAY", help="Of --joint: fill the most certain mask first, or left to right."),
    ] = "certain",
    device: Device = "auto",
    as_json: AsJson = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print JSON lines, one a text.")] = False,
) -> None:
    """The likeliest words for <MASK>.

    Prints each text with the best words put in, then a line for each candidate: the mask's number, the word and
    its probability. [MASK] is understood too, and a text may have several. With --joint the masks are filled one
    after another, each seeing the words before; prints JOINT-PROBABILITY<TAB>FILLED-TEXT for each filling.

    Example: nlpkit fill-mask runs/mlm --joint 'MIT is <MASK> in Cambridge, <MASK> and was <MASK> in 1861.'
    """
    import dataclasses
    import json

    from nlpkit import console
    from nlpkit.inference.fill_mask import fill, fill_jointly
    from nlpkit.inference.loading import load_model
    from nlpkit.text.documents import read_documents, sources

    if not texts or texts == ["-"]:
        sources(["-"])  # a terminal is refused before the model is read
        lines: Iterable[str] = (document.text for document in read_documents(["-"]))
    else:
        lines = texts
    loaded = load_model(run, device)
    answers: Iterable[Any] = (
        fill_jointly(loaded, lines, k, beams=beams, order=order) if joint else fill(loaded, lines, k)
    )
    if as_json:
        console.write(json.dumps([dataclasses.asdict(a) for a in answers], ensure_ascii=False) + "\n")
        return
    for answer in answers:
        if jsonl:
            console.write(json.dumps(dataclasses.asdict(answer), ensure_ascii=False) + "\n")
        elif joint:
            for one in answer.fillings:
                console.write(f"{one.probability:.3g}\t{one.filled}\n")
        else:
            console.write(answer.filled + "\n")
            for number, candidates in enumerate(answer.masks, 1):
                for one in candidates:
                    console.write(f"{number}\t{one.token}\t{one.probability:.4f}\n")

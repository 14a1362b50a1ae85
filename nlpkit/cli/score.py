"""``nlpkit score``: how likely texts are under a language model, and minimal pairs."""

from typing import Annotated, Any

import typer

from nlpkit.cli.options import AsJson, Device, Documents, Errors, Force, IdField, Inputs, TextField
from nlpkit.errors import UsageError


def command(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run or folder of a next-token or masked language model.")
    ],
    paths: Inputs = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="OUT", help="Write to this file instead of stdout."),
    ] = None,
    total: Annotated[bool, typer.Option("--total", help="One result for the whole input.")] = False,
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Minimal pairs: records with good, bad (or BLiMP's), perhaps group or UID."
        ),
    ] = None,
    pll: Annotated[
        str,
        typer.Option(
            metavar="WAY",
            help="Of a masked model: original hides each token in turn, within-word the rest of its word too.",
        ),
    ] = "original",
    overlap: Annotated[
        int, typer.Option(metavar="N", help="Of long texts: tokens of a window that the last one scored.")
    ] = 0,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print JSON lines, one a text (or pair).")] = False,
    as_json: AsJson = False,
    documents: Documents = "line",
    text_field: TextField = "text",
    id_field: IdField = None,
    errors: Errors = "replace",
    device: Device = "auto",
    force: Force = False,
) -> None:
    """How likely each line is: a filter; n documents in, n lines out, in order.

    Prints BITS-PER-BYTE<TAB>PERPLEXITY<TAB>LOSS<TAB>TOKENS<TAB>TEXT; the loss is in nats a token. With --jsonl the
    record with "loss", "tokens", "perplexity" and "bits_per_byte", other fields passed through. Bits per byte compare
    models of any tokenizer and kind; a masked model's are of its pseudo-log-likelihood. Empty texts have no score.

    Example: nlpkit score runs/clm test.txt --total
    """
    if pairs is not None and (paths or total or overlap):
        raise UsageError("--pairs is its own input; leave IN, --total and --overlap out")
    if output is not None and (pairs is not None or total):
        raise UsageError("-o is for the scores of texts; --total and --pairs print theirs")
    if as_json and jsonl:
        raise UsageError("--json and --jsonl are two forms of one output; choose one")
    from nlpkit.inference.loading import load_model
    from nlpkit.text.documents import read_documents, sources

    if pairs is not None:
        sources([pairs])  # a missing file is told before the model is read
        return _pairs(load_model(run, device), pairs, pll, as_json, jsonl)
    found = read_documents(
        paths or [], documents=documents, text_field=text_field, id_field=id_field, errors=errors
    )
    loaded = load_model(run, device)
    if total:
        return _total(loaded, found, pll, overlap, as_json or jsonl)
    from nlpkit.text.records import writing

    with writing(output, force) as file:
        _texts(file, loaded, found, pll, overlap, "json" if as_json else "jsonl" if jsonl else "")


def _texts(file: Any, loaded: Any, found: Any, pll: str, overlap: int, form: str) -> None:
    """Write the score of each document as it comes."""
    from itertools import tee

    from nlpkit import console
    from nlpkit.inference.score import score
    from nlpkit.text.records import json_line, record_of

    # Both ends of the tee stay within one window of documents of each other.
    kept, read = tee(found)
    scores = score(loaded, (document.text for document in read), pll=pll, overlap=overlap)
    count = empty = 0
    for one, document in zip(scores, kept, strict=False):
        told = one.record()
        if form:
            line = json_line({**record_of(document), **told})
            file.write(line if form == "jsonl" else (b", " if count else b"[") + line.rstrip(b"\n"))
        else:
            cells = [_shown(told[name]) for name in ("bits_per_byte", "perplexity", "loss", "tokens")]
            words = " ".join(console.visible(document.text).split())
            file.write(("\t".join([*cells, words]) + "\n").encode("utf-8", "replace"))
        count += 1
        empty += not one.tokens
    if form == "json":
        file.write(b"]\n" if count else b"[]\n")
    if empty:
        console.note(f"{empty:,} of {count:,} texts are empty: they have no score")


def _total(loaded: Any, found: Any, pll: str, overlap: int, as_json: bool) -> None:
    """Print one result for all documents."""
    import json

    from nlpkit import console
    from nlpkit.inference.score import score, total

    told = total(score(loaded, (document.text for document in found), pll=pll, overlap=overlap))
    if as_json:
        console.write(json.dumps(told) + "\n")
    else:
        console.table([(name, _shown(value)) for name, value in told.items()], ["measure", "value"])


def _pairs(loaded: Any, path: str, pll: str, as_json: bool, jsonl: bool) -> None:
    """Print which of each pair is likelier, or how often it is the good one."""
    import json

    from nlpkit import console
    from nlpkit.inference.minimal_pairs import judge, read_pairs
    from nlpkit.metrics.forced_choice import report

    judged = judge(loaded, read_pairs(path), pll=pll)
    if jsonl:
        for one in judged:
            told = {
                "good": one.pair.good,
                "bad": one.pair.bad,
                **({"group": one.pair.group} if one.pair.group else {}),
                "good_nats": one.good.nats,
                "bad_nats": one.bad.nats,
                "right": one.right,
            }
            console.write(json.dumps(told, ensure_ascii=False) + "\n")
        return
    found = report((one.pair.group, one.right) for one in judged)
    if as_json:
        console.write(json.dumps(found, ensure_ascii=False) + "\n")
        return
    rows = [(name, *_cells(one)) for name, one in found["groups"].items()]
    console.table([*rows, ("all pairs", *_cells(found))], ["group", "accuracy", "95 %", "pairs", "ties"])
    if found["ties"]:
        console.note(f"a tie counts as half: {found['ties']:,} of {found['pairs']:,} pairs")


def _cells(one: dict[str, Any]) -> tuple[Any, ...]:
    low, high = one["accuracy_interval"]
    return one["accuracy"], f"{low:.4f}-{high:.4f}", one["pairs"], one["ties"]


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)

"""``nlpkit inspect``: what a model is made of, and what it does with a text."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from nlpkit.cli.options import AsJson, Device, Force
from nlpkit.errors import UsageError

COLUMNS, NUMBERS = 10, 7  # of a terminal's 80: weights of a row, numbers of a vector
LABEL = 10  # characters of a token beside them


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run or model folder of any kind.")],
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What a text model is to read; - is all of stdin.")
    ] = None,
    layer: Annotated[
        int | None, typer.Option("--layer", metavar="N", help="With --head: show Q, K, V and A, from 0.")
    ] = None,
    head: Annotated[
        int | None, typer.Option("--head", metavar="M", help="With --layer: the head, from 0.")
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option("--attention", metavar="FILE", help="Draw the attention into an .svg or .html file."),
    ] = None,
    device: Device = "auto",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Show what a model is made of, and what it does with a text.

    Prints its modules, the sums of their parameters and the operations of a pass; with TEXT also its tokens, with
    --layer and --head the queries, keys, values and attention weights of that head. Layers and heads count from 0.

    Example: nlpkit inspect runs/mlm 'the cat sat on the mat' --layer 0 --head 1 --attention maps.html
    """
    import dataclasses
    import json

    from nlpkit import console
    from nlpkit.inference import inspect
    from nlpkit.inference.loading import load_model
    from nlpkit.report import attention_map
    from nlpkit.text.documents import read_documents

    if (layer is None) != (head is None):
        raise UsageError("--layer and --head go together; give both")
    if text is None and (layer is not None or attention is not None):
        raise UsageError(
            f"{'--attention' if layer is None else '--layer'} needs a TEXT for the model to read"
        )
    if attention is not None:
        attention_map.check(attention, force=force)
    if text == "-":
        text = "\n".join(d.text for d in read_documents(["-"], documents="file")).removesuffix("\n")
    loaded = load_model(run, device)
    told = inspect.read(loaded, text) if text is not None else None
    view = watched = None
    if told is not None and (layer is not None or attention is not None):
        watched = inspect.watch(loaded.model, told.ids)
        view = watched.head(layer, head) if layer is not None and head is not None else None
    rows, sums = inspect.modules(loaded.model), inspect.totals(loaded)
    work = inspect.operations(loaded, None if told is None else len(told.ids))
    if attention is not None and told is not None and watched is not None:
        one = view is not None and attention.lower().endswith(".svg")
        weights = view.weights[None, None] if one and view is not None else watched.all()
        chosen = None if view is None else (view.layer, view.head)
        attention_map.write_map(attention, weights, told.pieces, f"{run}: {told.text}", chosen, force=force)
        console.note(f"{attention}: attention of {'one head' if one else 'all heads'}")
    if as_json:
        whole: dict[str, Any] = {
            "model": str(loaded.folder),
            "kind": loaded.kind,
            "modules": [dataclasses.asdict(row) for row in rows],
            "totals": dataclasses.asdict(sums),
            "operations": work,
        }
        if told is not None:
            whole["text"] = dataclasses.asdict(told)
        if view is not None:
            whole["attention"] = inspect.as_json(view)
        console.write(json.dumps(whole, ensure_ascii=False) + "\n")
        return
    _modules(inspect.together(rows), f"{run}: {loaded.kind}")
    _totals(sums, work)
    if told is not None:
        cells = list(zip(told.positions, told.ids, told.tokens, told.pieces, strict=True))
        _section("What the model reads", cells, ["position", "id", "token", "text"])
    if told is not None and view is not None:
        _matrices(told, view)


def _section(title: str, rows: Sequence[Sequence[Any]], header: Sequence[str]) -> None:
    """A table under its title, which may be wider than the table; an empty line before it."""
    from nlpkit import console

    console.write(("" if console.colour() else "\n") + title + "\n")
    console.table(rows, header)


def _modules(rows: list[tuple[str, str, int, int]], title: str) -> None:
    counts = [f"{count:,}" for *_, count in rows]
    width = max(map(len, counts), default=0)
    shown = [
        (name, shapes, times, count.rjust(width))
        for (name, shapes, times, _), count in zip(rows, counts, strict=True)
    ]
    _section(title, shown, ["module", "weights", "times", "parameters"])


def _totals(sums: Any, work: dict[str, int]) -> None:
    of = f"of {work['tokens']:,} tokens" if "tokens" in work else "of one image"
    lines = [
        ("parameters", f"{sums.parameters:,}"),
        ("without embeddings", f"{sums.without_embeddings:,}"),
        ("in memory", _bytes(sums.bytes_in_memory)),
        ("weights on disk", _bytes(sums.bytes_on_disk)),
        (f"a pass {of}", _operations(work["forward"])),
        (f"a training step {of}", _operations(work["training"])),
    ]
    if sums.tied:
        lines.insert(2, ("output", "shares the token embedding"))
    _section("In all", lines, ["what", "value"])


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def _operations(count: int) -> str:
    """Operations with a prefix, as the field writes them."""
    for size, name in ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")):
        if count >= size:
            return f"{count / size:,.2f} {name}"
    return f"{count:,} FLOP"


def _matrices(told: Any, view: Any) -> None:
    from nlpkit import console
    from nlpkit.report.attention_map import short

    labels = [f"{i} {short(piece, LABEL)}" for i, piece in enumerate(told.pieces)]
    width = view.q.shape[1]
    cut = f", the first {NUMBERS} of {width} columns (--json has all)" if width > NUMBERS else ""
    window = "" if view.window is None else f", sees {view.window} tokens to each side"
    shared = "" if view.kv_head == view.head else f", key/value head {view.kv_head}"
    console.write(f"\nLayer {view.layer}, head {view.head}{shared}{window}\n")
    for name, what, matrix in (("Q", "queries", view.q), ("K", "keys", view.k), ("V", "values", view.v)):
        shown = [
            (label, *(f"{x:.2f}" for x in row[:NUMBERS])) for label, row in zip(labels, matrix, strict=True)
        ]
        heads = ["token", *(str(i) for i in range(min(width, NUMBERS)))]
        _section(f"{name}, {what}{cut}", shown, heads)
    for start in range(0, len(labels), COLUMNS):
        stop = min(start + COLUMNS, len(labels))
        cells = [
            (label, *(_weight(x) for x in row[start:stop]))
            for label, row in zip(labels, view.weights, strict=True)
        ]
        part = f", columns {start} to {stop - 1}" if len(labels) > COLUMNS else ""
        heads = ["token", *(str(i) for i in range(start, stop))]
        _section(f"A, how much the token of a row takes of each token{part}", cells, heads)


def _weight(x: float) -> str:
    """Two digits behind the point; nothing at all for what a mask hides."""
    if x == 0:
        return ""
    return "0" if x < 0.005 else "1" if x >= 0.995 else f"{x:.2f}".lstrip("0")

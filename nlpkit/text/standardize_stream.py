"""The standardize filter: a stream of documents through a recipe, in order and in bounded memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from nlpkit.errors import UsageError, did_you_mean
from nlpkit.text.documents import ERRORS, UNITS, Counts, format_of, sources, texts
from nlpkit.text.recipe import FORMS, PLAIN, Recipe
from nlpkit.text.records import Writer, read_records, writing
from nlpkit.text.standardize import Change, Standardizer
from nlpkit.text.token_wise import BulkLines, token_wise


def recipe_of(switches: Mapping[str, Any]) -> Recipe:
    """The recipe of the command line's switches; what is None keeps the default recipe's choice.

    >>> recipe_of({"lower": False, "stem": "en"}).steps
    ('nfkc', 'strip-accents', 'strip-punct', 'collapse-space', 'stem:en')
    """
    form = switches.get("form")
    if form is not None and form not in (*FORMS, "none"):
        raise UsageError(f"--form {form!r} is not known{did_you_mean(form, (*FORMS, 'none'))}")
    chosen = set(Recipe.DEFAULT.steps)
    if form is not None:
        chosen = {s for s in chosen if s not in FORMS} | ({form} - {"none"})
    for name in PLAIN:
        value = switches.get(name)
        if value is not None and name not in FORMS:
            chosen = chosen | {name} if value else chosen - {name}
    steps = [name for name in PLAIN if name in chosen]
    for name in ("stopwords", "stem", "min-length"):
        if switches.get(name) is not None:
            steps.append(f"{name}:{switches[name]}")
    return Recipe.of(steps)


def standardize(
    paths: Sequence[str | Path],
    recipe: Recipe,
    output: str | None = None,
    *,
    explain: bool = False,
    documents: str = "line",
    text_field: str = "text",
    format: str | None = None,
    errors: str = "replace",
    force: bool = False,
) -> int:
    """Standardize a stream into standard output or a file; how many documents there were.

    Text gives text and records give records of the same form with only ``text_field`` changed, unless the name
    of ``output`` asks for another form. A line of output stands for each line of input, empty ones too.
    """
    for value, known, what in ((documents, UNITS, "documents"), (errors, ERRORS, "errors")):
        if value not in known:
            raise UsageError(f"--{what} {value!r} is not known{did_you_mean(value, known)}")
    found = sources(paths, format)
    run = Standardizer(recipe)
    counts = Counts()
    form = found[0].format
    if output is not None and output != "-" and format_of(output) != "text":
        form = format_of(output)
    between = "\n\n" if documents == "paragraph" else "\n"
    with writing(output, force) as file:
        writer = Writer(file, form, text_field, between)
        lines = form == "text" and documents == "line" and not explain
        bulk = BulkLines(run) if lines and token_wise(recipe) else None
        for source in found:
            if bulk is not None and source.format == "text":
                for data, number in bulk(source, errors, counts):
                    file.write(data)
                    writer.count += number
                continue
            if source.format == "text":
                records = ({text_field: t} for t in texts(source, documents, errors, counts))
            else:
                records = (r for r, _ in read_records(source, text_field, errors, counts))
            for record in records:
                if explain:
                    _explain(run.explain(record[text_field]), file)
                    continue
                record[text_field] = run(record[text_field])
                writer.write(record)
    counts.report()
    return writer.count


def _explain(changes: Sequence[Change], file: IO[bytes]) -> None:
    """A line a token: it, what became of it, and the steps that did it, tab-separated."""
    for change in changes:
        if change.steps:
            how = "; ".join(f"{name}: {_short(a)} -> {_short(b)}" for name, a, b in change.steps)
        else:
            how = "unchanged"
        row = (_short(change.token), _short(change.result), how)
        file.write(("\t".join(row) + "\n").encode("utf-8", "replace"))
    file.write(b"\n")


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else flat[:79] + "…"

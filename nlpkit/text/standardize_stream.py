"""The standardize filter: a stream of documents through a recipe, in order and in bounded memory."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.text.documents import ERRORS, UNITS, Counts, sources, texts
from nlpkit.text.recipe import FORMS, PLAIN, Recipe
from nlpkit.text.records import Record, Writer, form_written, json_line, read_records, writing
from nlpkit.text.standardize import Change, Standardizer
from nlpkit.text.standardize_offsets import with_offsets
from nlpkit.text.token_wise import BulkLines


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
    if "casefold" in chosen and not switches.get("lower"):
        chosen -= {"lower"}
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
    offsets: bool = False,
    jobs: int | None = None,
    documents: str = "line",
    text_field: str = "text",
    format: str | None = None,
    errors: str = "replace",
    force: bool = False,
) -> int:
    """Standardize a stream into standard output or a file; how many documents there were.

    Text gives text and records give records of the same form with only ``text_field`` changed, unless the name
    of ``output`` asks for another form. A line of output stands for each line of input, empty ones too.
    With ``offsets`` every document gives a record (jsonl) with its ``tokens`` and their ``offsets``: bytes
    [start, end) of the text that was read. ``jobs`` processes (None: all processors) share large text sources
    line by line; the output does not depend on them.
    """
    if offsets and explain:
        raise UsageError("--offsets and --explain are two forms of output; choose one")
    for value, known, what in ((documents, UNITS, "documents"), (errors, ERRORS, "errors")):
        if value not in known:
            raise UsageError(f"--{what} {value!r} is not known{did_you_mean(value, known)}")
    found = sources(paths, format)
    run = Standardizer(recipe)
    counts = Counts()
    form = "text" if explain else form_written(output, found[0].format)
    if offsets:
        if output not in (None, "-") and form != "jsonl":
            raise UsageError(f"{output}: --offsets writes records; name the output NAME.jsonl")
        form = "jsonl"
        with_offsets(run, "")  # refuses a recipe that it cannot follow before anything is written
    between = "\n\n" if documents == "paragraph" else "\n"

    def offset_line(text: str) -> bytes:
        return json_line(_offset_record(run, {text_field: text}, text_field))

    with writing(output, force, form) as file, BulkLines(run, jobs, offset_line if offsets else None) as bulk:
        writer = Writer(file, form, text_field, between)
        lines = (form == "text" or offsets) and documents == "line" and not explain
        for source in found:
            if lines and source.format == "text":
                for data, number in bulk(source, errors, counts):
                    file.write(data)
                    writer.count += number
                continue
            if source.format == "text":
                records: Iterator[tuple[Record, str]] = (
                    ({text_field: t}, "") for t in texts(source, documents, errors, counts)
                )
            else:
                records = read_records(source, text_field, errors, counts)
            for record, where in records:
                if explain:
                    _explain(run.explain(record[text_field]), file)
                    continue
                if offsets:
                    record = _offset_record(run, record, text_field, where)
                else:
                    record[text_field] = run(record[text_field])
                writer.write(record)
        writer.close()
    counts.report()
    return writer.count


def _offset_record(run: Standardizer, record: Record, text_field: str, where: str = "") -> Record:
    """A record with its text standardized, and the words of it with their bytes in the raw text."""
    for name in ("tokens", "offsets"):
        if name in record:
            raise DataError(
                f"{where}: the record has a field {name!r}, which --offsets would overwrite; rename it"
            )
    found = with_offsets(run, record[text_field])
    return {
        **record,
        text_field: run(record[text_field]),
        "tokens": [word for word, _, _ in found],
        "offsets": [[a, b] for _, a, b in found],
    }


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

"""The text filters: standardize, tokenize and detokenize a stream, in order and in bounded memory."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nlpkit import console
from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.text.documents import (
    ERRORS,
    UNITS,
    Counts,
    Document,
    batches,
    format_of,
    read_documents,
    sources,
    texts,
)
from nlpkit.text.recipe import FORMS, PLAIN, Recipe
from nlpkit.text.records import Writer, json_line, read_records, record_of, writing
from nlpkit.text.standardize import Change, Standardizer
from nlpkit.text.token_wise import BulkLines, token_wise

if TYPE_CHECKING:
    from nlpkit.text.tokenizer import Tokenizer

FORMATS = ("ids", "tokens", "jsonl", "npy", "bin")


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


def tokenize(
    paths: Sequence[str | Path],
    tokenizer: "Tokenizer",
    output: str | None = None,
    *,
    format: str = "ids",
    special: bool = False,
    eos: bool = False,
    standardized: bool = False,
    max_length: int | None = None,
    force: bool = False,
    input_format: str | None = None,
    **reading: Any,
) -> int:
    """Tokenize a stream: a line of ids or tokens, a JSON record, or one entry of a shard for every document.

    ``reading`` goes to :func:`~nlpkit.text.documents.read_documents`. How many documents there were.
    """
    if format not in FORMATS:
        raise UsageError(f"--format {format!r} is not known{did_you_mean(format, FORMATS)}")
    if format in ("npy", "bin"):
        if output is None or output == "-":
            raise UsageError(f"--format {format} writes several files; name them with -o NAME.{format}")
        if Path(output).suffix != f".{format}":
            raise UsageError(f"{output}: a shard of --format {format} is named NAME.{format}")
    end = tokenizer.eos_id if eos else None
    if format in ("npy", "bin") and not special and max_length is None:
        count = _tokenize_lines(paths, tokenizer, output, end, force, input_format, **reading)
        if count is not None:
            return count
    rows = (
        (document, ids)
        for batch in batches(read_documents(paths, format=input_format, **reading))
        for document, ids in zip(
            batch,
            tokenizer.encode(
                [d.text for d in batch],
                special=special,
                max_length=max_length if end is None or max_length is None else max_length - 1,
                standardized=standardized,
            ),
            strict=True,
        )
    )
    if end is not None:
        rows = ((document, [*ids, end]) for document, ids in rows)
    count = 0
    if format in ("npy", "bin"):
        from nlpkit.text.shards import write_shard

        assert output is not None
        count = len(write_shard(output, (ids for _, ids in rows), tokenizer, force=force))
    else:
        line = _LINES[format]
        with writing(output, force) as file:
            for document, ids in rows:
                file.write(line(tokenizer, document, ids))
                count += 1
    if tokenizer.truncated:
        console.warn(f"{tokenizer.truncated:,} documents were cut to {max_length} tokens (--max-length)")
    return count


def _tokenize_lines(
    paths: Sequence[str | Path],
    tokenizer: "Tokenizer",
    output: str | None,
    end: int | None,
    force: bool,
    input_format: str | None,
    *,
    documents: str = "line",
    errors: str = "replace",
    **rest: Any,
) -> int | None:
    """The shard of lines of text, by the bulk encoder; None when these are not lines or it is not for them."""
    from nlpkit.text.fast_encoding import encode_lines, supports
    from nlpkit.text.shards import write_blocks

    if documents != "line" or errors not in ERRORS or not supports(tokenizer):
        return None
    found = sources(paths, input_format)
    if any(source.format != "text" for source in found):
        return None
    assert output is not None
    return len(
        write_blocks(output, encode_lines(found, tokenizer, errors=errors, end=end), tokenizer, force=force)
    )


def _ids_line(tokenizer: "Tokenizer", document: Document, ids: list[int]) -> bytes:
    return (" ".join(map(str, ids)) + "\n").encode()


def _tokens_line(tokenizer: "Tokenizer", document: Document, ids: list[int]) -> bytes:
    return (" ".join(_one_word(tokenizer.id_to_token(i)) for i in ids) + "\n").encode("utf-8", "replace")


def _one_word(token: str) -> str:
    """A token as it can stand in a line of tokens: a space in it is drawn as ▁, a line break as ⏎."""
    return token.replace(" ", "▁").replace("\n", "⏎").replace("\r", "␍").replace("\t", "⇥")


def _json_row(tokenizer: "Tokenizer", document: Document, ids: list[int]) -> bytes:
    tokens = [tokenizer.id_to_token(i) for i in ids]
    record = {"id": document.id, "ids": ids, "tokens": tokens}
    given = {k: v for k, v in record_of(document).items() if k not in (*record, "text")}
    return json_line({**record, **given})


_LINES: dict[str, Callable[["Tokenizer", Document, list[int]], bytes]] = {
    "ids": _ids_line,
    "tokens": _tokens_line,
    "jsonl": _json_row,
}


def detokenize(
    paths: Sequence[str | Path],
    tokenizer: "Tokenizer",
    output: str | None = None,
    *,
    special: bool = False,
    force: bool = False,
) -> int:
    """Lines of ids (or the records of ``tokenize --format jsonl``) back to text; how many lines.

    :raises DataError: a word that is no id of the tokenizer, with file:line.
    """
    size = tokenizer.vocab_size
    count = 0
    with writing(output, force) as file:
        for source in sources(paths):
            for number, text in enumerate(texts(source, "line", "strict", Counts()), 1):
                ids = _ids_of(text, f"{source.name}:{number}", size)
                file.write((tokenizer.decode(ids, special=special) + "\n").encode("utf-8", "replace"))
                count += 1
    return count


def _ids_of(text: str, where: str, size: int) -> list[int]:
    if text.lstrip().startswith("{"):
        import json

        try:
            values = json.loads(text)["ids"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{where}: a JSON line needs "ids": [numbers]') from error
    else:
        values = text.split()
    ids = []
    for value in values if isinstance(values, list) else [values]:
        try:
            number = int(value)
        except (ValueError, TypeError):
            number = -1
        if not 0 <= number < size:
            raise DataError(f"{where}: {str(value)[:40]!r} is no token id (0 to {size - 1})")
        ids.append(number)
    return ids

"""The tokenize and detokenize filters: a stream of documents to token ids and back, in order and in bounded memory."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit import console
from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.text.documents import ERRORS, Counts, Document, batches, read_documents, sources, texts
from nlpkit.text.records import json_line, record_of, writing

if TYPE_CHECKING:
    from nlpkit.text.tokenizer import Tokenizer

FORMATS = ("ids", "tokens", "jsonl", "npy", "bin")


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

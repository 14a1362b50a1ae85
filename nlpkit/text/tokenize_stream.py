"""The tokenize filter: a stream of documents to token ids, in order and in bounded memory."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit import console
from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.text.documents import (
    ERRORS,
    Counts,
    Document,
    batches,
    document_of,
    read_documents,
    sources,
)
from nlpkit.text.records import json_line, json_text, read_records, writing

if TYPE_CHECKING:
    from nlpkit.text.encoded import Encoded, Spans
    from nlpkit.text.token_lines import Form
    from nlpkit.text.tokenizer import Tokenizer

FORMATS = ("ids", "tokens", "jsonl", "npy", "bin")
SHARDS = ("npy", "bin")
Pair = tuple[Document, str]  # a document and the second text of its pair
Row = tuple[Document, "Encoded", "Spans | None"]  # its tokens, and their bytes where they are asked for


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
    offsets: bool = False,
    ngrams: str | None = None,
    pair_field: str | None = None,
    force: bool = False,
    input_format: str | None = None,
    **reading: Any,
) -> int:
    """Tokenize a stream: a line of ids or tokens, a JSON record, or one entry of a shard for every document.

    ``offsets`` adds to each record the bytes of the text that each token was made of
    (:func:`~nlpkit.text.token_offsets.byte_spans`); ``ngrams`` (such as ``1-2``) makes a line of n-grams of a line of
    tokens, a tab between two; ``pair_field`` is the field of a record with the second text of a pair.
    ``reading`` goes to :func:`~nlpkit.text.documents.read_documents`. How many documents there were.

    :raises UsageError: an option that does not fit the format or the input. :raises DataError: a bad record.
    """
    _check(format, output, offsets, ngrams)
    paired = pair_field is not None
    if special and not tokenizer.raw.num_special_tokens_to_add(paired):
        console.warn("--special adds nothing: the tokenizer has no template of special tokens")
    end = _end(tokenizer, special, paired) if eos else None
    plain = not (special or paired or standardized or offsets) and max_length is None and ngrams is None
    if plain:
        count = _tokenize_lines(paths, tokenizer, output, format, end, force, input_format, **reading)
        if count is not None:
            return count
    options: dict[str, Any] = {"special": special, "end": end, "max_length": max_length}
    if max_length is not None:
        tokenizer.encodings([], pairs=[] if paired else None, **options)  # says at once where it is too short
    encode = _Encoder(tokenizer, paired=paired, standardized=standardized, offsets=offsets, **options)
    if pair_field is not None:
        documents = _read_pairs(paths, pair_field, input_format, **reading)
    else:
        documents = ((document, "") for document in read_documents(paths, format=input_format, **reading))
    rows = (row for batch in batches(documents) for row in encode(batch))
    if format in SHARDS:
        from nlpkit.text.shards import write_shard

        assert output is not None
        count = len(write_shard(output, (encoded.ids for _, encoded, _ in rows), tokenizer, force=force))
    else:
        line = _line(format, tokenizer, ngrams, pair_field)
        count = 0
        with writing(output, force) as file:
            for row in rows:
                file.write(line(row))
                count += 1
    if encode.documents:
        console.warn(
            f"{encode.documents:,} documents were cut to {max_length} tokens, {encode.tokens:,} tokens were left "
            "out (--max-length)"
        )
    return count


def _check(format: str, output: str | None, offsets: bool, ngrams: str | None) -> None:
    if format not in FORMATS:
        raise UsageError(f"--format {format!r} is not known{did_you_mean(format, FORMATS)}")
    if offsets and format != "jsonl":
        raise UsageError(f"--offsets belong to the records of --format jsonl, not to --format {format}")
    if ngrams is not None and format != "tokens":
        raise UsageError(f"--ngrams are lines of --format tokens, not of --format {format}")
    if format in SHARDS:
        if output is None or output == "-":
            raise UsageError(f"--format {format} writes several files; name them with -o NAME.{format}")
        if Path(output).suffix != f".{format}":
            raise UsageError(f"{output}: a shard of --format {format} is named NAME.{format}")


def _end(tokenizer: "Tokenizer", special: bool, paired: bool) -> int | None:
    """The id to put after each document; None when the tokenizer's template ends with it already."""
    texts = [""]
    (empty,) = tokenizer.encode(texts, pairs=texts if paired else None, special=special, standardized=True)
    return None if empty[-1:] == [tokenizer.eos_id] else tokenizer.eos_id


def _read_pairs(
    paths: Sequence[str | Path],
    pair_field: str,
    input_format: str | None,
    *,
    text_field: str = "text",
    id_field: str | None = None,
    errors: str = "replace",
    **rest: Any,
) -> Iterator[Pair]:
    """The documents of records, each with the text of its field ``pair_field``."""
    if errors not in ERRORS:
        raise UsageError(f"--errors {errors!r} is not known{did_you_mean(errors, ERRORS)}")
    found = sources(paths, input_format)
    for source in found:
        if source.format == "text":
            raise UsageError(
                f"{source.name}: text has no fields, so no --pair-field; give records (jsonl, csv or tsv, "
                "by the file's name or --input-format)"
            )

    def pairs() -> Iterator[Pair]:
        counts = Counts()
        for source in found:
            for record, where in read_records(source, text_field, errors, counts):
                yield document_of(record, where, text_field, id_field), _second(record, pair_field, where)
        counts.report()

    return pairs()


def _second(record: dict[str, Any], field: str, where: str) -> str:
    text = record.get(field)
    if isinstance(text, str):
        return text
    if field in record:
        kind = "null" if text is None else type(text).__name__
        raise DataError(f"{where}: field {field!r} is not text but {kind} (--pair-field)")
    raise DataError(f"{where}: no field {field!r}{did_you_mean(field, map(str, record))} (--pair-field)")


class _Encoder:
    """Batches of documents to rows; counts what was cut. ``options`` go to ``Tokenizer.encodings``."""

    def __init__(
        self, tokenizer: "Tokenizer", *, paired: bool, standardized: bool, offsets: bool, **options: Any
    ) -> None:
        self.tokenizer, self.paired, self.standardized = tokenizer, paired, standardized
        self.offsets, self.options = offsets, options
        self.documents = self.tokens = 0
        self.recipe = None
        if offsets and tokenizer.recipe and not standardized:
            from nlpkit.text.standardize import Standardizer

            self.recipe = Standardizer(tokenizer.recipe)

    def __call__(self, batch: list[Pair]) -> Iterator[Row]:
        parts = [[document.text for document, _ in batch]]
        if self.paired:
            parts.append([second for _, second in batch])
        if self.offsets:
            rows = self._with_offsets(parts)
        else:
            rows = [(encoded, None) for encoded in self._encode(parts, self.standardized)]
        for (document, _), (encoded, spans) in zip(batch, rows, strict=True):
            self.documents += encoded.cut > 0
            self.tokens += encoded.cut
            yield document, encoded, spans

    def _encode(self, parts: list[list[str]], standardized: bool) -> list["Encoded"]:
        second = parts[1] if self.paired else None
        return self.tokenizer.encodings(
            parts[0], pairs=second, standardized=standardized, offsets=self.offsets, **self.options
        )

    def _with_offsets(self, parts: list[list[str]]) -> list[tuple["Encoded", "Spans | None"]]:
        from nlpkit.text.token_offsets import Places, byte_spans

        places = [[Places(text, self.recipe) for text in part] for part in parts]
        encoded = self._encode([[place.text for place in part] for part in places], True)
        return [(row, byte_spans(row, self.tokenizer, of)) for row, *of in zip(encoded, *places, strict=True)]


def _tokenize_lines(
    paths: Sequence[str | Path],
    tokenizer: "Tokenizer",
    output: str | None,
    format: str,
    end: int | None,
    force: bool,
    input_format: str | None,
    *,
    documents: str = "line",
    errors: str = "replace",
    **rest: Any,
) -> int | None:
    """Lines of text, by the bulk encoder; None when these are not lines or it is not for them."""
    if documents != "line" or errors not in ERRORS:
        return None
    found = sources(paths, input_format)
    if any(source.format != "text" for source in found):
        return None
    if format not in SHARDS:
        from nlpkit.text.token_lines import write_lines

        with writing(output, force) as file:
            return write_lines(found, tokenizer, _form(format, tokenizer), file, errors=errors, end=end)
    from nlpkit.text.fast_encoding import encode_lines, supports
    from nlpkit.text.shards import write_blocks

    if not supports(tokenizer):
        return None
    assert output is not None
    return len(
        write_blocks(output, encode_lines(found, tokenizer, errors=errors, end=end), tokenizer, force=force)
    )


def _line(
    format: str, tokenizer: "Tokenizer", ngrams: str | None, pair_field: str | None
) -> Callable[[Row], bytes]:
    """What writes one document in a format of lines."""
    if format == "jsonl":
        return _JsonLine(tokenizer, pair_field)
    if ngrams is None:
        line = _form(format, tokenizer).line
        return lambda row: line(row[1].ids).encode()
    from nlpkit.text import token_names
    from nlpkit.text.vectorize import ngram_range

    low, high = ngram_range(ngrams)
    names = token_names.names_of(tokenizer)
    return lambda row: (
        "\t".join(token_names.ngrams([names[i] for i in row[1].ids], low, high)) + "\n"
    ).encode()


def _form(format: str, tokenizer: "Tokenizer") -> "Form":
    """The lines of a format, about documents that have no more than their tokens."""
    from nlpkit.text.token_lines import Form

    numbers = [str(i) for i in range(tokenizer.vocab_size)]
    if format == "ids":
        return Form([("", numbers)])
    if format == "tokens":
        from nlpkit.text import token_names

        return Form([("", token_names.names_of(tokenizer))])
    tokens = [json_text(tokenizer.id_to_token(i)) for i in range(tokenizer.vocab_size)]
    return Form([('{"id": "", "ids": [', numbers), ('], "tokens": [', tokens)], ", ", "]}\n")


class _JsonLine:
    """A record a document: id, ids, tokens (type_ids, offsets), then the fields of its own that are no text."""

    def __init__(self, tokenizer: "Tokenizer", pair_field: str | None) -> None:
        self.token, self.pair_field = functools.cache(tokenizer.id_to_token), pair_field
        self.replaced: set[str] = set()

    def __call__(self, row: Row) -> bytes:
        document, encoded, spans = row
        ids = encoded.ids
        record: dict[str, Any] = {"id": document.id, "ids": ids, "tokens": list(map(self.token, ids))}
        if self.pair_field is not None:
            record["type_ids"] = encoded.type_ids
        if spans is not None:
            record["offsets"] = spans
        if document.title:
            record["title"] = document.title
        if not document.fields:
            return json_line(record)
        given = {name: value for name, value in document.fields.items() if name != self.pair_field}
        for name in (record.keys() & given.keys()) - self.replaced:
            self.replaced.add(name)
            console.warn(f"the records have a field {name!r} of their own; the tokenizer's takes its place")
        return json_line({**record, **given, **record})

"""The texts that a vocabulary is learned from: documents, or whole blocks of lines where a line is a document."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from nlpkit.errors import DataError
from nlpkit.text.blocks import line_blocks
from nlpkit.text.compression import reading
from nlpkit.text.documents import Counts, Source, read_documents, required, sources

_BLOCK = 1 << 22


def training_texts(
    paths: Sequence[str | Path], *, documents: str, text_field: str, format: str | None, errors: str
) -> Iterator[str | bytes]:
    """Documents (``str``) and blocks of lines (``bytes``: UTF-8, a document a line), in order, streaming.

    :raises UsageError: a missing file, an unknown option. :raises DataError: a bad record, or no text at all.
    """
    found = read_documents(
        paths, documents=documents, text_field=text_field, format=format, errors=errors
    )  # checks everything at once
    named = sources(paths, format)
    if documents == "line" and all(source.format == "text" for source in named):
        return _blocks(named, errors)
    return (document.text for document in required(found, paths))


def _blocks(found: list[Source], errors: str) -> Iterator[str | bytes]:
    counts, empty = Counts(), True
    for source in found:
        with reading(source.path) as file:
            for block in line_blocks(file, _BLOCK, numbered=errors == "strict"):
                empty = False
                data = block.clean()
                if data is None:
                    yield from block.lines(source.name, errors, counts)
                elif data:
                    yield data.replace(b"\r\n", b"\n") if b"\r" in data else data
    counts.report()
    if empty:
        names = ", ".join(source.name for source in found)
        raise DataError(f"{names}: nothing to learn from: it holds no text; name a file that has some")

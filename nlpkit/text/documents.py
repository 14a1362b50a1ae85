"""Documents in and out: lines, paragraphs or whole files of text, and records of jsonl, csv, tsv and Parquet.

Input is bytes. UTF-8 is decoded with a policy for what is not UTF-8, a byte-order mark is dropped, CRLF is
understood, and everything that is replaced, split or dropped is counted and said once. Memory stays bounded by
the longest document, and a document by :data:`LIMIT`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from nlpkit import console
from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.text.compression import SUFFIXES, reading, standard_input

LIMIT = 1 << 24  # bytes of a line, and about the bytes of a paragraph or file, before it is split (16 MiB)
UNITS = ("line", "paragraph", "file")
FORMATS = ("text", "jsonl", "csv", "tsv", "parquet")
ERRORS = ("replace", "skip", "strict")
_FORMAT_OF = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_IN_FOLDERS = {".txt", ".md", ".rst", *_FORMAT_OF}
_SURROGATE = re.compile("[\ud800-\udfff]")
_AT_ONCE = 1 << 16  # bytes of lines that are decoded at once
_HEAVY = 1 << 20  # characters that make a batch whatever the number of its texts
_WORD = 1024  # bytes from the end in which a line that is split is searched for a space
OTHER_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)  # how text in other encodings of Unicode begins


@dataclass(slots=True)
class Document:
    """One text with what is known about it.

    ``fields`` holds the other fields of its record (a label, a date); ``id`` is empty for lines of text.
    """

    text: str
    id: str = ""
    title: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Counts:
    """What reading had to change: characters replaced, documents dropped, documents split."""

    replaced: int = 0
    dropped: int = 0
    split: int = 0

    def report(self) -> None:
        """Say it in one warning, or nothing when nothing was changed."""
        said = [
            (
                self.replaced,
                "byte sequences were not UTF-8 and became U+FFFD (nlpkit corpus stats --errors strict shows where)",
            ),
            (self.dropped, "documents were dropped because they are not UTF-8"),
            (self.split, f"documents over {LIMIT >> 20} MiB were split"),
        ]
        words = [f"{count:,} {what}" for count, what in said if count]
        if words:
            console.warn("; ".join(words))


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read (``None``: standard input) and the form of its content, one of :data:`FORMATS`."""

    path: Path | None
    format: str

    @property
    def name(self) -> str:
        """How messages call it."""
        return "standard input" if self.path is None else str(self.path)


def sources(paths: Sequence[str | Path], format: str | None = None) -> list[Source]:
    """The files that ``paths`` mean, checked to exist: folders are walked in sorted order.

    :raises UsageError: a path does not exist. :raises DataError: a folder has no text files.
    :raises NothingToRead: standard input is meant and is a terminal.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"unknown format {format!r}{did_you_mean(format, FORMATS)}")
    found: list[Source] = []
    for name in paths or ["-"]:
        if str(name) == "-":
            standard_input()
            if any(s.path is None for s in found):
                raise UsageError("standard input ('-') is named twice; it can be read once")
            found.append(Source(None, format or "text"))
            continue
        path = Path(name)
        if path.is_dir():
            inside = [
                p for p in sorted(path.rglob("*")) if p.is_file() and extension(p) in _IN_FOLDERS
                and not any(part.startswith(".") for part in p.relative_to(path).parts)
            ]  # fmt: skip
            if not inside:
                kinds = " ".join(sorted(_IN_FOLDERS))
                raise DataError(
                    f"{path}: the folder has no text files (looked for {kinds}, also compressed); name a file"
                )
            found.extend(Source(p, format or _format(p)) for p in inside)
        elif path.exists():
            found.append(Source(path, format or _format(path)))
        else:
            raise UsageError(f"{path}: no such file or folder; check the path")
    return found


def extension(path: Path) -> str:
    """The suffix that tells the form, in lower case: a compression's own suffix is passed over.

    >>> extension(Path("a.TXT.gz"))
    '.txt'
    """
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in SUFFIXES else suffix


def _format(path: Path) -> str:
    return _FORMAT_OF.get(extension(path), "text")


def format_of(path: str | Path | None) -> str:
    """The form that a file's name announces; ``text`` for standard streams.

    >>> format_of("corpus.jsonl.gz"), format_of("notes.txt"), format_of(None)
    ('jsonl', 'text', 'text')
    """
    return "text" if path is None or str(path) == "-" else _format(Path(path))


def read_documents(
    paths: Sequence[str | Path],
    *,
    documents: str = "line",
    text_field: str = "text",
    id_field: str | None = None,
    errors: str = "replace",
    format: str | None = None,
    counts: Counts | None = None,
) -> Iterator[Document]:
    """Every document of ``paths`` (none, or ``-``: standard input), in order, streaming.

    ``documents`` is line, paragraph (blank-line separated) or file, for text; a record of jsonl, csv, tsv or Parquet
    is a document. ``errors`` says what is done with bytes that are not UTF-8: replace, skip (drop the document) or
    strict. Paths are checked at once; what was replaced, dropped or split is said at the end, or left in
    ``counts`` for the caller to report.

    :raises UsageError: a missing file, an unknown option. :raises DataError: a bad record, damaged compression.
    """
    for value, known, what in ((documents, UNITS, "documents"), (errors, ERRORS, "errors")):
        if value not in known:
            raise UsageError(f"--{what} {value!r} is not known{did_you_mean(value, known)}")
    found = sources(paths, format)
    return _documents(found, documents, text_field, id_field, errors, counts)


def _documents(
    found: list[Source], unit: str, text_field: str, id_field: str | None, errors: str, counts: Counts | None
) -> Iterator[Document]:
    mine = counts or Counts()
    for source in found:
        if source.format == "text":
            for text in texts(source, unit, errors, mine):
                name = source.path.as_posix() if unit == "file" and source.path is not None else ""
                yield Document(text, name)
        else:
            from nlpkit.text.records import read_records

            for record, where in read_records(source, text_field, errors, mine):
                yield document_of(record, where, text_field, id_field)
    if counts is None:
        mine.report()


def required(
    documents: Iterable[Document], paths: Sequence[str | Path], to: str = "learn from"
) -> Iterator[Document]:
    """``documents`` of ``paths``, for work that needs one or more (``to`` says what for).

    :raises DataError: there is none; it names the paths.
    """
    found = False
    for document in documents:
        found = True
        yield document
    if not found:
        names = ", ".join(str(p) for p in paths if str(p) != "-") or "standard input"
        raise DataError(
            f"{names}: nothing to {to}: it holds no text, so no documents; name a file that has some"
        )


def document_of(record: dict[str, Any], where: str, text_field: str, id_field: str | None) -> Document:
    """The document of a record: text, id (``_id`` or ``id``), title, and every other field as it is."""
    if id_field is not None and id_field not in record:
        raise DataError(f"{where}: no field {id_field!r}{did_you_mean(id_field, map(str, record))}")
    key = id_field or ("_id" if "_id" in record else "id")
    rest = {k: v for k, v in record.items() if k not in (key, "title", text_field)}
    name, title = record.get(key), record.get("title")
    return Document(
        record[text_field],
        "" if name is None else str(name),
        "" if title is None or text_field == "title" else str(title),
        rest,
    )


def texts(source: Source, unit: str, errors: str, counts: Counts) -> Iterator[str]:
    """The lines, paragraphs or whole content of one text source."""
    with reading(source.path) as file:
        if unit == "line":
            yield from _line_texts(file, source.name, errors, counts)
            return
        lines = decoded_lines(file, source.name, errors, counts)
        held: list[str] = []
        size = 0
        for line in lines:
            if unit == "paragraph" and not line.strip():
                if held:
                    yield "".join(held).removesuffix("\n")
                    held, size = [], 0
                continue
            if held and size + len(line) > LIMIT:
                counts.split += held[-1].endswith("\n")  # else the line was counted as it was split
                yield "".join(held)
                held, size = [], 0
            held.append(line)
            size += len(line)
        if held:
            text = "".join(held)
            yield text.removesuffix("\n") if unit == "paragraph" else text


def _line_texts(file: IO[bytes], name: str, errors: str, counts: Counts) -> Iterator[str]:
    """The lines of :func:`decoded_lines` without their ends, many at a time."""
    from nlpkit.text.blocks import line_blocks

    for block in line_blocks(file, _AT_ONCE, numbered=errors == "strict", prompt=True):
        data = block.clean()
        if data is None:
            yield from block.lines(name, errors, counts)
        elif data:
            yield from data.decode().replace("\r\n", "\n").removesuffix("\n").split("\n")


def decoded_lines(
    file: IO[bytes], name: str, errors: str, counts: Counts, *, whole: bool = False
) -> Iterator[str]:
    """Lines as text, each but perhaps the last with its ``\\n``; CRLF became ``\\n``, a leading BOM is gone.

    A line over :data:`LIMIT` is split and counted; with ``whole`` (it is a record) or strict ``errors`` it is refused.
    """
    number, carry, first = 0, b"", True
    while True:
        raw = file.readline(LIMIT - len(carry))
        if not raw and not carry:
            return
        raw, carry = carry + raw, b""
        if first:
            first = False
            for mark, encoding in OTHER_MARKS:
                if raw.startswith(mark):
                    raise DataError(
                        f"{name}: is {encoding}, not UTF-8; convert it (iconv -f {encoding} -t UTF-8)"
                    )
            raw = raw.removeprefix(b"\xef\xbb\xbf")
            if not raw:
                continue
        if raw.endswith(b"\n"):
            number += 1
            if raw.endswith(b"\r\n"):
                raw = raw[:-2] + b"\n"
        elif len(raw) >= LIMIT:
            if whole or errors == "strict":
                what = "record" if whole else "line"
                raise DataError(f"{name}:{number + 1}: a {what} over {LIMIT >> 20} MiB; make it several")
            counts.split += 1
            raw, carry = _cut(raw)
        try:
            yield raw.decode("utf-8")
        except UnicodeDecodeError as error:
            if errors == "strict":
                line = number + (not raw.endswith(b"\n"))
                raise DataError(
                    f"{name}:{line}: byte {error.object[error.start]:#04x} at column {error.start + 1} is not "
                    "UTF-8; mend it or pass --errors replace"
                ) from error
            if errors == "skip":
                counts.dropped += 1
                continue
            text = raw.decode("utf-8", "replace")
            counts.replaced += text.count("�") - raw.count(b"\xef\xbf\xbd")
            yield text


def _cut(raw: bytes) -> tuple[bytes, bytes]:
    """``raw`` cut before its last word, or else before a UTF-8 sequence that its end leaves incomplete."""
    if (space := raw.rfind(b" ", max(len(raw) - _WORD, 0))) > 0:
        return raw[:space], raw[space:]
    if raw.endswith(b"\r"):  # its line feed may follow
        return raw[:-1], raw[-1:]
    for back in range(1, 4):
        if raw[-back] >= 0xC0:
            return raw[:-back], raw[-back:]
        if raw[-back] < 0x80:
            break
    return raw, b""


def without_surrogates(text: str, counts: Counts, where: str = "") -> str:
    """``text`` with lone surrogates (a JSON escape can spell them, UTF-8 cannot) replaced and counted.

    :raises DataError: there is one and ``where`` (file:line, of strict reading) is given.
    """
    if _SURROGATE.search(text) is None:
        return text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins proper pairs
    found = whole.count("�") - text.count("�")
    if found and where:
        raise DataError(f"{where}: a lone surrogate is no character; mend it or pass --errors replace")
    counts.replaced += found
    return whole


def batches(items: Iterable[Any], first: int = 16, most: int = 2048) -> Iterator[list[Any]]:
    """Lists of items, small at first so that a pipe sees output at once, then doubling up to ``most``.

    A batch also ends when its texts are long together, so that memory is bounded by the longest of them.

    >>> [len(b) for b in batches(range(100), first=10)]
    [10, 20, 40, 30]
    """
    held: list[Any] = []
    size, weight = first, 0
    for item in items:
        held.append(item)
        weight += len(item) if item.__class__ is str else _weight(item)
        if len(held) >= size or weight >= _HEAVY:
            yield held
            held, size, weight = [], min(2 * size, most), 0
    if held:
        yield held


def _weight(item: Any) -> int:
    """The characters of a text, a document or a tuple of such."""
    if isinstance(item, str):
        return len(item)
    if isinstance(item, tuple):
        return sum(map(_weight, item))
    return len(item.text) if isinstance(item, Document) else 0

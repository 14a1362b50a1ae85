"""Collections: files and folders of all kinds as documents with an id, a title and fields.

Records (jsonl, csv, tsv, Parquet) and plain text that are named are read as everywhere
(:func:`~nlpkit.text.documents.read_documents`). HTML, Markdown, PDF and source files are a document each, and so is
every text file in a folder. What in a folder is not read is counted by its reason, and what should have been is named.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from nlpkit import console
from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.text import documents as plain
from nlpkit.text.compression import kind_of, reading
from nlpkit.text.documents import (
    ERRORS,
    FORMATS,
    OTHER_MARKS,
    UNITS,
    Counts,
    Document,
    Source,
    document_of,
    extension,
    format_of,
    texts,
)
from nlpkit.text.folders import UNREADABLE, walk
from nlpkit.text.markup import declared_encoding, read_html, read_markdown
from nlpkit.text.pdf import MAGIC, Encrypted, Pdf
from nlpkit.text.records import read_records

LANGUAGES = {
    suffix: language
    for language, suffixes in {
        "python": ".py .pyi .pyx", "javascript": ".js .mjs .cjs .jsx", "typescript": ".ts .tsx .mts .cts",
        "c": ".c .h", "c++": ".cc .cpp .cxx .hh .hpp .hxx .cu", "c#": ".cs", "java": ".java", "kotlin": ".kt .kts",
        "scala": ".scala .sc", "go": ".go", "rust": ".rs", "swift": ".swift", "objective-c": ".m .mm", "zig": ".zig",
        "ruby": ".rb", "php": ".php", "perl": ".pl .pm", "lua": ".lua", "r": ".r", "julia": ".jl",
        "haskell": ".hs", "ocaml": ".ml .mli", "f#": ".fs .fsx", "erlang": ".erl .hrl", "elixir": ".ex .exs",
        "clojure": ".clj .cljs .edn", "lisp": ".lisp .el .scm .rkt", "fortran": ".f .f90 .f95 .for", "ada": ".adb .ads",
        "dart": ".dart", "nim": ".nim", "prolog": ".pro", "assembly": ".s .asm", "verilog": ".v .sv", "vhdl": ".vhd",
        "shell": ".sh .bash .zsh .fish", "powershell": ".ps1", "batch": ".bat .cmd", "sql": ".sql", "awk": ".awk",
        "css": ".css .scss .sass .less", "vue": ".vue", "svelte": ".svelte", "graphql": ".graphql", "proto": ".proto",
        "json": ".json .json5 .jsonc .ipynb", "yaml": ".yaml .yml", "toml": ".toml", "xml": ".xml .xsd .xsl .svg",
        "ini": ".ini .cfg .conf", "tex": ".tex .sty .bib", "make": ".mk", "cmake": ".cmake", "terraform": ".tf .hcl",
        "nix": ".nix", "groovy": ".groovy .gradle", "cython": ".pxd", "diff": ".diff .patch",
    }.items()
    for suffix in suffixes.split()
}  # fmt: skip
_NAMED = {"makefile": "make", "dockerfile": "dockerfile", "cmakelists.txt": "cmake", "jenkinsfile": "groovy"}
_KINDS = {
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mdx"), "markdown"),
    ".pdf": "pdf",
}
_SHEBANG = re.compile(
    rb"#!.{0,100}?\b(python|perl|ruby|node|bash|zsh|sh|lua|php|awk|Rscript)[\d.]*(?:[ \t]|\r?\n)"
)
_INTERPRETERS = {"node": "javascript", "bash": "shell", "zsh": "shell", "sh": "shell", "Rscript": "r"}
_HEAD = 1 << 13  # bytes of a file that tell whether it is text
_BINARY = (
    b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"OggS", b"fLaC", b"ID3", b"PK\x03\x04", b"PK\x05\x06", b"Rar!",
    b"7z\xbc\xaf", b"\x7fELF", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"SQLite format 3", b"!<arch>\n", b"\x80\x04",
    b"\x93NUMPY", b"wOFF", b"wOF2", b"PAR1", b"ARROW1", b"\x89HDF", b"OTTO",
)  # fmt: skip
_TOLD = 10  # files that are named for one reason, before only their number is told

BINARY, BROKEN, ENCRYPTED = "binary", "broken", "encrypted"
NO_RECORDS, NO_EXTRA = "without records that can be read", "of a kind that needs an extra"


@dataclass(slots=True)
class Tally(Counts):
    """What reading a collection met: files read, files skipped by reason."""

    files: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    _said: set[str] = field(default_factory=set)
    _told: int = 0

    def skip(self, reason: str, name: str = "", why: str = "") -> None:
        """Count a file that is not read; with ``why`` it is also named in a warning."""
        self.skipped[reason] += 1
        if not why or self.skipped[reason] > _TOLD:
            return
        if reason == NO_EXTRA:  # one line for all
            if why in self._said:
                return
            self._said.add(why)
        message = why if why.startswith(name) else f"{name}: {why}"
        console.warn(f"skipped {_line(message)}")
        if self.skipped[reason] == _TOLD:
            console.warn(f"further files that are {reason} are only counted")

    def tell(self, message: str) -> None:
        """Warn of a document that has less than it should; of many, only the first are told."""
        self._told += 1
        if self._told <= _TOLD:
            console.warn(message)

    def summary(self) -> str:
        """How many files were skipped, by reason; empty when none was.

        >>> Tally(skipped=Counter({"binary": 2, "hidden": 1})).summary()
        '2 binary, 1 hidden'
        """
        return ", ".join(f"{n:,} {reason}" for reason, n in self.skipped.most_common())

    def report(self) -> None:
        """Say what was replaced, dropped, split and skipped; nothing when nothing was."""
        Counts.report(self)
        if self.skipped:
            console.note(f"read {self.files:,} files; skipped {self.summary()} (a folder counts once)")
        if self._told > _TOLD:
            console.warn(f"{self._told - _TOLD:,} more PDF files have pages without text")


def read_collection(
    paths: Sequence[str | Path],
    *,
    documents: str | None = None,
    text_field: str = "text",
    id_field: str | None = None,
    errors: str = "replace",
    format: str | None = None,
    counts: Tally | None = None,
    hidden: bool = False,
) -> Iterator[Document]:
    """Every document of files and folders (none, or ``-``: standard input), in order, streaming.

    A folder is walked in sorted order, honouring ``.gitignore``, without hidden files (unless ``hidden``), binary
    files and links to folders. Its files have their path in the folder as id; a named HTML, Markdown, PDF or source
    file has its path as it was named. Fields: ``path``, ``type`` (text, markdown, html, pdf, code), ``language`` of
    code and HTML, ``pages`` of PDF, front matter of Markdown; records keep theirs. The parts of a file over
    :data:`~nlpkit.text.documents.LIMIT` bytes are counted as split, and have ``#2``, ``#3``, … behind their id.

    ``documents`` (line, paragraph, file) parts plain text; by default a file that is named is parted in paragraphs
    and a file in a folder is one document. ``format`` is how named files and standard input are read whatever their
    names. What was changed or skipped is said at the end, or left in ``counts`` for the caller to report.

    :raises UsageError: a missing file, an unknown option, a named file that needs an extra.
    :raises DataError: a named file that cannot be read, a folder without any file that can, two files with one id, a
        bad record (the first record of a file in a folder: the file is skipped).
    """
    options = ((documents or "file", UNITS, "documents"), (errors, ERRORS, "errors"),
               (format or "text", FORMATS, "input-format"))  # fmt: skip
    for value, known, what in options:
        if value not in known:
            raise UsageError(f"--{what} {value!r} is not known{did_you_mean(value, known)}")
    named = [str(path) for path in paths or ["-"]]
    for name in named:
        if name == "-" or not os.path.isdir(name):
            plain.sources([name], format)  # checks it
    if named.count("-") > 1:
        raise UsageError("standard input ('-') is named twice; it can be read once")
    reader = _Reader(documents, text_field, id_field, errors, format, counts or Tally())
    return reader.all(named, hidden, report=counts is None)


def _line(text: str) -> str:
    """A message on one line, whatever the names in it."""
    return console.visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _spelled(path: str) -> str:
    """A path as UTF-8 can spell it, with forward slashes: bytes that are not UTF-8 become ``\\xNN``."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if os.sep == "/" else text.replace(os.sep, "/")


@dataclass(slots=True)
class _Reader:
    """The options of one reading."""

    unit: str | None
    text_field: str
    id_field: str | None
    errors: str
    format: str | None
    tally: Tally
    ids: dict[str, str] = field(default_factory=dict)  # of files, when several paths are read: id → path

    def all(self, paths: list[str], hidden: bool, report: bool) -> Iterator[Document]:
        several = len(paths) > 1
        for path in paths:
            found = self._folder(path, hidden, several) if os.path.isdir(path) else self._named(path, several)
            yield from found
        if report:
            self.tally.report()

    def _claim(self, id: str, path: str) -> None:
        """Refuse a second file with the same id."""
        other = self.ids.get(id)
        if other == path:
            raise DataError(f"{_line(path)} is named twice; name it once")
        if other is not None:
            both = f"{_line(other)} and {_line(path)}"
            raise DataError(f"{both} would both have the id {id!r}; name the folder above both")
        self.ids[id] = path

    def _named(self, name: str, several: bool) -> Iterator[Document]:
        """The documents of a file that was named."""
        path, kind, language = Path(name), "text", ""
        if self.format is None and name != "-" and format_of(name) == "text" and path.is_file():
            head = _head(path)
            kind, language = _kind(path, head)
            if kind != "pdf" and extension(path) != ".txt" and (reason := _not_text(head)):
                raise DataError(f"{name}: is {reason}, not text; name another file")
        self.tally.files += 1
        if kind == "text":
            yield from plain.read_documents(
                [name], documents=self.unit or "paragraph", text_field=self.text_field, id_field=self.id_field,
                errors=self.errors, format=self.format, counts=self.tally,
            )  # fmt: skip
            return
        id = _spelled(path.as_posix())
        if several:
            self._claim(id, name)
        yield from self._document(path, id, kind, language)

    def _folder(self, root: str, hidden: bool, several: bool) -> Iterator[Document]:
        """The documents of a folder that was named."""
        before, skipped = self.tally.files, Counter(self.tally.skipped)
        for path, relative in walk(root, hidden, self.tally.skip):
            id = _spelled(relative)
            if several:
                self._claim(id, path)
            yield from self._in_folder(Path(path), path, id)
        if self.tally.files == before:
            reasons = Tally(skipped=self.tally.skipped - skipped).summary()
            why = f"skipped {reasons}" if reasons else "it is empty"
            raise DataError(
                f"{root}: no file in the folder can be read ({why}); name a file or another folder"
            )

    def _in_folder(self, path: Path, name: str, id: str) -> Iterator[Document]:
        """The documents of one file of a folder; none, and counted, when it cannot be read from its beginning."""
        form = self.format or format_of(path)
        found: Iterator[Document]
        try:
            if form == "text":
                head = _head(path)
                kind, language = _kind(path, head)
                if kind != "pdf" and (reason := _not_text(head)):
                    self.tally.skip(
                        reason, name, "" if reason == BINARY else f"is {reason}; convert it to UTF-8"
                    )
                    return
                found = self._document(path, id, kind, language)
            else:
                found = self._records(Source(path, form))
            first = next(found, None)
        except OSError as error:
            self.tally.skip(UNREADABLE, name, (error.strerror or str(error)).lower())
        except UsageError as error:
            self.tally.skip(NO_EXTRA, name, str(error))
        except Encrypted as error:
            self.tally.skip(ENCRYPTED, name, str(error))
        except DataError as error:
            if self.errors == "strict":
                raise
            self.tally.skip(BROKEN if form == "text" else NO_RECORDS, name, str(error))
        else:
            self.tally.files += 1
            if first is not None:
                yield first
                yield from found

    def _records(self, source: Source) -> Iterator[Document]:
        for record, where in read_records(source, self.text_field, self.errors, self.tally):
            yield document_of(record, where, self.text_field, self.id_field)

    def _document(self, path: Path, id: str, kind: str, language: str) -> Iterator[Document]:
        """A file as one document, or as several when it is large or its text is to be parted."""
        if kind == "pdf":
            yield from self._pdf(path, id)
            return
        fields: dict[str, Any] = {"path": id, "type": kind}
        title, name = "", _spelled(path.name)
        parted = kind == "text" and self.unit in ("line", "paragraph")
        for number, source in enumerate(self._sources(path, kind), 1):
            text = source
            if kind == "html":
                text, found, language = read_html(source, _line(str(path)))
                title = title or found
            elif kind == "markdown" and number == 1:
                title, front = read_markdown(source)
                fields = {**front, **fields}
            if language:
                fields["language"] = language
            part = f"#{number}" if parted or number > 1 else ""
            yield Document(text, id + part, title or name, dict(fields))

    def _sources(self, path: Path, kind: str) -> Iterator[str]:
        """The content of a text file, in parts where it is to be parted; one empty part of an empty file."""
        if kind == "html":
            with reading(path) as file:
                data = file.read(plain.LIMIT + 1)
            encoding = declared_encoding(data)
            if len(data) <= plain.LIMIT and encoding and not _is_utf8(data):
                yield data.decode(encoding, "replace")
                return
        nothing = True
        unit = self.unit if kind == "text" and self.unit else "file"
        for text in texts(Source(path, "text"), unit, self.errors, self.tally):
            nothing = False
            yield text
        if nothing:
            yield ""

    def _pdf(self, path: Path, id: str) -> Iterator[Document]:
        shown = _line(str(path))
        with ExitStack() as held:
            file: IO[bytes] = held.enter_context(open(path, "rb"))
            if kind_of(file.read(6)) is not None:
                file = BytesIO(held.enter_context(reading(path)).read())
            file.seek(0)
            pdf = Pdf(file, shown)
            fields = {"path": id, "type": "pdf", "pages": pdf.pages}
            blank = True
            for number, text in enumerate(pdf.texts(plain.LIMIT), 1):
                self.tally.split += number > 1
                blank = blank and not text.strip()
                part = f"#{number}" if number > 1 else ""
                yield Document(text, id + part, pdf.title or _spelled(path.name), dict(fields))
        if pdf.failed:
            self.tally.tell(f"{shown}: {pdf.failed:,} of {pdf.pages:,} pages could not be read")
        elif blank:
            self.tally.tell(f"{shown}: has no text; if its pages are pictures, recognise them first (OCR)")


def _head(path: Path) -> bytes:
    with reading(path) as file:
        return file.read(_HEAD)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _not_text(head: bytes) -> str:
    """Why a file that begins so is not text: an encoding, or that it is binary; empty for text."""
    for mark, encoding in OTHER_MARKS:
        if head.startswith(mark):
            return encoding
    return BINARY if b"\0" in head or head.startswith(_BINARY) else ""


def _kind(path: Path, head: bytes) -> tuple[str, str]:
    """``(kind, language)`` of a file by its beginning and its name; the language of code only."""
    suffix, name = extension(path), path.name.lower()
    if head.startswith(MAGIC) or suffix == ".pdf":
        return "pdf", ""
    if suffix in _KINDS:
        return _KINDS[suffix], ""
    if language := LANGUAGES.get(suffix) or _NAMED.get(name.partition(".")[0] if not suffix else name):
        return "code", language
    if not suffix and (match := _SHEBANG.match(head)):
        interpreter = match[1].decode("ascii")
        return "code", _INTERPRETERS.get(interpreter, interpreter)
    return "text", ""

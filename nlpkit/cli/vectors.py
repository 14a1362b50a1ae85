"""``nlpkit vectors``: what a folder of word vectors knows: neighbours, analogies, arithmetic."""

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nlpkit.cli import vectors_eval, vectors_files
from nlpkit.cli.options import AsJson
from nlpkit.errors import NlpkitError, NotFound, NothingToRead, UsageError

if TYPE_CHECKING:
    from nlpkit.vectors.vectors import Vectors

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

Folder = Annotated[str, typer.Argument(metavar="VECTORS", help="A folder of word vectors.")]
JsonLines = Annotated[bool, typer.Option("--jsonl", help="Print JSON lines, one an answer.")]
K = Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many words to show.")]
Method = Annotated[
    str, typer.Option("--method", metavar="NAME", help="3cosadd, or 3cosmul (Levy and Goldberg 2014).")
]


@app.command()
def nearest(
    folder: Folder,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="None or - is stdin, split at spaces.")
    ] = None,
    k: K = 10,
    as_json: AsJson = False,
    as_lines: JsonLines = False,
) -> None:
    """The words whose vectors point the same way, by cosine.

    Words on the command line must be known (else exit 1). Unknown words on stdin get an empty answer and are counted.

    Example: nlpkit vectors nearest runs/vectors king paris -k 5
    """
    _one_form(as_json, as_lines)
    piped = not words or words == ["-"]
    asked = (word for line in _lines() for word in line.split()) if piped else iter(words or [])
    vectors = _load(folder)

    def answer(block: list[str]) -> list[dict[str, Any]]:
        rows = [vectors.find(word) if piped else vectors.index(word) for word in block]
        known = [row for row in rows if row is not None]
        found = iter(vectors.nearest_rows(known, k, [[row] for row in known]))
        return [
            {"word": word, "nearest": [] if row is None else _pairs(next(found))}
            for word, row in zip(block, rows, strict=True)
        ]

    def show(record: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        return ((record["word"], near["word"], near["cosine"]) for near in record["nearest"])

    _answer(
        asked,
        answer,
        show,
        ["word", "nearest", "cosine"],
        as_json,
        as_lines,
        "nearest",
        f"words are not among the {len(vectors):,} of {folder}",
    )


@app.command()
def analogy(
    folder: Folder,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[A B C]", help="A is to B as C is to ...; none or - is stdin, three a line."),
    ] = None,
    method: Method = "3cosadd",
    k: K = 10,
    as_json: AsJson = False,
    as_lines: JsonLines = False,
) -> None:
    """A is to B as C is to what? The words of greatest cosine with B - A + C.

    A line of stdin with an unknown word, or not of three words, gets an empty answer and is counted.

    Example: nlpkit vectors analogy runs/vectors man king woman
    """
    _one_form(as_json, as_lines)
    asked, piped = _tuples(words, 3)
    vectors = _load(folder)
    unit = "cosine" if method == "3cosadd" else "score"

    def answer(block: list[list[str]]) -> list[dict[str, Any]]:
        rows = [_rows(vectors, line, 3, piped) for line in block]
        found = iter(vectors.analogies([row for row in rows if row is not None], k, method=method))
        return [
            dict(zip("abc", line, strict=False)) | {"words": [] if row is None else _pairs(next(found), unit)}
            for line, row in zip(block, rows, strict=True)
        ]

    def show(record: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        names = [" ".join(record.get(name, "") for name in "abc")] if piped else []
        return ((*names, near["word"], near[unit]) for near in record["words"])

    header = (["question"] if piped else []) + ["word", unit]
    _answer(
        asked,
        answer,
        show,
        header,
        as_json,
        as_lines,
        "words",
        "lines have an unknown word or are not three words",
        not piped,
    )


@app.command()
def similarity(
    folder: Folder,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[A B]", help="None or - is stdin, two words a line.")
    ] = None,
    as_json: AsJson = False,
    as_lines: JsonLines = False,
) -> None:
    """The cosine of two words' vectors, from -1 to 1.

    A line of stdin with an unknown word, or not of two words, gets an empty answer and is counted.

    Example: nlpkit vectors similarity runs/vectors cat dog
    """
    from nlpkit import console

    _one_form(as_json, as_lines)
    asked, piped = _tuples(words, 2)
    vectors = _load(folder)

    def answer(block: list[list[str]]) -> list[dict[str, Any]]:
        rows = [_rows(vectors, line, 2, piped) for line in block]
        found = iter(vectors.similarities([row for row in rows if row is not None]).tolist())
        return [
            dict(zip("ab", line, strict=False)) | {"cosine": None if row is None else round(next(found), 6)}
            for line, row in zip(block, rows, strict=True)
        ]

    if not (piped or as_json or as_lines):
        console.write(f"{answer(list(asked))[0]['cosine']:.4f}\n")
        return

    def show(record: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        return iter([(record.get("a"), record.get("b"), record["cosine"])])

    _answer(
        asked,
        answer,
        show,
        ["a", "b", "cosine"],
        as_json,
        as_lines,
        "cosine",
        "lines have an unknown word or are not two words",
        not piped,
    )


@app.command()
def calc(
    folder: Folder,
    expression: Annotated[
        str | None,
        typer.Argument(
            metavar="[EXPRESSION]", help="None or - is stdin, a line each; on a terminal a prompt."
        ),
    ] = None,
    k: K = 10,
    as_json: AsJson = False,
    as_lines: JsonLines = False,
) -> None:
    """The words nearest to a sum of words, as in 'king - man + woman'.

    Signs are + - * / ( ), numbers weigh; words with signs, spaces or digits alone are quoted. A word stands for
    its vector at length 1 and is left out of the answer. A line of stdin that cannot be worked out gets an empty
    answer, and is counted.

    Example: nlpkit vectors calc runs/vectors 'king - man + woman'
    """
    from nlpkit import console

    _one_form(as_json, as_lines)
    piped = expression in (None, "-")
    if piped and sys.stdin is not None and sys.stdin.isatty() and expression is None:
        _session(_load(folder), k)
        return
    asked = (line for line in _lines() if line.strip()) if piped else iter([str(expression)])
    vectors = _load(folder)
    from nlpkit.vectors import arithmetic

    def answer(block: list[str]) -> list[dict[str, Any]]:
        records = []
        for text in block:
            record: dict[str, Any] = {"expression": text.strip(), "nearest": []}
            try:
                record["nearest"] = _pairs(arithmetic.answer(text, vectors, k))
            except (UsageError, NotFound) as error:
                if not piped:
                    raise
                record["error"] = str(error)
                if not (as_json or as_lines):
                    console.warn(f"{text.strip()}: {error}")
            records.append(record)
        return records

    def show(record: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        names = [record["expression"]] if piped else []
        return ((*names, near["word"], near["cosine"]) for near in record["nearest"])

    header = (["expression"] if piped else []) + ["word", "cosine"]
    _answer(
        asked, answer, show, header, as_json, as_lines, "nearest", "lines cannot be worked out", not piped
    )


def _session(vectors: "Vectors", k: int) -> None:
    """Ask for expressions until the end of input; a fault is told and the session goes on."""
    from contextlib import suppress

    from nlpkit import console
    from nlpkit.vectors import arithmetic

    with suppress(ImportError):
        import readline  # noqa: F401  # gives input() its history and editing
    console.note(f"{len(vectors):,} words; an expression such as king - man + woman; Ctrl-D ends")
    while True:
        try:
            text = input("> ")
        except EOFError:
            console.note("")
            return
        if not text.strip():
            continue
        try:
            console.table(arithmetic.answer(text, vectors, k), ["word", "cosine"])
        except NlpkitError as error:
            console.error(str(error))


app.command("eval")(vectors_eval.evaluate)
for name, verb in vectors_files.VERBS.items():
    app.command(name)(verb)


def _one_form(as_json: bool, as_lines: bool) -> None:
    if as_json and as_lines:
        raise UsageError("--json and --jsonl exclude one another")


def _load(folder: str) -> "Vectors":
    from nlpkit.vectors.vectors import Vectors

    return Vectors.load(folder)


def _lines() -> Iterator[str]:
    """The lines of standard input; NothingToRead at once when it is a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        raise NothingToRead("no words: name some, or pipe them in")
    return (
        line.decode("utf-8" if number else "utf-8-sig", "replace").rstrip("\r\n")
        for number, line in enumerate(sys.stdin.buffer)
    )


def _tuples(words: list[str] | None, size: int) -> tuple[Iterator[list[str]], bool]:
    """The word tuples that are asked about, and whether they come from standard input."""
    if not words or words == ["-"]:
        return (line.split() for line in _lines() if line.strip()), True
    if len(words) != size:
        raise UsageError(f"{size} words are needed, got {len(words)}; or pipe them in, {size} a line")
    return iter([words]), False


def _rows(vectors: "Vectors", words: list[str], size: int, piped: bool) -> list[int] | None:
    """The rows of words that must be known, or of piped ones; None when one is unknown or their number is wrong."""
    if not piped:
        return [vectors.index(word) for word in words]
    rows = [row for row in map(vectors.find, words) if row is not None]
    return rows if len(rows) == len(words) == size else None


def _pairs(found: list[tuple[str, float]], unit: str = "cosine") -> list[dict[str, Any]]:
    return [{"word": word, unit: round(score, 6)} for word, score in found]


def _answer(
    asked: Iterator[Any],
    answer: Callable[[list[Any]], list[dict[str, Any]]],
    show: Callable[[dict[str, Any]], Iterator[tuple[Any, ...]]],
    header: list[str],
    as_json: bool,
    as_lines: bool,
    key: str,
    what: str,
    one: bool = False,
) -> None:
    """Answer what is asked block by block and print it: lines as they come, a table or a document at the end.

    Records without an answer under ``key`` are counted; ``what`` says what they are.
    """
    import json

    from nlpkit import console
    from nlpkit.text.documents import batches

    held: list[dict[str, Any]] = []
    bad = count = 0
    for block in batches(asked):
        made = answer(block)
        count += len(made)
        bad += sum(not record[key] and record[key] != 0 for record in made)
        if as_lines:
            for record in made:
                console.write(json.dumps(record, ensure_ascii=False) + "\n")
        else:
            held += made
    if as_json:
        console.write(json.dumps(held[0] if one else held, ensure_ascii=False, indent=1) + "\n")
    elif held:
        console.table([row for record in held for row in show(record)], header)
    if bad:
        console.warn(f"{bad:,} of {count:,} {what}")

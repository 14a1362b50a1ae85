"""``nlpkit vectors``: what a folder of word vectors knows: neighbours, analogies, similarity."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nlpkit.cli.options import AsJson
from nlpkit.errors import NothingToRead, UsageError

if TYPE_CHECKING:
    from nlpkit.vectors.vectors import Vectors

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

Folder = Annotated[str, typer.Argument(metavar="DIR", help="A folder that train-glove made.")]
JsonLines = Annotated[bool, typer.Option("--jsonl", help="Print JSON lines, one a word.")]
K = Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many words to show.")]


@app.command()
def nearest(
    folder: Folder,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORD", help="None or - is stdin, split at spaces.")
    ] = None,
    k: K = 10,
    as_json: AsJson = False,
    as_lines: JsonLines = False,
) -> None:
    """The words whose vectors point the same way, by cosine.

    Words on the command line must be known. Unknown words on stdin get an empty answer and are counted.

    Example: nlpkit vectors nearest runs/vectors king paris -k 5
    """
    from nlpkit import console

    _one_form(as_json, as_lines)
    piped = not words or words == ["-"]
    asked = _piped() if piped else list(words or [])
    vectors = _load(folder)
    known = [w for w in asked if w in vectors] if piped else asked
    found = dict(zip(known, vectors.nearest_all(known, k), strict=True))
    records = [{"word": w, "nearest": _pairs(found.get(w, []))} for w in asked]
    _answer(records, as_json, as_lines)
    if asked and not (as_json or as_lines):
        rows = [(w, near, cosine) for w in asked for near, cosine in found.get(w, [])]
        console.table(rows, ["word", "nearest", "cosine"])
    unknown = sum(w not in found for w in asked)
    if unknown:
        console.warn(f"{unknown:,} of {len(asked):,} words are not among the {len(vectors):,} of {folder}")


@app.command()
def analogy(
    folder: Folder,
    a: Annotated[str, typer.Argument(metavar="A", help="A is to B ...")],
    b: Annotated[str, typer.Argument(metavar="B")],
    c: Annotated[str, typer.Argument(metavar="C", help="... as C is to the words found.")],
    k: K = 10,
    as_json: AsJson = False,
    as_lines: JsonLines = False,
) -> None:
    """A is to B as C is to what? The words of greatest cosine with B - A + C.

    Example: nlpkit vectors analogy runs/vectors man king woman
    """
    from nlpkit import console

    _one_form(as_json, as_lines)
    found = _load(folder).analogy(a, b, c, k)
    if as_lines:
        _answer(_pairs(found), as_json, as_lines)
    else:
        _answer({"a": a, "b": b, "c": c, "words": _pairs(found)}, as_json, as_lines)
    if not (as_json or as_lines):
        console.table(found, ["word", "cosine"])


@app.command()
def similarity(
    folder: Folder,
    a: Annotated[str, typer.Argument(metavar="A")],
    b: Annotated[str, typer.Argument(metavar="B")],
    as_json: AsJson = False,
) -> None:
    """The cosine of two words' vectors, from -1 to 1.

    Example: nlpkit vectors similarity runs/vectors cat dog
    """
    from nlpkit import console

    cosine = _load(folder).similarity(a, b)
    if as_json:
        _answer({"a": a, "b": b, "cosine": round(cosine, 6)}, True, False)
    else:
        console.write(f"{cosine:.4f}\n")


def _one_form(as_json: bool, as_lines: bool) -> None:
    if as_json and as_lines:
        raise UsageError("--json and --jsonl exclude one another")


def _load(folder: str) -> "Vectors":
    from nlpkit.vectors.vectors import Vectors

    return Vectors.load(folder)


def _piped() -> list[str]:
    if sys.stdin is None or sys.stdin.isatty():
        raise NothingToRead("no words: name some, or pipe them in")
    return sys.stdin.buffer.read().decode("utf-8-sig", "replace").split()


def _pairs(found: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"word": word, "cosine": round(cosine, 6)} for word, cosine in found]


def _answer(value: Any, as_json: bool, as_lines: bool) -> None:
    import json

    from nlpkit import console

    if as_json:
        console.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")
    elif as_lines:
        for item in value:
            console.write(json.dumps(item, ensure_ascii=False) + "\n")

"""Hits for people and for programs: wrapped text with the query's words marked, or plain JSON values."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nlpkit import console
from nlpkit.search.hits import Hit
from nlpkit.search.snippet import snippet

BOLD, DIM, MARK, OFF = "\x1b[1m", "\x1b[2m", "\x1b[1;33m", "\x1b[0m"
Analyze = Callable[[str], list[str]]


def as_json(hits: Sequence[Hit], query: str, analyze: Analyze, width: int = 240) -> list[dict[str, Any]]:
    """One plain record a hit. ``highlights`` are [start, end] in ``text``; ``snippet`` is ``text`` from
    ``snippet_start`` on."""
    terms = frozenset(analyze(query))
    made = []
    for rank, hit in enumerate(hits, 1):
        found = snippet(hit.text, terms, analyze, width)
        made.append(
            {
                "rank": rank,
                "id": hit.id,
                "score": hit.score,
                "title": hit.title,
                "text": hit.text,
                "snippet": hit.text[found.start : found.end],
                "snippet_start": found.start,
                "highlights": [list(span) for span in found.highlights],
                "parts": hit.parts,
                "fields": hit.fields,
            }
        )
    return made


def as_text(hits: Sequence[Hit], query: str, analyze: Analyze, *, explain: bool = False) -> Iterator[str]:
    """Lines for a terminal (coloured where stdout is one): rank, score and title, then the snippet, wrapped.

    Control characters of documents are made visible; nothing in them is read as markup.
    """
    colour = console.colour()
    width = max(40, min(shutil.get_terminal_size((100, 24)).columns, 100))
    terms = frozenset(analyze(query))
    margin = " " * 4
    for rank, hit in enumerate(hits, 1):
        head, name = _plain(hit.title), _plain(hit.id)
        name = "" if name == head else name
        line = f"{rank:>2}  {_paint(f'{hit.score:.4f}', DIM, colour)}  "
        line += (
            f"{_paint(head, BOLD, colour)}  {_paint(name, DIM, colour)}"
            if head
            else _paint(name, BOLD, colour)
        )
        yield line.rstrip()
        if explain:
            parts = " · ".join(f"{k} {v:.4f}" for k, v in hit.parts.items())
            yield margin + _paint(parts, DIM, colour)
        found = snippet(hit.text, terms, analyze, 3 * (width - len(margin)))
        shown = _words(hit.text, found.start, found.end, found.highlights)
        before, after = found.start > 0, found.end < len(hit.text.rstrip())
        for text in _wrapped(shown, width - len(margin), colour, before, after):
            yield margin + text
        yield ""


def _plain(text: str) -> str:
    return console.visible(" ".join(text.split()))


def _paint(text: str, code: str, colour: bool) -> str:
    return f"{code}{text}{OFF}" if colour and text else text


_Piece = tuple[str, bool]


def _words(text: str, start: int, end: int, spans: Sequence[tuple[int, int]]) -> Iterator[list[_Piece]]:
    """The words of ``text[start:end]``, each as (visible text, marked) pieces."""
    inside = [s for s in spans if s[0] >= start and s[1] <= end]
    at = start
    for word in text[start:end].split():
        at = text.index(word, at)
        stop = at + len(word)
        pieces: list[_Piece] = []
        here = at
        for first, last in inside:
            if last <= at or first >= stop:
                continue
            pieces.append((text[here : max(first, here)], False))
            pieces.append((text[max(first, here) : min(last, stop)], True))
            here = min(last, stop)
        pieces.append((text[here:stop], False))
        yield [(console.visible(t), marked) for t, marked in pieces if t]
        at = stop


def _wrapped(
    words: Iterator[list[_Piece]], width: int, colour: bool, before: bool, after: bool
) -> Iterator[str]:
    from rich.cells import cell_len, chop_cells

    line, used = ("… ", 2) if before else ("", 0)
    for word in words:
        size = sum(cell_len(t) for t, _ in word)
        if used and used + 1 + size > width:
            yield line.rstrip()
            line, used = "", 0
        if size > width:
            *full, rest = chop_cells("".join(t for t, _ in word), width)
            yield from full
            word, size = [(rest, False)], cell_len(rest)
        gap = " " if used and not line.endswith(" ") else ""
        line += gap + "".join(_paint(t, MARK, colour) if marked else t for t, marked in word)
        used += len(gap) + size
    if after:
        line += " …"
    if line.strip():
        yield line.rstrip()

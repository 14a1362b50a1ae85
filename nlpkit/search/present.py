"""Hits for people and for programs: wrapped text with the query's words marked, or plain JSON values.

A hit is a line with its rank, title, id and score, then what it was found for. On a terminal a bar behind the score
compares it with the best one, and words of the query stand out; in a pipe there are the same lines without colour.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nlpkit import console
from nlpkit.search.hits import Hit
from nlpkit.search.snippet import highlights, snippet

BOLD, DIM, MARK, OFF = "\x1b[1m", "\x1b[2m", "\x1b[1;33m", "\x1b[0m"
Analyze = Callable[[str], list[str]]
WIDEST, NARROWEST = 100, 24  # columns
_MARGIN = " " * 4
_BAR, _EIGHTHS = 5, " ▏▎▍▌▋▊▉"
_LINES = 3  # of a snippet, at most
_TERMS = 8  # that an explanation names
_STAGES = ("bm25", "dense", "mixed", "rerank")


def as_json(hits: Sequence[Hit], query: str, analyze: Analyze, width: int = 240) -> list[dict[str, Any]]:
    """One plain record a hit.

    ``passage`` and ``highlights`` are [start, end] in ``text``, ``title_highlights`` in ``title``; ``snippet`` is
    ``text`` from ``snippet_start`` on.
    """
    terms = frozenset(analyze(query))
    made = []
    for rank, hit in enumerate(hits, 1):
        end = len(hit.text) if hit.end is None else hit.end
        found = snippet(hit.text, terms, analyze, width, hit.start, end)
        record = {
            "rank": rank,
            "id": hit.id,
            "score": hit.score,
            "title": hit.title,
            "title_highlights": [[a, b] for a, b, _ in highlights(hit.title, terms, analyze)]
            if terms
            else [],
            "text": hit.text,
            "passage": [hit.start, end],
            "snippet": hit.text[found.start : found.end],
            "snippet_start": found.start,
            "highlights": [list(span) for span in found.highlights],
            "parts": hit.parts,
            "fields": hit.fields,
        }
        if hit.why:
            record["why"] = hit.why
        made.append(record)
    return made


def as_text(hits: Sequence[Hit], query: str, analyze: Analyze) -> Iterator[str]:
    """Lines for a terminal (coloured where stdout is one): rank, title, id and score, then the snippet, wrapped.

    Control characters of documents are made visible; nothing in them is read as markup.
    """
    colour = console.colour()
    width = max(NARROWEST, min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST))
    terms = frozenset(analyze(query))
    best = max((hit.score for hit in hits), default=0.0)
    room = width - len(_MARGIN)
    for rank, hit in enumerate(hits, 1):
        yield from _head(rank, hit, best, width, colour, lambda text: highlights(text, terms, analyze))
        end = len(hit.text) if hit.end is None else hit.end
        found = snippet(hit.text, terms, analyze, _letters(hit.text[hit.start : end], room), hit.start, end)
        shown = _words(hit.text, found.start, found.end, found.highlights)
        before = bool(hit.text[: found.start].strip())
        after = bool(hit.text[found.end :].strip())
        for text in _wrapped(shown, room, colour, before, after):
            yield _MARGIN + text
        for text in _why(hit, room):
            yield _MARGIN + _paint(text, DIM, colour)
        yield ""


def _letters(text: str, room: int) -> int:
    """How many characters of a text fill the lines of a snippet; those of some scripts are two columns wide."""
    some = text[:400]
    cells = (_LINES * room) - 8
    return cells if some.isascii() else max(8, cells * len(some) // max(1, _cells(some)))


def _head(
    rank: int,
    hit: Hit,
    best: float,
    width: int,
    colour: bool,
    find: Callable[[str], list[tuple[int, int, str]]],
) -> Iterator[str]:
    """Rank, title and id, and the score at the right; the id has a line of its own where it does not fit beside."""
    title, name = _plain(hit.title), _plain(hit.id)
    score = _number(hit.score)
    bar = f" {_bar(hit.score, best)}" if colour and width >= 60 else ""
    room = width - len(_MARGIN) - 2 - len(score) - len(bar)
    place = _paint(f"{rank:>2}", DIM, colour)
    right = f"{_paint(score, DIM, colour)}{_paint(bar, DIM, colour)}"
    if not title or title == name:
        if _cells(name) > room:
            yield f"{place}  {_paint(name, BOLD, colour)}"
            yield f"{' ' * (width - len(score) - len(bar))}{right}"
        else:
            yield f"{place}  {_paint(name, BOLD, colour)}{' ' * (room - _cells(name) + 2)}{right}"
        return
    beside = _cells(title) + 2 + _cells(name) <= room
    shown = title if beside else _cut(title, room)
    gap = room - _cells(shown) + 2 - (2 + _cells(name) if beside else 0)
    line = f"{place}  {_marked(shown, find(shown)) if colour else shown}"
    yield line + (f"  {_paint(name, DIM, colour)}" if beside else "") + " " * gap + right
    if not beside:
        yield _MARGIN + _paint(name, DIM, colour)


def _marked(text: str, spans: Sequence[tuple[int, int, str]]) -> str:
    """A title in bold with the query's words in colour."""
    made, at = "", 0
    for start, end, _ in spans:
        made += _paint(text[at:start], BOLD, True) + _paint(text[start:end], MARK, True)
        at = end
    return made + _paint(text[at:], BOLD, True)


def _number(score: float) -> str:
    """Four digits or so, whatever the scale: 12.35, 0.8123, 0.0164."""
    return f"{score:.2f}" if abs(score) >= 10 else f"{score:.4f}"


def _bar(score: float, best: float) -> str:
    """The score beside the best one, in eighths of a cell.

    >>> _bar(1.0, 2.0)
    '██▌  '
    """
    share = min(1.0, max(0.0, score / best)) if best > 0 else 0.0
    eighths = round(8 * _BAR * share)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR)


def _why(hit: Hit, room: int) -> Iterator[str]:
    """A line a stage: its score, the place it gave the hit, and what made it; aligned."""
    ranks = hit.why.get("ranks", {})
    scores: dict[str, float | None] = {stage: hit.parts.get(stage) for stage in _STAGES}
    if "mixed" in ranks:
        scores["mixed"] = hit.parts.get("first", hit.score)
    rows = []
    for stage in _STAGES:
        value = scores[stage]
        if value is None or stage not in ranks:
            continue
        place = f"#{ranks[stage]}" if ranks[stage] else "–"
        rows.append((stage, _number(value), place, _made_of(stage, hit)))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    for name, score, place, note in rows:
        line = f"{name:<{widths[0]}}  {score:>{widths[1]}}  {place:<{widths[2]}}"
        if len(line) + 2 + _cells(note) <= room:
            yield f"{line}  {note}".rstrip()
            continue
        yield line.rstrip()
        yield from ("  " + part for part in _filled(note.split(" · "), room - 2))


def _made_of(stage: str, hit: Hit) -> str:
    if stage == "bm25":
        terms = hit.why.get("terms", [])
        said = [f"{_plain(term)} {weight:.2f}" for term, weight in terms[:_TERMS]]
        if len(terms) > _TERMS:
            said.append(f"{len(terms) - _TERMS} more {sum(w for _, w in terms[_TERMS:]):.2f}")
        return " · ".join(said)
    if stage == "mixed":
        parts = hit.why.get("mixed", {})
        return " · ".join(f"{name} {value:.3f}" for name, value in parts.items())
    if stage == "rerank":
        ranks = hit.why["ranks"]
        before = next((ranks[s] for s in ("mixed", "dense", "bm25") if ranks.get(s)), None)
        moved = (before or 0) - ranks["rerank"]
        said = [f"up {moved}" if moved > 0 else f"down {-moved}"] if before and moved else []
        if "depth" in hit.parts:
            said.append(f"the first {hit.parts['depth']:.0f} were read")
        return " · ".join(said)
    return ""


def _filled(parts: Sequence[str], room: int) -> Iterator[str]:
    """Parts joined by dots in lines of ``room`` cells."""
    line = ""
    for part in parts:
        if line and _cells(line) + 3 + _cells(part) > room:
            yield line
            line = ""
        line += (" · " if line else "") + _cut(part, room)
    if line:
        yield line


def _plain(text: str) -> str:
    return console.visible(" ".join(text.split()))


def _paint(text: str, code: str, colour: bool) -> str:
    return f"{code}{text}{OFF}" if colour and text else text


def _cells(text: str) -> int:
    """How many columns a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _cut(text: str, room: int) -> str:
    """``text`` with an ellipsis where it is wider than ``room`` columns."""
    if _cells(text) <= room:
        return text
    from rich.cells import chop_cells

    return chop_cells(text, max(1, room - 1))[0].rstrip() + "…"


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
    """Words in lines of ``width`` columns, with an ellipsis where the text goes on ``before`` or ``after`` them."""
    line, used = ("… ", 2) if before else ("", 0)
    for word in words:
        size = sum(_cells(t) for t, _ in word)
        if used and used + 1 + size > width:
            yield line.rstrip()
            line, used = "", 0
        if size > width:
            from rich.cells import chop_cells

            *full, rest = chop_cells("".join(t for t, _ in word), width)
            yield from full
            word, size = [(rest, False)], _cells(rest)
        gap = " " if used and not line.endswith(" ") else ""
        line += gap + "".join(_paint(t, MARK, colour) if marked else t for t, marked in word)
        used += len(gap) + size
    if after:
        if used + 2 > width:
            yield line.rstrip()
            line = "…"
        else:
            line += " …"
    if line.strip():
        yield line.rstrip()

"""The part of a document that shows why it was found, with the places of the query's words in the raw text."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

# Letters and digits, with combining marks inside; an underscore or a dot ends a word, as in the default recipe.
_WORD = re.compile(r"[^\W_]+(?:[\u0300-\u036f]+[^\W_]*)*")
_READ = 200_000  # characters of a document that are looked at; its hit does not depend on this
_MOST = 200  # highlights of one document


@dataclass(frozen=True)
class Snippet:
    """``text[start:end]`` is the window; ``highlights`` are (start, end) in the whole raw text, in order."""

    start: int
    end: int
    highlights: list[tuple[int, int]]


def highlights(
    text: str,
    terms: Collection[str],
    analyze: Callable[[str], list[str]],
    start: int = 0,
    end: int | None = None,
) -> list[tuple[int, int, str]]:
    """Every word of the raw ``text[start:end]`` whose terms meet ``terms``: (start, end, term), offsets in ``text``."""
    known: dict[str, str] = {}
    found = []
    end = len(text) if end is None else end
    for word in _WORD.finditer(text, start, min(end, start + _READ)):
        raw = word.group()
        if raw not in known:
            known[raw] = next((t for t in analyze(raw) if t in terms), "")
        if known[raw]:
            found.append((word.start(), word.end(), known[raw]))
            if len(found) == _MOST:
                break
    return found


def snippet(
    text: str,
    terms: Collection[str],
    analyze: Callable[[str], list[str]],
    width: int = 240,
    start: int = 0,
    end: int | None = None,
) -> Snippet:
    """The window of about ``width`` characters in ``text[start:end]`` with the most different query terms, the earliest
    of the best.

    >>> found = snippet("one two three four five six", {"four"}, str.split, width=9)
    >>> "one two three four five six"[found.start:found.end]
    'four five'
    """
    end = len(text) if end is None else end
    marks = highlights(text, terms, analyze, start, end) if terms else []
    spans = [(first, last) for first, last, _ in marks]
    if end - start <= width:
        return Snippet(start, end, spans)
    best, at = (0, 0), 0
    for i, (first, _, _) in enumerate(marks):
        inside = [m for m in marks[i : i + 32] if m[1] <= first + width]
        value = (len({m[2] for m in inside}), len(inside))
        if value > best:
            best, at = value, i
    if not marks:
        return Snippet(start, _word_end(text, start + width, start, end), spans)
    first = marks[at][0]
    last = max((m[1] for m in marks[at:] if m[1] <= first + width), default=marks[at][1])
    # The words sit a little left of the middle; the window starts and ends between words.
    begin = max(start, min(first - max(0, width - (last - first)) // 3, end - width))
    if begin > start:
        space = re.compile(r"\s").search(text, begin - 1, first)
        begin = space.end() if space else first
    return Snippet(begin, max(_word_end(text, begin + width, begin, end), last), spans)


def _word_end(text: str, at: int, least: int, end: int) -> int:
    """``at`` or the last gap between words before it."""
    if at >= end or text[at].isspace():
        return min(at, end)
    gap = max(text.rfind(c, least, at) for c in " \n\t")
    return gap if gap > least else at

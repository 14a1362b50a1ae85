"""The frame of a peer that makes words of lines: ``python X.py SOURCE TARGET``."""

import sys
import unicodedata
from collections.abc import Callable, Iterable


def plain(line: str) -> str:
    """NFKD, lower case, no combining marks."""
    text = unicodedata.normalize("NFKD", line).lower()
    return text if text.isascii() else "".join(c for c in text if not unicodedata.combining(c))


def filter_lines(run: Callable[[str], Iterable[str]]) -> None:
    """Write the words of each line of the source, a line for a line."""
    source, target = sys.argv[1:3]
    with open(source, encoding="utf-8", newline="\n") as f, open(target, "w", encoding="utf-8") as o:
        for line in f:
            o.write(" ".join(run(line)) + "\n")


def map_lines(run: Callable[[str], str]) -> None:
    """Write what becomes of each line of the source."""
    source, target = sys.argv[1:3]
    with open(source, encoding="utf-8", newline="\n") as f, open(target, "w", encoding="utf-8") as o:
        for line in f:
            o.write(run(line))

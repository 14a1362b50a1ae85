"""What people see: data on stdout, everything else on stderr; one-line errors; progress only where it helps."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

PLAIN_EVERY = 30.0  # seconds between progress lines where stderr is no terminal
_state = {"quiet": False}


def set_quiet(quiet: bool) -> None:
    """Silence notes and progress (``--quiet``); errors and data still appear."""
    _state["quiet"] = quiet


def quiet() -> bool:
    """Whether notes and progress are silenced."""
    return _state["quiet"]


def note(message: str) -> None:
    """Say something on stderr."""
    if not _state["quiet"]:
        sys.stderr.write(visible(message) + "\n")
        sys.stderr.flush()


def warn(message: str) -> None:
    """Say on stderr that something was replaced, dropped or fell back."""
    note(f"nlpkit: warning: {message}")


def error(message: str) -> None:
    """The one line of a failure."""
    sys.stderr.write("nlpkit: " + visible(" ".join(message.split("\n"))) + "\n")
    sys.stderr.flush()


def visible(text: str) -> str:
    """``text`` with control characters made visible, so that a document cannot steer a terminal.

    >>> visible("a" + chr(27) + "[31m")
    'a\\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii") for c in text
    )


def data_out() -> IO[bytes]:
    """Standard output for bytes. Flushed a line at a time on a terminal, by the block in a pipe."""
    return sys.stdout.buffer


def write(text: str) -> None:
    """Write text to standard output as UTF-8, whatever the locale."""
    out = data_out()
    out.write(text.encode("utf-8", "replace"))
    if sys.stdout.isatty():
        out.flush()


def colour() -> bool:
    """Whether stdout may carry colour: a terminal, and ``NO_COLOR`` not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(rows: Iterable[Sequence[Any]], header: Sequence[str], title: str = "") -> None:
    """Print a table to stdout: drawn on a terminal, plain aligned columns in a pipe."""
    cells = [[_cell(c) for c in row] for row in rows]
    numeric = [
        bool(cells) and all(row[i].replace(".", "", 1).lstrip("-").isdigit() or not row[i] for row in cells)
        for i in range(len(header))
    ]
    if colour():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        for name, right in zip(header, numeric, strict=True):
            drawn.add_column(name, justify="right" if right else "left")
        for row in cells:
            drawn.add_row(*(Text(c) for c in row))
        Console().print(drawn)
        return
    widths = [max(len(r[i]) for r in [list(header), *cells]) for i in range(len(header))]
    if title:
        write(title + "\n")
    for row in [list(header), *cells]:
        line = "  ".join(
            c.rjust(w) if right else c.ljust(w) for c, w, right in zip(row, widths, numeric, strict=True)
        )
        write(line.rstrip() + "\n")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return visible("" if value is None else str(value)).replace("\n", " ")


class Progress:
    """One bar. ``advance`` moves it; ``say`` sets the words behind it."""

    def __init__(self, label: str, total: float | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.words = 0.0, ""
        self.started = self.spoken = time.monotonic()
        self._bar: Any = None
        self._drawn = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def advance(self, amount: float = 1.0, words: str | None = None) -> None:
        """Move on by ``amount`` units."""
        self.done += amount
        if words is not None:
            self.words = words
        now = time.monotonic()
        if _state["quiet"]:
            return
        if self._drawn:
            if self._bar is None and now - self.started > 1.0:
                self._open()
            if self._bar is not None:
                self._bar.update(0, completed=self.done, description=self._text())
        elif now - self.spoken >= PLAIN_EVERY:
            self.spoken = now
            share = f"{100 * self.done / self.total:.0f} %" if self.total else f"{self.done:,.0f} {self.unit}"
            note(f"{self.label}: {share}, {now - self.started:.0f} s {self.words}".rstrip())

    def _text(self) -> str:
        from rich.markup import escape

        return escape(f"{self.label} {self.words}".rstrip())

    def _open(self) -> None:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR"))),
            transient=True,
        )
        self._bar.add_task(self._text(), total=self.total)
        self._bar.start()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress(label: str, total: float | None = None, unit: str = "items") -> Iterator[Progress]:
    """A bar with an ETA on a terminal after one second, a plain line every 30 s elsewhere.

    >>> with progress("counting", total=3) as bar:
    ...     for _ in range(3):
    ...         bar.advance()
    """
    bar = Progress(label, total, unit)
    try:
        yield bar
    finally:
        bar.close()

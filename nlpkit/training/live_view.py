"""What is seen while a model is trained: on a terminal a few lines kept in place, elsewhere a plain line now and then.

The loop only leaves numbers here; a thread draws them, at most FRAMES times a second.
"""

import math
import os
import sys
import time
from collections.abc import Iterable, Mapping
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nlpkit import console

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

FRAMES = 4  # a second
LATE = 1.0  # seconds before anything is drawn: a short run needs no view
KEPT = 512  # means that the whole curve of the loss is kept as
HALF_LIFE = 20.0  # steps after which the shown loss has forgotten half
BLOCKS, LETTERS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
WIDEST = 110  # columns


class LiveView:
    """``with LiveView(name, kind, total_steps) as view: view.step(record)`` once a step.

    ``earlier`` are the records of a run that goes on, so that its curve begins where the run began. A record is a line
    of metrics.jsonl. Nothing is drawn with ``--quiet``; where stderr is no terminal, what
    :func:`nlpkit.console.progress` says there.
    """

    def __init__(
        self, run_name: str, kind: str, total_steps: int, earlier: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        self.name, self.kind, self.total = console.visible(run_name), kind, total_steps
        self.last: Mapping[str, Any] = {}
        self.valid_last: Mapping[str, Any] = {}
        self.valid_best: Mapping[str, Any] = {}
        self.spikes = 0
        self.curve = Curve()
        self._mean = self._weight = 0.0
        self._live: Live | None = None
        self._plain: console.Progress | None = None
        for record in earlier:
            if record.get("split") == "valid":
                self.valid(record)
            elif record.get("split") == "train":
                self._take(record)
        self._begun_at = int(self.last.get("step", 0))  # the step, and when its successor was done
        self._begun: tuple[int, float] | None = None

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if not drawn():
            self._plain = console.Progress(f"training {self.kind}", self.total, "steps")
            self._plain.advance(self._begun_at)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def step(self, record: Mapping[str, Any]) -> None:
        """A step was done: its train record, or that of a spike."""
        if record.get("event") == "spike":
            self.spikes += 1
            return
        before = int(self.last.get("step", self._begun_at))
        self._take(record)
        if self._plain is not None:
            self._plain.advance(record["step"] - before, f"loss {record['loss']:.3f}")
            return
        now = time.monotonic()
        if self._begun is None:
            self._begun = (int(record["step"]), now)
        if self._live is None and now - self._started > LATE:
            self._open()

    def valid(self, record: Mapping[str, Any]) -> None:
        """The model was measured on the validation set: its valid record."""
        self.valid_last = record
        if not self.valid_best or record["loss"] <= self.valid_best["loss"]:
            self.valid_best = record

    def note(self, text: str) -> None:
        """Say something on stderr; on a terminal it stands above the view."""
        console.note(text)

    @property
    def loss(self) -> float:
        """The training loss, averaged over the last steps."""
        return self._mean / self._weight if self._weight else float("nan")

    def left(self) -> float | None:
        """Seconds until the last step at the pace of this session, its evaluations included; None before two steps.

        The first step is left out: it pays for warming up.
        """
        done = int(self.last.get("step", 0))
        if self._begun is None or done <= self._begun[0]:
            return None
        pace = (time.monotonic() - self._begun[1]) / (done - self._begun[0])
        return pace * max(self.total - done, 0)

    def lines(self, width: int, *, plain: bool = False) -> list["Text"]:
        """The view in ``width`` columns; ``plain`` draws with ASCII alone."""
        from rich.text import Text

        width = min(width, WIDEST)
        dot = " - " if plain else " · "
        done = int(self.last.get("step", 0))
        share = min(done / self.total, 1.0) if self.total else 0.0
        right = f"step {done:,} of {self.total:,}{dot}{100 * share:.0f} %"
        left = self.left()
        eta = "" if left is None else f"{dot}{clock(left)} left"
        clocks = clock(time.monotonic() - self._started) + eta
        bar, full = max(8, width - len(clocks) - 2), "#" if plain else "━"
        fill = round(share * bar)
        long = max(width - len(right) - len(dot + self.kind) - 2, 8)
        name = self.name if len(self.name) <= long else self.name[: long - 1] + ("~" if plain else "…")
        gap = " " * max(2, width - len(name) - len(dot + self.kind) - len(right))
        found = [
            Text.assemble((name, "bold"), (dot + self.kind, "dim"), gap, right),
            Text.assemble(
                (full * fill, "cyan"), (("." if plain else "─") * (bar - fill), "dim"), "  ", (clocks, "dim")
            ),
        ]
        if self.last:
            label = f"loss {self.loss:.4f}  "
            columns = max(width - len(label), 8)
            high, low = sparkline(self.curve.means, columns, LETTERS if plain else BLOCKS)
            found.append(Text.assemble((" " * len(label)), (high, "cyan")))
            found.append(Text.assemble("loss ", (f"{self.loss:.4f}", "bold"), "  ", (low, "cyan")))
            found += [Text(line) for line in packed(self._numbers(), width)]
        for line in found:
            line.truncate(width)
            line.no_wrap = True
        return found

    def _numbers(self) -> list[str]:
        last, told = self.last, []
        if self.valid_last:
            told.append(f"valid {self.valid_last['loss']:.4f}")
            told.append(f"best {self.valid_best['loss']:.4f} at step {self.valid_best['step']:,}")
        if "grad_norm" in last:
            told.append(f"gradient {last['grad_norm']:.3g}")
        if "lr" in last:
            told.append(f"lr {last['lr']:.2e}")
        told += [f"{last[f'{what}_per_second']:,.0f} {what}/s" for what in ("tokens", "items")
                 if f"{what}_per_second" in last]  # fmt: skip
        if "share_of_peak" in last:
            told.append(f"{100 * last['share_of_peak']:.1f} % of peak")
        if self.spikes:
            told.append(f"{self.spikes:,} spike{'s' if self.spikes > 1 else ''}")
        return told

    def _take(self, record: Mapping[str, Any]) -> None:
        self.last = record
        loss = float(record["loss"])
        if not math.isfinite(loss):
            return  # it would stay in the average for good
        keep = 0.5 ** (1 / HALF_LIFE)
        self._mean, self._weight = keep * self._mean + (1 - keep) * loss, keep * self._weight + (1 - keep)
        self.curve.add(loss)

    def _open(self) -> None:
        from rich.console import Console
        from rich.live import Live

        screen = Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR")), highlight=False)
        self._live = Live(
            get_renderable=lambda: self._group(screen),
            console=screen,
            refresh_per_second=FRAMES,
            transient=True,
            vertical_overflow="crop",
        )
        self._live.start()

    def _group(self, screen: "Console") -> "Group":
        from rich.console import Group

        return Group(*self.lines(screen.width - 1, plain=screen.options.ascii_only))


class Curve:
    """A curve of any length as at most KEPT means of equal runs of values.

    >>> curve = Curve()
    >>> for value in range(2 * KEPT):
    ...     curve.add(value)
    >>> len(curve.means), curve.means[0]
    (512, 0.5)
    """

    def __init__(self) -> None:
        self.means: list[float] = []
        self._each, self._sum, self._count = 1, 0.0, 0

    def add(self, value: float) -> None:
        """Put a value at the end."""
        self._sum += value
        self._count += 1
        if self._count < self._each:
            return
        if len(self.means) == KEPT:
            # The thread that draws may be reading: the list is replaced, never changed.
            self.means = [(a + b) / 2 for a, b in zip(self.means[::2], self.means[1::2], strict=True)]
            self._each *= 2
            return
        self.means.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0


def drawn() -> bool:
    """Whether the view is drawn: stderr is a terminal that can, and nobody asked for quiet."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not console.quiet()


def sparkline(values: list[float], columns: int, blocks: str = BLOCKS) -> tuple[str, str]:
    """The upper and the lower row of a curve drawn in ``columns`` columns of blocks.

    >>> sparkline([0, 1, 2, 3], 4)
    ('  ▃█', '▁▆██')
    """
    values = [v for v in values if v == v and abs(v) != float("inf")]
    if not values:
        return "", ""
    columns = min(columns, len(values))
    edges = [i * len(values) // columns for i in range(columns + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high, most = min(means), max(means), len(blocks) - 1
    rows: tuple[list[str], list[str]] = ([], [])
    for mean in means:
        share = (mean - low) / (high - low) if high > low else 0.5
        height = 1 + round(share * (2 * most - 1))
        rows[0].append(blocks[max(height - most, 0)])
        rows[1].append(blocks[min(height, most)])
    return "".join(rows[0]), "".join(rows[1])


def packed(parts: Iterable[str], width: int, between: str = "   ") -> list[str]:
    """Parts in as many lines of ``width`` columns as they need; none is torn.

    >>> packed(["a b", "c d", "e"], 9)
    ['a b   c d', 'e']
    """
    found: list[str] = []
    for part in parts:
        if found and len(found[-1]) + len(between) + len(part) <= width:
            found[-1] += between + part
        else:
            found.append(part)
    return found


def clock(seconds: float) -> str:
    """A length of time as on a clock.

    >>> clock(5), clock(65), clock(36000), clock(200000)
    ('0:05', '1:05', '10:00:00', '2 d 7 h')
    """
    whole = int(seconds)
    if whole >= 86400:
        return f"{whole // 86400:,} d {whole % 86400 // 3600} h"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""Curves of runs in one figure: loss, gradient norm, learning rate, throughput over steps, tokens or seconds."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit.errors import UsageError, did_you_mean
from nlpkit.report.chart import LEAPS, number
from nlpkit.report.history import AXES, History, Point, smooth, thin
from nlpkit.store import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png", ".pdf")
# The ink of the run reports; the runs take the colours that stay apart for the colour-blind (Okabe and Ito 2008).
INK, SOFT, LINE, PAGE = "#1b1f24", "#687078", "#e1e4e8", "#fbfbfa"
COLOURS = ("#2563c9", "#d1602b", "#009e73", "#a0468c", "#b58900", "#3aa5d8", "#6b4ea0", "#5f6b73")


def plot_runs(
    runs: Sequence[History],
    target: str | Path,
    *,
    axis: str = "step",
    log_x: bool = False,
    force: bool = False,
) -> None:
    """Draw runs into an svg, png or pdf file.

    The loss is smoothed (the single steps faint behind it), validation is dots and a broken line, spikes are
    triangles at the top. ``axis`` is step, tokens or seconds.

    :raises UsageError: another kind of file or axis, the file is there already, or a run has nothing to draw.
    """
    target = Path(target)
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{target}: a plot is an svg, png or pdf file; name it so")
    if axis not in AXES:
        raise UsageError(f"--x {axis!r} is not known{did_you_mean(axis, AXES)}")
    if len(runs) > len(COLOURS):
        raise UsageError(f"{len(runs)} runs in one plot; at most {len(COLOURS)} can be told apart")
    for told in runs:
        if not told.split("train"):
            raise UsageError(f"{told.name}: its metrics hold no step; nothing to draw")
    atomic.refuse_existing(target, force)
    atomic.write_bytes(target, _draw(runs, axis, log_x, target.suffix[1:].lower()))


def _draw(runs: Sequence[History], axis: str, log_x: bool, form: str) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.hashsalt": "nlpkit",
        "font.size": 9.5,
        "axes.titlesize": 10.5,
        "svg.fonttype": "none",
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(11, 7), dpi=150, facecolor=PAGE, layout="constrained")
        FigureCanvasAgg(figure)
        places = figure.subplot_mosaic([["loss"] * 3, ["norm", "lr", "rate"]], height_ratios=[1.7, 1])
        rates = list(dict.fromkeys(told.rate for told in runs))
        titles = {
            "loss": "loss",
            "norm": "gradient norm",
            "lr": "learning rate",
            "rate": " or ".join(rates).replace("_", " "),
        }
        for name, title in titles.items():
            _furnish(places[name], title, AXES[axis], log_x)
        for told, colour in zip(runs, COLOURS, strict=False):
            alone = len(runs) == 1
            _line(places["loss"], told.curve("loss", "train", axis), colour, label=told.name)
            valid = told.curve("loss", "valid", axis)
            if valid:
                shown: dict[str, Any] = {
                    "marker": "o",
                    "markersize": 3,
                    "linewidth": 1.1,
                    "linestyle": (0, (4, 2)),
                    "zorder": 3,
                }
                places["loss"].plot(*zip(*valid, strict=True), color=COLOURS[1] if alone else colour, **shown)
            _line(places["norm"], told.curve("grad_norm", "train", axis), colour)
            lr = thin(told.curve("lr", "train", axis), log=log_x)
            if lr:
                places["lr"].plot(*zip(*lr, strict=True), color=colour, linewidth=1.6)
            _line(places["rate"], told.curve(told.rate, "train", axis), colour)
            _mark(places["loss"], [x for x, _ in told.spikes_over(axis)], colour)
        for name in ("loss", "norm"):
            _stretch(places[name])
        for name in ("lr", "rate"):
            places[name].set_ylim(bottom=0)
        _legend(places["loss"], runs)
        data = io.BytesIO()
        options: dict[str, Any] = {"metadata": {"Date": None}} if form == "svg" else {}
        figure.savefig(data, format=form, facecolor=PAGE, **options)
    return data.getvalue()


def _furnish(plane: "Axes", title: str, below: str, log_x: bool) -> None:
    from matplotlib.ticker import FuncFormatter

    plane.set_title(title, loc="left", color=INK)
    plane.set_facecolor("white")
    plane.grid(axis="y", color=LINE, linewidth=0.8)
    plane.set_axisbelow(True)
    for side, line in plane.spines.items():
        line.set_visible(side == "bottom")
        line.set_color(SOFT)
    plane.tick_params(colors=SOFT, left=False, which="both")
    plane.set_xlabel(below, color=SOFT)
    if log_x:
        plane.set_xscale("log", nonpositive="mask")
    plane.margins(x=0.01)
    for ruler in (plane.xaxis, plane.yaxis):
        ruler.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def _line(plane: "Axes", points: Sequence[Point], colour: str, label: str | None = None) -> None:
    """The single steps faint, their exponential average over them."""
    if points:
        log = plane.get_xscale() == "log"
        plane.plot(
            *zip(*thin(points, log=log), strict=True), color=colour, linewidth=0.7, alpha=0.25, zorder=1
        )
        average = thin(smooth(points), log=log)
        plane.plot(*zip(*average, strict=True), color=colour, linewidth=1.7, zorder=2, label=label)


def _mark(plane: "Axes", places: Sequence[float], colour: str) -> None:
    for x in places:
        plane.axvline(x, color=colour, linewidth=0.9, linestyle=(0, (2, 3)), alpha=0.7, zorder=1)
    if places:
        top = plane.get_xaxis_transform()
        shown: dict[str, Any] = {
            "marker": "v",
            "s": 26,
            "color": colour,
            "transform": top,
            "clip_on": False,
            "zorder": 4,
        }
        plane.scatter(places, [1.0] * len(places), **shown)


def _stretch(plane: "Axes") -> None:
    """A logarithmic axis where the values reach over a great ratio."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = plane.dataLim.y0, plane.dataLim.y1
    if low > 0 and high / low > LEAPS:
        plane.set_yscale("log")
        plane.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        plane.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        plane.yaxis.set_minor_formatter(NullFormatter())


def _legend(plane: "Axes", runs: Sequence[History]) -> None:
    from matplotlib.lines import Line2D

    alone = len(runs) == 1
    entries = [
        Line2D([], [], color=colour, linewidth=1.8, label=f"{told.name}, training" if alone else told.name)
        for told, colour in zip(runs, COLOURS, strict=False)
    ]
    if any(told.split("valid") for told in runs):
        style: dict[str, Any] = {
            "color": COLOURS[1] if alone else SOFT,
            "linestyle": (0, (4, 2)),
            "marker": "o",
            "markersize": 3,
        }
        entries.append(Line2D([], [], linewidth=1.1, label="validation", **style))
    if any(told.spikes for told in runs):
        colour = COLOURS[0] if alone else SOFT
        entries.append(Line2D([], [], color=colour, marker="v", linestyle="", label="spike"))
    legend = plane.legend(
        handles=entries, loc="upper right", labelcolor=INK, edgecolor="none", facecolor="white"
    )
    for text in legend.get_texts():
        text.set_parse_math(False)

"""Charts as inline SVG: curves with axes, a key and marked places, and bars. Colours come from the page's classes.

Letters: x and y in the data's units; pixels of the drawing are whole numbers or have one place.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from nlpkit.report.history import Point, thin

LEFT, RIGHT, TOP, BOTTOM = 62, 16, 16, 44
LEAPS = 30.0  # a curve whose values reach over such a ratio is drawn over a logarithmic axis
ROW = 22  # of a bar chart, pixels


@dataclass(frozen=True)
class Curve:
    """Points and how they are drawn: ``colour`` a or b; ``style`` line, faint or dots; ``label`` for the key."""

    points: Sequence[Point]
    colour: str = "a"
    style: str = "line"
    label: str = ""


@dataclass(frozen=True)
class Scale:
    """From a value to a pixel; ``log`` takes decimal logarithms first."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + (self.end - self.start) * share


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers between ``low`` and ``high``.

    >>> ticks(0, 10)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Numbers 1, 2 or 5 times a power of ten between ``low`` and ``high``; round ones where there are too few.

    >>> log_ticks(1, 1000)
    [1.0, 10.0, 100.0, 1000.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [f * 10.0**p for p in powers for f in factors if low * 0.999 <= f * 10.0**p <= high * 1.001]
        if len(found) >= min(3, wanted):
            return found[:: math.ceil(len(found) / (2 * wanted))]
    return ticks(low, high, wanted)


def number(value: float) -> str:
    """A short number for an axis.

    >>> [number(v) for v in (0.0, 0.0005, 2.5, 1500.0, 20_000, 3e6)]
    ['0', '0.0005', '2.5', '1.5k', '20k', '3M']
    """
    size = abs(value)
    for least, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= least * 0.9999:
            return f"{value / least:.4g}{unit}"
    return f"{value:.3g}" if size >= 1e-4 or not size else f"{value:.0e}".replace("e-0", "e-")


def chart(
    curves: Sequence[Curve],
    *,
    title: str,
    x_label: str = "steps",
    marks: Sequence[tuple[float, str]] = (),
    width: int = 440,
    height: int = 230,
    log_x: bool = False,
    from_zero: bool = False,
) -> str:
    """Curves as one SVG; ``marks`` are (x, words) of vertical lines. A line of text where there is nothing to draw.

    The y axis is logarithmic where values reach over a ratio of LEAPS; ``from_zero`` begins it at 0 instead. With
    ``log_x`` points at x ≤ 0 have no place and are left out.
    """
    curves = [
        Curve(
            [p for p in c.points if math.isfinite(p[1]) and (p[0] > 0 or not log_x)],
            c.colour,
            c.style,
            c.label,
        )
        for c in curves
    ]
    curves = [c for c in curves if c.points]
    if not curves:
        return f"<p class=none>{html.escape(title)}: nothing was logged</p>"
    across, up = _scales(curves, width, height, log_x, from_zero)
    label = html.escape(f"{title} over {x_label}", quote=True)
    size = "wide" if width > 600 else "narrow"
    parts = [f'<svg class={size} viewBox="0 0 {width} {height}" role=img aria-label="{label}">']
    for tick in (log_ticks if up.log else ticks)(up.low, up.high, 4):
        at = up(tick)
        parts.append(f'<line class=grid x1={LEFT} x2={width - RIGHT} y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x={LEFT - 8} y="{at + 4:.1f}" text-anchor=end>{number(tick)}</text>')
    for tick in (log_ticks if log_x else ticks)(across.low, across.high, max(3, width // 110)):
        if tick == int(tick) or across.high - across.low < 3:
            at = across(tick)
            foot = height - BOTTOM
            parts.append(f'<line class=axis x1="{at:.1f}" x2="{at:.1f}" y1={foot} y2={foot + 4} />')
            parts.append(f'<text x="{at:.1f}" y={foot + 17} text-anchor=middle>{number(tick)}</text>')
    parts.append(
        f"<line class=axis x1={LEFT} x2={width - RIGHT} y1={height - BOTTOM} y2={height - BOTTOM} />"
    )
    parts.append(f'<text class=name x="{(LEFT + width - RIGHT) / 2}" y={height - 8} text-anchor=middle>'
                 f"{html.escape(x_label)}</text>")  # fmt: skip
    for x, words in marks:
        if across.low <= x <= across.high and (x > 0 or not log_x):
            at = across(x)
            parts.append(
                f'<g class=mark><title>{html.escape(words)}</title><line x1="{at:.1f}" x2="{at:.1f}" y1={TOP} '
                f'y2={height - BOTTOM} /><path d="M{at - 4:.1f} {TOP - 7}h8l-4 7z"/></g>'
            )
    parts += [_drawn(c, across, up) for c in sorted(curves, key=lambda c: c.style != "faint")]
    return "".join([*parts, "</svg>"])


def _scales(
    curves: Sequence[Curve], width: int, height: int, log_x: bool, from_zero: bool
) -> tuple[Scale, Scale]:
    xs = [x for c in curves for x, _ in c.points]
    ys = [y for c in curves for _, y in c.points]
    low, high = min(ys), max(ys)
    log_y = not from_zero and low > 0 and high / low > LEAPS
    if log_y:
        low, high = low / 1.15, high * 1.15
    else:
        pad = 0.05 * (high - low) or abs(low) * 0.05 or 1.0
        low, high = (min(low, 0.0) if from_zero else low - pad), high + pad
    return (
        Scale(min(xs), max(xs), LEFT, width - RIGHT, log_x),
        Scale(low, high, height - BOTTOM, TOP, log_y),
    )


def _drawn(curve: Curve, across: Scale, up: Scale) -> str:
    points = curve.points if curve.style == "dots" else thin(curve.points, log=across.log)
    path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
    parts = [f'<polyline class="{curve.style} {curve.colour}" points="{path}"/>']
    if curve.style == "dots":
        for x, y in points:
            said = html.escape(f"{curve.label} {y:.4f} at {x:,.0f}".strip())
            parts.append(
                f'<circle class="dot {curve.colour}" cx="{across(x):.1f}" cy="{up(y):.1f}" r=2.6>'
                f"<title>{said}</title></circle>"
            )
    return "".join(parts)


def key(curves: Sequence[Curve], spikes: int = 0) -> str:
    """The key below a chart: one entry a labelled curve, and one for the marks."""
    entries = [
        f'<span><i class="key {c.style} {c.colour}"></i>{html.escape(c.label)}</span>'
        for c in curves
        if c.label and c.points
    ]
    if spikes:
        entries.append('<span><i class="key spike"></i>spike</span>')
    return f"<figcaption>{''.join(entries)}</figcaption>" if entries else ""


def bars(rows: Sequence[tuple[str, float | None, float]], *, width: int = 440) -> str:
    """Planned and served shares of sources as pairs of bars: (source, planned or None, served)."""
    most = max([s for _, p, s in rows] + [p or 0.0 for _, p, _ in rows]) or 1.0
    begin, end = 150, width - 60
    parts = [f'<svg viewBox="0 0 {width} {(ROW + 8) * len(rows) + 8}" role=img aria-label="Sources">']
    for i, (name, planned, served) in enumerate(rows):
        top = 6 + i * (ROW + 8)
        short = name if len(name) <= 22 else "…" + name[-21:]
        parts.append(
            f"<text x={begin - 10} y={top + 15} text-anchor=end>{html.escape(short)}"
            f"<title>{html.escape(name)}</title></text>"
        )
        for value, colour, at in ((planned, "plan", top), (served, "a", top + ROW // 2)):
            if value is not None:
                long = (end - begin) * value / most
                parts.append(
                    f'<rect class="bar {colour}" x={begin} y={at} width="{long:.1f}" height={ROW // 2 - 1} rx=2 />'
                )
        shown = f"{100 * served:.1f} %"
        parts.append(f"<text x={width - 4} y={top + 15} text-anchor=end>{shown}</text>")
    return "".join([*parts, "</svg>"])

"""``report.html`` of a run: one file with inline SVG curves, measures and configuration; no script, nothing fetched."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nlpkit import config
from nlpkit.store import atomic, jsonfile, lines

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 240, 64, 34, 14, 14
POINTS = 600  # of a curve; more are thinned out by averaging
Curve = tuple[str, str, list[tuple[float, float]]]

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#687078;--line:#d9dde2;--page:#fbfbfa;--card:#fff;
--a:#2563c9;--b:#d1602b}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#9aa2ab;--line:#363b42;--page:#15181b;
--card:#1d2125;--a:#7fb0ff;--b:#ffa06a}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:800px;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.05rem;margin:2.2rem 0 .6rem}
p{color:var(--soft);margin:.2rem 0}code{font:.86em ui-monospace,monospace;overflow-wrap:anywhere}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.9rem .9rem .5rem}
figcaption{color:var(--soft);font-size:.85rem}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font:12px system-ui,sans-serif}
.grid{stroke:var(--line);stroke-width:1}.a{stroke:var(--a)}.b{stroke:var(--b)}
.c{fill:none;stroke-width:2;stroke-linejoin:round}.dot{fill:var(--b)}
.key{display:inline-block;width:1.1em;height:.2em;vertical-align:middle;margin:0 .4em 0 1em}
.ka{background:var(--a)}.kb{background:var(--b)}
table{border-collapse:collapse;width:100%;font-size:.9rem}
td,th{text-align:left;padding:.28rem .7rem .28rem 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:anywhere}
th{color:var(--soft);font-weight:500}td.n{font-variant-numeric:tabular-nums}
"""


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` into a run's folder from its metrics, config.toml and eval.json; its path."""
    folder = Path(folder)
    atomic.write_bytes(folder / "report.html", page(folder).encode())
    return folder / "report.html"


def page(folder: Path) -> str:
    """The HTML of a run. Everything that comes from files is escaped."""
    records = lines.check(folder / "metrics.jsonl") if (folder / "metrics.jsonl").exists() else []
    origin = _json(folder / "origin.json")
    settings = config.read_toml(folder / "config.toml") if (folder / "config.toml").exists() else {}
    train = [r for r in records if r.get("split") == "train"]
    valid = [r for r in records if r.get("split") == "valid"]
    e = html.escape
    spent = f"{records[-1].get('seconds', 0):,.0f} s" if records else "no step yet"
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>{e(folder.name)}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{e(folder.name)}</h1>",
        f"<p>{e(str(origin.get('kind', '')))}, {len(train):,} steps, {e(spent)}, "
        f"made {e(str(origin.get('made', '')))}</p>",
        f"<p><code>{e(str(origin.get('command', '')))}</code></p>",
    ]
    for part, told in _json(folder / "eval.json").items():
        rows = [
            (n, _number(v)) for n, v in told.items() if isinstance(v, int | float | list) and not _nested(v)
        ]
        parts += [f"<h2>Measured on {e(part)}</h2>", _table(rows)]
    names = ["loss", *(n for n in ("accuracy", "bits", "kl", "reconstruction") if any(n in r for r in train))]
    for name in names:
        curves: list[Curve] = [
            ("training", "a", thin([(r["step"], r[name]) for r in train if name in r])),
            ("validation", "b", [(r["step"], r[name]) for r in valid if name in r]),
        ]
        parts += [f"<h2>{e(name.capitalize())}</h2>", figure(curves)]
    parts += [
        "<h2>Learning rate</h2>",
        figure([("", "a", thin([(r["step"], r["lr"]) for r in train if "lr" in r]))]),
    ]
    parts += ["<h2>Gradient norm</h2>"]
    parts += [figure([("", "a", thin([(r["step"], r["grad_norm"]) for r in train if "grad_norm" in r]))])]
    parts += [
        "<h2>Configuration</h2>",
        _table([(n, json.dumps(v, ensure_ascii=False)) for n, v in flat(settings)]),
    ]
    versions = origin.get("versions", {})
    if isinstance(versions, Mapping):
        made = [*versions.items(), ("git", origin.get("git", "")), ("machine", origin.get("machine", ""))]
        parts += ["<h2>Made with</h2>", _table([(str(n), str(v)) for n, v in made if v])]
    return "".join([*parts, "</main></body></html>\n"])


def _json(path: Path) -> dict[str, Any]:
    return jsonfile.read(path) if path.exists() else {}


def _nested(value: Any) -> bool:
    return isinstance(value, list) and (len(value) > 12 or any(isinstance(v, list) for v in value))


def _number(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_number(v) for v in value)
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = (f"<tr><th>{html.escape(n)}</th><td class=n>{html.escape(v)}</td></tr>" for n, v in rows)
    return f"<table>{''.join(cells)}</table>"


def flat(values: Mapping[str, Any], at: str = "") -> list[tuple[str, Any]]:
    """Nested tables as (dotted name, value).

    >>> flat({"a": {"b": 1}, "c": 2})
    [('a.b', 1), ('c', 2)]
    """
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        found += flat(value, f"{at}{name}.") if isinstance(value, Mapping) else [(at + name, value)]
    return found


def thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most POINTS points: means of runs of equal length."""
    if len(points) <= POINTS:
        return points
    size = math.ceil(len(points) / POINTS)
    runs = (points[i : i + size] for i in range(0, len(points), size))
    return [(r[-1][0], sum(y for _, y in r) / len(r)) for r in runs]


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


def figure(curves: Sequence[Curve]) -> str:
    """Curves over steps as an inline SVG with axes and a key; a line of text when there is nothing to draw."""
    drawn = [(n, c, [p for p in points if math.isfinite(p[1])]) for n, c, points in curves]
    drawn = [(n, c, points) for n, c, points in drawn if points]
    if not drawn:
        return "<p>nothing was logged</p>"
    every = [p for _, _, points in drawn for p in points]
    x0, x1 = min(p[0] for p in every), max(p[0] for p in every)
    y0, y1 = min(p[1] for p in every), max(p[1] for p in every)
    pad = 0.04 * (y1 - y0) or abs(y0) * 0.05 or 1.0
    y0, y1 = y0 - pad, y1 + pad

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((value - x0) / (x1 - x0) if x1 > x0 else 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - y0) / (y1 - y0))

    parts = [f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role=img>']
    for tick in ticks(y0, y1, 4):
        at = f"{y(tick):.1f}"
        parts.append(f'<line class=grid x1={LEFT} x2={WIDTH - RIGHT} y1="{at}" y2="{at}"/>')
        parts.append(f'<text x={LEFT - 8} y="{y(tick) + 4:.1f}" text-anchor=end>{tick:.3g}</text>')
    for tick in ticks(x0, x1, 6):
        if tick == int(tick):
            parts.append(f'<text x="{x(tick):.1f}" y={HEIGHT - 10} text-anchor=middle>{int(tick):,}</text>')
    for _, colour, points in drawn:
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        parts.append(f'<polyline class="c {colour}" points="{path}"/>')
        if colour == "b":
            parts += [f'<circle class=dot cx="{x(a):.1f}" cy="{y(b):.1f}" r=2.5 />' for a, b in points]
    keys = "".join(f"<span class='key k{c}'></span>{html.escape(n)}" for n, c, _ in drawn if n)
    return "".join([*parts, f"</svg><figcaption>{keys}</figcaption></figure>"])

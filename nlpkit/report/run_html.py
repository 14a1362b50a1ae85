"""``report.html`` of a run: one file with curves, results, data, configuration and the command that repeats it.

No script and nothing fetched; everything that comes from the run's files is escaped.
"""

import html
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nlpkit import config
from nlpkit.report.chart import Curve, bars, chart, key
from nlpkit.report.history import History, history, mixture, smooth
from nlpkit.report.style import STYLE
from nlpkit.store import atomic, jsonfile, lines

LONG = 12  # a measure that holds more numbers is named, not shown
WIDE = 900  # pixels of the drawing of the loss, which takes a whole row


def write_report(folder: str | Path, defaults: Mapping[str, Any] | None = None) -> Path:
    """Write ``report.html`` into a run's folder from its files; its path.

    ``defaults`` are the nested tables of a run of this kind that nothing was asked for: with them the report shows
    first what was set otherwise.
    """
    folder = Path(folder)
    atomic.write_bytes(folder / "report.html", page(folder, defaults).encode())
    return folder / "report.html"


def page(folder: Path, defaults: Mapping[str, Any] | None = None) -> str:
    """The HTML of a run; ``defaults`` as in :func:`write_report`."""
    records = lines.check(folder / "metrics.jsonl") if (folder / "metrics.jsonl").exists() else []
    origin = _json(folder / "origin.json")
    settings = config.read_toml(folder / "config.toml") if (folder / "config.toml").exists() else {}
    told = history(folder.name, records)
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>{html.escape(folder.name)}</title><style>{STYLE}</style></head><body><main>",
        *_headline(folder.name, origin, settings, told),
        *_curves(told),
        *_results(_json(folder / "eval.json")),
        *_data(folder, origin, told),
        *_configuration(settings, origin.get("requested"), defaults),
        *_environment(origin, settings),
        *_repeat(folder, origin, settings),
    ]
    return "".join([*parts, "</main></body></html>\n"])


def duration(seconds: float) -> str:
    """A length of time in words.

    >>> duration(8.25), duration(65), duration(7380)
    ('8.2 s', '1 min 5 s', '2 h 3 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def _headline(name: str, origin: Mapping[str, Any], settings: Mapping[str, Any], told: History) -> list[str]:
    train, valid = told.split("train"), [r for r in told.split("valid") if "loss" in r]
    steps = max((r["step"] for r in train), default=0)
    wanted = settings.get("train", {}).get("steps", 0)
    made = str(origin.get("made", ""))[:16].replace("T", " ")
    said = ", ".join(p for p in (str(origin.get("kind", "")), made) if p)
    tiles: list[tuple[str, str]] = []
    if valid:
        best = min(valid, key=lambda r: r["loss"])
        where = "" if best is valid[-1] else f" (best {best['loss']:.4f} at step {best['step']:,})"
        tiles.append((f"{valid[-1]['loss']:.4f}", f"final validation loss{where}"))
    elif average := smooth(told.curve("loss")):
        tiles.append((f"{average[-1][1]:.4f}", "training loss, smoothed"))
    tiles.append((f"{steps:,}", f"of {wanted:,} steps" if wanted and wanted != steps else "steps"))
    tiles.append((duration(told.seconds), "training and measuring"))
    if told.speed is not None:
        tiles.append((f"{told.speed:,.0f}", told.rate.replace("_", " ")))
    if told.tokens:
        tiles.append((_short(told.tokens[-1]), "tokens learned from"))
    shares = sorted(r["share_of_peak"] for r in train if isinstance(r.get("share_of_peak"), int | float))
    if shares:
        tiles.append((f"{100 * shares[len(shares) // 2]:.1f} %", "of the processor's peak"))
    if told.spikes:
        tiles.append((f"{len(told.spikes):,}", "spike" if len(told.spikes) == 1 else "spikes"))
    shown = (f"<div class=tile><b>{html.escape(v)}</b><span>{html.escape(n)}</span></div>" for v, n in tiles)
    return [
        f"<h1>{html.escape(name)}</h1><p>{html.escape(said)}</p>",
        f"<div class=tiles>{''.join(shown)}</div>",
    ]


def _curves(told: History) -> list[str]:
    """The loss over the whole width, the other measures in pairs, the mixture of sources, the list of spikes."""
    marks = [
        (x, f"step {r['step']:,}: {r.get('action', 'spike')}{_z(r)}") for x, r in told.spikes_over("step")
    ]
    raw, valid = told.curve("loss"), told.curve("loss", "valid")
    loss = [
        Curve(smooth(raw), "a", "line", "training, smoothed"),
        Curve(raw, "a", "faint", "each step"),
        Curve(valid, "b", "dots", "validation"),
    ]
    options: dict[str, Any] = {"title": "Loss", "marks": marks, "width": WIDE, "height": 340}
    switch = (
        "<div class=turn><input class=switch type=radio name=across id=even checked><label for=even>steps</label>"
        "<input class=switch type=radio name=across id=log><label for=log>log steps</label></div>"
    )
    parts = [
        f"<figure>{switch if raw else ''}<h2>Loss</h2><div class=even>{chart(loss, **options)}</div>",
        f"<div class=log>{chart(loss, **options, log_x=True)}</div>" if raw else "",
        f"{key(loss, len(marks))}</figure><div class=pair>",
    ]
    train = told.split("train")
    fixed = {"step", "split", "loss", "lr", "grad_norm", "seconds", "tokens", "share_of_peak", told.rate}
    names = list(dict.fromkeys(n for r in train for n, v in r.items() if isinstance(v, int | float)))
    for name in (n for n in names if n not in fixed):
        raw = told.curve(name)
        curves = [
            Curve(smooth(raw), "a", "line", "training, smoothed"),
            Curve(raw, "a", "faint"),
            Curve(told.curve(name, "valid"), "b", "dots", "validation"),
        ]
        parts.append(_figure(name.replace("_", " ").capitalize(), curves, marks))
    raw = told.curve("grad_norm")
    parts.append(_figure("Gradient norm", [Curve(smooth(raw), "a"), Curve(raw, "a", "faint")], marks))
    parts.append(_figure("Learning rate", [Curve(told.curve("lr"), "a")], (), from_zero=True))
    for name, title in (
        (told.rate, told.rate.replace("_", " ").capitalize()),
        ("share_of_peak", "Share of peak"),
    ):
        raw = told.curve(name)
        if raw:
            curves = [Curve(smooth(raw), "a"), Curve(raw, "a", "faint")]
            parts.append(_figure(title, curves, (), from_zero=True))
    mixed = mixture(told.records)
    if mixed:
        planned = any(p is not None for _, p, _ in mixed)
        keys = '<span><i class="key bar plan"></i>planned</span>' if planned else ""
        keys += '<span><i class="key bar a"></i>served</span>'
        parts.append(f"<figure><h2>Sources</h2>{bars(mixed)}<figcaption>{keys}</figcaption></figure>")
    parts.append("</div>")
    if told.spikes:
        rows = [
            (
                f"step {r['step']:,}",
                str(r.get("action", "")),
                f"{r['z']:.1f}" if _is_number(r.get("z")) else "",
            )
            for r in told.spikes
        ]
        parts += ["<h2>Spikes</h2>", _table(rows, ("where", "what was done", "standard deviations above"))]
    return parts


def _figure(title: str, curves: Sequence[Curve], marks: Sequence[tuple[float, str]], **options: Any) -> str:
    drawn = chart(curves, title=title, marks=marks, **options)
    return f"<figure><h2>{html.escape(title)}</h2>{drawn}{key(curves)}</figure>"


def _results(found: Mapping[str, Any]) -> list[str]:
    """A table a part of the data: each measure with its interval where it has one."""
    parts: list[str] = []
    for part, told in found.items():
        if not isinstance(told, Mapping):
            continue
        spans = {n.removesuffix("_interval"): v for n, v in told.items() if n.endswith("_interval")}
        rows, named = [], []
        for name, value in told.items():
            if name.endswith("_interval") and name.removesuffix("_interval") in told:
                continue
            if _is_number(value) or isinstance(value, str):
                rows.append(
                    (name, _number(value), f"{_number(spans[name], ' to ')}" if name in spans else "")
                )
            elif isinstance(value, list) and len(value) <= LONG and all(map(_is_number, value)):
                rows.append((name, _number(value), ""))
            else:
                named.append(name)
        parts += [f"<h2>Measured on {html.escape(str(part))}</h2>"]
        header = ("measure", "value", "95 % interval") if spans else ()
        parts += [_table(rows if spans else [r[:2] for r in rows], header)]
        if named:
            parts += [f"<p>Also in eval.json: {html.escape(', '.join(map(str, named)))}.</p>"]
    return parts


def _data(folder: Path, origin: Mapping[str, Any], told: History) -> list[str]:
    """What was learned from, as log.txt told before the first step, and the inputs with their hashes."""
    rows = []
    if (folder / "log.txt").exists():
        for line in lines.check(folder / "log.txt"):
            said = line[20:]  # after the date and the time
            if re.match(r"step [\d,]+ of|resuming", said):
                break
            rows += [("prepared", said)]
    if told.tokens:
        rows += [("tokens learned from", f"{told.tokens[-1]:,.0f}")]
    inputs = origin.get("inputs")
    if isinstance(inputs, Mapping):
        rows += [(str(name), f"sha256 {digest}") for name, digest in inputs.items()]
    return ["<h2>Data</h2>", _table(rows)] if rows else []


def _configuration(
    settings: Mapping[str, Any], requested: Any, defaults: Mapping[str, Any] | None
) -> list[str]:
    """Three tables: what was set otherwise than the defaults, what was decided at the start, the rest."""
    if not settings:
        return []
    asked = config.flat(requested) if isinstance(requested, Mapping) else {}
    usual = config.flat(defaults) if defaults is not None else {}
    own, decided, rest = [], [], []
    for name, value in config.flat(settings).items():
        if usual and name in asked and name in usual and not _same(asked[name], usual[name]):
            own.append((name, _value(asked[name]), _value(usual[name])))
        if asked and name != "kind" and not _same(asked.get(name), value):
            decided.append((name, _value(value), _value(asked[name]) if name in asked else ""))
        elif not own or own[-1][0] != name:
            rest.append((name, _value(value)))
    parts = ["<h2>Configuration</h2>"]
    if own:
        parts += ["<h3>Set for this run</h3>", _table(own, ("", "value", "default"))]
    if decided:
        parts += ["<h3>Decided at the start</h3>", _table(decided, ("", "value", "asked for"))]
    if own or decided:
        what = "As the defaults have it" if usual else "As asked for"
        return [*parts, f"<details><summary>{what}: {len(rest)} settings</summary>{_table(rest)}</details>"]
    return [*parts, _table(rest)]


def _environment(origin: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    versions = origin.get("versions")
    train = settings.get("train", {})
    rows = [(n, str(train[n])) for n in ("device", "precision", "threads", "seed") if n in train]
    rows += [(n, str(origin[n])) for n in ("machine", "git") if origin.get(n)]
    if isinstance(versions, Mapping):
        rows += [("versions", ", ".join(f"{n} {v}" for n, v in versions.items()))]
    return ["<h2>Environment</h2>", _table(rows)] if rows else []


def _repeat(folder: Path, origin: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    command = str(origin.get("command", ""))
    if not command:
        return []
    parts = ["<h2>Again</h2><p>The command that made this run:</p>", f"<pre>{html.escape(command)}</pre>"]
    if settings:
        kind = str(origin.get("kind", settings.get("kind", "")))
        words = ["nlpkit", "train", kind, "-c", str(folder / "config.toml"), "-o", f"{folder}-again"]
        parts += [
            "<p>The same with all that was decided:</p>",
            f"<pre>{html.escape(shlex.join(words))}</pre>",
        ]
    return parts


def _json(path: Path) -> dict[str, Any]:
    return jsonfile.read(path) if path.exists() else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any, between: str = ", ") -> str:
    if isinstance(value, list):
        return between.join(_number(v) for v in value)
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}" if _is_number(value) else str(value)


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):,.1f} {unit}"
    return f"{value:,.0f}"


def _z(record: Mapping[str, Any]) -> str:
    return f", z {record['z']:.1f}" if _is_number(record.get("z")) else ""


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _same(a: Any, b: Any) -> bool:
    return _value(a) == _value(b) or (_is_number(a) and _is_number(b) and a == b)


def _table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> str:
    head = "".join(f"<th>{html.escape(h)}</th>" for h in header)
    cells = (
        f"<tr><th>{html.escape(n)}</th>" + "".join(f"<td>{html.escape(v)}</td>" for v in values) + "</tr>"
        for n, *values in rows
    )
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}{''.join(cells)}</table>"

"""Write the README's tables of figures from benchmarks/results/*.json, between their markers.

Run: python benchmarks/tables.py [--check]   (--check changes nothing and fails when the page is out of date)
"""

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "README.md"
MARKED = re.compile(r"(<!-- figures: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def duration(runs: list[float]) -> str:
    value = statistics.median(runs)
    return f"{1000 * value:.0f} ms" if value < 0.2 else f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def speeds(row: dict[str, Any]) -> str:
    """Tokens a second of both sides, where a row has them."""
    sides = row.get("runs")
    if not isinstance(sides, dict) or not all(isinstance(sides.get(name), list) for name in ("ours", "peer")):
        return ""
    rates = [[run.get("tokens_per_second", 0) for run in sides[name]] for name in ("ours", "peer")]
    ours, peer = map(statistics.median, rates)
    return f"{ours:,.0f} tokens/s beside {peer:,.0f}" if ours and peer else ""


def line(row: dict[str, Any]) -> str:
    """A row of results as a row of Markdown."""
    if "ratio" in row:
        ratio = f"{row['ratio']:.2f} ×"
        times = f"{duration(row['ours'])} beside {duration(row['peer_runs'])}"
        if "base" in row:
            times += f" (without `{row['needs']}` {duration(row['base'])}, {row['base_ratio']:.2f} ×)"
        if "numba_ratio" in row:
            times += f" (against its numba backend {row['numba_ratio']:.2f} ×)"
    elif row["figure"] is None:
        ratio, times = "never", ""
    else:
        ratio = (
            f"{row['figure']:.2f} ×" if row["unit"] == "times" else f"{row['figure']:g} {row['unit']}".strip()
        )
        times = f"peer {row['peer_figure']:g}" if "peer_figure" in row else speeds(row)
    bar = f"{row['bar']}" if row["met"] else f"{row['bar']} (missed)"
    return f"| {row['claim']} | {ratio} | {times} | {bar} |"


def table(names: str) -> str:
    rows = [
        row
        for name in names.split()
        for row in json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    ]
    head = ["| claim | figure | medians | bar |", "|---|---|---|---|"]
    return "\n".join([*head, *map(line, rows)]) + "\n"


def made(page: str) -> str:
    """The page with every table as the results have it."""
    return MARKED.sub(lambda found: found[1] + table(found[2]) + found[3], page)


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    wanted = made(page)
    if "--check" in sys.argv:
        sys.exit(0 if page == wanted else f"{PAGE.name}: run python benchmarks/tables.py")
    PAGE.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()

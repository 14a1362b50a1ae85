"""What every benchmark shares: whole processes timed in turn, medians, the machine, and the file of results.

A row of results: what is claimed, the commands of both sides, every run in seconds, their ratio, the bar, and whether
it was met. Rows are kept by their claim, so a part can be measured again alone.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
NLPKIT = str(Path(sys.executable).with_name("nlpkit"))
#: One thread in every library that has threads of its own.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

# An installed package has its bytecode beside it, as every peer's; a checkout may keep it too.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def without(*packages: str) -> list[str]:
    """The command ``nlpkit`` as it is where these packages are not installed."""
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in packages)
    code = f"import sys; {blocked}sys.argv[0] = 'nlpkit'; from nlpkit.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code]


def on_one_core() -> None:
    """Bind this process and all it starts to its first core and to one thread."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ.update(ONE_THREAD)


def seconds(command: Sequence[str], stdin: Path | None = None) -> float:
    """The wall time of a whole process.

    :raises RuntimeError: it failed; with the end of what it said.
    """
    with open(stdin or os.devnull, "rb") as given:
        started = time.perf_counter()
        done = subprocess.run(
            command, stdin=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
        taken = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{shown(command)}: exit {done.returncode}: {done.stderr.decode()[-800:]}")
    return taken


def in_turn(
    runs: int, commands: Mapping[str, Sequence[str]], stdin: Path | None = None
) -> dict[str, list[float]]:
    """The wall times of several commands, each run once a round, for so many rounds."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            taken[name].append(seconds(command, stdin))
    return taken


def peak_memory(command: Sequence[str], feed: Sequence[str] | None = None) -> tuple[float, float]:
    """Peak resident memory of a process (MB) and its wall time; ``feed`` is a command piped into it."""
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdin=sys.stdin.buffer, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stdout)\n"
        "sys.exit(done.returncode)"
    )
    started = time.perf_counter()
    source = subprocess.Popen(feed, stdout=subprocess.PIPE) if feed else None
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        stdin=source.stdout if source else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    if source is not None and source.stdout is not None:
        source.stdout.close()
        source.wait()
    return int(done.stdout) / 1024, time.perf_counter() - started


def shown(command: Sequence[str]) -> str:
    """A command as a person would write it: files by their names, also behind ``--option=``."""
    parts = [word.rpartition("=") if word.startswith("--") else ("", "", word) for word in command]
    words = [
        option + equals + (Path(value).name if Path(value).is_absolute() else value)
        for option, equals, value in parts
    ]
    if "from nlpkit.cli import main" in command[min(2, len(command) - 1)]:
        words = ["nlpkit", *words[3:]]
    return " ".join(words)


def version(package: str, python: str = sys.executable) -> str:
    """The version of a package for an interpreter; empty where it is not installed."""
    if python == sys.executable:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return ""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def host() -> str:
    """The machine, in words."""
    usable = len(os.sched_getaffinity(0))
    cores = f"one of {os.cpu_count()} cores" if usable == 1 else f"{usable} cores"
    return f"{platform.machine()}, {cores}, Python {platform.python_version()}"


def ratio_row(
    claim: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    bar: float,
    *,
    least: bool = True,
    **about: Any,
) -> dict[str, Any]:
    """A row about times: how many times the peer's median is ours (``least``), or ours the peer's."""
    ratio = statistics.median(theirs) / statistics.median(ours)
    ratio = ratio if least else 1 / ratio
    return {
        "claim": claim,
        **about,
        "ours": [round(t, 4) for t in ours],
        "peer_runs": [round(t, 4) for t in theirs],
        "ratio": round(ratio, 3),
        "bar": f"{'>=' if least else '<='} {bar:g}",
        "met": (ratio >= bar if least else ratio <= bar) and about.get("identical", True) is True,
        "host": host(),
    }


def tell(row: Mapping[str, Any]) -> None:
    """One line about a row."""
    figure = f"ratio {row['ratio']:.2f}" if "ratio" in row else f"{row['figure']:g} {row['unit']}"
    times = ""
    if "ours" in row:
        times = f" ({statistics.median(row['ours']):.3g} s, peer {statistics.median(row['peer_runs']):.3g} s)"
    print(f"{'met ' if row['met'] else 'MISS'} {row['claim']}: {figure}, bar {row['bar']}{times}", flush=True)


def keep(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put rows into ``results/NAME.json``; a row takes the place of the one with its claim."""
    path = RESULTS / f"{name}.json"
    held = {row["claim"]: row for row in json.loads(path.read_text())} if path.is_file() else {}
    held.update({row["claim"]: row for row in rows})
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(list(held.values()), indent=1, ensure_ascii=False) + "\n")

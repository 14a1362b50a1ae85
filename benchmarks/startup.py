"""How long ``nlpkit --help`` takes beside ``python -c "import typer"``: interleaved runs, medians.

Run: python benchmarks/startup.py   (writes benchmarks/results/startup.json)
"""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 25
BAR = 1.6


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    script = Path(sys.executable).with_name("nlpkit")
    ours_command = [str(script), "--help"]
    peer_command = [sys.executable, "-c", "import typer"]
    for command in (ours_command, peer_command):
        seconds(command)
    ours, peer = [], []
    for _ in range(RUNS):
        ours.append(seconds(ours_command))
        peer.append(seconds(peer_command))
    ratio = statistics.median(ours) / statistics.median(peer)
    probe = (
        "import sys, io, contextlib\nfrom nlpkit.cli import run\n"
        "with contextlib.redirect_stdout(io.StringIO()): run(['--help'])\n"
        "print(sorted({'torch','transformers','faiss','numpy','numba'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    result = [
        {
            "claim": "nlpkit --help against a bare import of typer (time, lower is better)",
            "command": "python benchmarks/startup.py",
            "peer": 'python -c "import typer"',
            "peer_version": importlib.metadata.version("typer"),
            "ours": ours,
            "peer_runs": peer,
            "ratio": ratio,
            "bar": f"<= {BAR}",
            "met": ratio <= BAR and loaded.stdout.strip() == "[]",
            "heavy_modules": loaded.stdout.strip(),
            "host": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        }
    ]
    target = Path(__file__).parent / "results" / "startup.json"
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"nlpkit --help {1000 * statistics.median(ours):.0f} ms, import typer "
        f"{1000 * statistics.median(peer):.0f} ms, ratio {ratio:.2f} (bar {BAR}), heavy modules {loaded.stdout.strip()}"
    )


if __name__ == "__main__":
    main()

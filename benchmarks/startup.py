"""How long ``nlpkit --help`` takes beside ``python -c "import typer"``: interleaved runs, medians.

Run: python benchmarks/startup.py   (writes benchmarks/results/startup.json)
"""

import subprocess
import sys

from measure import NLPKIT, in_turn, keep, ratio_row, tell, version

PROBE = (
    "import sys, io, contextlib\nfrom nlpkit.cli import run\n"
    "with contextlib.redirect_stdout(io.StringIO()): run(['--help'])\n"
    "print(*sorted({'torch', 'transformers', 'faiss', 'numpy', 'numba'} & set(sys.modules)))"
)


def main() -> None:
    commands = {"ours": [NLPKIT, "--help"], "peer": [sys.executable, "-c", "import typer"]}
    in_turn(1, commands)
    taken = in_turn(25, commands)
    loaded = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    heavy = loaded.stdout.split()
    row = ratio_row(
        "nlpkit --help against a bare import of typer", taken["ours"], taken["peer"], 1.6, least=False,
        command="python benchmarks/startup.py", peer='python -c "import typer"', peer_version=version("typer"),
        heavy_modules=heavy, identical=not heavy,
    )  # fmt: skip
    row.pop("identical")
    tell(row)
    keep("startup", [row])


if __name__ == "__main__":
    main()

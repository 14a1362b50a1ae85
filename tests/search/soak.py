"""The long form of the fault tests of an index: kills, failing calls, damage, writers beside readers, hostile text.

    python tests/search/soak.py --kills 300 --queries 100000 --corruptions 1000 [--only kills,faults,…]

Prints one line a part with its counts; leaves with 1 when anything failed. What failed is told with the seed and step
that make it again. The parts kills and faults need a C compiler (and Linux) for failing system calls; without one the
kills come by the clock only, and faults is a failure.
"""

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import faults
import soak_calls
import soak_damage
import soak_hostile
import soak_kills
import system_calls

PARTS = ("kills", "faults", "corruptions", "concurrency", "escapes")


def concurrency(queries: int, folder: Path, tally: faults.Tally, writers: int = 4, readers: int = 8) -> None:
    """Each answer is from one version of the index, and there are no errors."""
    told, made, problem = faults.beside(
        folder, writers=writers, readers=readers, queries=queries, changes=5, seconds=max(60, queries / 20)
    )
    tally.count("queries", sum(int(t["asked"]) for t in told))
    tally.count("changes", sum(made))
    tally.count(f"ms at p99 of {readers} readers", round(max(float(t.get("p99_ms", 0)) for t in told)))
    for one in told:
        for words in one["wrong"]:
            tally.fail(str(words))
    if problem:
        tally.fail(f"in the end: {problem}")
    if tally.counts["queries"] < queries:
        tally.fail(f"only {tally.counts['queries']:,} queries in the time given")


def main() -> int:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--corruptions", type=int, default=1000, help="of each kind of file")
    parser.add_argument(
        "--faults", type=int, default=0, help="at most so many calls of a kind in a command; 0: all"
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder to work in, which stays")
    asked = parser.parse_args()
    only = asked.only.split(",")
    if unknown := set(only) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; known: {', '.join(PARTS)}")
    failures = 0
    for part in (p for p in PARTS if p in only):
        folder = Path(tempfile.mkdtemp(prefix=f"soak-{part}-", dir=asked.keep))
        tally = faults.Tally(part, folder)
        try:
            if part == "kills":
                soak_kills.kills(asked.kills, folder, asked.seed, tally)
            elif part == "faults":
                soak_calls.failing(folder, asked.seed, asked.faults, tally)
            elif part == "corruptions":
                soak_damage.corruptions(asked.corruptions, folder, asked.seed, tally)
            elif part == "concurrency":
                concurrency(asked.queries, folder, tally)
            else:
                soak_hostile.escapes(folder, tally)
        except Exception as error:
            traceback.print_exc()
            tally.fail(f"{type(error).__name__}: {error}")
        faults.say(tally.line())
        failures += len(tally.failures)
        if not asked.keep and not tally.failures:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if failures else 0


if __name__ == "__main__":
    # One thread a process, as a forked child cannot use those of its parent.
    if os.environ.get("OMP_NUM_THREADS") != "1" or "NLPKIT_SOAK" not in os.environ:
        library = system_calls.compiled(Path(tempfile.mkdtemp(prefix="soak-library-")))
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NLPKIT_SOAK": "1"}
        environment = {**os.environ, **single} | ({"LD_PRELOAD": str(library)} if library else {})
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    sys.exit(main())

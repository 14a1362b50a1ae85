"""A little of every part of the long fault programme (``make soak``), by its own command."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PARTS = ("kills", "faults", "corruptions")


@pytest.mark.skipif(
    shutil.which("cc") is None, reason="system calls fail by a library that a C compiler makes"
)
def test_a_little_of_it(tmp_path: Path) -> None:
    short = [
        "--kills",
        "5",
        "--faults",
        "1",
        "--corruptions",
        "2",
        "--only",
        ",".join(PARTS),
        "--keep",
        str(tmp_path),
    ]
    program = str(Path(__file__).with_name("soak.py"))
    done = subprocess.run([sys.executable, program, *short], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in told] == list(PARTS), done.stdout
    assert all("; 0 failures" in line for line in told), done.stdout

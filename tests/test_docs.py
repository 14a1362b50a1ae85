"""Every command in README.md and docs/ runs, in order, beside the demo's artefacts.

A ``sh`` block is one bash script that must end well. In a ``console`` block each line that begins with ``$ `` is
run and the lines below it are compared with what it prints. ``make`` lines are left to the person.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[tuple[str, str, int]]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        yield match[1], match[2], text[: match.start()].count("\n") + 1


def bash(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{script}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    done = bash("nlpkit demo --fast", folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_runs(page: Path, place: Path) -> None:
    count = 0
    for kind, body, line in blocks(page):
        if kind == "sh":
            kept = [row for row in body.splitlines() if not re.match(r"\s*(make|git clone|cd)\b", row)]
            script = "\n".join(kept).strip()
            if script:
                done = bash(script, place)
                assert done.returncode == 0, f"{page.name}:{line}\n{script}\n{done.stdout}\n{done.stderr}"
                assert "Traceback" not in done.stderr
                count += 1
        else:
            for entry in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, expected = entry.partition("\n")
                done = bash(command, place)
                assert done.stdout + done.stderr == expected, f"{page.name}:{line}: {command}"
                count += 1
    assert count or not list(blocks(page)), f"{page.name} has blocks but none ran"


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text and "make test" in text


def test_links_between_pages_hold() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_figures_are_the_results() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/tables.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

"""Write docs/cli.md from the command line itself: python docs/generate_cli.py (a test compares the two)."""

import contextlib
import io
import os
from importlib import import_module
from pathlib import Path

HEAD = """# The command line

Made by `make docs` from the code; a test compares this page with the code, so a flag cannot change unseen.

Conventions of every verb: no INPUT or `-` is standard input; data goes to standard output, everything else to
standard error; `.txt .jsonl .csv .tsv` are read plain or as gz, bz2, xz or zst; `--quiet` (`-q`) and `--debug` may
stand anywhere; an existing output is refused unless `--force`.

| exit code | meaning |
|---|---|
| 0 | done (a reader that leaves a pipe early is no error) |
| 1 | failed, or a `--require` was not met |
| 2 | usage: unknown option, key, model; missing file; missing extra |
| 3 | bad input data |
| 4 | corrupt, unsafe or mismatched artefact |
| 5 | locked by another process |
| 6 | disk full, read-only or refused |
| 7 | out of memory |
| 8 | diverged: a loss or gradient that is not finite |
| 130, 143 | interrupted by SIGINT, SIGTERM (after a checkpoint, where there is one to write) |
"""


def shown(*words: str) -> str:
    """The help text of a verb."""
    from nlpkit.cli import run

    os.environ["COLUMNS"] = "100"
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = run([*words, "--help"])
    assert code == 0, words
    return text.getvalue()


def page() -> str:
    """The whole of docs/cli.md."""
    from nlpkit.cli import VERBS

    parts = [HEAD]
    for verb, (module, _) in VERBS.items():
        loaded = import_module(f"nlpkit.cli.{module}")
        parts.append(f"## {verb}\n\n```text\n{shown(verb).rstrip()}\n```\n")
        if hasattr(loaded, "app"):
            for command in loaded.app.registered_commands:
                name = command.name or command.callback.__name__.replace("_", "-")
                parts.append(f"### {verb} {name}\n\n```text\n{shown(verb, name).rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (Path(__file__).parent / "cli.md").write_text(page(), encoding="utf-8")

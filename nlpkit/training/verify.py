"""All that is wrong in a run, found by reading every byte of it."""

from pathlib import Path

from nlpkit.store.verify import verify


def verify_run(folder: str | Path) -> list[str]:
    """One line a problem of a run, its model, checkpoints and logs; empty when every byte is as it was sealed.

    An unfinished run has no seal of its own; its checkpoints and the lines of its logs have.
    """
    return [problem for report in verify(folder) for problem in report.problems]

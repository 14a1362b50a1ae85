"""Accuracy where one of two is right (minimal pairs): a tie is half right, and is counted.

P pairs. Source of the task: BLiMP (Warstadt et al. 2020).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from nlpkit.errors import DataError
from nlpkit.metrics.intervals import bootstrap_mean


def report(choices: Iterable[tuple[str, float]]) -> dict[str, Any]:
    """Accuracy of all pairs and of each group, from (group, 1 right, 0.5 tie or 0 wrong) of each.

    ``accuracy_interval``: 95 %, by resampling pairs. ``groups`` is empty where no pair names one; ``mean_of_groups``
    weighs all groups alike. Raises DataError for no pairs.

    >>> report([("a", 1.0), ("a", 0.5)])["accuracy"]
    0.75
    """
    held: dict[str, list[float]] = {}
    for group, right in choices:
        held.setdefault(group, []).append(right)
    if not held:
        raise DataError("there are no pairs; give a file that has some")
    groups = {name: _accuracy(rights) for name, rights in held.items() if name}
    found = _accuracy([right for rights in held.values() for right in rights])
    if groups:
        found["mean_of_groups"] = float(np.mean([one["accuracy"] for one in groups.values()]))
    return {**found, "groups": groups}


def _accuracy(rights: list[float]) -> dict[str, Any]:
    values = np.asarray(rights)
    return {
        "accuracy": float(values.mean()),
        "accuracy_interval": list(bootstrap_mean(values, resamples=2000)),
        "pairs": len(values),
        "ties": int((values == 0.5).sum()),
    }

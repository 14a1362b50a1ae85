"""What happened in a run, from the lines of its metrics.jsonl: curves over steps, tokens or seconds, and spikes.

A line has ``split`` train, valid or event. Points are (x, y) pairs; n of them stand for a curve.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from nlpkit.errors import UsageError

AXES = {"step": "steps", "tokens": "tokens", "seconds": "seconds"}
POINTS = 600  # of a drawn curve; more are thinned out
SMOOTHED_OVER = 0.01  # of a curve: after so long an exponential average has forgotten half
REACH = 5  # early on: as if the curve were so many times as long as it is by then
RATES = ("tokens_per_second", "items_per_second")
Point = tuple[float, float]


@dataclass(frozen=True)
class History:
    """A run's records in the order they were written; ``tokens`` is what was learned from before each, if known."""

    name: str
    records: Sequence[Mapping[str, Any]]
    tokens: Sequence[float] | None

    def split(self, name: str) -> list[Mapping[str, Any]]:
        """The records of ``train``, ``valid`` or ``event``."""
        return [r for r in self.records if r.get("split") == name]

    @property
    def spikes(self) -> list[Mapping[str, Any]]:
        """Where the loss or the gradient leapt: records with ``step``, ``action`` and ``z``."""
        return [r for r in self.records if r.get("event") == "spike" and "step" in r]

    @property
    def rate(self) -> str:
        """What the throughput is called in this run's records: tokens or items per second."""
        return next((n for n in RATES if any(n in r for r in self.split("train"))), RATES[0])

    @property
    def seconds(self) -> float:
        """How long was trained and measured."""
        return max((float(r.get("seconds", 0.0)) for r in self.records), default=0.0)

    @property
    def speed(self) -> float | None:
        """The median of the steps' throughput (:attr:`rate`), or None."""
        rate = self.rate
        found = [float(r[rate]) for r in self.split("train") if rate in r]
        return median(found) if found else None

    def curve(self, value: str, split: str = "train", axis: str = "step") -> list[Point]:
        """The finite values of a measure over ``axis``.

        :raises UsageError: the run's metrics do not hold that axis.
        """
        places = self._places(axis)
        return [
            (x, float(r[value]))
            for x, r in zip(places, self.records, strict=True)
            if r.get("split") == split and isinstance(r.get(value), int | float) and math.isfinite(r[value])
        ]

    def spikes_over(self, axis: str = "step") -> list[tuple[float, Mapping[str, Any]]]:
        """Each spike and where it lies on ``axis``: at the last train step up to its own."""
        train = [(r["step"], x) for r, x in self._at(axis) if r.get("split") == "train"]
        found = []
        for spike in self.spikes:
            before = [x for step, x in train if step <= spike["step"]]
            found.append((float(spike["step"]) if axis == "step" else before[-1] if before else 0.0, spike))
        return found

    def _at(self, axis: str) -> list[tuple[Mapping[str, Any], float]]:
        return list(zip(self.records, self._places(axis), strict=True))

    def _places(self, axis: str) -> list[float]:
        if axis == "tokens":
            if self.tokens is None:
                raise UsageError(f"{self.name}: its metrics hold no tokens; use --x step or --x seconds")
            return list(self.tokens)
        places: list[float] = []
        for record in self.records:
            places.append(float(record.get(axis, places[-1] if places else 0.0)))
        return places


def history(name: str, records: Iterable[Mapping[str, Any]]) -> History:
    """A run's history; the tokens are those that its train records tell, else throughput times seconds.

    >>> lines = [{"step": 1, "split": "train", "tokens_per_second": 50.0, "seconds": 2.0}]
    >>> history("a", lines).tokens
    [100.0]
    """
    records = [r for r in records if isinstance(r.get("step"), int | float)]
    tokens: list[float] = []
    done = last = 0.0
    known = False
    for record in records:
        now = float(record.get("seconds", last))
        if record.get("split") == "train":
            if "tokens" in record:
                done += float(record["tokens"])
            else:
                done += float(record.get("tokens_per_second", 0.0)) * max(now - last, 0.0)
            known = known or "tokens" in record or "tokens_per_second" in record
        last = now
        tokens.append(done)
    return History(name, records, tokens if known else None)


def smooth(points: Sequence[Point], share: float = SMOOTHED_OVER) -> list[Point]:
    """The exponential average along a curve, without the pull of a start at zero (Kingma and Ba 2015, section 3).

    Its half-life is ``share`` of the curve, and early on that share of what has been, times REACH: a steep beginning
    is followed closely.

    >>> smooth([(1, 2.0), (2, 2.0)])
    [(1, 2.0), (2, 2.0)]
    """
    mean = weight = 0.0
    found = []
    for i, (x, y) in enumerate(points):
        keep = 0.5 ** (1 / max(1.0, share * min(len(points), REACH * i)))
        mean, weight = keep * mean + (1 - keep) * y, keep * weight + (1 - keep)
        found.append((x, mean / weight))
    return found


def thin(points: Sequence[Point], most: int = POINTS, *, log: bool = False) -> list[Point]:
    """At most ``most`` points of a curve (x ascending), so that no leap is lost.

    Of each of ``most / 2`` equally wide stretches of x (of log x) the lowest and the highest stay; points at x ≤ 0
    have no logarithm and are in the first.

    >>> thin([(0, 1.0), (1, 9.0), (2, 3.0), (3, 0.0)], most=2)
    [(1, 9.0), (3, 0.0)]
    """
    if len(points) <= most:
        return list(points)
    least = next((x for x, _ in points if x > 0), 1.0)
    places = [math.log(max(x, least)) if log else x for x, _ in points]
    wide = (places[-1] - places[0]) / max(1, most // 2) or 1.0
    stretches: dict[int, list[int]] = {}
    for i, place in enumerate(places):
        stretches.setdefault(min(int((place - places[0]) / wide), max(0, most // 2 - 1)), []).append(i)
    found: list[Point] = []
    for run in stretches.values():
        ends = {min(run, key=lambda i: points[i][1]), max(run, key=lambda i: points[i][1])}
        found += [points[i] for i in sorted(ends)]
    return found


def mixture(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, float | None, float]]:
    """(source, planned share, served share) of the newest record that tells what was served; empty without one.

    ``planned`` may be counts, weights or shares: both are taken as shares of their sum.
    """
    told = next((r for r in reversed(records) if isinstance(r.get("served"), Mapping)), None)
    if told is None:
        return []
    planned: Mapping[str, Any] = next(
        (r["planned"] for r in reversed(records) if isinstance(r.get("planned"), Mapping)), {}
    )
    whole = [sum(float(v) for v in part.values()) for part in (planned, told["served"])]
    names = dict.fromkeys([*planned, *told["served"]])
    return [
        (
            str(name),
            float(planned.get(name, 0.0)) / whole[0] if whole[0] else None,
            float(told["served"].get(name, 0.0)) / whole[1] if whole[1] else 0.0,
        )
        for name in names
    ]

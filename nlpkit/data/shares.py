"""Who serves each row of a run: sources in given shares, stage by stage, never a whole row behind or ahead.

A source's target after n rows is the sum of its shares of these rows. Always serving the source with the largest
deficit lets the deficits of many small sources grow past 1, so this is Tijdeman's rule (1980, «The chairman
assignment problem»), which keeps |served − target| ≤ 1 − 1/(2K − 2) at every row, also where the shares change: of
the sources that may be served already, the one that must be served soonest. All arithmetic is in whole numbers.
Of two sources it is the one with the largest deficit. Letters: K sources, S stages, n rows.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

BLOCK = 4096  # rows decided at a time
NEVER = 1 << 62


class Shares:
    """Which of K sources serves each of an endless row of turns: a pure function of the turn.

    ``stages``: (first turn, the K shares), in order, from turn 0; the last goes on for ever. The turns up to the
    latest one asked for are decided once and kept (5 bytes a turn).

    >>> shares = Shares([(0, [Fraction(2, 3), Fraction(1, 3)])])
    >>> shares.turns(0, 6)[0].tolist(), shares.served(6)
    ([0, 1, 0, 0, 1, 0], [4, 2])
    """

    def __init__(self, stages: Sequence[tuple[int, Sequence[Fraction]]]) -> None:
        self.k = len(stages[0][1])
        if any(sum(shares) != 1 or min(shares) < 0 for _, shares in stages):
            raise ValueError("shares must add up to 1")
        self._unit = math.lcm(*(share.denominator for _, shares in stages for share in shares))
        self._first = [first for first, _ in stages]
        self._weights = [[int(share * self._unit) for share in shares] for _, shares in stages]
        self._sums = [[0] * self.k]  # each source's target at the beginning of each stage
        for (first, _), (after, _), weights in zip(stages[:-1], stages[1:], self._weights[:-1], strict=True):
            self._sums.append([t + (after - first) * w for t, w in zip(self._sums[-1], weights, strict=True)])
        self._who, self._ordinal = array("H"), array("I")
        self._counts = [0] * self.k
        self._blocks = [[0] * self.k]  # how often each was served before each block
        self._windows = [self._window(i, 0) for i in range(self.k)] if self.k > 1 else []

    def turns(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """(source, how often it was served before) for the turns ``first : last``, int64 each."""
        if self.k == 1:
            return np.zeros(last - first, np.int64), np.arange(first, last)
        self._decide(last)
        return (
            np.array(self._who[first:last], np.int64),
            np.array(self._ordinal[first:last], np.int64),
        )

    def served(self, turn: int) -> list[int]:
        """How often each source was served before ``turn``."""
        if self.k == 1:
            return [turn]
        self._decide(turn)
        block = turn // BLOCK
        counts = list(self._blocks[block])
        for source in self._who[block * BLOCK : turn]:
            counts[source] += 1
        return counts

    def target(self, turn: int) -> list[Fraction]:
        """How often each should have been served before ``turn``."""
        return [Fraction(self._target(i, turn), self._unit) for i in range(self.k)]

    def _target(self, source: int, turn: int) -> int:
        stage = bisect_right(self._first, turn) - 1
        return self._sums[stage][source] + (turn - self._first[stage]) * self._weights[stage][source]

    def _reaches(self, source: int, wanted: int) -> int:
        """The first turn before which the target of ``source`` times 2K - 2 is ``wanted`` or more."""
        scale = 2 * self.k - 2
        for stage in range(len(self._first)):
            weight, before = self._weights[stage][source], self._sums[stage][source]
            turn = self._first[stage]
            if before * scale >= wanted:
                return turn
            if weight:
                turn -= (before * scale - wanted) // (weight * scale)  # rounded up
                if stage + 1 == len(self._first) or turn <= self._first[stage + 1]:
                    return turn
        return NEVER

    def _window(self, source: int, count: int) -> tuple[int, int]:
        """(turn from which it may be served once more, turn by which it must be), counted from 1."""
        scale = 2 * self.k - 2
        done = count * self._unit * scale
        return self._reaches(source, done + self._unit), self._reaches(
            source, done + self._unit * (scale - 1) + 1
        )

    def _decide(self, last: int) -> None:
        windows, counts = self._windows, self._counts
        who, ordinal = self._who, self._ordinal
        while len(who) < last:
            for turn in range(len(who) + 1, len(who) + BLOCK + 1):
                chosen, soonest = -1, NEVER + 1
                for source, (opens, due) in enumerate(windows):
                    if opens <= turn and due < soonest:
                        chosen, soonest = source, due
                who.append(chosen)
                ordinal.append(counts[chosen])
                counts[chosen] += 1
                windows[chosen] = self._window(chosen, counts[chosen])
            self._blocks.append(list(counts))

"""What each step of a language model's run has: its shape, its objective, its mask rate, the source of each row.

All of it is a function of the step and of how many steps there are. Letters: K sources.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from nlpkit.data.shares import Shares
from nlpkit.data.stages import Ranges, at


@dataclass(frozen=True)
class Phase:
    """Steps that have one shape: ``rows`` rows of ``context`` tokens, in micro-batches of ``micro`` (0: all).

    It begins at step ``first``, before which ``row`` rows were taken.
    """

    first: int
    row: int
    context: int
    rows: int
    micro: int


class Course:
    """The phases and stages of a run of ``steps`` steps; behind the last step they go on as they ended.

    ``lengths`` and ``batches``: contexts and rows (of ``context`` tokens) by share of the run; ``stages``: shares of
    the ``sources`` (empty: of one); ``objectives``: their shares of the steps; ``rates``: of masks, first and last.
    """

    def __init__(
        self,
        steps: int,
        *,
        context: int,
        rows: int,
        micro: int,
        lengths: Ranges[int],
        batches: Ranges[int],
        sources: Sequence[str],
        stages: Ranges[dict[str, Fraction]],
        objectives: Mapping[str, Fraction],
        rates: tuple[float, float],
    ) -> None:
        self.steps, self.sources, self._rates = max(steps, 1), sources, rates
        self.phases: list[Phase] = []
        for share in sorted({Fraction(0), *(s for s, _ in lengths), *(s for s, _ in batches)}):
            here = at(lengths, share, context)
            taken = at(batches, share, rows) * context // here
            first = self._step(share)
            row = self.row(first) if self.phases else 0
            if self.phases and self.phases[-1].first == first:  # too short a run for the phase before
                self.phases.pop()
            parts = micro and max(micro * context // here, 1)
            self.phases.append(Phase(first, row, here, taken, parts))
        turns = {0: [Fraction(1)]}
        for share, shares in stages:
            turns[self.row(self._step(share))] = [shares.get(name, Fraction(0)) for name in sources]
        self._rows = Shares(list(turns.items()))
        self._names = list(objectives)
        self._steps = Shares([(0, list(objectives.values()))])
        self._elsewhere: dict[int, list[int]] = {}

    def _step(self, share: Fraction) -> int:
        return int(share * self.steps + Fraction(1, 2))  # rounded, halves up

    def phase(self, step: int) -> Phase:
        """The phase of a step."""
        return next(p for p in reversed(self.phases) if p.first <= step)

    def row(self, step: int) -> int:
        """How many rows the steps before ``step`` take."""
        phase = self.phase(step)
        return phase.row + (step - phase.first) * phase.rows

    def objective(self, step: int) -> str:
        """What the micro-batches of a step are for."""
        return self._names[int(self._steps.turns(step, step + 1)[0][0])]

    def mask_rate(self, step: int) -> float:
        """The share of the tokens that is asked for in a step."""
        first, last = self._rates
        return first + (last - first) * min(step / max(self.steps - 1, 1), 1.0)

    def served(self, step: int) -> dict[str, int]:
        """How many rows of each source the steps before ``step`` take."""
        return dict(zip(self.sources, self._rows.served(self.row(step)), strict=True))

    def planned(self, step: int) -> dict[str, float]:
        """How many rows of each source the stages say for the steps before ``step``."""
        target = self._rows.target(self.row(step))
        return {name: float(rows) for name, rows in zip(self.sources, target, strict=True)}

    def turns(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(source, place in its order) of each row of a step; orders count the rows of one context only."""
        phase, row = self.phase(step), self.row(step)
        who, ordinal = self._rows.turns(row, row + phase.rows)
        return who, ordinal - np.array(self._of_other_contexts(self.phases.index(phase)))[who]

    def _of_other_contexts(self, number: int) -> list[int]:
        """How many rows of each source the phases before took in another context than phase ``number``."""
        if number not in self._elsewhere:
            total = [0] * len(self.sources)
            for before, after in zip(self.phases[:number], self.phases[1 : number + 1], strict=True):
                if before.context != self.phases[number].context:
                    served = zip(self._rows.served(before.row), self._rows.served(after.row), strict=True)
                    total = [t + b - a for t, (a, b) in zip(total, served, strict=True)]
            self._elsewhere[number] = total
        return self._elsewhere[number]

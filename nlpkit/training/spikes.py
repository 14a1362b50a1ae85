"""A watch over the gradient norm: how far it lies above those of the steps before.

The logarithm of the norm is compared with its mean and standard deviation over the last :data:`WINDOW` steps that were
no spikes. Its state is that list, so a resumed run judges as an uninterrupted one.
"""

import math

WINDOW = 128
LEAST = 64  # norms before anything is judged: in its first steps a run's norm moves by itself
SPREAD = 0.15  # least standard deviation of the logarithm: 15 %, so that a calm run raises no alarm


class SpikeGuard:
    """Judges each step's gradient norm.

    >>> guard = SpikeGuard(8.0)
    >>> [guard.judge(1.0 + 0.01 * (i % 3)) > 8 for i in range(90)].count(True), guard.judge(50.0) > 8
    (0, True)
    """

    def __init__(self, z: float, norms: list[float] | None = None) -> None:
        self.z = z
        self.norms = list(norms or [])

    def judge(self, norm: float) -> float:
        """How many standard deviations ``norm`` lies above those before it; it joins them if it is no spike."""
        value = math.log(max(norm, 1e-30))
        score = 0.0
        if len(self.norms) >= LEAST:
            mean = sum(self.norms) / len(self.norms)
            variance = sum((n - mean) ** 2 for n in self.norms) / len(self.norms)
            score = (value - mean) / max(math.sqrt(variance), SPREAD)
        if not self.z or score <= self.z:
            self.norms = [*self.norms[1 - WINDOW :], value]
        return score

"""Tokens a second of a training program once it is warm: its own clock, read as each step ends.

A program calls :meth:`Steady.step` after every step. The first ``WARM`` steps are for warming up (and compiling);
from the end of the last of them the clock runs until so many more steps are done or so many seconds are over. Then
one line of JSON goes to standard output and the process ends at once. All that happens between two steps is counted:
reading, collating, logging. ``cpu_seconds`` beside ``seconds`` show whether the machine was shared meanwhile.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

STARTED = time.perf_counter()  # of the program, which imports this file before the large libraries
WARM = 10
LEAST = 3  # steps: a slower program runs on for as many


class Steady:
    """Measures until ``steps`` steps in all are done, or ``limit`` seconds after the warm-up.

    ``about`` is asked for more fields when the measurement is over.
    """

    def __init__(self, steps: int, limit: float, about: Callable[[], dict[str, Any]] = dict) -> None:
        self.steps, self.limit, self.about = steps, limit, about
        self.done = self.tokens = self.places = 0
        self.begun = self.begun_cpu = self.warm_after = 0.0

    @property
    def warm(self) -> bool:
        """Whether the steps that end now are counted."""
        return self.done >= WARM

    def step(self, tokens: int, places: int | None = None) -> None:
        """A step ended. It saw so many real tokens in so many places (padding included)."""
        now = time.perf_counter()
        if self.warm:
            self.tokens += tokens
            self.places += tokens if places is None else places
        self.done += 1
        if self.done == WARM:
            self.begun, self.begun_cpu, self.warm_after = now, time.process_time(), now - STARTED
        counted, spent = self.done - WARM, now - self.begun
        if counted > 0 and (self.done >= self.steps or (spent >= self.limit and counted >= LEAST)):
            told = {
                "tokens_per_second": self.tokens / spent,
                "steps": counted,
                "seconds": round(spent, 3),
                "cpu_seconds": round(time.process_time() - self.begun_cpu, 3),
                "tokens_a_step": round(self.tokens / counted, 1),
                "padding": round(1 - self.tokens / self.places, 4),
                "seconds_to_step_10": round(self.warm_after, 2),
                **self.about(),
            }
            sys.stdout.write("\n" + json.dumps(told) + "\n")
            sys.stdout.flush()
            os._exit(0)

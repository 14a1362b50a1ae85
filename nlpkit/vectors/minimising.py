"""The epochs of a GloVe training: strata one after the other, checkpoints, signals, the best epoch.

An objective (:mod:`nlpkit.vectors.least_squares`, :mod:`nlpkit.vectors.ratio`) says what a stratum does.
"""

import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import numpy as np

from nlpkit import console
from nlpkit.errors import DivergedError, Interrupted
from nlpkit.store import lines
from nlpkit.vectors import unfinished
from nlpkit.vectors.anchoring import Anchor
from nlpkit.vectors.glove_config import Config
from nlpkit.vectors.held_out import HeldOut, Summed
from nlpkit.vectors.tables import State

CHECKPOINT_SECONDS = 30.0


class Objective(Summed, Protocol):
    """What is minimised: an epoch is ``strata`` strata, ``total`` samples together."""

    strata: int
    total: int

    def stratum(self, state: State, number: int, pool: ThreadPoolExecutor | None = None) -> tuple[float, int]:
        """Change the state by the ``number``-th stratum of its epoch; the sum of the losses, and of how many."""

    def finish(self, state: State, pool: ThreadPoolExecutor | None = None) -> None:
        """What follows the last epoch."""


@dataclass(frozen=True)
class Minimisation:
    """All that the epochs need beside the state; ``work`` is the folder of the unfinished training."""

    objective: Objective
    settings: Config
    work: Path
    identity: dict[str, Any]
    jobs: int = 1
    checkpoint_every: int | None = None
    held: HeldOut | None = None
    anchor: Anchor | None = None

    def run(self, state: State) -> None:
        """Run the epochs that are left. ``state`` changes in place and ends as what is to be saved.

        :raises DivergedError: a loss that is not finite; the checkpoint goes, since going on would diverge again.
        :raises Interrupted: after SIGINT or SIGTERM, when a checkpoint was written.
        """
        strata, epochs = self.objective.strata, self.settings.epochs
        saved = began = monotonic()
        before = state.epoch * strata + state.stratum
        with (
            _signals() as caught,
            ThreadPoolExecutor(self.jobs) as pool,
            console.progress("training", epochs * strata, "strata") as bar,
        ):
            bar.advance(before)
            while state.epoch < epochs and not self._settled(state):
                self._epoch(state, pool, bar, caught)
                record = self._judge(state)
                seconds = monotonic() - began
                left = seconds / max(1, state.epoch * strata - before) * (epochs - state.epoch) * strata
                console.note(
                    f"epoch {state.epoch}/{epochs}  "
                    + "  ".join(
                        f"{name.replace('_', ' ')} {record[name]:.5f}" for name in record if name != "epoch"
                    )
                    + f"  {seconds:.1f} s"
                    + (f", {left:.0f} s left" if state.epoch < epochs else "")
                )
                due = (
                    monotonic() - saved > CHECKPOINT_SECONDS
                    if self.checkpoint_every is None
                    else state.epoch % self.checkpoint_every == 0
                )
                if due and state.epoch < epochs:
                    unfinished.checkpoint(self.work, state, self.identity)
                    saved = monotonic()
        if self.held is not None:
            stopped = f" (stopped at {state.epoch})" if state.epoch < epochs else ""
            console.note(f"the best epoch was {state.best_epoch}{stopped}; its vectors are kept")
        state.recall()
        with ThreadPoolExecutor(self.jobs) as pool:
            self.objective.finish(state, pool)
        if self.anchor is not None and self.anchor.freeze:
            self.anchor.pull(state)

    def _epoch(
        self, state: State, pool: ThreadPoolExecutor, bar: console.Progress, caught: list[int]
    ) -> None:
        """What is left of the state's epoch."""
        objective = self.objective
        while state.stratum < objective.strata:
            loss, size = objective.stratum(state, state.stratum, pool)
            state.loss += loss
            state.stratum += 1
            bar.advance(1, f"loss {loss / size:.4f}" if size else None)
            self._refuse(state.loss, state.epoch + 1)
            if caught:
                unfinished.checkpoint(self.work, state, self.identity)
                raise Interrupted(
                    caught[0],
                    f"stopped in epoch {state.epoch + 1} of {self.settings.epochs}; "
                    "the same command goes on from there",
                )
        if self.anchor is not None:
            self.anchor.pull(state)

    def _judge(self, state: State) -> dict[str, float]:
        """End an epoch: judge it by the held-out nonzeros and write its line of the log, which is returned.

        Times stand on stderr alone: the log is part of a result that does not depend on the machine.
        """
        record = {"epoch": state.epoch + 1, "loss": state.loss / self.objective.total}
        state.epoch, state.stratum, state.loss = state.epoch + 1, 0, 0.0
        if self.held is not None:
            record["valid_loss"] = self.held.loss(state, self.objective)
            self._refuse(record["valid_loss"], state.epoch)
            if record["valid_loss"] < state.best_loss:
                state.remember(record["valid_loss"])
        lines.append(self.work / unfinished.METRICS, lines.pack_record(record))
        return record

    def _settled(self, state: State) -> bool:
        patience = self.settings.patience
        return patience is not None and state.epoch - state.best_epoch >= patience

    def _refuse(self, loss: float, epoch: int) -> None:
        if not np.isfinite(loss):
            shutil.rmtree(self.work / "checkpoint", ignore_errors=True)
            raise DivergedError(f"the loss is {loss} in epoch {epoch}; lower --lr (it is {self.settings.lr})")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that SIGINT or SIGTERM is put into; a second signal acts as it did before. Main thread only."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def take(number: int, _: Any) -> None:
        caught.append(number)
        for name, old in before.items():
            signal.signal(name, old)

    before = {name: signal.signal(name, take) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for name, old in before.items():
            signal.signal(name, old)

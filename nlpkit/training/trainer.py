"""The one loop: every model is trained here, by its ``loss(batch)``.

A step is micro-batches whose gradients are combined as Σ loss · count / Σ count, so that a split step equals the
whole one. A loss or gradient that is not finite stops the run before it touches a weight. The loop's state is
(step, best, stale): everything random is a function of (seed, step), so a resumed run equals an uninterrupted one.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nlpkit import console
from nlpkit.core.batch import Batch
from nlpkit.errors import DivergedError, Interrupted
from nlpkit.training import checkpoint, device, optimizers, schedule
from nlpkit.training.checkpoint import State
from nlpkit.training.evaluation import evaluate
from nlpkit.training.run import Run
from nlpkit.training.settings import TrainConfig

LARGER_IS_BETTER = {"accuracy"}


class TrainData(Protocol):
    """What the trainer takes: the micro-batches of any step, and the validation batches."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps until all was seen once."""

    def batch(self, step: int) -> list[Batch]:
        """The micro-batches of a step: a pure function of (seed, step)."""

    def valid(self) -> Iterable[Batch]:
        """The validation batches; none when there is no validation set."""


class Trainer:
    """Trains ``model`` on ``data`` inside ``run``. ``config`` is decided (no ``auto``, steps above 0)."""

    def __init__(self, model: nn.Module, data: TrainData, config: TrainConfig, run: Run) -> None:
        self.data, self.config, self.run = data, config, run
        self.place = device.place(config)
        self.model = model.to(self.place.device)
        self.optimizer = optimizers.make(model, config)
        self.state = State()
        self.signal = 0
        self.generator = torch.Generator(self.place.device)
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._ahead: Future[list[Batch]] | None = None

    def fit(self, from_checkpoint: int | None = None) -> State:
        """Train from the newest checkpoint (or the beginning) to the end; the model then has its final weights.

        Those are the best of the evaluations when there is a validation set, else the last. Raises DivergedError,
        Interrupted (after a checkpoint), OutOfMemory, and ArtifactError when the newest checkpoint is damaged.
        """
        found = checkpoint.choose(self.run.checkpoints, from_checkpoint)
        if found is not None:
            self.state = checkpoint.load(found, self.model, self.optimizer, self.run.config_hash)
            self.run.back_to(self.state.step)
            best = self.run.checkpoints / f"{self.state.best_step:06d}"
            if self.state.best is not None and not best.is_dir():
                # Gone back behind what pruned it: the next evaluation is the best that can still be had.
                self.state.best, self.state.stale = None, 0
            if self.state.step < self.config.steps and not self.state.stopped:
                self.run.log(f"resuming after step {self.state.step:,} of {self.config.steps:,}")
        else:
            self.run.back_to(0)
        try:
            with self._signals():
                self._loop()
        except (RuntimeError, MemoryError) as failure:
            told = device.out_of_memory(failure)
            if told is None:
                raise
            raise told from failure
        if self.state.best is not None and self.state.best_step != self.state.step:
            checkpoint.load_weights(self.run.checkpoints / f"{self.state.best_step:06d}", self.model)
        self.model.eval()
        return self.state

    def _loop(self) -> None:
        config, state = self.config, self.state
        self.model.train()
        words = f"training {self.run.kind}"
        with console.progress(words, total=config.steps, unit="steps") as bar, self._reader() as read:
            bar.advance(state.step)
            saved = (state.step, state.evaluated)
            while True:
                last = state.stopped or state.step >= config.steps
                # A signal may have come between a step and its evaluation: then it is made up for here.
                due = state.step > 0 and (last or state.step % config.eval_every == 0)
                improved = False
                if due and state.evaluated < state.step and not state.stopped:
                    improved = self._evaluate()
                    last = last or state.stopped
                due = state.step % config.checkpoint_every == 0
                made_up = state.step == saved[0] and state.evaluated > saved[1]
                if made_up or (state.step > saved[0] and (improved or due or last or self.signal)):
                    self._save()
                    saved = (state.step, state.evaluated)
                if last:
                    return
                if self.signal:
                    raise Interrupted(
                        self.signal,
                        f"stopped after step {state.step:,}, checkpoint written; resume with: {self.run.command}",
                    )
                loss = self._step(read(state.step))
                bar.advance(1, f"loss {loss:.3f}")

    def _step(self, batches: list[Batch]) -> float:
        """One step of the optimizer; its loss. DivergedError before a weight is touched when it is not finite."""
        started = time.perf_counter()
        config, step = self.config, self.state.step
        lr = schedule.rate(config, step, config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        sums, total = self.gradients(step, batches)
        norm = nn.utils.clip_grad_norm_(self._parameters, config.clip if config.clip > 0 else math.inf)
        names = list(sums)
        told = torch.stack([norm.detach().double(), *(sums[n].double() / total for n in names)]).tolist()
        values = dict(zip(["grad_norm", *names], told, strict=True))
        if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
            raise DivergedError(self._diverged(step + 1, values))
        self.optimizer.step()
        self.state.step = step + 1
        spent = time.perf_counter() - started
        self.state.seconds += spent
        what, items = size_of(batches)
        self.run.metric(
            {
                "step": step + 1,
                "split": "train",
                "loss": values.pop("loss"),
                **values,
                "lr": lr,
                f"{what}_per_second": round(items / max(spent, 1e-9), 1),
                "seconds": round(self.state.seconds, 4),
            }
        )
        return told[1 + names.index("loss")]

    def gradients(self, step: int, batches: list[Batch]) -> tuple[dict[str, Tensor], Tensor]:
        """Leave the step's mean gradient in the parameters; (sums of what the model told, their count)."""
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        total = torch.zeros((), device=self.place.device)
        for micro, batch in enumerate(batches):
            self.generator.manual_seed(device.seed(self.config.seed, step, micro))
            with self.place.autocast():
                told = self.model.loss(self.place.put(batch), generator=self.generator)  # type: ignore[operator]
            loss, count = told["loss"], told["count"].detach()
            (loss if len(batches) == 1 else loss * count).backward()
            total = total + count
            for name, value in told.items():
                if name != "count":
                    weighted = value.detach() * count
                    sums[name] = sums[name] + weighted if name in sums else weighted
        if len(batches) > 1:
            gradients = [p.grad for p in self._parameters if p.grad is not None]
            torch._foreach_div_(gradients, total)
        return sums, total

    def _diverged(self, step: int, values: dict[str, float]) -> str:
        held = checkpoint.steps_of(self.run.checkpoints)
        kept = f"; the checkpoint of step {held[-1]:,} is untouched" if held else ""
        self.run.flush()
        return (
            f"{self.run.folder}: diverged at step {step:,}: loss {values['loss']}, gradient norm "
            f"{values['grad_norm']}; nothing was updated{kept}; try a smaller -s train.lr (now {self.config.lr}) "
            "in a new run"
        )

    def _evaluate(self) -> bool:
        """Measure on the validation set; True when this is the best so far."""
        config, state = self.config, self.state
        started = time.perf_counter()
        told = evaluate(self.model, self.data.valid(), self.place, lambda: bool(self.signal))
        state.seconds += time.perf_counter() - started
        if not told:
            if not self.signal:
                state.evaluated = state.step  # there is no validation set
            return False
        if not math.isfinite(told["loss"]):
            raise DivergedError(
                f"{self.run.folder}: the validation loss of step {state.step:,} is {told['loss']}; try a smaller "
                f"-s train.lr (now {config.lr}) in a new run"
            )
        state.evaluated = state.step
        self.run.metric({"step": state.step, "split": "valid", **told, "seconds": round(state.seconds, 4)})
        value = told.get(config.monitor, told["loss"])
        sign = -1.0 if config.monitor in LARGER_IS_BETTER and config.monitor in told else 1.0
        # Of equally accurate evaluations the one with the least loss is the better: accuracy comes in coarse steps.
        reached = (sign * value, told["loss"])
        improved = state.best is None or reached < (sign * state.best, state.best_loss)
        if improved:
            state.best, state.best_loss = value, told["loss"]
            state.best_step, state.stale = state.step, 0
        else:
            state.stale += 1
            state.stopped = 0 < config.patience <= state.stale
        shown = "  ".join(f"{n} {v:.4f}" for n, v in told.items() if n != "count")
        ending = (
            f"; {state.stale} evaluations without a better {config.monitor}: done" if state.stopped else ""
        )
        self.run.log(f"step {state.step:,} of {config.steps:,}: valid {shown}{ending}")
        return improved

    def _save(self) -> None:
        """Write a checkpoint, then drop the old ones. The metrics up to it are durable first."""
        self.run.flush(durable=True)
        checkpoint.save(self.run.checkpoints, self.model, self.optimizer, self.state, self.run.config_hash)
        checkpoint.prune(self.run.checkpoints, self.config.keep, self.state.best_step)

    @contextmanager
    def _reader(self) -> Iterator[Any]:
        """A function that gives a step's batches; beside an accelerator a thread makes the next ones meanwhile."""
        if self.place.device.type == "cpu":
            yield self.data.batch
            return
        with ThreadPoolExecutor(1) as pool:

            def read(step: int) -> list[Batch]:
                batches = self._ahead.result() if self._ahead is not None else self.data.batch(step)
                self._ahead = pool.submit(self.data.batch, step + 1)
                return batches

            yield read

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM is remembered until the step ends; the second quits at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def heard(number: int, frame: Any) -> None:
            if self.signal:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            self.signal = number
            console.note("finishing the step and writing a checkpoint; the same signal again quits at once")

        before = {n: signal.signal(n, heard) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def size_of(batches: list[Batch]) -> tuple[str, int]:
    """What a step holds: ("tokens", n) without padding, or ("items", n)."""
    names = [n for n in batches[0] if n.endswith("segments")]
    if names:
        return "tokens", sum(int(torch.count_nonzero(b[n])) for b in batches for n in names)
    return "items", sum(len(next(iter(b.values()))) for b in batches)

"""The one loop: every model is trained here, by its ``loss(batch)``.

A step is micro-batches whose gradients are combined as Σ loss · count / Σ count, so that a split step equals the
whole one; several processes share them (:mod:`nlpkit.training.world`). A loss or gradient that is not finite stops the
run before it touches a weight, or sends it back (:mod:`nlpkit.training.spikes`). The loop's state is a few numbers:
everything random is a function of (seed, step), so a resumed run equals an uninterrupted one.
"""

import dataclasses
import math
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nlpkit import console
from nlpkit.core.batch import Batch
from nlpkit.core.transformer import Block
from nlpkit.errors import DivergedError, Interrupted
from nlpkit.training import checkpoint, device, optimizers, schedule
from nlpkit.training.averaging import WeightAverage
from nlpkit.training.checkpoint import State
from nlpkit.training.evaluation import evaluate
from nlpkit.training.live_view import LiveView
from nlpkit.training.run import Run, read_metrics
from nlpkit.training.settings import TrainConfig
from nlpkit.training.spikes import SpikeGuard
from nlpkit.training.utilization import Utilization
from nlpkit.training.world import PairwiseSum, World

LARGER_IS_BETTER = {"accuracy"}
REWINDS = 3  # before a run is given up
LOWERED = 50  # steps at half the rate after a spike, where that is the answer to it


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

    def __init__(
        self, model: nn.Module, data: TrainData, config: TrainConfig, run: Run, world: World | None = None
    ) -> None:
        self.data, self.config, self.run, self.world = data, config, run, world or World()
        self.place = device.place(config)
        self.model = model.to(self.place.device)
        prepared(model, config)
        self.optimizer = optimizers.make(model, config)
        self.average = WeightAverage(model, config.ema) if config.ema else None
        self.utilization = Utilization(model, config)
        self.state = State()
        self.signal = 0
        begin = getattr(data, "begin", None)
        if begin is not None:
            begin(config.steps)
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
            self.state = checkpoint.load(
                found, self.model, self.optimizer, self.run.config_hash, self.average
            )
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
            best = self.run.checkpoints / f"{self.state.best_step:06d}"
            checkpoint.load_weights(best, self.model)
            if self.average is not None:
                checkpoint.load_average(best, self.average)
        if self.average is not None:
            self.average.put()
        self.model.eval()
        return self.state

    def _loop(self) -> None:
        config, state = self.config, self.state
        self.model.train()
        earlier = read_metrics(self.run.folder) if state.step else []
        self.view = LiveView(self.run.folder.name, self.run.kind, config.steps, earlier)
        with self.view, self._reader() as read:
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
                self.signal = self.world.agreed(self.signal)
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
                self._step(read(state.step + state.jumped))

    def _step(self, batches: list[Batch]) -> None:
        """One step of the optimizer. DivergedError before a weight is touched when it is not finite."""
        started = time.perf_counter()
        config, state, step = self.config, self.state, self.state.step
        sums, total = self.gradients(step, batches)
        norm = nn.utils.clip_grad_norm_(self._parameters, config.clip if config.clip > 0 else math.inf)
        names = list(sums)
        told = torch.stack([norm.detach().double(), *(sums[n].double() / total for n in names)]).tolist()
        values = dict(zip(["grad_norm", *names], told, strict=True))
        finite = math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])
        if not finite and config.on_spike != "rewind":
            raise DivergedError(self._diverged(step + 1, values))
        guard = SpikeGuard(config.spike_z, state.norms)
        score = guard.judge(values["grad_norm"]) if finite else math.inf
        state.norms = guard.norms
        action = config.on_spike if not finite or (config.spike_z and score > config.spike_z) else ""
        if action:
            self._spike(step, batches, values, score, action)
            if action == "rewind":
                return
            if action == "lower":
                state.lowered = step + LOWERED
        lr = schedule.rate(config, step, config.steps) * (0.5 if step < state.lowered else 1.0)
        if action != "skip":
            self.optimizer.step(lr)
            if self.average is not None:
                self.average.update(step + 1)
        state.step = step + 1
        spent = time.perf_counter() - started
        state.seconds += spent
        what, items = size_of(batches)
        record = {
            "step": step + 1,
            "split": "train",
            "loss": values.pop("loss"),
            **values,
            "lr": lr,
            f"{what}_per_second": round(items / max(spent, 1e-9), 1),
            **self.utilization.of(batches, spent),
            "seconds": round(state.seconds, 4),
        }
        served = getattr(self.data, "served", None)
        if (
            served is not None
            and state.step % config.eval_every == 0
            and len(found := served(state.step)) > 1
        ):
            record |= {"served": found, "planned": self.data.planned(state.step)}  # type: ignore[attr-defined]
        self.run.metric(record)
        self.view.step(record)

    def _spike(
        self, step: int, batches: list[Batch], values: dict[str, float], score: float, action: str
    ) -> None:
        """Say what was found and, to rewind, go back to the last checkpoint and pass over this step's data."""
        state, jump = self.state, step + self.state.jumped
        found = f"{score:.1f} standard deviations" if math.isfinite(score) else "not finite"
        source = getattr(self.data, "excerpt", None)
        about = f"; its text begins {source(jump)!r}" if source is not None else ""
        self.run.log(
            f"step {step + 1:,}: gradient norm {values['grad_norm']:.4g} is a spike ({found}), loss "
            f"{values['loss']:.4g}: {action} (batch {jump:,}{about})"
        )
        record = {"step": step + 1, "split": "event", "event": "spike", "action": action, "batch": jump}
        record |= {"z": round(score, 2) if math.isfinite(score) else None}
        record |= {n: v if math.isfinite(v) else None for n, v in values.items()}
        if action == "rewind":
            held = checkpoint.steps_of(self.run.checkpoints)
            if not held or state.rewinds >= REWINDS:
                raise DivergedError(self._diverged(step + 1, values))
            rewinds = state.rewinds + 1
            found_at = self.run.checkpoints / f"{held[-1]:06d}"
            loaded = checkpoint.load(found_at, self.model, self.optimizer, self.run.config_hash, self.average)
            for field in dataclasses.fields(state):
                setattr(state, field.name, getattr(loaded, field.name))
            self.run.back_to(state.step)
            # The steps between are taken again with the data behind the spike: what was before it, it has seen.
            state.jumped, state.rewinds = jump + 1 - state.step, rewinds
        self.run.metric(record)
        self.view.step(record)

    def gradients(self, step: int, batches: list[Batch]) -> tuple[dict[str, Tensor], Tensor]:
        """Leave the step's mean gradient in the parameters; (sums of what the model told, their count)."""
        whole = len(batches) == 1
        tree, told_tree = PairwiseSum(), PairwiseSum()
        names: list[str] = []
        for micro in self.world.mine(len(batches)):
            self.optimizer.zero_grad()
            self.generator.manual_seed(device.seed(self.config.seed, step, micro))
            with self.place.autocast():
                told = self.model.loss(self.place.put(batches[micro]), generator=self.generator)  # type: ignore[operator]
            loss, count = told["loss"], told["count"].detach()
            (loss if whole else loss * count).backward()
            names = [n for n in told if n != "count"]
            told_tree.add([count.clone(), *(told[n].detach() * count for n in names)])
            if not whole:
                tree.add([p.grad if p.grad is not None else torch.zeros_like(p) for p in self._parameters])
        total, *sums = told_tree.total()
        if not whole:
            gradients = self.world.added([*tree.total(), total, *sums])
            gradients, (total, *sums) = gradients[: len(self._parameters)], gradients[len(self._parameters) :]
            torch._foreach_div_(gradients, total)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
        return dict(zip(names, sums, strict=True)), total

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
        with self.average.shown() if self.average is not None else nullcontext():
            told = evaluate(
                self.model,
                self.data.valid(),
                self.place,
                (lambda: bool(self.signal)) if self.world.size == 1 else None,
            )
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
        record = {"step": state.step, "split": "valid", **told, "seconds": round(state.seconds, 4)}
        self.run.metric(record)
        self.view.valid(record)
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
        if self.world.rank == 0:
            checkpoint.save(
                self.run.checkpoints,
                self.model,
                self.optimizer,
                self.state,
                self.run.config_hash,
                self.average,
            )
            checkpoint.prune(self.run.checkpoints, self.config.keep, self.state.best_step)
        self.world.wait()

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


def prepared(model: nn.Module, config: TrainConfig) -> None:
    """Compile the blocks of a model, or keep none of their activations, as ``config`` says."""
    for block in model.modules():
        if isinstance(block, Block):
            block.recompute = config.recompute
            if config.compile == "on":
                block.compile()


def size_of(batches: list[Batch]) -> tuple[str, int]:
    """What a step holds: ("tokens", n) without padding, or ("items", n)."""
    names = [n for n in batches[0] if n.endswith("segments")]
    if names:
        return "tokens", sum(int(torch.count_nonzero(b[n])) for b in batches for n in names)
    return "items", sum(len(next(iter(b.values()))) for b in batches)

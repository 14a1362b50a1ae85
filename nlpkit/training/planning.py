"""How many steps a run takes: from steps, epochs and a time budget, decided before step 1 and written down."""

import copy
import math
import time
from dataclasses import replace
from typing import Any

from torch import nn

from nlpkit import console
from nlpkit.core.batch import Batch
from nlpkit.core.transformer import Block
from nlpkit.errors import UsageError
from nlpkit.training import device, optimizers
from nlpkit.training.evaluation import evaluate
from nlpkit.training.settings import TrainConfig, limit
from nlpkit.training.trainer import TrainData, prepared, size_of

EVALUATIONS = 20  # a run is measured about so often …
EVALUATION_SHARE = 0.15  # … if that takes no more than this share of a budget
MARGIN = 0.92  # of the budget is planned with: the machine may be busier later
EPOCHS = 3.0  # when nothing says how long
SMALL = 300_000  # parameters below which float32 is used unasked: there is little to gain
GAIN = 1.1  # that bfloat16 must bring
COMPILE_GAIN, COMPILE_COST = 0.1, 60.0  # what compiling may bring, and seconds that it may take


def plan(model: nn.Module, data: TrainData, config: TrainConfig, started: float) -> tuple[TrainConfig, str]:
    """``config`` with device, precision, threads, steps and intervals decided, and one line that says so.

    ``started`` is the ``time.monotonic()`` at which the command began: a budget covers the whole command. The warm
    steps that a budget is measured by are taken on a copy of the model.
    """
    config = device.decide(config)
    config, why, step_time = choose_precision(model, data, config)
    limits = {}
    if config.steps:
        limits["train.steps"] = config.steps
    if config.epochs:
        limits["train.epochs"] = max(1, math.ceil(config.epochs * data.steps_per_epoch))
    evaluations = EVALUATIONS
    counted, budget = limit(config.budget) if config.budget else ("", 0.0)
    if counted == "tokens":
        limits["--budget"] = max(1, int(budget / max(size_of(data.batch(0))[1], 1)))
    elif counted == "operations":
        limits["--budget"] = max(1, int(budget / max(3 * operations_of(model, data.batch(0)), 1)))
    elif counted == "seconds":
        step_time, evaluation_time = measure(model, data, config, budget)
        left = (budget - (time.monotonic() - started)) * MARGIN
        saving = 0.1 + sum(p.numel() for p in model.parameters()) * 12 / 200e6
        each = evaluation_time + saving
        evaluations = max(1, min(EVALUATIONS, int(EVALUATION_SHARE * left / each)))
        # One more evaluation and save when the model is written at the end.
        left -= (evaluations + 1) * each
        config, step_time, spent, told = choose_compile(model, data, config, step_time, left)
        why += told
        steps = int((left - spent) / step_time)
        if steps < 1:
            raise UsageError(
                f"--budget {config.budget}: too short: reading the data took {time.monotonic() - started:.0f} s, a "
                f"step takes {step_time:.2f} s and an evaluation {evaluation_time:.1f} s"
            )
        limits["--budget"] = steps
    if not limits:
        limits["3 epochs"] = max(1, math.ceil(EPOCHS * data.steps_per_epoch))
    reason = min(limits, key=lambda k: limits[k])
    steps = limits[reason]
    if config.compile == "auto" and step_time:
        config, _, _, told = choose_compile(model, data, config, step_time, steps * step_time)
        why += told
    if config.compile == "auto":
        config = replace(config, compile="off")
    every = config.eval_every or max(1, round(steps / evaluations))
    config = replace(
        config,
        steps=steps,
        budget="",
        eval_every=min(every, steps),
        checkpoint_every=config.checkpoint_every or min(every, steps),
    )
    passes = steps / max(data.steps_per_epoch, 1)
    said = f"{steps:,} steps ({passes:.3g} epochs, by {reason}) on {config.device}, {config.precision}{why}"
    return config, said


def choose_precision(
    model: nn.Module, data: TrainData, config: TrainConfig
) -> tuple[TrainConfig, str, float]:
    """``config`` with the faster precision of a few steps of each, where it was left open; why, in words; their time.

    The time (seconds a step) is 0 where none was measured.
    """
    if config.precision != "auto":
        return config, "", 0.0
    parameters = sum(p.numel() for p in model.parameters())
    if parameters < SMALL or not device.has_bfloat16(config):
        return replace(config, precision="float32"), "", 0.0
    kinds: tuple[Any, ...] = ("float32", "bfloat16")
    times = {kind: min(step_times(model, data, replace(config, precision=kind), 3)[1:]) for kind in kinds}
    gain = times["float32"] / times["bfloat16"]
    best: Any = "bfloat16" if gain > GAIN else "float32"
    why = f" (bfloat16 is {gain:.2f} times as fast as float32 here)"
    return replace(config, precision=best), why, times[best]


def choose_compile(
    model: nn.Module, data: TrainData, config: TrainConfig, step_time: float, left: float
) -> tuple[TrainConfig, float, float, str]:
    """Whether to compile the blocks: (config, seconds a step, seconds spent on finding out, why in words).

    It is tried only where even a small gain would pay for the trial within what is left of the budget.
    """
    if config.compile != "auto" or not any(isinstance(m, Block) for m in model.modules()):
        return config, step_time, 0.0, ""
    if left * COMPILE_GAIN < COMPILE_COST:
        return replace(config, compile="off"), step_time, 0.0, ""
    begun = time.perf_counter()
    try:
        compiled = min(step_times(model, data, replace(config, compile="on"), 6)[2:])
    except Exception as error:  # no C++ compiler, or a failure of torch's own
        console.warn(
            f"the blocks cannot be compiled here ({str(error).splitlines()[0][:100]}); going on without"
        )
        return replace(config, compile="off"), step_time, time.perf_counter() - begun, ""
    spent = time.perf_counter() - begun
    gain = step_time / compiled
    if gain > 1.03:
        return replace(config, compile="on"), compiled, spent, f", compiled ({gain:.2f} times as fast)"
    return replace(config, compile="off"), step_time, spent, f", not compiled ({gain:.2f} times as fast)"


def operations_of(model: nn.Module, batches: list[Batch]) -> int:
    """Operations of the matrix products of a forward pass over a step; UsageError where they are not known."""
    from nlpkit.core.operations import batch_operations

    try:
        return sum(batch_operations(model, batch) for batch in batches)
    except UsageError as error:
        raise UsageError(f"--budget in operations is for language models: {error}") from error


def step_times(model: nn.Module, data: TrainData, config: TrainConfig, steps: int) -> list[float]:
    """Seconds of some steps of a copy of the model; the first ones pay for warming up."""
    place = device.place(config)
    trial = copy.deepcopy(model).to(place.device).train()
    prepared(trial, config)
    optimizer = optimizers.make(trial, config)
    times = []
    # Spread over the first epoch: batches of like length differ in cost.
    stride = max(1, data.steps_per_epoch // 16)
    for number in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        for batch in data.batch(number * stride):
            with place.autocast():
                told = trial.loss(place.put(batch))  # type: ignore[operator]
            told["loss"].backward()
        float(nn.utils.clip_grad_norm_(trial.parameters(), 1.0))
        optimizer.step(1e-12)
        times.append(time.perf_counter() - start)
    return times


def measure(model: nn.Module, data: TrainData, config: TrainConfig, budget: float) -> tuple[float, float]:
    """Seconds a step and an evaluation take, on a copy of the model."""
    place = device.place(config)
    wanted = min(max(0.04 * budget, 0.5), 10.0)
    times = step_times(model, data, config, 5)
    each = max(sum(times[2:]) / 3, 1e-6)
    times += step_times(model, data, config, min(200, int(wanted / each)))[1:]
    steady = times[2:]  # the first two pay for warming up
    # Of many steps the mean, as lengths differ; of few the median, as one may have been disturbed.
    step_time = sum(steady) / len(steady) if len(steady) > 8 else sorted(steady)[len(steady) // 2]
    return step_time, evaluation_seconds(model, data, place, wanted)


def evaluation_seconds(model: nn.Module, data: TrainData, place: device.Place, limit: float) -> float:
    """Seconds of an evaluation: of so many batches as ``limit`` seconds hold, and for the rest in proportion."""
    trial = copy.deepcopy(model).to(place.device)
    spent, done, number = 0.0, 0, 0
    for number, batch in enumerate(data.valid(), 1):
        if spent < limit:
            start = time.perf_counter()
            evaluate(trial, [batch], place)
            spent, done = spent + time.perf_counter() - start, number
    return spent * number / max(done, 1)

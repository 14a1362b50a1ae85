"""How many steps a run takes: from steps, epochs and a time budget, decided before step 1 and written down."""

import copy
import math
import time
from dataclasses import replace

from torch import nn

from nlpkit.errors import UsageError
from nlpkit.training import device, optimizers
from nlpkit.training.evaluation import evaluate
from nlpkit.training.settings import TrainConfig, seconds
from nlpkit.training.trainer import TrainData

EVALUATIONS = 20  # a run is measured about so often …
EVALUATION_SHARE = 0.15  # … if that takes no more than this share of a budget
MARGIN = 0.92  # of the budget is planned with: the machine may be busier later
EPOCHS = 3.0  # when nothing says how long


def plan(model: nn.Module, data: TrainData, config: TrainConfig, started: float) -> tuple[TrainConfig, str]:
    """``config`` with device, precision, threads, steps and intervals decided, and one line that says so.

    ``started`` is the ``time.monotonic()`` at which the command began: a budget covers the whole command. The warm
    steps that a budget is measured by are taken on a copy of the model.
    """
    config = device.decide(config, model)
    limits = {}
    if config.steps:
        limits["train.steps"] = config.steps
    if config.epochs:
        limits["train.epochs"] = max(1, math.ceil(config.epochs * data.steps_per_epoch))
    evaluations = EVALUATIONS
    if config.budget:
        step_time, evaluation_time = measure(model, data, config)
        left = (seconds(config.budget) - (time.monotonic() - started)) * MARGIN
        saving = 0.1 + sum(p.numel() for p in model.parameters()) * 12 / 200e6
        each = evaluation_time + saving
        evaluations = max(1, min(EVALUATIONS, int(EVALUATION_SHARE * left / each)))
        # One more evaluation and save when the model is written at the end.
        steps = int((left - (evaluations + 1) * each) / step_time)
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
    every = config.eval_every or max(1, round(steps / evaluations))
    config = replace(
        config,
        steps=steps,
        budget="",
        eval_every=min(every, steps),
        checkpoint_every=config.checkpoint_every or min(every, steps),
    )
    passes = steps / max(data.steps_per_epoch, 1)
    said = f"{steps:,} steps ({passes:.3g} epochs, by {reason}) on {config.device}, {config.precision}"
    return config, said


def measure(model: nn.Module, data: TrainData, config: TrainConfig) -> tuple[float, float]:
    """Seconds a step and an evaluation take, on a copy of the model."""
    place = device.place(config)
    trial = copy.deepcopy(model).to(place.device).train()
    optimizer = optimizers.make(trial, replace(config, lr=1e-12))
    wanted = min(max(0.04 * seconds(config.budget), 0.5), 10.0)
    times: list[float] = []
    begun = time.perf_counter()
    # Spread over the first epoch: batches of like length differ in cost.
    stride = max(1, data.steps_per_epoch // 16)
    while len(times) < 5 or (time.perf_counter() - begun < wanted and len(times) < 200):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        norm = None
        for batch in data.batch(len(times) * stride):
            with place.autocast():
                told = trial.loss(place.put(batch))  # type: ignore[operator]
            told["loss"].backward()
        norm = nn.utils.clip_grad_norm_(trial.parameters(), 1.0)
        float(norm)
        optimizer.step()
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    evaluate(trial, data.valid(), place)
    steady = times[2:]  # the first two pay for warming up
    # Of many steps the mean, as lengths differ; of few the median, as one may have been disturbed.
    step_time = sum(steady) / len(steady) if len(steady) > 8 else sorted(steady)[len(steady) // 2]
    return step_time, time.perf_counter() - start

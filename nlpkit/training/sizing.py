"""Which size of a language model a budget pays for: a ladder of sizes, and the law that picks one of them.

Letters: N parameters (embeddings included), D tokens trained on, U tokens of the corpus.

A loss is foretold for each size by the scaling law of Hoffmann et al. 2022 («Chinchilla») as Muennighoff et al. 2023
(«Scaling Data-Constrained Language Models», §5 and appendix A) fitted it with repeated data:

    L = E + A / N'^α + B / D'^α,    D' = U + U R (1 - exp(-(D/U - 1) / R)),  and N' likewise about U / 20

For a given number of operations its least is at D = 20 N as long as the corpus is not repeated. Four repetitions are
worth nearly as much as new text; at most :data:`EPOCHS` are planned, and what the budget has left beyond goes into a
larger model. How many tokens a size gets for a wall time is measured by a few of its steps on this machine.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nlpkit import config as plain
from nlpkit.core.batch import IGNORE, Batch
from nlpkit.training import device
from nlpkit.training.planning import EVALUATION_SHARE, MARGIN, SMALL, operations_of, step_times
from nlpkit.training.settings import TrainConfig, limit
from nlpkit.training.trainer import TrainData, size_of

EPOCHS = 8.0  # that are planned at most
WORTH = 0.002  # share of the foretold loss that a larger model must save
TRIAL = 0.02  # of a wall time is spent on measuring a size, and a step at least
SCALE, DATA, LEAST, POWER = 520.8, 1487.6, 1.869, 0.35266  # A, B, E, α = β
RATIO = 20  # tokens a parameter: (B / A) to the power 1 / α
FADE_DATA, FADE_SIZE = 15.388, 5.310  # repetitions, and excess parameters, that their worth fades over
TEXT_BYTES, SHARD_BYTES, PACKED = 4, 2, 3  # of a token in text and in a shard; how far text is compressed


@dataclass(frozen=True)
class Size:
    """A rung of the ladder."""

    width: int
    depth: int
    heads: int

    def __str__(self) -> str:
        return f"width {self.width}, depth {self.depth}, {self.heads} heads"


#: Each about twice as large as the one before (at a vocabulary of 8,000); heads are 32 wide, from width 256 on 64.
LADDER = (
    Size(64, 2, 2),
    Size(96, 3, 3),
    Size(128, 4, 4),
    Size(192, 5, 6),
    Size(256, 6, 4),
    Size(384, 8, 6),
    Size(512, 8, 8),
    Size(640, 10, 10),
    Size(768, 12, 12),
    Size(1024, 16, 16),
)


def foretold_loss(parameters: float, tokens: float, unique: float) -> float:
    """The loss (nats a token) that the law foretells: of interest is only which of several is the least.

    >>> budget = 6 * 20 * 1e8**2  # operations: of 6 N D
    >>> min((foretold_loss(n, budget / (6 * n), 1e18), n) for n in (25e6, 50e6, 100e6, 200e6, 400e6))[1]
    100000000.0
    """
    unique = min(unique, tokens)
    enough = min(parameters, unique / RATIO)
    repeated, excess = tokens / unique - 1, parameters / enough - 1
    seen = unique * (1 + FADE_DATA * -math.expm1(-repeated / FADE_DATA))
    size = enough * (1 + FADE_SIZE * -math.expm1(-excess / FADE_SIZE))
    return LEAST + SCALE / size**POWER + DATA / seen**POWER


def choose(
    module: Any,
    values: dict[str, Any],
    data: TrainData,
    config: TrainConfig,
    started: float,
    seconds_a_step: Callable[[nn.Module], float] | None = None,
) -> tuple[dict[str, Any], TrainConfig, str]:
    """The values of the model's config and the training config for ``config.budget``, and one line that says why.

    ``module`` is the model's of the registry; ``started`` is the ``time.monotonic()`` at which the command began.
    ``seconds_a_step`` of a model (without values, on the device meta) is measured unless it is given.
    """
    counted, budget = limit(config.budget)
    batch = data.batch(0)
    per_step = size_of(batch)[1]
    unique = max(per_step * data.steps_per_epoch, 1)
    most = (config.epochs or EPOCHS) * unique
    if config.steps:
        most = min(most, config.steps * per_step)
    trial = device.decide(config)
    left = (budget - (time.monotonic() - started)) * MARGIN * (1 - EVALUATION_SHARE)
    timed = seconds_a_step or (
        lambda sketch: _timed(module.Model(sketch.config), data, trial, TRIAL * budget)
    )
    least, best, speed = math.inf, None, 0.0
    for size in LADDER:
        own = {**values, "width": size.width, "depth": size.depth, "heads": size.heads}
        with torch.device("meta"):
            sketch = built(module, own)
        parameters = sum(p.numel() for p in sketch.parameters())
        # A number of tokens stands for the work that is best done with them: that of a model a twentieth as large.
        bought = min(budget, budget * budget / RATIO / parameters)
        if counted != "tokens":
            operations = 3 * operations_of(sketch, batch)
            bought = budget / operations * per_step
            if counted == "seconds":
                # Twice the speed of the smaller one is more than it can have: is it worth a try?
                if (
                    speed
                    and _loss(parameters, left * 2 * speed / operations * per_step, most, unique) > least
                ):
                    break
                took = max(timed(sketch), 1e-9)
                speed, bought = operations / took, left / took * per_step
        if bought < per_step and best is not None:
            break
        loss = _loss(parameters, bought, most, unique)
        if loss > least * (1 - WORTH):
            break
        tokens = min(budget if counted == "tokens" else max(bought, per_step), most)
        least, best = loss, (size, parameters, tokens, own)
    assert best is not None
    size, parameters, tokens, own = best
    passes = f"{tokens / unique:.2g} epochs"
    if tokens == most and not config.steps and not config.epochs:
        passes += ", the most that is planned unless -s train.epochs=N is given"
    said = (
        f"--budget {config.budget}: {size}, {parameters:,} parameters for about {_many(tokens)} tokens "
        f"({tokens / parameters:.2g} a parameter; {passes}); another size by -s model.width=N -s model.depth=N"
    )
    return own, replace(config, epochs=config.epochs or EPOCHS), said


def _loss(parameters: float, bought: float, most: float, unique: float) -> float:
    return foretold_loss(parameters, max(min(bought, most), 1.0), unique)


def _timed(model: nn.Module, data: TrainData, config: TrainConfig, seconds: float) -> float:
    """Seconds of a step of a new model, in the precision that it would probably have."""
    if config.precision == "auto":
        large = sum(p.numel() for p in model.parameters()) >= SMALL and device.has_bfloat16(config)
        config = replace(config, precision="bfloat16" if large else "float32")
    begun = time.perf_counter()
    times = step_times(model, data, config, 2)
    if time.perf_counter() - begun < seconds:
        times += step_times(model, data, config, 3)
    return min(times[1:])


def _many(count: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:.0f}"


def preview(module: Any, values: dict[str, Any], asked: Any) -> tuple[nn.Module, str]:
    """The model of a Request before its texts are read, and why: their length is told by the size of the files."""
    rows = StandIn(asked.data, built(module, values).config.vocab, asked.kind == "mlm", files_in(asked.paths))
    own, _, why = choose(module, values, rows, asked.train, time.monotonic())
    return built(module, own), why


def built(module: Any, values: dict[str, Any]) -> Any:
    """A new model of a module of the registry."""
    return module.Model(plain.build(module.Config, values, "model."))


def files_in(names: Sequence[str]) -> list[Path]:
    """The files that the inputs of a run (NAME=PATH too) are or hold."""
    found = []
    for name in names:
        path = Path(name)
        if not path.exists():
            path = Path(name.partition("=")[2] or name)
        found += [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path] * path.is_file()
    return found


class StandIn:
    """Rows of random tokens in the shape of a run's own, for a plan before anything is read."""

    def __init__(self, config: Any, vocab: int, masked: bool, files: Sequence[Path]) -> None:
        self.config, self.vocab, self.masked = config, vocab, masked
        self.tokens = sum(_tokens_in(path) for path in files) if files else 10**12

    @property
    def steps_per_epoch(self) -> int:
        """By the size of the files."""
        return max(1, self.tokens // (self.config.batch_size * self.config.context))

    def batch(self, step: int) -> list[Batch]:
        """The micro-batches of a step, without padding."""
        c = self.config
        ids = torch.randint(
            self.vocab, (c.batch_size, c.context), generator=torch.Generator().manual_seed(step)
        )
        labels = ids.roll(-1, 1)
        if self.masked:
            labels = torch.full_like(ids, IGNORE)
            few = max(1, round(c.rates[0] * c.context))
            labels[:, :few] = ids[:, :few]
        whole = {"input_ids": ids, "segments": torch.ones_like(ids), "labels": labels}
        rows = c.micro_batch or c.batch_size
        return [
            {name: tensor[i : i + rows] for name, tensor in whole.items()}
            for i in range(0, c.batch_size, rows)
        ]

    def valid(self) -> Iterator[Batch]:
        """None."""
        return iter(())


def _tokens_in(path: Path) -> int:
    """About how many tokens a file holds."""
    size = path.stat().st_size
    if path.suffix == ".npy":
        return size // SHARD_BYTES
    return size // TEXT_BYTES * (PACKED if path.suffix in (".gz", ".bz2", ".xz", ".zst") else 1)

"""What a run of the trainer is told: the ``[train]`` table of config.toml."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from nlpkit.errors import UsageError


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast and how a model is trained.

    Length: ``steps``, ``epochs`` and ``budget`` ("90s", "2m", "1h": wall time of the whole command) are each an
    upper limit; 0 or "" is none; with none of them, 3 epochs. ``warmup`` and ``decay`` (of schedule wsd) are
    shares of the steps, ``min_lr`` a share of ``lr``. Every ``eval_every`` and ``checkpoint_every`` steps (0: chosen)
    the model is measured and saved; ``keep`` checkpoints stay, and the best. ``patience`` evaluations without a
    better ``monitor`` end the run (0: never). ``threads`` 0 and device and precision ``auto`` are decided before
    step 1 and written to config.toml.
    """

    steps: int = 0
    epochs: float = 0.0
    budget: str = ""
    lr: float = 1e-3
    schedule: Literal["constant", "cosine", "wsd"] = "cosine"
    warmup: float = 0.05
    decay: float = 0.2
    min_lr: float = 0.0
    optimizer: Literal["adamw"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip: float = 1.0
    eval_every: int = 0
    checkpoint_every: int = 0
    keep: int = 2
    patience: int = 0
    monitor: Literal["loss", "accuracy"] = "loss"
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        numbers = (self.lr, self.epochs, self.warmup, self.decay, self.min_lr, self.clip, self.weight_decay)
        if not all(math.isfinite(n) and n >= 0 for n in numbers) or self.lr == 0:
            raise ValueError(
                "lr must be above 0; epochs, warmup, decay, min_lr, clip, weight_decay 0 or more"
            )
        whole = (self.steps, self.eval_every, self.checkpoint_every, self.patience, self.seed, self.threads)
        if min(whole) < 0 or self.keep < 1:
            raise ValueError(
                "steps, eval_every, checkpoint_every, patience, seed, threads: 0 or more; keep: 1 or more"
            )
        if self.warmup + (self.decay if self.schedule == "wsd" else 0.0) > 1:
            raise ValueError("warmup and decay are shares of the steps; together at most 1")
        if not all(0 <= b < 1 for b in self.betas):
            raise ValueError("betas lie in [0, 1)")
        if self.budget:
            seconds(self.budget)


def seconds(text: str) -> float:
    """A duration in seconds.

    >>> seconds("2m"), seconds("90"), seconds("1.5h")
    (120.0, 90.0, 5400.0)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?\s*", text)
    if not match or float(match[1]) == 0:
        raise UsageError(f"budget {text!r}: expected a time such as 90s, 2m or 1h")
    return float(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[match[2] or "s"]

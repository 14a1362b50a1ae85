"""What a run of the trainer is told: the ``[train]`` table of config.toml."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from nlpkit.errors import UsageError


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast and how a model is trained.

    Length: ``steps``, ``epochs`` and ``budget`` ("90s", "2m", "1h": wall time of the whole command; "5Mtok": tokens;
    "1e15flops": operations of matrix products) are each an upper limit; 0 or "" is none; with none of them, 3 epochs.
    ``warmup`` and ``decay`` (of schedule wsd) are
    shares of the steps, ``min_lr`` a share of ``lr``. Every ``eval_every`` and ``checkpoint_every`` steps (0: chosen)
    the model is measured and saved; ``keep`` checkpoints stay, and the best. ``patience`` evaluations without a
    better ``monitor`` end the run (0: never). ``threads`` 0 and device, precision and compile ``auto`` are decided
    before step 1 and written to config.toml.

    ``other_lr`` is the rate of what Muon leaves to AdamW, as a share of ``lr``; ``momentum`` is sgd's and Muon's (0:
    none, and Muon's 0.95), ``average`` the gradients of avg-grad. ``ema`` (0: off) is the decay of a running mean of
    the weights, which is what is measured and kept. A gradient norm that lies ``spike_z`` standard deviations above
    those before it is a spike (0: none is): ``on_spike`` logs it, skips its step, halves the rate for 50 steps, or
    goes back to the last checkpoint and passes over the step's data. ``recompute`` keeps no activations inside
    blocks: less memory, more time.
    """

    steps: int = 0
    epochs: float = 0.0
    budget: str = ""
    lr: float = 1e-3
    schedule: Literal["constant", "cosine", "wsd"] = "cosine"
    warmup: float = 0.05
    decay: float = 0.2
    min_lr: float = 0.0
    optimizer: Literal["adamw", "muon", "sgd", "avg-grad"] = "adamw"
    other_lr: float = 0.5
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    momentum: float = 0.0
    average: int = 8
    weight_decay: float = 0.01
    decay_kind: Literal["decoupled", "l2"] = "decoupled"
    l1: float = 0.0
    clip: float = 1.0
    ema: float = 0.0
    on_spike: Literal["log", "skip", "lower", "rewind"] = "skip"
    spike_z: float = 8.0
    eval_every: int = 0
    checkpoint_every: int = 0
    keep: int = 2
    patience: int = 0
    monitor: Literal["loss", "accuracy"] = "loss"
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    recompute: bool = False
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
        if not 0 <= self.ema < 1 or not 0 <= self.momentum < 1 or self.average < 1 or self.l1 < 0:
            raise ValueError("ema and momentum lie in [0, 1), average is 1 or more, l1 0 or more")
        if self.budget:
            limit(self.budget)


_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_MANY = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12, "p": 10**15, "e": 10**18}


def limit(text: str) -> tuple[Literal["seconds", "tokens", "operations"], float]:
    """What a budget counts, and how much of it.

    >>> limit("2m"), limit("90"), limit("5Mtok"), limit("1e15flops")
    (('seconds', 120.0), ('seconds', 90.0), ('tokens', 5000000.0), ('operations', 1000000000000000.0))
    """
    found = re.fullmatch(
        r"\s*(\d+(?:\.\d+)?(?:e\+?\d+)?)\s*(?:(s|m|min|h|d)?|([kmgbtpe]?)\s*(tok|tokens|flop|flops))\s*",
        text,
        re.IGNORECASE,
    )
    if not found or float(found[1]) == 0:
        raise UsageError(
            f"budget {text!r}: expected a time such as 90s, 2m or 1h, tokens such as 5Mtok, or operations such as "
            "1e15flops"
        )
    if found[4] is None:
        return "seconds", float(found[1]) * _UNITS[(found[2] or "s").lower()]
    count = float(found[1]) * _MANY[found[3].lower()]
    return ("tokens" if found[4].lower().startswith("tok") else "operations"), count

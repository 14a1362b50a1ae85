"""The learning rate of each step: a linear warm-up, then constant, cosine or warm-up-stable-decay.

Cosine: Loshchilov & Hutter 2017 (SGDR), section 3, one period. Wsd: MiniCPM (Hu et al. 2024), section 4, with the
``1 - sqrt`` decay of Hägele et al. 2024, section 3.
"""

import math

from nlpkit.training.settings import TrainConfig


def rate(config: TrainConfig, step: int, steps: int) -> float:
    """The learning rate of step number ``step`` (from 0) of ``steps``.

    >>> [round(rate(TrainConfig(lr=1.0, warmup=0.5, schedule="constant"), s, 4), 2) for s in range(4)]
    [0.5, 1.0, 1.0, 1.0]
    """
    warm = round(config.warmup * steps)
    if step < warm:
        return config.lr * (step + 1) / warm
    if config.schedule == "cosine":
        share = (step - warm) / max(steps - warm, 1)
        factor = 0.5 * (1 + math.cos(math.pi * share))
    elif config.schedule == "wsd":
        begin = steps - round(config.decay * steps)
        factor = 1.0 if step < begin else 1.0 - math.sqrt((step - begin + 1) / (steps - begin + 1))
    else:
        factor = 1.0
    return config.lr * (config.min_lr + (1 - config.min_lr) * factor)

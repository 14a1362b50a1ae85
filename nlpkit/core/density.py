"""What a model says about how probable data is, and how sure that statement is."""

from typing import Literal, NamedTuple

from torch import Tensor


class LogProb(NamedTuple):
    """Log-probabilities in nats, one an item (B,): exact, a lower bound, or an estimate without a sign."""

    value: Tensor
    kind: Literal["exact", "lower bound", "estimate"]

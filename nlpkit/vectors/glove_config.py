"""The settings that decide what GloVe learns, checked when they are made."""

from dataclasses import dataclass
from typing import Any

from nlpkit import config
from nlpkit.errors import UsageError, did_you_mean

# AdaGrad's rates. A triple's error is not weighed by f and is a random draw: a smaller rate than that of GloVe serves.
RATES = {"wls": 0.05, "ratio": 0.007}
SAMPLINGS = ("weighted", "literal")


@dataclass(frozen=True)
class Config:
    """What decides the vectors, beside the text, the recipe and the first vectors.

    ``window`` in words; ``lr`` is AdaGrad's rate; ``valid_share`` of the nonzeros is held out and, with
    ``patience``, ends the training after so many epochs without a better one; ``anchor`` is λ of
    :mod:`nlpkit.vectors.anchoring`. ``sampling`` says how the ratio objective draws.
    """

    size: int = 100
    window: int = 10
    symmetric: bool = True
    epochs: int = 15
    min_count: int = 5
    max_vocab: int | None = None
    x_max: float = 10.0
    alpha: float = 0.75
    lr: float = 0.05
    seed: int = 0
    objective: str = "wls"
    sampling: str = "weighted"
    valid_share: float = 0.0
    patience: int | None = None
    anchor: float = 0.0
    freeze: bool = False

    def __post_init__(self) -> None:
        for name in ("size", "window", "epochs", "min_count", "max_vocab", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}: expected 1 or more, got {value}")
        for name in ("x_max", "lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"{name}: expected more than 0, got {getattr(self, name)}")
        for name in ("alpha", "anchor"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.seed < 0:
            raise UsageError(f"seed: expected 0 or more, got {self.seed}")
        for name, known in (("objective", RATES), ("sampling", SAMPLINGS)):
            if (value := getattr(self, name)) not in known:
                raise UsageError(f"{name}: {value!r} is unknown{did_you_mean(str(value), known)}")
        if self.sampling != "weighted" and self.objective != "ratio":
            raise UsageError("sampling: only the ratio objective draws; pass --objective ratio")
        if not 0 <= self.valid_share <= 0.5:
            raise UsageError(f"valid_share: expected 0 to 0.5, got {self.valid_share}")
        if self.patience is not None and not self.valid_share:
            raise UsageError("patience: nothing is held out to judge by; pass --valid-share 0.01")

    def fixed(self) -> dict[str, Any]:
        """The settings that a resumed training must share: all but the number of epochs, which may grow."""
        return {k: v for k, v in config.to_dict(self).items() if k != "epochs"}

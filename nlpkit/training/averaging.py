"""A running mean of the weights: m ← decay · m + (1 - decay) · w, less biased at first (Polyak & Juditsky 1992)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nlpkit.errors import ArtifactError


class WeightAverage:
    """The mean of a model's parameters over its steps; ``decay`` grows from 0 as (1 + step) / (10 + step)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.means = {n: p.detach().clone() for n, p in self.weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.means.values()), [p.detach() for p in self.weights.values()], 1 - decay
        )

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within the block the model has the means."""
        own = {n: p.detach().clone() for n, p in self.weights.items()}
        self.put()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.weights.items():
                    parameter.copy_(own[name])

    @torch.no_grad()
    def put(self) -> None:
        """Give the model the means."""
        for name, parameter in self.weights.items():
            parameter.copy_(self.means[name])

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put saved means back. ArtifactError when they are not this model's."""
        if set(tensors) != set(self.means):
            raise ArtifactError("the checkpoint's mean of the weights is not this model's")
        for name, mean in self.means.items():
            mean.copy_(tensors[name])

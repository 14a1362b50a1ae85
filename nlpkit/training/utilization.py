"""How much of the machine a run uses: operations of its matrix products over the peak that was measured here.

The peak is that of bfloat16 where the processor has it, whatever the run computes in.
"""

import functools

import torch
from torch import nn

from nlpkit.core.batch import Batch
from nlpkit.errors import UsageError
from nlpkit.training import device
from nlpkit.training.settings import TrainConfig

SMALL = 1_000_000  # parameters below which nothing is measured: such a run is over before it matters


class Utilization:
    """The share of the peak of each step; nothing for small models and those whose operations are not counted."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.model, self.config = model, config
        large = sum(p.numel() for p in model.parameters()) >= SMALL
        self.on = large and config.device == "cpu" and hasattr(model, "text")

    def of(self, batches: list[Batch], seconds: float) -> dict[str, float]:
        """``share_of_peak`` of a step that took so long."""
        if not self.on:
            return {}
        from nlpkit.core.operations import batch_operations

        try:
            done = 3 * sum(batch_operations(self.model, batch) for batch in batches)
        except UsageError:
            self.on = False
            return {}
        dtype = torch.bfloat16 if device.has_bfloat16(self.config) else torch.float32
        return {"share_of_peak": round(done / seconds / _peak(dtype, self.config.threads), 4)}


@functools.cache
def _peak(dtype: torch.dtype, threads: int) -> float:
    from nlpkit.core.operations import matrix_peak

    return matrix_peak(dtype, threads)

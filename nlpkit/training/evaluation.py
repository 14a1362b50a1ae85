"""Measure a model: sums and counts over all batches, divided once."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from nlpkit.core.batch import Batch
from nlpkit.training import device

EVALUATION_SEED = 20_000


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    place: device.Place | None = None,
    interrupted: Callable[[], bool] | None = None,
) -> dict[str, float]:
    """The mean of everything ``model.loss`` tells over all items, and their ``count``.

    Each batch's means are weighted by its count; randomness (a VAE's) is seeded by the number of the batch. Empty
    input gives an empty dictionary, and so does a run that ``interrupted`` stops.
    """
    sums: dict[str, float] = {}
    count = 0.0
    was_training = model.training
    model.eval()
    place = place or device.Place(torch.device("cpu"), "float32")
    generator = torch.Generator(place.device)
    try:
        with torch.inference_mode():
            for number, batch in enumerate(batches):
                if interrupted is not None and interrupted():
                    return {}
                generator.manual_seed(EVALUATION_SEED + number)
                with place.autocast():
                    told = model.loss(place.put(batch), generator=generator)  # type: ignore[operator]
                names = [n for n in told if n != "count"]
                n, *values = torch.stack(
                    [told["count"].double(), *(told[k].double() for k in names)]
                ).tolist()
                if n == 0:
                    continue
                count += n
                for name, value in zip(names, values, strict=True):
                    sums[name] = sums.get(name, 0.0) + value * n
    finally:
        model.train(was_training)
    return {**{name: total / count for name, total in sums.items()}, "count": count} if count else {}

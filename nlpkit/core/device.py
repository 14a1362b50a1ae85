"""From the word for a device to the device: the one place that knows these words."""

from collections.abc import Sequence

import torch

from nlpkit.errors import UsageError, did_you_mean

KINDS = ("cpu", "cuda", "mps")


def find(name: str | None, kinds: Sequence[str] = KINDS) -> torch.device:
    """The device called ``name`` (``cuda:1`` is the second GPU); ``auto`` is the first GPU, else the processor.

    ``None`` is the processor; ``kinds`` are those that the caller can use. UsageError: no such word, or no such
    device here.

    >>> find("cpu"), find(None)
    (device(type='cpu'), device(type='cpu'))
    """
    usable = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = next((kind for kind in ("cuda", "mps") if kind in kinds and usable[kind]), "cpu")
    kind, colon, number = (name or "cpu").partition(":")
    if kind not in kinds or (colon and not number.isdecimal()):
        raise UsageError(f"unknown device {name!r}{did_you_mean(kind, [*kinds, 'auto'])}")
    if int(number or 0) >= usable[kind]:
        raise UsageError(f"device {name!r}: torch finds {usable[kind]} of its kind here; use --device cpu")
    return torch.device(name or "cpu")

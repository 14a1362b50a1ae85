"""Randomness inside a loss comes from the generator it is given, and from nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(generator: torch.Generator | None, dropout: float = 1.0) -> Iterator[None]:
    """Within the block the default generators (which dropout uses) follow ``generator``; then they are put back.

    Nothing happens where there is no generator or ``dropout`` is 0.

    >>> def draw():
    ...     with seeded(torch.Generator().manual_seed(3)):
    ...         return torch.rand(2)
    >>> bool((draw() == draw()).all())
    True
    """
    if generator is None or not dropout:
        yield
        return
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield

"""The processes that train together (``torchrun -m nlpkit pretrain …``): who computes which part of a step.

A step's micro-batches are the leaves of one binary tree of additions, whatever the number of processes: each computes
the leaves of its subtree, and the sums meet above. So the weights are the same, bit for bit, with one process or
several, and a checkpoint of one number of processes goes on with another. gloo on processors, nccl on GPUs.
"""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from nlpkit import console
from nlpkit.errors import UsageError

PATIENCE = timedelta(hours=2)  # the first process may encode a large corpus while the others wait


@dataclass(frozen=True)
class World:
    """This process among its like."""

    rank: int = 0
    size: int = 1

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            dist.barrier()

    def mine(self, parts: int) -> range:
        """Which of a step's micro-batches are computed here."""
        if self.size == 1:
            return range(parts)
        share = parts // self.size
        if share * self.size != parts or share & (share - 1) or self.size & (self.size - 1):
            raise UsageError(
                f"{parts} micro-batches a step for {self.size} processes; both must be powers of two, and there must "
                f"be as many micro-batches or more: set -s data.micro_batch to the rows of a step over {self.size}"
            )
        return range(self.rank * share, (self.rank + 1) * share)

    def added(self, tensors: list[Tensor]) -> list[Tensor]:
        """The sums over all processes, added in the same order everywhere."""
        if self.size == 1:
            return tensors
        flat = torch.cat([t.detach().reshape(-1).to(torch.float32) for t in tensors])
        found = [torch.empty_like(flat) for _ in range(self.size)]
        dist.all_gather(found, flat)
        while len(found) > 1:
            found = [a + b for a, b in zip(found[::2], found[1::2], strict=True)]
        sizes = [t.numel() for t in tensors]
        return [
            part.view(t.shape).to(t.dtype) for part, t in zip(found[0].split(sizes), tensors, strict=True)
        ]

    def agreed(self, number: int) -> int:
        """The largest of a number over all processes."""
        if self.size == 1:
            return number
        told = torch.tensor([number], device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return int(told)


def here() -> World:
    """The world that the environment names (RANK and WORLD_SIZE, as torchrun sets them), joined once."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size < 2:
        return World()
    if not dist.is_initialized():
        accelerated = torch.cuda.is_available()
        if accelerated:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if accelerated else "gloo", timeout=PATIENCE)
    if rank:
        console.set_quiet(True)
    return World(rank, size)


class PairwiseSum:
    """Lists of tensors added one by one as a binary tree of their order: ((0 + 1) + (2 + 3)) + …"""

    def __init__(self) -> None:
        self._held: list[tuple[int, list[Tensor]]] = []  # (level, sums), the levels falling

    def add(self, tensors: list[Tensor]) -> None:
        """Take in the next leaf; it is kept, not copied."""
        level = 0
        while self._held and self._held[-1][0] == level:
            _, left = self._held.pop()
            torch._foreach_add_(left, tensors)
            tensors, level = left, level + 1
        self._held.append((level, tensors))

    def total(self) -> list[Tensor]:
        """The sums of all leaves."""
        made = self._held.pop()[1]
        while self._held:
            left = self._held.pop()[1]
            torch._foreach_add_(left, made)
            made = left
        return made

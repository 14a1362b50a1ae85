"""Where a run computes, in which precision and with which random numbers.

What ``auto`` becomes is written down once and obeyed on resume.
"""

import ctypes
import functools
import hashlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nlpkit.core.batch import Batch
from nlpkit.core.device import find
from nlpkit.errors import OutOfMemory
from nlpkit.training.settings import TrainConfig

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h


@dataclass(frozen=True)
class Place:
    """A device and a precision."""

    device: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager[object]:
        """bfloat16 for matrix products, or nothing."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def put(self, batch: Batch) -> Batch:
        """The batch on the device."""
        if self.device.type == "cpu":
            return batch
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}


def cpu_flags() -> set[str]:
    """The processor's feature flags (empty where the system does not tell)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def decide(config: TrainConfig) -> TrainConfig:
    """``config`` with device and threads decided. UsageError when the device is not there."""
    device = find(config.device, ("cpu", "cuda"))
    threads = config.threads or torch.get_num_threads()
    return replace(config, device=str(device), threads=threads)


def has_bfloat16(config: TrainConfig) -> bool:
    """Whether the decided device multiplies bfloat16 in hardware."""
    if config.device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    return bool({"avx512_bf16", "amx_bf16"} & cpu_flags())


def place(config: TrainConfig) -> Place:
    """The decided device, with the thread count set."""
    torch.set_num_threads(config.threads)
    if config.device == "cpu":
        keep_memory()
    return Place(torch.device(config.device), config.precision)


@functools.cache
def keep_memory() -> None:
    """Let freed memory stay with the process: every step needs the same blocks again.

    The C library gives blocks of many pages back to the system at once, and the next step pays for each page anew
    (a tenth of a step's time). Where there is no such setting (it is glibc's) nothing is done.
    """
    try:
        allocator = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    allocator(MMAP_THRESHOLD, 1 << 30)
    allocator(TRIM_THRESHOLD, -1)


def seed(*words: object) -> int:
    """Seed torch's global generators by these words (in a stable way); the seed that was set.

    Called before every micro-batch, so that dropout is a function of (seed, step, micro-batch): a resumed run draws
    what the uninterrupted one drew, and no generator's state needs saving.
    """
    digest = hashlib.blake2b(" ".join(map(str, words)).encode(), digest_size=8).digest()
    value = int.from_bytes(digest, "little") >> 1
    torch.manual_seed(value)
    return value


def out_of_memory(failure: BaseException) -> OutOfMemory | None:
    """The error of ours when ``failure`` says that memory ran out, else None."""
    told = str(failure)
    if (
        isinstance(failure, MemoryError | torch.OutOfMemoryError)
        or "can't allocate memory" in told
        or "not enough memory" in told
    ):
        return OutOfMemory(
            "out of memory; pass -s data.micro_batch=N to split a step (the result stays the same), a smaller "
            "data.batch_size or a smaller model"
        )
    return None

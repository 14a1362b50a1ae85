"""What a GloVe training changes, the two tables and its place, and whether the tables fit into memory.

V vocabulary, D width. A table (V, D + 3) float32 is described in :mod:`nlpkit.vectors.kernels`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nlpkit.errors import OutOfMemory

SUMS = 2  # numbers of a row that follow the vector and the bias: what AdaGrad has summed for each


@dataclass
class State:
    """Where training stands: the tables, the place of the next stratum, and the best epoch so far."""

    words: np.ndarray
    contexts: np.ndarray
    epoch: int = 0
    stratum: int = 0
    loss: float = 0.0  # summed over the strata of this epoch that are done
    best: np.ndarray | None = None  # (2, V, D + 1) of both tables, where nonzeros are held out
    best_epoch: int = 0
    best_loss: float = float("inf")

    @property
    def size(self) -> int:
        """D."""
        return int(self.words.shape[1]) - SUMS - 1

    def remember(self, loss: float) -> None:
        """Keep a copy of the vectors and biases as those of the best epoch; it replaces the copy before."""
        half = self.size + 1
        if self.best is None:
            self.best = np.empty((2, len(self.words), half), np.float32)
        self.best[0], self.best[1] = self.words[:, :half], self.contexts[:, :half]
        self.best_epoch, self.best_loss = self.epoch, loss

    def recall(self) -> None:
        """Put the vectors and biases of the best epoch back, where one was remembered."""
        if self.best is not None:
            half = self.size + 1
            self.words[:, :half], self.contexts[:, :half] = self.best
            self.best = None


def fresh(vocabulary: int, size: int, seed: int) -> State:
    """Fresh tables: vectors uniform in ±1/(2·D), biases 0, sums of squares 1 (as the authors' program has them)."""
    drawn = np.random.default_rng([seed, 0]).random((2, vocabulary, size), dtype=np.float32)
    made = np.zeros((2, vocabulary, size + 1 + SUMS), np.float32)
    made[:, :, :size] = (drawn - np.float32(0.5)) / np.float32(size)
    made[:, :, size + 1 :] = 1.0
    return State(made[0], made[1])


def check_memory(vocabulary: int, size: int, *, best: bool, known: int = 0, beside: int = 0) -> None:
    """Refuse tables that do not fit into the memory that is free.

    ``best``: a copy of the best epoch is kept. ``known`` words of older vectors are joined to the new ones.
    ``beside`` bytes a word are taken by what goes with them.

    :raises OutOfMemory: the message names what to lower.
    """
    row = 4 * 2 * (size + 1 + SUMS)  # of one word in both tables
    need = vocabulary * (row * (2 if best else 1) + beside) + (vocabulary + known if known else 0) * row
    free = free_memory()
    if free is not None and need > free:
        raise OutOfMemory(
            f"{vocabulary:,} words of {size:,} numbers need {need / 1e9:,.1f} GB for their tables and "
            f"{free / 1e9:,.1f} GB are free; lower --max-vocab or --size, or raise --min-count"
        )


def free_memory() -> int | None:
    """Bytes that this process can still take, by the kernel and by its control group; None where nothing tells."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) << 10)
        group = Path("/sys/fs/cgroup")
        most = (group / "memory.max").read_text().strip()
        if most != "max":
            found.append(int(most) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    if not found and hasattr(os, "sysconf"):
        try:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (OSError, ValueError):
            return None
    return min(found, default=None)

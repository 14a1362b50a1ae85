"""The keys and values of the tokens read so far: generation reads each token once.

Shapes: B batch, T new tokens, S tokens so far, K key/value heads, d width of a head.
"""

import torch
from torch import Tensor


class Cache:
    """Grows with each forward that is given it. For inference: it is written in place, without gradients.

    ``capacity`` is the number of tokens to make room for at once; more make it grow by doubling.
    """

    def __init__(self, capacity: int = 0) -> None:
        self.capacity = capacity
        self.length = 0
        self.segments: Tensor | None = None  # (B, S); None: all one segment
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def joined(self, segments: Tensor | None, length: int) -> Tensor:
        """The segments of the tokens so far and of ``length`` new ones, (B, S + T)."""
        known = segments if segments is not None else self.segments
        assert known is not None
        ones = known.new_ones
        old = self.segments if self.segments is not None else ones(known.shape[0], self.length)
        new = segments if segments is not None else ones(known.shape[0], length)
        return torch.cat((old, new), 1)

    def extend(self, segments: Tensor | None, x: Tensor) -> Tensor | None:
        """Count the new tokens of x (B, T, D) in; the segments of all tokens, or ``None`` for one segment."""
        if segments is not None or self.segments is not None:
            self.segments = self.joined(segments, x.shape[1])
        self.length += x.shape[1]
        return self.segments

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put in the new keys and values (B, K, T, d) of a layer; all of that layer's, (B, K, S, d)."""
        start = self.length - k.shape[2]
        if layer == len(self._keys):
            room = max(self.capacity, self.length)
            self._keys.append(k.new_empty(*k.shape[:2], room, k.shape[3]))
            self._values.append(v.new_empty(*v.shape[:2], room, v.shape[3]))
        for store, new in ((self._keys, k), (self._values, v)):
            if store[layer].shape[2] < self.length:
                wider = new.new_empty(*new.shape[:2], 2 * self.length, new.shape[3])
                wider[:, :, :start] = store[layer][:, :, :start]
                store[layer] = wider
            store[layer][:, :, start : self.length] = new
        return self._keys[layer][:, :, : self.length], self._values[layer][:, :, : self.length]

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order (finished ones go, beams are copied)."""
        for stores in (self._keys, self._values):
            for layer, old in enumerate(stores):  # what is not written yet is not copied
                stores[layer] = old.new_empty(len(rows), *old.shape[1:])
                stores[layer][:, :, : self.length] = old[:, :, : self.length].index_select(0, rows)
        if self.segments is not None:
            self.segments = self.segments[rows]

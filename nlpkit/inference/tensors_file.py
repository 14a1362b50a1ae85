"""The tensors of a safetensors file as numpy arrays over mapped memory: nothing is read that is not used.

Layout (huggingface/safetensors): the length of the header, 8 bytes little-endian; the header, a JSON object of name →
dtype, shape, [begin, end) of the bytes; then the bytes. Every bound is checked before it is used.
"""

import json
import math
import mmap
import struct
from pathlib import Path

import numpy as np

from nlpkit.errors import ArtifactError

LARGEST = 100_000_000  # bytes of a header, as in the library
KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class Tensors:
    """A mapped file: ``names`` of what it holds; indexing gives arrays. ArtifactError where it is not whole."""

    def __init__(self, path: Path, remedy: str) -> None:
        self.path, self._remedy = path, remedy
        try:
            with open(path, "rb") as file:
                self._raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise self._damaged("is empty") from None
        size = len(self._raw)
        length = struct.unpack("<Q", self._raw[:8])[0] if size >= 8 else 0
        if not 2 <= length <= min(LARGEST, size - 8):
            raise self._damaged("its header does not fit into it")
        self._start = 8 + length
        try:
            header = json.loads(self._raw[8 : self._start])
            header.pop("__metadata__", None)
            self._held = {str(name): self._entry(told, size - self._start) for name, told in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged(f"its header cannot be read ({error})") from None
        ends = sorted((begin, end) for _, _, begin, end in self._held.values())
        edges = [0, *(end for _, end in ends)]
        if [begin for begin, _ in ends] != edges[:-1] or edges[-1] != size - self._start:
            raise self._damaged("its tensors do not fill it")
        self.names = set(self._held)

    def _entry(self, told: dict[str, object], size: int) -> tuple[str, tuple[int, ...], int, int]:
        kind, shape, offsets = told["dtype"], told["shape"], told["data_offsets"]
        whole = [*shape, *offsets]  # type: ignore[misc]
        if len(offsets) != 2 or not all(type(n) is int and 0 <= n < 2**48 for n in whole):  # type: ignore[arg-type]
            raise ValueError(f"shape {shape}, bytes {offsets}")
        begin, end = whole[-2:]
        width = np.dtype(KINDS[str(kind)]).itemsize if str(kind) in KINDS else None
        if not begin <= end <= size or (width and math.prod(whole[:-2]) * width != end - begin):
            raise ValueError(f"{kind} of shape {shape} in bytes {begin} to {end}")
        return str(kind), tuple(whole[:-2]), begin, end

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor: a view for F32; a float32 copy for F16, BF16 and F64."""
        kind, shape, begin, end = self._held[name]
        if kind not in KINDS:
            raise ArtifactError(f"{self.path}: {name} is of type {kind}, numbers with a point are needed")
        stored = np.dtype(KINDS[kind])
        flat = np.frombuffer(self._raw, stored, (end - begin) // stored.itemsize, self._start + begin)
        return flat.reshape(shape) if kind == "F32" else floats(flat, kind).reshape(shape)

    def rows(self, name: str, at: np.ndarray) -> np.ndarray:
        """Rows of a matrix, float32; nothing else of it is read."""
        kind, shape, begin, end = self._held[name]
        if kind not in KINDS:
            raise ArtifactError(f"{self.path}: {name} is of type {kind}, numbers with a point are needed")
        stored = np.dtype(KINDS[kind])
        flat = np.frombuffer(self._raw, stored, (end - begin) // stored.itemsize, self._start + begin)
        return floats(flat.reshape(shape)[at], kind)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._held[name][1]

    def _damaged(self, what: str) -> ArtifactError:
        return ArtifactError(f"{self.path}: not a whole safetensors file ({what}); {self._remedy}")


def floats(stored: np.ndarray, kind: str) -> np.ndarray:
    """Stored numbers as float32; bfloat16 are the upper halves."""
    if kind == "BF16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32)

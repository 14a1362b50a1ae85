"""Tensors in a safetensors file: mapped into memory to read, streamed block by block to write.

The format (huggingface.co/docs/safetensors): eight bytes with the length of a JSON header, the header (name → dtype,
shape, first and last byte in the data), the data: little-endian, row by row. N rows of a tensor.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from nlpkit.errors import DataError
from nlpkit.store import atomic

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I8": "|i1", "U8": "|u1"}
NAMES = {np.dtype(code): name for name, code in DTYPES.items()}
HEAD = 1024  # bytes kept for the header of a file that is written before its shapes are known
MOST = 100_000_000  # bytes that the format allows a header


def map_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Every tensor of a file by its name, read-only and mapped: only what is looked at is read from the disk.

    :raises DataError: not such a file, cut off, or a dtype other than those of :data:`DTYPES`.
    """
    path = Path(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MOST, size - 8):
            raise DataError(f"{path}: not a whole safetensors file (its header would end behind its end)")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        listed = {
            name: (entry["dtype"], tuple(map(int, entry["shape"])), *map(int, entry["data_offsets"]))
            for name, entry in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a safetensors file (its header is no JSON of tensors)") from error
    data = np.memmap(path, np.uint8, "r", offset=8 + length) if size > 8 + length else np.zeros(0, np.uint8)
    found = {}
    for name, (dtype, shape, begin, end) in listed.items():
        if dtype not in DTYPES:
            raise DataError(f"{path}: {name} is {dtype}, which is not read here (known: {', '.join(DTYPES)})")
        need = int(np.prod(shape, dtype=object)) * np.dtype(DTYPES[dtype]).itemsize
        if min(shape, default=0) < 0 or not 0 <= begin <= end <= len(data) or end - begin != need:
            raise DataError(f"{path}: {name} is cut off or its header is wrong; make or fetch the file again")
        found[name] = np.asarray(data[begin:end].view(DTYPES[dtype]).reshape(shape))
    return found


class TensorWriter:
    """Appends rows to one tensor after the other; what a tensor's shape became is put into the header at the end."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.tensors: dict[str, dict[str, Any]] = {}
        self.last, self.end = "", 0
        file.write(bytes(HEAD))

    def append(self, name: str, rows: np.ndarray) -> None:
        """Add rows (N, …) to a tensor; once another one began, a tensor is closed."""
        rows = np.ascontiguousarray(rows)
        shape = list(rows.shape)
        if name == self.last:
            self.tensors[name]["shape"][0] += shape[0]
        else:
            assert name not in self.tensors, name
            self.tensors[name] = {
                "dtype": NAMES[rows.dtype],
                "shape": shape,
                "data_offsets": [self.end, self.end],
            }
            self.last = name
        self.file.write(rows.data if rows.size else b"")
        self.end += rows.nbytes
        self.tensors[name]["data_offsets"][1] = self.end

    def close(self) -> None:
        """Write the header."""
        header = json.dumps(self.tensors).encode()
        assert len(header) <= HEAD - 8, "too many tensors"
        self.file.seek(0)
        self.file.write((HEAD - 8).to_bytes(8, "little") + header.ljust(HEAD - 8))


@contextmanager
def writing_tensors(path: str | Path) -> Iterator[TensorWriter]:
    """A safetensors file that takes its name when the block ends well.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "t.safetensors"
    >>> with writing_tensors(target) as writer:
    ...     for row in np.eye(2, dtype=np.float32):
    ...         writer.append("eye", row[None])
    >>> map_tensors(target)["eye"].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    with atomic.writing(path) as file:
        writer = TensorWriter(file)
        yield writer
        writer.close()

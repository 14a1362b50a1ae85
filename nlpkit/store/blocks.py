"""Large arrays on disk that are checked where they are touched: a plain ``.npy`` with a checksum a block behind it.

numpy reads such a file as any other (it ignores what follows the data), so it can be memory-mapped and its opening
costs the same at any size; a block is compared with its CRC-32 when its first row is read. Damage is an
:class:`~nlpkit.errors.ArtifactError`, before a damaged number is used.

Layout: npy header and data · one uint32 a block · magic, block size, block count, CRC-32 of header and table.
N rows; a row is everything behind the first axis. A block holds whole rows.
"""

import io
import mmap
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nlpkit.errors import ArtifactError

MAGIC = b"nlpkitB1"
BLOCK = 1 << 14  # bytes of a block, or one row where a row is larger
_FOOT = struct.Struct("<8sQQI")  # magic, rows of a block, blocks, CRC-32 of header and table


def write(path: str | Path, arrays: np.ndarray | Iterable[np.ndarray], *, block: int = BLOCK) -> int:
    """Write one array, or the rows of several of equal width one behind the other; the CRC-32 of the footer.

    The caller makes the file durable (it is part of a folder that is flushed before it gets its name).

    >>> import tempfile
    >>> where = Path(tempfile.mkdtemp()) / "a.npy"
    >>> told = write(where, np.arange(6, dtype=np.int32).reshape(3, 2))
    >>> np.load(where).tolist(), Checked(where, told)[[2]].tolist()
    ([[0, 1], [2, 3], [4, 5]], [[4, 5]])
    """
    parts = [arrays] if isinstance(arrays, np.ndarray) else list(arrays)
    first = parts[0]
    kind, width = first.dtype.newbyteorder("<"), first.shape[1:]
    rows = sum(len(part) for part in parts)
    header = _header(kind, (rows, *width))
    row = kind.itemsize * int(np.prod(width, dtype=np.int64))
    each = max(1, block // max(1, row))
    sums: list[int] = []
    with open(path, "wb") as file:
        file.write(header)
        left = b""
        for part in parts:
            for start in range(0, len(part), 4096 * each):
                some = np.ascontiguousarray(part[start : start + 4096 * each], kind)
                left += some.tobytes()
                whole = len(left) - len(left) % (each * row) if row else len(left)
                view = memoryview(left)
                sums += [zlib.crc32(view[at : at + each * row]) for at in range(0, whole, each * row or 1)]
                file.write(view[:whole])
                left = left[whole:]
        if left:
            sums.append(zlib.crc32(left))
            file.write(left)
        table = np.array(sums, "<u4").tobytes()
        total = zlib.crc32(table, zlib.crc32(header))
        foot = _FOOT.pack(MAGIC, each, len(sums), total)
        file.write(table)
        file.write(foot)
    return zlib.crc32(foot)


def _header(kind: np.dtype, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


class Checked:
    """A memory-mapped array (N, …) whose blocks are verified when they are first read. Safe for threads.

    ``told`` is what :func:`write` returned, kept in a sealed place: a whole file of another version is found too.
    ``remedy`` ends the message of an error.
    """

    def __init__(
        self, path: str | Path, told: int | None = None, remedy: str = "make it again, or restore a copy"
    ) -> None:
        self.path, self._remedy = Path(path), remedy
        try:
            with open(path, "rb") as file:
                raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise ArtifactError(f"{path}: missing; {remedy}") from None
        except ValueError:
            raise self._damaged("is empty") from None
        size = len(raw)
        foot = raw[max(0, size - _FOOT.size) :]
        if len(foot) != _FOOT.size or foot[:8] != MAGIC or (told is not None and zlib.crc32(foot) != told):
            raise self._damaged("its end is not what was written")
        _, self._each, count, total = _FOOT.unpack(foot)
        table = size - _FOOT.size - 4 * count
        start = 10 + int.from_bytes(
            raw[8:10], "little"
        )  # of the data: the header's length stands in the header
        # The checksum comes before the parser, which takes damage for Python.
        if table < start or zlib.crc32(raw[table : table + 4 * count], zlib.crc32(raw[:start])) != total:
            raise self._damaged("its header or table of checksums changed")
        try:
            stream = io.BytesIO(raw[:start])
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise ValueError("version")
            shape, _, kind = np.lib.format.read_array_header_1_0(stream)
        except ValueError:
            raise self._damaged("its header cannot be read") from None
        if start + kind.itemsize * int(np.prod(shape, dtype=np.int64)) != table:
            raise self._damaged("its size is not that of its header")
        self._sums = np.frombuffer(raw, "<u4", count, table)
        self._data = np.frombuffer(raw, kind, (table - start) // kind.itemsize, start).reshape(shape)
        self._bytes = memoryview(raw)[start:table]
        self._seen = np.zeros(count, bool)
        self._row = kind.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        self.shape, self.dtype = shape, kind

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: slice | np.ndarray | list[int]) -> np.ndarray:
        """The rows of a slice (a view, step 1) or of row numbers (a copy), after their blocks were checked."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                raise ValueError("a slice of a checked array has step 1")
            if stop > start:
                self._check(np.arange(start // self._each, (stop - 1) // self._each + 1))
            return self._data[start:stop]
        at = np.asarray(rows, np.int64)
        if len(at):
            self._check(np.unique(at // self._each))
        return self._data[at]

    def _check(self, blocks: np.ndarray) -> None:
        size = self._each * self._row
        for block in blocks[~self._seen[blocks]].tolist():
            if zlib.crc32(self._bytes[block * size : (block + 1) * size]) != self._sums[block]:
                raise self._damaged(f"the block of rows {block * self._each} and on changed")
            self._seen[block] = True

    def whole(self) -> np.ndarray:
        """Everything, after all of it was checked."""
        return self[:]

    def unchecked(self) -> np.ndarray:
        """The mapped array itself, for code that calls :meth:`touch` on what it reads."""
        return self._data

    def touch(self, rows: np.ndarray) -> None:
        """Check the blocks of these row numbers."""
        if len(rows):
            self._check(np.unique(np.asarray(rows, np.int64) // self._each))

    def _damaged(self, what: str) -> ArtifactError:
        return ArtifactError(f"{self.path}: damaged ({what}); nothing was changed; {self._remedy}")

"""Byte streams as people have them: a file or standard input, plain or gz, bz2, xz, zstd by its first bytes.

A stream that is damaged, ends early or expands as no text does is a :class:`~nlpkit.errors.DataError` that names
the file, never a silent end of the text.
"""

import bz2
import gzip
import io
import lzma
import re
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nlpkit.errors import DataError, NothingToRead

MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
MAGIC_OF = {name: magic for magic, name in MAGIC}
SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
BLOCK = 1 << 18
RATIO = 256  # times its size that a compressed stream may expand to (the most repetitive logs: about 100)
HELD = 1 << 25  # bytes (32 MiB) that it may expand to at any ratio
WINDOW = 1 << 27  # bytes that a decompressor may look back (128 MiB)
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # a frame of zstd that holds no data
_TOOL = {"gzip": "gzip -dc", "bzip2": "bzip2 -dc", "xz": "xz -dc", "zstd": "zstd -dc"}


class _Rejoined(io.RawIOBase):
    """The bytes already taken from a stream, then the rest of it."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self.head, self.rest = head, rest
        self.take = getattr(rest, "read1", rest.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.head or self.take(len(buffer))
        self.head = data[len(buffer) :]
        data = data[: len(buffer)]
        buffer[: len(data)] = data
        return len(data)


class _Unpacked(io.RawIOBase):
    """The decompressed bytes of one or more members (gz), streams (bz2, xz) or frames (zstd) in a row.

    Unlike the libraries' own readers it notices that the last one is cut off and that something else follows, and
    it refuses a bomb before any of it is delivered: what stands for more than :data:`RATIO` times its size is held
    back, and once that is over :data:`HELD` bytes it is an error.
    """

    def __init__(self, source: Any, kind: str) -> None:
        self.source, self.kind = source, kind
        self.unit = _unit(kind)
        self.step = 1 << (10 if kind == "zstd" else 13)  # 4 bytes of zstd can stand for 128 KiB
        self.bounded = kind in ("bzip2", "xz")  # a piece of these says whether it wants more input
        self.left, self.inside, self.first = b"", False, True
        self.taken = self.made = 0
        self.held: deque[bytes] = deque()
        self.view = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.view:
            self.view = memoryview(self._next())
        size = min(len(self.view), len(buffer))
        buffer[:size] = self.view[:size]
        self.view = self.view[size:]
        return size

    def _next(self) -> bytes:
        """The next piece; empty at the end of the stream."""
        while not self.held or self.made > RATIO * self.taken:
            piece = self._piece()
            if not piece:
                break
            self.held.append(piece)
            self.made += len(piece)
            if self.made > max(HELD, RATIO * self.taken):
                raise _Bomb(self.taken)
        return self.held.popleft() if self.held else b""

    def _piece(self) -> bytes:
        """What the next bytes of the source stand for; empty at the end of the stream."""
        while True:
            waiting = self.bounded and self.inside and not self.unit.needs_input
            chunk = b"" if waiting else self.left or self.source.read1(self.step)
            self.taken += 0 if self.left else len(chunk)
            self.left = b""
            if not chunk and not waiting:
                if self.inside:
                    raise EOFError("cut off")
                return b""
            if not self.inside and not self._begins(chunk):
                continue
            if self.left:
                chunk, self.left = self.left, b""
            piece: bytes = self.unit.decompress(chunk, BLOCK) if self.bounded else self.unit.decompress(chunk)
            self.inside, self.first = True, False
            if self.unit.eof:
                self.left, self.inside, self.unit = self.unit.unused_data, False, _unit(self.kind)
            if piece:
                return piece

    def _begins(self, chunk: bytes) -> bool:
        """Whether a member begins here, after zeros that fill a block; it is left in ``left`` from its first byte."""
        if self.first:
            return True
        rest = chunk.lstrip(b"\0") if self.kind in ("gzip", "xz") else chunk
        if not rest:
            return False
        magic = MAGIC_OF[self.kind]
        while len(rest) < len(magic) and (more := self.source.read1(self.step)):
            rest += more
            self.taken += len(more)
        if not rest.startswith(magic) and not (self.kind == "zstd" and _SKIPPABLE.match(rest)):
            raise EOFError("something else follows its end")
        self.left = rest
        return True


def _unit(kind: str) -> Any:
    """What decompresses one member, with a bound on the memory that a header can ask for."""
    if kind == "gzip":
        return zlib.decompressobj(31)
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    if kind == "xz":
        return lzma.LZMADecompressor(memlimit=2 * WINDOW)
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()


class _Bomb(Exception):
    """A stream that expands as text does not; the number of bytes it took to say so."""


def kind_of(head: bytes) -> str | None:
    """The compression that begins with these bytes.

    >>> kind_of(gzip.compress(b"x")), kind_of(b"plain")
    ('gzip', None)
    """
    return next((name for magic, name in MAGIC if head.startswith(magic)), None)


@contextmanager
def reading(path: Path | None) -> Iterator[IO[bytes]]:
    """The decompressed bytes of a file, or of standard input for ``None``.

    :raises NothingToRead: standard input is a terminal or closed.
    :raises DataError: the compressed data is damaged or ends early.
    """
    name = "standard input" if path is None else str(path)
    source: Any = standard_input() if path is None else open(path, "rb")
    compression = None
    try:
        head = source.read(6)
        compression = kind_of(head)
        joined: IO[bytes] = io.BufferedReader(_Rejoined(head, source), BLOCK)
        yield _decompressed(joined, compression)
    except _Bomb as error:
        raise DataError(
            f"{name}: {error.args[0]:,} bytes of {compression} expand to over {RATIO} times their size and over "
            f"{HELD >> 20} MiB, as text does not; if it is meant, pipe it in ({_TOOL[str(compression)]} {name} | …)"
        ) from error
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(name, compression, error) from error
    except OSError as error:
        if error.errno is not None or compression is None:
            raise
        raise _damaged(name, compression, error) from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise _damaged(name, compression, error) from error
    finally:
        if path is not None:
            source.close()


def _decompressed(source: IO[bytes], compression: str | None) -> IO[bytes]:
    return source if compression is None else io.BufferedReader(_Unpacked(source, compression), BLOCK)


def _damaged(name: str, compression: str | None, error: Exception) -> DataError:
    if compression is None:
        return DataError(f"{name}: {error}")
    reason = str(error).split("\n")[0].lower() or "cut off"
    return DataError(f"{name}: damaged or cut-off {compression} data ({reason}); restore it from its source")


def standard_input() -> IO[bytes]:
    """The bytes of standard input; nothing to read when it is a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        raise NothingToRead("nothing to read: name a file, or pipe text in")
    return sys.stdin.buffer


@contextmanager
def compressed(file: IO[bytes], path: Path | None) -> Iterator[IO[bytes]]:
    """``file`` as it is, or a stream that compresses into it when ``path`` ends in .gz, .bz2, .xz or .zst."""
    suffix = path.suffix.lower() if path is not None else ""
    if suffix == ".zst":
        import zstandard

        out: Any = zstandard.ZstdCompressor(write_checksum=True).stream_writer(file, closefd=False)
    elif suffix == ".gz":
        out = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
    elif suffix == ".bz2":
        out = bz2.BZ2File(file, "wb")
    elif suffix == ".xz":
        out = lzma.LZMAFile(file, "wb")
    else:
        yield file
        return
    with out:
        yield out

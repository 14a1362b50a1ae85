"""Byte streams as people have them: a file or standard input, plain or gz, bz2, xz, zstd by its first bytes.

A stream that is damaged or ends early is a :class:`~nlpkit.errors.DataError` that names the file, never a silent
end of the text.
"""

import bz2
import gzip
import io
import lzma
import sys
import zlib
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
SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
BLOCK = 1 << 18


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


class _Zstd(io.RawIOBase):
    """Decompressed zstd frames; unlike the library's reader it notices that the last frame is cut off."""

    STEP = 1 << 10  # a block of 4 bytes can stand for 128 KiB, so small bites bound the memory of a bomb

    def __init__(self, source: IO[bytes]) -> None:
        import zstandard

        self.make = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj
        self.source, self.unit, self.ready, self.left, self.inside = source, self.make(), b"", b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready:
            chunk = self.left or self.source.read(self.STEP)
            if not chunk:
                if self.inside:
                    raise EOFError("cut off")
                return 0
            self.left, self.inside = b"", True
            self.ready = self.unit.decompress(chunk)
            if self.unit.eof:
                self.left, self.inside = self.unit.unused_data, False
                self.unit = self.make()
        data = self.ready[: len(buffer)]
        self.ready = self.ready[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


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
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
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
    raw: Any
    if compression == "gzip":
        raw = gzip.GzipFile(fileobj=source)
    elif compression == "bzip2":
        raw = bz2.BZ2File(source)
    elif compression == "xz":
        raw = lzma.LZMAFile(source)
    elif compression == "zstd":
        raw = _Zstd(source)
    else:
        return source
    return io.BufferedReader(raw, BLOCK)


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

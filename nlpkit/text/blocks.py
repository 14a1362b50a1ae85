"""Lines in bulk: a byte stream cut into blocks that end where a line ends, and the plain reading of one block.

Bulk work looks at whole blocks and so must agree, byte for byte, with
:func:`~nlpkit.text.documents.decoded_lines`. What a block cannot show (bytes that are not UTF-8, lines over the
limit) is therefore given back to that function.
"""

import codecs
from collections.abc import Iterator
from io import BytesIO
from typing import IO, Any

from nlpkit.text.documents import LIMIT, Counts, decoded_lines

BLOCK = 1 << 21  # bytes that bulk encoding takes at a time
SMALL = 1 << 19  # bytes of text; below, an engine's start costs more than it saves
_BOM = b"\xef\xbb\xbf"
_PIECE = 1 << 16


def _decodable(data: bytes) -> bool:
    """Whether ``data`` is UTF-8, seen piece by piece: the whole as characters would be several times the memory."""
    view, at = memoryview(data), 0
    try:
        while at < len(view):
            at += codecs.utf_8_decode(view[at : at + _PIECE], "strict", at + _PIECE >= len(view))[1]
    except UnicodeDecodeError:
        return False
    return True


class Remainder:
    """The rest of a stream from a line's beginning, for a line that is too long to be a block."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self.head, self.rest = BytesIO(head), rest

    def readline(self, size: int) -> bytes:
        """The next line, or ``size`` bytes of it."""
        line = self.head.readline(size)
        if line.endswith(b"\n") or len(line) == size:
            return line
        more: bytes = self.rest.readline(size - len(line))
        return line + more


class Block:
    """Whole lines (``data``; the last of a stream may lack its end), after ``before`` lines of the same stream."""

    __slots__ = ("before", "data")

    def __init__(self, data: bytes | Remainder, before: int) -> None:
        self.data, self.before = data, before

    def clean(self) -> bytes | None:
        """The lines as UTF-8 without a byte-order mark; None when only the plain reading can tell what they are."""
        if isinstance(self.data, Remainder):
            return None
        data = self.data
        if not data.isascii():
            if not self.before:
                data = data.removeprefix(_BOM)
            if not _decodable(data):
                return None
        return data

    def lines(self, name: str, errors: str, counts: Counts) -> Iterator[str]:
        """The texts of the lines as :func:`decoded_lines` reads them, counted and complained about alike."""
        # Blank lines stand for the lines before: they keep a byte-order mark special to the first line only, and
        # let a complaint have the right number.
        blank = self.before if errors == "strict" else min(self.before, 1)
        if isinstance(self.data, Remainder):
            file: Any = Remainder(b"\n" * blank + self.data.head.read(), self.data.rest)
        else:
            file = BytesIO(b"\n" * blank + self.data)
        for number, line in enumerate(decoded_lines(file, name, errors, counts)):
            if number >= blank:
                yield line.removesuffix("\n")


def line_blocks(
    file: IO[bytes], size: int, *, numbered: bool = False, prompt: bool = False
) -> Iterator[Block]:
    """Blocks of about ``size`` bytes; with ``prompt`` smaller ones, as soon as a pipe has given some lines.

    Without ``numbered`` the lines before a block are not counted but taken for one, which saves a pass.
    """
    take: Any = getattr(file, "read1", file.read) if prompt else file.read
    held: list[bytes] = []  # the pieces of a line whose end was not met yet
    waiting = before = 0
    while data := take(size):
        cut = data.rfind(b"\n") + 1
        first = data.find(b"\n") + 1
        if waiting + (first or len(data)) > LIMIT // 2:
            yield Block(Remainder(b"".join(held) + data, file), before)  # type: ignore[arg-type]
            return
        if not cut:
            held.append(data)
            waiting += len(data)
            continue
        whole = b"".join((*held, data[:cut])) if held or cut < len(data) else data
        held = [data[cut:]] if cut < len(data) else []
        waiting = len(data) - cut
        yield Block(whole, before)
        before = before + whole.count(b"\n") if numbered else 1
    if held:
        yield Block(b"".join(held), before)


def ordinary(blocks: Iterator[Block], last: list[Block]) -> Iterator[Block]:
    """The blocks of whole lines; a line too long to be a block, which nothing follows, goes to ``last``."""
    for block in blocks:
        if isinstance(block.data, bytes):
            yield block
        else:
            last.append(block)

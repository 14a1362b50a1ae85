"""Recipes that do to a text what they do to its tokens, and the lines of large sources standardized by them in bulk.

Nothing heavy is imported until a source turns out to be large.
"""

import re
from collections.abc import Callable, Iterator
from itertools import chain, pairwise

from nlpkit.text.blocks import Block, line_blocks, ordinary
from nlpkit.text.compression import reading
from nlpkit.text.documents import Counts, Source
from nlpkit.text.line_workers import Workers, can_fork, processors
from nlpkit.text.long_texts import LONG, pieces
from nlpkit.text.recipe import FORMS, PLAIN, WITH_ARGUMENT, Recipe
from nlpkit.text.standardize import Standardizer

BULK = 1 << 22  # bytes of input after which compiling the loops of the table pays
MARK = "\x7f"  # stands between tokens; a control character that no step touches
_SHARED = 1 << 25  # and after which other processes pay, each with a table of its own
_BLOCK = 1 << 18
_FOREIGN = re.compile(rb"[\x80-\xff][^ \n]*")
_CHARACTERS = {*FORMS, "lower", "casefold", "strip-accents", "strip-punct", "strip-digits"}
_TOKEN_WISE = _CHARACTERS | {"strip-urls"}
_JOINING = ("collapse-space", *WITH_ARGUMENT)


def token_wise(recipe: Recipe) -> bool:
    """Whether a recipe does to a text what it does to its tokens, joined by single spaces.

    >>> token_wise(Recipe.DEFAULT), token_wise(Recipe(("strip-html", "lower", "collapse-space")))
    (True, False)
    """
    names = [step.partition(":")[0] for step in recipe.steps]
    order = (*PLAIN, *WITH_ARGUMENT)
    usual = all(order.index(a) < order.index(b) for a, b in pairwise(names))
    allowed = set(names) <= _TOKEN_WISE | set(_JOINING)
    if not (names and usual and allowed and names[-1] in _JOINING):
        return False
    mark = mark_of(recipe)
    return Standardizer(recipe)(f"{mark} {mark}") == f"{mark} {mark}"


def mark_of(recipe: Recipe) -> str:
    """A word that the recipe keeps as it is."""
    least = max((int(s.partition(":")[2]) for s in recipe.steps if s.startswith("min-length:")), default=1)
    return MARK * max(1, least)


def ascii_map(recipe: Recipe) -> bytes | None:
    """(256,): the byte that a recipe's steps on characters make of each byte of ASCII text; others themselves.

    None when some step looks at more than a character (addresses, mark-up). Words are left to the steps on words.

    >>> map = ascii_map(Recipe(("nfkc", "lower", "strip-punct", "stem:en")))
    >>> b"Walking, Tom!".translate(map)
    b'walking  tom '
    """
    steps = [step for step in recipe.steps if step.partition(":")[0] not in _JOINING]
    if not set(steps) <= _CHARACTERS:
        return None
    run = Standardizer(Recipe(tuple(steps)))
    made = "".join(run(chr(code)) for code in range(128))
    return made.encode() + bytes(range(128, 256)) if len(made) == 128 and made.isascii() else None


def line_wise(recipe: Recipe) -> bool:
    """Whether a recipe does to several lines at once what it does to each, line ends included.

    >>> line_wise(Recipe(("nfkd", "lower"))), line_wise(Recipe.DEFAULT)
    (True, False)
    """
    return set(recipe.steps) <= _TOKEN_WISE


class _LineWise:
    """Whole blocks of lines by a recipe that is :func:`line_wise`; ASCII by a table of bytes where there is one."""

    def __init__(self, run: Standardizer) -> None:
        self.run = run
        self.map = ascii_map(run.recipe)

    def __call__(self, data: bytes) -> tuple[bytes, int]:
        """The standardized lines and their number."""
        data = data.replace(b"\r\n", b"\n")
        if data and not data.endswith(b"\n"):
            data += b"\n"
        lines = data.count(b"\n")
        if self.map is None:
            return self.run(data.decode()).encode(), lines
        if data.isascii():
            return data.translate(self.map), lines
        # No step looks across a space: words that hold more than ASCII are done together, the rest by the table.
        ascii_parts, words = [], []
        at = 0
        for match in _FOREIGN.finditer(data):
            begin = match.start()
            begin = max(data.rfind(b" ", at, begin), data.rfind(b"\n", at, begin), at - 1) + 1
            ascii_parts.append(data[at:begin])
            at = match.end()
            words.append(data[begin:at])
            if len(words) > len(data) // 64:
                return self.run(data.decode()).encode(), lines
        ascii_parts.append(data[at:])
        made = b"\xff".join(ascii_parts).translate(self.map).split(b"\xff")
        foreign = [*self.run(b"\n".join(words).decode()).encode().split(b"\n"), b""]
        return b"".join(chain.from_iterable(zip(made, foreign, strict=True))), lines


class BulkLines:
    """Standardizes the lines of sources, by ``jobs`` processes where a source is large (None: all processors).

    ``line`` makes a line of output of a line of text, for what is more than the standardized text.
    """

    def __init__(
        self, run: Standardizer, jobs: int | None = 1, line: Callable[[str], bytes] | None = None
    ) -> None:
        self.run, self.line = run, line or self._line
        self.jobs = (processors() if jobs is None else jobs) if can_fork() else 1
        self.at_once: Callable[[bytes], tuple[bytes, int] | None] | None = None
        self.tabled = line is None and token_wise(run.recipe)
        if line is None and line_wise(run.recipe):
            self.at_once = _LineWise(run)
        self.workers: Workers | None = None

    def __enter__(self) -> "BulkLines":
        return self

    def __exit__(self, *_: object) -> None:
        if self.workers is not None:
            self.workers.close()

    def __call__(self, source: Source, errors: str, counts: Counts) -> Iterator[tuple[bytes, int]]:
        """The standardized lines of a text source, each with its line end, in pieces with their number of lines.

        The beginning is done plainly unless the source is a large file, so that a pipe sees output at once and
        small input pays for no compiler and no process.
        """
        size = source.path.stat().st_size if source.path is not None and source.path.is_file() else 0
        with reading(source.path) as file:
            blocks = line_blocks(file, _BLOCK, numbered=errors == "strict", prompt=True)
            seen = 0
            for block in blocks:
                if isinstance(block.data, bytes):
                    seen += len(block.data)
                    if self.jobs > 1 and max(size, seen) >= (_SHARED if self.tabled else BULK):
                        yield from self._shared(chain([block], blocks), source.name, errors, counts)
                        return
                yield from self._pieces(block, source.name, errors, counts, max(size, seen) >= BULK)

    def _line(self, text: str) -> bytes:
        made = self._in_pieces(text) if self.tabled and len(text) > LONG else None
        return ((self.run(text) if made is None else made) + "\n").encode("utf-8", "replace")

    def _in_pieces(self, text: str) -> str | None:
        """A long text by its words a piece at a time, which bounds the memory; None when a word is too long."""
        parts = list(pieces(text))
        if any(cut for _, cut in parts):
            return None
        return " ".join(filter(None, (self.run(part) for part, _ in parts)))

    def _shared(
        self, blocks: Iterator[Block], name: str, errors: str, counts: Counts
    ) -> Iterator[tuple[bytes, int]]:
        if self.workers is None:
            self.workers = Workers(self._whole, self.jobs)
        last: list[Block] = []
        yield from self.workers(ordinary(blocks, last), name, errors, counts)
        for block in last:
            yield from self._pieces(block, name, errors, counts, bulk=True)

    def _whole(self, block: Block, name: str, errors: str, counts: Counts) -> tuple[bytes, int]:
        pieces = list(self._pieces(block, name, errors, counts, bulk=True))
        return b"".join(data for data, _ in pieces), sum(lines for _, lines in pieces)

    def _pieces(
        self, block: Block, name: str, errors: str, counts: Counts, bulk: bool
    ) -> Iterator[tuple[bytes, int]]:
        if bulk and self.tabled and self.at_once is None:
            from nlpkit.text.token_table import TokenTable

            self.at_once = TokenTable(self.run)
        data = block.clean()
        done = self.at_once(data) if bulk and self.at_once is not None and data is not None else None
        if done is not None:
            yield done
        elif data:
            for text in data.decode().replace("\r\n", "\n").removesuffix("\n").split("\n"):
                yield self.line(text), 1
        elif data is None:
            for text in block.lines(name, errors, counts):
                yield self.line(text), 1

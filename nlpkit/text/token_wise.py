"""Recipes that do to a text what they do to its tokens, and the lines of large sources standardized by them in bulk.

Nothing heavy is imported until a source turns out to be large.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from nlpkit.text.blocks import Block, line_blocks
from nlpkit.text.compression import reading
from nlpkit.text.documents import Counts, Source
from nlpkit.text.recipe import FORMS, PLAIN, WITH_ARGUMENT, Recipe
from nlpkit.text.standardize import Standardizer

if TYPE_CHECKING:
    from nlpkit.text.token_table import TokenTable

BULK = 1 << 22  # bytes of input after which compiling the loops of the table pays
MARK = "\ue000"  # stands between tokens; a private character that no step touches
_BLOCK = 1 << 18
_TOKEN_WISE = {*FORMS, "strip-urls", "lower", "casefold", "strip-accents", "strip-punct", "strip-digits"}
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


class BulkLines:
    """Standardizes the lines of sources; the token table is made when the first large one is met."""

    def __init__(self, run: Standardizer) -> None:
        self.run = run
        self.table: TokenTable | None = None

    def __call__(self, source: Source, errors: str, counts: Counts) -> Iterator[tuple[bytes, int]]:
        """The standardized lines of a text source, each with its line end, in pieces with their number of lines.

        The beginning is done plainly unless the source is a large file, so that a pipe sees output at once and
        small input pays for no compiler.
        """
        bulk = source.path is not None and source.path.is_file() and source.path.stat().st_size >= BULK
        seen = 0
        with reading(source.path) as file:
            for block in line_blocks(file, _BLOCK, numbered=errors == "strict", prompt=True):
                data = block.clean()
                seen += len(data or b"")
                done = self._tabled(data) if data is not None and (bulk or seen >= BULK) else None
                if done is not None:
                    yield done
                else:
                    yield from _plain(block, self.run, source.name, errors, counts)

    def _tabled(self, data: bytes) -> tuple[bytes, int] | None:
        if self.table is None:
            from nlpkit.text.token_table import TokenTable

            self.table = TokenTable(self.run)
        return self.table(data)


def _plain(
    block: Block, run: Standardizer, name: str, errors: str, counts: Counts
) -> Iterator[tuple[bytes, int]]:
    for line in block.lines(name, errors, counts):
        yield (run(line) + "\n").encode("utf-8", "replace"), 1

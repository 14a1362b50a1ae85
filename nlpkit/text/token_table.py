"""Standardizing text in bulk: every distinct token is standardized once, and lines are put together from the results.

S slots of the table (a power of two), V distinct tokens, N bytes of a block, W tokens and line ends of it.

Text is some hundred thousand tokens said again and again. A compiled loop splits a block into tokens, looks them up
and writes the numbers of the known; the new ones go through the plain :class:`~nlpkit.text.standardize.Standardizer`
in one piece; a second loop writes the output. The result is the plain one byte for byte, because every step that
:func:`~nlpkit.text.token_wise.token_wise` allows treats a text as it treats its parts between spaces: normal forms
and case do not look across a space, no address holds one, and the last step joins words by one space.

Between two spaces that hold nothing but ASCII even more is known: no character looks at another. So there a character
that the recipe makes a space ends a token, and letters are looked up by what the recipe makes of them.
"""

import numpy as np

from nlpkit.text.standardize import Standardizer
from nlpkit.text.token_numbers import END, TokenNumbers, longer, named, runs_of, spaces
from nlpkit.text.token_wise import MARK, ascii_map, mark_of

_SLOTS = 1 << 20  # half of them can be taken before the table is emptied
_LONGEST = 1 << 23  # bytes of a block; what is longer is one long line
_ARENA = 1 << 25  # bytes of tokens, or of results, before the table is emptied
_GIVE_UP = 8  # blocks that the table could not do, or not fast, before it is left alone


class TokenTable:
    """Lines of UTF-8 to standardized lines, for a recipe that is :func:`~nlpkit.text.token_wise.token_wise`.

    The table is emptied when it has grown to its bounds, so the process stays below about 250 MB whatever the text is.
    """

    def __init__(self, run: Standardizer) -> None:
        self.run = run
        self._mark = mark_of(run.recipe)
        self._failed = 0
        wide = spaces()
        narrow = wide.copy()
        narrow[128:] = END  # here the loop goes back and takes the wide way
        mapped = ascii_map(run.recipe)
        if mapped is not None:
            made = np.frombuffer(mapped, np.uint8)[:128]
            narrow[:128] = np.where((made == 32) | (wide[:128] == END), END, made)
        self._numbers = TokenNumbers(np.stack([narrow, wide]), f" {self._mark} ", _SLOTS)
        self.clear()

    def clear(self) -> None:
        """Forget all tokens."""
        self._numbers.clear()
        self._places = np.zeros(_SLOTS // 2, np.int64)  # (V,): where a token's result is in the results
        self._results = np.zeros(1 << 20, np.uint8)
        self._made = 0

    def __call__(self, data: bytes) -> tuple[bytes, int] | None:
        """The standardized lines and their number; None when only the plain way can do these lines."""
        if data and not data.endswith(b"\n"):
            data += b"\n"
        most = len(data) // 2  # tokens that these bytes can hold
        if self._failed >= _GIVE_UP or len(data) > _LONGEST:
            return None
        numbers = self._numbers
        if numbers.count + most > _SLOTS // 2 or max(numbers.used, self._made) > _ARENA:
            if most > _SLOTS // 2:
                return None
            self.clear()
        known, used = numbers.count, numbers.used
        stream = numbers(data)
        if numbers.count > known and not self._standardize(known, used):
            self.clear()
            self._failed += 1
            return None
        if 2 * (numbers.count - known) > len(stream):
            self._failed += 1  # hardly any token comes again: the plain way is the faster one
        return named(stream, self._places, self._results)

    def _standardize(self, known: int, used: int) -> bool:
        """The results of the new tokens; False when what came back cannot be told apart."""
        tokens = self._numbers.since(known, used)
        if tokens is None:
            return False
        count = len(tokens)
        # Text that is all ASCII is standardized faster, so what is not goes by itself.
        plain = [token.isascii() for token in tokens]
        results = self._apart([t for t, is_plain in zip(tokens, plain, strict=True) if is_plain])
        if results is not None and len(results) < count:
            others = self._apart([t for t, is_plain in zip(tokens, plain, strict=True) if not is_plain])
            if others is not None:
                left, right = iter(results), iter(others)
                results = [next(left if is_plain else right) for is_plain in plain]
            else:
                results = None
        if results is None:
            return False
        joined = "".join(results).encode()
        whole = joined.isascii()
        lengths = np.array([len(r) if whole else len(r.encode()) for r in results], np.int64)
        self._places[known : known + count] = runs_of(lengths, self._made)
        self._results = longer(self._results, self._made + len(joined))
        self._results[self._made : self._made + len(joined)] = np.frombuffer(joined, np.uint8)
        self._made += len(joined)
        return True

    def _apart(self, tokens: list[str]) -> list[str] | None:
        """What becomes of each token, by one call; None when it cannot be told."""
        mark = self._mark
        text = f"{mark} " + "".join(f"{token} {mark} " for token in tokens)
        if text.count(MARK) != len(mark) * (len(tokens) + 1):
            return None
        made = self.run(text)
        pieces = made.split(mark)
        # An empty stem would leave two spaces, and could not be told from a token that was removed.
        if (
            len(pieces) != len(tokens) + 2
            or "  " in made
            or made.count(MARK) != len(mark) * (len(tokens) + 1)
        ):
            return None
        return [piece[1:-1] for piece in pieces[1:-1]]

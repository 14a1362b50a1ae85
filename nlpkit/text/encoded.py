"""One encoded text or pair of texts: its ids, what each token belongs to, and the cut to a length, counted.

T tokens of the text after the cut, template and end included. The ``tokenizers`` library could cut too, but it keeps
all that it cuts off, for a pair every combination of both leftovers, and does not say how much that was.
"""

from typing import Any

Spans = list[tuple[int, int] | None]  # for each token the bytes [start, end) of its text, or None


class Encoded:
    """A text as tokens, cut to ``most`` of them, with the id ``end`` put after it where one is given.

    ``cut`` is the number of tokens of the text that were left out.
    """

    __slots__ = ("_end", "_parts", "_raw", "cut")

    def __init__(self, raw: Any, most: int | None = None, end: int | None = None) -> None:
        self._raw, self._end = raw, end
        room = None if most is None else most - (end is not None)
        self.cut = 0 if room is None else max(len(raw) - room, 0)
        self._parts = None if room is None or not self.cut else _kept(raw.sequence_ids, room)

    def _of(self, values: list[Any], last: list[Any]) -> list[Any]:
        if self._parts is not None:
            values = [value for part in self._parts for value in values[part]]
        return values if self._end is None else values + last

    @property
    def ids(self) -> list[int]:
        """Token ids (T)."""
        return self._of(self._raw.ids, [self._end])

    @property
    def type_ids(self) -> list[int]:
        """What a model's segment embedding is fed (T): as the template says, usually 0 in the first part, else 1.

        Without a template the parts.
        """
        parts = self._raw.sequence_ids
        kinds: list[int] = self._raw.type_ids if None in parts else parts
        return self._of(kinds, kinds[-1:] or [0])

    @property
    def parts(self) -> list[int | None]:
        """The part of the pair that each token is from (T): 0 or 1; None for tokens that stand for no text."""
        return self._of(self._raw.sequence_ids, [None])

    @property
    def words(self) -> list[int | None]:
        """The piece of the text, as it was cut before the vocabulary was asked, that each token is from (T)."""
        return self._of(self._raw.word_ids, [None])

    @property
    def characters(self) -> list[tuple[int, int]]:
        """The characters ``[start, end)`` of its part that each token was made of (T); (0, 0) where there are none.

        Zeros throughout when the text was encoded without offsets.
        """
        return self._of(self._raw.offsets, [(0, 0)])


def _kept(parts: list[int | None], room: int) -> list[slice]:
    """The runs of tokens that stay when so many have room: each part loses its end, the template nothing."""
    sizes = (parts.count(0), parts.count(1))
    first, second = _shares(*sizes, room - (len(parts) - sum(sizes)))
    runs, at = [], 0
    for part, size, share in ((0, sizes[0], first), (1, sizes[1], second)):
        if size:
            begin = parts.index(part)
            runs.append(slice(at, begin + share))
            at = begin + size
    return [*runs, slice(at, len(parts))]


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each part stay: the longer one loses tokens until both are equal, then both do.

    >>> _shares(10, 3, 8), _shares(3, 10, 8), _shares(10, 10, 7), _shares(10, 0, 7)
    ((5, 3), (3, 5), (3, 4), (7, 0))
    """
    short = min(first, second, room // 2)
    return (room - short, short) if first > second else (short, room - short)

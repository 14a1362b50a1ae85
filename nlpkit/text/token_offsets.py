"""Where tokens lie: spans of bytes in the raw UTF-8 text, also through a recipe that stands before the tokenizer.

T tokens of a text, C characters of the text that the tokenizer was given.

A span covers whole characters: byte-level tokens that are parts of one character have its span in common, and so have
tokens that a normalizer made of one character (½ gives 1, ⁄ and 2). A token that stands for no text has none.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from itertools import accumulate

from nlpkit.text.encoded import Encoded, Spans
from nlpkit.text.standardize import Standardizer
from nlpkit.text.standardize_offsets import with_offsets
from nlpkit.text.tokenizer import Tokenizer

_WORD = re.compile(r"\S+")
_PREFIX = "▁"  # what SentencePiece puts before a text (Kudo and Richardson 2018)


class Places:
    """The bytes of a raw text that the characters of the text given to the tokenizer come from.

    ``text`` is what the tokenizer is given: the raw text, or what ``recipe`` makes of it.
    """

    def __init__(self, raw: str, recipe: Standardizer | None = None) -> None:
        if recipe is None:
            self.text = raw
            self._starts = self._ends = _byte_places(raw)
        else:
            self.text = recipe(raw)
            self._starts, self._ends = _through(recipe, raw, self.text)

    def spans(self, characters: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The bytes ``[start, end)`` of the raw text for characters ``[start, end)`` of the given one."""
        starts, ends = self._starts, self._ends
        if isinstance(starts, range):
            return characters  # a character is a byte
        if starts is ends:
            return [(starts[a], ends[b]) for a, b in characters]
        return [
            (starts[a], max(starts[a], ends[b])) for a, b in characters
        ]  # what has no characters is empty


def byte_spans(encoded: Encoded, tokenizer: Tokenizer, places: Sequence[Places]) -> Spans:
    """For each token (T) the ``[start, end)`` bytes of its part's raw text; None for special tokens added to it.

    ``places`` are those of the text, and of its pair where it has one.
    """
    ids, characters, parts = encoded.ids, encoded.characters, encoded.parts
    made: Spans = [None] * len(parts)
    for part, place in enumerate(places):
        if part not in parts:
            continue
        begin = parts.index(part)
        run = characters[begin : begin + parts.count(part)]
        if [start for start, _ in run[:2]] == [0, 0] and tokenizer.id_to_token(ids[begin]) == _PREFIX:
            run[0] = (0, 0)  # the library lends the prefix, which is not in the text, the first character
        made[begin : begin + len(run)] = place.spans(run)
    return made


def _byte_places(text: str) -> Sequence[int]:
    """The byte at which each character begins (C + 1).

    >>> list(_byte_places("aé日"))
    [0, 1, 3, 6]
    """
    if text.isascii():
        return range(len(text) + 1)
    sizes = (1 if c < "\x80" else 2 if c < "\u0800" else 3 if c < "\U00010000" else 4 for c in text)
    return list(accumulate(sizes, initial=0))


def _through(recipe: Standardizer, raw: str, text: str) -> tuple[list[int], list[int]]:
    """For each place (C + 1) in ``text``, made of ``raw``: the byte of ``raw`` where what begins, or ends, there does.

    A place between words begins the next and ends the one before.
    """
    data = raw.encode()
    words = [match.span() for match in _WORD.finditer(text)]
    origins = with_offsets(recipe, raw)
    assert [text[a:b] for a, b in words] == [word for word, _, _ in origins]
    starts, ends = [len(data)] * (len(text) + 1), [0] * (len(text) + 1)
    before, byte = 0, 0  # where the word before ends
    for n, ((a, b), (word, first, last)) in enumerate(zip(words, origins, strict=True)):
        starts[before : a + 1] = [first] * (a + 1 - before)
        ends[before : a + 1] = [byte] * (a + 1 - before)
        if first < byte or (n + 1 < len(origins) and origins[n + 1][1] < last):
            # Bytes that several words come from: no word knows which of them are its own.
            begins, stops = [0] * len(word), [last - first] * len(word)
        else:
            begins, stops = _inside(word, data[first:last].decode())
        starts[a:b] = [first + place for place in begins]
        ends[a + 1 : b + 1] = [first + place for place in stops]
        before, byte = b, last
    starts[before:] = [byte if words else 0] * (len(text) + 1 - before)
    ends[before:] = [byte] * (len(text) + 1 - before)
    return starts, ends


def _inside(word: str, source: str) -> tuple[list[int], list[int]]:
    """The byte of ``source`` at which each character of the standardized ``word`` begins, and at which it ends.

    Characters that agree from either end (case and accents aside) stand for one another; what is between them is
    one piece.

    >>> _inside("r&d", "R&amp;D"), _inside("3½x", "3 1/2x")
    (([0, 1, 6], [1, 6, 7]), ([0, 1, 5], [1, 5, 6]))
    """
    shorter = min(len(word), len(source))
    head = next((i for i in range(shorter) if _bare(word[i]) != _bare(source[i])), shorter)
    rest = shorter - head
    tail = next((i for i in range(rest) if _bare(word[-1 - i]) != _bare(source[-1 - i])), rest)
    later = len(source) - len(word)  # how much further back a character of the tail is
    begins = [i + later if i >= len(word) - tail else min(i, head) for i in range(len(word))]
    stops = [i + later if i >= len(word) - tail else i if i <= head else len(source) - tail
             for i in range(1, len(word) + 1)]  # fmt: skip
    at = _byte_places(source)
    return [at[i] for i in begins], [at[i] for i in stops]


@functools.lru_cache(maxsize=4096)
def _bare(character: str) -> str:
    folded = unicodedata.normalize("NFKD", character.casefold())
    return "".join(c for c in folded if unicodedata.category(c) != "Mn")

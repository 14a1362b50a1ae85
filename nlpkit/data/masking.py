"""Which tokens a masked model is asked for, and what it sees in their place.

Single tokens (Devlin et al. 2019, appendix A.1), whole words (the same authors' later release), or spans of whole
words (Joshi et al. 2020, SpanBERT, section 3.1). The choice and the replacement are made for a whole unit: all
tokens of a word, or of a span, are hidden, replaced or kept together. Letters: B rows, T tokens, V ids, W words.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

SPAN_P, SPAN_MOST = 0.2, 10  # of the geometric lengths of spans, in words
HIGHEST_SPAN_RATE = 0.7  # spans that must not touch cannot hide more
LEAST_SPANS = 64  # drawn, so that their share of the text is near the rate in small batches too
_BYTE_MARK, _SPACE_MARK, _INSIDE_MARK = "Ġ", "▁", "##"
Unit = Literal["token", "word", "span"]


class Vocabulary(Protocol):
    """What a tokenizer says about its ids."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""

    @property
    def kind(self) -> str:
        """bpe, wordpiece, unigram, word or char."""

    def id_to_token(self, id: int) -> str:
        """The token of an id, with its mark."""


def continues(vocabulary: Vocabulary) -> np.ndarray:
    """Whether each id goes on with the word of the token before it, bool (V,), by the tokenizer's own marks.

    ``##`` goes on with a word; where ``▁`` or ``Ġ`` begins words, a token without it goes on when it begins with a
    letter or digit (of other tokens, as punctuation, each is a word). Of a character tokenizer letters and digits go
    on; of a word tokenizer nothing does. Text without spaces (Chinese, Thai) is one word by these marks.
    """
    names = [vocabulary.id_to_token(i) for i in range(vocabulary.vocab_size)]
    kind = vocabulary.kind
    if kind == "word":
        return np.zeros(len(names), bool)
    if kind == "wordpiece":
        return np.array([name.startswith(_INSIDE_MARK) for name in names], bool)
    # A byte of a letter beyond ASCII has a letter's name in byte-level vocabularies, so isalnum is true of it too.
    marked = (_BYTE_MARK, _SPACE_MARK)
    return np.array([name[:1].isalnum() and not name.startswith(marked) for name in names], bool)


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden: ``unit``, the shares ``split`` that become [MASK], become another and stay.

    ``ordinary`` (V,) is False for the specials, which are never asked for; replacements are ids from ``first_word`` up
    to ``vocab_size``; ``inside`` (V,) is :func:`continues` (needed for words and spans).
    """

    unit: Unit
    split: tuple[float, float, float]
    mask_id: int
    ordinary: np.ndarray
    first_word: int
    vocab_size: int
    inside: np.ndarray | None = None

    def __call__(
        self,
        ids: np.ndarray,
        segments: np.ndarray,
        labels: np.ndarray,
        rate: float,
        generator: np.random.Generator,
    ) -> None:
        """Choose, remember in ``labels`` and replace in ``ids``, in place; each int64 (B, T)."""
        ordinary = self.ordinary[ids]
        ordinary &= segments > 0
        if self.unit == "token":
            where, kind = self._tokens(ids, ordinary, rate, generator)
        else:
            where, kind = self._words(ids, ordinary, rate, generator)
        flat = ids.reshape(-1)
        labels.reshape(-1)[where] = flat[where]
        hidden, other = self.split[0], self.split[0] + self.split[1]
        flat[where[kind < hidden]] = self.mask_id
        random = where[(kind >= hidden) & (kind < other)]
        flat[random] = generator.integers(self.first_word, self.vocab_size, len(random))

    def _tokens(
        self, ids: np.ndarray, ordinary: np.ndarray, rate: float, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """(places of the tokens that are asked for, a number in [0, 1) for each)."""
        draw = generator.random(ids.shape, np.float32)
        chosen = ordinary & (draw < rate)
        if not chosen.any() and ordinary.any():
            # A tiny batch: the lowest draw is asked for, so that there is a loss.
            chosen.flat[int(np.where(ordinary, draw, 2.0).argmin())] = True
        where = np.flatnonzero(chosen)
        return where, generator.random(len(where), np.float32)

    def _words(
        self, ids: np.ndarray, ordinary: np.ndarray, rate: float, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same where a word's tokens share the choice and the number (a span's words too)."""
        places, word, first = words_of(ids, ordinary, self.inside)
        n = len(first)
        if not n:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        if self.unit == "word":
            draw = generator.random(n, np.float32)
            chosen = draw < rate
            if not chosen.any():
                chosen[draw.argmin()] = True
            number = generator.random(n, np.float32)
        else:
            chosen, begins = spans(n, rate, generator)
            # A piece of text ends where a special stands between two words: a span does not go on behind it.
            begins |= np.diff(places[first], prepend=-1) != np.diff(first, prepend=-1)
            if not chosen.any():
                chosen[int(generator.integers(n))] = True
            span = np.cumsum(begins | ~chosen) - 1
            number = generator.random(int(span[-1]) + 1, np.float32)[span]
        asked = chosen[word]
        return places[asked], number[word[asked]]


def words_of(
    ids: np.ndarray, ordinary: np.ndarray, inside: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The words of a batch: (places of the ordinary tokens in reading order, the word of each, first of each word).

    A word begins at a token that does not go on with one, and behind every token that is not ordinary.
    """
    if inside is None:
        raise ValueError("whole words need the table of ids that go on with a word")
    places = np.flatnonzero(ordinary)
    begins = ~inside[ids.reshape(-1)[places]]
    begins |= np.diff(places, prepend=-2) != 1
    begins |= places % ids.shape[1] == 0
    word = np.cumsum(begins) - 1
    return places, word, np.flatnonzero(begins)


def span_lengths() -> tuple[np.ndarray, float]:
    """(probabilities of 1 … SPAN_MOST words, their mean): geometric, cut off and scaled to add up to 1; mean 3.80."""
    p = SPAN_P * (1 - SPAN_P) ** np.arange(SPAN_MOST)
    p /= p.sum()
    return p, float(p @ np.arange(1, SPAN_MOST + 1))


def spans(n: int, rate: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(which of ``n`` words are asked for, where a span begins), bool (n,) each; ``rate`` of them on average.

    Spans and gaps take turns: gaps are geometric from 1 word on, with the mean that gives the rate. The line of
    both is longer than the text and begins at a random place, so that every word is asked for equally often.
    """
    p, mean = span_lengths()
    gap = mean * (1 - rate) / rate
    pairs = LEAST_SPANS + int(1.5 * n / (mean + gap))
    lengths = np.empty(2 * pairs, np.int64)
    lengths[0::2] = generator.geometric(1 / gap, pairs)
    lengths[1::2] = np.searchsorted(np.cumsum(p)[:-1], generator.random(pairs), side="right") + 1
    total = int(lengths.sum())
    asked = np.repeat(np.arange(2 * pairs) % 2 == 1, lengths)
    begins = np.zeros(total, bool)
    begins[np.cumsum(lengths)[:-1]] = True
    line = (int(generator.integers(total)) + np.arange(n)) % total
    return asked[line], begins[line] & asked[line]

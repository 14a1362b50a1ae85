"""From word vectors to vectors of a tokenizer's tokens, in the width of a model. Numpy alone.

T tokens, K tokens with a vector, D width of the word vectors, W width of the model.

A token that stands for a whole word behind a space (``Ġrun``, not ``ing`` or ``##ing``) takes the vector of that
word, to which the recipe of the vectors is applied. Another token takes the mean of the vectors of the words that
contain it, weighted by their counts: a word contains a token where the tokenizer cuts it so, with or without a
space before it or a capital. Special tokens, and tokens of no known word, have none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nlpkit.errors import DataError

if TYPE_CHECKING:
    from nlpkit.text.tokenizer import Tokenizer
    from nlpkit.vectors.vectors import Vectors

BLOCK = 4096  # words that are cut into tokens at a time


@dataclass(frozen=True)
class TokenVectors:
    """``rows`` (T, D) float32, zeros where there is none; who is a word itself, and who is part of words: (T,) bool."""

    rows: np.ndarray
    whole: np.ndarray
    part: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """(T,) bool: who has a vector."""
        return self.whole | self.part

    def describe(self) -> str:
        """The coverage, in words."""
        whole, part, tokens = int(self.whole.sum()), int(self.part.sum()), len(self.rows)
        return (
            f"{whole:,} of {tokens:,} tokens are words, {part:,} are parts of words, "
            f"{tokens - whole - part:,} start at random"
        )


def token_vectors(vectors: "Vectors", tokenizer: "Tokenizer") -> TokenVectors:
    """The vectors of the tokens of ``tokenizer``, by id."""
    tokens = tokenizer.vocab_size
    rows, weight = np.zeros((tokens, vectors.width)), np.zeros(tokens)
    for start in range(0, len(vectors.words), BLOCK):
        words = vectors.words[start : start + BLOCK]
        spelled = [" " + w for w in words] + words + [" " + w.capitalize() for w in words]
        spelled += [w.capitalize() for w in words]
        cut = tokenizer.encode(spelled)
        ways = range(0, len(spelled), len(words))
        inside = [sorted({t for way in ways for t in cut[way + i]}) for i in range(len(words))]
        which = np.repeat(np.arange(start, start + len(words)), [len(held) for held in inside])
        ids = np.array([t for held in inside for t in held], np.int64)
        np.add.at(rows, ids, vectors.counts[which, None] * vectors.matrix[which].astype(np.float64))
        np.add.at(weight, ids, vectors.counts[which])
    special = [id for id, token in tokenizer.raw.get_added_tokens_decoder().items() if token.special]
    weight[special] = 0
    rows[weight > 0] /= weight[weight > 0, None]
    rows[weight == 0] = 0
    whole = np.zeros(tokens, bool)
    for id, text in _words(tokenizer):
        if text in vectors:
            whole[id], rows[id] = True, vectors.vector(text)
    return TokenVectors(rows.astype(np.float32), whole, (weight > 0) & ~whole)


def _words(tokenizer: "Tokenizer") -> Iterator[tuple[int, str]]:
    """The tokens that a word on its own, behind a space, is cut into, and that word (never ``##ing``)."""
    shown = tokenizer.raw.decode_batch([[id] for id in range(tokenizer.vocab_size)], skip_special_tokens=True)
    texts = [text.strip() for text in shown]
    for id, cut in enumerate(tokenizer.encode([" " + text for text in texts])):
        if texts[id] and cut == [id]:
            yield id, texts[id]


def in_width(rows: np.ndarray, width: int, std: float, seed: int) -> np.ndarray:
    """Vectors (K, D) for a table of width W whose numbers have the standard deviation ``std``: (K, W) float32.

    Their mean is taken off. Where W is less than D they are turned to their principal axes and the first W are
    kept; else they are placed in W dimensions by a random map that keeps all lengths and angles. One factor for
    all then gives their lengths the root mean square of the table's own, std · √W: a word that stands out from
    the mean goes on to do so.

    :raises DataError: there is nothing to place: fewer than two different rows.
    """
    rows = rows.astype(np.float64)
    rows = rows - rows.mean(axis=0) if len(rows) else rows
    if rows.shape[1] > width:
        axes = np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :width]  # (D, W), the widest first
        axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(width)])
    else:
        draw = np.random.default_rng([seed, rows.shape[1], width])
        axes = np.linalg.qr(draw.standard_normal((width, rows.shape[1])))[0].T
    placed = rows @ axes
    spread = float(np.sqrt(np.mean(placed**2))) if placed.size else 0.0
    if spread == 0:
        raise DataError(
            "the word vectors know fewer than two tokens of the tokenizer; name vectors of its language"
        )
    return (placed * (std / spread)).astype(np.float32)

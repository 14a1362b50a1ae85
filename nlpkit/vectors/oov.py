"""Vectors for words that have none, from the company they keep: à-la-carte induction (Khodak et al. 2018).

V words with a vector, D width, N tokens of a piece of text, W new words. The mean vector of a word's contexts leans
to the directions that all text shares; a matrix A (D, D), learned on words whose vectors are known, undoes it:
v = A · mean over contexts of the sum of their words' vectors, here per word of context.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nlpkit.errors import DataError, NotFound, UsageError
from nlpkit.store import atomic
from nlpkit.text.standardize import Standardizer
from nlpkit.vectors.tensors import writing_tensors
from nlpkit.vectors.vectors import Vectors, append_rows, finish

LEARNED = 50_000  # the most frequent words, on which A is learned
TOKENS = 1 << 14  # of text at a time
RIDGE = 1e-6  # of the mean diagonal: A stays finite where contexts span fewer than D directions


@dataclass(frozen=True)
class Induced:
    """New words, their vectors (W, D), the plain mean of their contexts (W, D), and how often each stood there."""

    words: list[str]
    matrix: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    learned_on: int


def induce(vectors: Vectors, texts: Iterable[str], words: Sequence[str], *, window: int = 10) -> Induced:
    """Vectors for ``words`` from ``texts`` (one pass), in which known words must occur too: A is learned on them.

    A context is ``window`` words on either side, within a text. In learning, a word counts by the logarithm of its
    occurrences (ibid. §3.1, α).

    :raises UsageError: a word has a vector, or is more than one word. :raises NotFound: a word is not in the texts.
    :raises DataError: too few known words in the texts to learn A.
    """
    standardize = Standardizer(vectors.recipe)
    if window < 1:
        raise UsageError(f"--window: expected 1 or more, got {window}")
    new: dict[str, int] = {}
    for given in words:
        word = standardize(given).strip()
        if not word or len(word.split()) != 1:
            raise UsageError(f"{given!r} is {'no' if not word else 'more than one'} word after the recipe")
        if word in vectors:
            raise UsageError(f"{given!r} has a vector already; leave it out")
        new.setdefault(word, len(vectors) + len(new))
    sums, counts = _contexts(vectors, texts, new, standardize, window)
    means = sums / np.maximum(counts[:, 1], 1)[:, None]
    learned = min(LEARNED, len(vectors))
    absent = [word for i, word in enumerate(new) if not counts[learned + i, 1]]
    if absent:
        raise NotFound(f"{absent[0]!r} has no known word near it in the contexts; give more text")
    known = np.flatnonzero(counts[:learned, 1])
    if len(known) < vectors.width:
        raise DataError(
            f"the contexts hold {len(known):,} words that have a vector, {vectors.width:,} or more are needed; "
            "give more text"
        )
    transform = _transform(means[known], vectors.matrix[known].astype(np.float64), np.log1p(counts[known, 0]))
    fresh = means[learned:]
    return Induced(
        list(new),
        (fresh @ transform).astype(np.float32),
        fresh.astype(np.float32),
        counts[learned:, 0],
        len(known),
    )


def _transform(means: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Aᵀ (D, D) of the least weighted squares of means · Aᵀ - targets."""
    weighted = means * weights[:, None]
    square = means.T @ weighted
    square[np.diag_indices_from(square)] += RIDGE * np.trace(square) / len(square)
    return np.linalg.solve(square, weighted.T @ targets)


def _contexts(
    vectors: Vectors, texts: Iterable[str], new: dict[str, int], standardize: Standardizer, window: int
) -> tuple[np.ndarray, np.ndarray]:
    """For the first words of the vocabulary, then the new ones: the sum of the vectors around them (·, D), and how
    often they stood there and how many known words around them (·, 2).
    """
    learned = min(LEARNED, len(vectors))
    sums = np.zeros((learned + len(new), vectors.width))
    counts = np.zeros((len(sums), 2), np.int64)
    for ids, starts, ends in _pieces(vectors, texts, new, standardize):
        known = (ids >= 0) & (ids < len(vectors))
        rows = np.zeros((len(ids), vectors.width))
        rows[known] = vectors.matrix[ids[known]]
        before = np.concatenate([np.zeros((1, vectors.width)), np.cumsum(rows, axis=0)])
        tally = np.concatenate([[0], np.cumsum(known)])
        places = np.flatnonzero((ids >= len(vectors)) | ((ids >= 0) & (ids < learned)))
        low, high = np.maximum(places - window, starts[places]), np.minimum(places + window + 1, ends[places])
        around = before[high] - before[low] - rows[places]
        company = tally[high] - tally[low] - known[places]
        number = ids[places]
        number[number >= len(vectors)] += learned - len(vectors)
        order = np.argsort(number, kind="stable")
        which, first = np.unique(number[order], return_index=True)
        if len(which):
            sums[which] += np.add.reduceat(around[order], first, axis=0)
            counts[which, 0] += np.diff(np.append(first, len(order)))
            counts[which, 1] += np.add.reduceat(company[order], first)
    return sums, counts


def _pieces(
    vectors: Vectors, texts: Iterable[str], new: dict[str, int], standardize: Standardizer
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Word numbers (N,) of some texts (-1: neither known nor asked for), with the start and end of each one's text.

    A text over :data:`TOKENS` is cut: a window does not reach over the cut.
    """
    ids: list[int] = []
    bounds: list[tuple[int, int]] = []
    for text in texts:
        words = standardize(text).split()
        for start in range(0, len(words), TOKENS):
            part = words[start : start + TOKENS]
            if ids and len(ids) + len(part) > TOKENS:
                yield _piece(ids, bounds)
                ids, bounds = [], []
            bounds.append((len(ids), len(ids) + len(part)))
            ids += [vectors.number(word, new.get(word, -1)) for word in part]
    if ids:
        yield _piece(ids, bounds)


def _piece(ids: list[int], bounds: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lengths = [end - start for start, end in bounds]
    starts, ends = (np.repeat([bound[side] for bound in bounds], lengths) for side in (0, 1))
    return np.array(ids, np.int64), starts, ends


def add_words(vectors: Vectors, found: Induced, output: str | Path, *, force: bool = False) -> None:
    """Write a folder with the words of ``vectors`` and then the new ones."""
    with atomic.building(output, force=force) as folder:
        with writing_tensors(folder / "vectors.safetensors") as writer:
            append_rows(writer, "word", vectors.matrix)
            append_rows(writer, "word", found.matrix)
        counts = np.concatenate([vectors.counts, found.counts])
        notes = {"induced": len(found.words), "learned_on": found.learned_on}
        finish(
            folder,
            [*vectors.words, *found.words],
            counts,
            vectors.recipe,
            made_of=vectors.fingerprint,
            notes=notes,
        )

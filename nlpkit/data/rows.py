"""Packed rows as arrays: the ids, segments and labels of chosen rows of a plan, without a loop over pieces.

Letters: B rows, T tokens of a row, P pieces of these rows, N tokens of these pieces.
"""

from dataclasses import dataclass

import numpy as np

from nlpkit.core.batch import IGNORE
from nlpkit.data.packing import Plan, Stream
from nlpkit.data.tokens import Tokens


@dataclass(frozen=True)
class Rows:
    """``ids``, ``segments`` (0: padding) and ``labels`` of B rows, int64 (B, T) each, and where the pieces lie.

    ``first`` and ``sizes`` (P,) are each piece's first place of the flattened rows and how many places it takes.
    """

    ids: np.ndarray
    segments: np.ndarray
    labels: np.ndarray
    first: np.ndarray
    sizes: np.ndarray


def every(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, … start + length - 1 for each start, one behind the other.

    >>> every(np.array([7, 2]), np.array([2, 3])).tolist()
    [7, 8, 2, 3, 4]
    """
    ends = np.cumsum(lengths)
    places = np.repeat(starts - ends + lengths, lengths)
    places += np.arange(len(places))
    return places


def _pieces(plan: Plan, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(starts, lengths, place in the flattened rows) of the pieces, (P,) each, and the segments (B, T)."""
    counts = plan.rows[rows + 1] - plan.rows[rows]
    piece = every(plan.rows[rows], counts)
    lengths = plan.lengths[piece]
    ends = np.cumsum(lengths + plan.overhead)
    row_ends = ends[np.cumsum(counts) - 1]  # every row has a piece
    used = np.diff(row_ends, prepend=0)
    shift = np.arange(len(rows)) * plan.context - (row_ends - used)
    place = ends - lengths - plan.overhead + np.repeat(shift, counts)
    segments = np.zeros((len(rows), plan.context), np.int64)
    segments.reshape(-1)[place] = 1
    np.cumsum(segments, axis=1, out=segments)
    segments *= np.arange(plan.context) < used[:, None]
    return plan.starts[piece], lengths, place, segments


def empty(shape: tuple[int, ...], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows without a token: (ids, labels)."""
    return np.full(shape, pad_id, np.int64), np.full(shape, IGNORE, np.int64)


def wrapped(tokens: Tokens, plan: Plan, rows: np.ndarray, pad_id: int, cls_id: int, sep_id: int) -> Rows:
    """Each piece between [CLS] and [SEP]; no labels yet. The plan has an overhead of 2."""
    starts, lengths, place, segments = _pieces(plan, rows)
    ids, labels = empty(segments.shape, pad_id)
    flat = ids.reshape(-1)
    flat[place] = cls_id
    flat[place + lengths + 1] = sep_id
    flat[every(place + 1, lengths)] = np.asarray(tokens.ids)[every(starts, lengths)]
    return Rows(ids, segments, labels, place, lengths + 2)


def plain(
    tokens: Tokens,
    plan: Plan,
    rows: np.ndarray,
    pad_id: int,
    eos_id: int,
    draw: np.ndarray | None,
    rate: float,
) -> Rows:
    """Pieces with the token that follows each token as its label, ``eos_id`` behind a document.

    A piece that begins a document begins with ``eos_id`` instead, its last prediction left out, where its number of
    ``draw`` is below ``rate`` (a number for each piece of the rows, in order; None: never).
    """
    starts, lengths, place, segments = _pieces(plan, rows)
    ids, labels = empty(segments.shape, pad_id)
    ends, text = tokens.offsets[1:], np.asarray(tokens.ids)
    document = np.searchsorted(ends, starts.astype(ends.dtype), side="right")
    source, target = every(starts, lengths), every(place, lengths)
    here, follows = text[source], text.take(source + 1, mode="clip")
    flat, wanted = ids.reshape(-1), labels.reshape(-1)
    flat[target], wanted[target] = here, follows
    ended = starts + lengths == ends[document].astype(np.int64)
    wanted[(place + lengths - 1)[ended]] = eos_id
    if draw is not None:
        anew = (draw[: len(starts)] < rate) & (starts == tokens.offsets[document].astype(np.int64))
        here = text[every(starts[anew], lengths[anew])].astype(np.int64)
        moved = every(place[anew], lengths[anew])
        wanted[moved] = here
        later = every(place[anew] + 1, lengths[anew] - 1)
        flat[later] = wanted[later - 1]
        flat[place[anew]] = eos_id
    return Rows(ids, segments, labels, place, lengths)


def streamed(tokens: Tokens, plan: Stream, rows: np.ndarray, pad_id: int, eos_id: int) -> Rows:
    """Rows of a stream: one segment each, cut wherever a row ends, a label wherever another token follows."""
    shape = (len(rows), plan.context + 1)
    places = (plan.rows[rows][:, None] + np.arange(plan.context + 1)).reshape(-1)
    piece = np.searchsorted(plan.places, places, side="right") - 1
    within = places - plan.places[piece]
    lengths, closed = plan.lengths[piece], plan.closed[piece]
    text, there = within < lengths, within < lengths + closed
    found = np.where(there, np.int64(eos_id), np.int64(pad_id))
    found[text] = np.asarray(tokens.ids)[(plan.starts[piece] + within)[text]]
    found, there = found.reshape(shape), there.reshape(shape)
    # Behind a source lies an empty place: from there on a row is padding, and so is a token that nothing follows.
    used = np.minimum.accumulate(there, axis=1)[:, 1:]
    labels = np.where(used, found[:, 1:], IGNORE)
    ids = np.where(used, found[:, :-1], pad_id)
    segments = used.astype(np.int64)
    first = np.arange(len(rows)) * plan.context
    return Rows(ids, segments, labels, first, segments.sum(1))


def shifted(made: Rows) -> None:
    """Label each token of wrapped pieces with the one behind it; the last of a piece ([SEP]) has no label."""
    places = every(made.first, made.sizes - 1)
    made.labels.reshape(-1)[places] = made.ids.reshape(-1)[places + 1]


def prefixes(made: Rows, draw: np.ndarray) -> np.ndarray:
    """1 on the tokens of each piece's prefix, int64 (B, T); their labels are taken away, but for the last one's.

    ``draw`` (P,) in [0, 1): the prefix of a piece of n tokens has 0 … n - 1, each as often. The last token of a
    prefix keeps its label: it is the first token behind the prefix, which nothing of the prefix sees.
    """
    prefix = np.zeros_like(made.ids)
    sizes = (draw * made.sizes).astype(np.int64)
    prefix.reshape(-1)[every(made.first, sizes)] = 1
    made.labels.reshape(-1)[every(made.first, np.maximum(sizes - 1, 0))] = IGNORE
    return prefix

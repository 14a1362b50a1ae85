"""Rows of ``context`` tokens that hold whole documents: best-fit decreasing, planned once and hashed.

Best-fit decreasing (Johnson et al. 1974; for language models «Fewer Truncations Improve Language Modeling»,
Ding et al. 2024, section 3) wastes little and cuts no document that fits a row. A document that does not fit is
cut into pieces of a whole row and a rest; no token is lost. A stream (next-token models only) is the other way:
documents end to end, cut wherever a row ends.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plan:
    """Which piece of which document lies in which row.

    ``starts`` and ``lengths`` (int64, one a piece) point into the flat token ids; the pieces of row r are
    ``rows[r] : rows[r + 1]``. ``overhead`` is what a piece takes in a row beyond its tokens ([CLS] and [SEP]: 2).
    """

    starts: np.ndarray
    lengths: np.ndarray
    rows: np.ndarray
    context: int
    overhead: int

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.rows) - 1

    @property
    def waste(self) -> float:
        """The share of the rows' places that is padding."""
        used = int(self.lengths.sum()) + self.overhead * len(self.lengths)
        return 1.0 - used / max(self.n_rows * self.context, 1)

    @property
    def hash(self) -> str:
        """SHA-256 of the whole plan."""
        digest = hashlib.sha256(f"{self.context} {self.overhead}".encode())
        for array in (self.starts, self.lengths, self.rows):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def cut(starts: np.ndarray, lengths: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Documents as pieces of at most ``room`` tokens: (starts, lengths) of the pieces, in order."""
    pieces = -(-lengths // room)
    total = int(pieces.sum())
    document = np.repeat(np.arange(len(lengths)), pieces)
    first = np.concatenate([[0], np.cumsum(pieces)[:-1]]) if len(pieces) else np.empty(0, np.int64)
    within = np.arange(total) - first[document] if total else np.empty(0, np.int64)
    piece_starts = starts[document] + within * room
    piece_lengths = np.minimum(lengths[document] - within * room, room)
    return piece_starts.astype(np.int64), piece_lengths.astype(np.int64)


def pack(starts: np.ndarray, lengths: np.ndarray, context: int, overhead: int = 0) -> Plan:
    """The plan for documents that start at ``starts`` and have ``lengths`` tokens, in rows of ``context``.

    Empty documents take no place. Ties are broken by position, so that the plan depends on its input alone.

    >>> pack(np.array([0, 5, 7]), np.array([5, 2, 3]), context=5).rows.tolist()
    [0, 1, 3]
    """
    room = context - overhead
    if room < 1:
        raise ValueError(f"context {context} leaves no room for a token")
    full = lengths > 0
    piece_starts, piece_lengths = cut(starts[full], lengths[full], room)
    order = np.argsort(-piece_lengths, kind="stable")
    # Rows by the room they have left; `open_` has bit r set where a row with r places left exists, so that the
    # tightest row that fits is one shift and one lowest-bit away.
    by_room: list[list[int]] = [[] for _ in range(context + 1)]
    open_, n_rows = 0, 0
    row_of = np.empty(len(order), np.int64)
    for piece, length in zip(order.tolist(), (piece_lengths[order] + overhead).tolist(), strict=True):
        fits = open_ >> length
        if fits:
            space = length + (fits & -fits).bit_length() - 1
            row = by_room[space].pop()
            if not by_room[space]:
                open_ ^= 1 << space
        else:
            space, row = context, n_rows
            n_rows += 1
        row_of[piece] = row
        space -= length
        if space > overhead:
            if not by_room[space]:
                open_ |= 1 << space
            by_room[space].append(row)
    by_row = np.argsort(row_of, kind="stable")
    counts = np.bincount(row_of, minlength=n_rows) if n_rows else np.empty(0, np.int64)
    rows = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Plan(piece_starts[by_row], piece_lengths[by_row], rows, context, overhead)


def joined(plans: Sequence[Plan]) -> Plan:
    """The rows of several plans for the same tokens, one plan's behind the other's."""
    if len(plans) == 1:
        return plans[0]
    before = np.concatenate([[0], np.cumsum([len(p.starts) for p in plans])])
    rows = [p.rows[:-1] + n for p, n in zip(plans, before[:-1], strict=True)]
    return Plan(
        np.concatenate([p.starts for p in plans]),
        np.concatenate([p.lengths for p in plans]),
        np.concatenate([*rows, before[-1:]]).astype(np.int64),
        plans[0].context,
        plans[0].overhead,
    )


@dataclass(frozen=True)
class Stream:
    """Documents end to end, <|endoftext|> behind each, in rows of ``context`` that may begin and end anywhere.

    Piece i has ``lengths[i]`` tokens from ``starts[i]`` on, then the end of a document where ``closed[i]``, and lies
    at ``places[i]`` of the stream; row r takes the ``context`` places from ``rows[r]`` on and their labels the places
    one further. Behind each source is an empty place, so that no label is another source's.
    """

    starts: np.ndarray
    lengths: np.ndarray
    closed: np.ndarray
    places: np.ndarray
    rows: np.ndarray
    context: int
    overhead: int = 0

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    @property
    def waste(self) -> float:
        """The share of the rows' places that is padding."""
        used = int(self.lengths.sum() + self.closed.sum())
        return max(1.0 - used / max(self.n_rows * self.context, 1), 0.0)


def stream(
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], context: int
) -> tuple[Stream, list[int]]:
    """The stream of each part (starts, lengths, closed), and how many rows each has."""
    places, rows, counts, at = [], [], [], 0
    for _, lengths, closed in parts:
        taken = lengths + closed
        total = int(taken.sum())
        count = -(-max(total - 1, 0) // context)  # the last token is a label only
        places.append(at + np.cumsum(taken) - taken)
        rows.append(at + context * np.arange(count))
        counts.append(count)
        at += total + 1
    starts, lengths, closed = (np.concatenate([p[i] for p in parts]) for i in range(3))
    made = Stream(starts, lengths, closed, np.concatenate(places), np.concatenate(rows), context)
    return made, counts

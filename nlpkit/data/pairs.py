"""Pairs of texts: positives for a bi-encoder, scored pairs for a cross-encoder. Letters: B pairs, T tokens.

A bi-encoder batch has ``query_ids, query_segments, doc_ids, doc_segments`` (B, T) and ``doc_key`` (B,), int64; a
cross-encoder batch has ``input_ids, segments`` (B, T) and ``labels`` (B,) float32 in [0, 1].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpkit import console
from nlpkit.core.batch import Batch, pad
from nlpkit.data.labelled import encode
from nlpkit.data.order import MASK, NEGATIVES, VALID, Buckets, keyed, split_up
from nlpkit.data.records import column, columns, read_rows
from nlpkit.data.tokens import text_hash
from nlpkit.errors import DataError

if TYPE_CHECKING:
    from nlpkit.text.tokenizer import Tokenizer

QUERIES = ("query", "summary", "sentence1")
DOCUMENTS = ("doc", "document", "body", "text", "sentence2")


@dataclass(frozen=True)
class PairsConfig:
    """Columns, sizes and the held-out share of a set of pairs.

    ``query`` and ``doc`` name the columns ("": the usual names are tried). With a ``score`` column, pairs of at
    least ``threshold`` of its largest value are the positives of a bi-encoder. ``negatives`` other documents are
    drawn for each positive pair of a cross-encoder that has no scores. ``token_dropout`` is the share of a
    bi-encoder's training tokens that each step leaves out anew, which keeps small sets from being learned by heart.
    """

    query: str = ""
    doc: str = ""
    score: str = "score"
    threshold: float = 0.7
    negatives: int = 3
    token_dropout: float = 0.0
    max_length: int = 128
    batch_size: int = 64
    micro_batch: int = 0
    valid_fraction: float = 0.1
    vocab_size: int = 8000

    def __post_init__(self) -> None:
        if self.max_length < 4 or self.batch_size < 1 or self.micro_batch < 0 or self.negatives < 1:
            raise ValueError("max_length must be 4 or more, batch_size and negatives 1 or more")
        if not 0 <= self.valid_fraction < 1 or not 0 <= self.token_dropout < 1:
            raise ValueError("valid_fraction and token_dropout lie in [0, 1)")


@dataclass(frozen=True)
class Pairs:
    """Queries, documents and, where the file has them, scores in [0, 1]."""

    queries: list[str]
    docs: list[str]
    scores: list[float] | None

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, chosen: np.ndarray) -> "Pairs":
        """The pairs where ``chosen`` (bool) holds."""
        where = np.flatnonzero(chosen).tolist()
        scores = None if self.scores is None else [self.scores[i] for i in where]
        return Pairs([self.queries[i] for i in where], [self.docs[i] for i in where], scores)

    def positives(self, threshold: float) -> "Pairs":
        """The pairs with a score of at least ``threshold``; all of them when there are no scores."""
        if self.scores is None:
            return self
        return self.take(np.asarray(self.scores) >= threshold)


def read_pairs(path: str | Path, config: PairsConfig) -> Pairs:
    """The pairs of a file; scores are divided by their largest value. DataError when there are no rows."""
    queries: list[str] = []
    docs: list[str] = []
    scores: list[float] = []
    skipped = 0
    query_name = column(path, [config.query] if config.query else QUERIES, "query (data.query)")
    doc_name = column(path, [config.doc] if config.doc else DOCUMENTS, "document (data.doc)")
    scored = config.score in columns(path)
    for row, where in read_rows(path, query_name):
        query, doc = row[query_name].strip(), str(row.get(doc_name) or "").strip()
        if not query or not doc:
            skipped += 1
            continue
        queries.append(query)
        docs.append(doc)
        if scored:
            scores.append(_number(where, config.score, row.get(config.score)))
    if skipped:
        console.warn(f"{path}: {skipped:,} rows with an empty side were left out")
    if not queries:
        raise DataError(f"{path}: holds no pairs; each row needs two texts")
    largest = max(scores, default=0.0)
    if scored and (largest <= 0 or min(scores) < 0):
        raise DataError(f"{path}: {config.score!r} must be 0 or more, and above 0 somewhere")
    return Pairs(queries, docs, [s / largest for s in scores] if scored else None)


def _number(where: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if number != number or number in (float("inf"), float("-inf")):
        raise DataError(f"{where}: {name} is {value!r}, a number is needed")
    return number


def key_of(text: str) -> int:
    """A stable int64 name of a document, so that equal documents are no negatives of one another."""
    return text_hash(text.encode("utf-8", "surrogatepass")) >> 1


class PairData:
    """Bi-encoder batches: row i of both sides is a positive pair, the other rows are its negatives."""

    def __init__(
        self, train: Pairs, valid: Pairs | None, tokenizer: "Tokenizer", config: PairsConfig, *, seed: int = 0
    ) -> None:
        self.config, self.seed, self.pad_id = config, seed, tokenizer.pad_id
        train = train.positives(config.threshold)
        if len(train) < 2:
            raise DataError("fewer than two positive pairs are left to train on; see data.threshold")
        self.train = self._encode(tokenizer, train)
        valid = valid.positives(config.threshold) if valid is not None else None
        self.held = self._encode(tokenizer, valid) if valid is not None and len(valid) > 1 else None
        lengths = [len(q) + len(d) for q, d in zip(self.train[0], self.train[1], strict=True)]
        self.order = Buckets(lengths, config.batch_size, seed)

    def _encode(
        self, tokenizer: "Tokenizer", pairs: Pairs
    ) -> tuple[list[list[int]], list[list[int]], np.ndarray]:
        queries = encode(tokenizer, pairs.queries, self.config.max_length)
        docs = encode(tokenizer, pairs.docs, self.config.max_length)
        return queries, docs, np.array([key_of(d) for d in pairs.docs], np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return self.order.steps_per_epoch

    def describe(self) -> str:
        """One line: how many pairs."""
        held = len(self.held[0]) if self.held else 0
        return f"{len(self.train[0]):,} positive pairs to train on, {held:,} held out"

    def batch(self, step: int) -> list[Batch]:
        """The micro-batches of a step; negatives come from the same micro-batch."""
        parts = split_up(self.order.items(step), self.config.micro_batch)
        return [
            self._assemble(self.train, items, keyed(self.seed, MASK, step, micro))
            for micro, items in enumerate(parts)
        ]

    def valid(self) -> Iterator[Batch]:
        """The held-out pairs, shuffled once (the same way always) so that negatives are not neighbours."""
        if self.held is None:
            return
        order = keyed(0, VALID).permutation(len(self.held[0]))
        size = self.config.micro_batch or self.config.batch_size
        for start in range(0, len(order), size):
            yield self._assemble(self.held, order[start : start + size])

    def _assemble(
        self,
        side: tuple[list[list[int]], list[list[int]], np.ndarray],
        items: np.ndarray,
        draw: np.random.Generator | None = None,
    ) -> Batch:
        where = items.tolist()
        query_ids, query_segments = pad([self._thin(side[0][i], draw) for i in where], self.pad_id)
        doc_ids, doc_segments = pad([self._thin(side[1][i], draw) for i in where], self.pad_id)
        return {
            "query_ids": query_ids,
            "query_segments": query_segments,
            "doc_ids": doc_ids,
            "doc_segments": doc_segments,
            "doc_key": torch.from_numpy(side[2][items]),
        }

    def _thin(self, ids: list[int], draw: np.random.Generator | None) -> list[int]:
        """``ids`` without a random share of its tokens; the first and last, [CLS] and [SEP], stay."""
        if draw is None or not self.config.token_dropout:
            return ids
        kept = draw.random(len(ids)) >= self.config.token_dropout
        kept[[0, -1]] = True
        return [token for token, keep in zip(ids, kept.tolist(), strict=True) if keep]


class ScoredPairData:
    """Cross-encoder batches: [CLS] query [SEP] document [SEP] and a score in [0, 1].

    Without scores every pair is a positive (1) and ``negatives`` documents of other rows, drawn from a key of
    (seed, row), are its negatives (0); rows with the same document are never drawn.
    """

    def __init__(
        self, train: Pairs, valid: Pairs | None, tokenizer: "Tokenizer", config: PairsConfig, *, seed: int = 0
    ) -> None:
        self.config, self.seed, self.pad_id = config, seed, tokenizer.pad_id
        self.train = self._encode(tokenizer, self._with_negatives(train, seed))
        self.held = None
        if valid is not None and len(valid) > 1:
            self.held = self._encode(tokenizer, self._with_negatives(valid, 0))
        self.order = Buckets([len(i) for i in self.train[0]], config.batch_size, seed)

    def _with_negatives(self, pairs: Pairs, seed: int) -> Pairs:
        if pairs.scores is not None:
            return pairs
        keys = [key_of(d) for d in pairs.docs]
        if len(set(keys)) < 2:
            raise DataError("all pairs have the same document, so there are no negatives to learn from")
        queries, docs, scores = list(pairs.queries), list(pairs.docs), [1.0] * len(pairs)
        for row, query in enumerate(pairs.queries):
            drawn = keyed(seed, NEGATIVES, row).integers(0, len(pairs), 4 * self.config.negatives).tolist()
            others = [i for i in drawn if keys[i] != keys[row]][: self.config.negatives]
            queries += [query] * len(others)
            docs += [pairs.docs[i] for i in others]
            scores += [0.0] * len(others)
        return Pairs(queries, docs, scores)

    def _encode(self, tokenizer: "Tokenizer", pairs: Pairs) -> tuple[list[list[int]], np.ndarray]:
        ids = encode(tokenizer, pairs.queries, self.config.max_length, pairs.docs)
        return ids, np.asarray(pairs.scores, np.float32)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return self.order.steps_per_epoch

    def describe(self) -> str:
        """One line: how many pairs and their mean score."""
        held = len(self.held[0]) if self.held else 0
        return f"{len(self.train[0]):,} scored pairs to train on (mean {self.train[1].mean():.2f}), {held:,} held out"

    def batch(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        return [
            self._assemble(self.train, p) for p in split_up(self.order.items(step), self.config.micro_batch)
        ]

    def valid(self) -> Iterator[Batch]:
        """The held-out pairs in order of length."""
        if self.held is None:
            return
        order = np.argsort([len(i) for i in self.held[0]], kind="stable")
        size = self.config.micro_batch or self.config.batch_size
        for start in range(0, len(order), size):
            yield self._assemble(self.held, order[start : start + size])

    def _assemble(self, side: tuple[Sequence[Sequence[int]], np.ndarray], items: np.ndarray) -> Batch:
        input_ids, segments = pad([side[0][i] for i in items.tolist()], self.pad_id)
        return {"input_ids": input_ids, "segments": segments, "labels": torch.from_numpy(side[1][items])}

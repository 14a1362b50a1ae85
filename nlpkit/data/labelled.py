"""Labelled texts → classifier batches. Letters: B texts, T tokens.

A batch has ``input_ids``, ``segments`` (B, T) and ``labels`` (B,), int64. Batches hold texts of like length.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from nlpkit import console
from nlpkit.core.batch import Batch, pad
from nlpkit.data.order import Buckets, split_up
from nlpkit.data.records import column, read_rows
from nlpkit.data.tokens import text_hash
from nlpkit.errors import DataError

if TYPE_CHECKING:
    from nlpkit.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class LabelledConfig:
    """Columns, sizes and the held-out share of a labelled set.

    ``batch_size`` texts a step, in micro-batches of ``micro_batch`` (0: all at once); texts are cut at
    ``max_length`` tokens (counted). When no tokenizer is given, one of kind ``tokenizer`` with ``vocab_size``
    tokens is trained (``lower``: on lower-cased text).
    """

    label: str = "label"
    text: str = "text"
    max_length: int = 256
    batch_size: int = 32
    micro_batch: int = 0
    valid_fraction: float = 0.1
    vocab_size: int = 8000
    tokenizer: Literal["bpe", "wordpiece", "unigram", "word", "char"] = "bpe"
    lower: bool = False

    def __post_init__(self) -> None:
        if self.max_length < 4 or self.batch_size < 1 or self.micro_batch < 0:
            raise ValueError("max_length must be 4 or more, batch_size 1 or more, micro_batch 0 or more")
        if not 0 <= self.valid_fraction < 1:
            raise ValueError("valid_fraction lies in [0, 1)")


@dataclass(frozen=True)
class Labelled:
    """Texts and their labels as strings, in the order of the file."""

    texts: list[str]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, chosen: np.ndarray) -> "Labelled":
        """The rows where ``chosen`` (bool) holds."""
        where = np.flatnonzero(chosen)
        return Labelled([self.texts[i] for i in where], [self.labels[i] for i in where])


def read_labelled(path: str | Path, config: LabelledConfig) -> Labelled:
    """The texts and labels of a file. DataError when it has no rows, or a row has an empty label."""
    texts: list[str] = []
    labels: list[str] = []
    text_name = column(path, [config.text], "text (data.text)")
    label_name = column(path, [config.label], "label (data.label)")
    for row, where in read_rows(path, text_name):
        label = row.get(label_name)
        if label is None or str(label) == "":
            raise DataError(f"{where}: has no {label_name!r}")
        texts.append(row[text_name])
        labels.append(str(label))
    if not texts:
        raise DataError(f"{path}: holds no rows; a labelled set has a label and a text in each")
    return Labelled(texts, labels)


def held_out(texts: Sequence[str], fraction: float) -> np.ndarray:
    """Which texts are for validation: those with the lowest stable hashes (bool, one a text).

    >>> int(held_out([str(i) for i in range(100)], 0.1).sum())
    10
    """
    hashes = np.array([text_hash(t.encode("utf-8", "surrogatepass")) for t in texts], np.uint64)
    take = round(fraction * len(texts))
    if fraction > 0 and len(texts) > 1:
        take = max(take, 1)
    if not take:
        return np.zeros(len(texts), bool)
    chosen = hashes <= np.sort(hashes)[take - 1]
    return np.zeros(len(texts), bool) if chosen.all() else chosen


def note_leak(train: Sequence[str], valid: Sequence[str], name: str = "validation") -> int:
    """Say how many texts of one part are also in the training part."""
    known = set(train)
    shared = sum(text in known for text in valid)
    if shared:
        console.warn(f"{shared} of {len(valid)} {name} texts are in the training texts too")
    return shared


def encode(
    tokenizer: "Tokenizer", texts: list[str], max_length: int, pairs: list[str] | None = None
) -> list[list[int]]:
    """[CLS] text [SEP], cut at ``max_length``; how many were cut is said once."""
    before = tokenizer.truncated
    ids = tokenizer.encode(texts, pairs=pairs, special=True, max_length=max_length)
    cut = tokenizer.truncated - before
    if cut:
        console.warn(f"{cut:,} of {len(texts):,} texts were cut at data.max_length = {max_length} tokens")
    return ids


class LabelledData:
    """Classifier batches of encoded texts; ``batch(step)`` is a pure function of (seed, step)."""

    def __init__(
        self,
        train: Labelled,
        valid: Labelled | None,
        tokenizer: "Tokenizer",
        config: LabelledConfig,
        *,
        labels: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.config, self.seed, self.pad_id = config, seed, tokenizer.pad_id
        self.labels = list(labels) if labels is not None else sorted(set(train.labels))
        if len(self.labels) < 2 and labels is None:
            raise DataError(f"all rows have the label {self.labels[0]!r}; a classifier needs two or more")
        self.ids = encode(tokenizer, train.texts, config.max_length)
        self.targets = numbers(train.labels, self.labels)
        valid = valid or Labelled([], [])
        self.valid_ids = encode(tokenizer, valid.texts, config.max_length) if len(valid) else []
        self.valid_targets = numbers(valid.labels, self.labels)
        self.counts = Counter(train.labels)
        self.order = Buckets([len(i) for i in self.ids], config.batch_size, seed)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return self.order.steps_per_epoch

    def describe(self) -> str:
        """One line: rows, labels, the majority's share."""
        name, count = self.counts.most_common(1)[0]
        return (
            f"{len(self.ids):,} texts to train on, {len(self.valid_ids):,} held out, {len(self.labels)} labels "
            f"(most frequent: {name!r}, {100 * count / len(self.ids):.1f} %)"
        )

    def batch(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        parts = split_up(self.order.items(step), self.config.micro_batch)
        return [self._assemble(self.ids, self.targets, part) for part in parts]

    def valid(self) -> Iterator[Batch]:
        """The held-out texts in order of length."""
        order = np.argsort([len(i) for i in self.valid_ids], kind="stable")
        size = self.config.micro_batch or self.config.batch_size
        for start in range(0, len(order), size):
            yield self._assemble(self.valid_ids, self.valid_targets, order[start : start + size])

    def _assemble(self, ids: list[list[int]], targets: np.ndarray, items: np.ndarray) -> Batch:
        input_ids, segments = pad([ids[i] for i in items.tolist()], self.pad_id)
        return {"input_ids": input_ids, "segments": segments, "labels": torch.from_numpy(targets[items])}


def numbers(labels: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """Labels as their places in ``known``, int64. DataError names one that is not there.

    >>> numbers(["b", "a"], ["a", "b"]).tolist()
    [1, 0]
    """
    place = {label: i for i, label in enumerate(known)}
    unknown = sorted(set(labels) - set(place))
    if unknown:
        raise DataError(f"label {unknown[0]!r} is not among the labels trained on: {', '.join(known)}")
    return np.array([place[label] for label in labels], np.int64)

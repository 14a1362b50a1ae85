"""Minimal pairs: does a language model find the good sentence likelier than the bad one? (Linzen et al. 2016)

A pair is a record with ``good`` and ``bad`` (BLiMP: ``sentence_good``, ``sentence_bad``), and perhaps a ``group``
(BLiMP: ``UID``). The log-probability of a whole sentence decides, as in BLiMP (Warstadt et al. 2020, section 4).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.inference.batching import windows
from nlpkit.inference.loading import LoadedModel
from nlpkit.inference.score import Score, score
from nlpkit.text.documents import sources
from nlpkit.text.records import read_records

GOOD, BAD = ("good", "sentence_good"), ("bad", "sentence_bad")
GROUP = ("group", "UID")
ROUNDING = 1e-6  # of the nats of a sentence: what float32 does not tell apart is a tie


@dataclass(frozen=True)
class Pair:
    """Two sentences that differ in what makes one of them bad; ``group`` is empty where none is named."""

    good: str
    bad: str
    group: str = ""


@dataclass(frozen=True)
class Judged:
    """A pair with the nats that either sentence costs the model."""

    pair: Pair
    good: Score
    bad: Score

    @property
    def right(self) -> float:
        """1 where the good one is likelier, 0 where the bad one is, 0.5 where neither is."""
        apart = self.bad.nats - self.good.nats
        if abs(apart) <= ROUNDING * max(self.good.nats, self.bad.nats):
            return 0.5
        return 1.0 if apart > 0 else 0.0


def read_pairs(path: str | Path) -> Iterator[Pair]:
    """The pairs of a jsonl, tsv, csv or Parquet file, in order.

    Raises UsageError for plain text, DataError for a record without two sentences (file:line).
    """
    for source in sources([path]):
        if source.format == "text":
            raise UsageError(f"{source.name}: pairs are records; give a .jsonl, .tsv, .csv or .parquet file")
        for record, where in read_records(source, ""):
            good, bad = _field(record, GOOD, where), _field(record, BAD, where)
            group = next((record[name] for name in GROUP if record.get(name) is not None), "")
            yield Pair(good, bad, str(group))


def _field(record: dict[str, object], names: tuple[str, ...], where: str) -> str:
    name = next((name for name in names if name in record), None)
    if name is None:
        known = did_you_mean(names[0], map(str, record))
        raise DataError(f"{where}: no field {' or '.join(map(repr, names))}{known}")
    text = record[name]
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: field {name!r} holds no sentence; mend or leave out the pair")
    return text


def judge(loaded: LoadedModel, pairs: Iterable[Pair], *, pll: str = "original") -> Iterator[Judged]:
    """Each pair with its scores, in order. Equal sentences are scored once, so that they are a tie."""
    for window in windows(pairs, 2048):
        texts = list(dict.fromkeys(text for pair in window for text in (pair.good, pair.bad)))
        scores = dict(zip(texts, score(loaded, texts, pll=pll), strict=True))
        for pair in window:
            yield Judged(pair, scores[pair.good], scores[pair.bad])

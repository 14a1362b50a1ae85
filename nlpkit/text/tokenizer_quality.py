"""How well a tokenizer fits a text: fertility, compression, unknown tokens, Rényi efficiency, round trip.

Shapes: N documents, V ids of the vocabulary, G groups of documents. Two tokenizers read the same documents in one
pass; memory holds V counts and two numbers a document.

Fertility is tokens a whitespace-separated word (Rust et al. 2021). Rényi efficiency (Zouhar et al. 2023, "Tokenization
and the Noiseless Channel") is the Rényi entropy of order 2.5 of the tokens, divided by the logarithm of V: 1 where
all tokens are equally frequent, low where a few frequent ones leave the rest of the vocabulary idle.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from nlpkit.errors import ArtifactError, DataError
from nlpkit.text.documents import Document
from nlpkit.text.ngrams import blocks
from nlpkit.text.tokenizer import SPECIALS, Tokenizer

ALPHA = 2.5  # of the Rényi entropy; the order that predicts translation quality best in the paper
SHOWN = 5  # breaks of the round trip that are listed
GROUPS = 10_000  # of documents, in the bootstrap, at most
_PIECE = 40  # characters of a differing piece


@dataclass(frozen=True)
class Break:
    """A document (counted from 1) that does not come back: what stands at the first difference, and what came."""

    document: int
    expected: str
    got: str


@dataclass
class Quality:
    """The counts of one tokenizer over a text; the figures are made of them."""

    counts: np.ndarray  # (V,) int64
    unknown_id: int | None
    special: tuple[int, ...]  # ids that stand for no text
    standardized: bool  # the round trip is compared with the standardized text, not with the text as it was
    tokens: array = field(default_factory=lambda: array("q"))  # of each document
    broken: int = 0
    breaks: list[Break] = field(default_factory=list)

    def figures(self, words: int, size: int) -> dict[str, Any]:
        """What ``tokenizer-eval`` prints, for a text of so many words and bytes; None where none can be."""
        total = int(self.counts.sum())
        ordinary = np.delete(self.counts, self.special)
        unknown = 0 if self.unknown_id is None else int(self.counts[self.unknown_id])
        return {
            "documents": len(self.tokens),
            "words": words,
            "bytes": size,
            "tokens": total,
            "vocabulary": len(self.counts),
            "fertility": total / words if words else None,
            "bytes_per_token": size / total if total else None,
            "unknown_rate": unknown / total if total else None,
            "renyi_efficiency": renyi_efficiency(self.counts) if total else None,
            "unused_share": float((ordinary == 0).mean()) if len(ordinary) else 0.0,
            "round_trip": {
                "exact": len(self.tokens) - self.broken,
                "broken": self.broken,
                "compared_with": "standardized text" if self.standardized else "text",
                "first_breaks": [
                    {"document": b.document, "expected": b.expected, "got": b.got} for b in self.breaks
                ],
            },
        }


def renyi_efficiency(counts: Sequence[int] | np.ndarray, alpha: float = ALPHA) -> float:
    """H_α(p) / log V of the token frequencies (V,), zeros included; 0 where V is 1. ``alpha`` 1 is Shannon's entropy.

    >>> renyi_efficiency([5, 5, 5, 5]), renyi_efficiency([9, 0])
    (1.0, 0.0)
    """
    counts = np.asarray(counts, np.float64)
    if not counts.sum() > 0:
        raise DataError("no token was counted, so there is no efficiency; give some text")
    if len(counts) < 2:
        return 0.0
    p = counts[counts > 0] / counts.sum()
    entropy = -(p * np.log(p)).sum() if alpha == 1 else np.log((p**alpha).sum()) / (1 - alpha)
    return float(abs(entropy) / np.log(len(counts)))


def _fresh(tokenizer: Tokenizer) -> Quality:
    try:
        unknown: int | None = tokenizer.unk_id
    except ArtifactError:
        unknown = None
    if unknown is not None and unknown == tokenizer.token_to_id(SPECIALS[-1]):
        unknown = None  # GPT-2 names its end of text as unknown; bytes need none
    special = tuple({i for i in map(tokenizer.token_to_id, SPECIALS) if i is not None})
    return Quality(
        np.zeros(tokenizer.vocab_size, np.int64),
        unknown,
        special,
        bool(tokenizer.recipe) or tokenizer._raw.normalizer is not None,
    )


def _count(tokenizer: Tokenizer, quality: Quality, texts: Sequence[str]) -> None:
    """Count one block of texts and prove that each comes back."""
    normalizer = tokenizer._raw.normalizer
    wanted = [tokenizer.standardize(text) for text in texts]
    empty, *full = tokenizer.encode(
        ["", *filter(None, wanted)], standardized=True
    )  # "" may come a million times
    encoded = iter(full)
    rows = [next(encoded) if text else empty for text in wanted]
    sizes = list(map(len, rows))
    ids = np.fromiter(chain.from_iterable(rows), np.int64, sum(sizes))
    quality.counts += np.bincount(ids, minlength=len(quality.counts))
    for text, row in zip(wanted, rows, strict=True):
        quality.tokens.append(len(row))
        expected = text if normalizer is None else normalizer.normalize_str(text)
        got = tokenizer.decode(row, special=True)
        if got != expected:
            quality.broken += 1
            if len(quality.breaks) < SHOWN:
                quality.breaks.append(Break(len(quality.tokens), *_differing(expected, got)))


def _differing(expected: str, got: str) -> tuple[str, str]:
    """The words of both around the first character that differs.

    >>> _differing("it can't be", "it can ' t be")
    ("can't", 'can')
    """
    short = min(len(expected), len(got))
    at = next((i for i in range(short) if expected[i] != got[i]), short)
    start = at
    while start > 0 and at - start < _PIECE // 2 and not expected[start - 1].isspace():
        start -= 1
    pieces = []
    for text in (expected, got):
        end = at
        while end < len(text) and end - at < _PIECE // 2 and not text[end].isspace():
            end += 1
        pieces.append(text[start : max(end, at)] or text[start : at + 1])
    if pieces[0] == pieces[1]:  # the difference is the space itself
        pieces = [text[start : at + _PIECE // 2] for text in (expected, got)]
    return pieces[0], pieces[1]


def evaluate(
    documents: Iterable[Document], tokenizer: Tokenizer, against: Tokenizer | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """The figures of a tokenizer over documents and, with ``against``, those of another and how they differ.

    Keys: ``tokenizer``, and with another ``against`` and ``fertility_difference`` (tokenizer less the other):
    ``value``, ``low`` and ``high`` of its 95 % interval.

    :raises DataError: there is no document, or no word.
    """
    both = [tokenizer] if against is None else [tokenizer, against]
    found = [_fresh(one) for one in both]
    words, size = array("q"), 0
    for block in blocks(documents):
        texts = [d.text for d in block]
        words.extend(len(text.split()) for text in texts)
        size += sum(len(text.encode("utf-8", "replace")) for text in texts)
        for one, quality in zip(both, found, strict=True):
            _count(one, quality, texts)
    total = sum(words)
    if not total:
        raise DataError("the input has no words, so nothing can be measured; give it some text")
    made: dict[str, Any] = {"tokenizer": found[0].figures(total, size)}
    if against is not None:
        made["against"] = found[1].figures(total, size)
        low, high = fertility_interval(found[0].tokens, found[1].tokens, words, seed=seed)
        value = made["tokenizer"]["fertility"] - made["against"]["fertility"]
        made["fertility_difference"] = {"value": value, "low": low, "high": high}
    return made


def fertility_interval(
    first: Sequence[int],
    second: Sequence[int],
    words: Sequence[int],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of the difference of two fertilities over the same documents (tokens and words, (N,)).

    Documents are drawn with replacement, the same for both (paired bootstrap; Efron and Tibshirani 1993, section
    13.3). More than :data:`GROUPS` documents are drawn in as many groups of neighbours.

    >>> fertility_interval([2, 4], [1, 2], [1, 2])
    (1.0, 1.0)
    """
    apart = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    size = np.asarray(words, np.float64)
    if len(apart) > GROUPS:
        cuts = np.linspace(0, len(apart), GROUPS, endpoint=False).astype(np.int64)
        apart, size = np.add.reduceat(apart, cuts), np.add.reduceat(size, cuts)
    draw = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        chosen = draw.integers(len(apart), size=len(apart))
        if (total := size[chosen].sum()) > 0:
            means.append(apart[chosen].sum() / total)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


NAMES = (
    ("documents", "documents"),
    ("words", "words"),
    ("tokens", "tokens"),
    ("vocabulary", "vocabulary"),
    ("fertility", "fertility (tokens a word)"),
    ("bytes_per_token", "bytes a token"),
    ("unknown_rate", "unknown rate"),
    ("renyi_efficiency", f"Rényi efficiency (α = {ALPHA})"),
    ("unused_share", "unused share of the vocabulary"),
)


def rows(found: dict[str, Any]) -> list[list[Any]]:
    """The table that ``tokenizer-eval`` prints: a figure a row, a tokenizer a column."""
    columns = [found[key] for key in ("tokenizer", "against") if key in found]
    made = [[name, *(column[key] for column in columns)] for key, name in NAMES]
    trips = [column["round_trip"] for column in columns]
    made.append(["round trip, exact documents", *(trip["exact"] for trip in trips)])
    made.append(["round trip, broken documents", *(trip["broken"] for trip in trips)])
    made.append(["round trip, compared with", *(trip["compared_with"] for trip in trips)])
    return made

"""Dropping documents that were there before: equal ones by a hash, near ones by MinHash and LSH.

Texts are compared with case and spacing aside. Near duplicates are those whose sets of word shingles have an
estimated Jaccard similarity of at least a threshold (Broder 1997; banding: Leskovec, Rajaraman and Ullman, Mining
of Massive Datasets, section 3.4). The first of each group stays. MinHash and LSH are the ``rensa`` library's.

Memory beside one document: a 16-byte hash for each document that is kept (about 100 bytes in all) and, unless
only equal ones are dropped, a signature of :data:`PERMUTATIONS` numbers with its places in the LSH tables (about
4 kB in all at a threshold of 0.8). Text that has no spaces between words is one word, so only its equals are found.
"""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nlpkit.errors import UsageError
from nlpkit.text.corpus import SHORT
from nlpkit.text.quality import Item, Sifted, Verdict, one_by_one, sift

PERMUTATIONS = 128  # a signature's length: the estimate's standard deviation is at most sqrt(J (1 - J) / 128)
MISSED = 0.01  # the bands are as narrow as keeps the chance to miss a pair at the threshold under this
SEED = 1
REASONS = ("exact", "near")


def comparable(text: str) -> str:
    """``text`` as it is compared: case folded, runs of space one space.

    >>> comparable(" The\\n CAT ")
    'the cat'
    """
    return " ".join(text.split()).casefold()


def digest(text: str) -> bytes:
    """16 bytes that stand for a text that was made comparable."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def shingles(text: str, size: int) -> list[str]:
    """Every run of ``size`` words of a comparable text, or the whole text when it has fewer.

    >>> shingles("a b c d", 3)
    ['a b c', 'b c d']
    """
    words = text.split()
    if len(words) <= size:
        return [text] if words else []
    return [" ".join(words[at : at + size]) for at in range(len(words) - size + 1)]


def rows_a_band(threshold: float, permutations: int = PERMUTATIONS, missed: float = MISSED) -> int:
    """Rows of a signature in each LSH band: as many as miss a pair at ``threshold`` with chance under ``missed``.

    A pair of similarity J shares one of b bands of r rows with chance 1 - (1 - J^r)^b; more rows a band mean
    fewer pairs to look at.

    >>> rows_a_band(0.8), rows_a_band(0.95), rows_a_band(0.1)
    (4, 16, 1)
    """
    rows = [r for r in range(1, permutations + 1) if permutations % r == 0]
    return max([r for r in rows if (1 - threshold**r) ** (permutations // r) <= missed], default=1)


class NearDuplicates:
    """The signatures of the documents that were kept, and the search for one like a new document."""

    def __init__(self, threshold: float = 0.8, shingle: int = 5) -> None:
        """:raises UsageError: the library is missing, or a setting is out of range."""
        if not 0 < threshold <= 1:
            raise UsageError(f"--threshold {threshold} must be over 0 and at most 1")
        if shingle < 1:
            raise UsageError(f"--shingle {shingle} must be 1 word or more")
        try:
            from rensa import RMinHash, RMinHashLSH
        except ImportError as error:
            raise UsageError(
                "near duplicates need rensa; run: pip install 'nlpkit[dedup]' (or pass --exact-only)"
            ) from error
        self.threshold, self.shingle = threshold, shingle
        self._signature = RMinHash
        self._tables = RMinHashLSH(threshold, PERMUTATIONS, PERMUTATIONS // rows_a_band(threshold))
        self._kept: dict[int, Any] = {}

    def find_or_add(self, text: str, number: int) -> tuple[int, float] | None:
        """The number of the first kept document like ``text`` and their similarity; else ``text`` is kept."""
        parts = shingles(text, self.shingle)
        if not parts:
            return None
        mine = self._signature(PERMUTATIONS, SEED)
        mine.update(parts)
        for other in sorted(self._tables.query(mine)):
            similarity = mine.jaccard(self._kept[other])
            if similarity >= self.threshold:
                return other, similarity
        self._tables.insert(number, mine)
        self._kept[number] = mine
        return None


def deduplicate(
    paths: Sequence[str | Path],
    output: str | None = None,
    *,
    exact_only: bool = False,
    threshold: float = 0.8,
    shingle: int = 5,
    report: str | None = None,
    **options: Any,
) -> Sifted:
    """Write the documents that equal no earlier one and, unless ``exact_only``, are like no earlier one.

    ``threshold`` is a Jaccard similarity of sets of runs of ``shingle`` words. A document without words equals
    every other; one with fewer words than ``shingle`` is like its equals alone. ``report`` is a jsonl file with a
    line for each dropped document: ``number`` (from 1, in the input) and ``id``, ``reason``, and
    ``kept``, the document it repeats, with ``similarity`` (1 for equal ones). ``options`` go to
    :func:`~nlpkit.text.quality.sift`.

    :raises UsageError: the ``dedup`` extra is needed and missing, or a setting is out of range.
    """
    near = None if exact_only else NearDuplicates(threshold, shingle)
    seen: dict[bytes, int] = {}
    ids: dict[int, str] = {}  # of kept documents, only where a report asks for them

    def key_of(text: str) -> bytes:
        return digest(comparable(text))

    known = functools.lru_cache(1 << 12)(key_of)

    def judge(item: Item) -> Verdict:
        text = item.text
        key = known(text) if len(text) < SHORT else key_of(text)
        found: tuple[int, float] | None = None
        reason = "exact"
        if key in seen:
            found = seen[key], 1.0
        elif near is not None:
            reason = "near"
            found = near.find_or_add(comparable(text), item.number)
        if found is None:
            seen[key] = item.number
            if report is not None and item.id:
                ids[item.number] = item.id
            return None
        if report is None:
            return reason, {}
        twin, similarity = found
        name = {"number": twin, **({"id": ids[twin]} if twin in ids else {})}
        return reason, {"similarity": round(similarity, 4), "kept": name}

    return sift(
        paths, one_by_one(judge), REASONS[:1] if exact_only else REASONS, output, report=report, **options
    )

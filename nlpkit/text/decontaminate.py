"""Dropping documents that hold texts of an evaluation set.

A document is contaminated when it shares a run of N words with an evaluation text (N = 13 in Brown et al. 2020,
appendix C), holds a shorter evaluation text whole, or equals one. Words are compared with case, punctuation and
spacing aside. How much of a document is shared is counted as Touvron et al. 2023 (Llama 2, appendix A.6) do: the
share of its words that are part of a shared run.

Runs are compared by 64-bit hashes, kept sorted: 14 bytes for each run of the evaluation texts. Documents stream.
Shapes: T words of a document, G = T - N + 1 runs, E runs of the evaluation texts.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlpkit.errors import DataError, UsageError
from nlpkit.text.documents import batches
from nlpkit.text.quality import Item, Sifted, Verdict, items, sift

REASONS = ("equal", "ngram", "contained")
EXAMPLES = 5
_WORD = re.compile(r"\w+")
_CACHED = 1 << 18  # words whose hash is remembered, about 30 MB
Hashes = NDArray[np.uint64]
#: Why a text is contaminated: reason, share of its words, the numbers of the files, and one example.
Shared = tuple[str, float, list[int], dict[str, Any]]


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared.

    >>> words_of("Don't  PANIC!")
    ['don', 't', 'panic']
    """
    return _WORD.findall(text.casefold())


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


class Runs:
    """Hashes of runs of words: Σ hash(word i + j) · c_j modulo 2^64 with fixed odd c_j."""

    def __init__(self, longest: int) -> None:
        self._factors: Hashes = np.array([_hash(f"factor {j}") | 1 for j in range(longest)], np.uint64)
        self._words: dict[str, int] = {}

    def words(self, words: Sequence[str]) -> Hashes:
        """A hash for each word: (T,)."""
        known = self._words
        if len(known) > _CACHED:
            known.clear()
        for word in words:
            if word not in known:
                known[word] = _hash(word)
        return np.fromiter((known[word] for word in words), np.uint64, len(words))

    def runs(self, hashes: Hashes, sizes: Iterable[int]) -> dict[int, Hashes]:
        """For each of some sizes a hash for each run of so many words, from the words' hashes: (T,) → (T - size + 1,).

        A longer run's hash begins with that of the shorter one.
        """
        found: dict[int, Hashes] = {}
        total, done = np.zeros(len(hashes), np.uint64), 0
        for size in sorted(sizes):
            total = total[: max(0, len(hashes) - size + 1)].copy()
            for j in range(done, size):
                total += hashes[j : j + len(total)] * self._factors[j]
            found[size], done = total, size
        return found


class _Table:
    """The runs of one length in the evaluation texts: sorted hashes (E,), whose file and text each is from."""

    def __init__(self) -> None:
        self.parts: list[tuple[Hashes, int, int]] = []
        self.hashes: Hashes = np.empty(0, np.uint64)

    def seal(self) -> None:
        """Sort; a run that a file has several times stays once, with the first text that has it."""
        sizes = [len(hashes) for hashes, _, _ in self.parts]
        hashes = np.concatenate([hashes for hashes, _, _ in self.parts])
        files = np.repeat(np.array([file for _, file, _ in self.parts], np.uint16), sizes)
        texts = np.repeat(np.array([text for _, _, text in self.parts], np.uint32), sizes)
        self.parts = []
        order = np.lexsort((files, hashes))  # stable: the first text of a file stays first
        hashes, files, texts = hashes[order], files[order], texts[order]
        first = np.ones(len(hashes), bool)
        first[1:] = (hashes[1:] != hashes[:-1]) | (files[1:] != files[:-1])
        self.hashes, self.files, self.texts = hashes[first], files[first], texts[first]

    def find(self, runs: Hashes) -> list[tuple[int, int, int]]:
        """(place of the run, file, text) for each of ``runs`` that is there."""
        start = np.searchsorted(self.hashes, runs)
        there = self.hashes[np.minimum(start, len(self.hashes) - 1)] == runs
        found = []
        for at in np.flatnonzero(there):
            entry = int(start[at])
            while entry < len(self.hashes) and self.hashes[entry] == runs[at]:
                found.append((int(at), int(self.files[entry]), int(self.texts[entry])))
                entry += 1
        return found


class Evaluation:
    """The texts of evaluation files, as what a document must not share."""

    def __init__(self, files: Sequence[str | Path], ngram: int = 13, min_contained: int = 8, **reading: Any):
        """Read ``files``; ``reading`` goes to :func:`~nlpkit.text.quality.items`.

        :raises UsageError: a file is missing. :raises DataError: a file holds no words, or a bad record.
        """
        if ngram < 1 or min_contained < 1:
            raise UsageError(f"--ngram {ngram} and --min-contained {min_contained} must be 1 word or more")
        self.ngram, self.names = ngram, [str(file) for file in files]
        self.counts = [0] * len(files)  # texts with words, a file
        self._runs = Runs(max(ngram, 1))
        self._whole: dict[bytes, list[tuple[int, int]]] = {}
        self._tables: dict[int, _Table] = {}
        for file, name in enumerate(files):
            for item in items([name], **reading):
                words = words_of(item.text)
                if words:
                    self._add(words, file, item.number, min_contained)
            if not self.counts[file]:
                raise DataError(f"{name}: holds no text to look for; name an evaluation file that has some")
        for table in self._tables.values():
            table.seal()

    def _add(self, words: list[str], file: int, number: int, min_contained: int) -> None:
        self.counts[file] += 1
        owners = self._whole.setdefault(_whole(words), [])
        if all(owner != file for owner, _ in owners):
            owners.append((file, number))
        size = min(len(words), self.ngram)
        if size == self.ngram or size >= min_contained:
            table = self._tables.setdefault(size, _Table())
            table.parts.append((self._runs.runs(self._runs.words(words), [size])[size], file, number))

    def shared(self, texts: Sequence[str]) -> list[Shared | None]:
        """Why each text is contaminated, or None where it is not."""
        made: list[Shared | None] = [None] * len(texts)
        long: list[tuple[int, list[str]]] = []  # texts that can hold a run, and their words
        least = min(self._tables, default=0)
        for number, text in enumerate(texts):
            words = words_of(text)
            if not words:
                continue
            if equal := self._whole.get(_whole(words)):
                file, of = equal[0]
                about = {"against": self.names[file], "text_number": of, "words": " ".join(words[:50])}
                made[number] = "equal", 1.0, [file for file, _ in equal], about
            elif least and len(words) >= least:
                long.append((number, words))
        if not long:
            return made
        # All their words stand in a row, so that numpy has enough to do; what reaches across an end is no run.
        row = [word for _, words in long for word in words]
        ends = np.cumsum([len(words) for _, words in long])
        runs = self._runs.runs(self._runs.words(row), self._tables)
        held: dict[int, tuple[set[int], set[int], tuple[str, dict[str, Any]]]] = {}
        for size in sorted(self._tables, reverse=True):
            for at, file, of in self._tables[size].find(runs[size]):
                which = int(np.searchsorted(ends, at, side="right"))
                if at + size > ends[which]:
                    continue
                if which not in held:
                    about = {
                        "against": self.names[file], "text_number": of, "words": " ".join(row[at : at + size])
                    }  # fmt: skip
                    held[which] = set(), set(), ("ngram" if size == self.ngram else "contained", about)
                held[which][0].update(range(at, at + size))
                held[which][1].add(file)
        for which, (covered, files, (reason, about)) in held.items():
            number, words = long[which]
            made[number] = reason, len(covered) / len(words), sorted(files), about
        return made


def _whole(words: list[str]) -> bytes:
    return hashlib.blake2b(" ".join(words).encode("utf-8", "replace"), digest_size=16).digest()


def decontaminate(
    paths: Sequence[str | Path],
    against: Sequence[str | Path],
    output: str | None = None,
    *,
    ngram: int = 13,
    min_contained: int = 8,
    min_share: float = 0.0,
    against_field: str | None = None,
    against_documents: str | None = None,
    report: str | None = None,
    **options: Any,
) -> tuple[Sifted, dict[str, Any]]:
    """Write the documents that hold nothing of the evaluation files ``against``.

    ``ngram``: words of a shared run. An evaluation text of fewer words is looked for whole, within documents when
    it has ``min_contained`` words or more, else as the whole of a document. ``min_share``: drop only where at
    least this share of the document's words is shared. ``against_field`` and ``against_documents`` are the text
    field and unit of the evaluation files where they differ. ``options`` go to
    :func:`~nlpkit.text.quality.sift`; ``report`` has a line for each dropped document.

    Returns the counts, and of each evaluation file how many ``texts`` it has and ``documents`` were dropped for
    it (one that shares with two files counts in both), with the first :data:`EXAMPLES` dropped documents.

    :raises DataError: an evaluation file without text.
    """
    if not against:
        raise UsageError("nothing to look for; name evaluation files with --against FILE")
    if any(str(name) == "-" for name in against):
        raise UsageError("--against - is not read from standard input; name a file")
    if not 0 <= min_share <= 1:
        raise UsageError(f"--min-share {min_share} must be from 0 to 1")
    reading = {k: v for k, v in options.items() if k in ("errors", "documents", "text_field")}
    reading["text_field"] = against_field or reading.get("text_field", "text")
    reading["documents"] = against_documents or reading.get("documents", "line")
    evaluation = Evaluation(against, ngram, min_contained, **reading)
    dropped = [0] * len(against)
    examples: list[dict[str, Any]] = []

    def judged(stream: Iterator[Item]) -> Iterator[tuple[Item, Verdict]]:
        for batch in batches((item.text, item) for item in stream):
            found = evaluation.shared([text for text, _ in batch])
            yield from ((item, verdict(item, one)) for (_, item), one in zip(batch, found, strict=True))

    def verdict(item: Item, found: Shared | None) -> Verdict:
        if found is None or found[1] < min_share:
            return None
        reason, share, files, about = found
        for file in files:
            dropped[file] += 1
        about = {"share": round(share, 4), **about}
        if len(examples) < EXAMPLES:
            examples.append({**item.name(), "reason": reason, **about})
        return reason, about

    counted = sift(paths, judged, REASONS, output, report=report, **options)
    per_file = {
        name: {"texts": evaluation.counts[file], "documents": dropped[file]}
        for file, name in enumerate(evaluation.names)
    }
    return counted, {"against": per_file, "examples": examples}

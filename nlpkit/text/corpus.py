"""Counting a corpus and splitting it so that no text is on two sides."""

import functools
import hashlib
from array import array
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nlpkit.errors import DataError, UsageError
from nlpkit.store import atomic, manifest
from nlpkit.text.documents import Document
from nlpkit.text.records import json_line, record_of

SHORT = 64  # characters of a text that may well come again, a heading or nothing at all
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
PARTS = ("train", "valid", "test")


def _digest(words: Sequence[str], seed: int = 0) -> bytes:
    """16 bytes for the words of a text, the same for texts that differ in spacing or case only."""
    plain = " ".join(words).casefold()
    return hashlib.blake2b(f"{seed} {plain}".encode("utf-8", "replace"), digest_size=16).digest()


def stats(documents: Iterable[Document]) -> dict[str, Any]:
    """What a corpus holds: documents, distinct documents, empty ones, words, distinct words, bytes, lengths.

    ``words_per_document`` maps quantiles (``"0.5"`` is the median) to numbers of whitespace-separated words; the
    lower of two neighbours is taken. Memory: 20 bytes a document and the distinct words.

    >>> found = stats([Document("a b"), Document("A  b"), Document("c")])
    >>> found["documents"], found["distinct_documents"], found["words"], found["distinct_words"]
    (3, 2, 5, 4)
    """
    lengths = array("Q")
    seen: set[bytes] = set()
    words: set[str] = set()
    size = empty = 0
    for document in documents:
        found = document.text.split()
        lengths.append(len(found))
        words.update(found)
        size += len(document.text.encode("utf-8", "replace"))
        if found:
            seen.add(_digest(found))
        else:
            empty += 1
    ranked = sorted(lengths)
    last = len(ranked) - 1
    return {
        "documents": len(ranked),
        "distinct_documents": len(seen) + bool(empty),
        "empty_documents": empty,
        "words": sum(ranked),
        "distinct_words": len(words),
        "bytes": size,
        "words_per_document": {f"{q:g}": ranked[int(q * last)] if ranked else 0 for q in QUANTILES},
    }


def split(
    documents: Iterable[Document],
    output: str | Path,
    *,
    valid: float = 0.05,
    test: float = 0.05,
    seed: int = 0,
    force: bool = False,
    notes: dict[str, Any] | None = None,
) -> dict[str, int]:
    """Write train, valid and test.jsonl into a sealed folder; how many documents each has.

    Where a document goes is decided by a hash of its text (spacing and case aside) and the seed alone: equal
    texts are never on two sides, and a document stays where it is when others are added.

    :raises UsageError: shares that do not leave a train part. :raises DataError: no documents.
    """
    if not (0 <= valid < 1 and 0 <= test < 1 and valid + test < 1):
        raise UsageError(f"--valid {valid} and --test {test} must be shares that leave something to train on")
    counts = dict.fromkeys(PARTS, 0)

    def part_of(text: str) -> str:
        place = int.from_bytes(_digest(text.split(), seed)[:8], "big") / 2**64
        return "test" if place < test else "valid" if place < test + valid else "train"

    part_of_short = functools.lru_cache(1 << 12)(part_of)
    line_of_short = functools.lru_cache(1 << 12)(lambda text: json_line({"text": text}))
    with atomic.building(output, force=force) as folder:
        with ExitStack() as held:
            files = {part: held.enter_context(open(folder / f"{part}.jsonl", "wb")) for part in PARTS}
            for document in documents:
                text = document.text
                short = len(text) < SHORT
                part = part_of_short(text) if short else part_of(text)
                bare = short and not (document.fields or document.id or document.title)
                files[part].write(line_of_short(text) if bare else json_line(record_of(document)))
                counts[part] += 1
        if not sum(counts.values()):
            raise DataError("nothing to split: the input has no documents; give it some")
        about = {"documents": counts, "valid": valid, "test": test, "seed": seed, **(notes or {})}
        manifest.seal(folder, "corpus", notes=about)
    return counts


def summary(found: dict[str, Any]) -> Sequence[tuple[str, Any]]:
    """The rows that ``corpus stats`` prints."""
    rows = [(name.replace("_", " "), value) for name, value in found.items() if not isinstance(value, dict)]
    names = {"0": "shortest", "0.5": "median", "1": "longest"}
    for q, value in found["words_per_document"].items():
        rows.append((f"words a document, {names.get(q) or f'{float(q):.0%}'}", value))
    return rows

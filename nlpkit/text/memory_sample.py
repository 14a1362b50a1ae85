"""Texts that a vocabulary can be learned from within a given memory: all of them, or a sample of documents.

Learning needs memory for each different word and for its bytes, however long the text is. The words are therefore
kept with the smallest hash of a document that they are in. When they would need more than there is, the largest
hashes go, and with them those documents: what stays is the documents below one hash, a uniform sample that is
the same every time and does not depend on the order of equal documents.
"""

import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from nlpkit import console
from nlpkit.errors import OutOfMemory, UsageError
from nlpkit.text.bpe_training import lines_of
from nlpkit.text.long_texts import pieces

#: Bytes of memory for each different word and for each byte of it: measured with 40,000 against 440,000 random words
#: of 4 to 12 letters (unigram: with 40,000 alone) and rounded up.
_NEEDS = {"bpe": (300, 90), "wordpiece": (300, 95), "unigram": (400, 120), "word": (300, 2), "char": (300, 2)}
_RESERVE = 96 << 20  # what the library, its batch of texts and the finished vocabulary take
_LEAST = 8 << 20
_KEPT = 0.8  # share of the memory that the words keep when some have to go


def within(texts: Iterable[str | bytes], kind: str, limit: int) -> Iterator[str]:
    """The documents, or of too many a sample by their hash, that a tokenizer of ``kind`` fits in ``limit`` bytes with.

    They wait in a temporary file until all are read. What was left out is said.

    :raises UsageError: the limit is below what the program itself takes.
    :raises OutOfMemory: one document alone needs more.
    """
    room = limit - _resident() - _RESERVE
    if room < _LEAST:
        least = (limit - room + _LEAST) / 2**20
        raise UsageError(f"--max-memory: {limit >> 20} MiB is too little; the least is {least:.0f}M")
    words = _Words(*_NEEDS[kind], room, characters=kind == "char")
    total = total_size = 0
    with tempfile.TemporaryFile(prefix="nlpkit-") as aside:
        documents = (piece for whole in lines_of(texts) for piece, _ in pieces(whole))
        for text in documents:  # a long document counts as several
            total += 1
            total_size += len(text)
            data = text.encode()
            key = blake2b(data, digest_size=8).digest()
            if words.add(text, int.from_bytes(key)):
                aside.write(key + len(data).to_bytes(4) + data)
        if total_size and not words.firsts:
            raise OutOfMemory(
                f"--max-memory: no document of the text fits in {limit >> 20} MiB; raise it or pass --documents line"
            )
        below, different = words.below, len(words.firsts)
        del words
        aside.seek(0)
        used = used_size = 0
        while head := aside.read(12):
            data = aside.read(int.from_bytes(head[8:]))
            if int.from_bytes(head[:8]) < below:
                text = data.decode()
                used += 1
                used_size += len(text)
                yield text
    if used < total:
        console.note(
            f"--max-memory {limit >> 20}M: learned from {100 * used_size / total_size:.1f} % of the text "
            f"({used:,} of {total:,} documents, a sample by hash; {different:,} different words)"
        )


class _Words:
    """The different words of the documents below a hash, each with the smallest hash of a document it is in."""

    def __init__(self, word: int, byte: int, room: int, characters: bool) -> None:
        self.word, self.byte, self.room, self.characters = word, byte, room, characters
        self.firsts: dict[str, int] = {}
        self.below = 1 << 64
        self.need = 0

    def add(self, text: str, key: int) -> bool:
        """Count a document in; whether it stays (for now)."""
        if key >= self.below:
            return False
        firsts = self.firsts
        for word in set(text) if self.characters else set(text.split()):
            first = firsts.get(word)
            if first is None:
                self.need += self._cost(word)
                firsts[word] = key
            elif key < first:
                firsts[word] = key
        if self.need > self.room:
            self._shrink()
        return key < self.below

    def _cost(self, word: str) -> int:
        return self.word + self.byte * (len(word) if word.isascii() else len(word.encode()))

    def _shrink(self) -> None:
        """Lower the hash until the words below it need their share of the room."""
        self.need = 0
        for word, first in sorted(self.firsts.items(), key=lambda item: item[1]):
            self.need += self._cost(word)
            if self.need > _KEPT * self.room:
                self.below = first
                break
        self.firsts = {word: first for word, first in self.firsts.items() if first < self.below}
        self.need = sum(map(self._cost, self.firsts))


def _resident() -> int:
    """The memory that this process holds, in bytes (where the system does not say: the most that it has held)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

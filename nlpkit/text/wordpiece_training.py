"""WordPiece vocabularies (Wu et al. 2016) learned by ``tokenizers``' trainer, the same every time.

The library numbers the continuation characters (``##a``) in the order of a randomly seeded hash table, and breaks ties
between merges by those numbers. Here the text is put aside while its characters are counted, and the continuation
characters are announced in sorted order beforehand. What stands between spaces is normalized and parted once, however
often it comes: see :mod:`nlpkit.text.word_encoding` for why that may be done.
"""

import json
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np

from nlpkit.errors import UsageError
from nlpkit.text.documents import batches
from nlpkit.text.token_numbers import LINE_END, TokenNumbers, longer, named, runs_of
from nlpkit.text.tokenizer import SPECIALS
from nlpkit.text.word_encoding import parting

_BLOCK = 1 << 14  # bytes of numbers that are read at once: each can stand for a kilobyte
_ALPHABET = 1000  # characters that a vocabulary starts from


def learn_wordpiece(raw: Any, options: dict[str, Any], texts: Iterable[str]) -> Any:
    """``raw`` with a WordPiece model learned from texts; ``options`` are the trainer's.

    :raises UsageError: a vocabulary that has no room for the characters of the text.
    """
    from tokenizers import pre_tokenizers, trainers

    numbers, counts = TokenNumbers(parting()), np.zeros(0, np.int64)
    with tempfile.TemporaryFile() as aside:
        for batch in batches(texts):
            stream = numbers(("\n".join(batch) + "\n").encode("utf-8", "replace"))
            counts = longer(counts, numbers.count)
            counts[: numbers.count] += np.bincount(stream[stream != LINE_END], minlength=numbers.count)
            aside.write(stream.data)
        names, table = numbers.since(0, 0), _Words()
        assert names is not None  # no run holds a line end
        del numbers
        every: Counter[str] = Counter()
        continued: set[str] = set()
        for number, run in enumerate(names):  # in place: there can be millions
            words, count = raw.normalizer.normalize_str(run).translate(table).split(), int(counts[number])
            names[number] = " ".join(words)
            for word in words:
                continued.update(word[1:])
                for character in word:
                    every[character] += count
        best = sorted(every, key=lambda c: (-every[c], c))[:_ALPHABET]
        tails = ["##" + c for c in sorted(set(best) & continued)]
        room = options["vocab_size"] - len(SPECIALS) - len(tails) - len(best)
        if every and room < 0:
            raise UsageError(
                f"--vocab-size {options['vocab_size']} is too small: this text alone has {len(best)} characters "
                f"and {len(tails)} continuations; at least {options['vocab_size'] - room} is needed"
            )
        rare = dict.fromkeys(ord(c) for c in set(every) - set(best))
        places, spelled = _spelled(names, rare)
        del names
        options = options | {"special_tokens": [*options["special_tokens"], *tails]}
        steps = raw.normalizer, raw.pre_tokenizer
        # The text is as these steps leave it.
        raw.normalizer, raw.pre_tokenizer = None, pre_tokenizers.WhitespaceSplit()
        raw.train_from_iterator(_named_blocks(aside, places, spelled), trainers.WordPieceTrainer(**options))
        raw.normalizer, raw.pre_tokenizer = steps
    return _without_added(raw, frozenset(tails))


def _spelled(names: list[str], left_out: dict[int, None]) -> tuple[np.ndarray, np.ndarray]:
    """Where each name (V,) stands in the bytes of all of them, without some characters; and those bytes."""
    lengths, spelled = np.zeros(len(names), np.int64), bytearray()
    for number, name in enumerate(names):
        before = len(spelled)
        spelled += (name.translate(left_out) if left_out else name).encode("utf-8", "replace")
        lengths[number] = len(spelled) - before
    return runs_of(lengths), np.frombuffer(bytes(spelled), np.uint8)


def _named_blocks(aside: IO[bytes], places: np.ndarray, spelled: np.ndarray) -> Iterator[str]:
    """The text that a file of int32 numbers stands for, in blocks."""
    aside.seek(0)
    while data := aside.read(_BLOCK):
        yield named(np.frombuffer(data, np.int32), places, spelled)[0].decode()


def _without_added(raw: Any, names: frozenset[str]) -> Any:
    """The tokenizer with tokens that training announced as special back in the ordinary vocabulary."""
    body = json.loads(raw.to_str())
    body["added_tokens"] = [t for t in body["added_tokens"] if t["content"] not in names]
    return type(raw).from_str(json.dumps(body))


class _Words(dict[int, int | str]):
    """A table that sets punctuation apart as BERT's pre-tokenizer does: it is never inside a word."""

    def __missing__(self, code: int) -> int | str:
        character = chr(code)
        ascii_symbol = code < 128 and not character.isalnum() and character.isprintable() and code != 32
        apart = ascii_symbol or unicodedata.category(character)[0] == "P"
        self[code] = f" {character} " if apart else code
        return self[code]

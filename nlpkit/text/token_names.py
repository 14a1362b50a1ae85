"""Tokens, and n-grams of them, as words of a line: a name holds no space or control character, no two are alike."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nlpkit.text.tokenizer import Tokenizer

JOINT = " "  # between the tokens of an n-gram
_CONTROL = re.compile("[\x00-\x20]")


def names_of(tokenizer: "Tokenizer") -> list[str]:
    """The name of each id: its token, a space in it drawn as ▁, a line break or other control character as ␊, ␉, ….

    A token that would be drawn as an earlier one gets its id behind it (``▁#31``); the same for a hole (``#31``).
    """
    names: list[str] = []
    taken: set[str] = set()
    for i in range(tokenizer.vocab_size):
        name = _CONTROL.sub(
            lambda m: "▁" if m[0] == " " else chr(0x2400 + ord(m[0])), tokenizer.id_to_token(i)
        )
        while name in taken or not name:
            name = f"{name}#{i}"
        taken.add(name)
        names.append(name)
    return names


def ngrams(words: Sequence[str], low: int, high: int) -> list[str]:
    """The n-grams of ``low`` to ``high`` words, the short ones first, each in the order of the text.

    >>> ngrams(["the", "cat", "sat"], 1, 2)
    ['the', 'cat', 'sat', 'the cat', 'cat sat']
    """
    return [JOINT.join(words[i : i + n]) for n in range(low, high + 1) for i in range(len(words) - n + 1)]

"""Very long texts for the ``tokenizers`` library, which takes 150 bytes of memory or more for a byte or a token.

A text is cut where the cut cannot change its ids: before a single space between two characters that are no space.
Every split of words used here begins a new word there, whatever stands on either side. Tokens are joined by tables of
what each of them stands for, where the decoder is one that can be told token by token.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

LONG = 1 << 18  # characters that are encoded at once
_PLACE = re.compile(r"(?<=\S) (?=\S)")
_STEPS = {"Sequence", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "BertNormalizer"}
_SPLITS = {"ByteLevel", "BertPreTokenizer", "Metaspace", "Whitespace", "WhitespaceSplit", "Split"}


class Joined:
    """What the library says of an encoded text, for one that was encoded in pieces without template and offsets."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sequence_ids(self) -> list[int | None]:
        """The part of each token: there is one."""
        return [0] * len(self.ids)

    @property
    def type_ids(self) -> list[int]:
        """The segment of each token."""
        return [0] * len(self.ids)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Nothing is known of them."""
        return [(0, 0)] * len(self.ids)


def can_be_cut(body: dict[str, Any]) -> bool:
    """Whether a tokenizer.json gives a text the ids of its pieces, for pieces as :func:`pieces` makes them.

    Its steps before the split look at no space, and no added token takes one in.
    """
    normal, split = body.get("normalizer"), body.get("pre_tokenizer") or {}
    kinds = set(re.findall(r'"type": "(\w+)"', json.dumps(normal)))
    regex = split.get("pattern", {}).get("Regex", "") if split.get("type") == "Split" else r"[\s\S]"
    return (
        kinds <= _STEPS
        and split.get("type") in _SPLITS
        and regex == r"[\s\S]"
        and not any(t.get("rstrip") or re.search(r"\s", t["content"]) for t in body.get("added_tokens", ()))
    )


def pieces(text: str, size: int = LONG) -> Iterator[tuple[str, bool]]:
    """``text`` in pieces of at most ``size`` characters, and whether one ends where its ids may differ.

    >>> list(pieces("red blue cat", 10)), list(pieces("aaaa b", 3))
    ([('red blue', False), (' cat', False)], [('aaa', True), ('a b', False)])
    """
    at = 0
    while len(text) - at > size:
        end = at + size
        reach, start = 1 << 10, end
        places: list[int] = []
        while not places and start > at + 1:  # from the end in growing steps: a place is near in most texts
            start, reach = max(at + 1, end - reach), 4 * reach
            places = [m.start() for m in _PLACE.finditer(text, start, end)]
        end = places[-1] if places else end
        yield text[at:end], not places
        at = end
    yield text[at:], False


def encode(text: str, ids_of: Callable[[str], list[int]], known: list[int]) -> tuple[Joined, bool]:
    """The ids of a long text, and whether a run without spaces had to be cut; ``known`` are all ids, to be shared."""
    ids: list[int] = []
    cut = False
    for piece, forced in pieces(text):
        ids.extend(map(known.__getitem__, ids_of(piece)))
        cut |= forced
    return Joined(ids), cut


class LongDecoder:
    """The text of many ids, as the library's byte-level and Metaspace decoders give it; V vocabulary.

    ``names`` (V): the tokens, empty for a hole; ``skipped``: the ids that are left out when special tokens are.

    >>> spaces = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
    >>> LongDecoder(spaces, ["▁a", "b"], set())([0, 1, 0])
    'ab a'
    """

    def __init__(self, decoder: dict[str, Any], names: Sequence[str], skipped: set[int]) -> None:
        self.skipped, self._first = skipped, {}
        if decoder["type"] == "ByteLevel":
            bytes_of = _byte_level()
            self._pieces = [
                bytes(bytes_of[c] for c in name) if bytes_of.keys() >= set(name) else name.encode()
                for name in names
            ]
        else:
            sign = decoder["replacement"]
            self._pieces = [name.replace(sign, " ").encode() for name in names]
            if decoder["prepend_scheme"] != "never":  # the space before the first word is none of the text
                self._first = {
                    i: name.replace(sign, "").encode() for i, name in enumerate(names) if sign in name
                }

    @staticmethod
    def knows(decoder: dict[str, Any]) -> bool:
        """Whether such a decoder (of a tokenizer.json) can be told token by token."""
        return decoder["type"] in ("ByteLevel", "Metaspace")

    def __call__(self, ids: Sequence[int], special: bool = True) -> str:
        """The text of ids; without ``special`` that of the others."""
        if not special and self.skipped:
            ids = [i for i in ids if i not in self.skipped]
        if not ids:
            return ""
        piece = self._pieces.__getitem__
        made = [self._first.get(ids[0], piece(ids[0]))]
        made += [b"".join(map(piece, ids[at : at + LONG])) for at in range(1, len(ids), LONG)]
        return b"".join(made).decode("utf-8", "replace")


def _byte_level() -> dict[str, int]:
    """The byte that each character of GPT-2's alphabet stands for (Radford et al. 2019): printable ones themselves."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return {**{chr(byte): byte for byte in shown}, **{chr(256 + n): byte for n, byte in enumerate(hidden)}}

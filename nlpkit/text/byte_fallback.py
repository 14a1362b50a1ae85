"""Unigram vocabularies that spell what they lack in bytes, so that decoding gives back any text.

Source: Kudo and Richardson 2018 (SentencePiece), byte fallback. The pieces ``<0x00>`` to ``<0xFF>`` are chosen for
characters without a piece and for nothing else: text that spells such a name itself is cheaper piece by piece.
"""

import json
import re
from typing import Any

from nlpkit.errors import UsageError

SPELLING = "<0123456789ABCDEFx>"  # the characters of the bytes' names; each has a piece of its own
_NAME = re.compile(r"<0x[0-9A-F]{2}>")
_WHY_NOT = {
    "bpe": "a bpe tokenizer starts from the 256 bytes, so it needs none; leave the option out",
    "wordpiece": "wordpiece gives a word with an unknown character up as a whole ([UNK])",
    "word": "a word that is not in the vocabulary has no pieces; it is [UNK]",
    "char": "a character model has no decoder from bytes; it is [UNK]",
}


def check_byte_fallback(kind: str) -> None:
    """Refuse a kind that cannot fall back to bytes, or need not.

    :raises UsageError: any kind but unigram.
    """
    if kind in _WHY_NOT:
        more = "" if kind == "bpe" else "; use --kind unigram --byte-fallback, or --kind bpe"
        raise UsageError(f"--byte-fallback: {_WHY_NOT[kind]}{more}")


def lossless(raw: Any) -> None:
    """Give an untrained tokenizer a split and a decoder that lose nothing: words keep the space before them."""
    from tokenizers import Regex, decoders, pre_tokenizers

    raw.pre_tokenizer = pre_tokenizers.Split(Regex("[^ ]+| [^ ]*"), "isolated")
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])


def with_bytes(raw: Any) -> Any:
    """A trained unigram tokenizer with the pieces of the 256 bytes behind its own.

    A byte costs more than any name spelled in pieces, even in six of the rarest.
    """
    body = json.loads(raw.to_str())
    pieces = [[piece, score] for piece, score in body["model"]["vocab"] if not _NAME.fullmatch(piece)]
    least = min((score for _, score in pieces), default=0.0)
    there = {piece for piece, _ in pieces}
    pieces += [[character, least] for character in SPELLING if character not in there]
    pieces += [[f"<0x{byte:02X}>", 8 * least - 10.0] for byte in range(256)]
    body["model"] |= {"vocab": pieces, "byte_fallback": True}
    return type(raw).from_str(json.dumps(body, ensure_ascii=False))

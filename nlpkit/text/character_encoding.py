"""Bulk encoding where every character is a token: one look-up a character.

N bytes of a block, T characters and line ends of it, C code points.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nlpkit.text.tokenizer import Tokenizer

LONGEST = 1 << 24  # bytes of a block
_CODES = 0x110000


def supports(tokenizer: "Tokenizer") -> bool:
    """Whether the ids of a text are known to be those of its characters."""
    body = tokenizer.body
    model, split = body["model"], body.get("pre_tokenizer") or {}
    return (
        model.get("type") == "WordLevel"
        and model.get("unk_token") in model["vocab"]
        and body.get("normalizer") is None
        and not tokenizer.recipe
        and split.get("type") == "Split"
        and split.get("pattern") == {"Regex": r"[\s\S]"}
        and split.get("behavior") == "Isolated"
        and not split.get("invert")
        and not any(token.get("lstrip") or token.get("rstrip") for token in body.get("added_tokens") or [])
    )


class CharacterEncoder:
    """Blocks of lines to ids (T,) int32, with ``end`` for each line end. The lines spell no added token."""

    def __init__(self, tokenizer: "Tokenizer", end: int) -> None:
        model = tokenizer.body["model"]
        self._ids = np.full(_CODES, model["vocab"][model["unk_token"]], np.int32)  # (C,)
        for token, number in model["vocab"].items():
            if len(token) == 1:
                self._ids[ord(token)] = number
        self._ids[10] = end

    def __call__(self, block: bytes) -> np.ndarray:
        """The ids of lines (N bytes of UTF-8), the last of which has its end too."""
        codes = np.frombuffer(block.decode().encode("utf-32-le"), np.uint32)
        ids: np.ndarray = self._ids[codes]
        return ids

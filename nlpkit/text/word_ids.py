"""Numbers for the words between spaces, many texts at a time.

P words of some texts, D texts.
"""

from collections.abc import Sequence

import numpy as np

from nlpkit.text.token_numbers import LINE_END, TokenNumbers, spaces

END = LINE_END


class WordIds:
    """Words to ids that count up from 0; memory holds the distinct words and some bytes for each.

    >>> words = WordIds()
    >>> ids, sizes = words(["a b a", "", "b"])
    >>> [words.names[i] for i in ids], sizes.tolist()
    (['a', 'b', 'a', 'b'], [3, 0, 1])
    """

    def __init__(self) -> None:
        self._numbers = TokenNumbers(spaces())
        self.counts = np.zeros(0, np.int64)  # how often each word has come

    def __len__(self) -> int:
        return self._numbers.count

    @property
    def names(self) -> list[str]:
        """The words in the order of their ids."""
        names = self._numbers.since(0, 0)
        assert names is not None  # no word holds a line end
        return names

    def stream(self, texts: Sequence[str]) -> np.ndarray:
        """The ids (P + D,) int32 of all texts, :data:`END` behind each."""
        # The spaces beyond ASCII become plain ones.
        plain = [text if text.isascii() else " ".join(text.split()) for text in texts]
        joined = "\n".join(plain)
        if joined.count("\n") >= len(plain):
            joined = "\n".join(text.replace("\n", " ") for text in plain)
        stream = self._numbers((joined + "\n").encode("utf-8", "surrogatepass")[: None if plain else 0])
        found = np.bincount(stream - END, minlength=len(self) + 1)[1:]
        found[: len(self.counts)] += self.counts
        self.counts = found
        return stream

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids (P,) of all texts, end to end, and how many each text has (D,)."""
        stream = self.stream(texts)
        ends = np.flatnonzero(stream == END)
        return stream[stream != END].astype(np.int64), np.diff(ends, prepend=-1) - 1

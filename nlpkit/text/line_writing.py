"""Lines about tokens in bulk: the bulk encoder, and a compiled loop that writes what it gives.

V vocabulary, L lines, T their tokens, P parts of a line (:class:`~nlpkit.text.token_lines.Form`).
"""

import functools
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.text.fast_encoding import LineEncoder, jobs, supports
from nlpkit.text.token_numbers import BITS, LENGTH, compiled, runs_of

if TYPE_CHECKING:
    from nlpkit.text.token_lines import Form
    from nlpkit.text.tokenizer import Tokenizer


class LineWriter:
    """``encoder``, the bulk encoder (None where no engine serves the tokenizer), and the lines of its ids."""

    def __init__(self, tokenizer: "Tokenizer", form: "Form", end: int | None) -> None:
        self.encoder = LineEncoder(tokenizer, end, jobs()) if supports(tokenizer) else None
        texts = [*(before for before, _ in form.parts), form.between, form.after]
        raw = [text.encode("utf-8", "replace") for text in chain(texts, *(names for _, names in form.parts))]
        places = runs_of(np.fromiter(map(len, raw), np.int64, len(raw)))
        self._texts, self._names = places[: len(texts)], places[len(texts) :].reshape(len(form.parts), -1)
        self._bytes = np.frombuffer(b"".join(raw), np.uint8)

    def written(self, ids: np.ndarray, lengths: np.ndarray) -> memoryview:
        """The lines of ids (T,) whose lengths are (L,)."""
        weigh, emit = _loops()
        ids, lengths = ids.astype(np.int32), lengths.astype(np.int64)
        out = np.empty(weigh(ids, len(lengths), self._texts, self._names), np.uint8)
        return out[: emit(ids, lengths, self._texts, self._names, self._bytes, out)].data


def _weigh(ids: np.ndarray, lines: int, texts: np.ndarray, names: np.ndarray) -> int:
    """Room for lines, in bytes, with a separator for every token."""
    parts = names.shape[0]
    room = lines * (texts[parts + 1] & LENGTH) + parts * len(ids) * (texts[parts] & LENGTH)
    for part in range(parts):
        room += lines * (texts[part] & LENGTH)
        for i in ids:
            room += names[part, i] & LENGTH
    return room


def _emit(
    ids: np.ndarray,
    lengths: np.ndarray,
    texts: np.ndarray,
    names: np.ndarray,
    source: np.ndarray,
    out: np.ndarray,
) -> int:
    """Write the lines; how many bytes. ``texts`` (P + 2,) and ``names`` (P, V) are runs of the bytes ``source``."""
    parts = names.shape[0]
    at = begin = 0
    for length in lengths:
        for part in range(parts + 1):
            # The text before the names, then a name and a separator in turn; after the last part a text alone.
            for step in range(max(1, 2 * length) if part < parts else 1):
                if step == 0:
                    place = texts[part if part < parts else parts + 1]
                elif step & 1:
                    place = names[part, ids[begin + (step >> 1)]]
                else:
                    place = texts[parts]
                start, size = place >> BITS, place & LENGTH
                for i in range(size):
                    out[at + i] = source[start + i]
                at += size
        begin += length
    return at


@functools.cache
def _loops() -> list[Callable[..., Any]]:
    def weigh(numba: Any) -> tuple[Any, ...]:
        return numba.int32[::1], numba.int64, numba.int64[::1], numba.int64[:, ::1]

    def emit(numba: Any) -> tuple[Any, ...]:
        number, read = numba.int64, numba.types.Array(numba.uint8, 1, "C", readonly=True)
        return numba.int32[::1], number[::1], number[::1], number[:, ::1], read, numba.uint8[::1]

    return compiled({_weigh: weigh, _emit: emit})

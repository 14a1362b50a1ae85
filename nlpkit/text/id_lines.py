"""Lines of text to lines of decimal ids: plainly at first, in bulk once there is enough text to pay for an engine.

V vocabulary, L lines of a block, T tokens of a block.
"""

from collections.abc import Sequence
from itertools import chain
from typing import IO, TYPE_CHECKING

from nlpkit.text.blocks import BLOCK, SMALL, line_blocks
from nlpkit.text.compression import reading
from nlpkit.text.documents import Counts, Source, batches

if TYPE_CHECKING:
    import numpy as np

    from nlpkit.text.tokenizer import Tokenizer


def write_ids(
    found: Sequence[Source], tokenizer: "Tokenizer", file: IO[bytes], *, errors: str, end: int | None
) -> int:
    """Write a line of ids for each line of text sources, ``end`` behind each; how many. A pipe is answered at once.

    :raises DataError: text that is not UTF-8, where ``errors`` is strict.
    """
    counts, seen, lines = Counts(), 0, 0
    bulk: _Bulk | None = None
    digits = [str(i) for i in range(tokenizer.vocab_size)]
    last = () if end is None else (end,)
    (empty,) = tokenizer.encode([""])
    try:
        for source in found:
            size = source.path.stat().st_size if source.path is not None and source.path.is_file() else 0
            with reading(source.path) as stream:
                blocks = line_blocks(stream, BLOCK, numbered=errors == "strict", prompt=True)
                for block in blocks:
                    if bulk is None and max(seen, size) >= SMALL:
                        bulk = _Bulk(tokenizer, end)
                    if bulk is not None and bulk.encoder is not None:
                        for ids, lengths in bulk.encoder.blocks(
                            chain([block], blocks), source, errors, counts
                        ):
                            file.write(bulk.written(ids, lengths))
                            lines += len(lengths)
                        break
                    seen += len(block.data) if isinstance(block.data, bytes) else SMALL
                    for batch in batches(block.lines(source.name, errors, counts)):
                        encoded = iter(tokenizer.encode([text for text in batch if text]))
                        rows = [next(encoded) if text else empty for text in batch]
                        file.write(
                            "".join(
                                [" ".join([digits[i] for i in (*row, *last)]) + "\n" for row in rows]
                            ).encode()
                        )
                        lines += len(rows)
    finally:
        if bulk is not None and bulk.encoder is not None:
            bulk.encoder.close()
    counts.report()
    return lines


class _Bulk:
    """The bulk encoder, where one serves the tokenizer, and what writes its ids."""

    def __init__(self, tokenizer: "Tokenizer", end: int | None) -> None:
        import numpy as np

        from nlpkit.text.fast_encoding import LineEncoder, jobs, supports

        self.encoder: LineEncoder | None = (
            LineEncoder(tokenizer, end, jobs()) if supports(tokenizer) else None
        )
        size = tokenizer.vocab_size
        width = len(str(size))
        shown = np.array([f"{i:<{width}}" for i in range(size)], f"S{width + 1}")
        self._digits = shown.view(np.uint8).reshape(size, width + 1)  # (V, width + 1), a NUL at the end
        self._kept = self._digits != 32
        self._digits[:, width] = 32
        self._widths = self._kept.sum(axis=1)

    def written(self, ids: "np.ndarray", lengths: "np.ndarray") -> bytes:
        """Ids (T,) and the lengths (L,) of lines as lines of decimal numbers."""
        import numpy as np

        text = self._digits[ids][self._kept[ids]]  # each number with a space behind it
        ends = np.concatenate([[0], np.cumsum(self._widths[ids])])[np.cumsum(lengths)]
        full = lengths > 0
        text[ends[full] - 1] = 10
        if not full.all():
            text = np.insert(text, ends[~full], 10)
        made: bytes = text.tobytes()
        return made

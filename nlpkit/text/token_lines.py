"""Lines of text to lines of ids or tokens: plainly at first, in bulk once there is enough text to pay for an engine.

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


def write_lines(
    found: Sequence[Source],
    tokenizer: "Tokenizer",
    names: Sequence[str],
    file: IO[bytes],
    *,
    errors: str,
    end: int | None,
) -> int:
    """Write a line for each line of text sources: what ``names`` (V) calls its ids, the id ``end`` last; how many.

    A pipe is not kept waiting.

    :raises DataError: text that is not UTF-8, where ``errors`` is strict.
    """
    counts, seen, lines = Counts(), 0, 0
    bulk: _Bulk | None = None
    last = () if end is None else (end,)
    (empty,) = tokenizer.encode([""])
    try:
        for source in found:
            size = source.path.stat().st_size if source.path is not None and source.path.is_file() else 0
            with reading(source.path) as stream:
                blocks = line_blocks(stream, BLOCK, numbered=errors == "strict", prompt=True)
                for block in blocks:
                    if bulk is None and max(seen, size) >= SMALL:
                        bulk = _Bulk(tokenizer, names, end)
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
                                [" ".join([names[i] for i in (*row, *last)]) + "\n" for row in rows]
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

    def __init__(self, tokenizer: "Tokenizer", names: Sequence[str], end: int | None) -> None:
        import numpy as np

        from nlpkit.text.fast_encoding import LineEncoder, jobs, supports
        from nlpkit.text.token_numbers import runs_of

        self.encoder: LineEncoder | None = (
            LineEncoder(tokenizer, end, jobs()) if supports(tokenizer) else None
        )
        raw = [name.encode() for name in names]
        self._places = runs_of(np.fromiter(map(len, raw), np.int64, len(raw)))
        self._names = np.frombuffer(b"".join(raw), np.uint8)

    def written(self, ids: "np.ndarray", lengths: "np.ndarray") -> bytes:
        """The names of ids (T,) on lines whose lengths are (L,)."""
        import numpy as np

        from nlpkit.text.token_numbers import LINE_END, named

        stream = np.insert(ids.astype(np.int32), np.cumsum(lengths), LINE_END)
        return named(stream, self._places, self._names)[0]

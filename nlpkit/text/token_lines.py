"""Lines of text to lines about their tokens: plainly at first, in bulk once there is enough text to pay for an engine.

V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import IO, TYPE_CHECKING

from nlpkit.text.blocks import BLOCK, SMALL, line_blocks
from nlpkit.text.compression import reading
from nlpkit.text.documents import Counts, Source, batches

if TYPE_CHECKING:
    from nlpkit.text.line_writing import LineWriter
    from nlpkit.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Form:
    """How a line is written: in each part a text, then the names of all ids by that part's table (V)."""

    parts: Sequence[tuple[str, Sequence[str]]]
    between: str = " "  # two names
    after: str = "\n"

    def line(self, ids: Sequence[int]) -> str:
        """One line.

        >>> Form([("ids ", "012"), (", tokens ", "abc")]).line([2, 0])
        'ids 2 0, tokens c a\\n'
        """
        made = [before + self.between.join([names[i] for i in ids]) for before, names in self.parts]
        return "".join(made) + self.after


def write_lines(
    found: Sequence[Source],
    tokenizer: "Tokenizer",
    form: Form,
    file: IO[bytes],
    *,
    errors: str,
    end: int | None,
) -> int:
    """Write a line about the ids of each line of text sources, the id ``end`` last; how many.

    A pipe is not kept waiting.

    :raises DataError: text that is not UTF-8, where ``errors`` is strict.
    """
    counts, seen, lines = Counts(), 0, 0
    bulk: LineWriter | None = None
    last = [] if end is None else [end]
    (empty,) = tokenizer.encode([""])
    of_nothing = form.line(empty + last)
    try:
        for source in found:
            size = source.path.stat().st_size if source.path is not None and source.path.is_file() else 0
            with reading(source.path) as stream:
                blocks = line_blocks(stream, BLOCK, numbered=errors == "strict", prompt=True)
                for block in blocks:
                    if bulk is None and max(seen, size) >= SMALL:
                        from nlpkit.text import line_writing

                        bulk = line_writing.LineWriter(tokenizer, form, end)
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
                        made = [form.line(next(encoded) + last) if text else of_nothing for text in batch]
                        file.write("".join(made).encode("utf-8", "replace"))
                        lines += len(made)
    finally:
        if bulk is not None and bulk.encoder is not None:
            bulk.encoder.close()
    counts.report()
    return lines

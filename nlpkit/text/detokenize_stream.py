"""The detokenize filter: lines of ids, records of ``tokenize --format jsonl`` and token shards back to text."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nlpkit import console
from nlpkit.errors import DataError
from nlpkit.text.compression import reading
from nlpkit.text.documents import LIMIT, Source, batches, sources
from nlpkit.text.records import writing

if TYPE_CHECKING:
    from nlpkit.text.shards import TokenShard
    from nlpkit.text.tokenizer import Tokenizer

LONGEST = 16 * LIMIT  # bytes of a line; ids, tokens and offsets of a document take more room than its text


def detokenize(
    paths: Sequence[str | Path],
    tokenizer: "Tokenizer",
    output: str | None = None,
    *,
    special: bool = False,
    force: bool = False,
) -> int:
    """Write the text of each line of ids, each record and each document of a shard; how many there were.

    A file named ``.npy`` or ``.bin`` is a token shard: its hashes and its tokenizer are checked before anything is
    written. Texts with line breaks take several lines of output; they are counted.

    :raises DataError: a word that is no id of the tokenizer, with file:line. :raises ArtifactError: a shard that is
        damaged or was made with another tokenizer.
    """
    found = [(source, _shard(source, tokenizer)) for source in sources(paths)]
    size = tokenizer.vocab_size
    decode, count, broken = tokenizer.raw.decode_batch, 0, 0
    with writing(output, force) as file:
        for source, shard in found:
            rows = _lines(source, size) if shard is None else (row.tolist() for row in shard)
            for batch in batches(rows):
                decoded = iter(decode([row for row in batch if row], skip_special_tokens=not special))
                texts = [next(decoded) if row else "" for row in batch]
                count += len(texts)
                broken += sum("\n" in text for text in texts)
                file.write("".join([text + "\n" for text in texts]).encode("utf-8", "replace"))
    if broken:
        console.warn(f"{broken:,} of {count:,} texts hold line breaks, so they take more than one line")
    return count


def _shard(source: Source, tokenizer: "Tokenizer") -> "TokenShard | None":
    """The token shard that a source is, checked; None where it is lines."""
    if source.path is None or source.path.suffix not in (".npy", ".bin"):
        return None
    from nlpkit.text.shards import TokenShard

    shard = TokenShard.open(source.path)
    shard.require(tokenizer)
    return shard


def _lines(source: Source, size: int) -> Iterator[list[int]]:
    """The ids of each line; a line is never cut, as a long line of text would be."""
    with reading(source.path) as file:
        number = 0
        while line := file.readline(LONGEST):
            number += 1
            if line == b"\n":
                yield []
                continue
            where = f"{source.name}:{number}"
            if len(line) == LONGEST and not line.endswith(b"\n"):
                raise DataError(f"{where}: a line of over {LONGEST >> 20} MiB is no document; split it")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield _ids(line, where, size)


def _ids(line: bytes, where: str, size: int) -> list[int]:
    def refused(odd: object) -> DataError:
        word = odd.decode(errors="replace") if isinstance(odd, bytes) else str(odd)
        known = f"(0 to {size - 1}); give what nlpkit tokenize prints as ids or jsonl"
        return DataError(f"{where}: {word[:40]!r} is no token id {known}")

    if line.lstrip()[:1] == b"{":
        try:
            values = json.loads(line)["ids"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f'{where}: a JSON line needs "ids": [numbers]') from error
        if not isinstance(values, list):
            raise refused(values)
        odd = next((v for v in values if type(v) is not int), None)
        if odd is not None:
            raise refused(odd)
        ids: list[int] = values
    else:
        # The first word is looked at alone: a long line of text is refused before it is taken apart.
        words = line[:64].split(None, 1)[:1]
        for whole in (False, True):
            words = line.split() if whole else words
            strange = next((w for w in words if not w.isdigit() or len(w) > 19), None)
            if strange is not None:
                raise refused(strange)
        ids = [int(word) for word in words]
    if ids and not 0 <= min(ids) <= max(ids) < size:
        raise refused(next(i for i in ids if not 0 <= i < size))
    return ids

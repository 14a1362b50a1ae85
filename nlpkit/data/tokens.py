"""Documents as one flat array of token ids on disk, read through a memory map, with a stable validation split.

``tokens.bin`` (uint16 or uint32, little-endian), ``offsets.npy`` (uint64, n + 1) and ``hashes.npy`` (uint64, one
a document: of its text, so that the split does not move when the tokenizer changes). Letters: N documents.
"""

import hashlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nlpkit import console
from nlpkit.errors import ArtifactError, DataError
from nlpkit.store import atomic, manifest

if TYPE_CHECKING:
    from nlpkit.text.documents import Document
    from nlpkit.text.tokenizer import Tokenizer

CHUNK = 512  # documents encoded at a time
COUNTED = 1 << 24  # ids counted at a time
BLOCK = 1024  # tokens: a longer document falls into blocks of about this, so one long text has a held-out part too


@dataclass(frozen=True)
class Tokens:
    """Token ids of N documents: document i is ``ids[offsets[i] : offsets[i + 1]]``; ``hashes[i]`` names its text.

    ``sources``: (name, how many documents) of the sources they are of, in order; empty where they are not told apart.
    """

    ids: np.ndarray
    offsets: np.ndarray
    hashes: np.ndarray
    sources: tuple[tuple[str, int], ...] = ()

    @property
    def starts(self) -> np.ndarray:
        """Where each document begins, int64 (N,)."""
        return self.offsets[:-1].astype(np.int64)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, int64 (N,)."""
        return np.diff(self.offsets.astype(np.int64))

    @property
    def highest(self) -> int:
        """The highest id, -1 when there is none; reads the ids a block at a time."""
        return max(
            (int(self.ids[s : s + COUNTED].max()) for s in range(0, len(self.ids), COUNTED)), default=-1
        )

    def counts(self, vocabulary: int) -> np.ndarray:
        """How often each id occurs, int64 (vocabulary,); reads the ids a block at a time."""
        total = np.zeros(vocabulary, np.int64)
        for start in range(0, len(self.ids), COUNTED):
            total += np.bincount(self.ids[start : start + COUNTED], minlength=vocabulary)
        return total


def text_hash(data: bytes) -> int:
    """A stable 64-bit name of a text."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def from_lists(documents: Iterable[list[int]], sources: tuple[tuple[str, int], ...] = ()) -> Tokens:
    """Tokens in memory, hashed by their ids.

    >>> from_lists([[1, 2], [3]]).lengths.tolist()
    [2, 1]
    """
    arrays = [np.asarray(d, np.int64) for d in documents]
    offsets = np.concatenate([[0], np.cumsum([len(a) for a in arrays])]).astype(np.uint64)
    hashes = np.array([text_hash(a.tobytes()) for a in arrays], np.uint64)
    return Tokens(np.concatenate([*arrays, np.empty(0, np.int64)]), offsets, hashes, sources)


def prepare(
    documents: "Iterable[Document] | Mapping[str, Iterable[Document]]", tokenizer: "Tokenizer", folder: Path
) -> Tokens:
    """Encode documents (streaming, bounded memory beside 16 bytes a document) into the sealed ``folder``.

    A mapping holds the documents of each source by its name. Raises DataError when no document holds a token.
    """
    parts = documents if isinstance(documents, Mapping) else {"": documents}
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
    with atomic.building(folder, force=True) as made:
        lengths, hashes = array("Q"), array("Q")
        sources: list[tuple[str, int]] = []
        with open(made / "tokens.bin", "wb") as out, console.progress("tokenizing", unit="documents") as bar:
            for name, part in parts.items():
                before, stream = len(lengths), iter(part)
                while chunk := [d.text for d in islice(stream, CHUNK)]:
                    for text, ids in zip(chunk, tokenizer.encode(chunk), strict=True):
                        if ids:
                            out.write(np.asarray(ids, dtype).tobytes())
                            lengths.append(len(ids))
                            hashes.append(text_hash(text.encode("utf-8", "surrogatepass")))
                    bar.advance(len(chunk))
                sources.append((name, len(lengths) - before))
        if not lengths:
            raise DataError("the input holds no text to learn from; give files with at least a few documents")
        ends = np.cumsum(np.frombuffer(lengths, np.uint64), dtype=np.uint64)
        np.save(made / "offsets.npy", np.concatenate([np.zeros(1, np.uint64), ends]).astype("<u8"))
        np.save(made / "hashes.npy", np.frombuffer(hashes, np.uint64).astype("<u8"))
        recipe = {"recipe": tokenizer.recipe_hash} if tokenizer.recipe_hash else {}
        made_with = {"tokenizer": tokenizer.fingerprint, **recipe}
        apart = {"sources": sources} if [name for name, _ in sources] != [""] else {}
        manifest.seal(made, "tokens", made_with=made_with, notes={"dtype": dtype.name, **apart})
    return open_tokens(folder, tokenizer)


def open_tokens(folder: Path, tokenizer: "Tokenizer") -> Tokens:
    """The tokens of a sealed folder, every byte compared with its hash first; refused when not ``tokenizer``'s."""
    sealed = manifest.check(folder, "tokens")
    if sealed.made_with.get("tokenizer") != tokenizer.fingerprint:
        what = "tokenizer" if sealed.made_with.get("recipe", "") == tokenizer.recipe_hash else "recipe"
        raise ArtifactError(
            f"{folder}: made with another {what}; name the tokenizer it was made with, or start over with --force"
        )
    ids = np.memmap(folder / "tokens.bin", np.dtype(str(sealed.notes["dtype"])), "r")
    offsets = np.load(folder / "offsets.npy", allow_pickle=False)
    sources = tuple((str(name), int(count)) for name, count in sealed.notes.get("sources", []))
    return Tokens(ids, offsets, np.load(folder / "hashes.npy", allow_pickle=False), sources)


def from_shard(path: str | Path, tokenizer: "Tokenizer") -> Tokens:
    """A shard that ``nlpkit tokenize`` wrote, refused when another tokenizer made it."""
    from nlpkit.text.shards import TokenShard

    shard = TokenShard.open(path)
    shard.require(tokenizer)
    offsets = np.asarray(shard.offsets).astype(np.int64)
    if len(offsets) < 2 or offsets[-1] == 0:
        raise DataError(f"{path}: holds no tokens")
    ids = shard.ids
    hashes = [text_hash(ids[a:b].tobytes()) for a, b in pairwise(offsets.tolist())]
    return Tokens(ids, offsets.astype(np.uint64), np.asarray(hashes, np.uint64))


def split(tokens: Tokens, fraction: float, most: int, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blocks of the documents and which of them are for validation: (starts, lengths, is_valid bool).

    A block is a document, or the next BLOCK tokens (rounded up to whole rows of ``room``) of a long one. Those
    whose hash lies in the lowest ``fraction`` are for validation, up to ``most`` tokens, and at least one where
    there are two. Equal texts go together.
    """
    starts, lengths = tokens.starts, tokens.lengths
    size = room * -(-BLOCK // room)
    pieces = np.maximum(-(-lengths // size), 1)
    document = np.repeat(np.arange(len(lengths)), pieces)
    first = np.concatenate([[0], np.cumsum(pieces)[:-1]])
    within = np.arange(len(document)) - first[document]
    starts, lengths = starts[document] + within * size, np.minimum(lengths[document] - within * size, size)
    # splitmix64 of (hash of the document, number of the block): cheap, stable, well mixed
    with np.errstate(over="ignore"):
        h = tokens.hashes[document] + within.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        h = h ^ (h >> np.uint64(31))
    chosen = np.zeros(len(h), bool)
    if fraction > 0 and len(np.unique(h)) > 1:
        order = np.argsort(h, kind="stable")
        below = int(np.searchsorted(h[order], np.uint64(min(fraction, 0.5) * 2.0**64)))
        within_most = int(np.searchsorted(np.cumsum(lengths[order]), most, side="right"))
        take = max(min(below, within_most), 1)
        chosen = h <= h[order[take - 1]]
    return starts, lengths, chosen

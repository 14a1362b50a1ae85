"""Token shards: the ids of many documents in one memory-mapped file, with where each begins.

A shard is NAME.npy (or .bin: the bare little-endian numbers), NAME.offsets.npy (uint64, documents + 1) and the
sidecar NAME.json, which holds the hashes of both and the fingerprint of the tokenizer and is written last.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from nlpkit.errors import ArtifactError, UsageError
from nlpkit.store import atomic
from nlpkit.store.manifest import sha256
from nlpkit.store.verify import Report
from nlpkit.text.tokenizer import Tokenizer

FORMAT = 1
_HEADER = 128  # bytes of the .npy header, kept free until the count is known


class TokenShard:
    """Documents as token ids on disk.

    ``ids`` is all of them (memory-mapped, the smallest unsigned type that holds the vocabulary), ``offsets``
    (uint64, documents + 1) says where each document begins: ``shard[i]`` is document ``i``.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path, self.about = path, about
        self.dtype = np.dtype(about["dtype"])
        self.tokenizer_fingerprint: str = about["tokenizer"]
        self.vocab_size: int = about["vocab_size"]
        try:
            self.ids = _map(path, self.dtype)
            self.offsets = _map(_offsets_path(path), np.dtype("<u8"))
        except (ValueError, OSError) as error:
            raise ArtifactError(f"{path}: not a token shard: {error}; {_remedy(path)}") from error
        whole = len(self.offsets) == about["documents"] + 1 and len(self.ids) == about["tokens"]
        if not whole or (len(self.offsets) and int(self.offsets[-1]) != len(self.ids)):
            raise ArtifactError(f"{path}: its parts do not fit one another; {_remedy(path)}")

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> "TokenShard":
        """Map a shard (any of its file names will do), after its sizes and hashes were compared.

        :raises UsageError: no such shard. :raises ArtifactError: damaged; nothing is changed.
        """
        path = Path(path)
        stem = path.name.removesuffix(path.suffix).removesuffix(".offsets")
        sidecar = path.with_name(stem + ".json")
        if not sidecar.is_file():
            raise UsageError(
                f"{sidecar}: no such file; a shard is made by nlpkit tokenize --format npy -o NAME.npy"
            )
        about = _read_sidecar(sidecar)
        for name, expected in about["files"].items():
            file = path.with_name(name)
            if not file.is_file():
                raise ArtifactError(f"{file}: missing; {_remedy(file)}")
            if file.stat().st_size != expected["size"]:
                size = file.stat().st_size
                raise ArtifactError(f"{file}: {size} bytes, written with {expected['size']}; {_remedy(file)}")
            if verify and sha256(file) != expected["sha256"]:
                raise ArtifactError(f"{file}: damaged (SHA-256 differs); {_remedy(file)}")
        return cls(path.with_name(about["ids"]), about)

    def __len__(self) -> int:
        """The number of documents."""
        return int(self.about["documents"])

    def __getitem__(self, index: int) -> np.ndarray:
        if not -len(self) <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        index %= len(self)
        return self.ids[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def require(self, tokenizer: Tokenizer) -> None:
        """Check that the ids are this tokenizer's.

        :raises ArtifactError: they were made with another tokenizer or recipe.
        """
        if tokenizer.fingerprint != self.tokenizer_fingerprint:
            what = "recipe" if tokenizer.recipe_hash != self.about["recipe"] else "tokenizer"
            raise ArtifactError(
                f"{self.path}: made with another {what} (tokenizer {self.tokenizer_fingerprint[:12]}, this "
                f"one is {tokenizer.fingerprint[:12]}); tokenize again with this one, or name the one it was made with"
            )


def smallest_dtype(vocab_size: int) -> np.dtype:
    """The smallest unsigned type for ids below ``vocab_size``.

    >>> str(smallest_dtype(256)), str(smallest_dtype(257)), str(smallest_dtype(70_000))
    ('uint8', 'uint16', 'uint32')
    """
    return np.dtype("<u1" if vocab_size <= 1 << 8 else "<u2" if vocab_size <= 1 << 16 else "<u4")


def write_shard(
    path: str | Path, rows: Iterable[Iterable[int]], tokenizer: Tokenizer, *, force: bool = False
) -> TokenShard:
    """Stream id lists into a shard named NAME.npy or NAME.bin; what is returned is open.

    :raises UsageError: the name ends otherwise, or the shard exists and ``force`` is not set.
    """
    dtype = smallest_dtype(tokenizer.vocab_size)
    arrays = (np.asarray(list(row), dtype=dtype) for row in rows)
    return write_blocks(path, ((ids, np.array([len(ids)])) for ids in arrays), tokenizer, force=force)


def write_blocks(
    path: str | Path,
    blocks: Iterable[tuple[np.ndarray, np.ndarray]],
    tokenizer: Tokenizer,
    *,
    force: bool = False,
) -> TokenShard:
    """Like :func:`write_shard`, for many documents at a time: their ids in a row, and how many each has.

    :raises UsageError: the name ends otherwise, or the shard exists and ``force`` is not set.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".bin"):
        raise UsageError(f"{path}: a shard is named NAME.npy or NAME.bin")
    sidecar = path.with_suffix(".json")
    places = (path, _offsets_path(path), sidecar)
    for place in places:
        atomic.refuse_existing(place, force)
    dtype = smallest_dtype(tokenizer.vocab_size)
    tokens = documents = 0
    with atomic.writing(path) as ids_file, atomic.writing(_offsets_path(path)) as offsets_file:
        bare = (
            hashlib.sha256() if path.suffix == ".bin" else None
        )  # a header is written last: hashed at the end
        if bare is None:
            ids_file.write(bytes(_HEADER))
        offsets_file.write(bytes(_HEADER))
        offsets_file.write(np.uint64(0).astype("<u8").tobytes())
        for ids, lengths in blocks:
            data = np.ascontiguousarray(ids, dtype).data
            ids_file.write(data)
            if bare is not None:
                bare.update(data)
            offsets_file.write((np.cumsum(lengths, dtype="<u8") + np.uint64(tokens)).astype("<u8").tobytes())
            tokens += len(ids)
            documents += len(lengths)
        if bare is None:
            _write_header(ids_file, dtype, tokens)
        _write_header(offsets_file, np.dtype("<u8"), documents + 1)
        files = {}
        for place, file in ((path, ids_file), (_offsets_path(path), offsets_file)):
            file.flush()
            written = Path(file.name)
            digest = bare.hexdigest() if bare is not None and place == path else sha256(written)
            files[place.name] = {"size": os.path.getsize(written), "sha256": digest}
        sidecar.unlink(missing_ok=True)  # an old sidecar must not describe new numbers, not even for a moment
    about = {
        "nlpkit": "tokens",
        "format": FORMAT,
        "ids": path.name,
        "dtype": dtype.str,
        "documents": documents,
        "tokens": tokens,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer": tokenizer.fingerprint,
        "recipe": tokenizer.recipe_hash,
        "files": files,
    }
    about["checksum"] = _checksum(about)
    atomic.write_bytes(sidecar, _packed(about))
    return TokenShard(path, about)


def report(path: Path) -> Report:
    """All that is wrong with the token shard that a file is part of; UsageError when it is part of none."""
    stem = path.name.removesuffix(path.suffix).removesuffix(".offsets")
    sidecar = path.with_name(f"{stem}.json")
    parts = [path.with_name(f"{stem}{end}") for end in (".json", ".npy", ".bin", ".offsets.npy")]
    if not sidecar.is_file() or not any(part.is_file() for part in parts[1:]):
        raise UsageError(f"{path}: not an nlpkit artefact; name a folder or shard that nlpkit made")
    held = [part for part in parts if part.is_file()]
    found = Report(sidecar, "tokens", len(held), sum(part.stat().st_size for part in held))
    try:
        about = TokenShard.open(sidecar).about
        claimed = {sidecar.name, *about["files"]}
        found.problems += [
            f"{part}: not in the seal (an extra file)" for part in held if part.name not in claimed
        ]
        if sidecar.read_bytes() != _packed(about):
            found.problems.append(f"{sidecar}: not as it was written")
    except ArtifactError as fault:
        found.problems.append(str(fault).partition("; nothing was changed")[0])
    return found


def _packed(about: dict[str, Any]) -> bytes:
    return (json.dumps(about, indent=1) + "\n").encode()


def _offsets_path(path: Path) -> Path:
    return path.with_suffix(".offsets.npy")


def _write_header(file: IO[bytes], dtype: np.dtype, count: int) -> None:
    """Put the .npy header (format 1.0) into the bytes that were left for it at the beginning."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({count},), }}"
    head = b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little")
    file.seek(0)
    file.write(head + text.encode().ljust(_HEADER - 11) + b"\n")


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    if path.suffix == ".bin":
        if path.stat().st_size == 0:
            return np.empty(0, dtype)
        return np.memmap(path, dtype=dtype, mode="r")
    if path.stat().st_size == _HEADER:
        return np.empty(0, dtype)
    mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    if mapped.dtype != dtype or mapped.ndim != 1:
        raise ValueError(f"{path.name} holds {mapped.dtype}, {dtype} is needed")
    return mapped


def _checksum(about: dict[str, Any]) -> str:
    body = {k: v for k, v in about.items() if k != "checksum"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _read_sidecar(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_bytes())
        whole = about["nlpkit"] == "tokens" and about["checksum"] == _checksum(about)
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise ArtifactError(f"{path}: not the sidecar of a token shard, or damaged; {_remedy(path)}")
    if about["format"] > FORMAT:
        raise ArtifactError(
            f"{path}: format {about['format']} is newer than this nlpkit reads; upgrade nlpkit"
        )
    if any(Path(name).name != name for name in (about["ids"], *about["files"])):
        raise ArtifactError(f"{path}: names files outside its folder; {_remedy(path)}")
    return dict(about)


def _remedy(path: Path) -> str:
    return (
        f"nothing was changed; make it again (nlpkit tokenize --format {path.suffix[1:] or 'npy'} … --force)"
    )

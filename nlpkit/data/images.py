"""Labelled images: scikit-learn's digits, .npz files and MNIST's idx folders. Letters: N images, C channels, H, W.

Every source becomes ``pixels`` float32 (N, C, H, W) in [0, 1] and ``labels`` int64 (N,), with fixed parts.
"""

import gzip
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nlpkit.core.batch import Batch
from nlpkit.data.order import Order, split_up
from nlpkit.errors import DataError, UsageError

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class ImagesConfig:
    """``batch_size`` images a step, in micro-batches of ``micro_batch`` (0: all at once)."""

    batch_size: int = 64
    micro_batch: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.micro_batch < 0:
            raise ValueError("batch_size must be 1 or more, micro_batch 0 or more")


@dataclass(frozen=True)
class Images:
    """``pixels`` float32 (N, C, H, W) in [0, 1]; ``labels`` int64 (N,)."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def load(source: str | Path) -> dict[str, Images]:
    """The parts ``train``, ``valid`` and ``test`` of ``digits``, an .npz file or a folder of idx files."""
    path = Path(source)
    if str(source) == "digits" and not path.exists():
        return _digits()
    if path.is_dir():
        return _idx_folder(path)
    if path.suffix == ".npz":
        return _npz(path)
    if not path.exists():
        raise UsageError(f"{source}: no such data; known: digits, a file .npz, a folder of idx files (MNIST)")
    raise UsageError(f"{source}: expected digits, an .npz file (images, labels) or a folder of idx files")


def _digits() -> dict[str, Images]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError("digits come with scikit-learn; run: pip install 'nlpkit[digits]'") from error
    images, labels = load_digits(return_X_y=True)
    pixels = (np.asarray(images, np.float32) / 16.0).reshape(-1, 1, 8, 8)
    return stratified(pixels, np.asarray(labels, np.int64))


def stratified(
    pixels: np.ndarray, labels: np.ndarray, valid: float = 0.1, test: float = 0.2
) -> dict[str, Images]:
    """Fixed parts: within each class the images in order of their SHA-256, first test, then valid, then train."""
    digests = [hashlib.sha256(p.tobytes()).digest() for p in pixels]
    where: dict[str, list[int]] = {part: [] for part in PARTS}
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label).tolist(), key=lambda i: digests[i])
        n_test, n_valid = round(test * len(members)), round(valid * len(members))
        where["test"] += members[:n_test]
        where["valid"] += members[n_test : n_test + n_valid]
        where["train"] += members[n_test + n_valid :]
    return {part: Images(pixels[sorted(w)], labels[sorted(w)]) for part, w in where.items()}


def _as_images(images: np.ndarray, labels: np.ndarray, where: str | Path) -> tuple[np.ndarray, np.ndarray]:
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[-1] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or labels.shape != (len(images),) or not len(images):
        raise DataError(
            f"{where}: expected images (N, H, W[, C]) and labels (N,), got {images.shape} and {labels.shape}"
        )
    pixels = np.ascontiguousarray(images, np.float32)
    if images.dtype == np.uint8:
        pixels /= 255.0
    elif not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
        raise DataError(f"{where}: pixels must be uint8, or floats in [0, 1]")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise DataError(f"{where}: labels must be whole numbers from 0")
    return pixels, labels.astype(np.int64)


def _npz(path: Path) -> dict[str, Images]:
    import zipfile

    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as held:
            missing = {"images", "labels"} - set(held.files)
            if missing:
                raise DataError(f"{path}: has no array {sorted(missing)[0]!r}; found {', '.join(held.files)}")
            pixels, labels = _as_images(held["images"], held["labels"], path)
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            f"{path}: not a readable .npz of plain arrays: {error}; make it again with np.savez"
        ) from error
    return stratified(pixels, labels)


def _idx_folder(folder: Path) -> dict[str, Images]:
    loaded = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        images, labels = (
            _idx(_find(folder, f"{stem}-images-idx3-ubyte")),
            _idx(_find(folder, f"{stem}-labels-idx1-ubyte")),
        )
        loaded[part] = _as_images(images, labels, folder)
    parts = stratified(*loaded["train"], valid=0.05, test=0.0)
    return {"train": parts["train"], "valid": parts["valid"], "test": Images(*loaded["test"])}


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UsageError(
        f"{folder}: has no {name}[.gz]; a folder of images holds the four idx files of MNIST's layout; check the path"
    )


def _idx(path: Path) -> np.ndarray:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip: {error}") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise DataError(f"{path}: not an idx file of bytes")
    shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    body = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if body.size != int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{path}: {body.size} values, its header says {'×'.join(map(str, shape))}")
    return body.reshape(shape)


class ImageData:
    """Batches ``pixels`` (B, C, H, W) and ``labels`` (B,); ``batch(step)`` is a pure function of (seed, step)."""

    def __init__(self, parts: dict[str, Images], config: ImagesConfig, *, seed: int = 0) -> None:
        self.parts, self.config = parts, config
        self.classes = int(max(int(p.labels.max()) for p in parts.values() if len(p))) + 1
        self.pixels = {n: torch.from_numpy(p.pixels) for n, p in parts.items()}
        self.targets = {n: torch.from_numpy(p.labels) for n, p in parts.items()}
        self.order = Order(len(parts["train"]), config.batch_size, seed)

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every image was seen."""
        return self.order.steps_per_epoch

    def describe(self) -> str:
        """One line: images, shape, classes."""
        shape = "×".join(map(str, self.parts["train"].pixels.shape[1:]))
        sizes = ", ".join(f"{len(self.parts[p]):,} {p}" for p in PARTS)
        return f"images {shape} of {self.classes} classes: {sizes}"

    def batch(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        parts = split_up(self.order.items(step), self.config.micro_batch)
        return [self._take("train", torch.from_numpy(p)) for p in parts]

    def part(self, name: str) -> Iterator[Batch]:
        """All of ``valid`` or ``test`` in order."""
        size = max(self.config.micro_batch or self.config.batch_size, 256)
        for start in range(0, len(self.parts[name]), size):
            stop = min(start + size, len(self.parts[name]))
            yield {"pixels": self.pixels[name][start:stop], "labels": self.targets[name][start:stop]}

    def valid(self) -> Iterator[Batch]:
        """The validation part."""
        return self.part("valid")

    def _take(self, part: str, items: torch.Tensor) -> Batch:
        return {"pixels": self.pixels[part][items], "labels": self.targets[part][items]}

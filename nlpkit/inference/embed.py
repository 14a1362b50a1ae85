"""Texts → unit vectors: by a bi-encoder, by any text encoder with pooling, or by word vectors.

Shapes: N texts, B batch, T tokens, D width. Word vectors need no torch, and none is imported for them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from nlpkit.errors import UsageError, did_you_mean
from nlpkit.inference.loading import find, resolve
from nlpkit.inference.sentences import Encoder, Floats, SentenceEncoder
from nlpkit.store import manifest
from nlpkit.vectors import sif
from nlpkit.vectors.vectors import Vectors, unit_rows

PRECISIONS = ("auto", "fp32", "bf16", "int8")


class VectorsEncoder:
    """A text's word vectors in the mean, or weighted by ``fitted`` (:mod:`nlpkit.vectors.sif`), as a unit vector.

    All words unknown: zeros.
    """

    def __init__(self, vectors: Vectors, fitted: sif.Fitted | None = None) -> None:
        self.fitted = fitted
        self.vectors = vectors if fitted is None else sif.smoothed(vectors, fitted.a)
        self.width = vectors.width
        self.fingerprint = vectors.fingerprint if fitted is None else sif.fingerprint(vectors, fitted)

    def encode(self, texts: Sequence[str], *, batch_tokens: int = 8192) -> Floats:
        """Unit rows (N, D) float32."""
        if not len(texts):
            return np.zeros((0, self.width), np.float32)
        rows = np.asarray(self.vectors.mean(list(texts)), dtype=np.float32)
        return unit_rows(rows if self.fitted is None else sif.without(rows, self.fitted.direction))


def fit_encoder(
    name: str | Path,
    batches: Iterable[Sequence[str]],
    keep: str | Path | None = None,
    *,
    force: bool = False,
) -> tuple[Encoder, int]:
    """Word vectors weighted by smooth inverse frequency, and from how many texts their common direction was learned.

    ``keep`` is a folder to write, which :func:`load_encoder` opens. Raises UsageError for anything but vectors as
    they were trained, DataError where the texts hold too few known words.
    """
    folder = find(name)
    if not _is_vectors(folder):
        raise UsageError(f"{name}: --weighting is for word vectors, this is a trained encoder; leave it out")
    vectors = Vectors.load(folder)
    if sif.read(folder, vectors.width) is not None:
        raise UsageError(f"{name}: is fitted already; name the vectors it was made from to fit anew")
    fitted = sif.fit(sif.smoothed(vectors), batches)
    if keep is not None:
        sif.save(folder, fitted, keep, force=force)
    return VectorsEncoder(vectors, fitted), fitted.texts


def _is_vectors(folder: Path) -> bool:
    return (folder / manifest.NAME).is_file() and manifest.read(folder).kind == "vectors"


def write_npy(file: IO[bytes], blocks: Iterable[Floats], width: int) -> int:
    """Write blocks of rows (·, D) as one .npy (N, D) float32 into a seekable file; N, which is known at the end."""

    def header(count: int) -> None:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
        np.lib.format.write_array_header_1_0(file, shape)  # leaves room for any N: its length does not change

    header(0)
    count = 0
    for block in blocks:
        file.write(np.ascontiguousarray(block, dtype="<f4").tobytes())
        count += len(block)
    file.seek(0)
    header(count)
    file.seek(0, 2)
    return count


def weighting_of(name: str | Path) -> str:
    """How a folder makes one vector of a text: ``mean`` or ``sif`` of word vectors, ``""`` for a trained encoder."""
    folder = find(name)
    if not _is_vectors(folder):
        return ""
    return "sif" if sif.FILE in manifest.read(folder).files else "mean"


def load_encoder(name: str | Path, device: str | None = None, precision: str = "fp32") -> Encoder:
    """The encoder that ``name`` means: a run or model folder (bi-encoder, masked model), or a folder of vectors.

    Vectors are averaged; those of a fitted folder (:func:`fit_encoder`) are weighted and projected as it says.
    ``precision`` is that of the products of a transformer: fp32, bf16, int8 (on a processor), or auto: bf16 where it
    is measured to be the faster one, once there is much to encode (:mod:`nlpkit.inference.bulk`). The fingerprint is
    the same in all. Raises UsageError (not there, another kind of model) and ArtifactError (damaged).
    """
    precision = {"float32": "fp32", "bfloat16": "bf16"}.get(precision, precision)
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r}{did_you_mean(precision, PRECISIONS)}")
    folder = find(name)
    if _is_vectors(folder):
        vectors = Vectors.load(folder)
        return VectorsEncoder(vectors, sif.read(folder, vectors.width))
    inner = resolve(name)
    from nlpkit.inference.foreign import ForeignEncoder, is_foreign

    if is_foreign(inner):
        if precision in ("bf16", "int8"):
            raise UsageError(
                f"{name}: is of an architecture that is computed in fp32 only; leave --precision out"
            )
        return ForeignEncoder(inner, device)
    from nlpkit.inference.bulk import TransformerEncoder, open_encoder

    return TransformerEncoder(open_encoder(name, device), precision)


__all__ = [
    "PRECISIONS", "Encoder", "Floats", "SentenceEncoder", "VectorsEncoder", "fit_encoder", "load_encoder",
    "weighting_of", "write_npy",
]  # fmt: skip

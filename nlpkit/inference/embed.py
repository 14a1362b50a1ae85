"""Texts → unit vectors: by a bi-encoder, by any text encoder with pooling, or by word vectors.

Shapes: N texts, B batch, T tokens, D width. Word vectors need no torch, and none is imported for them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nlpkit import console
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.inference.loading import LoadedModel, find, load_model
from nlpkit.store import jsonfile, manifest
from nlpkit.vectors import sif
from nlpkit.vectors.vectors import Vectors, unit_rows

Floats = NDArray[np.float32]


class Encoder(Protocol):
    """What turns texts into vectors: its width D, and a fingerprint that changes when its answers would."""

    width: int
    fingerprint: str

    def encode(self, texts: Sequence[str], *, batch_tokens: int = 8192) -> Floats:
        """Unit rows (N, D) float32 in the order of the texts; a row of zeros where nothing is known."""
        ...


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


class SentenceSettings:
    """How a sentence-transformers folder turns hidden states into a vector; the mean where it says nothing.

    Reads ``modules.json``, ``1_Pooling/config.json``, ``sentence_bert_config.json`` and the default prompt of
    ``config_sentence_transformers.json``. A module or pooling that is not understood is an ArtifactError: a
    silently different vector would be worse. Rows are made unit whether or not the folder has a Normalize.
    """

    def __init__(self, folder: Path) -> None:
        from nlpkit.core.folder import read_pooling

        self.pooling, self.prompt, self.lower = "mean", "", False
        self.max_length: int | None = None
        if not (folder / "modules.json").is_file():
            return
        for name, where in _modules(folder / "modules.json"):
            if name == "Pooling":
                self.pooling = read_pooling(folder / where / "config.json")
            elif name not in ("Transformer", "Normalize"):
                raise ArtifactError(f"{folder / 'modules.json'}: the module {name} is not supported")
        if (folder / "sentence_bert_config.json").is_file():
            settings = jsonfile.read(folder / "sentence_bert_config.json")
            self.max_length = settings.get("max_seq_length") or None
            self.lower = bool(settings.get("do_lower_case"))
        if (folder / "config_sentence_transformers.json").is_file():
            settings = jsonfile.read(folder / "config_sentence_transformers.json")
            self.prompt = (settings.get("prompts") or {}).get(settings.get("default_prompt_name")) or ""


def _modules(path: Path) -> list[tuple[str, str]]:
    """(class name, folder) of each module, in order."""
    import json

    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return [(str(m["type"]).rpartition(".")[2], str(m["path"])) for m in listed]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not a list of modules") from error


class TransformerEncoder:
    """A text encoder with pooling: bi-encoders, sentence-transformers folders, and masked models (mean)."""

    def __init__(self, loaded: LoadedModel) -> None:
        from nlpkit.inference.batching import trunk_of

        loaded.need("biencoder", "mlm", verb="embed")
        self.loaded, self.trunk = loaded, trunk_of(loaded.model)
        self.tokenizer = loaded.text
        self.settings = SentenceSettings(loaded.folder)
        if not (loaded.folder / "modules.json").is_file():
            self.settings.pooling = getattr(getattr(loaded.model, "config", None), "pooling", None) or "mean"
        self.width = self.trunk.config.trunk.width
        self.fingerprint = loaded.fingerprint
        self.truncated = 0  # texts that were cut so far
        context = self.trunk.config.context
        self.max_length = min(self.settings.max_length or context, context)

    def encode(self, texts: Sequence[str], *, batch_tokens: int = 8192) -> Floats:
        """Unit rows (N, D) float32; texts longer than the model reads are cut, counted in ``truncated``."""
        import torch

        from nlpkit.core.batch import pad
        from nlpkit.core.heads import pool
        from nlpkit.inference.batching import WINDOW, by_length, device_of

        tokenizer, device = self.tokenizer, device_of(self.loaded.model)
        rows = np.zeros((len(texts), self.width), np.float32)
        how: Any = self.settings.pooling
        before = tokenizer.truncated
        for start in range(0, len(texts), WINDOW):
            window = [self.settings.prompt + text for text in texts[start : start + WINDOW]]
            if self.settings.lower:
                window = [text.lower() for text in window]
            encoded = tokenizer.encode(window, special=True, max_length=self.max_length)
            for batch in by_length([len(ids) for ids in encoded], batch_tokens):
                ids, segments = pad([encoded[i] for i in batch], tokenizer.pad_id, device)
                with torch.inference_mode():
                    pooled = pool(self.trunk(ids, segments), segments, how)
                rows[[start + i for i in batch]] = pooled.float().cpu().numpy()
        self._count(tokenizer.truncated - before)
        return unit_rows(rows)

    def _count(self, cut: int) -> None:
        if cut and not self.truncated:
            console.warn(f"texts longer than the model reads ({self.max_length} tokens) are cut at their end")
        self.truncated += cut


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


def load_encoder(name: str | Path, device: str | None = None) -> Encoder:
    """The encoder that ``name`` means: a run or model folder (bi-encoder, masked model), or a folder of vectors.

    Vectors are averaged; those of a fitted folder (:func:`fit_encoder`) are weighted and projected as it says.
    Raises UsageError (not there, another kind of model) and ArtifactError (damaged).
    """
    folder = find(name)
    if _is_vectors(folder):
        vectors = Vectors.load(folder)
        return VectorsEncoder(vectors, sif.read(folder, vectors.width))
    return TransformerEncoder(load_model(name, device))

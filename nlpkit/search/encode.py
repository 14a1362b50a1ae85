"""The model of an index: found again by its stored path, refused when it is no longer the one that made the vectors."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit.errors import ArtifactError, UsageError
from nlpkit.inference.embed import Encoder, load_encoder
from nlpkit.search.folder import Settings

Loader = Callable[[str], Encoder]
FEW = 64  # texts that are not worth the seconds in which torch is imported


def load(path: str, precision: str = "auto") -> Encoder:
    """Open a model by its path or name, to encode many texts in the precision that is measured to be worth it.

    Torch is imported here if the model needs it.
    """
    return load_encoder(path, precision=precision)


def load_light(path: str) -> Encoder:
    """Open a model for few texts: at once, and without torch where that can be."""
    from nlpkit.inference.query_encoder import load_query_encoder

    return load_query_encoder(path)


def stored_path(path: str, index: Path) -> str:
    """How an index remembers its model: relative to the folder where it is a path, else the name as it is."""
    if not Path(path).exists():
        return path
    return os.path.relpath(Path(path).resolve(), index.resolve())


def found_path(stored: str, index: Path) -> str:
    """The path or name to open for what :func:`stored_path` gave."""
    beside = index.resolve() / stored
    return os.path.normpath(beside) if beside.exists() else stored


def tokenizer_fingerprint(encoder: Any) -> str:
    """The fingerprint of the encoder's tokenizer where it has one."""
    return str(getattr(getattr(encoder, "tokenizer", None), "fingerprint", ""))


def recipe_hash(encoder: Any) -> str:
    """The hash of the recipe that the encoder's words go through, of its vectors or its tokenizer; empty for none."""
    recipe = getattr(getattr(encoder, "vectors", None), "recipe", None)
    return recipe.hash if recipe else str(getattr(getattr(encoder, "tokenizer", None), "recipe_hash", ""))


def vectors(encoder: Encoder, texts: Sequence[str], role: str = "") -> np.ndarray:
    """Checked vectors (N, D) float32 of N texts; ``role`` query or document, for models that have prompts for them."""
    told: dict[str, Any] = {"role": role} if role and getattr(encoder, "prompts", None) else {}
    made = np.asarray(encoder.encode(texts, **told), np.float32)
    if made.shape != (len(texts), encoder.width) or not np.isfinite(made).all():
        raise ArtifactError(
            f"the model gave vectors of shape {made.shape} for {len(texts)} texts, or not finite"
        )
    return made


def open_for(settings: Settings, index: Path, loader: Loader) -> Encoder:
    """The encoder that made the vectors of an index."""
    path = found_path(settings.encoder, index)
    again = (
        f"rebuild with: nlpkit index build … -o {index} --model {path} --force (--mode bm25 works as it is)"
    )
    try:
        encoder = loader(path)
    except (UsageError, FileNotFoundError) as error:
        raise ArtifactError(
            f"{index}: its model {path} cannot be opened ({error}); put it back, or {again}"
        ) from error
    mine = (encoder.fingerprint, encoder.width)
    if mine != (settings.encoder_fingerprint, settings.width) or (
        tokenizer_fingerprint(encoder) != settings.tokenizer_fingerprint
    ):
        known = settings.encoder_recipe  # none in an index of an earlier release
        what = "recipe" if known and known != recipe_hash(encoder) else "model/tokenizer"
        raise ArtifactError(f"{index}: built with another {what} than {path} is now; {again}")
    return encoder

"""Scores texts against a query, both read together by a cross-encoder (Nogueira and Cho 2019, section 3).

Shapes: N texts, B batch, T tokens.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlpkit import console
from nlpkit.core.batch import pad
from nlpkit.inference.batching import BATCH_TOKENS, by_length, device_of, text_config
from nlpkit.inference.loading import load_model
from nlpkit.store import jsonfile


def second_text(ids: Tensor, segments: Tensor, sep_id: int) -> Tensor:
    """Token types (B, T) of ``[CLS] a [SEP] b [SEP]``: 0 up to the first [SEP], 1 behind it, 0 on padding.

    >>> second_text(torch.tensor([[2, 7, 3, 8, 3, 0]]), torch.tensor([[1, 1, 1, 1, 1, 0]]), 3).tolist()
    [[0, 0, 0, 1, 1, 0]]
    """
    ends = (ids == sep_id).long()
    return ((ends.cumsum(1) - ends > 0) & (segments != 0)).long()


class CrossEncoder:
    """A cross-encoder run or folder, ready to score; sequence classifiers with one output are such models."""

    def __init__(self, path: str | Path, device: str | None = None) -> None:
        self.loaded = load_model(path, device)
        self.loaded.need("crossencoder", verb="reranking")
        config = text_config(self.loaded.model)
        self.fingerprint = self.loaded.fingerprint
        self.context, self.truncated = config.context, 0
        # Ours are trained with one token type throughout; published BERTs tell the second text by its type.
        ours = "nlpkit" in jsonfile.read(self.loaded.folder / "config.json")
        self.types = config.types > 1 and not ours

    def score(
        self, query: str, texts: Sequence[str], *, batch_tokens: int = BATCH_TOKENS
    ) -> NDArray[np.float32]:
        """The predicted relevance (N,) float32 in [0, 1] of each text to the query, in the order of the texts.

        Pairs longer than the model reads are cut, and counted in ``truncated``.
        """
        tokenizer, model = self.loaded.text, self.loaded.model
        scores = np.zeros(len(texts), np.float32)
        if not len(texts):
            return scores
        before = tokenizer.truncated
        encoded = tokenizer.encode(
            [query] * len(texts), pairs=list(texts), special=True, max_length=self.context
        )
        for rows in by_length([len(ids) for ids in encoded], batch_tokens):
            ids, segments = pad([encoded[i] for i in rows], tokenizer.pad_id, device_of(model))
            types = second_text(ids, segments, tokenizer.sep_id) if self.types else None
            with torch.inference_mode():
                logits = model(ids, segments, types).reshape(len(rows))  # (B,)
            scores[rows] = logits.float().sigmoid().cpu().numpy()
        cut = tokenizer.truncated - before
        if cut and not self.truncated:
            console.warn(f"pairs longer than the model reads ({self.context} tokens) are cut")
        self.truncated += cut
        return scores

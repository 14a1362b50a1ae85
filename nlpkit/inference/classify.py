"""A label and its probability for each text, in order, from a stream of any length.

Shapes: B batch, T tokens, L labels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from nlpkit import console
from nlpkit.core.batch import pad
from nlpkit.errors import ArtifactError
from nlpkit.inference.batching import BATCH_TOKENS, by_length, device_of, text_config, windows
from nlpkit.inference.loading import LoadedModel


@dataclass(frozen=True)
class Prediction:
    """The likeliest label of a text, its probability, and the probabilities of all labels."""

    label: str
    probability: float
    probabilities: dict[str, float]


def classify(
    loaded: LoadedModel, texts: Iterable[str], *, batch_tokens: int = BATCH_TOKENS
) -> Iterator[Prediction]:
    """One prediction a text, in order.

    Texts are sorted by length inside windows of a few thousand, so memory is bounded. A text longer than the
    model's context is cut at its end; how many were is said in one warning. The result of a text depends on the
    others of its batch only by rounding. Raises UsageError for another kind of model.
    """
    loaded.need("classifier", verb="classify")
    tokenizer, model = loaded.text, loaded.model
    context, device, names = text_config(model).context, device_of(model), loaded.labels
    before = tokenizer.truncated
    for window in windows(texts):
        encoded = tokenizer.encode(window, special=True, max_length=context)
        made: list[Prediction | None] = [None] * len(window)
        for rows in by_length([len(ids) for ids in encoded], batch_tokens):
            ids, segments = pad([encoded[i] for i in rows], tokenizer.pad_id, device)
            with torch.inference_mode():
                chances = model(ids, segments).double().softmax(-1).tolist()  # (B, L)
            if len(chances[0]) != len(names):
                raise ArtifactError(
                    f"{loaded.folder}: {len(names)} label names for {len(chances[0])} outputs"
                )
            for i, chance in zip(rows, chances, strict=True):
                best = max(range(len(chance)), key=chance.__getitem__)
                made[i] = Prediction(names[best], chance[best], dict(zip(names, chance, strict=True)))
        yield from (one for one in made if one is not None)
    if cut := tokenizer.truncated - before:
        console.warn(
            f"{cut} texts were longer than the model reads ({context} tokens) and were cut at their end"
        )

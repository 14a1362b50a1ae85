"""How well a next-token model foresees each text: its perplexity, exp of the mean loss a token.

Shapes: B batch, T tokens, V vocabulary. A text longer than the model's context is read in pieces, each of which
begins at the token before it; the first piece begins at ``<|endoftext|>``.
"""

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F

from nlpkit.core.batch import pad
from nlpkit.inference.batching import by_length, device_of, text_config, windows
from nlpkit.inference.loading import LoadedModel

BATCH_TOKENS = 2048  # padded tokens of one batch; each has V float32 logits


def perplexity(
    loaded: LoadedModel, texts: Iterable[str], *, batch_tokens: int = BATCH_TOKENS
) -> Iterator[float]:
    """The perplexity of each text, in order; infinite for a text without tokens. Raises UsageError unless clm."""
    loaded.need("clm", verb="perplexity")
    tokenizer, model = loaded.text, loaded.model
    context, device = text_config(model).context, device_of(model)
    for window in windows(texts):
        encoded = tokenizer.encode(window)
        pieces: list[tuple[int, list[int]]] = []  # number of the text; a token and the T that follow it
        for number, ids in enumerate(encoded):
            seen = [tokenizer.eos_id, *ids]
            pieces += [(number, seen[at : at + context + 1]) for at in range(0, len(ids), context)]
        total = [0.0] * len(window)
        for rows in by_length([len(ids) - 1 for _, ids in pieces], batch_tokens):
            inputs, segments = pad([pieces[i][1][:-1] for i in rows], tokenizer.pad_id, device)
            labels, _ = pad([pieces[i][1][1:] for i in rows], tokenizer.pad_id, device)
            with torch.inference_mode():
                logits = model(inputs, segments).float()  # (B, T, V)
                losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")  # (B, T)
                sums = (losses * (segments > 0)).double().sum(1).tolist()
            for i, loss in zip(rows, sums, strict=True):
                total[pieces[i][0]] += loss
        for loss, ids in zip(total, encoded, strict=True):
            yield math.exp(min(loss / len(ids), 700.0)) if ids else math.inf

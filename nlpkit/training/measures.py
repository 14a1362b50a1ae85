"""What a trained model is worth, by kind: accuracy and F1, perplexity, ranking, ELBO.

Shapes: N items, L labels, D width. Sums and counts go over all items; nothing is a mean of batch means.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from nlpkit.core.batch import IGNORE, Batch
from nlpkit.metrics import classification, correlation, intervals, ranking
from nlpkit.training import device
from nlpkit.training.evaluation import evaluate

RESAMPLES = 2000
TWICE = (
    "classifier",
    "cnn",
    "vit",
    "crossencoder",
    "biencoder",
)  # their batches are read again for other measures


def measure(
    kind: str,
    model: nn.Module,
    batches: Iterable[Batch],
    place: device.Place | None = None,
    decode: Callable[[Sequence[int]], str] | None = None,
) -> dict[str, Any]:
    """All measures of a kind of model over batches as the data objects make them; empty for no batches.

    ``decode`` (ids to text) lets a next-token model be measured in bits for a byte of the text that it predicts.
    """
    place = place or device.Place(next(model.parameters()).device, "float32")
    if kind in TWICE:
        batches = list(batches)
    sizes: list[int] = []
    if kind == "clm" and decode is not None:
        batches = _counting_bytes(batches, decode, sizes)
    told = evaluate(model, batches, place)
    if not told:
        return {}
    found: dict[str, Any] = {"loss": told["loss"], "count": int(told["count"])}
    if kind in ("mlm", "clm"):
        found["perplexity"] = math.exp(min(told["loss"], 700.0))
        found["bits_per_token"] = told["loss"] / math.log(2)
        found["accuracy"] = told["accuracy"]
        if sum(sizes):
            found["bits_per_byte"] = told["loss"] * told["count"] / math.log(2) / sum(sizes)
    elif kind in ("classifier", "cnn", "vit"):
        found |= _classification(model, batches, place)
    elif kind == "crossencoder":
        found["accuracy"] = told["accuracy"]
        found |= _scores(model, batches, place)
    elif kind == "biencoder":
        found["accuracy_in_batch"] = told["accuracy"]
        found |= _retrieval(model, batches, place)
    else:
        found |= {name: value for name, value in told.items() if name not in found}
        if kind == "vae":
            found["elbo"] = -told["loss"]
    return found


def _counting_bytes(
    batches: Iterable[Batch], decode: Callable[[Sequence[int]], str], sizes: list[int]
) -> Iterator[Batch]:
    """Pass batches on; note the UTF-8 bytes of the text of each piece of a document that is predicted.

    The end of a text has no bytes, yet its prediction is paid for.
    """
    for batch in batches:
        for labels, segments in zip(batch["labels"].numpy(), batch["segments"].numpy(), strict=True):
            for segment in np.unique(segments[labels != IGNORE]):
                piece = labels[(segments == segment) & (labels != IGNORE)]
                sizes.append(len(decode(piece.tolist()).encode("utf-8", "replace")))
        yield batch


def _forward(model: nn.Module, batch: Batch, place: device.Place) -> np.ndarray:
    put = place.put(batch)
    with torch.inference_mode(), place.autocast():
        told = model(put["pixels"]) if "pixels" in put else model(put["input_ids"], put["segments"])
    return told.float().cpu().numpy()


def _classification(model: nn.Module, batches: Iterable[Batch], place: device.Place) -> dict[str, Any]:
    model.eval()
    logits = np.concatenate([_forward(model, b, place) for b in batches]).astype(np.float64)  # (N, L)
    labels = np.concatenate([b["labels"].numpy() for b in batches])  # (N,)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    report = classification.report(labels, odds / odds.sum(1, keepdims=True))
    hits = logits.argmax(1) == labels
    report["accuracy_interval"] = list(intervals.bootstrap_mean(hits, resamples=RESAMPLES))
    report["macro_f1_interval"] = list(_f1_interval(labels, logits.argmax(1), logits.shape[1]))
    return report


def _f1_interval(labels: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of macro F1."""
    draw = np.random.default_rng(0)
    found = np.empty(500)
    for i in range(len(found)):
        rows = draw.integers(len(labels), size=len(labels))
        found[i] = classification.macro_f1(labels[rows], predicted[rows], classes)
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _scores(model: nn.Module, batches: Iterable[Batch], place: device.Place) -> dict[str, Any]:
    model.eval()
    scores = np.concatenate([_forward(model, b, place) for b in batches])
    labels = np.concatenate([b["labels"].numpy() for b in batches])
    if len(np.unique(labels)) < 2 or len(np.unique(scores)) < 2:
        return {}
    return {"spearman": correlation.spearman(scores, labels), "pearson": correlation.pearson(scores, labels)}


def _retrieval(model: nn.Module, batches: Iterable[Batch], place: device.Place) -> dict[str, Any]:
    """Each query ranks all documents of the part; its own (and equal ones) are relevant."""
    model.eval()
    queries, docs, keys = [], [], []
    encode: Any = model.encode
    with torch.inference_mode(), place.autocast():
        for batch in batches:
            put = place.put(batch)
            queries.append(encode(put["query_ids"], put["query_segments"]).float().cpu().numpy())
            docs.append(encode(put["doc_ids"], put["doc_segments"]).float().cpu().numpy())
            keys.append(batch["doc_key"].numpy())
    key = np.concatenate(keys)
    unique, first = np.unique(key, return_index=True)
    matrix = np.concatenate(docs)[first]  # (documents, D)
    vectors = np.concatenate(queries)  # (N, D)
    names = [str(k) for k in unique]
    run: dict[str, list[str]] = {}
    qrels: dict[str, dict[str, int]] = {}
    for start in range(0, len(vectors), 512):
        near = np.argsort(-(vectors[start : start + 512] @ matrix.T), axis=1, kind="stable")[:, :100]
        for i, row in enumerate(near, start):
            run[str(i)] = [names[j] for j in row]
            qrels[str(i)] = {str(key[i]): 1}
    told = ranking.evaluate(run, qrels, ["ndcg@10", "mrr@10", "recall@1", "recall@10"])
    return {**told, "documents": len(names)}

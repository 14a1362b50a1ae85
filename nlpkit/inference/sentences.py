"""From texts to unit vectors around a network: prompts, token ids, pooling, dense layers; the network is elsewhere.

Shapes: N texts, T tokens of all texts, D width.

What a sentence-transformers folder says beside its network is read here: ``modules.json``, the poolings, dense layers,
``sentence_bert_config.json`` and the prompts of ``config_sentence_transformers.json``. Imports no torch.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nlpkit import console
from nlpkit.errors import ArtifactError
from nlpkit.inference.tensors_file import Tensors
from nlpkit.store import jsonfile, manifest
from nlpkit.vectors.vectors import unit_rows

if TYPE_CHECKING:
    from nlpkit.text.tokenizer import Tokenizer

Floats = NDArray[np.float32]
WINDOW = 4096  # texts whose ids are held and sorted at once
# In the order in which several are put side by side; names of newer and older folders, and ours.
POOLINGS = {
    "cls": "cls",
    "cls_token": "cls",
    "max": "max",
    "max_tokens": "max",
    "mean": "mean",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean",
    "weightedmean_tokens": "weightedmean",
    "lasttoken": "last",
    "last": "last",
}
ROLES = {"query": ("query",), "document": ("document", "passage", "corpus")}
OURS = "config.json"


class Encoder(Protocol):
    """What turns texts into vectors: its width D, and a fingerprint that changes when its answers would."""

    width: int
    fingerprint: str

    def encode(self, texts: Sequence[str], *, batch_tokens: int = 8192) -> Floats:
        """Unit rows (N, D) float32 in the order of the texts; a row of zeros where nothing is known."""
        ...


@dataclass(frozen=True)
class Dense:
    """A layer behind the pooling: activation(weight · x + bias)."""

    weight: np.ndarray
    bias: np.ndarray | None
    activation: str

    def __call__(self, rows: Floats) -> Floats:
        """(N, in) → (N, out)."""
        made = rows @ self.weight.T
        if self.bias is not None:
            made = made + self.bias
        if self.activation == "Tanh":
            made = np.tanh(made)
        elif self.activation == "ReLU":
            made = np.maximum(made, 0)
        elif self.activation == "Sigmoid":
            made = 1 / (1 + np.exp(-made))
        return np.asarray(made, np.float32)


ACTIVATIONS = ("Identity", "Tanh", "ReLU", "Sigmoid")


class SentenceSettings:
    """How a folder turns hidden states into a vector; the mean where it says nothing.

    A module or pooling that is not understood is an ArtifactError: a silently different vector would be worse. Rows
    are made unit whether or not the folder has a Normalize.
    """

    def __init__(self, folder: Path) -> None:
        self.poolings: tuple[str, ...] = ("mean",)
        self.dense: list[Dense] = []
        self.prompts: dict[str, str] = {}
        self.prompt, self.lower = "", False
        self.max_length: int | None = None
        if not (folder / "modules.json").is_file():
            own = jsonfile.read(folder / OURS).get("nlpkit")
            named = own.get("pooling") if isinstance(own, dict) else None
            if named is not None:
                self.poolings = (_pooling(named, folder / OURS),)
            return
        for name, where in _modules(folder / "modules.json"):
            if name == "Pooling":
                self.poolings = _poolings(folder / where / "config.json")
            elif name == "Dense":
                self.dense.append(_dense(folder / where))
            elif name not in ("Transformer", "Normalize"):
                raise ArtifactError(f"{folder / 'modules.json'}: the module {name} is not supported")
        if (folder / "sentence_bert_config.json").is_file():
            settings = jsonfile.read(folder / "sentence_bert_config.json")
            length = settings.get("max_seq_length")
            if length is not None and (type(length) is not int or length < 1):
                raise ArtifactError(f"{folder / 'sentence_bert_config.json'}: max_seq_length {length!r}")
            self.max_length = length
            self.lower = bool(settings.get("do_lower_case"))
        path = folder / "config_sentence_transformers.json"
        if path.is_file():
            settings = jsonfile.read(path)
            prompts = settings.get("prompts") or {}
            if not isinstance(prompts, dict) or not all(isinstance(p, str) for p in prompts.values()):
                raise ArtifactError(f"{path}: prompts must be a table of texts")
            self.prompts = prompts
            self.prompt = prompts.get(settings.get("default_prompt_name") or "") or ""

    def prompt_for(self, role: str) -> str:
        """What stands before a text as a query or document; the folder's default where it names none."""
        return next((self.prompts[n] for n in ROLES.get(role, ()) if n in self.prompts), self.prompt)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ArtifactError(f"{path}: missing, but modules.json names its folder; restore it from a copy")
    return jsonfile.read(path)


def _modules(path: Path) -> list[tuple[str, str]]:
    """(class name, folder) of each module, in order."""
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        found = [(str(m["type"]).rpartition(".")[2], str(m["path"])) for m in listed]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not a list of modules") from error
    if any(Path(where).is_absolute() or ".." in Path(where).parts for _, where in found):
        raise ArtifactError(f"{path}: names a folder outside its own")
    return found


def _pooling(name: Any, path: Path) -> str:
    if not isinstance(name, str) or name not in POOLINGS:
        raise ArtifactError(
            f"{path}: pooling {name} is not supported; known: {', '.join(dict.fromkeys(POOLINGS.values()))}"
        )
    return POOLINGS[name]


def _poolings(path: Path) -> tuple[str, ...]:
    """The poolings of a folder: newer versions name them, older ones have a switch for each."""
    values = _read(path)
    named = values.get("pooling_mode")
    if named is None:
        switched = [
            k.removeprefix("pooling_mode_")
            for k, on in values.items()
            if k.startswith("pooling_mode_") and on
        ]
        named = sorted(switched, key=lambda n: [*POOLINGS].index(n) if n in POOLINGS else -1)
    listed = (
        [named] if isinstance(named, str) else list(named) if isinstance(named, list | tuple) else [named]
    )
    if not listed:
        raise ArtifactError(f"{path}: pooling unset is not supported")
    if values.get("include_prompt") is False:
        raise ArtifactError(f"{path}: include_prompt = false is not supported")
    return tuple(_pooling(name, path) for name in listed)


def _dense(folder: Path) -> Dense:
    values = _read(folder / "config.json")
    activation = str(values.get("activation_function", "Identity")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise ArtifactError(f"{folder / 'config.json'}: activation {activation} is not supported")
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ArtifactError(f"{folder}: has no model.safetensors (a pickle is not opened); convert it")
    held = Tensors(path, manifest.remedy(folder))
    try:
        bias = np.array(held["linear.bias"]) if "linear.bias" in held.names else None
        return Dense(np.array(held["linear.weight"]), bias, activation)
    except KeyError as error:
        raise ArtifactError(f"{path}: has no {error}") from error


def pooled(rows: np.ndarray, starts: np.ndarray, how: str) -> np.ndarray:
    """One vector (N, D) a text from hidden states (T, D); text n is the rows ``starts[n]`` to ``starts[n + 1]``."""
    lengths = np.diff(starts)
    if how == "cls":
        return rows[starts[:-1]]
    if how == "last":
        return rows[starts[1:] - 1]
    if how == "max":
        return np.asarray(np.maximum.reduceat(rows, starts[:-1], axis=0))
    if how == "weightedmean":  # the i-th token weighs i (Muennighoff 2022, §3.1)
        weights = (np.arange(len(rows)) - np.repeat(starts[:-1], lengths) + 1).astype(np.float32)
        total = np.add.reduceat(weights, starts[:-1])
        return np.asarray(np.add.reduceat(rows * weights[:, None], starts[:-1], axis=0) / total[:, None])
    over = np.sqrt(lengths) if how == "mean_sqrt_len_tokens" else lengths
    return np.asarray(np.add.reduceat(rows, starts[:-1], axis=0) / over[:, None].astype(np.float32))


class SentenceEncoder(ABC):
    """Texts → unit vectors by a network that a subclass gives: :meth:`vectors`.

    Texts longer than ``max_length`` tokens are cut at their end, counted in ``truncated``. ``context``: the longest
    text that the network reads; ``trunk``: the width of its hidden states.
    """

    def __init__(self, folder: Path, tokenizer: "Tokenizer", context: int, trunk: int) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self.settings = SentenceSettings(folder)
        self.max_length = min(self.settings.max_length or context, context)
        self._pooled = trunk * len(self.settings.poolings)
        self.width = len(self.settings.dense[-1].weight) if self.settings.dense else self._pooled
        self.prompts = self.settings.prompts
        self.truncated = 0

    def encode(self, texts: Sequence[str], *, batch_tokens: int = 8192, role: str = "") -> Floats:
        """Unit rows (N, D) float32. ``role``: query or document, where the folder has prompts for them."""
        rows = np.zeros((len(texts), self._pooled), np.float32)
        before = self.tokenizer.truncated
        prompt = self.settings.prompt_for(role)
        for start in range(0, len(texts), WINDOW):
            window = [prompt + text for text in texts[start : start + WINDOW]]
            if self.settings.lower:
                window = [text.lower() for text in window]
            ids = self.tokenizer.encode(window, special=True, max_length=self.max_length)
            some = np.flatnonzero([len(text) > 0 for text in ids])  # nothing at all is a row of zeros
            if len(some):
                for batch, made in self.vectors([ids[i] for i in some], batch_tokens):
                    rows[start + some[batch]] = made
        self._count(self.tokenizer.truncated - before)
        for dense in self.settings.dense:
            rows = dense(rows)
        return unit_rows(rows)

    @abstractmethod
    def vectors(self, ids: list[list[int]], batch_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(numbers of texts, their pooled rows), batch after batch."""

    def pool(self, hidden: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The vectors of a batch, of all poolings side by side."""
        return np.concatenate([pooled(hidden, starts, how) for how in self.settings.poolings], 1)

    def _count(self, cut: int) -> None:
        if cut and not self.truncated:
            console.warn(f"texts longer than the model reads ({self.max_length} tokens) are cut at their end")
        self.truncated += cut


def packed(texts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """(ids (T,), starts (N + 1,)) of texts, one behind the other."""
    starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    return np.concatenate([np.asarray(text, np.int64) for text in texts]), starts


def batches(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Text numbers in batches of like length, longest first, of at most so many tokens, or of one longer text.

    >>> [batch.tolist() for batch in batches(np.array([2, 9, 3]), 9)]
    [[1], [2, 0]]
    """
    order = np.argsort(-lengths, kind="stable")
    made, start, total = [], 0, 0
    for at, length in enumerate(lengths[order].tolist()):
        if total and total + length > tokens:
            made.append(order[start:at])
            start, total = at, 0
        total += length
    return [*made, order[start:]] if len(order) else []

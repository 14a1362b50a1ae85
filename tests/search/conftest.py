"""A small model that needs no training: a text is the sum of its words' fixed random vectors."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from nlpkit.text.documents import Document

collect_ignore_glob = ["soak*.py"]  # a program of its own (make soak)
WORDS = "red green blue cat dog bird house river stone tree light dark open close file list sort read".split()


class WordSum:
    """D = 16; the vector of a word follows from its hash."""

    width = 16

    def __init__(self, salt: str = "a") -> None:
        self.salt, self.fingerprint, self.asked = salt, f"word-sum-{salt}", 0

    def encode(self, texts: Sequence[str], *, batch_tokens: int = 8192) -> np.ndarray:
        self.asked += len(texts)
        made = np.zeros((len(texts), self.width), np.float32)
        for i, text in enumerate(texts):
            for word in text.lower().split():
                seed = int.from_bytes(hashlib.sha256((self.salt + word).encode()).digest()[:8], "little")
                made[i] += np.random.default_rng(seed).normal(size=self.width).astype(np.float32)
        norms = np.linalg.norm(made, axis=1, keepdims=True)
        return made / np.where(norms > 0, norms, 1)


@pytest.fixture
def loader():
    return lambda path: WordSum()


def some_documents(count: int, seed: int = 0) -> list[Document]:
    rng = np.random.default_rng(seed)
    return [
        Document(" ".join(rng.choice(WORDS, int(rng.integers(2, 9)))), f"d{i}", f"title {i}" if i % 3 else "")
        for i in range(count)
    ]


@pytest.fixture
def documents():
    return some_documents


@pytest.fixture
def word_sum():
    return WordSum

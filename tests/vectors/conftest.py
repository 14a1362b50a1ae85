"""A small made-up language: words of one topic stand together, frequent words stand everywhere."""

import numpy as np
import pytest

TOPICS = {
    "sea": ["ship", "wave", "sail", "captain", "harbour"],
    "farm": ["cow", "plough", "barn", "farmer", "field"],
    "town": ["street", "lamp", "mayor", "market", "bridge"],
}


@pytest.fixture(scope="session")
def texts() -> list[str]:
    rng = np.random.default_rng(7)
    made = []
    every = sorted(word for words in TOPICS.values() for word in words)
    for _ in range(400):
        topic = TOPICS[rng.choice(sorted(TOPICS))]
        # Now and then a word of another topic: where words never meet, there is nothing to learn from.
        sources = [topic, every, ["The", "of", "and,"]]
        words = [rng.choice(sources[rng.choice(3, p=[0.5, 0.1, 0.4])]) for _ in range(12)]
        made.append(" ".join(words))
    return made

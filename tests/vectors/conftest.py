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
    for _ in range(400):
        topic = TOPICS[rng.choice(sorted(TOPICS))]
        words = [
            rng.choice(topic) if rng.random() < 0.6 else rng.choice(["The", "of", "and,"]) for _ in range(12)
        ]
        made.append(" ".join(words))
    return made

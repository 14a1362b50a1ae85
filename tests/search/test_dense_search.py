"""FAISS and the brute-force tail together equal plain numpy."""

import numpy as np
import pytest

from nlpkit.errors import ArtifactError
from nlpkit.search.dense import VectorStore


def unit(count: int, width: int = 8, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def plain(vectors: np.ndarray, query: np.ndarray, k: int, alive: np.ndarray) -> list[int]:
    scores = np.where(alive, vectors @ query, -np.inf)
    return [int(i) for i in np.lexsort((np.arange(len(scores)), -scores)) if alive[i]][:k]


@pytest.mark.parametrize("indexed", [0, 1, 37, 50])
def test_flat_and_tail_equal_numpy(indexed):
    vectors, alive = unit(50), np.random.default_rng(1).random(50) > 0.3
    store = VectorStore.build(vectors[:indexed])
    store.add(vectors[indexed:])
    assert len(store) == 50
    for query in unit(5, seed=2):
        for k in (1, 7, 100):
            positions, scores = store.search(query, k, alive)
            assert positions.tolist() == plain(vectors, query, k, alive)
            np.testing.assert_allclose(scores, vectors[positions] @ query, atol=1e-6)
    store.fold()
    again = VectorStore.from_bytes(store.to_bytes().tobytes(), 8)
    np.testing.assert_array_equal(again.search(vectors[3], 5, alive)[0], plain(vectors, vectors[3], 5, alive))


def test_equal_vectors_fall_by_position():
    store = VectorStore.build(np.repeat(unit(1), 6, axis=0))
    assert store.search(unit(1)[0], 3, np.ones(6, bool))[0].tolist() == [0, 1, 2]


def test_nothing_alive():
    store = VectorStore.build(unit(3))
    assert store.search(unit(1)[0], 3, np.zeros(3, bool))[0].tolist() == []


def test_inverted_file_finds_most_and_masks_all():
    vectors = unit(1200, 16)
    store = VectorStore.build(vectors, approximate_from=1000)
    assert store.kind.startswith("ivf")
    alive = np.random.default_rng(3).random(1200) > 0.5
    found = wanted = 0
    for query in vectors[:40]:  # near-duplicates of what is indexed, as queries are
        positions = store.search(query, 10, alive)[0]
        assert alive[positions].all()
        wanted += 10
        found += len(set(positions.tolist()) & set(plain(vectors, query, 10, alive)))
    assert found / wanted > 0.4  # random directions in 16 dimensions have no clusters: the hardest case
    everything = VectorStore.from_bytes(store.to_bytes().tobytes(), 16)
    assert everything.kind == store.kind


def test_bytes_that_are_no_index_or_of_another_width():
    with pytest.raises(ArtifactError, match="rebuild"):
        VectorStore.from_bytes(b"not an index at all", 8)
    with pytest.raises(ArtifactError, match="width 8"):
        VectorStore.from_bytes(VectorStore.build(unit(3)).to_bytes().tobytes(), 9)

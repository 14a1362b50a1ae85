"""Neighbours, analogies and means against plain numpy; what a damaged folder says."""

import subprocess
import sys

import numpy as np
import pytest

from nlpkit.errors import ArtifactError, DataError, NotFound, UsageError
from nlpkit.store import atomic
from nlpkit.text.standardize import Recipe
from nlpkit.vectors import vectors as module
from nlpkit.vectors.tensors import map_tensors, writing_tensors
from nlpkit.vectors.vectors import Vectors, save

WORDS = ["king", "queen", "man", "woman", "apple"]
MATRIX = np.array([[1, 1, 0], [1, -1, 0], [0, 1, 0.1], [0, -1, 0.1], [0, 0, 1]], np.float32)


@pytest.fixture
def small() -> Vectors:
    return Vectors(WORDS, MATRIX, Recipe.DEFAULT, np.arange(5, 0, -1))


def write(folder, seed=0):
    rng = np.random.default_rng(seed)
    with atomic.building(folder) as made:
        save(
            made,
            words=WORDS,
            counts=np.arange(5, 0, -1),
            word=rng.normal(size=(5, 4)).astype(np.float32),
            context=rng.normal(size=(5, 4)).astype(np.float32),
            recipe=Recipe(("lower",)),
            settings="[glove]\nsize = 3\n",
        )
    return folder


def test_nearest_equals_all_cosines():
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(200, 7)).astype(np.float32)
    many = Vectors([f"w{i}" for i in range(200)], matrix, Recipe(()), np.ones(200, np.int64))
    exact = matrix.astype(np.float64) / np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True)
    for row in (0, 77, 199):
        cosines = exact @ exact[row]
        cosines[row] = -2
        found = many.nearest(f"w{row}", 12)
        assert [w for w, _ in found] == [f"w{i}" for i in np.argsort(-cosines)[:12]]
        np.testing.assert_allclose([c for _, c in found], np.sort(cosines)[::-1][:12], rtol=1e-5)
    assert [w for w, _ in many.nearest(matrix[5], 1)] == ["w5"]  # a vector leaves no word out


def test_many_words_in_blocks_are_as_one_by_one(monkeypatch):
    matrix = np.random.default_rng(2).normal(size=(30, 5)).astype(np.float32)
    words = [f"w{i}" for i in range(30)]
    many = Vectors(words, matrix, Recipe(()), np.ones(30, np.int64))
    monkeypatch.setattr(module, "BLOCK", 100)
    found = many.nearest_all(words, 3)
    for word, answer in zip(words, found, strict=True):
        one = many.nearest(word, 3)
        assert [w for w, _ in answer] == [w for w, _ in one]
        np.testing.assert_allclose([c for _, c in answer], [c for _, c in one], atol=1e-6)
    assert many.nearest_all([], 3) == []


def test_equal_scores_keep_the_order_of_the_vocabulary():
    matrix = np.tile(np.array([[0.6, 0.8]], np.float32), (50, 1))
    same = Vectors([f"w{i}" for i in range(50)], matrix, Recipe(()), np.ones(50, np.int64))
    assert [w for w, _ in same.nearest("w3", 5)] == ["w0", "w1", "w2", "w4", "w5"]


def test_analogy_is_3cosadd_without_its_words(small):
    found = small.analogy("man", "king", "woman", 2)
    unit = MATRIX / np.linalg.norm(MATRIX, axis=1, keepdims=True)
    goal = unit[0] - unit[2] + unit[3]
    assert found[0][0] == "queen"
    assert found[0][1] == pytest.approx(unit[1] @ goal / np.linalg.norm(goal), abs=1e-5)
    assert [w for w, _ in small.analogy("man", "king", "woman", 10)] == ["queen", "apple"]


def test_3cosmul_is_the_quotient_of_shifted_cosines(small):
    found = small.analogy("man", "king", "woman", 2, method="3cosmul")
    unit = MATRIX.astype(np.float64) / np.linalg.norm(MATRIX, axis=1, keepdims=True)
    shifted = (unit @ unit.T + 1) / 2
    scores = shifted[0] * shifted[3] / (shifted[2] + 1e-3)
    assert [w for w, _ in found] == ["queen", "apple"]
    assert [s for _, s in found] == pytest.approx([scores[1], scores[4]], rel=1e-5)
    with pytest.raises(UsageError, match="did you mean '3cosmul'"):
        small.analogy("man", "king", "woman", method="3cosmull")


def test_many_analogies_are_as_one_by_one(monkeypatch):
    rng = np.random.default_rng(3)
    many = Vectors(
        [f"w{i}" for i in range(40)], rng.normal(size=(40, 6)).astype(np.float32), Recipe(()), np.ones(40)
    )
    rows = rng.integers(40, size=(25, 3)).tolist()
    monkeypatch.setattr(module, "BLOCK", 200)
    for method in ("3cosadd", "3cosmul"):
        found = many.analogies(rows, 3, method=method)
        for (a, b, c), answer in zip(rows, found, strict=True):
            one = many.analogy(f"w{a}", f"w{b}", f"w{c}", 3, method=method)
            assert [w for w, _ in one] == [w for w, _ in answer]


def test_similarity(small):
    assert small.similarity("king", "queen") == pytest.approx(0.0, abs=1e-6)
    assert small.similarity("king", "king") == pytest.approx(1.0)
    assert small.similarity("king", "man") == pytest.approx(1 / np.sqrt(2 * 1.01), abs=1e-6)


def test_the_mean_of_a_text(small):
    found = small.mean(["KING, man!", "unheard of", "", "apple apple king"])
    np.testing.assert_allclose(
        found, [(MATRIX[0] + MATRIX[2]) / 2, [0] * 3, [0] * 3, (2 * MATRIX[4] + MATRIX[0]) / 3], rtol=1e-6
    )
    assert found.dtype == np.float32
    assert not small.mean(["KING"], standardized=True).any()
    assert small.mean([]).shape == (0, 3)


def test_an_unknown_word_has_a_near_spelling(small):
    assert small.index("King!") == 0  # the recipe is applied
    with pytest.raises(NotFound, match=r"'quene' is not among the 5 words; did you mean 'queen'\?"):
        small.nearest("quene")
    with pytest.raises(NotFound, match=r"'zzzz' is not among the 5 words$"):
        small.index("zzzz")
    with pytest.raises(NotFound, match="'' is not"):
        Vectors(["a"], MATRIX[:1], Recipe(()), np.ones(1, np.int64)).index("")
    assert "queen" in small
    assert "quene" not in small
    with pytest.raises(UsageError, match="k:"):
        small.nearest("king", 0)
    with pytest.raises(UsageError, match="3 numbers"):
        small.nearest(np.zeros(4))


def test_a_zero_vector_has_no_direction():
    zero = Vectors(["a", "b"], np.array([[0, 0], [1, 0]], np.float32), Recipe(()), np.ones(2, np.int64))
    assert zero.nearest("a", 5) == [("b", 0.0)]


def test_save_and_load(tmp_path):
    rng = np.random.default_rng(0)
    word, context = (rng.normal(size=(5, 4)).astype(np.float32) for _ in range(2))
    found = Vectors.load(write(tmp_path / "v"))
    np.testing.assert_array_equal(found.matrix, (word + context)[:, :3])
    assert found.words == WORDS
    assert found.counts.tolist() == [5, 4, 3, 2, 1]
    assert (found.recipe.steps, found.width, len(found)) == (("lower",), 3, 5)
    assert found.fingerprint == Vectors.load(write(tmp_path / "again")).fingerprint
    assert found.fingerprint != Vectors.load(write(tmp_path / "other", seed=1)).fingerprint
    assert (tmp_path / "v" / "vectors.safetensors").stat().st_mode & 0o044 == 0o044


def test_one_table_is_mapped_and_int8_is_scaled(tmp_path):
    table = np.random.default_rng(5).normal(size=(5, 3)).astype(np.float32)
    with atomic.building(tmp_path / "one") as made:
        with writing_tensors(made / "vectors.safetensors") as writer:
            module.append_rows(writer, "word", table)
        module.finish(made, WORDS, None, Recipe(()))
    found = Vectors.load(tmp_path / "one")
    np.testing.assert_array_equal(found.matrix, table)
    assert not found.matrix.flags.writeable
    assert not found.matrix.flags.owndata
    assert found.counts.tolist() == [0] * 5
    with atomic.building(tmp_path / "int8") as made:
        with writing_tensors(made / "vectors.safetensors") as writer:
            writer.append("word_int8", np.full((5, 3), -4, np.int8))
            writer.append("word_scale", np.arange(5, dtype=np.float32))
        module.finish(made, WORDS, None, Recipe(()))
    np.testing.assert_array_equal(
        Vectors.load(tmp_path / "int8").matrix, np.repeat(-4 * np.arange(5)[:, None], 3, 1)
    )


def test_the_tensors_are_safetensors(tmp_path):
    from safetensors.numpy import load_file

    write(tmp_path / "v")
    theirs = load_file(tmp_path / "v" / "vectors.safetensors")
    ours = map_tensors(tmp_path / "v" / "vectors.safetensors")
    assert set(theirs) == set(ours) == {"word", "word_bias", "context", "context_bias"}
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(tensor, ours[name])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff" * 40,
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{{",
        (60).to_bytes(8, "little")
        + b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}'[:60]
        + b"0",
        (61).to_bytes(8, "little")
        + b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}'[:61]
        + b"0000",
        (62).to_bytes(8, "little") + b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}' + b"0",
        (62).to_bytes(8, "little")
        + b'{"a": {"dtype": "BF9", "shape": [9], "data_offsets": [0, 36]}}'
        + b"0" * 36,
    ],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path, raw):
    (tmp_path / "t").write_bytes(raw)
    with pytest.raises(DataError, match=f"{tmp_path}/t: "):
        map_tensors(tmp_path / "t")


def test_every_damaged_file_is_refused_by_name(tmp_path):
    folder = write(tmp_path / "v")
    for path in sorted(folder.iterdir()):
        raw = path.read_bytes()
        path.write_bytes(raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 1]) + raw[len(raw) // 2 + 1 :])
        with pytest.raises(ArtifactError, match=path.name):
            Vectors.load(folder)
        path.unlink()
        with pytest.raises(ArtifactError, match=path.name):
            Vectors.load(folder)
        path.write_bytes(raw)
    Vectors.load(folder)


def test_parts_that_do_not_agree_are_refused(tmp_path):
    with atomic.building(tmp_path / "v") as made:
        table = np.ones((5, 4), np.float32)
        save(made, words=WORDS[:4], counts=np.ones(5), word=table, context=table, recipe=Recipe(()))
    with pytest.raises(ArtifactError, match="do not agree"):
        Vectors.load(tmp_path / "v")
    with pytest.raises(FileNotFoundError):
        Vectors.load(tmp_path / "nothing")


def test_looking_up_needs_neither_numba_nor_torch():
    code = "import sys, nlpkit.vectors.vectors; print({'numba', 'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""Training that begins with older vectors, and training that stops by held-out counts."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nlpkit.errors import ArtifactError, DataError, UsageError
from nlpkit.store import lines, manifest
from nlpkit.text.standardize import Recipe
from nlpkit.vectors import glove, held_out, tables
from nlpkit.vectors.anchoring import Anchor, Older
from nlpkit.vectors.counting import Vocabulary
from nlpkit.vectors.vectors import Vectors, finish

SMALL = {"size": 8, "window": 4, "epochs": 4, "jobs": 1}
NAMES = ("word", "context", "word_bias", "context_bias")


@pytest.fixture(scope="module")
def older(texts, tmp_path_factory):
    return glove.train(texts[:300], tmp_path_factory.mktemp("older") / "v", **SMALL)


@pytest.fixture(scope="module")
def newer(texts):
    """Texts with a new word, and without the words of the town."""
    town = {"street", "lamp", "mayor", "market", "bridge"}
    kept = [text for text in texts if not town & set(text.split())]
    return [text.replace("wave", "wave surf") for text in kept[:120]]


def stored(folder):
    """The rows of a folder by word: vector, context vector and both biases, one after the other."""
    held = load_file(folder / "vectors.safetensors")
    return dict(zip(Vectors.load(folder).words, np.column_stack([held[n] for n in NAMES]), strict=True))


def moved(old, new, words):
    return np.mean([np.abs(old[w] - new[w]).mean() for w in words])


def test_nothing_of_the_older_vectors_is_lost(older, newer, tmp_path):
    folder = glove.train(newer, tmp_path / "v", **SMALL, init=older)
    before, after = stored(older), stored(folder)
    assert set(after) == set(before) | {"surf"}
    for word in ("street", "lamp", "mayor"):
        np.testing.assert_array_equal(after[word], before[word])
    assert moved(before, after, ["ship", "cow"]) > 0.01
    old, new = Vectors.load(older), Vectors.load(folder)
    counts = dict(zip(old.words, old.counts, strict=True))
    text = " ".join(newer).split()
    for word, count in zip(new.words, new.counts, strict=True):
        plain = {"the": "The", "and": "and,"}.get(word, word)
        assert count == counts.get(word, 0) + text.count(plain)
    assert list(new.counts) == sorted(new.counts, reverse=True)
    notes = manifest.check(folder, "vectors").notes
    assert notes["init"] == old.fingerprint
    assert notes["vocabulary"] == len(new)


@pytest.mark.parametrize("objective", ["wls", "ratio"])
def test_frozen_vectors_stay_bit_for_bit_and_new_words_are_learnt(older, newer, tmp_path, objective):
    options = {**SMALL, "epochs": 30, "objective": objective, "init": older, "freeze": True}
    folder = glove.train(newer, tmp_path / "v", **options)
    before, after = stored(older), stored(folder)
    for word, row in before.items():
        np.testing.assert_array_equal(after[word], row)
    losses = [r["loss"] for r in lines.check(folder / "metrics.jsonl")]
    assert losses[-1] < losses[0]
    again = glove.train(newer, tmp_path / "again", **{**options, "jobs": 3, "max_memory": 3000})
    assert manifest.check(again).fingerprint == manifest.check(folder).fingerprint


def test_an_anchor_holds_more_the_heavier_it_is(older, newer, tmp_path):
    before, far = stored(older), []
    for number, weight in enumerate((0.0, 10.0, 1000.0, 1e9)):
        folder = glove.train(newer, tmp_path / f"{number}", **SMALL, init=older, anchor=weight)
        far.append(moved(before, stored(folder), ["ship", "cow", "sail", "of"]))
    assert far[0] > far[1] > far[2] > far[3]
    assert far[3] < 1e-5


def test_the_pull_is_the_proximal_step_of_its_penalty(older):
    """x ← argmin ½·λ·(x - a)² + (x - y)² / (2·η)."""
    known = Older.open(older, 8, None)
    vocabulary = Vocabulary(["of", "unheard", "ship"], np.ones(3, np.int64))
    anchor = Anchor(known, vocabulary, weight=3.0, freeze=False, rate=0.05)
    assert anchor.new.tolist() == [0, 2]
    state = tables.fresh(3, 8, 0)
    state.words[:, 9:] = np.random.default_rng(0).uniform(1, 5, (3, 2))
    before = state.words.copy()
    anchor.pull(state)
    target = known.rows("word", anchor.old)
    eta = 0.05 / np.sqrt(before[anchor.new, 9:][:, [0] * 8 + [1]])
    x, y = state.words[anchor.new, :9], before[anchor.new, :9]
    np.testing.assert_allclose(3.0 * (x - target) + (x - y) / eta, 0, atol=1e-4)
    np.testing.assert_array_equal(state.words[1], before[1])


@pytest.mark.parametrize("options", [{}, {"freeze": True}, {"anchor": 5.0}])
def test_a_folder_of_one_table_is_halved(older, newer, tmp_path, options):
    source = Vectors.load(older)
    single = tmp_path / "single"
    single.mkdir()
    save_file({"word": np.ascontiguousarray(source.matrix)}, single / "vectors.safetensors")
    finish(single, source.words, None, source.recipe)
    folder = glove.train(newer, tmp_path / "v", **SMALL, init=single, **options)
    made = Vectors.load(folder)
    for word in source.words if "freeze" in options else ("street", "lamp"):
        np.testing.assert_array_equal(made.vector(word), source.vector(word))
    assert "surf" in made


def test_older_vectors_that_do_not_fit_are_refused(older, newer, texts, tmp_path):
    def refused(kind, says, **options):
        with pytest.raises(kind, match=says) as error:
            glove.train(newer, tmp_path / "v", **{**SMALL, "init": older, **options})
        assert "\n" not in str(error.value)
        assert not (tmp_path / "v").exists()
        assert not (tmp_path / ".v.partial").exists()

    refused(UsageError, "8 numbers, not 9; pass --size 8", size=9)
    refused(ArtifactError, "another recipe", recipe=Recipe(("lower",)))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "vectors.txt").write_text("a 1 2\n")
    refused(ArtifactError, "not an nlpkit artefact", init=tmp_path / "foreign")
    refused(FileNotFoundError, "No such file", init=tmp_path / "nowhere")
    broken = shutil.copytree(older, tmp_path / "broken")
    raw = bytearray((broken / "vectors.safetensors").read_bytes())
    raw[-1] ^= 1
    (broken / "vectors.safetensors").write_bytes(raw)
    refused(ArtifactError, "vectors.safetensors", init=broken)


@pytest.mark.parametrize("objective", ["wls", "ratio"])
def test_a_stopped_training_goes_on_only_with_the_same_older_vectors(
    older, newer, texts, tmp_path, monkeypatch, objective
):
    options = {
        **SMALL,
        "init": older,
        "anchor": 2.0,
        "objective": objective,
        "valid_share": 0.1,
        "patience": 3,
    }
    whole = glove.train(newer, tmp_path / "whole", **options)
    real = Anchor.pull
    with monkeypatch.context() as patch:
        calls = []

        def pull(self, state):
            calls.append(1)
            if len(calls) == 3:
                raise MemoryError("as if the machine had gone")
            real(self, state)

        patch.setattr(Anchor, "pull", pull)
        with pytest.raises(MemoryError):
            glove.train(newer, tmp_path / "v", **options, checkpoint_every=1)
    other = glove.train(texts, tmp_path / "other", **SMALL)
    with pytest.raises(UsageError, match="other vectors for --init"):
        glove.train(newer, tmp_path / "v", **{**options, "init": other})
    again = glove.train(newer, tmp_path / "v", **options)
    assert manifest.check(again).fingerprint == manifest.check(whole).fingerprint
    assert (again / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("objective", ["wls", "ratio"])
def test_the_best_epoch_is_kept_and_patience_ends_the_training(texts, tmp_path, objective):
    options = {**SMALL, "size": 24, "lr": 0.2, "valid_share": 0.2, "objective": objective}
    folder = glove.train(texts[:40], tmp_path / "v", **{**options, "epochs": 300}, patience=3)
    told = [r["valid_loss"] for r in lines.check(folder / "metrics.jsonl")]
    best = int(np.argmin(told)) + 1
    assert len(told) == best + 3 < 300
    assert manifest.check(folder).notes["best_epoch"] == best
    short = glove.train(texts[:40], tmp_path / "short", **{**options, "epochs": best})
    for name, table in load_file(short / "vectors.safetensors").items():
        np.testing.assert_array_equal(load_file(folder / "vectors.safetensors")[name], table)
    notes, plain = manifest.check(folder).notes, glove.train(texts[:40], tmp_path / "plain", **SMALL)
    assert notes["nonzeros"] + notes["held_out"] == manifest.check(plain).notes["nonzeros"]


def test_the_loss_of_what_is_held_out_is_that_of_the_formula(tmp_path):
    rng = np.random.default_rng(0)
    rows, columns = np.indices((30, 30)).reshape(2, -1).astype(np.int32)
    values = rng.uniform(0.5, 40, 900).astype(np.float32)
    held = held_out.HeldOut(tmp_path, 0.2, 0, x_max=10.0, alpha=0.75, limit=1 << 20)
    kept = sum(
        len(r)
        for r, _, _ in held.split(
            [(rows[:500], columns[:500], values[:500]), (rows[500:], columns[500:], values[500:])]
        )
    )
    assert kept + len(held.records) == 900
    assert 120 < len(held.records) < 240
    state = tables.fresh(30, 5, 0)
    i, j = held.records[:, 0], held.records[:, 1]
    counts = values.reshape(30, 30)[i, j]
    f = np.minimum(1, (counts / 10) ** 0.75)
    error = (state.words[i, :6] * state.contexts[j, :6]).sum(1) - np.log(counts)

    class LeastSquares:
        def held_loss(self, errors, weights, contexts):
            np.testing.assert_array_equal(contexts, j)
            np.testing.assert_allclose(errors, error, rtol=1e-4)
            return np.array([0.5 * (weights * errors**2).sum()])

    assert held.loss(state, LeastSquares()) == pytest.approx((0.5 * f * error**2).mean(), rel=1e-5)


def test_too_little_to_hold_out(tmp_path):
    with pytest.raises(DataError, match="--valid-share"):
        glove.train(["a b"] * 9, tmp_path / "v", **SMALL, valid_share=1e-6)
    assert list(tmp_path.iterdir()) == []

"""GloVe against its own formula; the same vectors at any number of jobs, memory or interruptions."""

import os
import signal

import pytest

from nlpkit.errors import ArtifactError, DataError, DivergedError, Interrupted, UsageError
from nlpkit.store import lines, lock, manifest
from nlpkit.text.standardize import Recipe
from nlpkit.vectors import glove, tables
from nlpkit.vectors.least_squares import LeastSquares
from nlpkit.vectors.ratio import Ratio
from nlpkit.vectors.vectors import Vectors

SMALL = {"size": 8, "window": 4, "epochs": 4, "jobs": 1}
RATIO = {**SMALL, "objective": "ratio", "valid_share": 0.1}
WAYS = pytest.mark.parametrize("settings", [SMALL, RATIO], ids=["wls", "ratio"])


def test_topics_are_found_and_the_log_says_the_losses(texts, tmp_path):
    folder = glove.train(texts, tmp_path / "v", size=12, window=5, epochs=50, jobs=2)
    vectors = Vectors.load(folder)
    for word, others in (
        ("ship", {"wave", "sail", "captain", "harbour"}),
        ("cow", {"plough", "barn", "farmer", "field"}),
    ):
        assert {w for w, _ in vectors.nearest(word, 4)} == others
    losses = [r["loss"] for r in lines.check(folder / "metrics.jsonl")]
    assert len(losses) == 50
    assert losses[-1] < losses[4] < losses[0]
    assert vectors.recipe.hash == Recipe.DEFAULT.hash
    notes = manifest.check(folder, "vectors").notes
    assert notes["vocabulary"] == len(vectors) == 18
    assert notes["tokens"] == 400 * 12
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v"]


@pytest.mark.parametrize("settings", [SMALL, RATIO, {**RATIO, "sampling": "literal"}])
def test_jobs_and_memory_do_not_change_the_vectors(texts, tmp_path, settings):
    made = [
        glove.train(texts, tmp_path / f"v{n}", **{**settings, **options})
        for n, options in enumerate(({}, {"jobs": 2}, {"jobs": 5}, {"max_memory": 3000}))
    ]
    prints = {manifest.check(folder).fingerprint for folder in made}
    assert len(prints) == 1
    assert len({(folder / "metrics.jsonl").read_bytes() for folder in made}) == 1
    other = glove.train(texts, tmp_path / "seed", **settings, seed=1)
    assert manifest.check(other).fingerprint not in prints


def stop_at(monkeypatch, call, act):
    """Let ``act`` happen when the given eighth of an epoch begins (the first is 1)."""
    calls = []
    for objective in (LeastSquares, Ratio):

        def counted(self, *arguments, real=objective.stratum):
            calls.append(1)
            if len(calls) == (call - 1) * self.strata // 8 + 1:
                act()
            return real(self, *arguments)

        monkeypatch.setattr(objective, "stratum", counted)


def fail():
    raise MemoryError("as if the machine had gone")


@WAYS
@pytest.mark.parametrize(("call", "every"), [(9, 1), (16, 1), (17, 1), (30, 1), (30, 2), (15, 3)])
def test_a_killed_training_goes_on_to_the_same_vectors(texts, tmp_path, monkeypatch, settings, call, every):
    whole = glove.train(texts, tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        stop_at(patch, call, fail)
        with pytest.raises(MemoryError):
            glove.train(texts, tmp_path / "v", **settings, checkpoint_every=every)
    assert not (tmp_path / "v").exists()
    left = 32 - (call - 1) // (8 * every) * 8 * every
    stop_at(monkeypatch, left + 1, fail)  # what the checkpoint holds is not done again
    again = glove.train(texts, tmp_path / "v", **settings)
    assert manifest.check(again).fingerprint == manifest.check(whole).fingerprint
    assert (again / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert not (tmp_path / ".v.partial").exists()


@WAYS
@pytest.mark.parametrize("call", [1, 8, 21])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_place_inside_an_epoch(texts, tmp_path, monkeypatch, settings, call, number):
    whole = glove.train(texts, tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        stop_at(patch, call, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted, match="goes on from there") as stopped:
            glove.train(texts, tmp_path / "v", **settings)
    assert stopped.value.exit_code == 128 + number
    done = manifest.check(tmp_path / ".v.partial" / "checkpoint").notes["stratum"]
    at = (call - 1) % 8  # of the epoch's eighths, and the stratum behind it is the last one
    assert done == at * (16 if settings is SMALL else 8) // 8 + 1
    again = glove.train(texts, tmp_path / "v", **{**settings, "jobs": 2})
    assert manifest.check(again).fingerprint == manifest.check(whole).fingerprint
    assert (again / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def interrupted(texts, tmp_path, monkeypatch, call=20):
    with monkeypatch.context() as patch:
        stop_at(patch, call, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(Interrupted):
            glove.train(texts, tmp_path / "v", **SMALL)


def test_an_unfinished_training_of_something_else_is_refused(texts, tmp_path, monkeypatch):
    interrupted(texts, tmp_path, monkeypatch)
    with pytest.raises(UsageError, match=r"window 4, not 5.*--force"):
        glove.train(texts, tmp_path / "v", **{**SMALL, "window": 5})
    with pytest.raises(UsageError, match="another text"):
        glove.train([*texts, "one more"], tmp_path / "v", **SMALL)
    with pytest.raises(UsageError, match="another recipe"):
        glove.train(texts, tmp_path / "v", **SMALL, recipe=Recipe(("lower",)))
    with monkeypatch.context() as patch:  # rows that have another form
        patch.setattr(tables, "SUMS", 9)
        with pytest.raises(UsageError, match="another version of nlpkit"):
            glove.train(texts, tmp_path / "v", **SMALL)
    with pytest.raises(UsageError, match="2 epochs are done"):
        glove.train(texts, tmp_path / "v", **{**SMALL, "epochs": 1})
    longer = glove.train(texts, tmp_path / "v", **{**SMALL, "epochs": 6})  # more epochs are no other training
    whole = glove.train(texts, tmp_path / "whole", **{**SMALL, "epochs": 6})
    assert manifest.check(longer).fingerprint == manifest.check(whole).fingerprint


@pytest.mark.parametrize("options", [{"force": True, "window": 5}, {"resume": False}])
def test_starting_afresh(texts, tmp_path, monkeypatch, options):
    interrupted(texts, tmp_path, monkeypatch)
    fresh = glove.train(texts, tmp_path / "v", **{**SMALL, **options})
    assert [r["epoch"] for r in lines.check(fresh / "metrics.jsonl")] == [1, 2, 3, 4]


def test_a_damaged_checkpoint_is_named(texts, tmp_path, monkeypatch):
    interrupted(texts, tmp_path, monkeypatch)
    state = tmp_path / ".v.partial" / "checkpoint" / "state.safetensors"
    raw = bytearray(state.read_bytes())
    raw[-9] ^= 4
    state.write_bytes(raw)
    with pytest.raises(ArtifactError, match="damaged"):
        glove.train(texts, tmp_path / "v", **SMALL)
    assert state.read_bytes() == raw


@WAYS
def test_divergence_and_what_it_leaves(texts, tmp_path, settings):
    with pytest.raises(DivergedError, match="--lr") as diverged:
        glove.train(texts, tmp_path / "v", **settings, lr=1e30)
    assert diverged.value.exit_code == 8
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_stays(texts, tmp_path):
    folder = glove.train(texts, tmp_path / "v", **SMALL)
    before = manifest.check(folder).fingerprint
    with pytest.raises(UsageError, match="exists"):
        glove.train(texts, folder, **SMALL, seed=3)
    assert manifest.check(folder).fingerprint == before
    glove.train(texts, folder, **SMALL, seed=3, force=True)
    assert manifest.check(folder).fingerprint != before


def test_one_writer_at_a_time(texts, tmp_path):
    (tmp_path / ".v.partial").mkdir()
    with lock.locked(tmp_path / ".v.partial"), pytest.raises(Exception, match="writing") as locked:
        glove.train(texts, tmp_path / "v", **SMALL)
    assert locked.value.exit_code == 5


@pytest.mark.parametrize(
    ("given", "says"), [([], "no words"), (["rare words"], "min-count"), (["a"] * 9, "--documents")]
)
def test_text_that_cannot_be_used(tmp_path, given, says):
    with pytest.raises(DataError, match=says):
        glove.train(given, tmp_path / "v", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"window": 0},
        {"epochs": 0},
        {"lr": -1.0},
        {"x_max": 0.0},
        {"seed": -1},
        {"max_vocab": 0},
        {"objective": "wsl"},
        {"sampling": "literal"},
        {"valid_share": 0.6},
        {"patience": 2},
        {"anchor": -1.0},
        {"freeze": True},
    ],
)
def test_settings_out_of_range(tmp_path, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        glove.train(["a b"], tmp_path / "v", **wrong)


def test_standardized_text_is_left_as_it_is(tmp_path):
    words = Vectors.load(
        glove.train(["Sea LAND"] * 9, tmp_path / "v", **SMALL, standardized=True, recipe=Recipe(("lower",)))
    )
    assert words.words == ["LAND", "Sea"]
    assert words.recipe.steps == ("lower",)

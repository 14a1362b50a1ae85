"""GloVe where a machine ends: a disk that fills, tables that do not fit, and what the command line says."""

import resource
from contextlib import contextmanager

import numpy as np
import pytest

from nlpkit.cli import run
from nlpkit.store import manifest
from nlpkit.vectors import glove, samples, tables
from nlpkit.vectors.least_squares import LeastSquares
from nlpkit.vectors.vectors import Vectors

SMALL = {"size": 64, "window": 4, "epochs": 4, "jobs": 1}
FLAGS = ["--size", "64", "--window", "4", "--epochs", "4", "-j", "1", "--documents", "line"]


@contextmanager
def no_file_longer_than(size):
    """As a full disk: a write behind ``size`` bytes of a file is refused by the kernel."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def stopped(texts, tmp_path, monkeypatch):
    """A training that came to its first checkpoint: the text, the output."""
    (tmp_path / "in.txt").write_text("\n".join(texts))
    real, calls = LeastSquares.stratum, []

    def stratum(self, *arguments):
        calls.append(1)
        if len(calls) == self.strata + 1:
            raise MemoryError("as if the machine had gone")
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(LeastSquares, "stratum", stratum)
        with pytest.raises(MemoryError):
            glove.train(texts, tmp_path / "v", **SMALL, checkpoint_every=1)
    return tmp_path / "in.txt", tmp_path / "v"


def said(capsys):
    """The one line of an error."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nlpkit:")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("memory", ["3000", "1G"], ids=["spilling", "checkpoint"])
def test_a_disk_that_fills_loses_nothing(stopped, texts, tmp_path, capsys, memory):
    source, output = stopped
    command = ["train-glove", str(source), "-o", str(output), *FLAGS, "--checkpoint-every", "1"]
    kept = output.with_name(".v.partial") / "checkpoint"
    before = manifest.check(kept).fingerprint
    with no_file_longer_than(6_000):
        assert run([*command, "--max-memory", memory]) == 6
    assert "nlpkit:" in said(capsys)
    assert manifest.check(kept).fingerprint == before
    assert manifest.check(kept).notes["epoch"] == 1
    assert sorted(p.name for p in kept.parent.iterdir() if p.suffix == ".bin") == []
    assert run(command) == 0
    whole = glove.train(texts, tmp_path / "whole", **SMALL)
    assert manifest.check(output).fingerprint == manifest.check(whole).fingerprint


def test_samples_take_their_place_on_the_disk_before_they_are_written(tmp_path):
    n = np.arange(4000, dtype=np.int32)
    nonzeros = [(n % 50, n // 80, np.ones(4000, np.float32))]
    spool = 4000 * 12 // 8  # no block's file is as long
    with no_file_longer_than(spool), pytest.raises(OSError, match="large"):
        samples.arrange(
            nonzeros, tmp_path, vocabulary=50, parts=8, x_max=10.0, alpha=0.75, seed=0, limit=16 * 4000 - 1
        )


def test_tables_that_do_not_fit_are_refused_before_they_are_made(stopped, tmp_path, capsys):
    source, _ = stopped
    assert run(["train-glove", str(source), "-o", str(tmp_path / "w"), "--size", "100000000000"]) == 7
    assert "lower --max-vocab or --size" in said(capsys)
    assert not (tmp_path / "w").exists()
    assert not (tmp_path / ".w.partial").exists()


def test_the_memory_that_tables_need_is_what_they_take(monkeypatch):
    state = tables.fresh(500, 30, 0)
    need = state.words.nbytes + state.contexts.nbytes
    monkeypatch.setattr(tables, "free_memory", lambda: need)
    tables.check_memory(500, 30, best=False)
    with pytest.raises(tables.OutOfMemory, match="max-vocab"):
        tables.check_memory(501, 30, best=False)
    state.remember(0.0)
    monkeypatch.setattr(tables, "free_memory", lambda: need + state.best.nbytes - 1)
    with pytest.raises(tables.OutOfMemory, match="max-vocab"):
        tables.check_memory(500, 30, best=True)


@pytest.mark.parametrize(
    ("text", "options", "code", "says"),
    [
        ("", [], 3, "no"),
        (" \n\n", [], 3, "no"),
        ("sea land\n", [], 3, "--min-count"),
        ("sea\n" * 9, [], 3, "--documents"),
        ("sea land\n" * 9, ["--objective", "wsl"], 2, "did you mean 'wls'"),
        ("sea land\n" * 9, ["--sampling", "literal"], 2, "--objective ratio"),
        ("sea land\n" * 9, ["--patience", "2"], 2, "--valid-share"),
        ("sea land\n" * 9, ["--freeze"], 2, "--init"),
        ("sea land\n" * 9, ["--init", "nowhere"], 2, "nowhere"),
        ("sea land coast wave\n" * 9, ["--objective", "ratio", "--lr", "1e30"], 8, "--lr"),
    ],
)
def test_the_command_line_says_what_is_wrong(tmp_path, capsys, text, options, code, says):
    (tmp_path / "in.txt").write_text(text)
    assert run(["train-glove", str(tmp_path / "in.txt"), "-o", str(tmp_path / "v"), *FLAGS, *options]) == code
    assert says in said(capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["in.txt"]


def test_every_option_reaches_the_training(texts, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(texts))
    (tmp_path / "more.txt").write_text("\n".join(texts[:90]))
    common = {**SMALL, "objective": "ratio", "valid_share": 0.1, "patience": 2}
    flags = [*FLAGS, "--objective", "ratio", "--valid-share", "0.1", "--patience", "2"]
    made = glove.train(texts, tmp_path / "a", **common)
    assert run(["train-glove", str(tmp_path / "in.txt"), "-o", str(tmp_path / "b"), *flags]) == 0
    assert manifest.check(tmp_path / "b").fingerprint == manifest.check(made).fingerprint
    then = ["--init", str(made), "--anchor", "2", "--no-resume", "--sampling", "literal"]
    assert run(["train-glove", str(tmp_path / "more.txt"), "-o", str(tmp_path / "d"), *flags, *then]) == 0
    more = glove.train(texts[:90], tmp_path / "c", **common, init=made, anchor=2.0, sampling="literal")
    assert manifest.check(tmp_path / "d").fingerprint == manifest.check(more).fingerprint
    assert len(Vectors.load(more)) == 18

"""Whole runs through the api and the command line: real models, tiny sizes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nlpkit import api
from nlpkit.errors import ArtifactError, DataError, LockedError, UsageError
from nlpkit.inference import loading
from nlpkit.store import manifest
from nlpkit.store.verify import verify
from nlpkit.training.run import read_metrics

TINY = ["model.width=16", "model.depth=1", "model.heads=2", "data.context=24", "data.batch_size=4"]
TINY += ["data.vocab_size=300", "train.threads=1"]
PAIRS = ["model.width=16", "model.depth=1", "model.heads=2", "data.vocab_size=300", "train.threads=1"]


def problems(run):
    return [problem for report in verify(run) for problem in report.problems]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    words = ["red", "blue", "green", "cat", "dog", "runs", "sleeps", "on", "the", "mat", "a", "big", "small"]
    generator = random.Random(0)
    texts = [" ".join(generator.choices(words, k=generator.randint(3, 30))) for _ in range(150)]
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n\n".join(texts) + "\n")
    return path


def digest(run):
    return manifest.sha256(Path(run) / "model" / "model.safetensors")


def command(*words):
    return [sys.executable, "-m", "nlpkit", *map(str, words)]


def pretrain(corpus, run, *more):
    sets = [w for pair in TINY for w in ("-s", pair)]
    return command(
        "pretrain", corpus, "-o", run, "--steps", 60, *sets, "-s", "train.checkpoint_every=7", *more
    )


ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "mlm"
    return api.train("mlm", corpus, run, overrides=[*TINY, "train.checkpoint_every=7"], steps=60)


def test_a_finished_run_is_whole_and_says_so(whole, corpus, capsys):
    assert problems(whole) == []
    names = {p.name for p in whole.iterdir()}
    assert {
        "config.toml",
        "origin.json",
        "metrics.jsonl",
        "log.txt",
        "checkpoints",
        "model",
        "eval.json",
    } <= names
    assert {"report.html", "MANIFEST.json"} <= names
    model = {p.name for p in (whole / "model").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "MANIFEST.json"} <= model
    page = (whole / "report.html").read_text()
    assert "<svg" in page and "<script" not in page
    capsys.readouterr()
    before = (whole / "MANIFEST.json").read_bytes()
    api.train("mlm", corpus, whole, overrides=[*TINY, "train.checkpoint_every=7"], steps=60)
    assert "is finished" in capsys.readouterr().err and (whole / "MANIFEST.json").read_bytes() == before
    told = api.evaluate(whole)
    assert told["part"] == "valid" and told["perplexity"] == pytest.approx(np.exp(told["loss"]))
    assert problems(whole) == []
    other = api.evaluate(whole, corpus)
    assert other["part"] == "given" and other["count"] > told["count"]


@pytest.mark.parametrize("seed", [0])
def test_sigkill_at_a_random_moment_changes_nothing(whole, corpus, tmp_path, seed):
    generator = random.Random(seed)
    run = tmp_path / "mlm"
    kills = 0
    for _ in range(6):
        started = subprocess.Popen(pretrain(corpus, run), stderr=subprocess.DEVNULL, env=ENV)
        deadline = time.monotonic() + 60
        # Once it trains, kill it within the 60 steps; before, at any moment of start-up now and then.
        while not (run / "config.toml").exists() and started.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(generator.random() * 0.5)
        started.send_signal(signal.SIGKILL)
        kills += started.wait() == -signal.SIGKILL
        if kills >= 2 or started.returncode == 0:
            break
    done = subprocess.run(pretrain(corpus, run), capture_output=True, text=True, env=ENV)
    assert done.returncode == 0, done.stderr
    assert digest(run) == digest(whole)
    steps = [r["step"] for r in read_metrics(run) if r["split"] == "train"]
    assert steps == list(range(1, 61))
    assert problems(run) == []


def test_sigterm_writes_a_checkpoint_and_names_the_command(corpus, tmp_path, capsys):
    run = tmp_path / "mlm"
    started = subprocess.Popen(
        pretrain(corpus, run, "-s", "train.eval_every=60"), stderr=subprocess.PIPE, text=True, env=ENV
    )
    while not (run / "checkpoints" / "000007").exists():
        assert started.poll() is None
        time.sleep(0.002)
    started.send_signal(signal.SIGTERM)
    _, told = started.communicate(timeout=60)
    if started.returncode == 0:
        pytest.skip("it had ended before the signal came")
    assert started.returncode == 143, told
    assert "resume with: " in told and "pretrain" in told and "Traceback" not in told
    overrides = [*TINY, "train.checkpoint_every=7", "train.eval_every=60"]
    api.train("mlm", corpus, run, overrides=overrides, steps=60)
    assert "resuming after step" in capsys.readouterr().err
    assert [r["step"] for r in read_metrics(run) if r["split"] == "train"] == list(range(1, 61))


def test_clm_equals_itself_and_another_seed_differs(corpus, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        api.train("clm", corpus, tmp_path / name, overrides=TINY, steps=8, seed=seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_other_words_for_the_same_run_are_refused(whole, corpus, tmp_path):
    with pytest.raises(UsageError, match=r"train\.steps = 60"):
        api.train("mlm", corpus, whole, overrides=[*TINY, "train.checkpoint_every=7"], steps=61)
    with pytest.raises(UsageError, match="not clm"):
        api.train("clm", corpus, whole, overrides=TINY, steps=60)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not a run"):
        api.train("mlm", corpus, tmp_path / "full", overrides=TINY, steps=1, force=True)
    assert (tmp_path / "full" / "precious.txt").exists()


def test_config_toml_can_be_run_again(whole, tmp_path):
    again = api.train("mlm", (), tmp_path / "again", config=whole / "config.toml")
    assert digest(again) == digest(whole)


def test_locked_run(corpus, tmp_path):
    from nlpkit.store.lock import locked

    (tmp_path / "a").mkdir()
    started = subprocess.Popen(
        [sys.executable, "-c", "import sys,time;from nlpkit.store.lock import locked\n"
         f"with locked({str(tmp_path / 'a')!r}):\n print('held', flush=True); time.sleep(30)"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    started.stdout.readline()
    with pytest.raises(LockedError, match="process"):
        api.train("mlm", corpus, tmp_path / "a", overrides=TINY, steps=1)
    started.kill()
    started.communicate()
    with locked(tmp_path / "a", 1):
        pass


def test_empty_and_changed_input(corpus, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(DataError):
        api.train("mlm", tmp_path / "empty.txt", tmp_path / "e", overrides=TINY, steps=1)
    copy = tmp_path / "text.txt"
    copy.write_bytes(corpus.read_bytes())
    run = api.train("mlm", copy, tmp_path / "r", overrides=TINY, steps=4)
    (run / "MANIFEST.json").unlink()  # as if it had been killed before the seal
    copy.write_bytes(corpus.read_bytes() + b"\n\nmore\n")
    with pytest.raises(ArtifactError, match="has changed since"):
        api.train("mlm", copy, tmp_path / "r", overrides=TINY, steps=4)


def test_unknown_words_are_named():
    with pytest.raises(UsageError, match="did you mean 'classifier'"):
        api.train("clasifier", "x.tsv", "nowhere")
    with pytest.raises(UsageError, match=r"'train.lrr'.*'lr'"):
        api.train("mlm", "x.txt", "nowhere", overrides=["train.lrr=1"])
    with pytest.raises(UsageError, match=r"'model.widht'.*'width'"):
        api.train("mlm", "x.txt", "nowhere", overrides=["model.widht=1"])
    with pytest.raises(UsageError, match="'modle'"):
        api.train("mlm", "x.txt", "nowhere", overrides=["modle.width=1"])
    assert not Path("nowhere").exists()


@pytest.fixture(scope="module")
def sentiment(tmp_path_factory):
    generator = random.Random(1)
    folder = tmp_path_factory.mktemp("labelled")
    for part, n in (("train", 300), ("valid", 60), ("test", 60)):
        rows = []
        for _ in range(n):
            label = generator.choice(["good", "bad"])
            word = "fine" if label == "good" else "dull"
            words = generator.choices(["film", "story", "the", "and", "actors"], k=8)
            words.insert(generator.randint(0, 8), word)
            rows.append(f"{label}\t{' '.join(words)}\n")
        (folder / f"{part}.tsv").write_text("label\ttext\n" + "".join(rows))
    return folder


def test_classifier_from_scratch_and_from_a_pretrained_trunk(sentiment, whole, tmp_path, capsys):
    settings = [
        *PAIRS,
        "train.lr=3e-3",
        "model.dropout=0.0",
        "model.head_dropout=0.0",
        "train.epochs=20",
        "train.patience=0",
    ]
    run = api.train("classifier", sentiment, tmp_path / "scratch", overrides=settings)
    told = api.evaluate(run)
    assert told["part"] == "test" and told["accuracy"] > 0.95 and len(told["accuracy_interval"]) == 2
    assert "trained a word tokenizer" in capsys.readouterr().err
    assert api.load_model(run).labels == ["bad", "good"]
    assert set(json.loads((run / "eval.json").read_text())) == {"valid", "test"} and problems(run) == []
    warm = api.train(
        "classifier",
        sentiment,
        tmp_path / "warm",
        start_from=whole,
        steps=5,
        overrides=["train.threads=1", "data.max_length=24"],
    )
    said = capsys.readouterr().err
    assert "tensors copied" in said and "starting fresh" in said
    assert api.load_model(warm).tokenizer.fingerprint == api.load_model(whole).tokenizer.fingerprint


def test_biencoder_and_crossencoder(tmp_path):
    generator = random.Random(2)
    words = [f"w{i}" for i in range(40)]
    rows = []
    for i in range(120):
        topic = generator.sample(words, 3)
        query, doc = (" ".join(generator.sample(topic * 2, 4)) for _ in range(2))
        rows.append({"query": query, "doc": doc, "id": i})
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    run = api.train(
        "biencoder",
        path,
        tmp_path / "bi",
        overrides=[*PAIRS, "train.lr=5e-3", "data.batch_size=24"],
        steps=60,
    )
    told = api.evaluate(run)
    assert told["ndcg@10"] > 0.6 and told["documents"] > 8
    run = api.train("crossencoder", path, tmp_path / "cross", overrides=PAIRS, steps=5)
    assert 0 <= api.evaluate(run)["accuracy"] <= 1


def test_cnn_learns_the_digits_and_vae_draws_them(tmp_path):
    run = api.train(
        "cnn", "digits", tmp_path / "cnn", steps=150, overrides=["train.threads=1", "train.eval_every=50"]
    )
    assert api.evaluate(run)["accuracy"] > 0.95
    run = api.train(
        "vae", "digits", tmp_path / "vae", steps=30, overrides=["train.threads=1", "model.hidden=32"]
    )
    told = api.evaluate(run)
    assert told["elbo"] == -told["loss"]
    api.sample(run, 9, tmp_path / "grid.png")
    raw = (tmp_path / "grid.png").read_bytes()
    assert raw[:8] == b"\x89PNG\r\n\x1a\n" and raw[12:16] == b"IHDR"
    again = tmp_path / "again.png"
    api.sample(run, 9, again)
    assert again.read_bytes() == raw


def test_a_folder_with_a_lock_is_not_yet_a_run(tmp_path):
    (tmp_path / "index").mkdir()
    for name in (".lock", "documents.sqlite"):
        (tmp_path / "index" / name).write_bytes(b"")
    for force in (False, True):
        with pytest.raises(UsageError, match="is not a run"):
            api.train("cnn", "digits", tmp_path / "index", steps=1, force=force)
    assert (tmp_path / "index" / "documents.sqlite").exists()


def test_another_tokenizer_than_the_models_is_refused(whole, tmp_path):
    from nlpkit.text.tokenizer import Tokenizer

    Tokenizer.train(["other words"], kind="word", vocab_size=20).save(tmp_path / "other")
    with pytest.raises(ArtifactError, match="is not the tokenizer of"):
        loading.find_tokenizer(str(tmp_path / "other"), str(whole))
    assert loading.find_tokenizer(str(whole), str(whole)).vocab_size > 20

"""The verbs of training in one process: what they print where, and the exit codes."""

import json
import random

import pytest

from nlpkit import cli

SETS = ["model.width=16", "model.depth=1", "model.heads=2", "data.vocab_size=300", "train.threads=1"]
SETS = [w for s in SETS for w in ("-s", s)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    generator = random.Random(0)
    words = ["red", "blue", "cat", "dog", "runs", "sleeps", "the"]
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n\n".join(" ".join(generator.choices(words, k=12)) for _ in range(60)))
    return str(path)


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mlm"
    assert (
        cli.run(["pretrain", corpus, "-o", str(folder), "--steps", "4", "-s", "data.context=24", *SETS]) == 0
    )
    return folder


def test_pretrain_says_what_was_made_and_what_is_next(corpus, tmp_path, capfd):
    words = ["pretrain", corpus, "-o", str(tmp_path / "a"), "--steps", "3", "--objective", "clm"]
    assert cli.run([*words, "-s", "data.context=24", *SETS]) == 0
    out, err = capfd.readouterr()
    assert (
        out == ""
        and "valid loss" in err
        and f"{tmp_path / 'a' / 'model'}" in err
        and "nlpkit generate" in err
    )
    assert cli.run([*words, "-s", "data.context=24", *SETS]) == 0
    assert "is finished" in capfd.readouterr().err
    assert cli.run([*words, "-s", "data.context=32", *SETS]) == 2
    assert "data.context" in capfd.readouterr().err
    assert cli.run([*words, "-s", "data.context=32", *SETS, "--force"]) == 0


def test_dry_run_writes_nothing(corpus, tmp_path, capfd):
    assert cli.run(["pretrain", corpus, "-o", str(tmp_path / "a"), "--budget", "1m", "--dry-run", *SETS]) == 0
    out, _ = capfd.readouterr()
    assert "parameters" in out and corpus in out and "budget 1m" in out and not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train", "clasifier", "--data", "x", "-o", "o"], 2, "did you mean 'classifier'"),
        (["train", "classifier", "--data", "absent.tsv", "-o", "o"], 2, "absent.tsv"),
        (["train", "classifier", "-o", "o"], 2, "--data"),
        (["train", "cnn", "--data", "digits", "-o", "o", "--budget", "soon"], 2, "soon"),
        (["train", "cnn", "--data", "digits", "-o", "o", "-c", "tiny-mlmm"], 2, "tiny-mlm"),
        (["train", "cnn", "--data", "digits", "-o", "o", "-s", "model.family=bert"], 2, "model.family"),
        (["pretrain", "absent.txt", "-o", "o"], 2, "absent.txt"),
        (["pretrain", "absent.txt", "-o", "o", "--objective", "mlmm"], 2, "did you mean 'mlm'"),
        (["eval", "absent"], 2, "absent"),
        (["eval", "absent", "--require", "accuracy=1"], 2, "MEASURE>=NUMBER"),
        (["sample", "absent"], 2, "absent"),
        (["runs", "ls", "absent"], 2, "absent"),
        (["runs", "show", "absent"], 2, "absent"),
    ],
)
def test_usage_errors(words, code, said, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(words) == code
    out, err = capfd.readouterr()
    assert out == "" and said in err and len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_empty_data_is_3(tmp_path, capfd):
    (tmp_path / "e.tsv").write_text("label\ttext\n")
    assert cli.run(["train", "classifier", "--data", str(tmp_path / "e.tsv"), "-o", str(tmp_path / "o")]) == 3
    (tmp_path / "e.txt").write_text("")
    assert cli.run(["pretrain", str(tmp_path / "e.txt"), "-o", str(tmp_path / "p")]) == 3
    assert "no text" in capfd.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.tsv", "e.txt"]


def test_eval_prints_json_and_holds_to_requirements(run, capfd):
    capfd.readouterr()
    assert cli.run(["eval", str(run), "--json", "--require", "loss<100"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["kind"] == "mlm" and told["part"] == "valid" and told["perplexity"] > 1
    assert cli.run(["eval", str(run), "--require", "accuracy>=1.01"]) == 1
    assert "accuracy>=1.01" in capfd.readouterr().err
    assert cli.run(["eval", str(run), "--require", "acuracy>=0"]) == 2
    assert "did you mean 'accuracy'" in capfd.readouterr().err


def test_runs_ls_and_show(run, capfd):
    capfd.readouterr()
    assert cli.run(["runs", "ls", str(run.parent)]) == 0
    assert "mlm" in capfd.readouterr().out
    assert cli.run(["runs", "ls", str(run.parent), "--json"]) == 0
    (listed,) = json.loads(capfd.readouterr().out)
    assert listed["name"] == "mlm" and listed["steps"] == 4 and listed["state"] == "finished"
    assert cli.run(["runs", "show", str(run), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["config"]["train"]["steps"] == 4 and told["last"]["train"]["step"] == 4
    assert cli.run(["runs", "show", str(run)]) == 0
    assert "train.steps" in capfd.readouterr().out


def test_models_lists_the_registry(capfd):
    from nlpkit.registry import MODELS

    assert cli.run(["models", "--json"]) == 0
    assert [r["name"] for r in json.loads(capfd.readouterr().out)] == list(MODELS)
    assert cli.run(["models"]) == 0
    assert "masked language model" in capfd.readouterr().out


def test_sample_needs_a_model_that_can(run, tmp_path, capfd):
    assert cli.run(["sample", str(run), "--grid", str(tmp_path / "g.png")]) == 2
    assert "cannot be sampled" in capfd.readouterr().err and not (tmp_path / "g.png").exists()


@pytest.mark.parametrize("verb", ["pretrain", "train", "eval", "sample", "models", "runs"])
def test_help_has_an_example(verb, capfd):
    words = [verb, "ls", "--help"] if verb == "runs" else [verb, "--help"]
    assert cli.run(words) == 0
    assert "Example: nlpkit" in " ".join(capfd.readouterr().out.split())

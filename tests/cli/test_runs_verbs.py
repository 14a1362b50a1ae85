"""``nlpkit runs``: what it lists, shows, compares and draws, finished, going on and damaged."""

import json
import random
import shutil

import pytest

from nlpkit import cli
from nlpkit.store import lines

SETS = ["-s", "model.width=16", "-s", "model.depth=1", "-s", "model.heads=2", "-s", "data.context=24"]
SETS += ["-s", "data.vocab_size=300", "-s", "data.batch_size=4", "-s", "train.threads=1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two small runs, of 4 and of 6 steps."""
    folder = tmp_path_factory.mktemp("many")
    generator = random.Random(0)
    words = ["red", "blue", "cat", "dog", "runs", "sleeps", "the"]
    text = folder / "text.txt"
    text.write_text("\n\n".join(" ".join(generator.choices(words, k=12)) for _ in range(60)))
    for name, steps, seed in (("a", 4, 0), ("b", 6, 1)):
        line = ["pretrain", str(text), "-o", str(folder / name), "--steps", str(steps), "--seed", str(seed)]
        assert cli.run([*line, *SETS]) == 0
    return folder


def test_ls_tells_pace_and_time(runs, nlpkit):
    code, out, _ = nlpkit("runs", "ls", runs)
    head, *rows = out.splitlines()
    assert code == 0 and len(rows) == 2 and "tokens/s" in head and "time" in head
    told = json.loads(nlpkit("runs", "ls", runs, "--json")[1])
    assert all(r["tokens_per_second"] > 0 and r["seconds"] > 0 for r in told)


def test_diff_shows_what_differs_and_nothing_else(runs, nlpkit):
    code, out, _ = nlpkit("runs", "diff", runs / "a", runs / "b")
    assert code == 0 and "\x1b" not in out
    rows = {line.split()[1]: line.split() for line in out.splitlines()[1:]}
    assert rows["train.steps"][:5] == ["config", "train.steps", "4", "6", "+2"]
    assert rows["seed"] == ["origin", "seed", "0", "1"] and rows["train.seed"][2:4] == ["0", "1"]
    assert rows["best"][0] == "results" and "train.lr" not in rows and "kind" not in rows
    told = json.loads(nlpkit("runs", "diff", runs / "a", runs / "b", "--json")[1])
    assert told["runs"] == [str(runs / "a"), str(runs / "b")]
    assert told["config"]["train.steps"] == [4, 6] and told["origin"] == {"seed": [0, 1]}
    assert told["results"]["steps"] == [4, 6] and "eval.valid.loss" in told["results"]
    code, out, err = nlpkit("runs", "diff", runs / "a", runs / "a")
    assert (code, out) == (0, "") and "nothing differs" in err
    same = json.loads(nlpkit("runs", "diff", runs / "a", runs / "a", "--json")[1])
    assert same["config"] == same["origin"] == same["results"] == {}


@pytest.mark.parametrize("form", ["svg", "png"])
def test_plot_writes_a_picture(runs, nlpkit, tmp_path, form):
    file = tmp_path / f"curves.{form}"
    line = ["runs", "plot", runs / "a", runs / "b", "-o", file, "--x", "tokens"]
    code, out, err = nlpkit(*line)
    assert (code, out) == (0, "") and "2 runs" in err
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" if form == "png" else b"<svg" in file.read_bytes()
    code, _, err = nlpkit(*line)
    assert code == 2 and "--force" in err


def test_a_run_that_is_going_on_is_drawn_and_shown(runs, nlpkit, tmp_path):
    run = tmp_path / "a"
    shutil.copytree(runs / "a", run)
    (run / "MANIFEST.json").unlink()
    (run / "eval.json").unlink()
    with open(run / "metrics.jsonl", "ab") as file:
        spike = {"step": 4, "split": "event", "event": "spike", "action": "skip", "z": 7.0}
        file.write(lines.pack_record(spike).encode() + b'\n{"step": 5, "spl')  # the writer is not done
    assert nlpkit("runs", "plot", run, "-o", tmp_path / "a.svg")[0] == 0
    told = json.loads(nlpkit("runs", "show", run, "--json")[1])
    assert told["state"] == "unfinished" and told["spikes"][0]["action"] == "skip" and told["eval"] == {}
    assert nlpkit("runs", "diff", run, runs / "a")[0] == 0
    assert "spike" in (tmp_path / "a.svg").read_text()


def test_a_damaged_run_is_told(runs, nlpkit, tmp_path):
    run = tmp_path / "a"
    shutil.copytree(runs / "a", run)
    (run / "eval.json").write_text((run / "eval.json").read_text().replace("loss", "less"))
    for line in (["show", run], ["diff", runs / "b", run]):
        code, out, err = nlpkit("runs", *line)
        assert code == 4 and out == "" and "eval.json" in err and len(err.splitlines()) == 1
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"step": 2', '"step": 3'))
    code, _, err = nlpkit("runs", "plot", run, "-o", tmp_path / "a.svg")
    assert code == 4 and "metrics.jsonl" in err and not (tmp_path / "a.svg").exists()


@pytest.mark.parametrize("verb", ["diff", "plot"])
def test_what_is_no_run_is_refused(verb, runs, nlpkit, tmp_path):
    more = [runs / "a"] if verb == "diff" else ["-o", tmp_path / "a.svg"]
    for bad in (tmp_path / "absent", tmp_path, runs / "text.txt"):
        code, out, err = nlpkit("runs", verb, bad, *more)
        assert (code, out) == (2, "") and f"{bad}: not a run" in err and len(err.splitlines()) == 1
    assert nlpkit("runs", verb)[0] == 2


def test_looking_at_runs_loads_no_torch(runs):
    import subprocess
    import sys

    for line in (["ls", str(runs)], ["show", str(runs / "a")], ["diff", str(runs / "a"), str(runs / "b")]):
        code = (
            "import sys\nfrom nlpkit.cli import run\n"
            f"assert run({['runs', *line]!r}) == 0\n"
            "heavy = {'torch', 'transformers', 'matplotlib', 'numpy'} & set(sys.modules)\nassert not heavy, heavy\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

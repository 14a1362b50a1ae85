import json

import pytest
import torch

from nlpkit.errors import ArtifactError, DivergedError, Interrupted, UsageError
from nlpkit.store.verify import verify
from nlpkit.training import checkpoint
from nlpkit.training.run import read_metrics


def problems(run):
    return [problem for report in verify(run) for problem in report.problems]


def same(a, b):
    one, two = checkpoint.weights(a), checkpoint.weights(b)
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


def train_steps(folder):
    return [r["step"] for r in read_metrics(folder) if r["split"] == "train"]


def test_ten_steps_equal_five_and_five_more(tmp_path, toy):
    whole = toy(tmp_path / "a")
    with pytest.raises(Interrupted) as stopped:
        toy(tmp_path / "b", stop_at=5)
    assert stopped.value.exit_code == 143 and "resume with" in str(stopped.value)
    assert checkpoint.steps_of(tmp_path / "b" / "checkpoints")[-1] == 5
    parts = toy(tmp_path / "b")
    assert same(whole.model, parts.model)
    assert train_steps(tmp_path / "b") == list(range(1, 11)) == train_steps(tmp_path / "a")
    a = [(r["step"], r["split"], r["loss"]) for r in read_metrics(tmp_path / "a")]
    b = [(r["step"], r["split"], r["loss"]) for r in read_metrics(tmp_path / "b")]
    assert a == b


def test_lines_behind_the_checkpoint_are_dropped(tmp_path, toy):
    with pytest.raises(Interrupted):
        toy(tmp_path / "a", stop_at=5)
    log = tmp_path / "a" / "metrics.jsonl"
    from nlpkit.store import lines

    lines.append(log, lines.pack_record({"step": 6, "split": "train", "loss": 1.0}))
    with open(log, "ab") as file:
        file.write(b'{"step": 7, "spl')
    toy(tmp_path / "a")
    assert train_steps(tmp_path / "a") == list(range(1, 11))


def test_micro_batches_equal_the_whole_batch(tmp_path, toys):
    Toy, ToyData = toys
    from nlpkit.training import run as runs
    from nlpkit.training.settings import TrainConfig
    from nlpkit.training.trainer import Trainer

    found = []
    for micro in (0, 3):
        with runs.opened(tmp_path / str(micro), "toy", {}) as run:
            run.decide({})
            config = TrainConfig(steps=1, threads=1, device="cpu", precision="float32")
            trainer = Trainer(Toy(dropout=0.0).double(), ToyData(), config, run)
            data = ToyData(micro=micro)
            batches = [{n: t.double() for n, t in b.items()} for b in data.batch(0)]
            assert len(batches) == (1 if micro == 0 else 3)  # 3 + 3 + 2: unequal counts
            sums, total = trainer.gradients(0, batches)
            found.append(([p.grad.clone() for p in trainer.model.parameters()], sums["loss"] / total))
    torch.testing.assert_close(found[0], found[1])


def test_nan_stops_before_a_weight_is_touched(tmp_path, toy, toys):
    Toy, _ = toys
    with pytest.raises(DivergedError, match="step 7") as failure:
        toy(tmp_path / "a", model=Toy(poison=7), checkpoint_every=3, eval_every=3)
    assert failure.value.exit_code == 8
    assert checkpoint.steps_of(tmp_path / "a" / "checkpoints") == [3, 6]
    assert problems(tmp_path / "a") == []
    assert train_steps(tmp_path / "a") == list(range(1, 7))
    whole = toy(tmp_path / "b", checkpoint_every=3, eval_every=3)
    rest = toy(tmp_path / "a", checkpoint_every=3, eval_every=3)
    assert same(whole.model, rest.model)


def test_infinite_gradient_stops_too(tmp_path, toy, toys):
    Toy, _ = toys
    model = Toy()
    model.net[0].weight.register_hook(lambda g: g * float("inf"))
    with pytest.raises(DivergedError, match="gradient norm"):
        toy(tmp_path / "a", model=model)
    assert checkpoint.steps_of(tmp_path / "a" / "checkpoints") == []


def test_early_stopping_keeps_the_best(tmp_path, toy, toys):
    _, ToyData = toys
    data = ToyData(n=6, batch=6, noise=3.0)
    trainer = toy(
        tmp_path / "a", data=data, steps=400, lr=0.05, eval_every=5, patience=4, schedule="constant"
    )
    measured = {r["step"]: r["loss"] for r in read_metrics(tmp_path / "a") if r["split"] == "valid"}
    assert trainer.state.stopped and trainer.state.step < 400
    best = min(measured, key=measured.get)
    assert trainer.state.best_step == best and trainer.state.step == best + 4 * 5
    from nlpkit.training.evaluation import evaluate

    assert evaluate(trainer.model, data.valid())["loss"] == measured[best]
    assert best in checkpoint.steps_of(tmp_path / "a" / "checkpoints")
    assert len(checkpoint.steps_of(tmp_path / "a" / "checkpoints")) == 3


def test_no_validation_set_gives_the_last_weights(tmp_path, toy, toys):
    trainer = toy(tmp_path / "a", data=toys[1](valid=0))
    assert trainer.state.best is None and trainer.state.step == 10


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"]
)
def test_damaged_checkpoint_is_named_and_refused(tmp_path, toy, name):
    with pytest.raises(Interrupted):
        toy(tmp_path / "a", stop_at=5, checkpoint_every=2, eval_every=2)
    folder = tmp_path / "a" / "checkpoints"
    assert checkpoint.steps_of(folder) == [2, 4, 5][-2:]
    damaged = folder / "000005" / name
    raw = bytearray(damaged.read_bytes())
    raw[len(raw) // 2] ^= 1
    damaged.write_bytes(raw)
    with pytest.raises(ArtifactError, match=r"000005.*--from-checkpoint 4"):
        toy(tmp_path / "a", checkpoint_every=2, eval_every=2)
    assert damaged.read_bytes() == bytes(raw)
    assert any(name in p for p in problems(tmp_path / "a"))
    with pytest.raises(UsageError, match="no checkpoint of step 3"):
        toy(tmp_path / "a", checkpoint_every=2, eval_every=2, from_checkpoint=3)
    rest = toy(tmp_path / "a", checkpoint_every=2, eval_every=2, from_checkpoint=4)
    whole = toy(tmp_path / "b", checkpoint_every=2, eval_every=2)
    assert same(whole.model, rest.model)
    assert train_steps(tmp_path / "a") == list(range(1, 11))
    assert (folder / "000005.set-aside").is_dir()


def test_damaged_metrics_are_named(tmp_path, toy):
    with pytest.raises(Interrupted):
        toy(tmp_path / "a", stop_at=5)
    log = tmp_path / "a" / "metrics.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"step": 2', b'"step": 3', 1))
    with pytest.raises(ArtifactError, match=r"metrics.jsonl:3"):
        toy(tmp_path / "a")
    assert any("metrics.jsonl:3" in p for p in problems(tmp_path / "a"))


def test_changed_config_is_refused_by_name(tmp_path, toy):
    with pytest.raises(Interrupted):
        toy(tmp_path / "a", stop_at=5)
    with pytest.raises(UsageError, match=r"train.lr.*--force"):
        toy(tmp_path / "a", lr=0.5)


def test_config_toml_changed_under_a_checkpoint_is_refused(tmp_path, toy):
    with pytest.raises(Interrupted):
        toy(tmp_path / "a", stop_at=5)
    path = tmp_path / "a" / "config.toml"
    path.write_text(path.read_text().replace("0.01", "0.02"))
    with pytest.raises(ArtifactError, match="another config"):
        toy(tmp_path / "a")


def test_checkpoint_holds_no_pickle_and_is_sealed(tmp_path, toy):
    toy(tmp_path / "a")
    folder = tmp_path / "a" / "checkpoints" / "000010"
    assert {p.name for p in folder.iterdir()} == {
        "MANIFEST.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    }
    assert json.loads((folder / "state.json").read_text())["step"] == 10

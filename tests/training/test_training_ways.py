"""Ways to train that must not change what is learned, and what is done about spikes."""

import json
import math
from itertools import pairwise

import pytest
import torch

from nlpkit import api
from nlpkit.errors import DivergedError, UsageError
from nlpkit.models import mlm
from nlpkit.training import fork, spikes
from nlpkit.training.run import read_metrics
from nlpkit.training.settings import TrainConfig
from nlpkit.training.trainer import Trainer, prepared

SMALL = [
    "model.width=16", "model.depth=2", "model.heads=2", "data.context=16", "data.batch_size=8",
    "data.vocab_size=300", "data.documents=line", "train.device=cpu", "train.threads=1",
    "train.optimizer=adamw", "train.schedule=wsd", "train.eval_every=5", "train.checkpoint_every=5", "train.keep=50",
]  # fmt: skip


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {i} says {i * i} and the rest of it is {i % 7}\n" for i in range(400)))
    return path


def pretrain(text, out, steps, *more, kind="mlm"):
    return api.train(kind, text, out, steps=steps, overrides=[*SMALL, *more])


def weights(run):
    return (run / "model/model.safetensors").read_bytes()


def test_recomputed_activations_give_the_same_gradients():
    torch.manual_seed(0)
    model = mlm.Model(mlm.Config(vocab=50, width=16, depth=2, heads=2, context=32)).double().train()
    ids = torch.randint(6, 50, (4, 16))
    batch = {"input_ids": ids, "segments": torch.ones_like(ids), "labels": ids}
    made = []
    for recompute in (False, True):
        prepared(model, TrainConfig(recompute=recompute))
        model.zero_grad()
        model.loss(batch)["loss"].backward()
        made.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


def test_a_fork_lets_the_rate_fall_from_where_it_starts(text, tmp_path):
    long = pretrain(text, tmp_path / "long", 40)
    short = fork.fork(f"{long}@20", tmp_path / "short", 6)
    assert api.resume(short) == short
    records = [r for r in read_metrics(short) if r["split"] == "train"]
    rates = [r["lr"] for r in records]
    before = [r["lr"] for r in read_metrics(long) if r["split"] == "train"]
    assert rates[:20] == before[:20] and len(rates) == 26
    assert all(a > b for a, b in pairwise(rates[19:])) and rates[-1] < 0.3 * rates[19]
    assert (short / "MANIFEST.json").exists()
    with pytest.raises(UsageError, match="is not at its height at step 40"):
        fork.fork(f"{long}@40", tmp_path / "late", 6)
    with pytest.raises(UsageError, match="no checkpoint of step 7"):
        fork.fork(f"{long}@7", tmp_path / "none", 6)


def test_the_mean_of_the_weights_survives_a_stop(text, tmp_path, monkeypatch):
    ways = ("train.ema=0.9", "train.optimizer=muon")
    whole = pretrain(text, tmp_path / "whole", 20, *ways)
    real = Trainer._save

    def stop(self):
        real(self)
        if self.state.step == 10:
            self.signal = 2

    monkeypatch.setattr(Trainer, "_save", stop)
    with pytest.raises(BaseException, match="stopped after step 10"):
        pretrain(text, tmp_path / "broken", 20, *ways)
    monkeypatch.undo()
    assert weights(whole) == weights(pretrain(text, tmp_path / "broken", 20, *ways))


def spiked(monkeypatch, at, times=1):
    """The gradient of a step is a thousand times what it is, so many times."""
    real, left = Trainer.gradients, [times]

    def gradients(self, step, batches):
        told = real(self, step, batches)
        if step == at and left[0]:
            left[0] -= 1
            for p in self._parameters:
                if p.grad is not None:
                    p.grad *= 1000
        return told

    monkeypatch.setattr(Trainer, "gradients", gradients)


@pytest.mark.parametrize("action", ["log", "skip", "lower", "rewind"])
def test_a_spike_is_found_at_its_step(action, text, tmp_path, monkeypatch):
    clean = pretrain(text, tmp_path / "clean", 100)
    spiked(monkeypatch, 87)
    run = pretrain(text, tmp_path / "spiked", 100, f"train.on_spike={action}")
    records = read_metrics(run)
    (event,) = [r for r in records if r["split"] == "event"]
    assert event["step"] == 88 and event["action"] == action and event["batch"] == 87 and event["z"] > 8
    steps = [r["step"] for r in records if r["split"] == "train"]
    assert steps == list(range(1, 101))
    last = [next(r["loss"] for r in reversed(read_metrics(p)) if r["split"] == "valid") for p in (clean, run)]
    assert last[1] == pytest.approx(last[0], rel=0.005)
    rates = {r["step"]: r["lr"] for r in records if r["split"] == "train"}
    if action == "lower":
        assert rates[88] < 0.6 * rates[87]
    if action == "rewind":
        state = json.loads((run / "checkpoints/000100/state.json").read_text())
        assert state["jumped"] == 88 - 85 and state["rewinds"] == 1


def test_it_does_not_go_back_for_ever(text, tmp_path, monkeypatch):
    spiked(monkeypatch, 87, times=99)
    with pytest.raises(DivergedError, match="diverged at step 88"):
        pretrain(text, tmp_path / "run", 100, "train.on_spike=rewind")


def test_a_calm_run_raises_no_alarm(text, tmp_path):
    for seed in range(3):
        run = pretrain(text, tmp_path / str(seed), 150, f"train.seed={seed}")
        assert not [r for r in read_metrics(run) if r["split"] == "event"]


def test_the_guard_waits_until_it_knows_enough_and_forgets_no_scale():
    guard = spikes.SpikeGuard(8.0)
    assert all(guard.judge(10.0**i) == 0.0 for i in range(spikes.LEAST))
    calm = spikes.SpikeGuard(8.0)
    for _ in range(2 * spikes.WINDOW):
        calm.judge(1.0)
    assert calm.judge(1.3) < 8 < calm.judge(4.0) and len(calm.norms) == spikes.WINDOW
    assert math.exp(calm.norms[-1]) == pytest.approx(1.3)  # a spike joins none of them

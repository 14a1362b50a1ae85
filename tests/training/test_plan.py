import time
from itertools import pairwise

import pytest
import torch

from nlpkit.errors import UsageError
from nlpkit.training import device, optimizers
from nlpkit.training.evaluation import evaluate
from nlpkit.training.planning import plan
from nlpkit.training.schedule import rate
from nlpkit.training.settings import TrainConfig, limit
from nlpkit.training.trainer import size_of


def test_schedules():
    config = TrainConfig(lr=1.0, warmup=0.1, schedule="cosine", min_lr=0.1)
    rates = [rate(config, s, 100) for s in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert all(a >= b for a, b in pairwise(rates[10:])) and 0.1 <= rates[-1] < 0.11
    config = TrainConfig(lr=1.0, warmup=0.1, schedule="wsd", decay=0.2)
    rates = [rate(config, s, 100) for s in range(100)]
    assert set(rates[10:80]) == {1.0} and 0 < rates[-1] < rates[80] < 1.0


@pytest.mark.parametrize("text", ["", "soon", "0s", "-3m", "3 weeks"])
def test_bad_budget(text):
    with pytest.raises(UsageError):
        limit(text)


@pytest.mark.parametrize(
    "bad",
    [{"lr": 0.0}, {"lr": float("nan")}, {"steps": -1}, {"warmup": 0.9, "decay": 0.9, "schedule": "wsd"}],
)
def test_bad_settings(bad):
    with pytest.raises(ValueError):
        TrainConfig(**bad)


def test_budget_is_kept_and_steps_are_the_least_limit(toys):
    Toy, ToyData = toys
    model, data = Toy(), ToyData()
    before = [p.clone() for p in model.parameters()]
    decided, said = plan(model, data, TrainConfig(budget="3s", threads=1), time.monotonic())
    assert "by --budget" in said and decided.steps > 50 and decided.budget == ""
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert plan(model, data, TrainConfig(epochs=2.0), time.monotonic())[0].steps == 10
    assert plan(model, data, TrainConfig(epochs=2.0, steps=7), time.monotonic())[0].steps == 7
    assert plan(model, data, TrainConfig(budget="3s", steps=7), time.monotonic())[0].steps == 7
    items = size_of(data.batch(0))[1]
    assert plan(model, data, TrainConfig(budget=f"{9 * items}tok"), time.monotonic())[0].steps == 9
    with pytest.raises(UsageError, match="language models"):
        plan(model, data, TrainConfig(budget="1e9flops"), time.monotonic())
    with pytest.raises(UsageError, match="too short"):
        plan(model, data, TrainConfig(budget="1s"), time.monotonic() - 5)


def test_device_is_decided():
    decided = device.decide(TrainConfig())
    assert decided.device in ("cpu", "cuda")
    assert decided.threads >= 1
    with pytest.raises(UsageError, match="cpu, cuda"):
        device.decide(TrainConfig(device="abacus"))


def test_decay_acts_on_matrices_only(toys):
    model = toys[0]()
    groups = optimizers.make(model, TrainConfig(weight_decay=0.5)).param_groups
    assert {p.ndim for p in groups[0]["params"]} == {2} and groups[0]["weight_decay"] == 0.5
    assert {p.ndim for p in groups[1]["params"]} == {1} and groups[1]["weight_decay"] == 0.0


def test_evaluation_divides_once(toys):
    Toy, ToyData = toys
    model, data = Toy(), ToyData(valid=20)
    x, y = data.x[40:], data.y[40:]
    parts = [{"x": x[:3], "y": y[:3]}, {"x": x[3:], "y": y[3:]}]
    whole = evaluate(model, [{"x": x, "y": y}])
    assert evaluate(model, parts)["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert whole["count"] == 20 and evaluate(model, []) == {} and model.training

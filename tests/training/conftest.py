"""A toy model and toy data, so that the loop is tested apart from every real model."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nlpkit.data.order import Order, keyed, split_up
from nlpkit.training import run as runs
from nlpkit.training.planning import plan
from nlpkit.training.settings import TrainConfig
from nlpkit.training.trainer import Trainer


class Toy(nn.Module):
    """Regression with dropout, so that a lost generator state would show."""

    def __init__(self, poison: int = -1, dropout: float = 0.2):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 1))
        self.poison, self.calls = poison, 0

    def loss(self, batch, *, generator=None):
        self.calls += self.training
        loss = (self.net(batch["x"]) - batch["y"]).square().mean()
        if self.training and self.calls == self.poison:
            loss = loss * float("nan")
        return {"loss": loss, "count": torch.tensor(float(len(batch["x"])))}


class ToyData:
    """``n`` noisy points of a plane."""

    def __init__(self, n=40, batch=8, micro=0, seed=0, noise=0.1, valid=20):
        generator = keyed(99)
        x = generator.normal(size=(n + valid, 4)).astype(np.float32)
        y = x.sum(1, keepdims=True) + noise * generator.normal(size=(n + valid, 1)).astype(np.float32)
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y.astype(np.float32))
        self.n, self.micro, self.order = n, micro, Order(n, batch, seed)

    @property
    def steps_per_epoch(self):
        return self.order.steps_per_epoch

    def batch(self, step):
        items = self.order.items(step)
        return [{"x": self.x[i], "y": self.y[i]} for i in split_up(items, self.micro)]

    def valid(self):
        if len(self.x) > self.n:
            yield {"x": self.x[self.n :], "y": self.y[self.n :]}


def fit(folder, *, model=None, data=None, from_checkpoint=None, stop_at=None, **settings):
    """Train a toy run at ``folder`` (or go on with it); ``stop_at``: interrupt after that step."""
    import time

    config = TrainConfig(**{"steps": 10, "lr": 0.01, "threads": 1, **settings})
    model, data = model or Toy(), data or ToyData()
    requested = {"train": {**settings}}
    with runs.opened(folder, "toy", requested) as run:
        if run.resolved is None:
            decided, _ = plan(model, data, config, time.monotonic())
            run.decide({"kind": "toy", "train": {"steps": decided.steps, "lr": decided.lr}})
        else:
            decided, _ = plan(model, data, config, time.monotonic())
        trainer = Trainer(model, data, replace(decided), run)
        if stop_at is not None:
            whole = trainer._step

            def step(batches):
                loss = whole(batches)
                if trainer.state.step == stop_at:
                    os.kill(os.getpid(), 15)
                return loss

            trainer._step = step
        trainer.fit(from_checkpoint)
    return trainer


@pytest.fixture
def toy():
    return fit


@pytest.fixture
def toys():
    return Toy, ToyData

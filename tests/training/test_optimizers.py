"""Optimizers against torch's own and against their formulas; what is done to the weights beside them."""

import pytest
import torch
from torch import nn

from nlpkit.core.families import text_config
from nlpkit.core.text_encoder import TextEncoder
from nlpkit.training import optimizers
from nlpkit.training.averaging import WeightAverage
from nlpkit.training.settings import TrainConfig


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def descend(model, step, steps):
    x = torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for number in range(steps):
        model.zero_grad()
        (model(x) - y).square().mean().backward()
        step(number)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def groups(model, decay):
    return [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]


@pytest.mark.parametrize("name", ["adamw", "adam-l2", "sgd", "sgd-l2", "nesterov"])
def test_a_thousand_steps_are_those_of_torch(name):
    rate = 1e-3
    wanted = {
        "adamw": ({}, lambda g: torch.optim.AdamW(g, rate, betas=(0.9, 0.98), fused=True)),
        "adam-l2": ({"decay_kind": "l2"}, lambda g: torch.optim.Adam(g, rate, betas=(0.9, 0.98), fused=True)),
        "sgd-l2": ({"optimizer": "sgd", "decay_kind": "l2"}, lambda g: torch.optim.SGD(g, rate)),
        "nesterov": (
            {"optimizer": "sgd", "decay_kind": "l2", "momentum": 0.9},
            lambda g: torch.optim.SGD(g, rate, momentum=0.9, nesterov=True),
        ),
        "sgd": ({"optimizer": "sgd"}, None),
    }[name]
    ours, theirs = net(), net()
    mine = optimizers.make(ours, TrainConfig(lr=rate, weight_decay=0.1, **wanted[0]))
    found = descend(ours, lambda _: mine.step(rate), 1000)
    if wanted[1] is None:  # decoupled: p ← p (1 - rate · decay) - rate · gradient

        @torch.no_grad()
        def plain(_):
            for p in theirs.parameters():
                p.mul_(1 - rate * 0.1 * (p.ndim >= 2)).sub_(rate * p.grad)

        expected = descend(theirs, plain, 1000)
    else:
        peer = wanted[1](groups(theirs, 0.1))
        expected = descend(theirs, lambda _: peer.step(), 1000)
    assert (found - expected).abs().max() < 1e-7


def test_the_average_of_gradients_is_their_mean():
    ours, theirs = net(), net()
    mine = optimizers.make(ours, TrainConfig(lr=0.05, optimizer="avg-grad", average=5, weight_decay=0.0))
    held = {p: [] for p in theirs.parameters()}

    @torch.no_grad()
    def plain(_):
        for p, seen in held.items():
            seen.append(p.grad.clone())
            p.sub_(0.05 * torch.stack(seen[-5:]).mean(0))

    found, expected = descend(ours, lambda _: mine.step(0.05), 300), descend(theirs, plain, 300)
    assert (found - expected).abs().max() < 1e-10


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_muon_takes_the_matrices_in_blocks_and_adamw_the_rest(family):
    model = TextEncoder(text_config(family, vocab=20, width=16, depth=2, heads=2))
    made = optimizers.make(model, TrainConfig(optimizer="muon", lr=0.02, other_lr=0.5))
    muon, adam = made.parts
    names = {p: n for n, p in model.named_parameters()}
    inner = {names[p] for g in muon.param_groups for p in g["params"]}
    outer = {names[p] for g in adam.param_groups for p in g["params"]}
    assert inner and all("blocks" in n and "norm" not in n for n in inner)
    assert "embed.token.weight" in outer and inner | outer == set(names.values()) and not inner & outer
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    made.step(0.01)
    assert {g["lr"] for g in muon.param_groups} == {0.01} and {g["lr"] for g in adam.param_groups} == {0.005}
    again = optimizers.make(model, TrainConfig(optimizer="muon", lr=0.02))
    state = optimizers.state_tensors(model, made)
    optimizers.load_state(model, again, state)
    assert all(torch.equal(v, optimizers.state_tensors(model, again)[k]) for k, v in state.items())


def test_muon_is_that_of_torch_bit_for_bit():
    def steps(kind):
        torch.manual_seed(3)
        weights = [torch.randn(s, requires_grad=True) for s in ((8, 8), (20, 8), (8, 8), (8, 20), (20, 8))]
        made = kind([{"params": weights}], lr=0.02, momentum=0.9, weight_decay=0.1)
        for number in range(1000):
            for p in weights:
                p.grad = p.detach() + torch.randn(p.shape, generator=torch.Generator().manual_seed(number))
            made.step()
        return weights

    assert all(
        torch.equal(a, b) for a, b in zip(steps(optimizers.Muon), steps(torch.optim.Muon), strict=True)
    )


def test_l1_is_a_soft_threshold_on_matrices():
    model = net()
    made = optimizers.make(model, TrainConfig(lr=0.1, optimizer="sgd", weight_decay=0.0, l1=0.5))
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    made.step(0.1)
    for p, was in zip(model.parameters(), before, strict=True):
        wanted = was.sign() * (was.abs() - 0.05).clamp_min(0) if p.ndim >= 2 else was
        torch.testing.assert_close(p.detach(), wanted)
    assert any((p == 0).any() for p in model.parameters())


def test_the_running_mean_of_weights():
    model = net()
    average = WeightAverage(model, 0.9)
    expected = {n: p.detach().clone() for n, p in model.named_parameters()}
    for step in range(1, 30):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1)
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, p in model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * p.detach()
    own = {n: p.detach().clone() for n, p in model.named_parameters()}
    with average.shown():
        for name, p in model.named_parameters():
            torch.testing.assert_close(p.detach(), expected[name])
    assert all(torch.equal(p, own[n]) for n, p in model.named_parameters())

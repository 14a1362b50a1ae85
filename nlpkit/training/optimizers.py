"""Optimizers by name, what is done to the weights beside them, and their state as plain tensors.

* ``adamw``: Loshchilov & Hutter 2019; with ``decay_kind`` l2 the decay goes through the gradient: Adam with L2.
* ``muon``: momentum made orthogonal (Jordan et al. 2024) for the matrices inside blocks; AdamW for embeddings, heads,
  gains and biases.
* ``sgd``: with Nesterov momentum where ``momentum`` is above 0.
* ``avg-grad``: a step along the plain mean of the last ``average`` gradients.

Weight decay acts on matrices (parameters of two or more axes) only: gains, biases and other vectors are left alone.
``l1`` is a proximal step (soft threshold) on the same matrices after the update; with weight decay it is the elastic
net (Zou & Hastie 2005).
"""

import math
from collections import ChainMap
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from nlpkit.core.transformer import Block
from nlpkit.errors import ArtifactError
from nlpkit.training.settings import TrainConfig


class AverageGradient(torch.optim.Optimizer):
    """p ← p - lr · mean of the last K gradients: their moving average with a window instead of a decay.

    >>> x = torch.tensor([1.0, 1.0], requires_grad=True)
    >>> optimizer = AverageGradient([x], lr=0.03, average=4)
    >>> for _ in range(200):
    ...     optimizer.zero_grad()
    ...     (x[0] ** 2 + 10 * x[1] ** 2).backward()
    ...     _ = optimizer.step()
    >>> bool(x.detach().abs().max() < 1e-3)
    True
    """

    def __init__(self, params: Iterable[Any], lr: float, average: int = 8, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "average": average, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = torch.zeros(())
                    state["gradients"] = p.new_zeros(group["average"], *p.shape)
                    state["sum"] = torch.zeros_like(p)
                done = int(state["step"])
                oldest = state["gradients"][done % group["average"]]
                state["sum"].add_(p.grad).sub_(oldest)
                oldest.copy_(p.grad)
                state["step"] += 1
                if (done + 1) % group["average"] == 0:  # rounding does not pile up
                    torch.sum(state["gradients"], 0, out=state["sum"])
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(state["sum"], alpha=group["lr"] / min(done + 1, group["average"]))


class Muon(torch.optim.Muon):
    """``torch.optim.Muon`` with Nesterov momentum, bit for bit; matrices of one shape are made orthogonal together."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault(p.shape, []).append(p)
            for (rows, columns), matrices in alike.items():
                gradients = [cast(Tensor, p.grad) for p in matrices]
                for p, gradient in zip(matrices, gradients, strict=True):
                    if not self.state[p]:
                        self.state[p]["momentum_buffer"] = torch.zeros_like(gradient)
                held = [self.state[p]["momentum_buffer"] for p in matrices]
                torch._foreach_lerp_(held, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, held, group["momentum"])
                a, b, c = group["ns_coefficients"]
                made = _orthogonal(torch.stack(ahead), a, b, c, group["ns_steps"], group["eps"])
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                for p, update in zip(matrices, made, strict=True):
                    p.add_(update, alpha=-rate)


def _orthogonal(x: Tensor, a: float, b: float, c: float, steps: int, eps: float) -> Tensor:
    """U Vᵀ of each matrix U S Vᵀ of x (n, rows, columns), nearly, by Newton-Schulz steps in bfloat16."""
    x = x.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp_min(eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Optimizer:
    """One or two optimizers of torch over the trained parameters of a model, at one rate.

    ``param_groups`` have a ``scale``: their rate is the step's rate times it.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.config = config
        trained = [p for p in model.parameters() if p.requires_grad]
        inner = _inner(model) if config.optimizer == "muon" else set()
        self.parts: list[torch.optim.Optimizer] = []
        if inner:
            matrices = [p for p in trained if p in inner]
            self.parts.append(
                Muon(
                    [{"params": matrices, "scale": 1.0}],
                    lr=config.lr,
                    momentum=config.momentum or 0.95,
                    weight_decay=config.weight_decay,
                )
            )
            trained = [p for p in trained if p not in inner]
        scale = config.other_lr if inner else 1.0
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        groups = [{**g, "scale": scale} for g in groups if g["params"]]
        if groups:
            self.parts.append(_plain(groups, config))
        self._matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> "ChainMap[Any, Any]":
        """The state of all parts by parameter."""
        return ChainMap(*[part.state for part in self.parts])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self, lr: float) -> None:
        """One update at the rate ``lr``."""
        for group in self.param_groups:
            group["lr"] = lr * group["scale"]
        for part in self.parts:
            part.step()
        if self.config.l1:
            with torch.no_grad():
                for p in self._matrices:
                    p.copy_(p.sign() * (p.abs() - lr * self.config.l1).clamp_min(0.0))


def _inner(model: nn.Module) -> set[Tensor]:
    """The matrices of linear layers inside blocks: what Muon is for."""
    return {
        module.weight
        for block in model.modules()
        if isinstance(block, Block)
        for module in block.modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    }


def _plain(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    coupled = config.decay_kind == "l2"
    if config.optimizer == "avg-grad":
        return AverageGradient(groups, lr=config.lr, average=config.average)
    if config.optimizer == "sgd":
        momentum = config.momentum
        if not coupled:
            return _DecoupledSGD(groups, lr=config.lr, momentum=momentum, nesterov=momentum > 0)
        return torch.optim.SGD(groups, lr=config.lr, momentum=momentum, nesterov=momentum > 0)
    adam = torch.optim.Adam if coupled else torch.optim.AdamW
    return adam(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


class _DecoupledSGD(torch.optim.SGD):
    """SGD whose weight decay shrinks the weights and does not pass through the momentum (SGDW)."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        decays = [group["weight_decay"] for group in self.param_groups]
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"] * group["weight_decay"])
            group["weight_decay"] = 0.0
        super().step()
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = decay


def make(model: nn.Module, config: TrainConfig) -> Optimizer:
    """The optimizer of ``config`` over the parameters of ``model`` that are trained."""
    return Optimizer(model, config)


def state_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by ``parameter/name``: moments and step counts."""
    names: dict[Tensor, str] = {p: n for n, p in model.named_parameters()}
    return {
        f"{names[p]}/{key}": value.detach()
        for part in optimizer.parts
        for p, state in part.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def load_state(model: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put :func:`state_tensors` back. ArtifactError when a tensor does not belong to the model."""
    parameters = dict(model.named_parameters())
    owners = {p: part for part in optimizer.parts for group in part.param_groups for p in group["params"]}
    for name, tensor in tensors.items():
        owner, _, key = name.rpartition("/")
        parameter = parameters.get(owner)
        fits = parameter is not None and (
            not tensor.ndim or tensor.shape[-parameter.ndim :] == parameter.shape
        )
        if parameter is None or parameter not in owners or not fits:
            raise ArtifactError(f"the checkpoint's optimizer holds {name!r}, which this model has not")
        owners[parameter].state[parameter][key] = tensor.to(parameter.device)

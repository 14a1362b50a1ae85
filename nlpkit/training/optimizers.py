"""Optimizers by name, and their state as plain tensors.

AdamW: Loshchilov & Hutter 2019. Weight decay acts on matrices (parameters of two or more axes) only: gains, biases
and other vectors are left alone.
"""

import torch
from torch import Tensor, nn

from nlpkit.errors import ArtifactError
from nlpkit.training.settings import TrainConfig


def make(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of ``config`` over the parameters of ``model`` that are trained."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=config.lr, betas=config.betas, eps=config.eps, fused=True
    )


def state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by ``parameter/name``: moments and step counts."""
    names: dict[Tensor, str] = {p: n for n, p in model.named_parameters()}
    return {
        f"{names[p]}/{key}": value.detach()
        for p, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_state(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put :func:`state_tensors` back. ArtifactError when a tensor does not belong to the model."""
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        owner, _, key = name.rpartition("/")
        parameter = parameters.get(owner)
        if parameter is None or (tensor.ndim and tensor.shape != parameter.shape):
            raise ArtifactError(f"the checkpoint's optimizer holds {name!r}, which this model has not")
        optimizer.state[parameter][key] = tensor.to(parameter.device)

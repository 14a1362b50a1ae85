"""A point to go on from: ``checkpoints/000500/`` with weights, optimizer and state, sealed and whole or absent.

``model.safetensors``, ``optimizer.safetensors`` (moments by parameter), ``average.safetensors`` (a run with ``ema``)
and ``state.json``. Randomness needs no
saving: order, masks and dropout are functions of (seed, step), and the seed is in config.toml.
"""

import dataclasses
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nlpkit import console
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.store import atomic, manifest
from nlpkit.training import optimizers
from nlpkit.training.averaging import WeightAverage

KIND = "checkpoint"
AVERAGE = "average.safetensors"


@dataclass
class State:
    """Where a run stands after ``step`` steps.

    ``best_step`` is the evaluation with the best ``best`` (None before the first; of equal ones, that with the least
    ``best_loss``), ``stale`` the evaluations since,
    ``evaluated`` the last step that was measured, ``seconds`` the time spent, ``stopped`` whether patience ended.
    ``norms`` are the logarithms of gradient norms that spikes are judged by, ``jumped`` how many steps of data were
    passed over, ``rewinds`` how often, ``lowered`` the step until which the rate is halved.
    """

    step: int = 0
    best: float | None = None
    best_loss: float = 0.0
    best_step: int = 0
    stale: int = 0
    evaluated: int = 0
    seconds: float = 0.0
    stopped: bool = False
    norms: list[float] = field(default_factory=list)
    jumped: int = 0
    rewinds: int = 0
    lowered: int = 0


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, each tied tensor once."""
    seen: set[int] = set()
    kept: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            kept[name] = tensor.detach()
    return kept


def save(
    folder: Path,
    model: nn.Module,
    optimizer: optimizers.Optimizer,
    state: State,
    config_hash: str,
    average: WeightAverage | None = None,
) -> Path:
    """Write and seal ``folder/STEP``; it appears whole or not at all."""
    target = folder / f"{state.step:06d}"
    with atomic.building(target, force=True) as made:
        save_file({k: v.contiguous().cpu() for k, v in weights(model).items()}, made / "model.safetensors")
        moments = optimizers.state_tensors(model, optimizer)
        save_file({k: v.contiguous().cpu() for k, v in moments.items()}, made / "optimizer.safetensors")
        if average is not None:
            save_file({k: v.contiguous().cpu() for k, v in average.means.items()}, made / AVERAGE)
        body = {**dataclasses.asdict(state), "randomness": "keyed by (seed, step, micro-batch)"}
        (made / "state.json").write_text(json.dumps(body, indent=1) + "\n")
        manifest.seal(made, KIND, made_with={"config": config_hash})
    return target


def steps_of(folder: Path) -> list[int]:
    """The steps that have a checkpoint, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if re.fullmatch(r"\d{6,}", p.name))


def prune(folder: Path, keep: int, best_step: int) -> None:
    """Remove all but the newest ``keep`` checkpoints and the best; called once the newest is durable."""
    for step in steps_of(folder)[:-keep]:
        if step != best_step:
            shutil.rmtree(folder / f"{step:06d}")


def choose(folder: Path, wanted: int | None = None) -> Path | None:
    """The checkpoint to resume from, every byte verified: the newest, or ``wanted``, which sets newer ones aside.

    A damaged checkpoint is an ArtifactError that names the file; nothing is removed.
    """
    if folder.is_dir():
        for left in folder.glob(".*.tmp-*"):  # a killed writer's; the run's lock says that none is alive
            shutil.rmtree(left, ignore_errors=True)
    steps = steps_of(folder)
    if wanted is not None and wanted not in steps:
        raise UsageError(
            f"{folder}: no checkpoint of step {wanted}; there are: {', '.join(map(str, steps)) or 'none'}"
        )
    if not steps:
        return None
    path = folder / f"{steps[-1] if wanted is None else wanted:06d}"
    try:
        manifest.check(path, KIND)
    except ArtifactError as error:
        older = [s for s in steps if s < int(path.name)]
        way = f"go back with --from-checkpoint {older[-1]}" if older else "start over with --force"
        raise ArtifactError(
            f"{str(error).split('; ')[0]}; the checkpoint was left in place; {way}, or remove {path} by hand"
        ) from error
    if wanted is not None:
        for step in (s for s in steps if s > wanted):
            newer = folder / f"{step:06d}"
            aside = folder / f"{newer.name}.set-aside"
            if aside.exists():
                shutil.rmtree(aside)
            os.rename(newer, aside)
            console.note(f"{newer}: set aside as {aside.name}")
        atomic.fsync_folder(folder)
    return path


def read_state(path: Path) -> State:
    """The state of a checkpoint that was verified."""
    body: dict[str, Any] = json.loads((path / "state.json").read_text())
    return State(**{f.name: body[f.name] for f in dataclasses.fields(State) if f.name in body})


def load_weights(path: Path, model: nn.Module) -> None:
    """Copy a checkpoint's weights into ``model``, bit for bit. ArtifactError when the names or shapes differ."""
    manifest.check_file(path, manifest.read(path, KIND), "model.safetensors")
    held = load_file(path / "model.safetensors")
    own = weights(model)
    if set(held) != set(own) or any(held[n].shape != own[n].shape for n in own):
        odd = sorted(set(held) ^ set(own)) or [n for n in own if held[n].shape != own[n].shape]
        raise ArtifactError(f"{path}: its weights are not this model's (first: {odd[0]})")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(held[name])


def load_average(path: Path, average: WeightAverage) -> None:
    """Put a checkpoint's mean of the weights back. ArtifactError when it has none that fits."""
    if not (path / AVERAGE).is_file():
        raise ArtifactError(f"{path}: holds no mean of the weights ({AVERAGE}); start over with --force")
    manifest.check_file(path, manifest.read(path, KIND), AVERAGE)
    average.load(load_file(path / AVERAGE))


def load(
    path: Path,
    model: nn.Module,
    optimizer: optimizers.Optimizer,
    config_hash: str,
    average: WeightAverage | None = None,
) -> State:
    """Put a verified checkpoint back into model and optimizer; its state."""
    made_with = manifest.read(path, KIND).made_with.get("config")
    if made_with != config_hash:
        raise ArtifactError(
            f"{path}: was made under another config.toml than the one that lies in the run now; restore "
            "config.toml, or start over with --force"
        )
    load_weights(path, model)
    optimizers.load_state(model, optimizer, load_file(path / "optimizer.safetensors"))
    if average is not None:
        load_average(path, average)
    return read_state(path)

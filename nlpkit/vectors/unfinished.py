"""A GloVe training that was stopped: its checkpoint, and whether another training may go on from it.

It stands beside the output as ``.NAME.partial``: ``checkpoint/``, sealed, and ``metrics.jsonl``.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from nlpkit import console
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.store import atomic, lines, manifest
from nlpkit.vectors.tables import State

METRICS = "metrics.jsonl"
PLACE = ("epoch", "stratum", "loss", "best_epoch", "best_loss")
OTHER = {
    "recipe": "another recipe",
    "text": "another text",
    "init": "other vectors for --init",
    "sums": "another version of nlpkit",
}


def sweep(work: Path) -> None:
    """Remove the files that only a running training needs; its checkpoint and metrics stay."""
    for left in work.glob("*.bin"):
        left.unlink(missing_ok=True)


def checkpoint(work: Path, state: State, identity: dict[str, Any]) -> None:
    """Save a state; the checkpoint before it is there until this one is whole."""
    place = {name: getattr(state, name) for name in PLACE}
    place["best_loss"] = state.best_loss if np.isfinite(state.best_loss) else None
    with atomic.building(work / "checkpoint", force=True) as folder:
        held = {"words": state.words, "contexts": state.contexts}
        save_file(held if state.best is None else {**held, "best": state.best}, folder / "state.safetensors")
        manifest.seal(folder, "checkpoint", notes={**place, "of": identity})


def find(
    work: Path, identity: dict[str, Any], *, epochs: int, resume: bool, force: bool
) -> manifest.Manifest | None:
    """The checkpoint to go on from, whole and of the same training; one that differs is refused or, forced, removed.

    ``identity`` maps settings and, as far as they are known by now, recipe, text and init to what they must be.
    """
    folder = work / "checkpoint"
    if folder.exists() and resume:
        made = manifest.check(folder, "checkpoint")
        differ = _differences(made.notes["of"], identity)
        if made.notes["epoch"] > epochs:
            differ.append(f"{made.notes['epoch']} epochs are done")
        if not differ:
            return made
        if not force:
            raise UsageError(
                f"{work}: an unfinished training stands there and differs ({', '.join(differ)}); "
                "repeat its command to go on, pass --force to start afresh, or choose another -o"
            )
    shutil.rmtree(folder, ignore_errors=True)
    (work / METRICS).unlink(missing_ok=True)
    return None


def resumed(work: Path, made: manifest.Manifest) -> State:
    """The state of a checkpoint; the log beside it is cut to the epochs that the state has seen."""
    held = load_file(manifest.check_file(work / "checkpoint", made, "state.safetensors"))
    place = {name: made.notes[name] for name in PLACE}
    if place["best_loss"] is None:
        place["best_loss"] = float("inf")
    state = State(held["words"], held["contexts"], best=held.get("best"), **place)
    log = work / METRICS
    lines.mend(log)
    kept = [r for r in lines.check(log) if r["epoch"] <= state.epoch] if log.exists() else []
    if [r["epoch"] for r in kept] != list(range(1, state.epoch + 1)):
        raise ArtifactError(f"{log}: epochs are missing; pass --force to start afresh")
    atomic.write_bytes(log, "".join(lines.pack_record(r) + "\n" for r in kept).encode())
    console.note(f"going on from epoch {state.epoch + 1}, stratum {state.stratum + 1}")
    return state


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    old, new = found["settings"], wanted["settings"]
    named = [
        f"{key} {json.dumps(old.get(key))}, not {json.dumps(new.get(key))}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]
    return named + [said for k, said in OTHER.items() if k in wanted and found.get(k) != wanted[k]]

"""A short run that starts at a checkpoint of a longer one and only lets the rate fall (Hägele et al. 2024, section 4).

A run whose rate stays constant (wsd before its decay) can be ended at any of its checkpoints: the fork takes weights,
optimizer and place in the data from there, and its rate falls to 0 over the steps that are given to it.
"""

import json
import shutil
from pathlib import Path

from nlpkit import config as plain
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.store import atomic, manifest
from nlpkit.training import checkpoint
from nlpkit.training.run import METRICS, Run, read_metrics, read_origin
from nlpkit.training.schedule import rate
from nlpkit.training.settings import TrainConfig


def fork(source: str, output: str | Path, steps: int | None, *, force: bool = False) -> Path:
    """Make the run ``output`` that goes on from ``source`` (RUN, or RUN@STEP) with ``steps`` of decay; its folder.

    Raises UsageError when the source is no such run or its rate has begun to fall by then, ArtifactError when its
    checkpoint is damaged.
    """
    name, _, wanted = source.partition("@")
    if not steps or (wanted and not wanted.isdecimal()):
        raise UsageError(
            f"--fork-decay {source}: expected RUN or RUN@STEP, and --steps for the length of the decay"
        )
    run = Run(Path(name), "")
    if run.resolved is None:
        raise UsageError(f"{name}: no run to go on from; 'nlpkit runs ls' shows the names of runs")
    tables, origin = run.resolved, read_origin(run.folder)
    config = plain.build(TrainConfig, tables["train"], "train.")
    held = checkpoint.steps_of(run.checkpoints)
    step = int(wanted) if wanted else max(held, default=0)
    if step not in held:
        raise UsageError(
            f"{name}: no checkpoint of step {step}; there are: {', '.join(map(str, held)) or 'none'}"
        )
    if config.schedule == "cosine" or rate(config, step - 1, config.steps) < config.lr:
        flat = [
            s for s in held if config.schedule != "cosine" and rate(config, s - 1, config.steps) >= config.lr
        ]
        raise UsageError(
            f"{name}: its rate is not at its height at step {step}; checkpoints where it is: "
            f"{', '.join(map(str, flat)) or 'none (train with -s train.schedule=wsd)'}"
        )
    found = run.checkpoints / f"{step:06d}"
    manifest.check(found, checkpoint.KIND)
    total = step + steps
    warmup = min(config.warmup * config.steps / total, 1 - steps / total)
    changed = {"steps": total, "schedule": "wsd", "warmup": warmup, "decay": steps / total}
    tables = {**tables, "train": {**tables["train"], **changed, "checkpoint_every": steps}}
    target = atomic.refuse_existing(output, force)
    with atomic.building(target, force=force) as folder:
        made = Run(folder, origin["kind"])
        made.decide(tables)
        asked = {**origin, "requested": json.loads(json.dumps(tables)), "forked_from": f"{name}@{step}"}
        made.write_json("origin.json", asked)
        for part in ("tokenizer", "tokens", "valid-tokens"):
            if (run.folder / part).exists():
                shutil.copytree(run.folder / part, folder / part)
        place = folder / "checkpoints" / found.name
        shutil.copytree(found, place)
        (place / manifest.NAME).unlink()
        manifest.seal(place, checkpoint.KIND, made_with={"config": made.config_hash})
        for record in read_metrics(run.folder):
            if record["step"] <= step:
                made.metric(record)
        made.flush(durable=True)
        if not (folder / METRICS).exists():
            raise ArtifactError(f"{name}: has no metrics up to step {step}")
    return target

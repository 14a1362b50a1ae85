"""What lies in a folder of runs, and in one run: read from their files, nothing is opened that computes."""

import json
from pathlib import Path
from typing import Any

from nlpkit import config
from nlpkit.errors import NlpkitError, UsageError
from nlpkit.store import manifest
from nlpkit.training import checkpoint
from nlpkit.training.run import read_metrics, read_origin


def listing(folder: str | Path) -> list[dict[str, Any]]:
    """One summary a run in ``folder``, newest first; a folder that is no run is passed over."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; name the one that holds your runs")
    found = [summary(p) for p in sorted(folder.iterdir()) if (p / "origin.json").exists()]
    return sorted(found, key=lambda r: str(r["made"]), reverse=True)


def summary(run: Path) -> dict[str, Any]:
    """Name, kind, steps done, best validation loss (else the last training loss), when it was made, its state."""
    try:
        origin = read_origin(run)
        records = read_metrics(run)
        state = "finished" if (run / manifest.NAME).exists() else "unfinished"
    except NlpkitError as error:
        return {
            "name": run.name,
            "kind": "",
            "steps": 0,
            "best": None,
            "made": "",
            "state": f"damaged: {error}",
        }
    valid = [r["loss"] for r in records if r.get("split") == "valid"]
    train = [r["loss"] for r in records if r.get("split") == "train"]
    return {
        "name": run.name,
        "kind": origin.get("kind", ""),
        "steps": max((r["step"] for r in records), default=0),
        "best": min(valid) if valid else train[-1] if train else None,
        "made": str(origin.get("made", ""))[:16].replace("T", " "),
        "state": state,
    }


def describe(run: str | Path) -> dict[str, Any]:
    """A run's summary, command, seed, checkpoints, last metrics, results and configuration."""
    run = Path(run)
    if not (run / "origin.json").exists():
        raise UsageError(
            f"{run}: not a run (it has no origin.json); 'nlpkit runs ls' shows the names of runs"
        )
    if (run / manifest.NAME).exists():  # a finished run: what is shown is what was sealed
        sealed = manifest.read(run, "run")
        for name in {"config.toml", "origin.json"} & set(sealed.files):
            manifest.check_file(run, sealed, name)
    origin = read_origin(run)
    records = read_metrics(run)
    last = {s: next((r for r in reversed(records) if r["split"] == s), None) for s in ("train", "valid")}
    results = run / "eval.json"
    return {
        **summary(run),
        "command": origin["command"],
        "versions": origin.get("versions", {}),
        "checkpoints": checkpoint.steps_of(run / "checkpoints"),
        "last": {k: v for k, v in last.items() if v},
        "eval": json.loads(results.read_text(encoding="utf-8")) if results.exists() else {},
        "config": config.read_toml(run / "config.toml") if (run / "config.toml").exists() else {},
    }

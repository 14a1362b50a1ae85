"""What lies in a folder of runs, in one run, between two: read from their files, nothing is opened that computes."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from nlpkit import config
from nlpkit.errors import NlpkitError, UsageError
from nlpkit.store import jsonfile, manifest
from nlpkit.training.run import read_metrics, read_origin


def listing(folder: str | Path) -> list[dict[str, Any]]:
    """One summary a run in ``folder``, newest first; a folder that is no run is passed over."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; name the one that holds your runs")
    found = [summary(p) for p in sorted(folder.iterdir()) if (p / "origin.json").exists()]
    return sorted(found, key=lambda r: str(r["made"]), reverse=True)


def summary(run: Path) -> dict[str, Any]:
    """Name, kind, steps done, best validation loss (else the last training loss), pace, when it was made, its state.

    ``seconds`` is the time trained and measured, ``tokens_per_second`` the median of the steps' throughput; None
    where the metrics do not tell.
    """
    try:
        origin = read_origin(run)
        records = read_metrics(run)
    except NlpkitError as error:
        return {
            "name": run.name,
            "kind": "",
            "steps": 0,
            "best": None,
            "tokens_per_second": None,
            "seconds": None,
            "made": "",
            "state": f"damaged: {error}",
        }
    return _summed(run, origin, records)


def _summed(run: Path, origin: Mapping[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
    valid = [r["loss"] for r in records if r.get("split") == "valid"]
    train = [r for r in records if r.get("split") == "train"]
    rates = [r["tokens_per_second"] for r in train if "tokens_per_second" in r]
    return {
        "name": run.name,
        "kind": origin.get("kind", ""),
        "steps": max((r["step"] for r in records), default=0),
        "best": min(valid) if valid else train[-1]["loss"] if train else None,
        "tokens_per_second": round(median(rates), 1) if rates else None,
        "seconds": max((r["seconds"] for r in records if "seconds" in r), default=None),
        "made": str(origin.get("made", ""))[:16].replace("T", " "),
        "state": "finished" if (run / manifest.NAME).exists() else "unfinished",
    }


def records_of(run: str | Path) -> list[dict[str, Any]]:
    """The metrics of a run, finished or not.

    :raises UsageError: the folder is no run. :raises ArtifactError: a line is damaged.
    """
    run = Path(run)
    if not (run / "origin.json").exists():
        raise UsageError(
            f"{run}: not a run (it has no origin.json); 'nlpkit runs ls' shows the names of runs"
        )
    return read_metrics(run)


def describe(run: str | Path) -> dict[str, Any]:
    """A run's summary, origin (command, seed, versions, inputs), checkpoints, last metrics, results, configuration."""
    run = Path(run)
    records = records_of(run)
    if (run / manifest.NAME).exists():  # a finished run: what is shown is what was sealed
        sealed = manifest.read(run, "run")
        for name in {"config.toml", "origin.json", "eval.json"} & set(sealed.files):
            manifest.check_file(run, sealed, name)
    origin = read_origin(run)
    last = {s: next((r for r in reversed(records) if r.get("split") == s), None) for s in ("train", "valid")}
    checkpoints = run / "checkpoints"
    return {
        **_summed(run, origin, records),
        "command": origin["command"],
        "seed": origin.get("seed", 0),
        "machine": origin.get("machine", ""),
        "git": origin.get("git", ""),
        "versions": origin.get("versions", {}),
        "inputs": origin["inputs"],
        "checkpoints": sorted(int(p.name) for p in checkpoints.glob("*") if re.fullmatch(r"\d{6,}", p.name)),
        "last": {k: v for k, v in last.items() if v},
        "spikes": [r for r in records if r.get("event") == "spike"],
        "eval": jsonfile.read(run / "eval.json") if (run / "eval.json").exists() else {},
        "config": config.read_toml(run / "config.toml") if (run / "config.toml").exists() else {},
    }


def differences(a: str | Path, b: str | Path) -> dict[str, dict[str, list[Any]]]:
    """What differs between two runs: under config, origin and results, by dotted name, the values [of a, of b].

    A value that one of them does not have is None.
    """
    told = [_compared(describe(run)) for run in (a, b)]
    found: dict[str, dict[str, list[Any]]] = {}
    for part in told[0]:
        first, second = told[0][part], told[1][part]
        found[part] = {
            name: [first.get(name), second.get(name)]
            for name in dict.fromkeys([*first, *second])
            if json.dumps(first.get(name)) != json.dumps(second.get(name))
        }
    return found


def _compared(told: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    origin = {k: told[k] for k in ("kind", "seed", "machine", "git", "versions", "inputs")}
    results = {k: told[k] for k in ("state", "steps", "best", "tokens_per_second", "seconds")}
    results |= {f"{part}.loss": told["last"][part]["loss"] for part in told["last"]}
    results["spikes"] = len(told["spikes"])
    measured = {f"{part}.{k}": v for part, found in told["eval"].items() for k, v in found.items()}
    return {
        "config": config.flat(told["config"]),
        "origin": config.flat(origin),
        "results": {**results, **{f"eval.{k}": v for k, v in measured.items()}},
    }

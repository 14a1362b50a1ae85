"""The parts of the benchmark of pretraining that train to an end: losses at equal time, steps to a loss, resuming."""

import json
import random
import re
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import NLPKIT, host, seconds, shown
from pretrain_sides import Place, gpt_data, parameters_of, sized

RATES, SCHEDULES = (3e-4, 1e-3, 2e-3, 4e-3, 8e-3), ("cosine", "wsd")
SEEDS = (1, 2, 3)
STEPS = 300  # of AdamW
SHARES = (0.15, 0.2, 0.25, 0.3, 0.35, 0.45, 0.6, 0.8)  # of nanoGPT's wall time: the budgets of runs of ours
LENGTHS = (60, 75, 90, 105, 120, 135, 150, 165, 180, 200, 220, 240, 260, 280, 300)  # of whole runs of ours


def records(run: Path, split: str) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl of one kind."""
    from nlpkit.store import lines

    return [record for record in lines.check(run / "metrics.jsonl") if record["split"] == split]


def trained(command: list[str]) -> Path:
    """Carry out arguments of nlpkit; the run."""
    seconds([NLPKIT, *command])
    return Path(command[command.index("-o") + 1])


def shakespeare(place: Place) -> Iterator[dict[str, Any]]:
    """Characters of tiny Shakespeare: nanoGPT by its README's command for a CPU, ours for as long."""
    text = "".join(place.read(f"tinyshakespeare/{part}.txt.gz") for part in ("train", "valid", "test"))
    at = int(len(text) * 0.9)
    number = {c: i for i, c in enumerate(sorted(set(text)))}
    data = place.folder / "shakespeare"
    shutil.rmtree(data, ignore_errors=True)
    gpt_data(data, np.array([number[c] for c in text]), len(number), 0.9)
    for name, part in (("whole", text), ("train", text[:at]), ("valid", text[at:])):
        (data / f"{name}.txt").write_text(part)
    tokenizer = data / "tokenizer"
    files = ["--kind", "char", "--documents", "file"]
    seconds([NLPKIT, "train-tokenizer", str(data / "whole.txt"), "-o", str(tokenizer), *files])
    short = ["--max_iters=200", "--eval_interval=100"] if place.quick else []
    ours, theirs, command = [], [], list[str]()
    for seed in SEEDS[:1] if place.quick else SEEDS:
        train = place.gpt(data, "--seed", str(seed), own=short)
        wall = seconds(train)
        judge = place.gpt(data, "--evaluate", str(data / "out/ckpt.pt"), str(data / "val.bin"))
        done = subprocess.run(judge, stdout=subprocess.PIPE, text=True, check=True)
        told = json.loads(done.stdout.splitlines()[-1])  # model.py says something first
        theirs.append({**told, "seed": seed, "wall": round(wall, 1)})
        sizes = sized("clm", told["parameters"], len(number) + 6, width=128, depth=4, heads=4)

        def within(budget: int, seed: int = seed, sizes: dict[str, object] = sizes) -> dict[str, Any]:
            """A run of ours that is planned for so many seconds, its whole process timed."""
            command[:] = place.pretrain(
                "shakespeare-ours", "clm", data / "train.txt", {**sizes, "data.context": 64},
                "--valid", data / "valid.txt", "--tokenizer", tokenizer, "--documents", "file",
                "--budget", f"{budget}s", "--seed", seed,
            )  # fmt: skip
            started = time.perf_counter()
            run = trained(command)
            spent = round(time.perf_counter() - started, 1)
            valid = records(run, "valid")
            best = min(v["loss"] for v in valid)
            told = {"budget": budget, "wall": spent, "step": valid[-1]["step"], "loss": best}
            return {**told, "targets": valid[-1].get("count"), "parameters": parameters_of(run)}

        ours.append({"seed": seed, **within(int(wall))})
        shorter: list[dict[str, Any]] = []
        for share in SHARES:
            shorter.append(within(max(1, int(share * wall))))
            if shorter[-1]["loss"] <= told["loss"]:
                break
        ours[-1]["shorter"] = shorter
        print(f"     seed {seed}: ours {ours[-1]}, nanoGPT {theirs[-1]}", flush=True)
    about = {
        "command": shown(["nlpkit", *command]),
        "peer": "nanoGPT train.py, the command of its README for a CPU: " + shown(train[-16 - len(short) :]),
        "peer_version": place.revision(),
        "host": host(),
        "runs": {"ours": ours, "peer": theirs},
    }
    figure = statistics.mean(o["loss"] for o in ours)
    other = statistics.mean(t["loss"] for t in theirs)
    in_time = all(o["wall"] <= t["wall"] for o, t in zip(ours, theirs, strict=True))
    alike = abs(ours[0]["parameters"] / theirs[0]["parameters"] - 1) <= 0.05
    yield {
        "claim": "characters of tiny Shakespeare, validation loss in the wall time of nanoGPT, mean of 3 seeds",
        "bar": "<= 1.75", "figure": round(figure, 4), "unit": "nats a character",
        "met": figure <= 1.75 and in_time and alike, "peer_figure": round(other, 4), **about,
    }  # fmt: skip
    shares = [
        o["shorter"][-1]["wall"] / t["wall"] if o["shorter"][-1]["loss"] <= t["loss"] else float("inf")
        for o, t in zip(ours, theirs, strict=True)
    ]
    share = statistics.median(shares)
    yield {
        "claim": "characters of tiny Shakespeare, the share of nanoGPT's wall time of the shortest run that ends at "
        "its last loss, median of 3 seeds",
        "bar": "<= 0.35", "figure": round(share, 3) if share < 9 else None, "unit": "of its time",
        "met": share <= 0.35 and alike, **about,
    }  # fmt: skip


def optimizer(place: Place) -> Iterator[dict[str, Any]]:
    """Steps to the loss of an AdamW whose rate and schedule were searched for, both of nlpkit."""
    for objective in ("clm", "mlm"):
        yield from _steps_to_loss(place, objective)


def _steps_to_loss(place: Place, objective: str) -> Iterator[dict[str, Any]]:
    steps, seeds = (15, SEEDS[:1]) if place.quick else (STEPS, SEEDS)
    rates, schedules = (RATES[1:2], SCHEDULES) if place.quick else (RATES, SCHEDULES)
    shape: dict[str, object] = {"model.width": 128, "model.depth": 4, "model.heads": 4}
    shape |= {"data.context": 128, "data.batch_size": 32, "data.valid_tokens": 20_000}

    def run(settings: dict[str, object], seed: int, length: int, curve: bool = False) -> list[dict[str, Any]]:
        every = {"train.eval_every": 5 if curve else length, **shape, **settings}
        command = place.pretrain(
            "optimizer", objective, place.shard("novels"), every, "--steps", length, "--seed", seed
        )
        return records(trained(command), "valid")

    found: dict[tuple[float, str], list[float]] = {}
    for rate in rates:
        for schedule in schedules:
            settings = {"train.optimizer": "adamw", "train.lr": rate, "train.schedule": schedule}
            found[rate, schedule] = [run(settings, seeds[0], steps)[-1]["loss"]]
            print(f"     adamw {rate:g} {schedule}: {found[rate, schedule][0]:.4f}", flush=True)
    best = min(found, key=lambda key: found[key][0])[0]
    steady = {"train.optimizer": "adamw", "train.lr": best, "train.schedule": "constant"}
    found[best, "constant"] = [run(steady, seeds[0], steps)[-1]["loss"]]
    print(f"     adamw {best:g} constant: {found[best, 'constant'][0]:.4f}", flush=True)
    # The best of one seed may be its luck: the best three are trained with all seeds.
    finalists = sorted(found, key=lambda key: found[key][0])[:3]
    for rate, schedule in finalists:
        tuned = {"train.optimizer": "adamw", "train.lr": rate, "train.schedule": schedule}
        found[rate, schedule] += [run(tuned, seed, steps)[-1]["loss"] for seed in seeds[1:]]
        print(f"     adamw {rate:g} {schedule}: {found[rate, schedule]}", flush=True)
    rate, schedule = min(finalists, key=lambda key: statistics.mean(found[key]))
    target = statistics.mean(found[rate, schedule])
    own: dict[str, object] = {}
    for setting in place.optimizer:
        key, _, value = setting.partition("=")
        own[key] = value
    curves = [run(own, seed, steps, curve=True) for seed in seeds]
    crossed = [next((v["step"] for v in curve if v["loss"] <= target), None) for curve in curves]
    lengths = [n for n in LENGTHS if n <= steps] or [steps]
    whole: dict[int, float] = {}
    low, high = 0, len(lengths)  # the shortest whole run that ends at the loss
    while low < high:
        middle = (low + high) // 2
        length = lengths[middle]
        whole[length] = statistics.mean(run(own, seed, length)[-1]["loss"] for seed in seeds)
        print(f"     ours, {length} steps: {whole[length]:.4f} (AdamW {target:.4f})", flush=True)
        low, high = (low, middle) if whole[length] <= target else (middle + 1, high)
    about = {
        "command": f"nlpkit pretrain novels.npy --objective {objective} "
        + " ".join(f"-s {k}={v}" for k, v in {**shape, **own}.items()),
        "peer": f"nlpkit, train.optimizer=adamw, {steps} steps, the best of rates {list(rates)} and schedules "
        f"{list(schedules)} and constant at the best rate (by one seed, the best three by three): {rate:g}, {schedule}",
        "peer_version": "", "host": host(), "peer_loss": round(target, 4),
        "runs": {
            "ours": [{"steps_to_loss": c, "loss": curve[-1]["loss"]} for c, curve in zip(crossed, curves, strict=True)],
            "whole": whole, "peer": {f"{r:g} {s}": losses for (r, s), losses in found.items()},
        },
    }  # fmt: skip
    names = {"clm": "next token", "mlm": "masked words"}[objective]
    reached = [c for c in crossed if c is not None]
    mean = statistics.mean(reached) / steps if len(reached) == len(crossed) else None
    for claim, share in (
        (
            f"{names}, steps until the loss that a tuned AdamW ends at, in a run of {steps} steps, mean of 3 seeds",
            mean,
        ),
        (
            f"{names}, steps of the shortest whole run that ends at the loss of a tuned AdamW, mean of 3 seeds",
            lengths[low] / steps if low < len(lengths) else None,
        ),
    ):
        figure = None if share is None else round(share, 3)
        met = share is not None and share <= 0.6
        yield {"claim": claim, "bar": "<= 0.6", "figure": figure, "unit": "of its steps", "met": met, **about}


def scaling(place: Place) -> Iterator[dict[str, Any]]:
    """A run that is stopped at a random step and resumed ends with the same weights as one that is not."""
    steps = 40 if place.quick else 120
    settings: dict[str, object] = {
        "model.width": 128,
        "train.checkpoint_every": 10,
        "data.valid_tokens": 8000,
    }
    words = ("mlm", place.shard("novels"), settings, "--steps", steps, "--seed", 7)
    undisturbed = trained(place.pretrain("whole", *words))
    wanted = (undisturbed / "model/model.safetensors").read_bytes()
    length = records(undisturbed, "train")[-1]["seconds"]
    runs: list[dict[str, Any]] = []
    for attempt in range(10 * place.runs):
        command = [NLPKIT, *place.pretrain("stopped", *words)]
        target = place.folder / "stopped"
        shutil.rmtree(target, ignore_errors=True)
        command.remove("--force")  # it would start over
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not (target / "metrics.jsonl").is_file():
            time.sleep(0.05)
        time.sleep(random.random() * length * 0.9)
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[1]
        stop = re.search(r"stopped after step ([\d,]+)", said)
        if process.returncode != 128 + signal.SIGTERM or stop is None:
            if process.returncode not in (0, 128 + signal.SIGTERM):
                raise RuntimeError(f"{shown(command)}: exit {process.returncode}: {said[-800:]}")
            continue  # it had finished, or had not begun
        at = int(stop[1].replace(",", ""))
        seconds(command)
        same = (target / "model/model.safetensors").read_bytes() == wanted
        runs.append({"stopped_after_step": at, "attempt": attempt, "identical": same})
        print(f"     stopped after step {at} of {steps}: {'identical' if same else 'DIFFERENT'}", flush=True)
        if len(runs) == place.runs:
            break
    equal = sum(r["identical"] for r in runs)
    yield {
        "claim": "weights of a run that SIGTERM stopped at a random step and the same command resumed, byte for byte",
        "bar": f"{place.runs} of {place.runs}", "figure": equal, "unit": f"of {place.runs} identical",
        "met": equal == place.runs, "command": shown(["nlpkit", *command[1:]]), "peer": "the run that was not stopped",
        "peer_version": "", "host": host(), "runs": {"ours": runs},
    }  # fmt: skip

"""What ``pretrain --init-embeddings`` is worth: a masked language model started at GloVe and at random, in equal steps.

GloVe, tokenizer and both models see the same text. The figure is a ratio of optimizer steps, which no machine's speed
changes: the steps after which the model that began at word vectors first has the validation loss that the random
start ends with, over the steps of the whole run (straight lines between evaluations; median over the seeds). The
learning rate stays constant after its warm-up, so that no step's loss depends on how long the run was to be.

Run: python benchmarks/init_embeddings.py --data TRAIN.txt.gz --work FOLDER   (writes results/init_embeddings.json)
FOLDER keeps what was made: run again, it goes on where it was. ``--only PIECE`` does one piece and reports nothing.
Seed 0 is left out: on it the scale of the vectors was chosen.
"""

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path

from measure import NLPKIT, host, keep, on_one_core, shown, tell

SETTINGS = {
    "model.width": 128, "model.depth": 2, "model.heads": 4, "data.context": 128, "data.batch_size": 16,
    "data.mask_rate": 0.2, "data.valid_tokens": 20000, "train.lr": 0.002, "train.schedule": "constant",
    "train.warmup": 0.05, "train.checkpoint_every": 1000000,
}  # fmt: skip
STARTS = ("random", "glove")


def run(command: list[str], made: Path) -> None:
    """Run a command unless what it makes is there; how long it took lies beside it."""
    note = made.with_name(f"{made.name}.seconds")
    if note.exists():
        return
    started = time.perf_counter()
    subprocess.run(command, check=True)
    note.write_text(f"{time.perf_counter() - started:.1f}")


def pieces(data: Path, work: Path, steps: int, seeds: int) -> dict[str, tuple[list[str], Path]]:
    """(command, what it makes) by name, in order."""
    glove, tokenizer, ids = work / "glove", work / "tokenizer", work / "ids.npy"
    commands = {
        glove: ["train-glove", data, "--size", 100, "--epochs", 6, "-j", 1],
        tokenizer: ["train-tokenizer", data, "--kind", "bpe", "--vocab-size", 8000],
        ids: ["tokenize", data, "--documents", "paragraph", "--tokenizer", tokenizer, "--format", "npy"],
    }
    values = {**SETTINGS, "train.eval_every": max(1, steps // 20)}
    settings = [word for name, value in values.items() for word in ("-s", f"{name}={value}")]
    for seed in range(1, seeds + 1):
        for start in STARTS:
            folder = work / f"{start}-{seed}"
            commands[folder] = [
                "pretrain", ids, "--objective", "mlm", "--tokenizer", tokenizer, *settings,
                "--steps", steps, "--seed", seed, "-j", 1,
            ]  # fmt: skip
            commands[folder] += ["--init-embeddings", glove] if start == "glove" else []
    return {
        made.stem: ([NLPKIT, *map(str, words), "-o", str(made)], made) for made, words in commands.items()
    }


def losses(folder: Path) -> list[tuple[int, float]]:
    """(step, validation loss) of a run."""
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if line["split"] == "valid"]


def steps_to(curve: list[tuple[int, float]], wanted: float) -> float:
    """The step at which a curve first is as low as ``wanted``; infinite where it never is."""
    before = curve[0]
    for step, loss in curve:
        if loss <= wanted:
            if loss == before[1]:
                return float(step)
            return before[0] + (step - before[0]) * (before[1] - wanted) / (before[1] - loss)
        before = (step, loss)
    return float("inf")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    on_one_core()
    asked.work.mkdir(parents=True, exist_ok=True)
    todo = pieces(asked.data, asked.work, asked.steps, asked.seeds)
    for name, (command, made) in todo.items():
        if asked.only in ("", name):
            run(command, made)
    if asked.only:
        return
    rows = []
    for seed in range(1, asked.seeds + 1):
        random, glove = (losses(asked.work / f"{start}-{seed}") for start in STARTS)
        shared = [(s, a, dict(glove)[s]) for s, a in random if s in dict(glove)]
        middle = min(shared, key=lambda row: abs(row[0] - asked.steps / 2))
        rows.append({
            "seed": seed, "steps": random[-1][0], "random_end": round(random[-1][1], 4),
            "glove_end": round(glove[-1][1], 4), "middle_step": middle[0],
            "random_middle": round(middle[1], 4), "glove_middle": round(middle[2], 4),
            "steps_to_random_end": round(steps_to(glove, random[-1][1]), 1),
            "steps_to_random_middle": round(steps_to(glove, middle[1]), 1),
        })  # fmt: skip
    ratio = statistics.median(row["steps_to_random_end"] / row["steps"] for row in rows)
    early = statistics.median(row["steps_to_random_middle"] / row["middle_step"] for row in rows)
    about = {"seeds": rows, "settings": SETTINGS, "bar": "< 1", "host": host(),
             "command": shown(todo["glove-1"][0]), "data": asked.data.name,
             "seconds": {name: float(made.with_name(f"{made.name}.seconds").read_text())
                         for name, (_, made) in todo.items()}}  # fmt: skip
    kept = []
    for claim, figure in (
        ("steps to the loss that a random start ends with, token embeddings started at GloVe", ratio),
        ("steps to the loss that a random start has half way, token embeddings started at GloVe", early),
    ):
        kept.append({
            "claim": claim, "figure": round(figure, 3), "unit": "of the steps of the random start",
            "met": figure < 1, **about,
        })  # fmt: skip
        tell(kept[-1])
    keep("init_embeddings", kept)


if __name__ == "__main__":
    main()

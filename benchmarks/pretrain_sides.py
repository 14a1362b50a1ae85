"""The sides of the benchmark of pretraining: their commands, their sizes, their speeds, and a row about two of them."""

import gzip
import hashlib
import json
import pickle
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measure import NLPKIT, host, seconds, shown, version

PEERS = Path(__file__).parent / "peers"
CORES = {1: "one core", 2: "two cores"}
VOCABULARY = 8192
SIZES = {"width": 256, "depth": 4, "heads": 4}
STEP = 4096  # tokens
NOVELS = 20 * 10**6  # characters of novels that are trained on
Settings = Mapping[str, object]
Told = list[dict[str, Any]]


@dataclass
class Place:
    """Where a benchmark works, with what, and how long."""

    data: Path
    nanogpt: Path
    python: str
    folder: Path
    runs: int
    quick: bool
    more: Sequence[str] = ()  # settings for every run of ours
    optimizer: Sequence[str] = ()  # settings of ours where optimizers are compared
    threads: int = 1
    _counts: dict[tuple[str, ...], int] = field(default_factory=dict)

    @property
    def window(self) -> list[str]:
        """How long a speed is measured: steps, and seconds after the warm-up."""
        return ["15", "5"] if self.quick else ["60", "40"]

    def read(self, name: str) -> str:
        return gzip.decompress((self.data / name).read_bytes()).decode()

    def tokenizer(self) -> Path:
        """The tokenizer of all parts but the characters."""
        made = self.folder / "tokenizer"
        if not made.exists():
            novels = str(self.data / "novels100/train.txt.gz")
            options = ["--kind", "bpe", "--vocab-size", str(VOCABULARY), "--documents", "line"]
            seconds([NLPKIT, "train-tokenizer", novels, "-o", str(made), *options])
        return made

    def shard(self, name: str) -> Path:
        """The ids of novels (a paragraph a document), brown (a sentence) or 20newsgroups (a message)."""
        made = self.folder / f"{name}.npy"
        if not made.is_file():
            if name == "20newsgroups":
                rows = self.read("20newsgroups/train.tsv.gz").splitlines()[1:]
                text = "\n".join(row.split("\t", 1)[1] for row in rows) + "\n"
            elif name == "brown":
                text = self.read("brown/train.txt.gz")
            else:
                text = self.read("novels100/train.txt.gz")[:NOVELS]
            lines = self.folder / f"{name}.txt"
            lines.write_text(text)
            options = ["--tokenizer", str(self.tokenizer()), "--format", "npy", "--documents", "line"]
            seconds([NLPKIT, "tokenize", str(lines), "-o", str(made), *options])
        return made

    def lengths(self, name: str) -> np.ndarray:
        offsets = np.load(self.shard(name).with_suffix(".offsets.npy"), allow_pickle=False)
        found = np.diff(offsets.astype(np.int64))
        return found[found > 0]

    def pretrain(
        self, run: str, objective: str, data: Path, settings: Settings, *options: object
    ) -> list[str]:
        """The arguments of a run of ours, started over."""
        tokenizer = () if "--tokenizer" in options else ("--tokenizer", self.tokenizer())
        words = ["pretrain", data, "-o", self.folder / run, "--objective", objective, *tokenizer, *options]
        every = [*(f"{key}={value}" for key, value in settings.items()), *self.more]
        return [*map(str, words), "--force", *(part for setting in every for part in ("-s", setting))]

    def timed(self, run: str, objective: str, settings: Settings) -> list[str]:
        """A run of ours on novels or what its name says, whose speed is measured."""
        corpus = run.partition("-")[0]
        data = self.shard(corpus if corpus in ("brown", "20newsgroups") else "novels")
        whole = {"data.valid_fraction": 0, **settings}
        program = [sys.executable, str(PEERS / "trainer_nlpkit.py"), *self.window]
        return [*program, *self.pretrain(run, objective, data, whole, "--steps", 100_000)]

    def trainer(self, model: str, corpus: str, *options: object) -> list[str]:
        """The Trainer of transformers."""
        steps, limit = self.window
        program = [self.python, str(PEERS / "trainer_hf.py"), model, str(self.shard(corpus))]
        return [*program, str(self.tokenizer()), "--steps", steps, "--limit", limit, *map(str, options)]

    def gpt(self, data: Path, *options: str, own: Sequence[str] = ()) -> list[str]:
        """nanoGPT by the command of its README for a CPU, with its own arguments ``own`` behind."""
        program = [self.python, str(PEERS / "nanogpt.py"), str(self.nanogpt), *options, "--"]
        readme = ["config/train_shakespeare_char.py", "--device=cpu", "--compile=False", "--eval_iters=20"]
        size = ["--log_interval=1", "--block_size=64", "--batch_size=12", "--n_layer=4", "--n_head=4"]
        rest = ["--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0"]
        out = [f"--dataset={data}", f"--out_dir={data / 'out'}"]
        return [*program, *readme, *size, *rest, *out, *own]

    def gpt_timed(self, *options: str, own: Sequence[str] = ()) -> list[str]:
        """nanoGPT on novels, whose speed is measured."""
        data = self.folder / "gpt"
        if not data.exists():
            ids, lengths = np.load(self.shard("novels"), allow_pickle=False), self.lengths("novels")
            ends = np.cumsum(lengths)
            joined = np.insert(ids, ends, 5)  # <|endoftext|> behind each document
            gpt_data(data, joined, VOCABULARY)
        steps, limit = self.window
        size = ["--block_size=256", "--batch_size=16", f"--n_embd={SIZES['width']}", "--max_iters=100000"]
        quiet = ["--eval_interval=1000000", "--eval_iters=1"]
        timed = ["--steps", steps, "--limit", limit, "--tokens", str(STEP)]
        return self.gpt(data, *timed, *options, own=[*size, *quiet, *own])

    def count(self, *command: str) -> int:
        """The parameters of a network of the Trainer's."""
        if command not in self._counts:
            done = subprocess.run([*command, "--count"], stdout=subprocess.PIPE, text=True, check=True)
            self._counts[command] = int(done.stdout.split()[-1])
        return self._counts[command]

    def measure(self, commands: Mapping[str, list[str]]) -> dict[str, Told]:
        """What each process tells of its speed; each runs once a round, for so many rounds."""
        told: dict[str, Told] = {name: [] for name in commands}
        for _ in range(self.runs):
            for name, command in commands.items():
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise RuntimeError(f"{shown(command)}: exit {done.returncode}: {done.stderr[-1500:]}")
                found = json.loads(done.stdout.splitlines()[-1])
                if "-o" in command:
                    found["parameters"] = parameters_of(Path(command[command.index("-o") + 1]))
                told[name].append(found)
                rate, warm = found["tokens_per_second"], found["seconds_to_step_10"]
                busy = found["cpu_seconds"] / found["seconds"]
                print(
                    f"     {name}: {rate:,.0f} tokens/s, step 10 after {warm:.1f} s, {busy:.2f} cores busy",
                    flush=True,
                )
        return told

    def row(
        self, claim: str, bar: float, ours: Told, theirs: Told, command: list[str], peer: str
    ) -> dict[str, Any]:
        """How many times the peer's tokens a second are ours; with as many parameters, or it is not met."""
        rates = [statistics.median(t["tokens_per_second"] for t in side) for side in (ours, theirs)]
        sizes = [side[0]["parameters"] for side in (ours, theirs)]
        figure, apart = rates[0] / rates[1], abs(sizes[0] / sizes[1] - 1)
        return {
            "claim": f"{claim}, {CORES[self.threads]}",
            "bar": f">= {bar:g}",
            "figure": round(figure, 3),
            "unit": "times",
            "met": figure >= bar and apart <= 0.02,
            "command": shown(["nlpkit", *command[5:]]),
            "peer": peer,
            "peer_version": self.revision() if peer.startswith("nanoGPT") else self.transformers(),
            "host": host(),
            "parameters": sizes,
            "runs": {"ours": ours, "peer": theirs},
        }

    def share(self, run: str, claim: str, command: list[str]) -> dict[str, Any]:
        """The share of the measured peak of products in bfloat16 that a run told, median of its last 40 steps."""
        lines = (self.folder / run / "metrics.jsonl").read_text().splitlines()
        told = [one["share_of_peak"] for one in map(json.loads, lines) if "share_of_peak" in one]
        figure = 100 * statistics.median(told[-40:])
        return {
            "claim": f"share of the measured bfloat16 peak, {claim}, {CORES[self.threads]}", "bar": ">= 65",
            "figure": round(figure, 1), "unit": "%", "met": figure >= 65, "command": shown(["nlpkit", *command[5:]]),
            "peer": "matrix_peak of nlpkit.core.operations", "peer_version": "", "host": host(),
        }  # fmt: skip

    def transformers(self) -> str:
        names = ("transformers", "accelerate", "torch")
        return ", ".join(f"{name} {version(name, self.python)}" for name in names)

    def revision(self) -> str:
        """The commit of the checkout, or the hash of its train.py; and torch."""
        git = ["git", "-C", str(self.nanogpt), "rev-parse", "--short", "HEAD"]
        at = ""
        if (self.nanogpt / ".git").exists():
            at = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
        if not at:
            at = "train.py " + hashlib.sha256((self.nanogpt / "train.py").read_bytes()).hexdigest()[:12]
        return f"{at}, torch {version('torch', self.python)}"


def gpt_data(folder: Path, ids: np.ndarray, vocabulary: int, share: float = 0.99) -> None:
    """nanoGPT's own form: train.bin, val.bin, and the size of the vocabulary in meta.pkl."""
    folder.mkdir(parents=True)
    at = int(len(ids) * share)
    ids[:at].astype(np.uint16).tofile(folder / "train.bin")
    ids[at:].astype(np.uint16).tofile(folder / "val.bin")
    with open(folder / "meta.pkl", "wb") as file:
        pickle.dump({"vocab_size": vocabulary}, file)


def _parameters(kind: str, values: Mapping[str, Any]) -> int:
    import torch

    from nlpkit import config, registry

    module = registry.module(kind)
    with torch.device("meta"):
        model = module.Model(config.build(module.Config, values, "model."))
    return sum(p.numel() for p in model.parameters())


def parameters_of(run: Path) -> int:
    """The parameters of a run's model, by its config.toml."""
    decided = tomllib.loads((run / "config.toml").read_text())
    return _parameters(decided["kind"], decided["model"])


def sized(kind: str, target: int, vocabulary: int = VOCABULARY, **sizes: object) -> dict[str, object]:
    """Settings of a model with these sizes and so many parameters: its hidden size is chosen where its own misses."""
    from nlpkit import config
    from nlpkit.training.request import RECIPES

    values = {**config.read_toml(RECIPES[kind])["model"], **sizes, "vocab": vocabulary}
    if abs(_parameters(kind, values) / target - 1) > 0.01:
        low, high = (_parameters(kind, {**values, "hidden": h}) for h in (256, 512))
        sizes["hidden"] = 256 + 8 * round((target - low) / (high - low) * 256 / 8)
    return {f"model.{key}": value for key, value in sizes.items()}

"""GloVe beside Stanford's C programs and gensim: times in turn, costs, and the quality of the vectors.

Run: python benchmarks/glove.py --data DIR --stanford DIR [--peers PYTHON] [--only PART ...]
     (writes benchmarks/results/glove.json)

--data holds novels100/train.txt.gz, word_similarity/*.tsv and word_analogies/questions-words.txt. --stanford holds the
four programs (vocab_count, cooccur, shuffle, glove) twice: in ``O3`` as its Makefile builds them, and in ``Ofast``
with that flag in the place of -O3. PYTHON has gensim. Both sides read the same standardized text, a line a document,
with the same window (10), least count (5), x_max (10), alpha (0.75), rate (0.05); one core and one thread but where two
are asked for. An epoch's time is what more epochs add to a whole process.
"""

import argparse
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import NLPKIT, host, in_turn, keep, on_one_core, ratio_row, seconds, shown, tell, version

MB = 10**6
#: Epochs of the longer run that an epoch's time is taken from; ours are short beside the start of a process.
OURS, THEIRS = 31, 5
SOURCE = "stanfordnlp/GloVe"


@dataclass
class Place:
    """Where a benchmark works, and how often each side runs."""

    data: Path
    stanford: Path
    python: str
    folder: Path
    runs: int

    def text(self, megabytes: int) -> Path:
        """Standardized novels: the first megabytes, or all of them (75 before they are standardized)."""
        path = self.folder / f"text{megabytes}.txt"
        if not path.is_file():
            whole = self.folder / "text75.txt"
            if not whole.is_file():
                novels = self.data / "novels100/train.txt.gz"
                seconds([NLPKIT, "standardize", str(novels), "-o", str(whole)])
            if megabytes < 75:
                text = whole.read_bytes()[: megabytes * MB]
                path.write_bytes(text[: text.rfind(b"\n") + 1])
        return path

    def ours(self, text: Path, out: str, *options: object) -> list[str]:
        rest = ["--documents", "line", "--standardized", "--force", "-o", str(self.folder / out)]
        given = list(map(str, options))
        jobs = [] if "-j" in given else ["-j", "1"]
        return [NLPKIT, "train-glove", str(text), *rest, *jobs, *given]

    def count(self, build: str, megabytes: int) -> Path:
        """Stanford's vocabulary and shuffled counts of a text; the path without its endings."""
        stem, text = self.folder / f"{build}-{megabytes}", self.text(megabytes)
        if not stem.with_suffix(".shuffled").is_file():
            for command in self.stages(build, text, stem):
                seconds(command)
        return stem

    def stages(self, build: str, text: Path, stem: Path) -> list[list[str]]:
        """Stanford's commands from text to shuffled counts."""
        at, quiet = self.stanford / build, "-verbose 0"
        lines = [
            f"{at}/vocab_count -min-count 5 {quiet} < {text} > {stem}.vocab",
            f"{at}/cooccur -memory 8 -window-size 10 -vocab-file {stem}.vocab {quiet} < {text} > {stem}.counts",
            f"{at}/shuffle -memory 8 {quiet} < {stem}.counts > {stem}.shuffled",
        ]
        return [["sh", "-c", line] for line in lines]

    def train(
        self, build: str, stem: Path, size: int, epochs: int, seed: int = 1, threads: int = 1
    ) -> list[str]:
        """Stanford's command from shuffled counts to vectors ``STEM.vectors.txt``."""
        words = (
            f"-save-file {stem}.vectors -threads {threads} -input-file {stem}.shuffled -vocab-file {stem}.vocab "
            f"-x-max 10 -alpha 0.75 -eta 0.05 -iter {epochs} -vector-size {size} -binary 0 -verbose 0 -seed {seed}"
        )
        return [str(self.stanford / build / "glove"), *words.split()]

    def evaluated(self, folder: Path) -> dict[str, float]:
        """WordSim353, MEN (Spearman) and analogies (accuracy) of a folder of vectors."""
        pairs = self.data / "word_similarity"
        files = [
            self.data / "word_analogies/questions-words.txt",
            pairs / "en-ws-353-all.tsv",
            pairs / "en-men-tr-3k.tsv",
        ]
        command = [NLPKIT, "vectors", "eval", str(folder), *map(str, files), "--json"]
        first, *rest = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        return {"wordsim353": rest[0]["spearman"], "men": rest[1]["spearman"], "analogies": first["accuracy"]}

    def imported(self, file: Path) -> Path:
        folder = file.with_suffix(".folder")
        seconds([NLPKIT, "vectors", "import", str(file), "-o", str(folder), "--force"])
        return folder


STANFORD = {"peer": f"{SOURCE}, C", "peer_version": "2020 and later (glove.c with -seed)"}


def epoch(place: Place) -> Iterator[dict[str, Any]]:
    """What an epoch takes."""
    for size in (50, 100):
        text = place.text(20)
        many = {"ours": OURS, "O3": THEIRS, "Ofast": THEIRS}
        commands = {f"ours {n}": place.ours(text, "epoch", "--size", size, "--epochs", n) for n in (1, OURS)}
        for build in ("O3", "Ofast"):
            stem = place.count(build, 20)
            commands |= {f"{build} {n}": place.train(build, stem, size, n) for n in (1, THEIRS)}
        taken = in_turn(place.runs, commands)
        one = {name: _added(taken[f"{name} 1"], taken[f"{name} {n}"], n) for name, n in many.items()}
        for build, bar in (("O3", 10), ("Ofast", 5)):
            yield ratio_row(
                f"one epoch, d = {size}, 20 MB, against -{build}", one["ours"], one[build], bar,
                command=shown(commands[f"ours {OURS}"]), **STANFORD,
            )  # fmt: skip
        if size == 100:
            yield _roofline(place, statistics.median(one["ours"]))


def _added(short: list[float], long: list[float], epochs: int) -> list[float]:
    """What each of the epochs beyond the first adds to a process."""
    return [(b - a) / (epochs - 1) for a, b in zip(short, long, strict=True)]


def _roofline(place: Place, epoch_seconds: float) -> dict[str, Any]:
    """Nominal bytes: a sample reads and writes two rows of 101 numbers and their 101 sums of float32, as Stanford's."""
    notes = json.loads((place.folder / "epoch/MANIFEST.json").read_text())["notes"]
    moved = notes["nonzeros"] * 2 * 2 * 2 * 101 * 4 / epoch_seconds
    source = np.zeros(1 << 26, np.float32)
    target = np.zeros_like(source)
    taken = []
    for _ in range(9):
        started = time.perf_counter()
        np.copyto(target, source)
        taken.append(time.perf_counter() - started)
    copied = 2 * source.nbytes / statistics.median(taken)
    return {
        "claim": "nominal bytes of an epoch over the bandwidth of a copy, d = 100, one thread",
        "command": "train-glove as above; numpy copy of 256 MB (bytes read and written)",
        "figure": round(100 * moved / copied), "unit": "%",
        "nonzeros_per_second": round(notes["nonzeros"] / epoch_seconds),
        "copy_gb_per_second": round(copied / 1e9, 1), "bar": ">= 70", "met": moved >= 0.7 * copied, "host": host(),
    }  # fmt: skip


def cost(place: Place) -> Iterator[dict[str, Any]]:
    """The cost after ten epochs over the same nonzeros."""
    stem, text = place.count("O3", 20), place.text(20)
    done = subprocess.run(place.train("O3", stem, 50, 10), capture_output=True, text=True, check=True)
    theirs = [float(x) for x in re.findall(r"cost: ([\d.]+)", done.stderr)]
    command = place.ours(text, "cost", "--size", 50, "--epochs", 10)
    seconds(command)
    folder = place.folder / "cost"
    ours = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    notes = json.loads((folder / "MANIFEST.json").read_text())["notes"]
    found = np.fromfile(stem.with_suffix(".counts"), np.dtype([("i", "<i4"), ("j", "<i4"), ("x", "<f8")]))
    apart = abs(ours[-1] / theirs[-1] - 1)
    yield {
        "claim": "cost after 10 epochs, d = 50, 20 MB, against Stanford's", "command": shown(command), **STANFORD,
        "figure": round(100 * apart, 3), "unit": "% apart", "ours_costs": [round(c, 5) for c in ours],
        "peer_costs": theirs, "nonzeros": [notes["nonzeros"], len(found)], "bar": "<= 0.5",
        "met": apart <= 0.005 and notes["nonzeros"] == len(found), "host": host(),
    }  # fmt: skip


def stages(place: Place) -> Iterator[dict[str, Any]]:
    """Counting and shuffling. Ours are parts of one process, without its start; theirs are processes."""
    text, stem = place.text(20), place.count("O3", 20)
    _, count, shuffle = place.stages("O3", text, stem)
    own = [sys.executable, __file__, "--stages", str(text)]
    taken: dict[str, list[float]] = {name: [] for name in ("count", "shuffle", "cooccur", "shuffled")}
    worst = 0.0
    for _ in range(place.runs):
        made = json.loads(subprocess.run(own, stdout=subprocess.PIPE, check=True).stdout)
        taken["count"].append(made["count"])
        taken["shuffle"].append(made["shuffle"])
        taken["cooccur"].append(seconds(count))
        taken["shuffled"].append(seconds(shuffle))
    found = np.fromfile(stem.with_suffix(".counts"), np.dtype([("i", "<i4"), ("j", "<i4"), ("x", "<f8")]))
    worst = _apart(text, stem, found)
    same = bool(worst <= 1e-5)
    for claim, mine, theirs in (
        ("reading and counting against cooccur, 20 MB", "count", "cooccur"),
        ("weighing and shuffling against shuffle, 20 MB", "shuffle", "shuffled"),
    ):
        yield ratio_row(
            claim, taken[mine], taken[theirs], 5, command="counting.read, cooccurrences, samples.arrange; one thread",
            identical=same, largest_relative_difference=worst, **STANFORD,
        )  # fmt: skip


def _counted(text: Path) -> tuple[Any, list[Any], dict[str, float]]:
    """Our counts of a text, and the seconds of the two stages."""
    from nlpkit.text.documents import read_documents
    from nlpkit.vectors import counting, samples

    gc.set_threshold(50_000, 20, 100)  # as the command line has it
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(2):  # the first time loads the compiled loops
            started = time.perf_counter()
            texts = (document.text for document in read_documents([text]))
            vocabulary, stream, _ = counting.read(texts, str, folder)
            blocks = list(counting.cooccurrences(stream, vocabulary.counts, window=10, jobs=1))
            counted = time.perf_counter()
            parts = samples.parts_for(len(vocabulary.words), 4 * 53)
            samples.arrange(
                iter(blocks),
                folder,
                vocabulary=len(vocabulary.words),
                parts=parts,
                x_max=10,
                alpha=0.75,
                seed=0,
            )
            ended = time.perf_counter()
    return vocabulary, blocks, {"count": counted - started, "shuffle": ended - counted}


def _apart(text: Path, stem: Path, theirs: np.ndarray) -> float:
    """The greatest relative difference of a count; infinite where the nonzeros are not the same."""
    vocabulary, blocks, _ = _counted(text)
    rows, columns, values = (np.concatenate(part) for part in zip(*blocks, strict=True))
    number = {word: i for i, word in enumerate(vocabulary.words)}
    names = [line.split(" ")[0] for line in stem.with_suffix(".vocab").read_text().splitlines()]
    if len(names) != len(number) or any(name not in number for name in names):
        return float("inf")
    place = np.array([number[name] for name in names])
    key = place[theirs["i"] - 1].astype(np.int64) * len(names) + place[theirs["j"] - 1]
    order = np.argsort(key)
    if not np.array_equal(key[order], rows.astype(np.int64) * len(names) + columns):
        return float("inf")
    return float(np.max(np.abs(theirs["x"][order] / values - 1)))


def whole(place: Place) -> Iterator[dict[str, Any]]:
    """Text to vectors, ten epochs."""
    for size in (20, 75):
        text, stem = place.text(size), place.folder / f"whole-{size}"
        theirs = [*place.stages("O3", text, stem), place.train("O3", stem, 50, 10)]
        command = place.ours(text, "whole", "--size", 50, "--epochs", 10)
        ours, peer = [], []
        for _ in range(place.runs if size < 75 else max(3, place.runs // 2)):
            ours.append(seconds(command))
            peer.append(sum(seconds(stage) for stage in theirs))
        yield ratio_row(
            f"text to vectors, 10 epochs, d = 50, {size} MB, whole processes", ours, peer, 8,
            command=shown(command), **STANFORD,
        )  # fmt: skip


def two(place: Place) -> Iterator[dict[str, Any]]:
    """Two threads beside one."""
    text = place.text(75)
    commands = {
        f"{jobs} {epochs}": place.ours(text, f"jobs{jobs}", "--size", 100, "--epochs", epochs, "-j", jobs)
        for jobs in (1, 2)
        for epochs in (1, OURS)
    }
    taken = in_turn(place.runs, commands)
    one = {jobs: _added(taken[f"{jobs} 1"], taken[f"{jobs} {OURS}"], OURS) for jobs in (1, 2)}
    made = [(place.folder / f"jobs{jobs}/vectors.safetensors").read_bytes() for jobs in (1, 2)]
    yield ratio_row(
        "an epoch with two threads against one, d = 100, 75 MB", one[2], one[1], 1.4,
        command=shown(commands[f"2 {OURS}"]),
        peer="the same with -j 1", peer_version="", identical=made[0] == made[1],
    )  # fmt: skip


def quality(place: Place) -> Iterator[dict[str, Any]]:
    """WordSim353, MEN and analogies after 15 epochs, mean of three seeds."""
    text, stem = place.text(75), place.count("Ofast", 75)
    figures: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    for seed in (1, 2, 3):
        command = place.ours(text, "quality", "--size", 100, "--epochs", 15, "--seed", seed, "-j", 2)
        seconds(command)
        figures["ours"].append(place.evaluated(place.folder / "quality"))
        seconds(place.train("Ofast", stem, 100, 15, seed, threads=2))
        figures["peer"].append(place.evaluated(place.imported(Path(f"{stem}.vectors.txt"))))
    mean = {
        side: {name: statistics.mean(f[name] for f in found) for name in found[0]}
        for side, found in figures.items()
    }
    similar = {side: (m["wordsim353"] + m["men"]) / 2 for side, m in mean.items()}
    about = {"command": shown(command), "runs": figures, **STANFORD}
    for claim, ours, peer, slack in (
        ("mean of WordSim353 and MEN", similar["ours"], similar["peer"], 0.01),
        ("accuracy of analogies", mean["ours"]["analogies"], mean["peer"]["analogies"], 0.01),
    ):
        yield {
            "claim": f"{claim} after 15 epochs, d = 100, 75 MB, mean of 3 seeds", **about, "figure": round(ours, 4),
            "unit": "", "peer_figure": round(peer, 4), "bar": f">= the peer's - {slack:g}", "met": ours >= peer - slack,
            "host": host(),
        }  # fmt: skip


def ratio(place: Place) -> Iterator[dict[str, Any]]:
    """The ratio objective beside the weighted one in the same time, means of three seeds."""
    text = place.text(75)

    def command(objective: str, epochs: int, seed: int) -> list[str]:
        options = ["--size", 100, "--epochs", epochs, "--objective", objective, "--seed", seed, "-j", 2]
        return place.ours(text, objective, *options)

    # As many epochs as fit into the time of the other: a process takes so much, and so much more for every epoch.
    few, many = 2, 8
    trial = {
        "short": command("ratio", few, 1),
        "long": command("ratio", many, 1),
        "wls": command("wls", 15, 1),
    }
    short, long, allowed = (statistics.median(times) for times in in_turn(3, trial).values())
    epochs = {"wls": 15, "ratio": max(1, few + int((allowed - short) / (long - short) * (many - few)))}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in epochs}
    taken: dict[str, list[float]] = {name: [] for name in epochs}
    for seed in (1, 2, 3):
        for name, count in epochs.items():
            taken[name].append(seconds(command(name, count, seed)))
            found[name].append(place.evaluated(place.folder / name))
    for name in ("wordsim353", "men"):
        ours, theirs = (statistics.mean(run[name] for run in found[side]) for side in ("ratio", "wls"))
        yield {
            "claim": f"--objective ratio against wls at equal time, d = 100, 75 MB, mean of 3 seeds: {name}",
            "command": shown(command("ratio", epochs["ratio"], 1)), "peer": "--objective wls", "peer_version": "",
            "figure": round(ours, 4), "unit": "", "peer_figure": round(theirs, 4), "runs": found, "epochs": epochs,
            "seconds": {side: [round(t, 1) for t in times] for side, times in taken.items()},
            "bar": "within 0.02", "met": theirs - ours <= 0.02, "host": host(),
        }  # fmt: skip


def skipgram(place: Place) -> Iterator[dict[str, Any]]:
    """gensim's word2vec at the same CPU time."""
    if not version("gensim", place.python):
        print(f"gensim is not installed in {place.python}: left out")
        return
    text, target = place.text(75), place.folder / "word2vec.bin"
    script = Path(__file__).parent / "peers/word2vec_gensim.py"
    done = subprocess.run(
        [place.python, str(script), str(text), str(target), "1"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    theirs = place.evaluated(place.imported(target))
    budget = float(done.stdout)
    epochs, spent = 20, 0.0
    for _ in range(3):
        command = place.ours(text, "skipgram", "--size", 100, "--epochs", epochs)
        before = os.times()
        seconds(command)
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        if 0.85 <= spent / budget <= 1.05:
            break
        epochs = max(1, round(epochs * budget / spent * 0.97))
    ours = place.evaluated(place.folder / "skipgram")
    yield {
        "claim": "MEN against gensim word2vec (skip-gram, 1 epoch) at equal CPU time, d = 100, 75 MB",
        "command": shown(command), "peer": "benchmarks/peers/word2vec_gensim.py",
        "peer_version": version("gensim", place.python), "unit": "of it",
        "figure": round(ours["men"] / theirs["men"], 3),
        "ours_figures": ours, "peer_figures": theirs, "cpu_seconds": [round(spent, 1), round(budget, 1)],
        "bar": ">= 0.8", "met": ours["men"] >= 0.8 * theirs["men"], "host": host(),
    }  # fmt: skip


PARTS: dict[str, Callable[[Place], Iterator[dict[str, Any]]]] = {
    part.__name__: part for part in (epoch, cost, stages, whole, two, quality, ratio, skipgram)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--stanford", type=Path)
    parser.add_argument("--peers", default=sys.executable, help="the interpreter that has gensim")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--scratch", type=Path, help="keep the made files here")
    parser.add_argument("--stages", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stages:
        print(json.dumps(_counted(given.stages)[2]))
        return
    if given.data is None or given.stanford is None:
        parser.error("--data and --stanford are needed")
    every_core = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as name:
        folder = given.scratch or Path(name)
        folder.mkdir(exist_ok=True)
        place = Place(given.data, given.stanford, given.peers, folder, given.runs)
        for part in given.only:
            on_one_core()
            if part in ("two", "quality", "ratio"):
                os.sched_setaffinity(0, every_core)
            for row in PARTS[part](place):
                tell(row)
                keep("glove", [row])


if __name__ == "__main__":
    main()

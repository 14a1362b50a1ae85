"""GloVe with fewer bytes a row: whether an epoch gets faster, and what the vectors lose.

Run: python benchmarks/glove_bytes.py --data DIR [--scratch DIR] [--only PART ...] [--quick]
     (writes benchmarks/results/glove_bytes.json; --quick is a short trial that writes nothing)

DIR holds novels100/train.txt.gz, word_similarity/*.tsv and word_analogies/questions-words.txt. V vocabulary, D width,
N nonzeros, P parts. Text, counting, samples, their order, first tables and seeds are nlpkit's own, and so is the epoch:
nothing but the kernel and its rows differ. The settings are the authors' (window 10, least count 5, x_max 10, alpha
0.75, rate 0.05). One core, one thread, the epochs of all sides in turn.

The layouts and their kernels are those of glove_rows.py: loops that the compiler makes vectors of, with rows asked for
ahead or not. «One sum a row», asked for ahead, is nlpkit's own; the control is a float32 sum for every number.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from glove import Place
from glove_rows import CONTROL, FETCHED, SIDES, Layout, kernel
from measure import host, keep, on_one_core, ratio_row, tell

from nlpkit.store import atomic
from nlpkit.text.documents import read_documents
from nlpkit.text.standardize import Recipe
from nlpkit.vectors import counting, least_squares, samples, tables
from nlpkit.vectors.glove_config import Config
from nlpkit.vectors.kernels import residuals
from nlpkit.vectors.samples import Samples
from nlpkit.vectors.tables import State
from nlpkit.vectors.vectors import save

SETTINGS = Config()
EPOCHS, SIZE, SEEDS = 15, 100, (1, 2, 3)  # of the vectors that are judged
FASTER = 1.1  # what a layout has to gain
# What it may lose: of the mean of WordSim353 and MEN, of the share of right analogies, and of the cost, in proportion.
SLACK = {"similar": 0.003, "analogies": 0.005, "cost": 0.005}


@dataclass
class Training:
    """nlpkit's epochs over samples, with the rows and the kernel of a layout; without one, with its own."""

    layout: Layout | None
    drawn: Samples
    size: int
    seed: int
    state: State = field(init=False)

    def __post_init__(self) -> None:
        vocabulary = 1 + int(self.drawn.pairs.max())
        self.objective = least_squares.LeastSquares(self.drawn, lr=SETTINGS.lr, seed=self.seed)
        self.state = tables.fresh(vocabulary, self.size, self.seed)
        if self.layout is not None:
            starts = (table[:, : self.size] for table in (self.state.words, self.state.contexts))
            self.state = State(*map(self.layout.packed, starts))
            self.seen = 0

    def _descend(
        self,
        pairs: np.ndarray,
        targets: np.ndarray,
        words: np.ndarray,
        contexts: np.ndarray,
        rate: np.float32,
    ) -> float:
        assert self.layout is not None
        seed = np.uint64((self.seed << 48) + self.seen)  # every step of a training has noise of its own
        self.seen += len(pairs)
        layout, size = self.layout, self.size
        tables_of = (layout.views(words), layout.views(contexts))
        return float(
            kernel(layout)(
                pairs, targets, *tables_of, size, layout.bias(size), layout.first(size), rate, seed
            )
        )

    def epoch(self) -> float:
        """Run one; its seconds."""
        own = self.layout is None
        with nullcontext() if own else patch.object(least_squares, "descend", self._descend):
            started = time.perf_counter()
            for number in range(self.objective.strata):
                self.objective.stratum(self.state, number)
            taken = time.perf_counter() - started
        self.state.epoch += 1
        return taken

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Of words and of contexts (V, D + 1) float32, with biases."""
        both = (self.state.words, self.state.contexts)
        if self.layout is None:
            return both[0][:, : self.size + 1], both[1][:, : self.size + 1]
        return self.layout.unpacked(both[0], self.size), self.layout.unpacked(both[1], self.size)

    def cost(self) -> float:
        """The mean over all nonzeros of ½·f·(w·ŵ + b + b̂ - log X)², in float32 as the tables stand."""
        words, contexts = self.vectors()
        full = tables.fresh(
            len(words), self.size, self.seed
        )  # rows as nlpkit has them, whatever else is in them
        full.words[:, : self.size + 1], full.contexts[:, : self.size + 1] = words, contexts
        pairs, targets = self.drawn.pairs, self.drawn.targets
        total, out = 0.0, np.empty(1 << 20, np.float32)
        for start in range(0, len(pairs), len(out)):
            place = slice(start, start + len(out))
            errors = out[: len(pairs[place])]
            residuals(
                pairs[place], np.ascontiguousarray(targets[place, 0]), full.words, full.contexts, errors
            )
            total += 0.5 * float(np.dot(targets[place, 1].astype(np.float64), errors.astype(np.float64) ** 2))
        return total / len(pairs)


@dataclass
class Counted:
    """A text's vocabulary and its nonzeros, block after block."""

    vocabulary: counting.Vocabulary
    blocks: list[samples.Nonzeros]
    folder: Path

    @classmethod
    def of(cls, text: Path, folder: Path) -> "Counted":
        texts = (document.text for document in read_documents([text]))
        vocabulary, stream, _ = counting.read(texts, str, folder, min_count=SETTINGS.min_count)
        found = counting.cooccurrences(stream, vocabulary.counts, window=SETTINGS.window)
        return cls(vocabulary, list(found), folder)

    def parts(self, row_bytes: int) -> int:
        return samples.parts_for(len(self.vocabulary.words), row_bytes)

    def drawn(self, parts: int, seed: int) -> Samples:
        return samples.arrange(
            iter(self.blocks), self.folder, vocabulary=len(self.vocabulary.words), parts=parts,
            x_max=SETTINGS.x_max, alpha=SETTINGS.alpha, seed=seed, limit=1 << 33,
        )  # fmt: skip


@dataclass
class Bench:
    """Where the benchmark works, and at what length."""

    place: Place
    quick: bool

    @property
    def texts(self) -> tuple[int, ...]:
        """Megabytes."""
        return (2,) if self.quick else (20, 75)

    def counted(self, megabytes: int) -> Counted:
        return Counted.of(self.place.text(megabytes), self.place.folder)

    def timed(self, sides: dict[str, Training]) -> dict[str, list[float]]:
        """The seconds of epochs, each side one a round; before them one that loads and warms."""
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for round_ in range(self.place.runs + 1):
            for name, side in sides.items():
                spent = side.epoch()
                if round_:
                    taken[name].append(spent)
        return taken


def default_parts(counted: Counted, size: int) -> int:
    """What nlpkit takes for its own rows."""
    return counted.parts(4 * (size + 1 + tables.SUMS))


def told_of(layout: Layout, size: int, seconds: float, nonzeros: int) -> dict[str, Any]:
    """What a row tells of a side beside its times."""
    (code,) = kernel(layout).inspect_asm().values()
    return {
        "bytes_a_row": 4 * layout.width(size), "nonzeros_per_second": round(nonzeros / seconds),
        "instructions_with_zmm": sum("%zmm" in line for line in code.splitlines()),
    }  # fmt: skip


def same(bench: Bench) -> Iterator[dict[str, Any]]:
    """One sum a row, fetched ahead, has the bits of nlpkit's own kernel, at the same speed."""
    megabytes = bench.texts[0]
    counted = bench.counted(megabytes)
    for size in (50, 100):
        drawn, layout = counted.drawn(default_parts(counted, size), 1), FETCHED[1]
        ours, own = Training(layout, drawn, size, 1), Training(None, drawn, size, 1)
        taken = bench.timed({"ours": ours, "nlpkit": own})
        alike = all(bool(np.array_equal(a, b)) for a, b in zip(ours.vectors(), own.vectors(), strict=True))
        yield ratio_row(
            f"epochs of {layout} against nlpkit's own, d = {size}, {megabytes} MB",
            taken["ours"], taken["nlpkit"], 0.95, command="epochs in turn", peer="nlpkit's kernel", identical=alike,
            peer_version="", **told_of(layout, size, statistics.median(taken["ours"]), len(drawn.pairs)),
        )  # fmt: skip


def speed(bench: Bench) -> Iterator[dict[str, Any]]:
    """What an epoch takes in each layout, of the same samples in the same order."""
    for megabytes in bench.texts:
        counted = bench.counted(megabytes)
        for size in (50, 100):
            parts = default_parts(counted, size)
            drawn = counted.drawn(parts, 1)
            taken = bench.timed({str(layout): Training(layout, drawn, size, 1) for layout in SIDES})
            theirs = taken[str(CONTROL)]
            for layout in SIDES[1:]:
                ours = taken[str(layout)]
                # What the bytes alone are worth: beside float32 that is fetched alike.
                alike = replace(CONTROL, ahead=layout.ahead)
                yield ratio_row(
                    f"an epoch, d = {size}, {megabytes} MB, {parts} parts: {layout}, against float32",
                    ours, theirs, FASTER, command=f"epochs in turn, {len(drawn.pairs)} nonzeros", peer="nlpkit's row",
                    peer_version="", peer_bytes_a_row=4 * CONTROL.width(size),
                    peer_nonzeros_per_second=round(len(drawn.pairs) / statistics.median(theirs)),
                    ratio_to_float32_alike=round(statistics.median(taken[str(alike)]) / statistics.median(ours), 3),
                    **told_of(layout, size, statistics.median(ours), len(drawn.pairs)),
                )  # fmt: skip


def tiles(bench: Bench) -> Iterator[dict[str, Any]]:
    """What the number of parts does to an epoch: 1, nlpkit's own, and that number halved and doubled."""
    counted = bench.counted(bench.texts[-1])
    default = default_parts(counted, SIZE)
    sides: dict[tuple[Layout, int], Training] = {}
    for parts in sorted({1, default // 2, default, 2 * default}):
        drawn = counted.drawn(parts, 1)
        sides |= {(layout, parts): Training(layout, drawn, SIZE, 1) for layout in (CONTROL, *FETCHED[:2])}
    taken = bench.timed({f"{layout} {parts}": side for (layout, parts), side in sides.items()})
    theirs = taken[f"{CONTROL} {default}"]
    for layout, parts in sides:
        ours, of = taken[f"{layout} {parts}"], f"d = {SIZE}, {bench.texts[-1]} MB"
        if ours is not theirs:
            yield ratio_row(
                f"an epoch, {of}, {parts} parts: {layout}, against float32, {default} parts",
                ours, theirs, FASTER, command=f"epochs in turn, {len(drawn.pairs)} nonzeros",
                peer="float32, nlpkit's parts", peer_version="",
                **told_of(layout, SIZE, statistics.median(ours), len(drawn.pairs)),
            )  # fmt: skip


def quality(bench: Bench) -> Iterator[dict[str, Any]]:
    """Costs, WordSim353, MEN and analogies after 15 epochs, of the same samples in the same order."""
    megabytes, epochs, seeds = (2, 2, SEEDS[:1]) if bench.quick else (75, EPOCHS, SEEDS)
    counted = bench.counted(megabytes)
    parts = default_parts(counted, SIZE)
    found: dict[Layout, list[dict[str, float]]] = {}
    for seed in seeds:
        drawn = counted.drawn(parts, seed)
        for layout in FETCHED:  # when a row is fetched changes nothing but the time
            training = Training(layout, drawn, SIZE, seed)
            taken = [training.epoch() for _ in range(epochs)]
            figures = {"seed": seed, "cost": training.cost(), **_judged(bench, counted, training)}
            found.setdefault(layout, []).append(figures)
            print(
                f"     {layout}: {json.dumps(figures)}, {statistics.median(taken):.3f} s an epoch", flush=True
            )
    mean = {
        layout: {
            "similar": statistics.mean((run["wordsim353"] + run["men"]) / 2 for run in runs),
            "analogies": statistics.mean(run["analogies"] for run in runs),
            "cost": statistics.mean(run["cost"] for run in runs),
        }
        for layout, runs in found.items()
    }
    told = f"after {epochs} epochs, d = {SIZE}, {megabytes} MB, {parts} parts, mean of {len(seeds)} seeds"
    for layout in FETCHED[1:]:
        for key, claim in (
            ("similar", "mean of WordSim353 and MEN"),
            ("analogies", "accuracy of analogies"),
            ("cost", "cost over all nonzeros"),
        ):
            ours, theirs = mean[layout][key], mean[FETCHED[0]][key]
            lost = ours / theirs - 1 if key == "cost" else theirs - ours
            bar = f"<= float32's * {1 + SLACK[key]:g}" if key == "cost" else f">= float32's - {SLACK[key]:g}"
            yield {
                "claim": f"{claim}, {layout.name}, {told}", "command": str(layout), "figure": round(ours, 5),
                "unit": "", "peer": str(FETCHED[0]), "peer_version": "", "peer_figure": round(theirs, 5), "bar": bar,
                "met": lost <= SLACK[key], "runs": {"ours": found[layout], "peer": found[FETCHED[0]]}, "host": host(),
            }  # fmt: skip


def _judged(bench: Bench, counted: Counted, training: Training) -> dict[str, float]:
    word, context = training.vectors()
    target = bench.place.folder / "bytes"
    with atomic.building(target, force=True) as folder:
        save(
            folder,
            words=counted.vocabulary.words,
            counts=counted.vocabulary.counts,
            word=word,
            context=context,
            recipe=Recipe.DEFAULT,
        )
    return bench.place.evaluated(target)


PARTS: dict[str, Callable[[Bench], Iterator[dict[str, Any]]]] = {
    part.__name__: part for part in (same, speed, tiles, quality)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--scratch", type=Path, help="keep the made files here")
    parser.add_argument("--quick", action="store_true", help="a short trial; writes no results")
    given = parser.parse_args()
    on_one_core()
    with tempfile.TemporaryDirectory() as name:
        folder = given.scratch or Path(name)
        folder.mkdir(exist_ok=True)
        runs = 2 if given.quick else given.runs
        bench = Bench(Place(given.data, Path(), sys.executable, folder, runs), given.quick)
        for part in given.only:
            for row in PARTS[part](bench):
                tell(row)
                if not given.quick:
                    keep("glove_bytes", [row])


if __name__ == "__main__":
    main()

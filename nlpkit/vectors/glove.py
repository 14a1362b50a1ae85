"""GloVe: word vectors from global co-occurrence counts (Pennington, Socher, Manning, EMNLP 2014).

V vocabulary, D width, P parts. The objective is Σ_ij ½·f(X_ij)·(w_i·ŵ_j + b_i + b̂_j - log X_ij)² with
f(x) = min(1, (x / x_max)^alpha) (eq. 8 and 9), minimised by AdaGrad. An epoch runs P strata of P disjoint blocks
(:mod:`nlpkit.vectors.samples`), so threads never write to the same row and the vectors are the same, bit for bit,
at any number of jobs. An unfinished training stands beside its output as ``.NAME.partial`` and goes on by itself.
"""

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from nlpkit import config, console
from nlpkit.errors import ArtifactError, DataError, DivergedError, Interrupted, UsageError
from nlpkit.store import atomic, lines, lock, manifest
from nlpkit.vectors import counting, samples
from nlpkit.vectors.kernels import descend
from nlpkit.vectors.vectors import save

if TYPE_CHECKING:
    from nlpkit.text.standardize import Recipe

CHECKPOINT_SECONDS = 30.0
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Config:
    """What decides the vectors, beside the text and the recipe; ``window`` in words, ``lr`` is AdaGrad's rate."""

    size: int = 100
    window: int = 10
    symmetric: bool = True
    epochs: int = 15
    min_count: int = 5
    max_vocab: int | None = None
    x_max: float = 10.0
    alpha: float = 0.75
    lr: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("size", "window", "epochs", "min_count", "max_vocab"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}: expected 1 or more, got {value}")
        for name in ("x_max", "lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if not 0 <= self.alpha < float("inf"):
            raise UsageError(f"alpha: expected 0 or more, got {self.alpha}")
        if self.seed < 0:
            raise UsageError(f"seed: expected 0 or more, got {self.seed}")


@dataclass
class State:
    """Where training stands: two tables (V, 2·(D + 1)) and the place of the next stratum."""

    words: np.ndarray
    contexts: np.ndarray
    epoch: int = 0
    stratum: int = 0
    loss: float = 0.0  # summed over the strata of this epoch that are done


def tables(vocabulary: int, size: int, seed: int) -> State:
    """Fresh tables: vectors uniform in ±1/(2·D), biases 0, sums of squares 1 (as the authors' program has them)."""
    drawn = np.random.default_rng([seed, 0]).random((2, vocabulary, size), dtype=np.float32)
    made = np.zeros((2, vocabulary, 2 * (size + 1)), np.float32)
    made[:, :, :size] = (drawn - np.float32(0.5)) / np.float32(size)
    made[:, :, size + 1 :] = 1.0
    return State(made[0], made[1])


def train(
    texts: Iterable[str],
    output: str | Path,
    *,
    size: int = 100,
    window: int = 10,
    epochs: int = 15,
    min_count: int = 5,
    max_vocab: int | None = None,
    x_max: float = 10.0,
    alpha: float = 0.75,
    lr: float = 0.05,
    seed: int = 0,
    recipe: "Recipe | None" = None,
    standardized: bool = False,
    jobs: int | None = None,
    symmetric: bool = True,
    max_memory: int = 1 << 30,
    checkpoint_every: int | None = None,
    force: bool = False,
    resume: bool = True,
) -> Path:
    """Learn vectors from ``texts`` (a document an item, read once) and write them to the folder ``output``.

    ``recipe`` (default ``Recipe.DEFAULT``) is applied to each text unless it is ``standardized`` already, and is
    kept with the vectors. ``jobs`` threads (default: the processors at hand) change the time and nothing else.
    ``max_memory`` bytes bound the stream, the counting and the samples; what is larger goes to files beside the
    output. ``checkpoint_every`` epochs (default: when 30 s have passed) and on SIGINT or SIGTERM the state is
    saved; the same call goes on from it (``resume``), and the result equals that of an uninterrupted one.

    Raises DataError for a text without usable words, DivergedError for a loss that is not finite, Interrupted
    after a signal, UsageError for an output that exists (unless ``force``) or an unfinished one with other settings.
    """
    from nlpkit.text.standardize import Recipe, Standardizer

    settings = Config(size, window, symmetric, epochs, min_count, max_vocab, x_max, alpha, lr, seed)
    recipe = Recipe.DEFAULT if recipe is None else recipe
    target = atomic.refuse_existing(output, force)
    jobs = max(1, jobs or processors())
    work = target.with_name(f".{target.name}.partial")
    work.mkdir(parents=True, exist_ok=True)
    with lock.locked(work, timeout=0.0):
        _sweep(work)
        identity = {"recipe": recipe.hash, "settings": _fixed(settings)}
        found = _unfinished(work, identity, settings, resume, force)
        try:
            standardize: Callable[[str], str] = str if standardized else Standardizer(recipe)
            vocabulary, stream, digest = counting.read(
                texts, standardize, work, min_count=min_count, max_vocab=max_vocab, limit=max_memory // 4
            )
            row_bytes = 8 * (size + 1)
            with console.progress("counting", unit="nonzeros") as bar:
                drawn = samples.arrange(
                    _watched(
                        counting.cooccurrences(
                            stream,
                            vocabulary.counts,
                            window=window,
                            symmetric=symmetric,
                            jobs=jobs,
                            max_memory=max_memory // 4,
                        ),
                        bar,
                    ),
                    work,
                    vocabulary=len(vocabulary.words),
                    parts=samples.parts_for(len(vocabulary.words), row_bytes),
                    x_max=x_max,
                    alpha=alpha,
                    seed=seed,
                    jobs=jobs,
                    limit=max_memory // 2,
                )
            tokens = int(vocabulary.counts.sum())
            del stream
            if not len(drawn.pairs):
                raise DataError(
                    f"no two words of the vocabulary stand within {window} words of one another in one document; "
                    "give longer documents (--documents) or a lower --min-count"
                )
            identity["text"] = digest
            if found is not None:
                found = _unfinished(work, identity, settings, resume, force)
            state = _resumed(work, found) if found else tables(len(vocabulary.words), size, seed)
            _minimise(state, drawn, settings, work, identity, jobs, checkpoint_every)
            notes = {"vocabulary": len(vocabulary.words), "tokens": tokens, "nonzeros": len(drawn.pairs)}
            with atomic.building(target, force=force) as folder:
                shutil.copyfile(work / METRICS, folder / METRICS)
                save(
                    folder,
                    words=vocabulary.words,
                    counts=vocabulary.counts,
                    word=state.words[:, : size + 1],
                    context=state.contexts[:, : size + 1],
                    recipe=recipe,
                    settings=config.to_toml({"glove": config.to_dict(settings)}),
                    notes=notes,
                )
        except BaseException as error:
            _sweep(work)
            if not (work / "checkpoint").exists():
                shutil.rmtree(work, ignore_errors=True)
            atomic.blame(error, target)
            raise
        shutil.rmtree(work, ignore_errors=True)
    return target


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _watched(blocks: Iterable[Any], bar: console.Progress) -> Iterator[Any]:
    for block in blocks:
        bar.advance(len(block[0]))
        yield block


def _sweep(work: Path) -> None:
    """Remove the files that only a running training needs; its checkpoint and metrics stay."""
    for left in work.glob("*.bin"):
        left.unlink(missing_ok=True)


def _fixed(settings: Config) -> dict[str, Any]:
    """The settings that a resumed training must share: all but the number of epochs, which may grow."""
    return {k: v for k, v in config.to_dict(settings).items() if k != "epochs"}


def _minimise(
    state: State,
    drawn: samples.Samples,
    settings: Config,
    work: Path,
    identity: dict[str, Any],
    jobs: int,
    checkpoint_every: int | None,
) -> None:
    """Run the epochs that are left. ``state`` changes in place."""
    saved, total = monotonic(), len(drawn.pairs)
    with (
        _signals() as caught,
        ThreadPoolExecutor(jobs) as pool,
        console.progress("training", settings.epochs * drawn.parts, "strata") as bar,
    ):
        bar.advance(state.epoch * drawn.parts + state.stratum)
        while state.epoch < settings.epochs:
            order = np.random.default_rng([settings.seed, 2, state.epoch]).permutation(drawn.parts)
            while state.stratum < drawn.parts:
                state.loss += stratum(state, drawn, int(order[state.stratum]), settings.lr, pool)
                state.stratum += 1
                bar.advance(1)
                if not np.isfinite(state.loss):
                    shutil.rmtree(work / "checkpoint", ignore_errors=True)  # going on would diverge again
                    raise DivergedError(
                        f"the loss is {state.loss} in epoch {state.epoch + 1}; lower --lr (it is {settings.lr})"
                    )
                if caught:
                    _checkpoint(work, state, identity)
                    raise Interrupted(
                        caught[0],
                        f"stopped in epoch {state.epoch + 1} of {settings.epochs}; the same command goes on from there",
                    )
            loss = state.loss / total
            state.epoch, state.stratum, state.loss = state.epoch + 1, 0, 0.0
            lines.append(work / METRICS, lines.pack_record({"epoch": state.epoch, "loss": loss}))
            console.note(f"epoch {state.epoch}/{settings.epochs}  loss {loss:.5f}")
            due = (
                monotonic() - saved > CHECKPOINT_SECONDS
                if checkpoint_every is None
                else state.epoch % checkpoint_every == 0
            )
            if due and state.epoch < settings.epochs:
                _checkpoint(work, state, identity)
                saved = monotonic()


def stratum(
    state: State, drawn: samples.Samples, number: int, lr: float, pool: ThreadPoolExecutor | None = None
) -> float:
    """One pass over the blocks (p, p + number mod P); the sum of their losses, added up in the order of p."""

    def block(p: int) -> float:
        at = p * drawn.parts + (p + number) % drawn.parts
        place = slice(drawn.offsets[at], drawn.offsets[at + 1])
        return float(
            descend(drawn.pairs[place], drawn.targets[place], state.words, state.contexts, np.float32(lr))
        )

    return sum((pool.map if pool else map)(block, range(drawn.parts)), 0.0)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that SIGINT or SIGTERM is put into; a second signal acts as it did before. Main thread only."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def take(number: int, _: Any) -> None:
        caught.append(number)
        for name, old in before.items():
            signal.signal(name, old)

    before = {name: signal.signal(name, take) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for name, old in before.items():
            signal.signal(name, old)


def _checkpoint(work: Path, state: State, identity: dict[str, Any]) -> None:
    place = {"epoch": state.epoch, "stratum": state.stratum, "loss": state.loss}
    with atomic.building(work / "checkpoint", force=True) as folder:
        save_file({"words": state.words, "contexts": state.contexts}, folder / "state.safetensors")
        manifest.seal(folder, "checkpoint", notes={**place, "of": identity})


def _unfinished(
    work: Path, identity: dict[str, Any], settings: Config, resume: bool, force: bool
) -> manifest.Manifest | None:
    """The checkpoint to go on from, whole and of the same training; one that differs is refused or, forced, removed."""
    folder = work / "checkpoint"
    if folder.exists() and resume:
        made = manifest.check(folder, "checkpoint")
        differ = _differences(made.notes["of"], identity)
        if made.notes["epoch"] > settings.epochs:
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


def _resumed(work: Path, made: manifest.Manifest) -> State:
    """The state of a checkpoint; the log beside it is cut to the epochs that the state has seen."""
    held = load_file(manifest.check_file(work / "checkpoint", made, "state.safetensors"))
    state = State(held["words"], held["contexts"], *(made.notes[k] for k in ("epoch", "stratum", "loss")))
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
    return named + [f"another {k}" for k in ("recipe", "text") if k in wanted and found[k] != wanted[k]]

"""GloVe: word vectors from global co-occurrence counts (Pennington, Socher, Manning, EMNLP 2014).

V vocabulary, D width, P parts. Words are counted (:mod:`nlpkit.vectors.counting`), the nonzero counts dealt into
blocks (:mod:`nlpkit.vectors.samples`), and an objective is minimised by AdaGrad: weighted least squares
(:mod:`nlpkit.vectors.least_squares`) or log-ratios of triples (:mod:`nlpkit.vectors.ratio`). An epoch runs P strata of
disjoint blocks, so threads never write to the same row and the vectors are the same, bit for bit, at any number of
jobs. An unfinished training stands beside its output as ``.NAME.partial`` and goes on by itself.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit import config, console
from nlpkit.errors import DataError, UsageError
from nlpkit.store import atomic, lock
from nlpkit.text.line_workers import processors
from nlpkit.vectors import counting, ratio, samples, tables, unfinished
from nlpkit.vectors.anchoring import Anchor, Older
from nlpkit.vectors.glove_config import RATES, Config
from nlpkit.vectors.held_out import HeldOut
from nlpkit.vectors.least_squares import LeastSquares
from nlpkit.vectors.minimising import Minimisation, Objective
from nlpkit.vectors.vectors import save

if TYPE_CHECKING:
    from nlpkit.text.standardize import Recipe


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
    lr: float | None = None,
    seed: int = 0,
    objective: str = "wls",
    sampling: str = "weighted",
    init: str | Path | None = None,
    anchor: float = 0.0,
    freeze: bool = False,
    valid_share: float = 0.0,
    patience: int | None = None,
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

    ``objective`` is "wls" or "ratio"; the latter draws triples by ``sampling``, "weighted" or "literal". ``lr`` is
    0.05, of ratio 0.007, unless given.
    ``init`` is a folder of vectors of the same size and recipe: its words start from theirs, and are drawn back to
    them by ``anchor`` or fixed by ``freeze`` (:mod:`nlpkit.vectors.anchoring`); words that the texts lack, or have
    fewer than ``min_count`` times, are in the output as they were. ``valid_share`` of the nonzeros is held out: the
    vectors of the epoch with the least loss on them are kept, and ``patience`` epochs without a lesser one end the
    training.

    ``recipe`` (default that of ``init``, else ``Recipe.DEFAULT``) is applied to each text unless it is ``standardized``
    already, and is kept with the vectors. ``jobs`` threads (default: the processors at hand) change the time and
    nothing else. ``max_memory`` bytes bound the stream, the counting and the samples; what is larger goes to files
    beside the output. ``checkpoint_every`` epochs (default: when 30 s have passed) and on SIGINT or SIGTERM the state
    is saved; the same call goes on from it (``resume``), and the result equals that of an uninterrupted one.

    Raises DataError for a text without usable words, DivergedError for a loss that is not finite, Interrupted
    after a signal, UsageError for an output that exists (unless ``force``) or an unfinished one with other settings,
    ArtifactError for an ``init`` that is damaged or of another recipe, OutOfMemory for tables that do not fit.
    """
    from nlpkit.text.standardize import Recipe, Standardizer

    settings = Config(
        size=size,
        window=window,
        symmetric=symmetric,
        epochs=epochs,
        min_count=min_count,
        max_vocab=max_vocab,
        x_max=x_max,
        alpha=alpha,
        lr=RATES.get(objective, RATES["wls"]) if lr is None else lr,
        seed=seed,
        objective=objective,
        sampling=sampling,
        valid_share=valid_share,
        patience=patience,
        anchor=anchor,
        freeze=freeze,
    )
    if init is None and (anchor or freeze):
        raise UsageError("anchor, freeze: there is nothing to hold to; pass --init VECTORS")
    target = atomic.refuse_existing(output, force)
    older = None if init is None else Older.open(init, size, recipe)
    recipe = recipe or (Recipe.DEFAULT if older is None else older.vectors.recipe)
    jobs = max(1, jobs or processors())
    work = target.with_name(f".{target.name}.partial")
    work.mkdir(parents=True, exist_ok=True)
    with lock.locked(work, timeout=0.0):
        unfinished.sweep(work)
        identity = {
            "recipe": recipe.hash,
            "settings": settings.fixed(),
            "init": older.vectors.fingerprint if older else None,
            "sums": tables.SUMS,
        }
        found = unfinished.find(work, identity, epochs=epochs, resume=resume, force=force)
        try:
            standardize: Callable[[str], str] = str if standardized else Standardizer(recipe)
            vocabulary, stream, digest = counting.read(
                texts, standardize, work, min_count=min_count, max_vocab=max_vocab, limit=max_memory // 4
            )
            _check_memory(len(vocabulary.words), settings, older)
            tokens = int(vocabulary.counts.sum())
            held = _held_out(work, settings, max_memory) if valid_share else None
            free = older is None
            function = _objective(stream, vocabulary, settings, work, held, jobs, max_memory, free=free)
            del stream
            identity["text"] = digest
            if found is not None:
                found = unfinished.find(work, identity, epochs=epochs, resume=resume, force=force)
            anchored = None
            if older is not None:
                biases = not (objective == "ratio" and sampling == "literal")
                anchored = Anchor(
                    older, vocabulary, weight=anchor, freeze=freeze, rate=settings.lr, biases=biases
                )
                console.note(f"{len(anchored.new):,} of {len(vocabulary.words):,} words start from {init}")
            if found is not None:
                state = unfinished.resumed(work, found)
            else:
                state = tables.fresh(len(vocabulary.words), size, seed)
                if anchored is not None:
                    anchored.start(state)
            Minimisation(function, settings, work, identity, jobs, checkpoint_every, held, anchored).run(
                state
            )
            notes: dict[str, Any] = {
                "vocabulary": len(vocabulary.words),
                "tokens": tokens,
                "nonzeros": function.total,
            }
            word, context = state.words[:, : size + 1], state.contexts[:, : size + 1]
            if held is not None:
                notes |= {"held_out": len(held.records), "best_epoch": state.best_epoch}
            if anchored is not None and older is not None:
                vocabulary, word, context = anchored.joined(vocabulary, word, context)
                notes |= {"vocabulary": len(vocabulary.words), "init": older.vectors.fingerprint}
            with atomic.building(target, force=force) as folder:
                shutil.copyfile(work / unfinished.METRICS, folder / unfinished.METRICS)
                save(
                    folder,
                    words=vocabulary.words,
                    counts=vocabulary.counts,
                    word=word,
                    context=context,
                    recipe=recipe,
                    settings=config.to_toml({"glove": config.to_dict(settings)}),
                    notes=notes,
                )
        except BaseException as error:
            unfinished.sweep(work)
            if not (work / "checkpoint").exists():
                shutil.rmtree(work, ignore_errors=True)
            atomic.blame(error, target)
            raise
        shutil.rmtree(work, ignore_errors=True)
    return target


def _parts(vocabulary: int, settings: Config) -> int:
    """How many parts to deal words into.

    The ratio objective takes two parts of words at a time, so that there are an even number of them, half as large.
    """
    row = 4 * (settings.size + 1 + tables.SUMS)
    if settings.objective == "ratio":
        parts = samples.parts_for(vocabulary, 2 * row)
        return parts + parts % 2
    return samples.parts_for(vocabulary, row)


def _check_memory(vocabulary: int, settings: Config, older: Older | None) -> None:
    """OutOfMemory when the tables, and what lies beside them for every word, would not fit."""
    tables.check_memory(
        vocabulary,
        settings.size,
        best=settings.valid_share > 0,
        known=len(older.vectors) if older else 0,
        beside=ratio.BESIDE * _parts(vocabulary, settings) if settings.objective == "ratio" else 0,
    )


def _held_out(work: Path, settings: Config, max_memory: int) -> HeldOut:
    return HeldOut(
        work,
        settings.valid_share,
        settings.seed,
        x_max=settings.x_max,
        alpha=settings.alpha,
        limit=max_memory // 8,
    )


def _objective(
    stream: Any,
    vocabulary: counting.Vocabulary,
    settings: Config,
    work: Path,
    held: HeldOut | None,
    jobs: int,
    max_memory: int,
    *,
    free: bool,
) -> Objective:
    """Count the stream and arrange what is to be minimised; what is held out goes to ``held``.

    ``free``: no word starts from older vectors.
    """
    count, parts = len(vocabulary.words), _parts(len(vocabulary.words), settings)
    made: Objective
    with console.progress("counting", unit="nonzeros") as bar:
        blocks: Iterable[samples.Nonzeros] = _watched(
            counting.cooccurrences(
                stream,
                vocabulary.counts,
                window=settings.window,
                symmetric=settings.symmetric,
                jobs=jobs,
                max_memory=max_memory // 4,
            ),
            settings,
            bar,
        )
        blocks = blocks if held is None else held.split(blocks)
        drawing: dict[str, Any] = {"x_max": settings.x_max, "alpha": settings.alpha}
        dealing: dict[str, Any] = {
            "vocabulary": count,
            "jobs": jobs,
            "limit": max_memory // 2 if held is None else max_memory * 3 // 8,
            **drawing,
        }
        if settings.objective == "wls":
            drawn = samples.arrange(blocks, work, parts=parts, seed=settings.seed, **dealing)
            made = LeastSquares(drawn, lr=settings.lr, seed=settings.seed)
        else:
            drawing["literal"] = settings.sampling == "literal"
            runs = ratio.arrange(blocks, work, parts=parts, literal=drawing["literal"], **dealing)
            made = ratio.Ratio(runs, lr=settings.lr, seed=settings.seed, free=free, **drawing)
    return made


def _watched(
    blocks: Iterable[samples.Nonzeros], settings: Config, bar: console.Progress
) -> Iterator[samples.Nonzeros]:
    """The blocks, counted on the bar; DataError when there was nothing in them."""
    total = 0
    for block in blocks:
        bar.advance(len(block[0]))
        total += len(block[0])
        yield block
    if not total:
        raise DataError(
            f"no two words of the vocabulary stand within {settings.window} words of one another in one document; "
            "give longer documents (--documents) or a lower --min-count"
        )

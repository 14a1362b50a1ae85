"""The ratio objective of GloVe: triples (i, s, g) and the logarithm of P(i|g) / P(s|g).

V vocabulary, N nonzeros, P parts (even), C = ⌈V / P⌉ contexts of a part.

An update takes two words i and s and a context g, predicts (w_i - w_s)·ŵ_g + b_i - b_s and moves towards the target
log P(i|g)/P(s|g) = log X_ig - log X_sg: the property that Pennington et al. (2014, §3) begin with. With i and s
drawn from q(·|g) independently, e_ig = w_i·ŵ_g + b_i - log X_ig has E (e_ig - e_sg)² = 2·Var_q(e_ig), and a variance is
the least mean square about a constant: the objective is that of :mod:`nlpkit.vectors.least_squares` with the best
context bias for every g put in, each nonzero weighted by the mass of (i, g). What is drawn how often is therefore the
whole weighting. ``weighted`` draws in proportion to f(X), GloVe's own weights, and has a bias a word. ``literal`` draws
g as often as it occurs and i, s from P(·|g), without biases; since the mass is then X itself, pairs of frequent words
take most of the updates and what is rare learns little. After 5 epochs over 72 MB of novels (D = 100) weighted and
literal correlate with MEN by .43 and .39, and answer 18 and 12 % of the analogies. The context biases of the result are
the best ones, worked out at the end.

Neither the objective nor what is drawn changes when one vector is added to all word vectors: the context biases take
it up. Training leaves that vector near 0; weighted least squares, whose context biases cost something to move, does
not. At the end it is chosen by least squares so that it explains what it can of the context biases. (Without it
Spearman's ρ is 0.025 lower on MEN and 0.055 lower on WordSim353, means of three seeds.)

Drawing takes a constant time by Walker's alias tables: one for the contexts of a block, one for the words of every
context in it. An epoch draws N triples. A cell of work is two word parts and one context part; which two parts go
together is drawn anew every epoch, so that i and s come from any two parts: pairs within one part alone would leave the
parts' vectors free to shift against one another. P / 2 cells of a stratum share no row, as in
:mod:`nlpkit.vectors.samples`, and random numbers come from (seed, epoch, cell): threads do not change the result.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nlpkit.vectors.kernels import alias_tables, descend_triples, draw_triples, residuals
from nlpkit.vectors.samples import Nonzeros, Samples, deal, dealt, weights
from nlpkit.vectors.tables import State

CHUNK = 1 << 13  # triples that are drawn at a time: they stay in the cache until they are used
CLIP = 4.0  # a ratio that is off by more than e⁴ moves the vectors no further

ROWS = 1 << 14  # contexts that are looked at together
BESIDE = 28  # bytes that Runs holds for a context in each part of words


@dataclass(frozen=True)
class Runs:
    """The nonzeros of every block, context after context, and how to draw from them.

    ``drawn.pairs`` (N, 2): word, alias; ``drawn.targets`` (N, 2): log X, threshold. The nonzeros of the c-th context
    of block b are [starts[b·C + c], starts[b·C + c + 1]); ``masses`` (P²·C,) are the sums over them, ``thresholds`` and
    ``aliases`` (P²·C,) an alias table of the contexts of each block. ``ids`` (P, C) are the contexts of a part, -1
    where it has fewer.
    """

    drawn: Samples
    ids: np.ndarray
    starts: np.ndarray
    masses: np.ndarray
    thresholds: np.ndarray
    aliases: np.ndarray


def arrange(
    blocks: Iterable[Nonzeros],
    folder: Path,
    *,
    vocabulary: int,
    parts: int,
    x_max: float,
    alpha: float,
    literal: bool = False,
    jobs: int = 1,
    limit: int = 1 << 29,
) -> Runs:
    """The runs and alias tables of an iterable of (rows, columns, values); past ``limit`` bytes they are files."""
    part = deal(vocabulary, parts)
    each = -(-vocabulary // parts)
    ids = np.full((parts, each), -1, np.int32)
    ids[part, np.arange(vocabulary) // parts] = np.arange(vocabulary)
    sizes = np.zeros(parts * parts * each, np.int32)
    masses = np.zeros(parts * parts * each, np.float64)

    def fill(block: int, records: np.ndarray, pairs: np.ndarray, targets: np.ndarray) -> None:
        seats = records[:, 1] // parts
        # Of 16 bits numpy sorts by digits, several times as fast.
        order = np.argsort(seats.astype(np.uint16) if each <= 1 << 16 else seats, kind="stable")
        pairs[:, 0] = records[order, 0]
        counts = records[order, 2].view(np.float32)
        np.log(counts, out=targets[:, 0])
        mass = counts if literal else weights(counts, x_max, alpha)
        here = slice(block * each, (block + 1) * each)
        sizes[here] = np.bincount(seats, minlength=each)
        masses[here] = np.bincount(seats[order], mass, each)
        runs = np.concatenate([[0], np.cumsum(sizes[here], dtype=np.int64)])
        alias_tables(mass, runs, targets[:, 1], pairs[:, 1])

    drawn = dealt(blocks, folder, fill, vocabulary=vocabulary, parts=parts, jobs=jobs, limit=limit)
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    thresholds, aliases = np.empty(len(masses), np.float32), np.empty(len(masses), np.int32)
    alias_tables(masses, np.arange(0, len(masses) + 1, each), thresholds, aliases)
    return Runs(drawn, ids, starts, masses, thresholds, aliases)


class Ratio:
    """The objective over ``runs``; an epoch draws ``total`` = N triples."""

    def __init__(
        self,
        runs: Runs,
        *,
        lr: float,
        seed: int,
        x_max: float = 10.0,
        alpha: float = 0.75,
        literal: bool = False,
        free: bool = True,
    ) -> None:
        """``free``: no word has to stay where it is, so that all may be shifted at the end."""
        self.runs, self.lr, self.seed, self.literal, self.free = runs, np.float32(lr), seed, literal, free
        self.x_max, self.alpha = x_max, alpha
        self.strata, self.total = runs.drawn.parts, len(runs.drawn.pairs)
        self.mass = runs.masses.reshape(self.strata**2, -1).sum(1)  # of each block
        ends = np.rint(self.total * (np.cumsum(self.mass) / self.mass.sum())).astype(np.int64)
        self.triples = np.diff(ends, prepend=0)  # that an epoch draws for each block

    def stratum(self, state: State, number: int, pool: ThreadPoolExecutor | None = None) -> tuple[float, int]:
        """Draw and use the triples of a stratum of the state's epoch: the sum of their losses, and how many."""
        parts, seed = self.strata, [self.seed, 3, state.epoch]
        mates = np.random.default_rng(seed).permutation(parts).reshape(-1, 2)
        cells = [(int(p), int(o), (2 * n + number) % parts) for n, (p, o) in enumerate(mates)]

        def work(cell: tuple[int, int, int]) -> float:
            return self._cell(
                state, *cell, np.random.SeedSequence([*seed, *cell]).generate_state(1, np.uint64)[0]
            )

        size = int(sum(self.triples[p * parts + q] + self.triples[o * parts + q] for p, o, q in cells))
        return sum((pool.map if pool else map)(work, cells), 0.0), size

    def _cell(self, state: State, first: int, second: int, context: int, seed: np.uint64) -> float:
        runs, parts = self.runs, self.strata
        blocks = [first * parts + context, second * parts + context]
        left, total = int(self.triples[blocks].sum()), 0.0
        each = runs.ids.shape[1]
        share = self.mass[blocks[0]] / max(self.mass[blocks].sum(), np.finfo(float).tiny)
        triples, ratios = np.empty((min(left, CHUNK), 3), np.int32), np.empty(min(left, CHUNK), np.float32)
        while left:
            n = min(left, CHUNK)
            seed = draw_triples(
                blocks[0] * each,
                blocks[1] * each,
                share,
                runs.ids[context],
                runs.starts,
                runs.masses,
                runs.thresholds,
                runs.aliases,
                runs.drawn.pairs,
                runs.drawn.targets,
                np.uint64(seed),
                triples[:n],
                ratios[:n],
            )
            total += descend_triples(
                triples[:n],
                ratios[:n],
                state.words,
                state.contexts,
                self.lr,
                np.float32(CLIP),
                not self.literal,
            )
            left -= n
        return total

    def held_loss(self, errors: np.ndarray, weights: np.ndarray, contexts: np.ndarray) -> np.ndarray:
        """What held-out nonzeros (n,) add to sums (V, 3) of f, f·e and f·e² for each context."""
        most = int(self.runs.ids.max()) + 1
        return np.stack(
            [
                np.bincount(contexts, values, most)
                for values in (weights, weights * errors, weights * errors**2)
            ],
            1,
        )

    def finish(self, state: State, pool: ThreadPoolExecutor | None = None) -> None:
        """Set the context biases to the best ones, the means over q of log X - w·ŵ - b, and have w explain them."""
        size, parts, ids = state.size, self.strata, self.runs.ids
        sums = np.zeros((2, len(state.contexts)))
        for block, found in enumerate(
            (pool.map if pool else map)(partial(self._errors, state), range(parts**2))
        ):
            there = ids[block % parts] >= 0
            sums[:, ids[block % parts][there]] += found[:, there]
        met = sums[0] > 0
        state.contexts[met, size] -= (sums[1, met] / sums[0, met]).astype(np.float32)
        if self.free:
            shift = _common(state.contexts[met, : size + 1])
            state.words[:, :size] += shift
            state.contexts[met, size] -= np.einsum("vd,d->v", state.contexts[:, :size], shift)[met]

    def _errors(self, state: State, block: int) -> np.ndarray:
        """The mass, and the mass times w·ŵ + b + b̂ - log X, of each context of a block (2, C)."""
        drawn, ids = self.runs.drawn, self.runs.ids
        place, each = slice(drawn.offsets[block], drawn.offsets[block + 1]), ids.shape[1]
        runs = np.diff(self.runs.starts[block * each : (block + 1) * each + 1])
        seats = np.repeat(np.arange(each, dtype=np.int32), runs)
        logs = np.ascontiguousarray(drawn.targets[place, 0])
        errors = np.empty(len(seats), np.float32)
        pairs = np.stack([drawn.pairs[place, 0], ids[block % self.strata][seats]], 1)
        residuals(pairs, logs, state.words, state.contexts, errors)
        mass = np.exp(logs) if self.literal else weights(np.exp(logs), self.x_max, self.alpha)
        return np.stack([np.bincount(seats, values, each) for values in (mass, mass * errors)])


def _common(contexts: np.ndarray) -> np.ndarray:
    """The vector (D,) whose products with context vectors, and one constant, are nearest to their biases.

    ``contexts`` (V, D + 1): a context's vector and its bias.
    """
    width = contexts.shape[1]
    square, right = np.zeros((width, width)), np.zeros(width)
    for at in range(0, len(contexts), ROWS):
        block = contexts[at : at + ROWS].astype(np.float64)
        biases = block[:, -1].copy()
        block[:, -1] = 1.0
        square += block.T @ block
        right += block.T @ biases
    found: np.ndarray = np.linalg.lstsq(square, right)[0][:-1]
    return found.astype(np.float32)

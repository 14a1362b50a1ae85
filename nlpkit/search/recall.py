"""How far a search of compressed vectors has to look, measured on questions made from the vectors themselves.

N vectors of width D; n questions. Recall@k is the share of the true k nearest that are among the candidates, whose
exact scores then put them first.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nlpkit.search.exact import Rows
from nlpkit.search.faiss_choice import Codes

TARGET = 0.95
QUESTIONS = 256
_KS = (10, 100, 1000)
_DEPTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)  # × k
_DEEPEST = {10: 128, 100: 32, 1000: 8}  # × k
_MARGIN = {10: 4, 100: 1, 1000: 1}  # so many times the depth that was needed: few candidates cost little
_TOPICS = 1024  # rows whose mixtures are questions about nothing that is there
_BLOCK = 1 << 14


@dataclass(frozen=True)
class Step:
    """What a search for ``k`` needs: effort, how many candidates are rescored, and the recall@k measured with both."""

    k: int
    effort: int
    depth: int
    recall: float


def step_for(steps: tuple[Step, ...], k: float) -> tuple[int, int]:
    """Effort and depth for any ``k``: between two measured ones by their logarithms, beyond in proportion.

    >>> steps = (Step(10, 8, 40, 0.97), Step(100, 32, 200, 0.96))
    >>> step_for(steps, 1), step_for(steps, 10), step_for(steps, 100), step_for(steps, 1000)
    ((8, 40), (8, 40), (32, 200), (320, 2000))
    """
    below = [s for s in steps if s.k <= k]
    above = [s for s in steps if s.k > k]
    if not below:
        return steps[0].effort, steps[0].depth
    low = below[-1]
    if not above:
        grown = k / low.k
        return math.ceil(low.effort * grown), math.ceil(low.depth * grown)
    share = math.log(k / low.k) / math.log(above[0].k / low.k)
    between = [
        math.ceil(a ** (1 - share) * b**share - 1e-9) if a and b else max(a, b)
        for a, b in ((low.effort, above[0].effort), (low.depth, above[0].depth))
    ]
    return between[0], between[1]


def measure(codes: Codes, vectors: Rows, seed: int, rescore: int = 0) -> tuple[tuple[Step, ...], int]:
    """The cheapest steps whose recall is :data:`TARGET` less chance, and how many questions said so.

    A question is a row moved as far towards a text that is not there, a draw from a normal distribution with the
    mean and covariance of the rows; the row itself does not count as found. (Measured on SciFact's claims and on
    sentences that were held out: those are found more easily.) The mean less its standard error has to reach the target
    with part of the depth. Where nothing does, the best that there is. ``rescore`` fixes the depth to so many times k.
    """
    number = len(vectors)
    if number < 2:
        return (Step(_KS[0], codes.efforts[-1], _KS[0], 1.0),), 0
    rng = np.random.default_rng([seed, 1])
    asked = min(QUESTIONS, number)
    own = np.sort(rng.choice(number, asked, replace=False))
    questions = _questions(vectors, own, rng)
    ks = [k for k in _KS if k == _KS[0] or 50 * k <= number]
    truth = _nearest(vectors, questions, own, min(ks[-1], number - 1))
    deepest = min(number, 1 + max(k * (rescore or _DEEPEST[k]) for k in ks))
    best: dict[int, tuple[float, Step]] = {}
    fallback: dict[int, Step] = {}
    for effort in codes.efforts:
        found = codes.ranked(questions, deepest, effort)
        ranks = _ranks(found, own, truth, number)
        for k in ks:
            for times in (rescore,) if rescore else (d for d in _DEPTHS if d <= _DEEPEST[k]):
                depth = min(times * k, number)
                step = Step(k, effort, depth, round(float((ranks[:, :k] < depth).mean()), 4))
                each = (ranks[:, :k] < (depth if rescore else depth // _MARGIN[k])).mean(1)
                if k not in fallback or step.recall > fallback[k].recall:
                    fallback[k] = step
                if each.mean() - each.std() / math.sqrt(asked) >= TARGET:
                    price = codes.cost(effort, depth)
                    if k not in best or price < best[k][0]:
                        best[k] = price, step
                    break
        if len(best) == len(ks) and codes.cost(effort, 0) > max(price for price, _ in best.values()):
            break
    steps: list[Step] = []
    for k in ks:
        step = best[k][1] if k in best else fallback[k]
        steps.append(replace(step, depth=max([step.depth, *(s.depth for s in steps)])))
    return tuple(steps), asked


def _questions(vectors: Rows, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Questions (n, D), one near each of the rows ``own``."""
    some = vectors[np.sort(rng.choice(len(vectors), min(_TOPICS, len(vectors)), replace=False))]
    mean = some.mean(0)
    draws = rng.normal(size=(len(own), len(some))).astype(np.float32) / np.float32(math.sqrt(len(some)))
    away = mean + draws @ (some - mean)
    made = vectors[own] + away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)
    return np.asarray(made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12), np.float32)


def _nearest(vectors: Rows, questions: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """The true ``k`` nearest positions (n, k) of each question, without its own row, best first."""
    count = len(questions)
    scores = np.full((count, k), -np.inf, np.float32)
    places = np.full((count, k), -1, np.int64)
    for start in range(0, len(vectors), _BLOCK):
        rows = vectors[start : start + _BLOCK]
        fresh = questions @ rows.T
        inside = np.flatnonzero((own >= start) & (own < start + len(rows)))
        fresh[inside, own[inside] - start] = -np.inf
        both = np.concatenate([scores, fresh], 1)
        at = np.concatenate([places, np.broadcast_to(np.arange(start, start + len(rows)), fresh.shape)], 1)
        keep = np.argpartition(both, both.shape[1] - k, axis=1)[:, both.shape[1] - k :]
        scores, places = np.take_along_axis(both, keep, 1), np.take_along_axis(at, keep, 1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(places, order, 1)


def _ranks(found: np.ndarray, own: np.ndarray, truth: np.ndarray, number: int) -> np.ndarray:
    """At which place (n, k) of its candidates a question has each of its true neighbours, its own row left out."""
    ranks = np.empty(truth.shape, np.int64)
    seat = np.full(number + 1, number, np.int64)  # the last is for -1
    for i, row in enumerate(found):
        row = row[row != own[i]]
        seat[row] = np.arange(len(row))
        seat[-1] = number
        ranks[i] = seat[truth[i]]
        seat[row] = number
    return ranks


def as_steps(listed: Any) -> tuple[Step, ...]:
    """Steps as JSON holds them."""
    return tuple(Step(int(s["k"]), int(s["effort"]), int(s["depth"]), float(s["recall"])) for s in listed)

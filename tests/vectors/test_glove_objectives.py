"""Both objectives of GloVe against their formulas: gradients, the law of the draws, a planted table."""

import numpy as np
import pytest

from nlpkit.vectors import ratio, samples, tables
from nlpkit.vectors.kernels import alias_tables, descend, descend_triples, draw_triples
from nlpkit.vectors.least_squares import LeastSquares

WEIGHING = {"x_max": 10.0, "alpha": 0.75}


def per_row(values):
    """Of numbers (N, D + 1) of vectors and biases: the mean of a vector's and the bias's (N, 2)."""
    return np.stack([values[:, :-1].mean(1), values[:, -1]], 1)


def roots(sums, size):
    """The roots of sums (N, 2) for each number of a row (N, D + 1)."""
    return np.repeat(np.sqrt(sums), (size, 1), axis=1)


def drawn_tables(size, count, seed):
    rng = np.random.default_rng(seed)
    made = rng.normal(0, 0.5, (count, size + 3))
    made[:, size + 1 :] = rng.uniform(1, 3, (count, 2))
    return made.astype(np.float32)


@pytest.mark.parametrize("size", [1, 5, 50])
def test_a_step_of_least_squares_follows_autograd(size):
    import torch

    words, contexts = drawn_tables(size, 1, size), drawn_tables(size, 1, size + 100)
    half, rate, log_count, weight = size + 1, 0.05, 1.7, 0.6
    before = [table.astype(float) for table in (words, contexts)]
    w, c = (torch.tensor(table[0, :half], requires_grad=True) for table in before)
    loss = 0.5 * weight * (w[:size] @ c[:size] + w[size] + c[size] - log_count) ** 2
    loss.backward()
    told = descend(
        np.zeros((1, 2), np.int32),
        np.array([[log_count, weight]], np.float32),
        words,
        contexts,
        np.float32(rate),
    )
    assert told == pytest.approx(loss.item(), rel=1e-4)
    for table, old, leaf in zip((words, contexts), before, (w, c), strict=True):
        rates = np.array([*[rate] * size, 1.0])  # the bias is the last
        step = (rates * leaf.grad.numpy())[None]
        moved, summed = -step / roots(old[:, half:], size), old[:, half:] + per_row(step**2)
        np.testing.assert_allclose(table[:, :half] - old[:, :half], moved, rtol=2e-3, atol=1e-6)
        np.testing.assert_allclose(table[:, half:], summed, rtol=1e-5)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("size", "target"), [(1, 0.3), (5, -0.8), (50, 0.3), (5, 60.0)])
def test_a_step_of_a_triple_follows_autograd(size, target, biased):
    import torch

    words, contexts = drawn_tables(size, 2, size), drawn_tables(size, 1, size + 100)
    half, rate, clip = size + 1, 0.05, 4.0
    before, of_context = words.astype(float), contexts.astype(float)
    w = torch.tensor(before[:, :half], requires_grad=True)
    c = torch.tensor(of_context[0, :half], requires_grad=True)
    error = (w[0, :size] - w[1, :size]) @ c[:size] - target
    if biased:
        error = error + w[0, size] - w[1, size]
    (0.5 * error**2).backward()
    scale = min(1.0, clip / abs(error.item()))  # the error is cut, and so is the gradient
    told = descend_triples(
        np.array([[0, 1, 0]], np.int32),
        np.array([target], np.float32),
        words,
        contexts,
        np.float32(rate),
        np.float32(clip),
        biased,
    )
    assert told == pytest.approx(0.5 * error.item() ** 2, rel=1e-4)
    for table, old, leaf in ((words, before, w), (contexts, of_context, c)):
        step = rate * scale * leaf.grad.numpy().reshape(-1, half)
        summed = old[:, half:] + per_row(step**2)
        moved = -step / roots(summed, size)
        np.testing.assert_allclose(table[:, :half] - old[:, :half], moved, rtol=2e-3, atol=1e-6)
        np.testing.assert_allclose(table[:, half:], summed, rtol=1e-5)


def test_what_is_not_a_number_stays_so():
    words, contexts = drawn_tables(3, 2, 0), drawn_tables(3, 1, 1)
    words[0, 0] = np.nan
    told = descend_triples(
        np.array([[0, 1, 0]], np.int32),
        np.zeros(1, np.float32),
        words,
        contexts,
        np.float32(0.1),
        np.float32(4),
        True,
    )
    assert np.isnan(told)


def test_alias_tables_hold_the_masses_exactly():
    rng = np.random.default_rng(3)
    runs = [rng.pareto(0.5, n) for n in (1, 2, 7, 300)] + [np.zeros(4), np.array([0.0, 2.0, 0.0]), np.ones(5)]
    starts = np.concatenate([[0], np.cumsum([len(run) for run in runs])])
    masses = np.concatenate(runs)
    thresholds, aliases = np.empty(len(masses), np.float32), np.empty(len(masses), np.int32)
    alias_tables(masses, starts, thresholds, aliases)
    for run, first in zip(runs, starts, strict=False):
        here = slice(first, first + len(run))
        held = thresholds[here].astype(float)
        np.add.at(held, aliases[here], 1 - thresholds[here].astype(float))
        if run.sum():
            np.testing.assert_allclose(held / len(run), run / run.sum(), atol=1e-7)


def planted(rng, words=24, rank=3):
    """A full table of counts whose logarithms have a low rank, as nonzeros."""
    exact = np.exp(rng.normal(0, 0.7, (words, rank)) @ rng.normal(0, 0.7, (rank, words)) + 1.0)
    rows, columns = np.indices(exact.shape).reshape(2, -1).astype(np.int32)
    return exact.astype(np.float32), [(rows, columns, exact.astype(np.float32).ravel())]


def all_draws(runs, seed, count):
    """Triples of one cell, word parts 0 and 1 with context part 2, and the words and contexts in it."""
    parts, each = runs.drawn.parts, runs.ids.shape[1]
    masses = runs.masses.reshape(parts**2, -1).sum(1)
    first, second = 2, parts + 2
    triples, ratios = np.empty((count, 3), np.int32), np.empty(count, np.float32)
    draw_triples(
        first * each,
        second * each,
        masses[first] / (masses[first] + masses[second]),
        runs.ids[2],
        runs.starts,
        runs.masses,
        runs.thresholds,
        runs.aliases,
        runs.drawn.pairs,
        runs.drawn.targets,
        np.uint64(seed),
        triples,
        ratios,
    )
    part = samples.deal(int(runs.ids.max()) + 1, parts)
    return triples, ratios, np.flatnonzero(part < 2), np.flatnonzero(part == 2)


@pytest.mark.parametrize("literal", [False, True])
def test_triples_come_in_proportion_to_the_masses(tmp_path, literal):
    exact, blocks = planted(np.random.default_rng(0), words=20)
    exact[3, 2] = 0  # not every word meets every context
    rows, columns, _ = blocks[0]
    met = exact.ravel() > 0
    runs = ratio.arrange(
        [(rows[met], columns[met], exact.ravel()[met])],
        tmp_path,
        vocabulary=20,
        parts=8,
        literal=literal,
        **WEIGHING,
    )
    count = 400_000
    triples, ratios, words, contexts = all_draws(runs, 5, count)
    logs = np.log(np.where(exact > 0, exact, 1))
    np.testing.assert_allclose(
        ratios, (logs[triples[:, 0], triples[:, 2]] - logs[triples[:, 1], triples[:, 2]]), atol=1e-5
    )
    masses = exact if literal else np.minimum(1, (exact / 10.0) ** 0.75)
    cell = masses[np.ix_(words, contexts)].astype(float)
    law = cell[:, None, :] * cell[None, :, :] / cell.sum(0) / cell.sum()  # m_ig / M · m_sg / m_g
    found = np.zeros_like(law)
    at = tuple(np.searchsorted(of, triples[:, n]) for n, of in enumerate((words, words, contexts)))
    np.add.at(found, at, 1 / count)
    assert law.sum() == pytest.approx(1)
    assert np.abs(found - law).max() < 6 * np.sqrt(law.max() / count)


def test_the_squared_error_of_triples_is_twice_a_variance():
    """E (r̂ - r)² under q x q is 2·Var_q(w·ŵ - log X), and that is weighted least squares at the best bias."""
    rng = np.random.default_rng(1)
    exact = planted(rng, words=9)[0].astype(float)
    q = np.minimum(1, (exact / 10.0) ** 0.75).astype(float)
    q /= q.sum(0)
    w, c = rng.normal(size=(9, 4)), rng.normal(size=(9, 4))
    error = w @ c.T - np.log(exact)
    for g in range(9):
        mean = sum(
            q[i, g] * q[s, g] * ((w[i] - w[s]) @ c[g] - np.log(exact[i, g] / exact[s, g])) ** 2
            for i in range(9)
            for s in range(9)
        )
        variance = q[:, g] @ error[:, g] ** 2 - (q[:, g] @ error[:, g]) ** 2
        assert mean == pytest.approx(2 * variance, rel=1e-9)
        best = -(q[:, g] @ error[:, g])
        for bias in (best - 0.1, best, best + 0.1):
            assert q[:, g] @ (error[:, g] + bias) ** 2 >= variance - 1e-12
        assert q[:, g] @ (error[:, g] + best) ** 2 == pytest.approx(variance)


def test_the_loss_of_a_stratum_estimates_the_variance(tmp_path):
    exact, blocks = planted(np.random.default_rng(2), words=8)
    runs = ratio.arrange(blocks, tmp_path, vocabulary=8, parts=2, **WEIGHING)
    objective = ratio.Ratio(runs, lr=1e-12, seed=0, **WEIGHING)
    objective.triples = objective.triples * 3000
    state = tables.fresh(8, 4, 3)
    state.words[:, :5] *= 8
    state.contexts[:, :4] *= 8
    parts = [objective.stratum(state, number) for number in range(2)]
    loss, count = (sum(p[n] for p in parts) for n in (0, 1))
    mass = np.minimum(1, (exact / 10.0) ** 0.75).astype(float)
    error = state.words[:, :4] @ state.contexts[:, :4].T + state.words[:, 4:5] - np.log(exact)
    q = mass / mass.sum(0)
    variance = (q * error**2).sum(0) - (q * error).sum(0) ** 2
    assert loss / count == pytest.approx((mass.sum(0) / mass.sum()) @ variance, rel=0.02)


@pytest.mark.parametrize("way", ["wls", "weighted", "literal"])
def test_a_planted_table_of_counts_is_found(tmp_path, way):
    exact, blocks = planted(np.random.default_rng(0), words=12)
    size, parts = 6, 8
    if way == "wls":
        drawn = samples.arrange(blocks, tmp_path, vocabulary=12, parts=parts, seed=0, **WEIGHING)
        objective = LeastSquares(drawn, lr=0.1, seed=0)
    else:
        literal = way == "literal"
        runs = ratio.arrange(blocks, tmp_path, vocabulary=12, parts=parts, literal=literal, **WEIGHING)
        objective = ratio.Ratio(runs, lr=0.1, seed=0, literal=literal, **WEIGHING)
    state = tables.fresh(12, size, 0)
    for epoch in range(1200):
        state.epoch = epoch
        counted = sum(objective.stratum(state, number)[1] for number in range(objective.strata))
        assert counted == objective.total == 144
    objective.finish(state)
    word, context = state.words[:, : size + 1], state.contexts[:, : size + 1]
    fitted = word[:, :size] @ context[:, :size].T + word[:, size:] + context[:, size:].T
    assert np.abs(fitted - np.log(exact)).max() < 0.05


@pytest.mark.parametrize("free", [True, False])
def test_what_word_vectors_have_in_common_explains_the_context_biases(tmp_path, free):
    exact, blocks = planted(np.random.default_rng(3), words=12)
    size = 4
    runs = ratio.arrange(blocks, tmp_path, vocabulary=12, parts=2, **WEIGHING)
    objective = ratio.Ratio(runs, lr=0.1, seed=0, free=free, **WEIGHING)
    state = tables.fresh(12, size, 5)
    state.words[:, :size] *= 4
    state.contexts[:, :size] *= 4
    before = state.words[:, :size].copy()
    objective.finish(state)
    word, context = state.words[:, :size].astype(float), state.contexts[:, :size].astype(float)
    shift = word - before
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-6)
    assert (np.abs(shift).max() > 0.01) == free
    # The fit is that of the best biases for vectors as they were, wherever the common vector is.
    mass = np.minimum(1, (exact / 10.0) ** 0.75).astype(float)
    error = np.log(exact) - before @ context.T
    best = (mass * error).sum(0) / mass.sum(0)
    biases = state.contexts[:, size]
    np.testing.assert_allclose(word @ context.T + biases, before @ context.T + best, atol=1e-4)
    if free:  # nothing of the biases is left to explain
        centred = biases - biases.mean()
        assert np.abs((context - context.mean(0)).T @ centred).max() < 1e-4

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nlpkit.data.language import LanguageConfig, LanguageData
from nlpkit.data.packing import pack
from nlpkit.data.tokens import from_lists, split

SPECIALS = SimpleNamespace(vocab_size=200, pad_id=0, cls_id=2, sep_id=3, mask_id=4, eos_id=5)


def documents(n=300, longest=90, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(6, 200, generator.integers(1, longest)).tolist() for _ in range(n)]


def data(objective, docs=None, seed=0, **config):
    config = LanguageConfig(**{"context": 32, "batch_size": 8, "valid_fraction": 0.0, **config})
    return LanguageData(from_lists(docs or documents()), SPECIALS, config, objective=objective, seed=seed)


def equal(a, b):
    return all(
        x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("overhead", [0, 2])
def test_packing_loses_no_token_and_keeps_documents_whole(overhead):
    tokens = from_lists(documents())
    plan = pack(tokens.starts, tokens.lengths, 32, overhead)
    covered = np.zeros(len(tokens.ids), int)
    for start, length in zip(plan.starts, plan.lengths, strict=True):
        covered[start : start + length] += 1
    assert (covered == 1).all()
    used = [(plan.lengths[a:b] + overhead).sum() for a, b in zip(plan.rows[:-1], plan.rows[1:], strict=True)]
    assert max(used) <= 32 and plan.waste < 0.05
    room = 32 - overhead
    short = tokens.starts[tokens.lengths <= room]
    lengths = dict(zip(plan.starts.tolist(), plan.lengths.tolist(), strict=True))
    assert all(lengths[s] == n for s, n in zip(tokens.starts, tokens.lengths, strict=True) if s in set(short))
    assert plan.hash == pack(tokens.starts, tokens.lengths, 32, overhead).hash
    assert plan.hash != pack(tokens.starts[:-1], tokens.lengths[:-1], 32, overhead).hash


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_batches_are_a_pure_function_of_seed_and_step(objective):
    one, two = data(objective, micro_batch=3), data(objective, micro_batch=3)
    for step in (5, 0, 1000, 5):
        assert equal(one.batch(step), two.batch(step))
    assert equal(one.batch(7), one.batch(7))
    assert not equal(one.batch(0), data(objective, seed=1, micro_batch=3).batch(0))
    assert [len(b["labels"]) for b in one.batch(0)] == [3, 3, 2]


def test_an_epoch_sees_every_row_once():
    made = data("clm", batch_size=7)
    rows = np.concatenate([made.order.items(s) for s in range(made.plan.n_rows)])  # 7 whole epochs
    assert (np.bincount(rows) == 7).all()
    assert sorted(rows[: made.plan.n_rows].tolist()) == list(range(made.plan.n_rows))


def test_masking_statistics():
    made = data("mlm", documents(2000), batch_size=64, mask_rate=0.15)
    chosen = ordinary = masked = kept = other = 0
    for step in range(12):
        (batch,) = made.batch(step)
        labels, ids = batch["labels"], batch["input_ids"]
        special = torch.isin(ids, torch.tensor([0, 2, 3, 5])) & (labels == -100)
        ordinary += int((~special).sum())
        asked = labels != -100
        chosen += int(asked.sum())
        masked += int((ids[asked] == 4).sum())
        kept += int((ids[asked] == labels[asked]).sum())
        other += int(((ids[asked] != labels[asked]) & (ids[asked] != 4)).sum())
        assert labels[asked].min() >= 6 and ids[asked & (ids != 4)].min() >= 6
        assert not (asked & (batch["segments"] == 0)).any()
    assert chosen / ordinary == pytest.approx(0.15, abs=0.005)
    assert masked / chosen == pytest.approx(0.8, abs=0.02)
    assert kept / chosen == pytest.approx(0.1, abs=0.015)
    assert other / chosen == pytest.approx(0.1, abs=0.015)


def test_each_piece_is_wrapped_for_mlm():
    (batch,) = data("mlm").batch(0)
    for ids, segments in zip(batch["input_ids"], batch["segments"], strict=True):
        for number in range(1, int(segments.max()) + 1):
            piece = ids[segments == number]
            assert piece[0] == 2 and piece[-1] == 3 and len(piece) >= 3


def test_clm_predicts_every_token_inside_its_document_only():
    docs = documents(60)
    made = data("clm", docs, valid_fraction=0.0)
    whole = LanguageData(
        made.tokens, SPECIALS, made.config, objective="clm", valid=made.tokens
    )  # validation batches: no random beginnings
    found = []
    for batch in whole.valid():
        for ids, segments, labels in zip(batch["input_ids"], batch["segments"], batch["labels"], strict=True):
            for number in range(1, int(segments.max()) + 1):
                here = segments == number
                piece, wanted = ids[here].tolist(), labels[here].tolist()
                assert piece[1:] == wanted[:-1] and -100 not in wanted
                found += list(zip(piece, wanted, strict=True))
        assert (batch["labels"][batch["segments"] == 0] == -100).all()
    expected = [pair for d in docs for pair in zip(d, [*d[1:], 5], strict=True)]
    assert sorted(found) == sorted(expected)


def test_some_documents_begin_with_end_of_text_when_training():
    made = data("clm", documents(400, longest=20))
    begun = total = 0
    for step in range(20):
        (batch,) = made.batch(step)
        begun += int((batch["input_ids"] == 5).sum())
        total += int(batch["segments"].max(1).values.sum())
        rows = batch["input_ids"] == 5
        assert (batch["labels"][rows] >= 6).all()
    assert 0.05 < begun / total < 0.15


def test_split_is_stable_and_by_content():
    docs = documents(400)
    starts, _, held = split(from_lists(docs), 0.05, 10**6, 32)
    assert 8 <= held.sum() <= 40 and len(starts) == 400
    kept = {tuple(docs[i]) for i in np.flatnonzero(held)}
    shuffled = [docs[i] for i in np.random.default_rng(1).permutation(400)]
    _, _, again = split(from_lists(shuffled), 0.05, 10**6, 32)
    assert {tuple(shuffled[i]) for i in np.flatnonzero(again)} == kept
    one_long = from_lists([np.arange(20_000).tolist()])
    starts, lengths, held = split(one_long, 0.02, 10**6, 30)
    assert lengths.sum() == 20_000 and 0 < held.sum() < len(starts) / 4
    _, _, held = split(from_lists(docs), 0.0, 10**6, 32)
    assert not held.any()


def test_equal_documents_are_held_out_together():
    docs = documents(50) * 2
    _, _, held = split(from_lists(docs), 0.1, 10**6, 32)
    assert (held[:50] == held[50:]).all() and 0 < held.sum() < 100


def test_validation_does_not_depend_on_the_seed():
    a = data("mlm", seed=1, valid_fraction=0.1)
    b = data("mlm", seed=2, valid_fraction=0.1)
    assert equal(list(a.valid()), list(b.valid())) and a.valid_plan.n_rows > 0

"""Objectives, schedules of lengths and batches, streams; and that runs without them see what they always saw."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nlpkit import config as plain
from nlpkit.data.language import LanguageConfig, LanguageData
from nlpkit.data.tokens import Tokens, from_lists
from nlpkit.errors import DataError, UsageError

SPECIALS = SimpleNamespace(vocab_size=200, pad_id=0, cls_id=2, sep_id=3, mask_id=4, eos_id=5)
# Of batches made by the first version that could make them: (objective, config, seed) → hash.
KNOWN = [
    ("mlm", {}, 0, "133ee85c5e818129a166e51b"),
    ("mlm", {"micro_batch": 3}, 7, "354d32fd4b4deb6986eef65b"),
    ("mlm", {"context": 16, "batch_size": 5, "mask_rate": 0.3}, 0, "c0442cf4b2dd61b92dab9d4f"),
    ("clm", {}, 0, "e99f490614db37489b35328d"),
    ("clm", {"micro_batch": 3}, 7, "1168b716e8f37967494ac021"),
    ("clm", {"context": 16, "batch_size": 5, "mask_rate": 0.3}, 0, "16bf2157ea52999c2b16176c"),
]


def documents(n=300, longest=90, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(6, 200, generator.integers(1, longest)).tolist() for _ in range(n)]


def data(kind, docs=None, seed=0, **config):
    config = LanguageConfig(**{"context": 32, "batch_size": 8, "valid_fraction": 0.0, **config})
    return LanguageData(from_lists(docs or documents()), SPECIALS, config, objective=kind, seed=seed)


def digest(batches):
    made = hashlib.sha256()
    for batch in batches:
        for name in sorted(batch):
            made.update(name.encode())
            made.update(str(tuple(batch[name].shape)).encode())
            made.update(batch[name].numpy().tobytes())
    return made.hexdigest()[:24]


@pytest.mark.parametrize(("objective", "config", "seed", "known"), KNOWN)
def test_batches_are_the_same_from_version_to_version(objective, config, seed, known):
    made = data(objective, seed=seed, **{"valid_fraction": 0.05, **config})
    assert digest([b for s in (0, 3, 40, 1000) for b in made.batch(s)] + list(made.valid())) == known


def test_the_configuration_of_an_older_run_still_loads():
    older = {
        "context": 64, "batch_size": 4, "micro_batch": 0, "mask_rate": 0.2, "valid_fraction": 0.02,
        "valid_tokens": 200000, "vocab_size": 8000, "documents": "line",
    }  # fmt: skip
    made = plain.build(LanguageConfig, older, "data.")
    assert made.mask_rate == 0.2 and made.mask == "token" and not made.stages
    import tomllib

    new = plain.build(
        LanguageConfig, {"mask_rate": "0.3:0.15", "stages": ["0-100%: a=1"], "mask_split": [1, 0, 0]}
    )
    again = tomllib.loads(plain.to_toml({"data": plain.to_dict(new)}))["data"]
    assert plain.build(LanguageConfig, again) == new


def test_prefixes_are_seen_both_ways_and_not_scored():
    made = data("clm", documents(400), objective="prefix", context=128)
    shares, whole = [], data("clm", documents(400), context=128)
    for step in range(6):
        (batch,), (usual,) = made.batch(step), whole.batch(step)
        prefix, labels, segments = batch["prefix"], batch["labels"], batch["segments"]
        assert prefix.dtype == torch.int64 and not (prefix[segments == 0]).any()
        assert torch.equal(batch["input_ids"], usual["input_ids"])
        for row in range(len(prefix)):
            for number in range(1, int(segments[row].max()) + 1):
                here = segments[row] == number
                mine, wanted, all_labels = prefix[row][here], labels[row][here], usual["labels"][row][here]
                k, n = int(mine.sum()), len(mine)
                assert mine.tolist() == [1] * k + [0] * (n - k) and k < n
                # What nothing of the prefix sees is scored: from the token behind the prefix on.
                first = max(k - 1, 0)
                assert (wanted[:first] == -100).all() and torch.equal(wanted[first:], all_labels[first:])
                if n >= 20:
                    shares.append(k / n)
    assert len(shares) > 50 and np.mean(shares) == pytest.approx(0.5, abs=0.08)
    assert np.std(shares) == pytest.approx(0.288, abs=0.05)  # uniform
    held = LanguageData(made.tokens, SPECIALS, made.config, objective="clm", seed=9, valid=made.tokens)
    other = LanguageData(made.tokens, SPECIALS, made.config, objective="clm", seed=1, valid=made.tokens)
    assert digest(held.valid()) == digest(other.valid()) and "prefix" in next(iter(held.valid()))


def test_a_mix_of_masked_and_next_token_steps():
    made = data("mlm", objective="mlm:.75,clm:.25", micro_batch=4)
    kinds = []
    for step in range(16):
        batches = made.batch(step)
        causal = {"causal" in b for b in batches}
        assert len(batches) == 2 and len(causal) == 1  # a step's micro-batches are all of one objective
        kinds.append("clm" if causal.pop() else "mlm")
        assert kinds[-1] == made.course.objective(step)
        for batch in batches if kinds[-1] == "clm" else []:
            assert bool(batch["causal"])
            ids, labels, segments = batch["input_ids"], batch["labels"], batch["segments"]
            for row in range(len(ids)):
                for number in range(1, int(segments[row].max()) + 1):
                    piece, wanted = ids[row][segments[row] == number], labels[row][segments[row] == number]
                    assert piece[0] == 2 and piece[-1] == 3 and not (piece == 4).any()
                    assert torch.equal(wanted[:-1], piece[1:]) and wanted[-1] == -100
            assert (labels[segments == 0] == -100).all()
    for n in range(1, 17):
        assert abs(kinds[:n].count("clm") - n / 4) < 1
    assert all("causal" not in b for b in made.valid())


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("mlm", {"objective": "prefix"}, "data.objective: unknown name 'prefix'"),
        ("clm", {"objective": "prefx"}, "did you mean 'prefix'"),
        ("mlm", {"objective": "mlm:.5,clm:.4"}, "add up to 0.9"),
        ("mlm", {"cross": True}, "data.cross"),
        ("clm", {"cross": True, "objective": "prefix"}, "data.cross"),
    ],
)
def test_objectives_that_cannot_be(kind, config, words):
    with pytest.raises(UsageError, match=words):
        data(kind, **config)


def test_streams_cross_documents_and_lose_nothing():
    docs = documents(50)
    made = data("clm", docs, cross=True, batch_size=1)
    line = [token for d in docs for token in [*d, 5]]
    rows = {}
    for step in range(made.plan.n_rows):
        (batch,) = made.batch(step)
        rows[int(made.items(step)[0])] = batch
        used = batch["segments"][0] > 0
        assert (batch["labels"][0][~used] == -100).all() and (batch["input_ids"][0][~used] == 0).all()
    ids = [t for r in sorted(rows) for t in rows[r]["input_ids"][0][rows[r]["segments"][0] > 0].tolist()]
    labels = [t for r in sorted(rows) for t in rows[r]["labels"][0].tolist() if t != -100]
    assert labels == line[1:] and ids[: len(labels)] == line[: len(labels)]
    assert all(int(b["segments"].max()) == 1 for b in rows.values()) and made.plan.waste < 0.02
    held = LanguageData(made.tokens, SPECIALS, made.config, objective="clm", valid=made.tokens)
    assert sum(int((b["labels"] >= 0).sum()) for b in held.valid()) == len(line) - 1


def test_streams_of_two_sources_never_meet():
    docs = [[10] * 7, [10] * 8, [20] * 5, [20] * 9, [20] * 4]
    tokens = from_lists(docs, (("a", 2), ("b", 3)))
    config = LanguageConfig(
        context=16, batch_size=2, valid_fraction=0.0, cross=True, stages=("0-100%: a=.5,b=.5",)
    )
    made = LanguageData(tokens, SPECIALS, config, objective="clm")
    for step in range(4):
        for ids, labels in zip(*(made.batch(step)[0][n] for n in ("input_ids", "labels")), strict=True):
            assert not {10, 20} <= {*ids.tolist(), *labels.tolist()}
    assert made.served(4) == {"a": 4, "b": 4}


def test_contexts_and_batches_change_with_the_run():
    made = data(
        "clm", documents(500), lengths="0-30%:8,30-100%:32", batches="0-60%:4,60-100%:8", micro_batch=2
    )
    made.begin(100)
    shapes = {s: [tuple(b["input_ids"].shape) for b in made.batch(s)] for s in (0, 29, 30, 59, 60, 99, 500)}
    assert shapes[0] == shapes[29] == [(8, 8)] * 2 and shapes[30] == shapes[59] == [(2, 32)] * 2
    assert shapes[60] == shapes[99] == shapes[500] == [(2, 32)] * 4
    assert made.course.row(30) == 30 * 16 and made.course.row(60) == 30 * 16 + 30 * 4
    # Where the context is the same, the order goes on: no row twice before all were seen.
    seen = np.concatenate([made.items(s) for s in range(30, 80)])
    n = made.plan.n_rows
    assert len(seen) == 30 * 4 + 20 * 8 and len(set(seen[:n].tolist())) == min(n, len(seen))
    assert made.plan.context == 32 and all(b["input_ids"].shape[1] == 32 for b in made.valid())


def test_a_run_too_short_for_its_phases():
    made = data("clm", lengths="0-10%:8,10-20%:16,20-100%:32")
    made.begin(2)
    assert [made.batch(s)[0]["input_ids"].shape[1] for s in range(2)] == [32, 32]


def test_an_epoch_of_growing_batches_sees_as_many_rows_as_there_are():
    made = data("clm", batches="0-50%:4,50-100%:12")
    made.begin(made.steps_per_epoch)
    assert abs(made.course.row(made.steps_per_epoch) - made.plan.n_rows) <= 12
    assert data("clm").steps_per_epoch == -(-made.plan.n_rows // 8)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"lengths": "0-100%:64"}, "64 is more than context = 32"),
        ({"lengths": "0-50%:24,50-100%:32", "batch_size": 2}, "no whole rows of 24"),
        ({"lengths": "0-50%:8"}, "nothing is said"),
        ({"batches": "0-100%:0"}, "1 or more"),
        ({"mask_rate": "high"}, "mask_rate"),
    ],
)
def test_schedules_that_cannot_be(config, words):
    with pytest.raises(UsageError, match=words):
        plain.build(LanguageConfig, {"context": 32, "batch_size": 8, **config}, "data.")


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_a_corpus_shorter_than_a_row(objective):
    for cross in (False, True) if objective == "clm" else (False,):
        (batch,) = data(objective, [[6, 7, 8]], batch_size=4, cross=cross).batch(3)
        assert batch["input_ids"].shape == (4, 32) and (batch["labels"] >= 0).any()
        assert int((batch["segments"] > 0).sum()) == 4 * (5 if objective == "mlm" else 3)


def test_nothing_to_train_on_and_ids_beyond_the_vocabulary():
    with pytest.raises(DataError, match="no document is left"):
        data("clm", [[]])
    empty = Tokens(np.empty(0, np.int64), np.zeros(1, np.uint64), np.empty(0, np.uint64))
    with pytest.raises(DataError, match="no document is left"):
        LanguageData(empty, SPECIALS, LanguageConfig(), objective="mlm")
    with pytest.raises(DataError, match="token id 200, the tokenizer 200 ids"):
        data("mlm", [[6, 200, 7]])


def test_the_report_of_packing():
    docs = [[7] * 10] * 30 + [[8] * 40] * 2
    told = data("clm", docs).describe()
    assert "380 tokens to train on" in told and "2 documents cut" in told and "% padding" in told
    assert "across documents" in data("clm", docs, cross=True).describe()

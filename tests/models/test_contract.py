"""One contract for every model of the registry."""

import json
from pathlib import Path

import pytest
import torch

from nlpkit import registry
from nlpkit.config import build, to_dict
from nlpkit.core import folder
from nlpkit.core.batch import IGNORE
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.store import manifest

TINY = {"vocab": 30, "width": 16, "depth": 2, "heads": 2, "context": 16}
CASES = [
    ("mlm", {"family": "bert"}),
    ("mlm", {"family": "modernbert"}),
    ("clm", {"family": "gpt2"}),
    ("clm", {"family": "llama", "kv_heads": 1, "tied": False}),
    ("clm", {"family": "qwen3", "kv_heads": 1}),
    ("classifier", {"family": "bert", "labels": ["a", "b", "c"]}),
    ("classifier", {"family": "modernbert", "labels": ["a", "b", "c"], "dropout": 0.1}),
    ("classifier", {"family": "llama", "labels": ["a", "b", "c"]}),
    ("classifier", {"family": "qwen3", "labels": ["a", "b", "c"]}),
    ("biencoder", {"family": "bert"}),
    ("biencoder", {"family": "modernbert", "pooling": "cls", "temperature": 0.1}),
    ("crossencoder", {"family": "bert"}),
    ("crossencoder", {"family": "modernbert"}),
    ("cnn", {"size": 8, "channels": [8, 16], "labels": ["a", "b", "c"]}),
    ("vit", {"size": 8, "patch": 2, "width": 16, "depth": 2, "heads": 2, "labels": ["a", "b", "c"]}),
    ("vae", {"size": 8, "latent": 3, "hidden": 32}),
    ("vae", {"size": 8, "latent": 3, "hidden": 32, "likelihood": "bernoulli"}),
]
TEXT = {"mlm", "clm", "classifier", "biencoder", "crossencoder"}
IMAGES = {"cnn", "vit", "vae"}
NAMES = [f"{kind}-{values.get('family', i)}" for i, (kind, values) in enumerate(CASES)]
each = pytest.mark.parametrize(("kind", "values"), CASES, ids=NAMES)


def make(kind, values, seed=0):
    module = registry.module(kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return module.Model(build(module.Config, (TINY if kind in TEXT else {}) | values))


def batch_of(kind, n=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    if kind in IMAGES:
        return {"pixels": torch.rand(n, 1, 8, 8, generator=g), "labels": torch.arange(n) % 3}
    ids = torch.randint(6, 30, (n, 9), generator=g)
    segments = torch.ones(n, 9, dtype=torch.long)
    segments[1, 6:], segments[2, 4:] = 0, 0
    ids = ids * segments
    if kind == "biencoder":
        docs = torch.randint(6, 30, (n, 9), generator=g) * segments
        return {"query_ids": ids, "query_segments": segments, "doc_ids": docs, "doc_segments": segments}
    if kind == "mlm":
        hide = (torch.rand(n, 9, generator=g) < 0.3) & (segments > 0)
        labels = torch.where(hide, ids, IGNORE)
        return {"input_ids": torch.where(hide, 4, ids), "segments": segments, "labels": labels}
    if kind == "clm":
        labels = torch.full_like(ids, IGNORE)
        labels[:, :-1] = torch.where(segments[:, 1:] > 0, ids[:, 1:], IGNORE)
        return {"input_ids": ids, "segments": segments, "labels": labels}
    if kind == "classifier":
        return {"input_ids": ids, "segments": segments, "labels": torch.arange(n) % 3}
    return {"input_ids": ids, "segments": segments, "labels": (torch.arange(n) % 4) / 3}


def outputs(kind, model, batch):
    with torch.no_grad():
        if kind in IMAGES:
            out = model(batch["pixels"])
            return out if kind != "vae" else torch.cat((*out, model.decode(out[0]).flatten(1)), 1)
        if kind == "biencoder":
            return model.encode(batch["query_ids"], batch["query_segments"])
        return model(batch["input_ids"], batch["segments"])


def rng(seed=3):
    return torch.Generator().manual_seed(seed)


def test_the_cases_cover_the_registry_and_the_registry_the_files():
    files = {p.stem for p in Path(registry.module("mlm").__file__).parent.glob("*.py")} - {"__init__"}
    assert {k for k, _ in CASES} == set(registry.MODELS) == files
    assert all(e.module == f"nlpkit.models.{name}" for name, e in registry.MODELS.items())


@each
def test_loss_is_finite_and_every_parameter_learns(kind, values):
    model = make(kind, values).train()
    result = model.loss(batch_of(kind), generator=rng())
    assert result["loss"].dim() == 0 and torch.isfinite(result["loss"])
    assert result["count"].dim() == 0 and result["count"] > 0
    assert all(torch.isfinite(v) and not v.requires_grad for k, v in result.items() if k != "loss")
    result["loss"].backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not [n for n in silent if not n.endswith("attention.k.bias")], silent  # softmax ignores a key bias


@each
def test_same_seed_same_loss_whatever_the_global_generator(kind, values):
    losses = []
    for noise in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(noise)
            model = make(kind, values).train()
            losses.append(model.loss(batch_of(kind), generator=rng())["loss"])
            after = torch.rand(())
            torch.manual_seed(noise)
            assert after == torch.rand(())  # and the global generator did not move
    assert torch.equal(*losses)


@each
def test_save_and_open_are_equal_to_the_bit(kind, values, tmp_path):
    model = make(kind, values, seed=5).eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    folder.save(model, kind, tmp_path)
    found, again = folder.open(tmp_path)
    assert found == kind and not again.training
    batch = batch_of(kind)
    assert torch.equal(outputs(kind, model, batch), outputs(kind, again, batch))
    assert {n: p.shape for n, p in again.named_parameters()} == {
        n: p.shape for n, p in model.named_parameters()
    }
    assert all(p.requires_grad for p in again.parameters())
    own = {k: v for k, v in to_dict(model.config).items() if k not in ("text", "hidden")}
    other = to_dict(again.config)
    assert {k: other.get(k) for k in own} == own
    (tmp_path / "twice").mkdir()
    folder.save(again, kind, tmp_path / "twice")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


@each
def test_a_damaged_sealed_folder_is_refused_before_it_is_parsed(kind, values, tmp_path):
    folder.save(make(kind, values), kind, tmp_path)
    manifest.seal(tmp_path, "model")
    folder.open(tmp_path)
    raw = bytearray((tmp_path / "model.safetensors").read_bytes())
    raw[-3] ^= 4
    (tmp_path / "model.safetensors").write_bytes(raw)
    with pytest.raises(ArtifactError, match="damaged"):
        folder.open(tmp_path)


@each
def test_one_batch_is_overfitted(kind, values):
    model = make(kind, values | ({"dropout": 0.0} if kind != "vae" else {}))
    if kind in TEXT:
        model.eval()  # no dropout before the head either
    batch, optimizer = batch_of(kind), torch.optim.Adam(model.parameters(), lr=3e-3)
    first = None
    for _ in range(250):
        result = model.loss(batch, generator=rng())
        first = first if first is not None else result["loss"].item()
        optimizer.zero_grad()
        result["loss"].backward()
        optimizer.step()
        if kind != "vae" and kind != "crossencoder" and result["loss"] < 0.05:
            break
    if kind == "vae":
        assert result["loss"] < first - 5
    elif kind == "crossencoder":  # soft labels: the loss has a floor, the entropy of the labels
        p = batch["labels"]
        floor = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).mean()
        assert result["loss"] - floor < 0.05
    else:
        assert result["loss"] < 0.1 and result["accuracy"] == 1.0


@each
def test_micro_batches_add_up_to_the_batch(kind, values, monkeypatch):
    if kind == "biencoder":
        return  # its negatives are the batch
    if kind == "vae":  # the noise of an image would depend on its place in the batch
        monkeypatch.setattr("nlpkit.models.vae._normal", lambda shape, like, _: 0.5 * like.new_ones(shape))
    model = make(kind, values).double().eval()
    batch = {k: v.double() if v.is_floating_point() else v for k, v in batch_of(kind, n=7).items()}
    whole = model.loss(batch)
    parts = [model.loss({k: v[a:b] for k, v in batch.items()}) for a, b in ((0, 2), (2, 3), (3, 7))]
    count = sum(p["count"] for p in parts)
    assert count == whole["count"]
    for key in whole:
        if key != "count":
            together = sum(p[key] * p["count"] for p in parts) / count
            assert abs(together - whole[key]) < 1e-6, key


@each
def test_padding_and_batch_mates_change_nothing(kind, values):
    if kind in IMAGES:
        return
    model = make(kind, values).double().eval()
    batch = batch_of(kind)
    ids, segments = ("query_ids", "query_segments") if kind == "biencoder" else ("input_ids", "segments")
    both = outputs(kind, model, batch)[2]
    alone = outputs(kind, model, {ids: batch[ids][2:3, :4], segments: batch[segments][2:3, :4]})[0]
    assert (both[:4] - alone if kind in ("mlm", "clm") else both - alone).abs().max() < 1e-9


@pytest.mark.parametrize("kind", ["mlm", "clm"])
def test_a_batch_without_labels_has_count_zero_and_a_finite_loss(kind):
    model, batch = make(kind, {}), batch_of(kind)
    batch["labels"] = torch.full_like(batch["labels"], IGNORE)
    result = model.loss(batch)
    assert result["count"] == 0 and result["loss"] == 0
    result["loss"].backward()


def test_masked_logits_are_made_where_they_are_needed():
    model, batch = make("mlm", {}).double().eval(), batch_of("mlm")
    logits = model(batch["input_ids"], batch["segments"])
    whole = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch["labels"].flatten())
    assert abs(model.loss(batch)["loss"] - whole) < 1e-6


def test_infonce_by_hand_and_duplicates():
    model, batch = make("biencoder", {"temperature": 0.5}).eval(), batch_of("biencoder", n=4)
    batch["doc_ids"][3] = batch["doc_ids"][0]
    batch["doc_segments"] = batch["doc_segments"].clone()
    batch["doc_segments"][3] = batch["doc_segments"][0]
    batch["doc_key"] = torch.tensor([0, 1, 2, 0])
    q = model.encode(batch["query_ids"], batch["query_segments"])
    d = model.encode(batch["doc_ids"], batch["doc_segments"])
    assert torch.allclose(q.norm(dim=-1), torch.ones(4))
    s, total = (q @ d.T / 0.5).exp(), 0.0
    for i in range(4):
        keep = [j for j in range(4) if j == i or batch["doc_key"][i] != batch["doc_key"][j]]
        total -= (s[i, i] / s[i, keep].sum()).log() + (s[i, i] / s[keep, i].sum()).log()
    assert abs(model.loss(batch)["loss"] - total / 8) < 1e-5
    del batch["doc_key"]
    assert abs(model.loss(batch)["loss"] - total / 8) > 1e-3


def test_a_biencoder_folder_is_one_of_sentence_transformers(tmp_path):
    folder.save(make("biencoder", {"pooling": "cls"}), "biencoder", tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    assert [m["type"].rsplit(".", 1)[1] for m in modules] == ["Transformer", "Pooling", "Normalize"]
    pooling = json.loads((tmp_path / "1_Pooling/config.json").read_text())
    assert pooling["pooling_mode_cls_token"] and not pooling["pooling_mode_mean_tokens"]
    assert json.loads((tmp_path / "sentence_bert_config.json").read_text())["max_seq_length"] == 16
    config = json.loads((tmp_path / "config.json").read_text())
    del config["nlpkit"]  # as another tool would have written it
    (tmp_path / "config.json").write_text(json.dumps(config))
    kind, model = folder.open(tmp_path)
    assert kind == "biencoder" and model.config.pooling == "cls"


def test_the_labels_survive(tmp_path):
    folder.save(make("classifier", {"labels": ["nein", "ja", "grün"]}), "classifier", tmp_path)
    assert folder.open(tmp_path)[1].config.labels == ("nein", "ja", "grün")
    assert json.loads((tmp_path / "config.json").read_text())["label2id"] == {"nein": 0, "ja": 1, "grün": 2}


def test_warm_start_copies_the_trunk(tmp_path):
    mlm = make("mlm", {"family": "modernbert"}, seed=1)
    folder.save(mlm, "mlm", tmp_path)
    model = make("classifier", {"labels": ["a", "b"]}, seed=2)
    copied, fresh = folder.load_trunk(model, tmp_path)
    assert all(n.startswith("encoder.") for n in copied) and all(n.startswith("head.") for n in fresh)
    mine, theirs = model.state_dict(), mlm.state_dict()
    assert all(torch.equal(mine[n], theirs[n]) for n in copied) and len(copied) + len(fresh) == len(mine)
    again = make("mlm", {"family": "modernbert"}, seed=3)
    assert folder.load_trunk(again, tmp_path)[1] == []
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), mlm.parameters(), strict=True))
    assert folder.text_config(tmp_path).trunk == mlm.text.trunk
    with pytest.raises(ArtifactError, match="is a modernbert, a bert is needed"):
        folder.load_trunk(make("mlm", {"family": "bert"}), tmp_path)
    with pytest.raises(ArtifactError, match=r"attention\.heads is 2 there and 4 here"):
        folder.load_trunk(make("mlm", {"heads": 4}), tmp_path)
    with pytest.raises(ArtifactError, match=r"not one tensor fits|mlp\.hidden"):
        folder.load_trunk(make("mlm", {"width": 32}), tmp_path)


def test_a_run_manifest_protects_its_model_folder(tmp_path):
    (tmp_path / "model").mkdir()
    folder.save(make("mlm", {}), "mlm", tmp_path / "model")
    manifest.seal(tmp_path, "run")
    folder.open(tmp_path / "model")
    (tmp_path / "model/config.json").write_text((tmp_path / "model/config.json").read_text() + " ")
    with pytest.raises(ArtifactError, match="sealed with"):
        folder.open(tmp_path / "model")


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("mlm", {"family": "llama"}, "reads both sides"),
        ("mlm", {"family": "qwen3"}, "reads both sides"),
        ("clm", {"family": "bert"}, "reads left to right"),
        ("classifier", {}, "two labels or more"),
        ("biencoder", {"temperature": 0.0}, "temperature"),
        ("mlm", {"family": "t5"}, "family"),
        ("mlm", {"heads": 3}, "multiple"),
    ],
)
def test_impossible_configs_are_usage_errors(kind, values, message):
    with pytest.raises(UsageError, match=message):
        make(kind, values)


def test_mlm_can_begin_at_the_token_frequencies() -> None:
    from nlpkit.models import mlm

    model = mlm.Model(mlm.Config(vocab=8, width=8, depth=1, heads=2)).eval()
    counts = torch.tensor([0, 0, 0, 0, 0, 0, 30, 10])
    with torch.no_grad():
        model.head.dense.weight.zero_()
    model.start_from(counts)
    told = model(torch.tensor([[2, 6, 4, 3]])).detach().softmax(-1)[0, 2]
    assert told[6] == pytest.approx(31 / 48, abs=1e-4) and told[7] == pytest.approx(11 / 48, abs=1e-4)


def test_biencoder_scores_are_exact_under_autocast(monkeypatch):
    model = make("biencoder", {})
    vectors = torch.nn.functional.normalize(
        torch.ones(8, 16) + 0.05 * torch.randn(8, 16, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    monkeypatch.setattr(model, "encode", lambda ids, segments=None: vectors)
    batch = {"query_ids": torch.zeros(8, 2, dtype=torch.long), "doc_ids": torch.zeros(8, 2, dtype=torch.long)}
    plain = model.loss(batch)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.loss(batch)["loss"], plain)


def test_both_ways_of_saying_a_pooling_are_read(tmp_path):
    path = tmp_path / "config.json"
    for values, pooling in (
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
    ):
        path.write_text(json.dumps(values))
        assert folder.read_pooling(path) == pooling
    path.write_text(json.dumps({"pooling_mode": ["mean", "max"]}))
    with pytest.raises(ArtifactError, match="mean\\+max"):
        folder.read_pooling(path)

"""transformers as oracle: the same numbers in float64 with every parameter random, and lossless folders."""

import json
import logging
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from nlpkit.core import folder, hf, hf_config
from nlpkit.errors import ArtifactError, UsageError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
logging.getLogger("transformers").setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

CONFIGS = {
    "bert": lambda **k: transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=24,
        max_position_embeddings=32, pad_token_id=0, **k,
    ),
    "modernbert": lambda **k: transformers.ModernBertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=5, num_attention_heads=4, intermediate_size=24,
        max_position_embeddings=32, local_attention=6, pad_token_id=0, bos_token_id=2, cls_token_id=2,
        eos_token_id=3, sep_token_id=3, **k,
    ),
    "gpt2": lambda **k: transformers.GPT2Config(
        vocab_size=40, n_embd=16, n_layer=3, n_head=4, n_inner=24, n_positions=32, bos_token_id=5,
        eos_token_id=5, pad_token_id=0, **k,
    ),
    "llama": lambda **k: transformers.LlamaConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=24, max_position_embeddings=32, pad_token_id=0, **k,
    ),
    "qwen3": lambda **k: transformers.Qwen3Config(**{
        "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32, "head_dim": 4,
        "pad_token_id": 0, **k,
    }),
}  # fmt: skip
MORE = {
    "modernbert": {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True,
                   "classifier_pooling": "mean", "norm_eps": 1e-3},
    "llama": {"head_dim": 6, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
              "rms_norm_eps": 1e-3, "rope_theta": 500.0},
    "qwen3": {"head_dim": 6, "attention_bias": True, "tie_word_embeddings": True, "rms_norm_eps": 1e-2,
              "num_key_value_heads": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "bert": {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3},
    "gpt2": {"activation_function": "relu", "tie_word_embeddings": False},
}  # fmt: skip
CLASSES = {
    ("bert", "mlm"): "BertForMaskedLM",
    ("bert", "classifier"): "BertForSequenceClassification",
    ("bert", "crossencoder"): "BertForSequenceClassification",
    ("bert", "biencoder"): "BertModel",
    ("modernbert", "mlm"): "ModernBertForMaskedLM",
    ("modernbert", "classifier"): "ModernBertForSequenceClassification",
    ("modernbert", "crossencoder"): "ModernBertForSequenceClassification",
    ("modernbert", "biencoder"): "ModernBertModel",
    ("gpt2", "clm"): "GPT2LMHeadModel",
    ("gpt2", "classifier"): "GPT2ForSequenceClassification",
    ("gpt2", "biencoder"): "GPT2Model",
    ("llama", "clm"): "LlamaForCausalLM",
    ("llama", "classifier"): "LlamaForSequenceClassification",
    ("llama", "biencoder"): "LlamaModel",
    ("qwen3", "clm"): "Qwen3ForCausalLM",
    ("qwen3", "classifier"): "Qwen3ForSequenceClassification",
    ("qwen3", "biencoder"): "Qwen3Model",
}


def theirs(family, kind, path, dtype=torch.float64, more=False):
    """A Hugging Face model with every parameter random, and its folder."""
    labels = {"classifier": 3, "crossencoder": 1}.get(kind)
    options = dict(MORE[family] if more else {}) | ({"num_labels": labels} if labels else {})
    model = getattr(transformers, CLASSES[family, kind])(CONFIGS[family](**options)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    model = model.to(dtype)
    model.save_pretrained(path)
    return model


def wide_norm(self, x):
    """An RMSNorm of transformers in the dtype of its input."""
    return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon))


def inputs():
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(6, 40, (3, 12), generator=generator)
    mask = torch.ones(3, 12, dtype=torch.long)
    mask[1, 9:], mask[2, 4:] = 0, 0
    return ids * mask, mask  # padding is id 0


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize(("family", "kind"), CLASSES)
@torch.no_grad()
def test_same_numbers_and_lossless_round_trip(family, kind, more, tmp_path, monkeypatch):
    # Their RMSNorm and ModernBERT's rotation go through float32, and are then oracles of seven digits.
    llama, models = transformers.models.llama.modeling_llama, transformers.models
    for norm in (llama.LlamaRMSNorm, models.qwen3.modeling_qwen3.Qwen3RMSNorm):
        monkeypatch.setattr(norm, "forward", wide_norm)
    modern = models.modernbert.modeling_modernbert
    monkeypatch.setattr(modern, "apply_rotary_pos_emb", llama.apply_rotary_pos_emb)
    there, here = tmp_path / "theirs", tmp_path / "ours"
    oracle = theirs(family, kind, there, more=more)
    found, model = folder.open(there, dtype=None)
    assert found == kind and next(model.parameters()).dtype == torch.float64
    ids, mask = inputs()
    expected = oracle(ids, attention_mask=mask)
    if kind in ("mlm", "clm", "biencoder"):
        ours = model.encoder(ids, mask) if kind == "biencoder" else model(ids, mask)
        expected = expected.last_hidden_state if kind == "biencoder" else expected.logits
        gap = (ours - expected)[mask.bool()].abs().max()
    else:
        gap = (model(ids, mask) - expected.logits.squeeze(-1 if kind == "crossencoder" else 5)
               if kind == "crossencoder" else model(ids, mask) - expected.logits).abs().max()  # fmt: skip
    assert gap <= 1e-9, gap
    # folder → ours → folder: the same tensors under the same names, bit for bit
    here.mkdir()
    folder.save(model, kind, here)
    before, after = load_file(there / "model.safetensors"), load_file(here / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) and before[n].dtype == after[n].dtype for n in before)
    # and transformers opens ours with nothing missing or unexpected
    again, info = type(oracle).from_pretrained(here, output_loading_info=True)
    assert not any(info.values()), info
    repeated = again(ids, attention_mask=mask)
    repeated = repeated.last_hidden_state if kind == "biencoder" else repeated.logits
    first = oracle(ids, attention_mask=mask)
    assert torch.equal(repeated, first.last_hidden_state if kind == "biencoder" else first.logits)
    assert folder.open(here)[0] == kind
    auto = transformers.AutoConfig.from_pretrained(here)
    assert auto.architectures == [CLASSES[family, kind]]


@torch.no_grad()
def test_token_types_of_bert(tmp_path):
    oracle = theirs("bert", "crossencoder", tmp_path)
    _, model = folder.open(tmp_path, dtype=None)
    ids, mask = inputs()
    types = (torch.arange(12) > 3).long().expand(3, 12) * mask
    expected = oracle(ids, attention_mask=mask, token_type_ids=types).logits.squeeze(-1)
    assert (model(ids, mask, types) - expected).abs().max() <= 1e-6
    assert (model(ids, mask) - expected).abs().max() > 1e-6


def test_stored_dtype_is_kept(tmp_path):
    theirs("llama", "clm", tmp_path, torch.bfloat16)
    _, model = folder.open(tmp_path, dtype=None)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in folder.open(tmp_path)[1].parameters()} == {torch.float32}
    (tmp_path / "out").mkdir()
    folder.save(model, "clm", tmp_path / "out")
    one, two = (load_file(p / "model.safetensors") for p in (tmp_path, tmp_path / "out"))
    assert all(torch.equal(one[n], two[n]) for n in one) and one.keys() == two.keys()
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"


def test_shards_are_read(tmp_path):
    model = theirs("gpt2", "clm", tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="5KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    one, many = (folder.open(tmp_path / n)[1].state_dict() for n in ("one", "many"))
    assert all(torch.equal(one[n], many[n]) for n in one)
    index = tmp_path / "many/model.safetensors.index.json"
    values = json.loads(index.read_text())
    values["weight_map"]["x"] = "../one/model.safetensors"
    index.write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match="not a safetensors file beside it"):
        folder.open(tmp_path / "many")


def test_hub_layouts_are_read(tmp_path):
    """Published files carry old names, other prefixes and heads that the task does not use."""
    theirs("bert", "mlm", tmp_path)
    _, plain = folder.open(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    old = {}
    for name, tensor in tensors.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        old[name] = tensor
    old["bert.pooler.dense.weight"], old["bert.pooler.dense.bias"] = torch.ones(16, 16), torch.ones(16)
    old["cls.seq_relationship.weight"], old["cls.seq_relationship.bias"] = torch.ones(2, 16), torch.ones(2)
    old["bert.embeddings.position_ids"] = torch.arange(32)[None]
    old["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    save_file(old, path)
    _, model = folder.open(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    (tmp_path / "out").mkdir()
    folder.save(model, "mlm", tmp_path / "out")
    assert "cls.seq_relationship.bias" in load_file(tmp_path / "out/model.safetensors")

    theirs("gpt2", "clm", tmp_path / "gpt2")
    path = tmp_path / "gpt2/model.safetensors"
    bare = {n.removeprefix("transformer."): t for n, t in load_file(path).items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    _, plain = folder.open(tmp_path / "gpt2")
    save_file(bare, path)
    _, model = folder.open(tmp_path / "gpt2")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "llama", "qwen3"])
def test_nothing_is_lost_or_invented(family, tmp_path):
    kind = "mlm" if "bert" in family else "clm"
    theirs(family, kind, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"model.adapter.weight": torch.ones(2)}, path)
    with pytest.raises(ArtifactError, match=r"without a place.*model\.adapter\.weight"):
        folder.open(tmp_path)
    gone = sorted(tensors)[-1]
    save_file({n: t for n, t in tensors.items() if n != gone}, path)
    with pytest.raises(ArtifactError, match="missing"):
        folder.open(tmp_path)
    save_file({n: t[:-1].clone() if n == gone else t for n, t in tensors.items()}, path)
    with pytest.raises(ArtifactError, match="has the shape"):
        folder.open(tmp_path)


def test_pickles_and_foreign_code_are_refused_or_ignored(tmp_path):
    theirs("llama", "clm", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit('code of the folder ran')")
    _, model = folder.open(tmp_path)
    (tmp_path / "out").mkdir()
    folder.save(model, "clm", tmp_path / "out")
    assert "auto_map" not in (tmp_path / "out/config.json").read_text()
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="pickle can run code"):
        folder.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "not a text family"),
        ({"hidden_size": "16"}, "expected a positive whole number"),
        ({"hidden_size": -4}, "expected a positive whole number"),
        ({"num_attention_heads": 3}, "multiple"),
        ({"hidden_act": "quick_gelu"}, "not supported"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "'llama3' are not supported"),
        ({"num_hidden_layers": 10**9}, "tensors for 1000000000 layers"),
        ({"vocab_size": 2**30}, "has the shape"),
        ({"architectures": ["LlamaForTokenClassification"]}, "is none of"),
        ({"nlpkit": {"kind": "future"}}, "no model is called 'future'"),
        ({"nlpkit": {"kind": "clm", "wings": 2}}, "unknown key 'wings'"),
    ],
)
def test_untrusted_configs_are_refused_in_one_line(change, message, tmp_path):
    theirs("llama", "clm", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match=message) as error:
        folder.open(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_sliding_window": True}, "use_sliding_window = True is not supported"),
        ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "layer_types: only"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "'yarn' are not supported"),
        ({"head_dim": None}, "has the shape"),  # 128, whatever the width
    ],
)
def test_what_a_qwen3_may_be_and_ours_is_not(change, message, tmp_path):
    theirs("qwen3", "clm", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match=message):
        folder.open(tmp_path)


def test_unknown_keys_of_the_source_survive(tmp_path):
    theirs("llama", "clm", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"eos_token_id": [7, 9], "my_note": "kept"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    _, model = folder.open(tmp_path)
    (tmp_path / "out").mkdir()
    folder.save(model, "clm", tmp_path / "out")
    after = json.loads((tmp_path / "out/config.json").read_text())
    assert after["eos_token_id"] == [7, 9] and after["my_note"] == "kept"


def test_an_architecture_that_is_no_family_is_not_exported():
    from dataclasses import replace

    from nlpkit.core.families import text_config

    text = text_config("gpt2", width=16, heads=2)
    for other in (
        replace(text, positions="sinusoidal"),
        replace(text, trunk=replace(text.trunk, attention=replace(text.trunk.attention, window=4))),
        replace(text, trunk=replace(text.trunk, mlp=replace(text.trunk.mlp, gated=True))),
        replace(text_config("qwen3", width=16, heads=2), family="llama"),
        replace(text_config("llama", width=16, heads=2), family="qwen3"),
    ):
        with pytest.raises(UsageError, match="no Hugging Face layout"):
            hf_config.write(other)


def test_every_architecture_has_a_table():
    assert {f for f, _ in hf.ARCHITECTURES} == set(hf.BASE) == set(hf.PREFIX)
    assert {key for key in hf.ARCHITECTURES if key[1] != "bare"} == set(hf.HEAD)

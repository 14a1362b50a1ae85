"""transformers as oracle for ViT: the same numbers in float64 with every parameter random, and lossless folders."""

import json
import logging
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nlpkit.core import folder
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.models import vit

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
logging.getLogger("transformers").setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24,
         "image_size": 12, "patch_size": 4, "num_channels": 3, "num_labels": 5}  # fmt: skip
MORE = {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3, "num_channels": 1, "num_labels": 2, "patch_size": 3,
        "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.1}  # fmt: skip


def theirs(path, dtype=torch.float64, **more):
    """A ViT of transformers with every parameter random, and its folder."""
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**{**SIZES, **more})).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    model = model.to(dtype)
    model.save_pretrained(path)
    return model


def pixels(channels=3):
    return torch.rand(4, channels, 12, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("more", [{}, MORE])
@torch.no_grad()
def test_same_numbers_and_lossless_round_trip(more, tmp_path):
    there, here = tmp_path / "theirs", tmp_path / "ours"
    oracle = theirs(there, **more)
    kind, model = folder.open(there, dtype=None)
    assert kind == "vit" and next(model.parameters()).dtype == torch.float64
    x = pixels(model.config.in_channels)
    expected = oracle((x - 0.5) / 0.5).logits
    assert (model(x) - expected).abs().max() <= 1e-9 and expected.abs().max() > 0.1
    here.mkdir()
    folder.save(model, kind, here)
    before, after = load_file(there / "model.safetensors"), load_file(here / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) and before[n].dtype == after[n].dtype for n in before)
    again, info = transformers.AutoModelForImageClassification.from_pretrained(here, output_loading_info=True)
    assert type(again) is type(oracle) and not any(info.values()), info
    assert torch.equal(again((x - 0.5) / 0.5).logits, expected)
    # the configuration comes back as it was, with our own key beside it
    one, two = (transformers.AutoConfig.from_pretrained(p).to_dict() for p in (there, here))
    own = ("nlpkit", "_name_or_path")
    assert {k: v for k, v in two.items() if k not in own} == {k: v for k, v in one.items() if k not in own}
    # and a second time it is the same to the byte
    (tmp_path / "twice").mkdir()
    folder.save(folder.open(here, dtype=None)[1], kind, tmp_path / "twice")
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        assert (here / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


@torch.no_grad()
def test_a_model_of_ours_opens_in_transformers_with_its_picture_processor(tmp_path):
    torch.manual_seed(0)
    model = vit.Model(vit.Config(in_channels=3, size=12, width=16, depth=2, heads=2, mean=(0.4, 0.5, 0.6),
                                 std=(0.2, 0.25, 0.3), labels=("cat", "dog"))).eval()  # fmt: skip
    folder.save(model, "vit", tmp_path)
    again, info = transformers.AutoModelForImageClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values()) and again.config.id2label == {0: "cat", 1: "dog"}
    # what the folder's processor makes of a picture of bytes is what our model makes of its pixels
    picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    prepare = transformers.models.vit.ViTImageProcessorPil.from_pretrained(tmp_path)
    given = prepare(picture, return_tensors="pt")["pixel_values"]
    ours = model(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255)
    assert (again(given).logits - ours).abs().max() < 1e-5
    assert folder.open(tmp_path)[1].config == model.config.__class__(**{**vars(model.config), "hidden": 64})


def test_leftover_and_missing_tensors_are_named(tmp_path):
    theirs(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"vit.pooler.dense.weight": torch.ones(2)}, path)
    with pytest.raises(ArtifactError, match=r"without a place in a vit.*vit\.pooler\.dense\.weight"):
        folder.open(tmp_path)
    gone = "vit.embeddings.cls_token"
    save_file({n: t for n, t in tensors.items() if n != gone}, path)
    with pytest.raises(ArtifactError, match=rf"missing: {gone}"):
        folder.open(tmp_path)
    save_file({n: t[..., :-1].clone() if n == gone else t for n, t in tensors.items()}, path)
    with pytest.raises(ArtifactError, match="has the shape"):
        folder.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", {"qkv_bias": False}, "qkv_bias"),
        ("config.json", {"model_type": "deit"}, "'deit' is not 'vit'"),
        ("config.json", {"patch_size": 5}, "do not divide"),
        ("config.json", {"hidden_act": "quick_gelu"}, "not supported"),
        ("config.json", {"num_hidden_layers": 10**9}, "tensors for 1000000000 layers"),
        ("config.json", {"id2label": {"0": "one"}}, "two labels or more"),
        ("preprocessor_config.json", {"rescale_factor": 1.0}, "scaled to"),
        ("preprocessor_config.json", {"image_std": ["wide"]}, "image_std"),
        ("preprocessor_config.json", {"image_mean": [0.1, 0.2]}, "one number, or one for each of 3"),
        ("preprocessor_config.json", {"image_std": [0.0]}, "above 0"),
    ],
)
def test_other_networks_are_refused_in_one_line(name, change, message, tmp_path):
    theirs(tmp_path)
    path = tmp_path / name
    values = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(values | change))
    with pytest.raises(ArtifactError, match=message) as error:
        folder.open(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"heads": 3}, "multiple"), ({"patch": 5}, "do not divide"), ({"labels": ("a",)}, "two labels")],
)
def test_impossible_sizes_are_usage_errors(values, message):
    with pytest.raises(UsageError, match=message):
        vit.Model(vit.Config(**values))

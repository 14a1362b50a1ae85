"""A vision transformer through the one trainer: it learns the digits, and its folder is one of transformers."""

import json

import pytest
import torch

from nlpkit import api
from nlpkit.core import folder
from nlpkit.data import images


def test_vit_learns_the_digits_and_its_folder_opens(tmp_path):
    small = ["train.threads=1", "train.eval_every=120", "train.lr=5e-3"]
    small += ["model.width=32", "model.depth=2", "model.patch=4", "model.dropout=0.0"]
    api.train("vit", "digits", tmp_path / "vit", steps=120, overrides=small)
    told = api.evaluate(tmp_path / "vit")
    assert told["part"] == "test" and told["accuracy"] > 0.6  # a guess is right once in ten
    kind, model = folder.open(tmp_path / "vit/model")
    config = json.loads((tmp_path / "vit/model/config.json").read_text())
    assert kind == "vit" and config["architectures"] == ["ViTForImageClassification"]
    assert (config["image_size"], config["patch_size"], config["num_channels"]) == (8, 4, 1)
    held = images.load("digits")["test"]
    with torch.inference_mode():
        best = model(torch.from_numpy(held.pixels)).argmax(1).numpy()
    assert (best == held.labels).mean() == pytest.approx(told["accuracy"])

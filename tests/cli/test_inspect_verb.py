"""``nlpkit inspect``: what it prints, what it draws, how it refuses."""

import base64
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from nlpkit import registry
from nlpkit.core import folder
from nlpkit.text.tokenizer import Tokenizer

TEXT = "the cat sat on a <MASK>"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A ModernBERT, a Llama and an image model, none of them trained."""
    place = tmp_path_factory.mktemp("models")
    tokenizer = Tokenizer.train(["the cat sat on the mat", "a list of items"] * 4, kind="bpe", vocab_size=290)
    sizes = {"vocab": tokenizer.vocab_size, "width": 16, "depth": 4, "heads": 2, "context": 24}
    for kind, values in (("mlm", sizes), ("clm", sizes), ("cnn", {"size": 8, "channels": (8, 16)})):
        torch.manual_seed(0)
        module = registry.module(kind)
        (place / kind).mkdir()
        folder.save(module.Model(module.Config(**values)), kind, place / kind)
        if kind != "cnn":
            tokenizer.export(place / kind)
    return place


def test_a_model_s_modules_and_sums(nlpkit, models):
    code, out, err = nlpkit("inspect", models / "mlm")
    assert code == 0 and not err
    assert re.search(r"encoder\.trunk\.blocks\.0-3\.attention\.q +16×16 +4 +1,024", out)
    assert "a pass of 24 tokens" in out and "shares the token embedding" in out and "position" not in out
    code, out, _ = nlpkit("inspect", models / "mlm", "--json")
    told = json.loads(out)
    assert sum(m["parameters"] for m in told["modules"]) == told["totals"]["parameters"]
    assert told["operations"]["training"] == 3 * told["operations"]["forward"]
    code, out, _ = nlpkit("inspect", models / "cnn")
    assert code == 0 and "stages.0.conv" in out and "of one image" in out


def test_a_text_s_tokens_and_one_head(nlpkit, models):
    code, out, err = nlpkit("inspect", models / "mlm", TEXT, "--layer", 1, "--head", 1)
    assert code == 0, err
    assert "[MASK]" in out and "Layer 1, head 1, sees 64 tokens to each side" in out
    for name in ("Q, queries, the first 7 of 8 columns", "K, keys", "V, values", "A, how much"):
        assert name in out
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = nlpkit(
        "inspect", models / "clm", "-", "--layer", 0, "--head", 0, "--json", stdin=b"the cat sat\n"
    )
    told = json.loads(out)
    weights, length = np.array(told["attention"]["a"]), len(told["text"]["ids"])
    assert told["text"]["text"] == "the cat sat" and told["text"]["positions"] == list(range(length))
    assert weights.shape == (length, length) and np.allclose(weights.sum(1), 1)
    assert (np.triu(weights, 1) == 0).all()
    assert np.array(told["attention"]["v"]).shape == (length, 8)


def test_maps_hold_the_weights(nlpkit, models, tmp_path):
    code, _, err = nlpkit("inspect", models / "mlm", TEXT, "--attention", tmp_path / "all.svg")
    assert code == 0 and "all heads" in err
    inside = ElementTree.fromstring((tmp_path / "all.svg").read_text())
    assert len(inside.findall("{http://www.w3.org/2000/svg}image")) == 4 * 2
    chosen = ["--layer", 3, "--head", 1]
    code, _, _ = nlpkit("inspect", models / "mlm", TEXT, *chosen, "--attention", tmp_path / "one.svg")
    words = (tmp_path / "one.svg").read_text()
    assert ElementTree.fromstring(words) is not None and "layer 3, head 1" in words and "[MASK]" in words
    html = tmp_path / "maps.html"
    code, out, _ = nlpkit("inspect", models / "mlm", TEXT, *chosen, "--attention", html, "--json")
    page = html.read_text()
    assert "http" not in page.replace("http://www.w3.org", "") and "src=" not in page
    data = json.loads(re.search(r"id=data>(.*?)</script>", page)[1])
    stored = np.frombuffer(base64.b64decode(data["weights"]), "<u2").reshape(4, 2, *2 * [len(data["tokens"])])
    told = json.loads(out)
    assert np.abs(stored[3, 1] / 65535 - np.array(told["attention"]["a"])).max() < 1e-5
    assert (data["layer"], data["head"], data["tokens"]) == (3, 1, told["text"]["pieces"])
    assert nlpkit("inspect", models / "mlm", TEXT, "--attention", html)[0] == 2  # it is there already
    assert nlpkit("inspect", models / "mlm", TEXT, "--attention", html, "--force")[0] == 0


def test_a_text_cannot_end_the_script(nlpkit, models, tmp_path):
    hostile = "</script><b>&"
    assert nlpkit("inspect", models / "clm", hostile, "--attention", tmp_path / "a.html")[0] == 0
    page = (tmp_path / "a.html").read_text()
    assert page.count("</script>") == 2 and "<b>" not in page
    assert nlpkit("inspect", models / "clm", hostile, "--attention", tmp_path / "a.svg")[0] == 0
    ElementTree.fromstring((tmp_path / "a.svg").read_text())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["mlm", "a", "--layer", "4", "--head", "0"], 2, "--layer 4: expected 0 to 3"),
        (["mlm", "a", "--layer", "0", "--head", "2"], 2, "--head 2: expected 0 to 1"),
        (["mlm", "a", "--layer", "0"], 2, "go together"),
        (["mlm", "--layer", "0", "--head", "0"], 2, "--layer needs a TEXT"),
        (["mlm", "--attention", "a.svg"], 2, "--attention needs a TEXT"),
        (["mlm", "a", "--attention", "a.png"], 2, ".svg or .html"),
        (["mlm", "a b " * 30], 3, "reads 24"),
        (["cnn", "a"], 4, "do not read text"),
        (["nothing"], 2, "nothing"),
    ],
)
def test_bad_questions_are_one_line(nlpkit, models, monkeypatch, words, code, said):
    monkeypatch.chdir(models)
    found, out, err = nlpkit("inspect", *words)
    assert (found, out) == (code, "") and said in err and err.count("\n") == 1, err

"""One recipe down the whole chain: its hash is in every manifest, and what another recipe made is refused."""

import json
import random
import shutil
from pathlib import Path

import pytest

from nlpkit import cli
from nlpkit.errors import ArtifactError
from nlpkit.search.analyze import STEPS
from nlpkit.store import manifest
from nlpkit.text.recipe import Recipe
from nlpkit.text.shards import TokenShard
from nlpkit.text.tokenizer import Tokenizer

ONE, OTHER = Recipe(("nfc", "lower", "collapse-space")), Recipe(("nfc", "collapse-space"))
SIZES = ["model.width=16", "model.depth=1", "model.heads=2", "data.context=16", "train.threads=1"]
SETS = [word for size in SIZES for word in ("-s", size)]


def made_with(folder):
    return manifest.read(folder).made_with


def done(*argv):
    assert cli.run([str(a) for a in argv]) == 0, argv


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Path:
    """``text.txt`` and, of each of two recipes: recipe, tokenizers, shard, vocabulary, vectors, run and indexes."""
    home = tmp_path_factory.mktemp("chain")
    draw = random.Random(0)
    words = ["Red", "blue", "Cat", "dog", "runs", "sleeps", "the"]
    text = home / "text.txt"
    text.write_text("\n\n".join(" ".join(draw.choices(words, k=12)) for _ in range(60)) + "\n")
    for name, recipe in (("one", ONE), ("other", OTHER)):
        made = home / name
        made.mkdir()
        recipe.save(made / "recipe.toml")
        given = ("--recipe", made / "recipe.toml", "-q")
        done("train-tokenizer", text, "-o", made / "bpe", "--kind", "bpe", "--vocab-size", 290, *given)
        done("tokenize", text, "--tokenizer", made / "bpe", "--format", "npy", "-o", made / "ids.npy")
        done("vectorize", text, "-o", made / "m.npz", *given)
        done("train-glove", text, "-o", made / "glove", "--size", 4, "--epochs", 1, "--min-count", 1, *given)
        run = ("--tokenizer", made / "bpe", "-o", made / "run", "--steps", 2, *SETS, "-q")
        done("pretrain", made / "ids.npy", "--objective", "mlm", *run)
        for model in ("glove", "run"):
            done("index", "build", text, "-o", made / f"by-{model}", "--model", made / model, "-q")
    return home


@pytest.mark.parametrize(("name", "recipe"), [("one", ONE), ("other", OTHER)])
def test_the_hash_is_in_every_manifest(chain, name, recipe):
    made = chain / name
    assert Recipe.load(made / "recipe.toml").hash == recipe.hash
    tokenizer = Tokenizer.load(made / "bpe")
    assert (
        not tokenizer.recipe and tokenizer.recipe_hash == recipe.hash
    )  # its steps are inside tokenizer.json
    for folder in ("bpe", "glove", "run", "run/model"):
        assert made_with(made / folder)["recipe"] == recipe.hash, folder
    assert Tokenizer.load(made / "run" / "model").recipe_hash == recipe.hash
    assert made_with(made / "run")["tokenizer"] == tokenizer.fingerprint
    assert TokenShard.open(made / "ids.npy").about["recipe"] == recipe.hash
    assert json.loads((made / "m.vocab.json").read_text())["recipe"] == recipe.hash
    for index in ("by-glove", "by-run"):
        assert made_with(made / index)["model_recipe"] == recipe.hash
        assert made_with(made / index)["recipe"] == Recipe(STEPS).hash  # that of BM25


def test_a_recipe_outside_of_tokenizer_json_too(chain, tmp_path):
    stems = Recipe((*ONE.steps, "stem:en"))
    stems.save(tmp_path / "stems.toml")
    argv = ("--kind", "word", "--vocab-size", 20, "--recipe", tmp_path / "stems.toml", "-q")
    done("train-tokenizer", chain / "text.txt", "-o", tmp_path / "word", *argv)
    assert (
        made_with(tmp_path / "word")["recipe"] == stems.hash == Tokenizer.load(tmp_path / "word").recipe.hash
    )
    # Sealed anew around another recipe, it is still not the one that it was made with.
    ONE.save(tmp_path / "word" / "standardize.toml")
    manifest.seal(tmp_path / "word", "tokenizer", made_with={"recipe": stems.hash})
    with pytest.raises(ArtifactError, match="not the one that it was made with"):
        Tokenizer.load(tmp_path / "word")


def refused(capfd, words, *argv):
    capfd.readouterr()
    code = cli.run([str(a) for a in argv])
    out, err = capfd.readouterr()
    assert (code, out, err.count("\n")) == (4, "", 1), (code, out, err)
    assert words in err and ";" in err, err


def test_what_another_recipe_made_is_refused(chain, tmp_path, capfd):
    one, other, text = chain / "one", chain / "other", chain / "text.txt"
    argv = ("--vocabulary", one / "m.vocab.json", "--recipe", other / "recipe.toml", "-o", tmp_path / "x.npz")
    refused(capfd, "made with another recipe", "vectorize", text, *argv)
    argv = ("--vocabulary", one / "m.vocab.json", "--tokenizer", one / "bpe", "-o", tmp_path / "x.npz")
    refused(capfd, "made with another tokenizer", "vectorize", text, *argv)
    argv = ("--tokenizer", other / "bpe", "-o", tmp_path / "run", "--steps", 1, *SETS, "-q")
    refused(capfd, "made with another recipe", "pretrain", one / "ids.npy", "--objective", "mlm", *argv)
    argv = ("--from", one / "run", *argv)
    refused(capfd, "is not the tokenizer of", "pretrain", text, "--objective", "mlm", *argv)


def moved(chain, tmp_path, index, model):
    """An index whose model was replaced by that of the other recipe."""
    for name in (index, model):
        shutil.copytree(chain / ("one" if name == index else "other") / name, tmp_path / name)
    return tmp_path / index


@pytest.mark.parametrize("model", ["glove", "run"])
def test_an_index_refuses_the_model_of_another_recipe(chain, tmp_path, capfd, model):
    index = moved(chain, tmp_path, f"by-{model}", model)
    refused(capfd, "another recipe", "search", index, "red cat", "--mode", "dense")
    (tmp_path / "more.jsonl").write_text('{"id": "new", "text": "a red dog"}\n')
    refused(capfd, "another recipe", "index", "add", index, tmp_path / "more.jsonl")
    assert cli.run(["search", str(index), "red cat", "--mode", "bm25"]) == 0  # needs no model


def test_a_model_refuses_another_tokenizer_in_its_folder(chain, tmp_path, capfd):
    shutil.copytree(chain / "one" / "run", tmp_path / "run")
    shutil.copyfile(chain / "other" / "bpe" / "tokenizer.json", tmp_path / "run" / "model" / "tokenizer.json")
    refused(capfd, "tokenizer.json", "embed", tmp_path / "run", chain / "text.txt")
    refused(capfd, "tokenizer.json", "fill-mask", tmp_path / "run", "the <MASK>")

"""What a name means, how a model folder is opened, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from nlpkit.core import folder as core_folder
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.inference.loading import find, fingerprint, load_model, resolve
from nlpkit.store import atomic, manifest


@pytest.fixture
def run(loaded: Any, tmp_path: Path) -> Path:
    """A finished run: a sealed model/ inside a folder."""
    held = loaded("classifier", labels=("no", "yes"))
    with atomic.building(tmp_path / "run" / "model") as made:
        core_folder.save(held.model, "classifier", made)
        held.tokenizer.export(made)
        manifest.seal(made, "model", made_with={"tokenizer": held.tokenizer.fingerprint})
    (tmp_path / "run" / "config.toml").write_text("")
    return tmp_path / "run"


def test_a_run_and_its_model_folder_are_the_same_model(run: Path, loaded: Any) -> None:
    one, other = load_model(run), load_model(run / "model")
    assert one.folder == other.folder == run / "model"
    assert one.kind == "classifier" and one.labels == ["no", "yes"] and not one.model.training
    assert one.fingerprint == other.fingerprint == manifest.read(run / "model").fingerprint
    ids = torch.tensor([[2, 9, 9, 3]])
    with torch.no_grad():
        assert torch.equal(one.model(ids), loaded("classifier", labels=("no", "yes")).model(ids))
    assert one.text.encode(["the cat"]) == loaded("mlm").tokenizer.encode(["the cat"])


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_damage_is_found_before_anything_is_parsed(
    run: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run / "model" / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    monkeypatch.setattr(core_folder, "load_file", lambda *a: pytest.fail("parsed a damaged folder"))
    with pytest.raises(ArtifactError, match=f"{name}: damaged"):
        load_model(run)


def test_a_run_that_is_not_finished_says_how_to_finish_it(run: Path) -> None:
    shutil.rmtree(run / "model")
    (run / "origin.json").write_text(json.dumps({"command": "nlpkit train classifier -o here"}))
    with pytest.raises(UsageError, match=r"no finished model yet.*nlpkit train classifier -o here"):
        load_model(run)


def test_what_is_not_there_lists_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with pytest.raises(UsageError) as caught:
        find("mini")
    for place in ("mini,", "runs/mini", str(tmp_path / "hf" / "hub" / "models--mini")):
        assert place in str(caught.value)
    with pytest.raises(UsageError, match=r"no model '\.\./x': looked for \.\./x"):
        find("../x")


def test_names_under_runs_and_in_the_cache(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    shutil.copytree(run, tmp_path / "runs" / "mini")
    assert resolve("mini") == Path("runs/mini/model")
    cached = tmp_path / "hub" / "models--org--mini"
    for commit in ("aaa", "bbb"):
        shutil.copytree(run / "model", cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("aaa")
    assert resolve("org/mini") == cached / "snapshots" / "aaa"


def test_other_folders_are_refused(tmp_path: Path, loaded: Any) -> None:
    loaded("mlm").tokenizer.save(tmp_path / "tok")
    with pytest.raises(ArtifactError, match="is tokenizer, not a model"):
        resolve(tmp_path / "tok")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="not a model folder"):
        resolve(tmp_path / "empty")
    with pytest.raises(UsageError, match="is a file"):
        resolve(__file__)
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        core = tmp_path / "m"
        core.mkdir()
        core_folder.save(loaded("mlm").model, "mlm", core)
        load_model(core, "gpu")


def test_a_foreign_folder_has_a_fingerprint_of_its_content(run: Path) -> None:
    folder = run / "model"
    (folder / manifest.NAME).unlink()
    before = fingerprint(folder)
    assert before == fingerprint(folder)
    (folder / "README.md").write_text("words")
    assert fingerprint(folder) == before
    (folder / "tokenizer_config.json").write_text("{}")
    assert fingerprint(folder) != before

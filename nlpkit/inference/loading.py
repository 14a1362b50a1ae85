"""From what a person names (a run, a model folder, a name in the local Hugging Face cache) to a model in memory.

Seals are compared with the bytes before any parser sees them. Nothing is ever fetched from a network.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nlpkit.errors import ArtifactError, UsageError
from nlpkit.store import manifest

if TYPE_CHECKING:
    from torch import nn

    from nlpkit.text.tokenizer import Tokenizer

# What a foreign folder's fingerprint is made of: all that changes what the model answers.
ESSENTIAL = ("*.json", "*.safetensors", "*.txt", "*.toml", "*.model", "1_Pooling/config.json")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for use, in eval mode and float32, with what belongs to it.

    ``kind`` is the registry's name (mlm, clm, classifier, …); ``tokenizer`` is None for image models;
    ``labels`` are a classifier's class names in the order of its outputs, else empty.
    """

    kind: str
    model: "nn.Module"
    tokenizer: "Tokenizer | None"
    folder: Path
    labels: list[str]

    @property
    def fingerprint(self) -> str:
        """One hash for the folder's content: its manifest's, or that of the files of a foreign folder."""
        return fingerprint(self.folder)

    @property
    def text(self) -> "Tokenizer":
        """The tokenizer, or a line that says that this model reads no text."""
        if self.tokenizer is None:
            raise ArtifactError(
                f"{self.folder}: has no tokenizer; {self.kind} models do not read text; name a text model"
            )
        return self.tokenizer

    def need(self, *kinds: str, verb: str) -> None:
        """A usage error unless the model is one of ``kinds``."""
        if self.kind not in kinds:
            raise UsageError(f"{self.folder}: is a {self.kind} model; {verb} needs {' or '.join(kinds)}")


def hub_cache() -> Path:
    """Where Hugging Face's libraries keep what they have fetched, by their own environment variables."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "huggingface" / "hub"


def _snapshot(name: str) -> tuple[Path, Path | None]:
    """(the cache folder of a hub name, its snapshot: that of ``main``, or the newest; None when it has none)."""
    home = hub_cache() / f"models--{name.replace('/', '--')}"
    reference = home / "refs" / "main"
    if reference.is_file():
        named = home / "snapshots" / reference.read_text().strip()
        if named.is_dir():
            return home, named
    held = sorted((home / "snapshots").glob("*"), key=lambda p: p.stat().st_mtime)
    return home, held[-1] if held else None


def find(name: str | Path) -> Path:
    """The folder that ``name`` means: a path, a run under ``runs/``, or a model in the local cache.

    Raises UsageError that lists where it was looked for.
    """
    text = str(name)
    path = Path(text)
    if path.is_dir():
        return path
    if path.exists():
        raise UsageError(f"{path}: is a file; a run or model folder is needed")
    looked = [text]
    plain = bool(text) and not path.is_absolute() and ".." not in path.parts
    if plain and len(path.parts) == 1:
        looked.append(f"runs/{text}")
        if (Path("runs") / text).is_dir():
            return Path("runs") / text
    if plain and len(path.parts) <= 2:
        home, snapshot = _snapshot(path.as_posix())
        if snapshot is not None:
            return snapshot
        looked.append(str(home))
    raise UsageError(
        f"no model {text!r}: looked for {', '.join(looked)} (nothing is fetched from the network)"
    )


def resolve(name: str | Path) -> Path:
    """The model folder that ``name`` means: of a run, its finished ``model/``.

    Raises UsageError when nothing is there or a run is not finished (with the command that finishes it), and
    ArtifactError when the folder is something else.
    """
    path = find(name)
    if (path / "model" / "config.json").is_file():
        return path / "model"
    if (path / "config.json").is_file():
        return path
    if (path / manifest.NAME).is_file() and (kind := manifest.read(path).kind) != "run":
        raise ArtifactError(f"{path}: is {kind}, not a model; name a run or a model folder")
    if (path / "config.toml").is_file() or (path / "origin.json").is_file():
        raise UsageError(f"{path}: the run has no finished model yet; finish it with: {_resume(path)}")
    raise ArtifactError(f"{path}: not a model folder (it has no config.json); name a run or a model folder")


def find_tokenizer(name: str | Path, start_from: str | Path) -> "Tokenizer | None":
    """The tokenizer that was named, or that of the model to start from; two that differ are refused."""
    from nlpkit.text.tokenizer import Tokenizer

    inherited = Tokenizer.load(resolve(start_from)) if start_from else None
    if not name:
        return inherited
    folder = find(name)
    inner = folder / "model"
    named = Tokenizer.load(inner if (inner / "tokenizer.json").is_file() else folder)
    if inherited is not None and inherited.fingerprint != named.fingerprint:
        raise ArtifactError(
            f"{name}: is not the tokenizer of {start_from}, whose vectors are of its own tokens; "
            "leave --tokenizer out, or start without --from"
        )
    return named


def _resume(run: Path) -> str:
    """The command that started a run; given again, it goes on from the last checkpoint."""
    try:
        command = json.loads((run / "origin.json").read_text(encoding="utf-8"))["command"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"nlpkit train … -o {run}"
    return command if isinstance(command, str) else " ".join(map(str, command))


def fingerprint(folder: Path) -> str:
    """The manifest's fingerprint, or one SHA-256 over names and content of a foreign folder's essential files."""
    if (folder / manifest.NAME).exists():
        return manifest.read(folder).fingerprint
    names = sorted({p for pattern in ESSENTIAL for p in folder.glob(pattern) if p.is_file()})
    listing = [[p.relative_to(folder).as_posix(), manifest.sha256(p)] for p in names]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def load_model(name: str | Path, device: str | None = None) -> LoadedModel:
    """The model of a run, a model folder or a name in the local Hugging Face cache, on the processor or a GPU.

    ``device`` is cpu (also when None), cuda, mps or auto. Raises UsageError (not there, not finished, no such
    device) and ArtifactError (damaged, not a model).
    """
    folder = resolve(name)
    from nlpkit.core.device import find as find_device
    from nlpkit.core.folder import open as open_model

    kind, model = open_model(folder)  # compares the seals with the bytes before it parses anything
    model.eval().to(find_device(device))
    tokenizer = None
    if (folder / "tokenizer.json").is_file():
        from nlpkit.text.tokenizer import Tokenizer

        tokenizer = Tokenizer.load(folder)
    elif kind in ("mlm", "clm", "classifier", "biencoder", "crossencoder"):
        raise ArtifactError(f"{folder}: has no tokenizer.json; a {kind} model cannot read text without it")
    labels = list(getattr(model.config, "labels", ()))
    return LoadedModel(kind, model, tokenizer, folder, labels)

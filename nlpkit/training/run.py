"""A run's folder: what was asked, what was decided, what happened, and the model.

``config.toml`` (resolved, re-runnable), ``origin.json`` (command, versions, seed, input hashes), ``metrics.jsonl`` and
``log.txt`` (a checksum a line), ``checkpoints/``, ``model/``, ``eval.json``, ``report.html``; ``MANIFEST.json`` when
the run is finished. One process at a time writes to it (``.lock``).
"""

import contextlib
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nlpkit import __version__, config, console
from nlpkit.errors import ArtifactError, NlpkitError, UsageError
from nlpkit.store import atomic, jsonfile, lines, manifest
from nlpkit.store.lock import locked

METRICS = "metrics.jsonl"
FLUSH_EVERY = 1.0  # seconds between writes of metrics lines


class Run:
    """An opened run; make one with :func:`opened`."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self._held: list[str] = []
        self._flushed = time.monotonic()

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        """The folder of the finished model."""
        return self.folder / "model"

    @property
    def finished(self) -> bool:
        """Whether the run was sealed."""
        return (self.folder / manifest.NAME).exists()

    @property
    def resolved(self) -> dict[str, Any] | None:
        """What config.toml says, or None before anything was decided."""
        path = self.folder / "config.toml"
        return config.read_toml(path) if path.exists() else None

    @property
    def config_hash(self) -> str:
        """SHA-256 of config.toml: what each checkpoint was made under."""
        return manifest.sha256(self.folder / "config.toml")

    @property
    def command(self) -> str:
        """The command that made the run; given again, it goes on."""
        return str(read_origin(self.folder)["command"])

    def decide(self, values: Mapping[str, Any]) -> None:
        """Write config.toml: all that was asked for and all that was decided."""
        atomic.write_bytes(self.folder / "config.toml", config.to_toml(values).encode())

    def made_with(self, **artefacts: str) -> dict[str, str]:
        """Fingerprints of the artefacts that the weights began at; those that are given are added to origin.json."""
        origin = read_origin(self.folder)
        known = {**origin.get("made_with", {}), **artefacts}
        if artefacts:
            self.write_json("origin.json", {**origin, "made_with": known})
        return known

    def metric(self, record: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl; written within a second, durable at the next checkpoint."""
        self._held.append(lines.pack_record(record))
        if time.monotonic() - self._flushed > FLUSH_EVERY:
            self.flush()

    def flush(self, *, durable: bool = False) -> None:
        """Write the metrics lines that are still held."""
        self._flushed = time.monotonic()
        if not self._held and not durable:
            return
        with open(self.folder / METRICS, "ab") as file:
            file.write("".join(line + "\n" for line in self._held).encode())
            self._held.clear()
            if durable:
                file.flush()
                os.fsync(file.fileno())

    def log(self, text: str) -> None:
        """Say something on stderr and keep it in log.txt."""
        console.note(text)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        lines.append(self.folder / "log.txt", lines.pack_text(f"{stamp} {' '.join(text.splitlines())}"))

    def back_to(self, step: int) -> None:
        """Drop the metrics of later steps and mend torn lines, so that each step is there once."""
        self.flush()
        for name in lines.LOGS:
            lines.mend(self.folder / name)
        path = self.folder / METRICS
        if not path.exists():
            return
        kept = [lines.pack_record(r) for r in lines.check(path) if r["step"] <= step]
        atomic.write_bytes(path, "".join(line + "\n" for line in kept).encode())

    def write_json(self, name: str, value: Any) -> None:
        """Replace a small JSON file of the run."""
        jsonfile.write(self.folder / name, value)

    def follow(self) -> "Run":
        """This run for a process that trains along: what the first process writes, it does not."""
        return _Followed(self.folder, self.kind)

    def seal(self, made_with: Mapping[str, str] | None = None) -> None:
        """Write the run's manifest: the run is finished."""
        self.flush(durable=True)
        manifest.seal(self.folder, "run", made_with=made_with, notes={"kind": self.kind}, leave=lines.LOGS)


class _Followed(Run):
    """A run that is only read."""

    def metric(self, record: Mapping[str, Any]) -> None:
        pass

    def flush(self, *, durable: bool = False) -> None:
        pass

    def log(self, text: str) -> None:
        pass

    def back_to(self, step: int) -> None:
        pass


def read_origin(folder: Path) -> dict[str, Any]:
    """origin.json of a run; ArtifactError when it cannot be read."""
    try:
        found = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
        return {"command": "", "requested": {}, "inputs": {}, **found}
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{folder}: not a run, or its origin.json is damaged ({error})") from error


@contextmanager
def opened(
    folder: str | Path,
    kind: str,
    requested: Mapping[str, Any],
    *,
    inputs: Iterable[str | Path] = (),
    defaults: Mapping[str, Any] | None = None,
    force: bool = False,
    lock_timeout: float = 2.0,
) -> Iterator[Run]:
    """The run at ``folder``, locked: a new one, or the one that is there when it was asked for in the same words.

    ``requested`` is the configuration as asked (before ``auto`` is decided); ``inputs`` are hashed and must not change
    between the parts of a run. ``defaults`` stand for keys that a run lacks because it is older than they are. Raises
    UsageError when the folder is something else or a run with another
    configuration (the first differing key is named), LockedError when it is being written.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; choose another -o")
    # A lock alone is what a killed start leaves; beside other files it may be an index's, which is no run.
    fresh = not folder.exists() or all(
        p.name == ".lock" or p.name.startswith(".origin.json.tmp-") for p in folder.iterdir()
    )
    if not fresh and not (folder / "origin.json").exists():
        raise UsageError(f"{folder}: exists and is not a run; choose another -o")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, lock_timeout):
        run = Run(folder, kind)
        try:
            if force and not fresh:
                _clear(folder)
            asked = _origin(kind, requested, inputs)
            if run.resolved is None and (folder / "origin.json").exists():
                # Nothing was decided yet. What was prepared is of use to the same request only.
                there = read_origin(folder)
                if any(there.get(k) != asked[k] for k in ("kind", "requested", "inputs")):
                    _clear(folder)
            if (folder / "origin.json").exists():
                _same(run, requested, asked["inputs"], defaults or {})
            else:
                run.write_json("origin.json", asked)
            yield run
        except (NlpkitError, OSError) as error:
            begun = run.checkpoints.is_dir() and any(run.checkpoints.iterdir())
            if fresh and (run.resolved is None or (isinstance(error, OSError) and not begun)):
                shutil.rmtree(folder)  # a request that came to nothing leaves nothing
            atomic.blame(error, folder)
            raise


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != ".lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _same(
    run: Run, requested: Mapping[str, Any], inputs: Mapping[str, str], defaults: Mapping[str, Any]
) -> None:
    """Check that a run that is there is the one that is asked for."""
    origin = read_origin(run.folder)
    if origin.get("kind") != run.kind:
        raise UsageError(
            f"{run.folder}: is a run of {origin.get('kind')}, not {run.kind}; choose another -o or --force"
        )
    asked = json.loads(json.dumps(requested))

    def whole(tables: Mapping[str, Any]) -> Any:
        filled = {k: {**v, **tables.get(k, {})} for k, v in defaults.items()}
        return json.loads(json.dumps({**tables, **filled}))

    differing = first_difference(whole(origin["requested"]), asked)
    resolved = run.resolved
    if differing and (resolved is None or first_difference(whole(resolved), asked)):
        name, there, here = differing
        raise UsageError(
            f"{run.folder}: is a run with {name} = {there!r}, asked for is {here!r}; choose another -o, or start "
            "over with --force"
        )
    if not run.finished:
        for name, digest in inputs.items():
            if name in origin["inputs"] and origin["inputs"][name] != digest:
                raise ArtifactError(
                    f"{name}: has changed since the run {run.folder} began; put it back, or start over with --force"
                )


def first_difference(a: Any, b: Any, at: str = "") -> tuple[str, Any, Any] | None:
    """(key, value in a, value in b) of the first place where nested plain values differ.

    >>> first_difference({"train": {"lr": 1}}, {"train": {"lr": 2}})
    ('train.lr', 1, 2)
    """
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            found = first_difference(a.get(key), b.get(key), f"{at}.{key}" if at else str(key))
            if found:
                return found
        return None
    return None if a == b else (at, a, b)


def hashes(inputs: Iterable[str | Path]) -> dict[str, str]:
    """SHA-256 of each input file; of a folder, one over the names and hashes of its files."""
    found: dict[str, str] = {}
    for item in inputs:
        path = Path(item)
        if path.is_file():
            found[str(item)] = manifest.sha256(path)
        elif path.is_dir():
            digest = hashlib.sha256()
            for inner in sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")):
                digest.update(f"{inner.relative_to(path).as_posix()} {manifest.sha256(inner)}\n".encode())
            found[str(item)] = digest.hexdigest()
    return found


def _origin(kind: str, requested: Mapping[str, Any], inputs: Iterable[str | Path]) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {"nlpkit": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "tokenizers", "safetensors"):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    name = Path(sys.argv[0]).name
    command = shlex.join(["nlpkit" if name in ("nlpkit", "__main__.py") else name, *sys.argv[1:]])
    return {
        "kind": kind,
        "command": command,
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": versions,
        "git": _commit(),
        "seed": requested.get("train", {}).get("seed", 0),
        "inputs": hashes(inputs),
        "requested": json.loads(json.dumps(requested)),
    }


def _commit() -> str:
    """The commit of the repository around the working folder, or nothing."""
    try:
        told = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, checksums compared; a torn last line of a running or killed writer is left out."""
    path = folder / METRICS
    if not path.exists():
        return []
    try:
        return lines.check(path)
    except ArtifactError:
        *whole, torn = path.read_bytes().split(b"\n")
        if not torn:
            raise
        try:
            return [lines.unpack_record(line.decode()) for line in whole]
        except ValueError as error:
            raise ArtifactError(f"{path}: damaged line (checksum differs)") from error

"""SHA-256 of files that have not changed since it was last computed, remembered in the user's cache folder.

A search that takes a third of a second must not hash ninety megabytes of weights to learn that they are what they
were. A hash is remembered with the file's device, inode, size and times of change (mtime and ctime in nanoseconds, of
which the second cannot be set by a program) and given out while all of them are the same, as git does with its index;
a file that was changed within the last two seconds is not remembered, since it could change again within the same
tick. What is remembered can be thrown away at any time.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from nlpkit.errors import ArtifactError
from nlpkit.inference.loading import ESSENTIAL
from nlpkit.store import manifest

MOST = 512  # files that are remembered
SETTLED = 2.0  # seconds since its last change after which a file's times can be trusted


def _place() -> Path:
    """``$XDG_CACHE_HOME/nlpkit/known-files.json``."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "nlpkit" / "known-files.json"


class Known:
    """What is remembered; read once, written by :meth:`keep` where something was added. Never fails."""

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}
        self._new = False
        try:
            held = json.loads(_place().read_bytes())
            self._held = held if isinstance(held, dict) else {}
        except (OSError, ValueError):
            pass

    def sha256(self, path: Path) -> str:
        """The SHA-256 of a file, in hexadecimal: remembered, or computed."""
        told = path.stat()
        stamp = [told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns]
        name = str(path.resolve())
        held = self._held.get(name)
        if isinstance(held, list) and held[:-1] == stamp and isinstance(held[-1], str):
            return held[-1]
        digest = manifest.sha256(path)
        if time.time() - max(told.st_mtime, told.st_ctime) > SETTLED:
            self.remember(name, [*stamp, digest])
        return digest

    def get(self, name: str) -> Any:
        """What :meth:`remember` was given, or None."""
        return self._held.get(name)

    def remember(self, name: str, value: Any) -> None:
        """Keep a value that follows from what its name says."""
        self._held.pop(name, None)
        self._held[name] = value
        self._new = True

    def keep(self) -> None:
        """Write what was added; the oldest go first. A cache that cannot be written is no error."""
        if not self._new:
            return
        place = _place()
        text = json.dumps(dict(list(self._held.items())[-MOST:]))
        beside = place.with_name(f"{place.name}.{os.getpid()}")
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside.write_text(text)
            os.replace(beside, place)
            self._new = False
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink()


def fingerprint(folder: Path, known: Known | None = None) -> str:
    """The same as :func:`nlpkit.inference.loading.fingerprint`, without hashing again what has not changed."""
    if (folder / manifest.NAME).exists():
        return manifest.read(folder).fingerprint
    mine = known or Known()
    names = sorted({p for pattern in ESSENTIAL for p in folder.glob(pattern) if p.is_file()})
    listing = [[p.relative_to(folder).as_posix(), mine.sha256(p)] for p in names]
    if known is None:
        mine.keep()
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def check(folder: Path, known: Known) -> None:
    """Compare the seals of a model folder, or of the run around it, with the files; hashes may be remembered ones.

    For readers that check every bound themselves. Raises ArtifactError as :func:`nlpkit.store.manifest.check_file`.
    """
    home, prefix = folder, ""
    if not (folder / manifest.NAME).exists():
        home = folder.resolve().parent
        prefix = folder.resolve().name + "/"
        if not (home / manifest.NAME).exists():
            return
    sealed = manifest.read(home)
    for name, (size, digest) in sealed.files.items():
        if not name.startswith(prefix):
            continue
        path = home / name
        if not path.is_file() or path.stat().st_size != size or known.sha256(path) != digest:
            manifest.check_file(home, sealed, name)
            raise ArtifactError(f"{path}: changed while it was read; {manifest.remedy(home)}")

"""One writer at a time: ``flock`` on a ``.lock`` file that says who holds it."""

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nlpkit.errors import LockedError


@contextmanager
def locked(folder: str | Path, timeout: float = 10.0) -> Iterator[None]:
    """Hold the writer's lock of a folder; :class:`~nlpkit.errors.LockedError` after ``timeout`` seconds.

    The kernel lets go when the process ends, however it ends, so a stale lock cannot exist.
    """
    path = Path(folder) / ".lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise LockedError(f"{folder}: {_holder(path)}; wait for it to end") from None
                time.sleep(0.05)
        note = {"pid": os.getpid(), "command": " ".join(sys.argv)[:200], "since": time.strftime("%H:%M:%S")}
        with suppress(OSError):  # on a full disk the lock holds without its note
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(note).encode(), 0)
        try:
            yield
        finally:  # a lock that nobody holds says nothing
            with suppress(OSError):
                os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _holder(path: Path) -> str:
    try:
        note = json.loads(path.read_text())
        return f"process {note['pid']} ({note['command']}, since {note['since']}) is writing to it"
    except (ValueError, KeyError, OSError):
        return "another process is writing to it"

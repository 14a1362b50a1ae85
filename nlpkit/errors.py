"""What can go wrong, each with the exit code that the command line documents.

A message says what was found, where, and what to do, in one line.
"""

import difflib
import errno
import os
import shutil
from collections.abc import Iterable


class NlpkitError(Exception):
    """A failure that a person can act on; the parent of all that nlpkit raises on purpose."""

    exit_code = 1


class NotFound(NlpkitError):
    """What was asked for is not there, such as a word that has no vector (exit 1)."""

    exit_code = 1


class UsageError(NlpkitError):
    """An unknown option, key, model or missing file (exit 2)."""

    exit_code = 2


class NothingToRead(UsageError):
    """No input was named and standard input is a terminal: the verb's help is shown (exit 2)."""


class DataError(NlpkitError):
    """Input that cannot be used: empty where something is needed, malformed, not text (exit 3)."""

    exit_code = 3


class ArtifactError(NlpkitError):
    """A corrupt, unsafe or mismatched tokenizer, vector file, run or index (exit 4)."""

    exit_code = 4


class LockedError(NlpkitError):
    """Another process writes to the same artefact (exit 5)."""

    exit_code = 5


class DiskError(NlpkitError):
    """A full disk, a read-only folder, or another refusal to write (exit 6)."""

    exit_code = 6


class OutOfMemory(NlpkitError):
    """Memory ran out, or a stated limit would have been passed (exit 7)."""

    exit_code = 7


class DivergedError(NlpkitError):
    """A loss or gradient that is not finite (exit 8)."""

    exit_code = 8


class Interrupted(NlpkitError):
    """A signal stopped the work after it was made safe (exit 128 + signal)."""

    def __init__(self, signal_number: int, message: str = "") -> None:
        super().__init__(message or "interrupted")
        self.exit_code = 128 + signal_number


DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO})


def from_os_error(error: OSError) -> NlpkitError:
    """The error of ours that says what an ``OSError`` means to a person."""
    path = error.filename2 or error.filename
    where = f"{path}: " if path else ""
    reason = (error.strerror or str(error)).lower()
    if error.errno in DISK_ERRNOS:
        if error.errno == errno.ENOSPC:
            reason += _free(path)
        return DiskError(f"{where}{reason}; free some space or choose another place with -o")
    if isinstance(error, PermissionError):
        return DiskError(f"{where}{reason}; choose another place or change its permissions")
    if isinstance(error, FileNotFoundError):
        return UsageError(f"{where}no such file or folder; check the path")
    if isinstance(error, IsADirectoryError):
        return UsageError(f"{where}is a folder where a file is needed; name a file")
    if isinstance(error, NotADirectoryError):
        return UsageError(f"{where}is a file where a folder is needed; name a folder")
    if isinstance(error, FileExistsError):
        return UsageError(f"{where}exists already; choose another name or pass --force")
    if error.errno == errno.ENOMEM:
        return OutOfMemory(f"{where}{reason}")
    return NlpkitError(f"{where}{reason}")


def _free(path: object) -> str:
    """`` (… MB free)`` on the disk of ``path`` or of the nearest folder above it that is there."""
    place = os.path.abspath(path) if isinstance(path, str | bytes | os.PathLike) else os.getcwd()
    while not os.path.exists(place):
        place = os.path.dirname(place)
    try:
        return f" ({shutil.disk_usage(place).free / 1e6:,.1f} MB free)"
    except OSError:
        return ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'depth'?"``, or the known words when nothing is near.

    >>> did_you_mean("dept", ["depth", "width"])
    "; did you mean 'depth'?"
    """
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""

"""Files and folders that appear whole or not at all.

Write to a temporary name beside the target, flush, fsync, rename, fsync the folder. A crash leaves the old
version or the new one, and at worst a ``*.tmp-PID`` that the next writer of the same name removes.
"""

import ctypes
import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nlpkit.errors import UsageError

REFUSED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def blame(error: BaseException, path: Path) -> None:
    """Give a refusal to write the name of what was being written, which the kernel's own error has not.

    numpy tells a short write without an error number, and safetensors tells the number in words.
    """
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, OSError) and number is None and " requested and " in str(error):
        number = errno.ENOSPC
    elif type(error).__name__ == "SafetensorError" and (told := re.search(r"os error (\d+)", str(error))):
        number = int(told[1])
    if number in REFUSED and getattr(error, "filename", None) is None:
        raise OSError(number, os.strerror(number), str(path)) from error


@contextmanager
def writing(path: str | Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Open a file that takes its final name only when the block ends well; its folder is made where there is none.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with writing(target, "w", encoding="utf-8") as f:
    ...     _ = f.write("whole")
    >>> target.read_text()
    'whole'
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(path))
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is a device or a pipe; redirect standard output to it instead")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with open(temporary, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        blame(error, path)
        raise


def write_bytes(path: str | Path, data: bytes) -> None:
    """Replace a small file in one step."""
    with writing(path) as file:
        file.write(data)


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below ``folder`` to the disk, its files as readable as the folder is.

    Some libraries (safetensors) make files that only their owner can read, whatever the umask says.
    """
    mode = folder.stat().st_mode & 0o666
    for root, _, files in os.walk(folder):
        for name in files:
            handle = os.open(Path(root) / name, os.O_RDONLY)
            try:
                os.fchmod(handle, mode)
                os.fsync(handle)
            finally:
                os.close(handle)
        fsync_folder(Path(root))


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names in one step where the kernel can (Linux renameat2); False where it cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0)


def place_folder(temporary: Path, target: Path) -> None:
    """Give a finished folder its final name, replacing an older folder of that name."""
    if target.exists():
        if not _exchange(temporary, target):
            old = target.with_name(f".{target.name}.old-{os.getpid()}")
            os.rename(target, old)
            os.rename(temporary, target)
            temporary = old
        fsync_folder(target.parent)
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        os.rename(temporary, target)
        fsync_folder(target.parent)


def refuse_existing(target: str | Path, force: bool = False) -> Path:
    """``target`` as a path, after checking that nothing would be overwritten unasked."""
    path = Path(target)
    if not force and (path.exists() or path.is_symlink()):
        raise UsageError(f"{path}: exists already; choose another -o or pass --force to replace it")
    return path


@contextmanager
def building(target: str | Path, *, force: bool = False) -> Iterator[Path]:
    """A fresh folder that becomes ``target`` when the block ends well and is removed when it does not.

    Seal it (:func:`nlpkit.store.manifest.seal`) as the last act of the block.
    """
    path = refuse_existing(target, force)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    temporary.mkdir()
    try:
        yield temporary
        sync_tree(temporary)
        place_folder(temporary, path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        blame(error, path)
        raise


def sweep(path: Path) -> None:
    """Remove what a killed writer of ``path`` left beside it (temporary names of processes that are gone)."""
    for left in path.parent.glob(f".{path.name}.tmp-*"):
        pid = left.name.rpartition("-")[2]
        if pid.isdigit() and int(pid) != os.getpid() and _alive(int(pid)):
            continue
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""Files appear whole or not at all; folders replace one another in one step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nlpkit.errors import LockedError, UsageError
from nlpkit.store import atomic, lock


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    atomic.write_bytes(target, b"old")
    with pytest.raises(RuntimeError), atomic.writing(target) as file:
        file.write(b"half of the new")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_is_replaced_only_when_it_is_finished(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "x"
    with atomic.building(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    with pytest.raises(UsageError, match="--force"), atomic.building(target):
        pass
    with pytest.raises(RuntimeError), atomic.building(target, force=True) as folder:
        (folder / "a").write_text("2")
        raise RuntimeError
    assert (target / "a").read_text() == "1"
    with atomic.building(target, force=True) as folder:
        (folder / "a").write_text("2")
    assert (target / "a").read_text() == "2"
    assert os.listdir(target.parent) == ["x"]


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    left = tmp_path / f".x.tmp-{int(gone.stdout)}"
    left.mkdir()
    mine = tmp_path / ".x.tmp-1"
    mine.mkdir()
    atomic.sweep(tmp_path / "x")
    assert not left.exists()
    assert mine.exists()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom nlpkit.store.lock import locked\n"
        "with locked(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"process {other.pid}"), lock.locked(tmp_path, timeout=0.1):
            pass
        other.stdin.close()
        other.wait()
    with lock.locked(tmp_path, timeout=0.1):
        pass
    assert (tmp_path / ".lock").stat().st_size == 0


def test_what_a_library_made_private_is_shared_as_the_folder_is(tmp_path: Path) -> None:
    with atomic.building(tmp_path / "made") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "weights").write_bytes(b"x")
        (folder / "inner" / "weights").chmod(0o600)
    wanted = (tmp_path / "made").stat().st_mode & 0o666
    assert (tmp_path / "made" / "inner" / "weights").stat().st_mode & 0o777 == wanted


def test_a_pipe_is_no_file_to_replace(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="device or a pipe"):
        atomic.write_bytes(tmp_path / "pipe", b"x")
    atomic.write_bytes(tmp_path / "new" / "deep" / "file", b"x")
    assert (tmp_path / "new" / "deep" / "file").read_bytes() == b"x"

"""The shell around the verbs: one-line errors, exit codes, pipes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nlpkit import cli, errors


def nlpkit(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nlpkit", *words], capture_output=True, text=True, timeout=120, **options
    )  # type: ignore[call-overload, no-any-return]


def test_version_and_help() -> None:
    from nlpkit import __version__

    assert nlpkit("--version").stdout == f"nlpkit {__version__}\n"
    shown = nlpkit("--help")
    assert shown.returncode == 0
    for verb in cli.VERBS:
        assert f"\n  {verb} " in shown.stdout


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    shown = nlpkit(verb, "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"Usage: nlpkit {verb}" in shown.stdout
    assert "\x1b" not in shown.stdout
    module = __import__(f"nlpkit.cli.{cli.VERBS[verb][0]}", fromlist=["x"])
    if not hasattr(module, "app"):
        assert "Example:" in shown.stdout, verb


def test_unknown_words_are_one_line_and_exit_2(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["serch"]) == 2
    assert capfd.readouterr().err == "nlpkit: no verb 'serch'; did you mean 'search'?\n"
    assert cli.run(["search", "--moed", "x"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "--moed" in said


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (errors.DataError("x"), 3),
        (errors.ArtifactError("x"), 4),
        (errors.LockedError("x"), 5),
        (OSError(errno.ENOSPC, "No space left on device", "f"), 6),
        (OSError(errno.EROFS, "Read-only file system", "f"), 6),
        (PermissionError(errno.EACCES, "Permission denied", "f"), 6),
        (MemoryError(), 7),
        (errors.DivergedError("x"), 8),
        (errors.Interrupted(15), 143),
        (FileNotFoundError(errno.ENOENT, "No such file", "f"), 2),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "f"), 2),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("x"), 1),
    ],
)
def test_failures_have_their_exit_code(
    failure: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        raise failure

    monkeypatch.setattr(cli, "invoke", fail)
    assert cli.run([]) == code
    assert capfd.readouterr().err.count("\n") == (0 if isinstance(failure, KeyboardInterrupt) else 1)


def test_a_broken_pipe_ends_silently(tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("some words here\n" * 200_000)
    with subprocess.Popen(
        [sys.executable, "-m", "nlpkit", "standardize", str(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"some words here\n"
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""


def test_a_full_disk_is_exit_6(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    text = tmp_path / "t.txt"
    text.write_text("some words here\n" * 20_000)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nlpkit", "standardize", str(text)], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 6
    assert done.stderr.count(b"\n") == 1

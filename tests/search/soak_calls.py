"""Every n-th system call of every command that changes an index is made to fail."""

import errno
import os
import random
import shutil
from pathlib import Path

from faults import Tally, child, ended, jsonl, text, word_vectors, wrong_or_broken
from system_calls import FAIL, OPEN, REMOVE, RENAME, SHORT, SYNC, WRITE, preloaded

from nlpkit.cli import run as nlpkit


def failing(folder: Path, seed: int, limit: int, tally: Tally) -> None:
    """The n-th write, fsync, rename, open or removal fails, for every n that a command needs (or ``limit`` of them)."""
    shim = preloaded()
    if shim is None:
        tally.fail("there is no C compiler, so no system call can be made to fail")
        return
    luck = random.Random(seed)
    vectors = word_vectors(folder)
    old = {f"o{i}": text(f"o{i}", 1) for i in range(80)}
    few, new = ({f"n{i}": text(f"n{i}", 1) for i in range(count)} for count in (3, 300))
    changed = {f"o{i}": text(f"o{i}", 2) for i in range(10)}
    less = {n: t for n, t in old.items() if n not in ("o1", "o2")}
    later = {"later": text("later", 1)}
    made = {
        "old": old,
        "new": new,
        "few": few,
        "changed": changed,
        "later": later,
        "gone": {"gone": text("gone", 1)},
    }
    files = {name: str(jsonl(folder / f"{name}.jsonl", state)) for name, state in made.items()}
    whole, index, model = (
        str(folder / "kept" / "whole"),
        str(folder / "work" / "index"),
        ["--model", str(vectors)],
    )
    for command in (
        ["build", files["old"], "-o", whole, *model],
        ["add", whole, files["gone"]],
        ["delete", whole, "gone"],
    ):
        assert nlpkit(["index", *command, "--quiet"]) == 0
    commands: dict[str, tuple[list[str], dict[str, str]]] = {
        "add": (["add", index, files["few"]], old | few),
        "add many": (["add", index, files["new"]], old | new),
        "update": (["update", index, files["changed"]], old | changed),
        "delete": (["delete", index, "o1", "o2"], less),
        "compact": (["compact", index], old),
        "rebuild": (["rebuild", index], old),
        "build over": (["build", files["few"], "-o", index, *model, "--force"], few),
    }
    kinds = {"write": WRITE, "fsync": SYNC, "rename": RENAME, "open": OPEN, "unlink": REMOVE}
    ways = {
        "EIO": (FAIL, errno.EIO, 0),
        "ENOSPC": (FAIL, errno.ENOSPC, 0),
        "full from then on": (FAIL, errno.ENOSPC, 1),
    }
    for name, (command, result) in commands.items():
        command = ["index", *command, "--quiet"]
        for what, mask in kinds.items():
            code, needed = _faulted(command, (0, mask, FAIL, 0, 0), folder, tally)
            if code or not needed:
                tally.fail(f"{name} without a fault: exit {code}, {needed} {what}: {tally.log.read_text()}")
            for how, armed in (ways | {"short": (SHORT, 0, 0)} if what == "write" else ways).items():
                numbers = list(range(1, needed + 1))
                if limit and len(numbers) > limit:
                    numbers = sorted(luck.sample(numbers, limit))
                for n in numbers:
                    where = f"{name}, {what} {n} of {needed}: {how}"
                    code, seen = _faulted(command, (n, mask, *armed), folder, tally)
                    if seen >= n and len(tally.failures) < 50:
                        _judge(where, code, old, result, files["later"], folder, tally)


def _faulted(
    command: list[str], armed: tuple[int, int, int, int, int], folder: Path, tally: Tally
) -> tuple[int, int]:
    """Run a command on a copy of the index with one fault; its exit code, and how many calls it made."""
    shim, calls, work = preloaded(), folder / "calls", folder / "work"
    assert shim is not None
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder / "kept" / "whole", work / "index")  # as deep: the path of its model is relative

    def run() -> int:
        shim.fault_arm(*armed, os.fsencode(work))
        code = nlpkit(command)
        told = shim.fault_seen()
        shim.fault_arm(0, 0, 0, 0, 0, b"/")
        calls.write_text(str(told))
        return code

    calls.write_text("0")
    with child(tally.log, run) as pid:
        code = ended(pid)
    return code, int(calls.read_text())


def _judge(
    where: str, code: int, old: dict[str, str], result: dict[str, str], later: str, folder: Path, tally: Tally
) -> None:
    """Whether the index is whole after a fault, old or new as the exit code says, and can be written again."""
    path, said = folder / "work" / "index", tally.log.read_text()
    tally.count("faults")
    tally.count("told by exit 1 or 6" if code else "survived")
    if code not in (0, 1, 6) or "fault of nlpkit's own" in said or "Traceback" in said:
        tally.fail(f"{where}: exit {code}: {said[-500:]}")
    elif code and said.count("\n") != 1:
        tally.fail(f"{where}: not one line: {said[-500:]}")
    texts = result
    problem = wrong_or_broken(path, texts, sample=10)
    if problem and code:
        texts = old
        before = wrong_or_broken(path, texts, sample=10)
        problem = f"neither new ({problem}) nor old ({before})" if before else ""
    if problem:
        tally.fail(f"{where}: exit {code}: {problem}")
        return
    with child(tally.log, lambda: nlpkit(["index", "add", str(path), later, "--quiet"])) as pid:
        code = ended(pid)
    if code:
        tally.fail(f"{where}: the next addition: exit {code}: {tally.log.read_text()[-500:]}")
    elif problem := wrong_or_broken(path, texts | {"later": text("later", 1)}, sample=10):
        tally.fail(f"{where}: after the next addition: {problem}")
    litter = [
        p.name for p in path.rglob("*") if "tmp" in p.name or p.name.endswith(("-wal", "-shm", "-journal"))
    ]
    if litter:
        tally.fail(f"{where}: left in the index: {litter}")

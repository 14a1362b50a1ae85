"""SIGKILL at random moments of building and changing an index, by the clock and at system calls."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults import Tally, child, document, ended, text, token, word_vectors, wrong_or_broken
from system_calls import KILL, OPEN, REMOVE, RENAME, SYNC, TORN, WRITE, preloaded

from nlpkit.search.index import Index

State = dict[str, tuple[str, int]]  # id -> (text, version)


class Script:
    """Changes to an index, drawn from a seed, and what each of them should lead to."""

    def __init__(self, luck: random.Random) -> None:
        self.luck, self.version, self.born = luck, 0, 0
        self.state: State = {}
        self.gone: list[str] = []

    def texts(self) -> dict[str, str]:
        """The documents that should be there."""
        return {name: words for name, (words, _) in self.state.items()}

    def fresh(self, count: int) -> State:
        """New documents."""
        self.version += 1
        names = [f"d{self.born + i}" for i in range(count)]
        self.born += count
        return {name: (text(name, self.version), self.version) for name in names}

    def draw(self) -> tuple[str, Any, State]:
        """(operation, its argument, the state that it leads to)."""
        kind = self.luck.choices(["add", "update", "delete", "compact", "rebuild"], [6, 3, 3, 2, 1])[0]
        after = dict(self.state)
        if kind == "add":
            new = self.fresh(self.luck.choice([1, 1, 2, 5, 40, 300]))
            return kind, new, after | new
        if kind in ("update", "delete") and len(self.state) < 20:
            return self.draw()
        if kind == "update":
            self.version += 1
            names = self.luck.sample(sorted(self.state), self.luck.choice([1, 3, 10]))
            new = {name: (text(name, self.version), self.version) for name in names}
            return kind, new, after | new
        if kind == "delete":
            names = self.luck.sample(sorted(self.state), self.luck.choice([1, 2, 10]))
            return kind, names, {n: d for n, d in after.items() if n not in set(names)}
        return kind, None, after

    def accept(self, after: State) -> None:
        """Go on from ``after``; remember the words of what it no longer holds."""
        for name, (_, version) in self.state.items():
            if name not in after or after[name][1] != version:
                self.gone.append(token(name, version))
        self.state = after


def change(path: Path, kind: str, argument: Any) -> None:
    """Do one operation of a script."""
    with Index.open(path, writable=True) as index:
        if kind in ("add", "update"):
            documents = (document(name, version) for name, (_, version) in argument.items())
            index.add(documents, update=kind == "update")
        elif kind == "delete":
            index.delete(argument)
        else:
            index.compact(rebuild=kind == "rebuild")


def kills(count: int, folder: Path, seed: int, tally: Tally) -> None:
    """SIGKILL while an index is built or changed: all that was acknowledged is there, all else is whole or absent."""
    shim, vectors = preloaded(), word_vectors(folder)
    luck = random.Random(seed)
    path, acknowledged = folder / "work" / "index", folder / "acknowledged"
    path.parent.mkdir()
    script = Script(luck)
    script.accept(script.fresh(120))
    Index.build([document(n, v) for n, (_, v) in script.state.items()], path, encoder_path=vectors).close()
    usual: dict[str, float] = {}  # seconds of an operation
    calls: dict[str, int] = {}  # system calls of an operation
    while tally.counts.get("kills", 0) < count and len(tally.failures) < 20:
        step = f"seed {seed}, kill {tally.counts.get('kills', 0)}"
        if luck.random() < 0.12:
            _kill_a_build(script, path, vectors, folder, luck, shim, usual, calls, tally, step)
            continue
        state = script.state
        plan: list[tuple[str, Any, State]] = []
        for _ in range(luck.choice([1, 2, 4])):
            drawn = script.draw()
            plan.append(drawn)
            script.state = drawn[2]
        script.state = state
        acknowledged.write_bytes(b"")
        log = os.open(acknowledged, os.O_WRONLY | os.O_APPEND)
        kind = "+".join(k for k, _, _ in plan)

        def work(plan: list = plan, log: int = log) -> int:
            for operation, argument, _ in plan:
                change(path, operation, argument)
                os.write(log, b"x")
            return 0

        killed = _run_and_kill(work, kind, folder, luck, shim, usual, calls, tally)
        os.close(log)
        done = len(acknowledged.read_bytes())
        states = [state, *(after for _, _, after in plan)][done : done + 2]
        script.state = state
        if killed is None:
            tally.fail(f"{step}: {kind} failed by itself: {tally.log.read_text()[-800:]}")
            return
        tally.count("kills" if killed else "runs to the end")
        if done:
            for _, _, after in plan[:done]:
                script.accept(after)
        problem = wrong_or_broken(path, script.texts(), script.gone[-60:])
        if problem and len(states) == 2:  # what was under way may be there, but only all of it
            script.accept(states[1])
            other = wrong_or_broken(path, script.texts(), script.gone[-60:])
            problem = f"neither before ({problem}) nor after ({other}) what was under way" if other else ""
            tally.count("of them with what was under way", int(not other))
        if problem:
            tally.fail(f"{step}: {kind}, {done} acknowledged: {problem[:800]}")
            return
    if not tally.failures:
        with Index.open(path, writable=True):
            pass
        if problem := wrong_or_broken(path, script.texts()):
            tally.fail(f"after the last: {problem}")
        texts = {n: t for n, (t, _) in script.fresh(5).items()}
        Index.build(
            [document(n, script.version) for n in texts], path, encoder_path=vectors, force=True
        ).close()
        if problem := wrong_or_broken(path, texts):
            tally.fail(f"built over: {problem}")
        if left := [p.name for p in path.parent.iterdir() if p != path]:
            tally.fail(f"left beside the index: {left}")
    tally.count("documents in the end", len(script.state))


def _run_and_kill(
    work: Callable[[], int],
    kind: str,
    root: Path,
    luck: random.Random,
    shim: Any,
    usual: dict[str, float],
    calls: dict[str, int],
    tally: Tally,
) -> bool | None:
    """Do ``work`` in a child and kill it at a moment; whether it was killed, or None when it failed before that."""
    seen = root / "calls"
    at = luck.random() if kind in usual else 2.0  # the first of a kind is measured
    how = luck.choice([KILL, KILL, TORN]) if shim is not None and luck.random() < 0.5 else None
    if at <= 1 and how is not None:
        number = 1 + int(at * calls[kind])
    else:
        number = 0

    def armed() -> int:
        if shim is not None:
            every = WRITE | SYNC | RENAME | OPEN | REMOVE
            shim.fault_arm(number, every, how or KILL, 0, 0, os.fsencode(root / "work"))
        code = work()
        if shim is not None:
            told = shim.fault_seen()
            shim.fault_arm(0, 0, 0, 0, 0, b"/")
            seen.write_text(str(told))
        return code

    began = time.monotonic()
    with child(tally.log, armed) as pid:
        if at <= 1 and not number:
            time.sleep(at * usual[kind])
            os.kill(pid, signal.SIGKILL)
        code = ended(pid)
    took = time.monotonic() - began
    if code == 0:
        usual[kind] = took if kind not in usual else 0.7 * usual[kind] + 0.3 * took
        calls[kind] = int(seen.read_text()) if shim is not None else 0
        return False
    if code == -signal.SIGKILL:
        tally.count("at a system call" if number else "by the clock")
        return True
    return None


def _kill_a_build(
    script: Script,
    path: Path,
    vectors: Path,
    folder: Path,
    luck: random.Random,
    shim: Any,
    usual: dict[str, float],
    calls: dict[str, int],
    tally: Tally,
    step: str,
) -> None:
    """Kill a build that replaces the index (``--force``) or makes a new one."""
    fresh = luck.random() < 0.4
    target = folder / "work" / ("new" if fresh else "index")
    new = script.fresh(luck.choice([20, 150]))

    def work() -> int:
        Index.build(
            (document(n, v) for n, (_, v) in new.items()), target, encoder_path=vectors, force=not fresh
        ).close()
        return 0

    kind = f"build {'new' if fresh else 'over'} {len(new)}"
    killed = _run_and_kill(work, kind, folder, luck, shim, usual, calls, tally)
    if killed is None:
        tally.fail(f"{step}: {kind} failed by itself: {tally.log.read_text()[-800:]}")
        return
    tally.count("kills" if killed else "runs to the end")
    tally.count("of a build", int(killed))
    texts = {n: t for n, (t, _) in new.items()}
    if fresh:
        problem = wrong_or_broken(target, texts) if target.exists() else "" if killed else "was not made"
        if killed and not problem and not target.exists():
            with child(tally.log, work) as pid:  # the next one is not in the way of what was left
                code = ended(pid)
            problem = (
                wrong_or_broken(target, texts) if code == 0 else f"again: {tally.log.read_text()[-800:]}"
            )
        shutil.rmtree(target, ignore_errors=True)
        if problem:
            tally.fail(f"{step}: {kind}: {problem}")
        return
    before, after = wrong_or_broken(path, script.texts()), wrong_or_broken(path, texts)
    if after and (before or not killed):
        tally.fail(f"{step}: {kind}: neither the old ({before}) nor the new ({after})")
    if not after:
        script.accept(new)

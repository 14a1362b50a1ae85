"""What the fault tests of an index share: its documents, what is wrong with it, children, writers beside readers.

The index of these tests has a model (word vectors of its own making), so that words and vectors are both at stake. A
document holds the word of its group, a token that no other version of any document has, and words with vectors:

>>> text("d7", 2, 1).split()[:4]
['everyone', 'group1', 'uxd7x2x', 'vx2x']
"""

import json
import mmap
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nlpkit.errors import LockedError
from nlpkit.search.index import Index
from nlpkit.search.verify import verify
from nlpkit.text.documents import Document

WORDS = [f"{a}{b}{c}" for a in "bdgklm" for b in "aiou" for c in "nprtz"]  # each has a vector
ALL = 100_000  # more than any of these indexes holds


def text(name: str, version: int, group: int = 0) -> str:
    """The text of a version of a document: its words follow from its name and version."""
    luck = random.Random(f"{name} {version}")
    words = " ".join(luck.choices(WORDS, k=7))
    return f"everyone group{group} {token(name, version)} vx{version}x {words}"


def token(name: str, version: int) -> str:
    """A word that only this version of this document has."""
    return f"ux{name}x{version}x"


def document(name: str, version: int = 0, group: int = 0) -> Document:
    """A document of these tests."""
    return Document(text(name, version, group), name)


def word_vectors(folder: Path) -> Path:
    """A folder of word vectors, 16 numbers a word, to build indexes with."""
    from nlpkit.cli import run

    draw = np.random.default_rng(0)
    lines = (f"{word} {' '.join(f'{x:.5f}' for x in draw.normal(size=16))}\n" for word in WORDS)
    plain = folder / "words.txt"
    plain.write_text("".join(lines))
    made = folder / "words"
    if run(["vectors", "import", str(plain), "-o", str(made), "--quiet"]) != 0:
        raise AssertionError("the word vectors cannot be made")
    plain.unlink()
    return made


def wrong(path: Path, expected: dict[str, str], gone: Sequence[str] = (), sample: int = 0) -> str:
    """What is wrong with an index that should hold just the texts ``expected`` by id; empty when nothing is.

    Every document (or ``sample`` of them) has to be found by its own word and by its own vector, once, and nothing by
    the words ``gone``.
    """
    if problems := verify(path):
        return f"verify: {problems[0]}"
    with Index.open(path) as index:
        hits = index.search("everyone", k=ALL, mode="bm25")[0]
        held = {hit.id: hit.text for hit in hits}
        if len(held) != len(hits):
            return "a document is found twice"
        if held != expected:
            lost, extra = sorted(expected.keys() - held.keys()), sorted(held.keys() - expected.keys())
            other = sorted(i for i in held.keys() & expected.keys() if held[i] != expected[i])
            return f"lost {lost[:5]} ({len(lost)}), there again {extra[:5]} ({len(extra)}), other text {other[:5]}"
        names = sorted(expected)
        if sample and len(names) > sample:
            names = random.Random(len(names)).sample(names, sample)
        by_word = index.search([expected[n].split()[2] for n in names], k=5, mode="bm25") if names else []
        for name, found in zip(names, by_word, strict=True):
            if [h.id for h in found] != [name]:
                return f"{name} by its word: {[h.id for h in found]}"
        by_vector = index.search([expected[n] for n in names], k=3, mode="dense") if names else []
        for name, found in zip(names, by_vector, strict=True):
            near = [h for h in found if h.score > 0.9999]
            if [h.id for h in near].count(name) != 1:
                return f"{name} by its vector: {[(h.id, h.score) for h in found]}"
        for word, found in zip(gone, index.search(list(gone), k=5, mode="bm25") if gone else [], strict=True):
            if found:
                return f"what was deleted is found by {word}: {found[0].id}"
    return ""


# Counting and children


class Tally:
    """What a part counted, and what failed in it."""

    def __init__(self, part: str, folder: Path) -> None:
        self.part, self.counts, self.failures = part, dict[str, int](), list[str]()
        self.log, self.began = folder / f"{part}.log", time.monotonic()

    def count(self, what: str, by: int = 1) -> None:
        """Add to a count."""
        self.counts[what] = self.counts.get(what, 0) + by

    def fail(self, words: str) -> None:
        """Remember a failure, and say it at once."""
        self.failures.append(words)
        if len(self.failures) <= 20:
            say(f"  {self.part}: FAILED {words}")

    def line(self) -> str:
        """The line of this part."""
        told = ", ".join(f"{n:,} {what}" for what, n in self.counts.items())
        took = time.monotonic() - self.began
        return f"{self.part}: {told}; {len(self.failures):,} failures ({took:,.0f} s)"


def say(words: str) -> None:
    """A line on standard output, at once."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


@contextmanager
def child(log: Path, work: Callable[[], int]) -> Iterator[int]:
    """A forked process that does ``work`` and leaves with what it returns; its output goes to ``log``."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            code = work()
            sys.stdout.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        yield pid
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def ended(pid: int) -> int:
    """The exit code of a child; minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def jsonl(path: Path, state: dict[str, str]) -> Path:
    """Documents as a file for the command line."""
    path.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in state.items()))
    return path


def wrong_or_broken(path: Path, texts: dict[str, str], gone: Sequence[str] = (), sample: int = 80) -> str:
    """:func:`wrong`, with an error of the index told as what is wrong."""
    try:
        return wrong(path, texts, gone, sample=sample)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


# Writers beside readers


class Counters:
    """Numbers that processes share: what each began last, and what is done (a reader: how many questions)."""

    def __init__(self, path: Path, *, fresh: int = 0) -> None:
        if fresh:
            path.write_bytes(bytes(16 * fresh))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)

    def begin(self, writer: int, number: int) -> None:
        """Change ``number`` of a writer is about to be asked for."""
        struct.pack_into("<q", self.map, 16 * writer, number)

    def done(self, writer: int, number: int) -> None:
        """It was acknowledged."""
        struct.pack_into("<q", self.map, 16 * writer + 8, number)

    def begun(self, writer: int) -> int:
        """The last change begun."""
        return int(struct.unpack_from("<q", self.map, 16 * writer)[0])

    def acknowledged(self, writer: int) -> int:
        """The last change acknowledged."""
        return int(struct.unpack_from("<q", self.map, 16 * writer + 8)[0])


GROUP = 12  # documents of a writer; all of them change at once


def write(path: Path, counters: Path, me: int, stop: Path) -> None:
    """Change the documents of one group, all in one, again and again; every fifth change deletes them all."""
    shared = Counters(counters)
    names = [f"w{me}n{i}" for i in range(GROUP)]
    number = shared.begun(me)
    while not stop.exists():
        number += 1
        shared.begin(me, number)
        while True:
            try:
                index = Index.open(path, writable=True)
                break
            except LockedError:
                if stop.exists():
                    return
        with index:
            if number % 5 == 0:
                index.delete(names)
            else:
                index.add([document(n, number, me) for n in names], update=True)
            shared.done(me, number)
            if number % 7 == me:
                index.compact()
        time.sleep(0.02)  # a lock that is taken again at once starves the others


def read(path: Path, counters: Path, me: int, stop: Path, writers: int) -> dict[str, object]:
    """Ask until ``stop`` is there; every answer has to be from one version of the index.

    A version of a group is all of its documents with one number, or none of them. The number lies between what was
    acknowledged before the question and what was begun before the answer.
    """
    shared = Counters(counters)
    luck = random.Random(me)
    index = Index.open(path)
    asked, wrongs, took = 0, [], []
    while not stop.exists():
        shared.done(writers + me, asked)
        group = luck.randrange(writers)
        mode = ("bm25", "dense", "hybrid")[luck.randrange(3)]
        everyone = luck.random() < 0.2
        query = "everyone" if everyone else f"group{group}"
        query += " " + " ".join(luck.choices(WORDS, k=3))
        if luck.random() < 0.01:
            index.close()
            index = Index.open(path)
        before = [shared.acknowledged(w) for w in range(writers)]
        began = time.perf_counter()
        try:
            hits = index.search(query, k=ALL, mode=mode, pool=ALL)[0]
        except Exception as error:
            wrongs.append(f"{mode} {query!r}: {type(error).__name__}: {error}")
            asked += 1
            if len(wrongs) > 20:
                break
            continue
        took.append(time.perf_counter() - began)
        after = [shared.begun(w) for w in range(writers)]
        asked += 1
        if len({h.id for h in hits}) != len(hits):
            wrongs.append(f"{mode} {query!r}: a document twice")
        complete = everyone or mode != "bm25"
        for writer in range(writers) if complete else [group]:
            problem = _version(hits, writer, before[writer], after[writer])
            if problem:
                wrongs.append(
                    f"{mode} {query!r}: writer {writer}, {before[writer]}…{after[writer]}: {problem}"
                )
        if complete and sum(h.id.startswith("s") for h in hits) != STABLE:
            wrongs.append(
                f"{mode} {query!r}: {sum(h.id.startswith('s') for h in hits)} of {STABLE} that stay"
            )
    index.close()
    middle, late = (float(1000 * x) for x in np.quantile(took, [0.5, 0.99])) if took else (0.0, 0.0)
    return {"asked": asked, "wrong": wrongs[:5], "wrongs": len(wrongs), "p50_ms": middle, "p99_ms": late}


STABLE = 60  # documents that nobody changes


def _version(hits: list, writer: int, least: int, most: int) -> str:
    mine = [h for h in hits if h.id.startswith(f"w{writer}n")]
    numbers = {int(re.findall(r" vx(\d+)x ", h.text)[0]) for h in mine}
    if not mine:
        empty = any(n % 5 == 0 for n in range(least, most + 1))
        return "" if empty else "none of its documents"
    if len(numbers) > 1:
        return f"of several versions {sorted(numbers)}"
    (number,) = numbers
    if not least <= number <= most:
        return f"of version {number}"
    return "" if len(mine) == GROUP else f"{len(mine)} documents of {GROUP}"


def beside(
    folder: Path, *, writers: int, readers: int, queries: int, changes: int, seconds: float
) -> tuple[list[dict[str, object]], list[int], str]:
    """Run writers beside readers until all asked ``queries`` together and each writer made ``changes``.

    What each reader told, how many changes each writer made, and what is wrong with the index in the end. After
    ``seconds`` it ends in any case.
    """
    path, counters, stop = folder / "index", folder / "counters", folder / "stop"
    vectors = word_vectors(folder)
    Index.build([document(f"s{i}") for i in range(STABLE)], path, encoder_path=vectors).close()
    shared = Counters(counters, fresh=writers + readers)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def start(what: str, me: int) -> subprocess.Popen:
        words = [sys.executable, __file__, what, str(path), str(counters), str(me), str(stop), str(writers)]
        return subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    writing = [start("write", w) for w in range(writers)]
    reading = [start("read", r) for r in range(readers)]
    told: list[dict[str, object]] = []
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not any(p.poll() for p in (*writing, *reading)):
            asked = sum(shared.acknowledged(writers + r) for r in range(readers))
            if asked >= queries and min(shared.acknowledged(w) for w in range(writers)) >= changes:
                break
            time.sleep(0.05)
        stop.touch()
        for process in (*reading, *writing):
            out, error = process.communicate(timeout=120)
            if process.returncode:
                told.append({"asked": 0, "wrongs": 1, "wrong": [error[-3000:]]})
            elif process in reading:
                told.append(json.loads(out))
    finally:
        for process in (*writing, *reading):
            process.kill()
            process.communicate()
    made = [shared.acknowledged(w) for w in range(writers)]
    expected = {f"s{i}": text(f"s{i}", 0) for i in range(STABLE)}
    for writer, number in enumerate(made):
        if number and number % 5:
            expected |= {f"w{writer}n{i}": text(f"w{writer}n{i}", number, writer) for i in range(GROUP)}
    return told, made, wrong(path, expected)


if __name__ == "__main__":
    what, *paths, own, ending, count = sys.argv[1:]
    place, numbers = map(Path, paths)
    if what == "write":
        write(place, numbers, int(own), Path(ending))
    else:
        sys.stdout.write(json.dumps(read(place, numbers, int(own), Path(ending), int(count))))

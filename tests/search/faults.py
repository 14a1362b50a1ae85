"""Faults for an index, shared by the tests and by soak.py: failing system calls, kills, writers beside readers.

A small C library, loaded with LD_PRELOAD, counts the calls that change files below one folder and makes the n-th fail,
write half of what it was given, or kill the process, whoever calls it: Python, SQLite, numpy or FAISS.

The index of these tests has a model (word vectors of its own making), so that words and vectors are both at stake. A
document holds the word of its group, a token that no other version of any document has, and words with vectors:

>>> text("d7", 2, 1).split()[:4]
['everyone', 'group1', 'uxd7x2x', 'vx2x']
"""

import ctypes
import json
import mmap
import os
import random
import re
import struct
import subprocess
import sys
import time
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


def wrong(path: Path, expected: dict[str, str], gone: list[str] = (), sample: int = 0) -> str:  # type: ignore[assignment]
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


# The n-th system call


WRITE, SYNC, RENAME, OPEN, REMOVE = 1, 2, 4, 8, 16
FAIL, SHORT, KILL, TORN = 0, 1, 2, 3

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RENAME = 4, OPEN = 8, REMOVE = 16 };
enum { FAIL, SHORT, KILL, TORN };

static long left, seen;
static int kinds, mode, number, always;
static char root[PATH_MAX];

void fault_arm(long n, int which, int how, int error, int sticky, const char *folder) {
    seen = 0; left = n; kinds = which; mode = how; number = error; always = sticky;
    snprintf(root, sizeof root, "%s", folder);
}
long fault_seen(void) { return seen; }

static int below(const char *path) {
    char whole[2 * PATH_MAX];
    if (path[0] != '/') {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here)) return 0;
        snprintf(whole, sizeof whole, "%s/%s", here, path);
        path = whole;
    }
    return strncmp(path, root, strlen(root)) == 0;
}
static int below_fd(int fd) {
    char name[64], path[PATH_MAX];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(name, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return below(path);
}
/* 1: this is the call. */
static int due(int kind) {
    if (!(kinds & kind)) return 0;
    seen++;
    if (left <= 0) return 0;
    if (--left) return 0;
    if (always) left = 1;
    if (mode == KILL) kill(getpid(), SIGKILL);
    if (mode == TORN && kind != WRITE) kill(getpid(), SIGKILL);
    if (mode == SHORT && kind != WRITE) return 0;
    return 1;
}
#define REAL(result, name, ...) static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__)) dlsym(RTLD_NEXT, name)
#define PART(call, size) do { \
        if (mode == SHORT) { size = size > 1 ? size / 2 : size; return call; } \
        if (mode == TORN) { size /= 2; (void) !call; kill(getpid(), SIGKILL); } \
        errno = number; return -1; } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (kinds && below_fd(fd) && due(WRITE)) PART(real(fd, data, size), size);
    return real(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    if (kinds && below_fd(fd) && due(WRITE)) PART(real(fd, data, size, at), size);
    return real(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (kinds && below_fd(fd) && due(WRITE)) PART(real(fd, data, size, at), size);
    return real(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (kinds && below_fd(fd) && due(WRITE)) {
        size_t size = parts[0].iov_len;
        ssize_t (*one)(int, const void *, size_t) = (ssize_t (*)(int, const void *, size_t)) dlsym(RTLD_NEXT, "write");
        PART(one(fd, parts[0].iov_base, size), size);
    }
    return real(fd, parts, count);
}
size_t fwrite(const void *data, size_t width, size_t count, FILE *file) {
    REAL(size_t, "fwrite", const void *, size_t, size_t, FILE *);
    if (kinds && below_fd(fileno(file)) && due(WRITE)) {
        if (mode == SHORT || mode == TORN) {  /* for a stream less than asked is an error, not a request to go on */
            size_t done = real(data, width, count / 2, file);
            if (mode == TORN) { fflush(file); kill(getpid(), SIGKILL); }
            errno = ENOSPC;
            return done;
        }
        errno = number;
        return 0;
    }
    return real(data, width, count, file);
}
int fsync(int fd) {
    REAL(int, "fsync", int);
    if (kinds && below_fd(fd) && due(SYNC)) { errno = number; return -1; }
    return real(fd);
}
int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    if (kinds && below_fd(fd) && due(SYNC)) { errno = number; return -1; }
    return real(fd);
}
int msync(void *at, size_t size, int flags) {
    REAL(int, "msync", void *, size_t, int);
    if (due(SYNC)) { errno = number; return -1; }
    return real(at, size, flags);
}
int rename(const char *a, const char *b) {
    REAL(int, "rename", const char *, const char *);
    if (kinds && below(b) && due(RENAME)) { errno = number; return -1; }
    return real(a, b);
}
int renameat(int c, const char *a, int d, const char *b) {
    REAL(int, "renameat", int, const char *, int, const char *);
    if (kinds && below(b) && due(RENAME)) { errno = number; return -1; }
    return real(c, a, d, b);
}
int renameat2(int c, const char *a, int d, const char *b, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    if (kinds && below(b) && due(RENAME)) { errno = number; return -1; }
    return real(c, a, d, b, flags);
}
#define OPENING(name) \
int name(const char *path, int flags, ...) { \
    REAL(int, #name, const char *, int, ...); \
    va_list more; va_start(more, flags); mode_t rights = va_arg(more, mode_t); va_end(more); \
    if (kinds && (flags & (O_WRONLY | O_RDWR | O_CREAT)) && below(path) && due(OPEN)) { errno = number; return -1; } \
    return real(path, flags, rights); \
}
OPENING(open)
OPENING(open64)
int openat(int at, const char *path, int flags, ...) {
    REAL(int, "openat", int, const char *, int, ...);
    va_list more; va_start(more, flags); mode_t rights = va_arg(more, mode_t); va_end(more);
    if (kinds && (flags & (O_WRONLY | O_RDWR | O_CREAT)) && below(path) && due(OPEN)) { errno = number; return -1; }
    return real(at, path, flags, rights);
}
FILE *fopen64(const char *path, const char *how) {
    REAL(FILE *, "fopen64", const char *, const char *);
    if (kinds && how[0] != 'r' && below(path) && due(OPEN)) { errno = number; return NULL; }
    return real(path, how);
}
FILE *fopen(const char *path, const char *how) {
    REAL(FILE *, "fopen", const char *, const char *);
    if (kinds && how[0] != 'r' && below(path) && due(OPEN)) { errno = number; return NULL; }
    return real(path, how);
}
int mkdir(const char *path, mode_t rights) {
    REAL(int, "mkdir", const char *, mode_t);
    if (kinds && below(path) && due(OPEN)) { errno = number; return -1; }
    return real(path, rights);
}
int ftruncate(int fd, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    if (kinds && below_fd(fd) && due(WRITE)) { if (mode == SHORT) return real(fd, size); errno = number; return -1; }
    return real(fd, size);
}
int ftruncate64(int fd, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    if (kinds && below_fd(fd) && due(WRITE)) { if (mode == SHORT) return real(fd, size); errno = number; return -1; }
    return real(fd, size);
}
int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (kinds && below(path) && due(REMOVE)) { errno = number; return -1; }
    return real(path);
}
int unlinkat(int at, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    if (kinds && path[0] == '/' && below(path) && due(REMOVE)) { errno = number; return -1; }
    return real(at, path, flags);
}
int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    if (kinds && below(path) && due(REMOVE)) { errno = number; return -1; }
    return real(path);
}
"""


def compiled(folder: Path) -> Path | None:
    """The library, built into ``folder``; None where there is no C compiler (or no Linux)."""
    source, made = folder / "faults.c", folder / "faults.so"
    source.write_text(_SOURCE)
    command = ["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(made), str(source), "-ldl"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return made if done.returncode == 0 and sys.platform == "linux" else None


def preloaded() -> ctypes.CDLL | None:
    """The library of this process, if it was started with it."""
    whole = ctypes.CDLL(None)
    if not hasattr(whole, "fault_arm"):
        return None
    whole.fault_arm.argtypes = [ctypes.c_long, *[ctypes.c_int] * 4, ctypes.c_char_p]
    whole.fault_seen.restype = ctypes.c_long
    return whole


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

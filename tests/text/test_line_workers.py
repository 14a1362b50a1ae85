"""Large sources by several processes and by whole blocks: the bytes, counts and errors of one line after another."""

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlpkit.errors import DataError, NlpkitError
from nlpkit.text import line_workers, token_wise
from nlpkit.text.blocks import Block
from nlpkit.text.documents import Counts, Source, texts
from nlpkit.text.recipe import FORMS, Recipe
from nlpkit.text.standardize import Standardizer
from nlpkit.text.standardize_stream import standardize
from nlpkit.text.token_wise import BulkLines

CHARACTER = [*FORMS, "strip-urls", "lower", "casefold", "strip-accents", "strip-punct", "strip-digits"]
RECIPES = {
    "words": Recipe((*Recipe.DEFAULT.steps, "stopwords:en", "stem:en")),
    "lines": Recipe(("nfkd", "lower", "strip-accents")),
    "html": Recipe(("strip-html", "nfc", "lower", "collapse-space")),
}
NLPKIT = [sys.executable, "-m", "nlpkit"]


@pytest.fixture
def small(monkeypatch):
    """Every source counts as large, and a block is a few lines."""
    monkeypatch.setattr(token_wise, "BULK", 0)
    monkeypatch.setattr(token_wise, "_SHARED", 0)
    monkeypatch.setattr(token_wise, "_BLOCK", 64)


def plain(recipe, source, errors="replace"):
    run, counts = Standardizer(recipe), Counts()
    return b"".join((run(t) + "\n").encode() for t in texts(source, "line", errors, counts)), counts


DATA = (
    b"\xef\xbb\xbf\xc3\x89t\xc3\xa9 <b>Running</b>\r\n"
    + b"Cats &amp; \xff dogs\n\n" * 40
    + "ΑΣ ΑΣ ﬁne\n".encode() * 9
    + b"no end"
)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("errors", ["replace", "skip"])
def test_output_does_not_depend_on_jobs(tmp_path, small, name, errors):
    path = tmp_path / "a.txt"
    path.write_bytes(DATA)
    source = Source(path, "text")
    expected = plain(RECIPES[name], source, errors)
    for jobs in (1, 2, 3):
        counts = Counts()
        with BulkLines(Standardizer(RECIPES[name]), jobs) as bulk:
            for _ in range(2):  # the workers serve more than one source
                made = list(bulk(source, errors, counts))
                assert b"".join(data for data, _ in made) == expected[0]
            assert (bulk.workers is None) == (jobs == 1)
        assert counts == Counts(2 * expected[1].replaced, 2 * expected[1].dropped, 2 * expected[1].split)
        assert sum(lines for _, lines in made) == expected[0].count(b"\n")


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("jobs", [1, 3])
def test_strict_names_the_line(tmp_path, small, name, jobs):
    path = tmp_path / "a.txt"
    path.write_bytes(b"fine \xc3\xa9\n" * 100 + b"b\xffd\n" + b"fine\n" * 100)
    with BulkLines(Standardizer(RECIPES[name]), jobs) as bulk:
        with pytest.raises(DataError, match=r"a\.txt:101: byte 0xff at column 2"):
            list(bulk(Source(path, "text"), "strict", Counts()))


@pytest.mark.parametrize("jobs", [1, 2])
def test_offsets_by_workers(tmp_path, small, jobs):
    path, out = tmp_path / "a.txt", tmp_path / f"{jobs}.jsonl"
    path.write_text("Été, the end\n" * 30, encoding="utf-8")
    assert standardize([path], Recipe.DEFAULT, str(out), offsets=True, jobs=jobs) == 30
    line = (
        b'{"text": "ete the end", "tokens": ["ete", "the", "end"], "offsets": [[0, 5], [7, 10], [11, 14]]}\n'
    )
    assert out.read_bytes() == line * 30


def test_a_line_that_is_too_long_for_a_block(tmp_path, small, monkeypatch):
    monkeypatch.setattr("nlpkit.text.blocks.LIMIT", 2000)
    path = tmp_path / "a.txt"
    path.write_bytes(b"One dog\n" * 50 + b"Two " * 500 + b"\n" + b"Three dogs\n" * 50)
    for recipe in RECIPES.values():
        with BulkLines(Standardizer(recipe), 2) as bulk:
            made = b"".join(data for data, _ in bulk(Source(path, "text"), "replace", Counts()))
        assert made == plain(recipe, Source(path, "text"))[0]


def test_failures_of_a_worker():
    def work(block, name, errors, counts):
        if block.data == b"odd\n":
            raise ValueError("odd")
        os.kill(os.getpid(), signal.SIGKILL)

    cases = ((b"odd\n", RuntimeError, "ValueError: odd"), (b"die\n", NlpkitError, "try fewer with -j"))
    for data, kind, words in cases:
        workers = line_workers.Workers(work, 2)
        with pytest.raises(kind, match=words):
            list(workers([Block(data, 0)], "a", "replace", Counts()))
        workers.close()
        assert not any(process.is_alive() for process in workers._processes)


RUNS: dict[tuple[str, ...], token_wise._LineWise] = {}


HARD = st.text(alphabet="aA kKΣ'é\u0301\u0338=<½ß\r\t\x0bİ1.\u2028\u0085\ufeffw:/\x00\x1c한")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        HARD | st.text(),
        max_size=8,
    ),
    st.lists(st.sampled_from(CHARACTER), max_size=4, unique=True),
)
@example(["ΑΣ", "Α", "'Σ"], ["lower"])
@example(["a" * 300 + "É", "\u0301b"], ["nfc"])
def test_lines_at_once_are_the_lines_one_by_one(lines, steps):
    lines = [line.encode("utf-8", "replace").decode().replace("\n", " ").rstrip("\r") for line in lines]
    made = RUNS.setdefault(tuple(steps), token_wise._LineWise(Standardizer(Recipe(tuple(steps)))))
    expected = "".join(made.run(line) + "\n" for line in lines).encode()
    for around in (b"", b"Plain ASCII text. " * 40 + b"\n"):  # alone, and as the exception among ASCII
        first = made.run(around.decode()).encode()
        data = around + "".join(line + "\n" for line in lines).encode()
        assert made(data) == (first + expected, data.count(b"\n"))


@pytest.mark.parametrize(
    "steps", [("collapse-space",), ("strip-html",), ("stem:en",), ("lower", "min-length:2")]
)
def test_recipes_that_are_not_line_wise(steps):
    assert not token_wise.line_wise(Recipe(steps))


def children(pid):
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(p) for p in listed.stdout.split()]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at /proc")
@pytest.mark.parametrize("end", ["interrupt", "kill", "closed pipe"])
def test_nothing_is_left_behind(tmp_path, end):
    path = tmp_path / "a.txt"
    path.write_bytes(b"<p>Some words to <b>strip</b></p>\n" * 400_000)
    command = [*NLPKIT, "standardize", "--strip-html", "-j", "2", str(path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"some words to strip\n"
    workers = children(process.pid)
    assert len(workers) == 2
    if end == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
    elif end == "kill":
        process.kill()
    process.stdout.close()
    code = process.wait(timeout=20)
    assert code == {"interrupt": 130, "kill": -signal.SIGKILL, "closed pipe": 0}[end]
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    waited = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < waited:
        time.sleep(0.05)
    assert not any(map(alive, workers))

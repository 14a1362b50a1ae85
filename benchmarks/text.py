"""Bulk text beside its peers: whole processes, file to file, in turn, medians, outputs compared.

Run: python benchmarks/text.py --data DIR [--peers PYTHON] [--only PART ...]   (writes benchmarks/results/text.json)

DIR holds novels100/train.txt.gz (lines), imdb and 20newsgroups ({train,test}.tsv.gz: label, text; a header). Half of
the text is reviews and half novels, as far as they reach. PYTHON is an interpreter that has nltk, spacy, gensim,
scikit-learn, PyStemmer and PyICU; rows whose peer is missing are left out and said. Everything runs on one core with
one thread but the rows about -j. «base» is the install without the extra ``fast``.
"""

import argparse
import gzip
import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from measure import (
    NLPKIT,
    host,
    in_turn,
    keep,
    on_one_core,
    peak_memory,
    ratio_row,
    seconds,
    shown,
    tell,
    version,
    without,
)

PEERS = Path(__file__).parent / "peers"
FULL = ["--form", "nfkd", "--stopwords", "en", "--stem", "en"]
NORMAL = ["--form", "nfkd", "--no-strip-punct", "--no-collapse-space"]
MB = 10**6


@dataclass
class Place:
    """Where a benchmark works: its data, the peers' Python, a folder, how often each side runs."""

    data: Path
    python: str
    folder: Path
    runs: int

    def peer(self, script: str, *arguments: object) -> list[str]:
        return [self.python, str(PEERS / f"{script}.py"), *map(str, arguments)]

    def own_peer(self, script: str, *arguments: object) -> list[str]:
        """A peer that lies in nlpkit's own environment, so that both sides have the same version of it."""
        return [sys.executable, str(PEERS / f"{script}.py"), *map(str, arguments)]

    def text(self, megabytes: int) -> Path:
        """So many megabytes of lines: half reviews, half novels; beyond 100 MB the same lines in other orders."""
        path = self.folder / f"text{megabytes}.txt"
        if path.is_file():
            return path
        if megabytes <= 100:
            _corpus(self.data, path, megabytes * MB)
            return path
        lines = self.text(100).read_bytes().splitlines(keepends=True)
        with path.open("wb") as file:
            for seed in range(megabytes // 100):
                random.Random(seed).shuffle(lines)
                file.writelines(lines)
        return path

    def tokenizer(self, kind: str, size: int = 32000) -> Path:
        """A tokenizer of so many tokens, learned from the 20 MB."""
        folder = self.folder / kind
        if not folder.is_dir():
            learn = ["--kind", kind, "--vocab-size", str(size), "--documents", "line"]
            seconds([NLPKIT, "train-tokenizer", str(self.text(20)), "-o", str(folder), *learn])
        return folder


def _corpus(data: Path, target: Path, size: int) -> None:
    reviews = [
        line.split("\t", 1)[1]
        for part in ("train", "test")
        for line in gzip.decompress((data / f"imdb/{part}.tsv.gz").read_bytes()).decode().split("\n")[1:]
        if line
    ]
    novels = gzip.decompress((data / "novels100/train.txt.gz").read_bytes()).decode().split("\n")
    with target.open("wb") as file:
        for lines, most in ((reviews, size // 2), (novels, size)):
            for line in lines:
                piece = line.replace("\r", " ").encode() + b"\n"
                if file.tell() + len(piece) > most:
                    break
                file.write(piece)


def standardize(place: Place) -> Iterator[dict[str, Any]]:
    """The full recipe: NFKD, lower, accents, punctuation, stop words, Snowball stems."""
    bars = {"nltk": (15, 25), "spacy": (10, 15), "gensim": (8, 12), "scikit-learn": (2.5, 4)}
    source, target = place.text(100), place.folder / "words.txt"
    ours = [NLPKIT, "standardize", str(source), *FULL, "-j", "1", "-o", str(target), "--force"]
    yield from _against(place, "standardize, 100 MB", ours, "standardize", bars, source)


def normalize(place: Place) -> Iterator[dict[str, Any]]:
    """NFKD, lower case and accents only."""
    source, target = place.text(100), place.folder / "normal.txt"
    ours = [NLPKIT, "standardize", str(source), *NORMAL, "-j", "1", "-o", str(target), "--force"]
    bars = {"tokenizers": (4, 4), "PyICU": (4, 4)}
    yield from _against(place, "normalize only, 100 MB", ours, "normalize", bars, source, target)


def _against(
    place: Place,
    what: str,
    ours: list[str],
    script: str,
    bars: dict[str, tuple[float, float]],
    source: Path,
    target: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Our command beside one script for each package, all in turn; with ``target`` the outputs must be equal."""
    names = {"scikit-learn": "sklearn", "PyICU": "icu"}
    found = {name: version(name, place.python) for name in bars}
    outputs = {name: place.folder / f"peer_{name}.txt" for name in bars}
    commands = {
        name: place.peer(f"{script}_{names.get(name, name)}", source, outputs[name])
        for name in bars
        if found[name]
    }
    taken = in_turn(place.runs, {"ours": ours, **commands})
    for name, (bar, aim) in bars.items():
        if not found[name]:
            print(f"{name} is not installed in {place.python}: left out")
            continue
        about: dict[str, Any] = {}
        if target is not None:
            about["lines_that_differ"] = _differing(target, outputs[name])
        yield ratio_row(
            f"{what}, against {name}", taken["ours"], taken[name], bar, aim=f">= {aim:g}",
            command=shown(ours), peer=f"benchmarks/peers/{script}_{names.get(name, name)}.py",
            peer_version=found[name], **about,
        )  # fmt: skip


def _differing(a: Path, b: Path) -> int:
    with a.open("rb") as one, b.open("rb") as other:
        return sum(x != y for x, y in itertools.zip_longest(one, other))


def tokenize(place: Place) -> Iterator[dict[str, Any]]:
    """Byte-level BPE by line, file to uint16 file."""
    folder = place.tokenizer("bpe")
    for size, bar, aim in ((20, 8, 15), (100, 20, 40)):
        yield _encode(place, "tokenize, byte-level BPE 32,000", folder, size, bar, aim, "fast")


def wordpiece(place: Place) -> Iterator[dict[str, Any]]:
    """WordPiece by line: whole processes, and one process that has met the text before."""
    folder = place.tokenizer("wordpiece")
    yield _encode(place, "tokenize, WordPiece 32,000, whole process", folder, 100, 4, 4, None)
    done = subprocess.run(
        [sys.executable, __file__, "--warm", str(place.text(20)), str(folder), "--runs", str(place.runs)],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    warm = json.loads(done.stdout)
    yield ratio_row(
        "WordPiece 32,000 in bulk, warm, 20 MB", warm["ours"], warm["peer"], 4,
        command="nlpkit.text.fast_encoding.LineEncoder, the second time in one process",
        peer="tokenizers encode_batch_fast", peer_version=version("tokenizers"), identical=warm["identical"],
    )  # fmt: skip


def unigram(place: Place) -> Iterator[dict[str, Any]]:
    """Unigram by line."""
    yield _encode(
        place, "tokenize, unigram 8,000, whole process", place.tokenizer("unigram", 8000), 100, 4, 4, None
    )


def _encode(
    place: Place, what: str, folder: Path, size: int, bar: float, aim: float, needs: str | None
) -> dict[str, Any]:
    source, peer = place.text(size), place.folder / "peer.bin"
    rest = [
        "tokenize",
        str(source),
        "--tokenizer",
        str(folder),
        "--format",
        "bin",
        "-j",
        "1",
        "--force",
        "-o",
    ]
    ours = [NLPKIT, *rest, str(place.folder / "ours.bin")]
    commands = {"ours": ours, "peer": place.own_peer("encode_tokenizers", source, peer, folder)}
    if needs:
        commands["base"] = [*without("gigatoken"), *rest, str(place.folder / "base.bin")]
    taken = in_turn(place.runs, commands)
    made = [name for name in ("ours", "base") if name in commands]
    same = all((place.folder / f"{name}.bin").read_bytes() == peer.read_bytes() for name in made)
    return ratio_row(
        f"{what}, {size} MB", taken["ours"], taken["peer"], bar, aim=f">= {aim:g}", command=shown(ours),
        peer="benchmarks/peers/encode_tokenizers.py", peer_version=version("tokenizers"), identical=same,
        **_base(taken, needs),
    )  # fmt: skip


def _base(taken: dict[str, list[float]], needs: str | None) -> dict[str, Any]:
    """What a row that needs an extra says about the install without it."""
    if needs is None:
        return {}
    ratio = statistics.median(taken["peer"]) / statistics.median(taken["base"])
    return {"needs": needs, "base": [round(t, 4) for t in taken["base"]], "base_ratio": round(ratio, 3)}


def train(place: Place) -> Iterator[dict[str, Any]]:
    """Byte-level BPE of 32,000 tokens, learned from a file."""
    for size, bar in ((20, 5), (100, 10)):
        source, peer = place.text(size), place.folder / "peer.json"
        options = ["--vocab-size", "32000", "--documents", "line", "--force", "-o"]
        rest = ["train-tokenizer", str(source), *options]
        ours = [NLPKIT, *rest, str(place.folder / "learned")]
        commands = {
            "ours": ours,
            "base": [*without("gigatoken", "gigabpe"), *rest, str(place.folder / "learned-base")],
            "peer": place.own_peer("train_tokenizers", source, peer, 32000),
        }
        taken = in_turn(place.runs, commands)
        # The timed peer learns from line ends too; given lines without them, as documents are, it must learn the same.
        seconds(place.own_peer("train_tokenizers", source, peer, 32000, "lines"))
        theirs = json.loads(peer.read_text())["model"]["merges"]
        made = [
            json.loads((place.folder / name / "tokenizer.json").read_text())
            for name in ("learned", "learned-base")
        ]
        yield ratio_row(
            f"train-tokenizer, byte-level BPE 32,000, {size} MB", taken["ours"], taken["peer"], bar,
            command=shown(ours), peer="benchmarks/peers/train_tokenizers.py", peer_version=version("tokenizers"),
            identical=all(one["model"]["merges"] == theirs for one in made), merges=len(theirs),
            **_base(taken, "fast"),
        )  # fmt: skip


def few(place: Place) -> Iterator[dict[str, Any]]:
    """Five lines: what starting costs."""
    source, folder = place.folder / "five.txt", place.tokenizer("bpe")
    with place.text(20).open("rb") as file:
        source.write_bytes(b"".join(itertools.islice(file, 5)))
    ours = [NLPKIT, "tokenize", str(source), "--tokenizer", str(folder)]
    theirs = place.own_peer("print_ids", source, folder)
    same = len({subprocess.run(c, stdout=subprocess.PIPE, check=True).stdout for c in (ours, theirs)}) == 1
    taken = in_turn(5 * place.runs, {"ours": ours, "peer": theirs})
    yield ratio_row(
        "tokenize, five lines", taken["ours"], taken["peer"], 2.5, least=False, command=shown(ours),
        peer="benchmarks/peers/print_ids.py", peer_version=version("tokenizers"), identical=same,
    )  # fmt: skip


def two(place: Place) -> Iterator[dict[str, Any]]:
    """Two cores beside one."""
    source = place.text(1000)
    one, both = place.folder / "one.bin", place.folder / "both.bin"
    for verb, rest in (
        ("standardize", FULL),
        ("tokenize", ["--tokenizer", str(place.tokenizer("bpe")), "--format", "bin"]),
    ):
        ends = {"1": one, "2": both}
        if verb == "standardize":
            ends = {jobs: path.with_suffix(".txt") for jobs, path in ends.items()}
        commands = {
            jobs: [NLPKIT, verb, str(source), *rest, "-j", jobs, "--force", "-o", str(path)]
            for jobs, path in ends.items()
        }
        taken = in_turn(place.runs, commands)
        same = subprocess.run(["cmp", *map(str, ends.values())], check=False).returncode == 0
        yield ratio_row(
            f"{verb} -j 2 against -j 1, 1 GB", taken["2"], taken["1"], 1.6, command=shown(commands["2"]),
            peer="the same with -j 1", peer_version="", identical=same,
        )  # fmt: skip
        for path in ends.values():
            path.unlink()
    source.unlink()


def memory(place: Place) -> Iterator[dict[str, Any]]:
    """Peak resident memory of 2 GB on standard input, beside half a GB."""
    text, out = place.text(100), place.folder / "out.bin"
    tokenizer = ["--tokenizer", str(place.tokenizer("bpe"))]
    for claim, command in (
        ("standardize", [NLPKIT, "standardize", *FULL]),
        ("tokenize", [NLPKIT, "tokenize", *tokenizer, "--format", "bin", "-o", str(out), "--force"]),
    ):
        peaks = {}
        for pieces in (5, 20):
            peaks[pieces], _ = peak_memory(command, ["cat", *[str(text)] * pieces])
        grown = peaks[20] - peaks[5]
        yield {
            "claim": f"{claim}, 2 GB on standard input, peak memory", "command": shown(command),
            "figure": round(peaks[20]), "unit": "MB", "half_a_gigabyte": round(peaks[5]),
            "bar": "<= 400, flat", "met": peaks[20] <= 400 and grown <= 20, "host": host(),
        }  # fmt: skip


def vectorize(place: Place) -> Iterator[dict[str, Any]]:
    """Document-term matrices of 20 Newsgroups."""
    source, peer = place.folder / "news.txt", place.folder / "peer.npz"
    rows = gzip.decompress((place.data / "20newsgroups/train.tsv.gz").read_bytes()).decode().split("\n")[1:]
    # Control characters part words on one side only.
    printed = (re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", row.partition("\t")[2]) for row in rows if row)
    source.write_text("\n".join(printed) + "\n")
    for mode, least, most in (("count", 1, 1), ("tf-idf", 1, 1), ("tf-idf", 1, 2)):
        target = place.folder / "ours.npz"
        ours = [NLPKIT, "vectorize", str(source), "--mode", mode, "--ngrams", f"{least}-{most}", "--force"]
        ours += ["-o", str(target)]
        theirs = place.own_peer("vectorize_sklearn", source, peer, mode, least, most)
        taken = in_turn(place.runs, {"ours": ours, "peer": theirs})
        one, other = scipy.sparse.load_npz(target), scipy.sparse.load_npz(peer)
        terms = [
            line.split("\t")[0] for line in target.with_suffix(".vocab.txt").read_text().split("\n")[:-1]
        ]
        names = json.loads(peer.with_suffix(".terms.json").read_text())
        place_of = {name: i for i, name in enumerate(terms)}
        same = set(names) == set(terms) and one.shape == other.shape
        worst = abs(one[:, [place_of[n] for n in names]] - other).max() if same else np.inf
        yield ratio_row(
            f"vectorize --mode {mode}, {least}-{most}-grams, 20 Newsgroups", taken["ours"], taken["peer"], 0.5,
            least=False, command=shown(ours), peer="benchmarks/peers/vectorize_sklearn.py",
            peer_version=version("scikit-learn"), identical=bool(worst <= 1e-12), largest_difference=float(worst),
        )  # fmt: skip


PARTS: dict[str, Callable[[Place], Iterator[dict[str, Any]]]] = {
    part.__name__: part
    for part in (few, tokenize, wordpiece, unigram, train, normalize, standardize, vectorize, memory, two)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--peers", default=sys.executable, help="the interpreter that has the peers")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--scratch", type=Path, help="keep the made text here (5 GB with all parts)")
    parser.add_argument("--warm", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.warm:
        _warm(Path(given.warm[0]), given.warm[1], given.runs)
        return
    if given.data is None:
        parser.error("--data is needed")
    every_core = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as name:
        folder = given.scratch or Path(name)
        folder.mkdir(exist_ok=True)
        place = Place(given.data, given.peers, folder, given.runs)
        for part in given.only:
            on_one_core()
            if part == "two":
                os.sched_setaffinity(0, every_core)
            for row in PARTS[part](place):
                tell(row)
                keep("text", [row])


def _warm(source: Path, folder: str, runs: int) -> None:
    """Print the seconds of both sides over lines that the process has met before, as JSON."""
    import time

    from nlpkit.text.documents import Counts, sources
    from nlpkit.text.fast_encoding import LineEncoder
    from nlpkit.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    raw, encoder = tokenizer.raw, LineEncoder(tokenizer, None, 1)
    lines = source.read_text(encoding="utf-8").split("\n")[:-1]

    def ours() -> np.ndarray:
        (found,) = sources([source])
        return np.concatenate([ids for ids, _ in encoder(found, "strict", Counts())])

    def peer() -> np.ndarray:
        rows = (
            encoding.ids
            for start in range(0, len(lines), 2048)
            for encoding in raw.encode_batch_fast(lines[start : start + 2048], add_special_tokens=False)
        )
        return np.fromiter((id for row in rows for id in row), np.uint32)

    same = bool(np.array_equal(ours(), peer()))
    taken: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(runs):
        for name, run in (("ours", ours), ("peer", peer)):
            started = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - started)
    print(json.dumps({**taken, "identical": same}))


if __name__ == "__main__":
    main()

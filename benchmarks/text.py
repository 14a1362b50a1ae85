"""Bulk text on one core beside its peers: whole processes, file to file, interleaved runs, medians.

Run: python benchmarks/text.py --data DIR [--peers PYTHON]   (writes benchmarks/results/text.json)

DIR holds novels100/train.txt.gz (lines) and imdb/{train,test}.tsv.gz (label, text; a header). Half of the text is of
each, as far as they reach. PYTHON is an interpreter that has nltk, spacy, gensim, scikit-learn and PyStemmer.
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARS = {"tokenize": {20: 8.0, 100: 20.0}, "nltk": 15.0, "spacy": 10.0, "gensim": 8.0, "sklearn": 2.5}
RECIPE = ["--form", "nfkd", "--stopwords", "en", "--stem", "en"]
READ = "import sys\nsource, target = sys.argv[1:3]\n"
WRITE = """
with open(source, encoding="utf-8", newline="\\n") as f, open(target, "w", encoding="utf-8") as o:
    for line in f:
        o.write(" ".join(run(line)) + "\\n")
"""
PEERS = {
    "nltk": """
import re, unicodedata
from nltk.stem.snowball import SnowballStemmer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS as stop
stem = SnowballStemmer("english").stem
word = re.compile(r"[^\\W_]+")
def run(line):
    text = unicodedata.normalize("NFKD", line).lower()
    text = "".join(c for c in text if not unicodedata.combining(c)) if not text.isascii() else text
    return [stem(w) for w in word.findall(text) if w not in stop]
""",
    "spacy": """
import spacy, Stemmer, unicodedata
nlp = spacy.blank("en")
nlp.max_length = 10**9
stem = Stemmer.Stemmer("english", 0).stemWord
def run(line):
    text = unicodedata.normalize("NFKD", line).lower()
    text = "".join(c for c in text if not unicodedata.combining(c)) if not text.isascii() else text
    return [stem(t.text) for t in nlp.make_doc(text) if not (t.is_stop or t.is_punct or t.is_space)]
""",
    "gensim": """
from gensim.parsing.preprocessing import preprocess_string
from gensim.utils import deaccent
def run(line):
    return preprocess_string(deaccent(line))
""",
    "sklearn": """
from sklearn.feature_extraction.text import CountVectorizer
import Stemmer
stem = Stemmer.Stemmer("english", 0).stemWords
analyze = CountVectorizer(strip_accents="unicode", stop_words="english").build_analyzer()
def run(line):
    return stem(analyze(line))
""",
}
NAMES = {
    "nltk": ("nltk", "NLTK SnowballStemmer after NFKD, lower, a regular expression for words"),
    "spacy": ("spacy", "spacy.blank('en').make_doc + PyStemmer after NFKD, lower"),
    "gensim": ("gensim", "gensim preprocess_string + deaccent"),
    "sklearn": ("scikit-learn", "scikit-learn CountVectorizer analyzer + PyStemmer"),
}
TOKENIZERS = """
import numpy as np
from tokenizers import Tokenizer
raw = Tokenizer.from_file(sys.argv[3] + "/tokenizer.json")
def ids(held):
    return b"".join(np.array(e.ids, np.uint16).tobytes() for e in raw.encode_batch_fast(held, add_special_tokens=False))
with open(source, encoding="utf-8", newline="\\n") as f, open(target, "wb") as o:
    held = []
    for line in f:
        held.append(line.removesuffix("\\n"))
        if len(held) == 2048:
            o.write(ids(held))
            held = []
    if held:
        o.write(ids(held))
"""


def corpus(data: Path, target: Path, size: int) -> None:
    """The first ``size`` bytes, cut at a line end: half reviews and half novels, as far as they reach."""
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
                piece = line.encode() + b"\n"
                if file.tell() + len(piece) > most:
                    break
                file.write(piece)


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def version(python: str, name: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def compare(
    claim: str, ours: list[str], theirs_command: list[str], bar: float, runs: int, **about: str
) -> dict:
    made, theirs = [], []
    command = " ".join(["nlpkit", *(Path(w).name if Path(w).is_absolute() else w for w in ours[1:])])
    for _ in range(runs):
        made.append(seconds(ours))
        theirs.append(seconds(theirs_command))
    ratio = statistics.median(theirs) / statistics.median(made)
    print(
        f"{claim}: {statistics.median(made):.2f} s, peer {statistics.median(theirs):.2f} s, {ratio:.1f} x (bar {bar:g})"
    )
    return {
        "claim": claim, "command": command, **about, "ours": made, "peer_runs": theirs,
        "ratio": ratio, "bar": f">= {bar:g}", "met": ratio >= bar,
        "host": f"{platform.machine()}, one of {os.cpu_count()} cores, Python {platform.python_version()}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", default=sys.executable, help="the interpreter that has the peers")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["tokenize", "standardize"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 100], help="MB")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "text.json")
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ |= {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    nlpkit = str(Path(sys.executable).with_name("nlpkit"))
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {size: folder / f"text{size}.txt" for size in given.sizes}
        for size, path in files.items():
            corpus(given.data, path, size * 10**6)
        if given.only != "standardize":
            tokenizer, learned = str(folder / "tokenizer"), str(files[min(files)])
            seconds(
                [
                    nlpkit,
                    "train-tokenizer",
                    learned,
                    "-o",
                    tokenizer,
                    "--vocab-size",
                    "32000",
                    "--documents",
                    "line",
                ]
            )
            (folder / "peer_tokenizers.py").write_text(READ + TOKENIZERS)
            for size, path in files.items():
                ours, theirs = str(folder / "ours.bin"), str(folder / "theirs.bin")
                row = compare(
                    f"tokenize --format bin, byte-level BPE 32,000, {size} MB",
                    [
                        nlpkit,
                        "tokenize",
                        str(path),
                        "--tokenizer",
                        tokenizer,
                        "--format",
                        "bin",
                        "-o",
                        ours,
                        "--force",
                    ],
                    [sys.executable, str(folder / "peer_tokenizers.py"), str(path), theirs, tokenizer],
                    BARS["tokenize"].get(size, 8.0),
                    given.runs,
                    peer="tokenizers encode_batch_fast, lines to uint16",
                    peer_version=version(sys.executable, "tokenizers"),
                )
                row["identical"] = Path(ours).read_bytes() == Path(theirs).read_bytes()
                row["met"] = row["met"] and row["identical"]
                results.append(row)
        if given.only != "tokenize":
            size, path = max(files.items())
            for peer, (package, words) in NAMES.items():
                found = version(given.peers, package)
                if not found:
                    print(f"{package} is not installed in {given.peers}: left out")
                    continue
                (folder / f"peer_{peer}.py").write_text(READ + PEERS[peer] + WRITE)
                results.append(
                    compare(
                        f"standardize with stop words and stems against {package}, {size} MB",
                        [
                            nlpkit,
                            "standardize",
                            str(path),
                            *RECIPE,
                            "-o",
                            str(folder / "ours.txt"),
                            "--force",
                        ],
                        [given.peers, str(folder / f"peer_{peer}.py"), str(path), str(folder / "theirs.txt")],
                        BARS[peer],
                        given.runs,
                        peer=words,
                        peer_version=found,
                    )
                )
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Evaluation of word vectors beside gensim's: the same file and data, equal figures, whole processes in turn.

Run: python benchmarks/vectors_eval.py --data DIR [--peers PYTHON]   (writes benchmarks/results/vectors_eval.json)

DIR holds novels100/train.txt.gz (lines), word_analogies/questions-words.txt and word_similarity/*.tsv. PYTHON is an
interpreter that has gensim. Vectors of size 100 are trained on the first 12 MB of the novels, exported in word2vec's
binary form and imported again, so that both sides answer with the same numbers. One core, one thread.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import NLPKIT, host, in_turn, keep, on_one_core, ratio_row, seconds, shown, tell, version

MB = 10**6
CLOSE = 1e-4  # as far as a figure may be from the peer's


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", default=sys.executable, help="the interpreter that has gensim")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    on_one_core()
    questions = given.data / "word_analogies/questions-words.txt"
    pairs = sorted((given.data / "word_similarity").glob("*.tsv"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained, exported, vectors = folder / "trained", folder / "vectors.bin", folder / "vectors"
        with gzip.open(given.data / "novels100/train.txt.gz") as file:
            (folder / "text.txt").write_bytes(file.read(12 * MB))
        learn = ["--documents", "line", "--size", "100", "--epochs", "8", "-j", "1", "-o", str(trained)]
        seconds([NLPKIT, "train-glove", str(folder / "text.txt"), *learn])
        seconds([NLPKIT, "vectors", "export", str(trained), "--format", "word2vec-bin", "-o", str(exported)])
        seconds([NLPKIT, "vectors", "import", str(exported), "-o", str(vectors)])
        ours = [NLPKIT, "vectors", "eval", str(vectors), str(questions), *map(str, pairs), "--json"]
        script = Path(__file__).parent / "peers/vectors_gensim.py"
        theirs = [given.peers, str(script), str(exported), str(questions), *map(str, pairs)]
        first, *rest = json.loads(subprocess.run(ours, stdout=subprocess.PIPE, check=True).stdout)
        peer = json.loads(subprocess.run(theirs, stdout=subprocess.PIPE, check=True).stdout)
        counts = [[section["correct"], section["counted"]] for section in first["sections"]]
        apart = [abs(first["accuracy"] - peer["accuracy"])]
        for record, rho, linear, unknown in zip(
            rest, peer["spearman"], peer["pearson"], peer["unknown"], strict=True
        ):
            apart += [abs(record["spearman"] - rho), abs(record["pearson"] - linear)]
            apart.append(abs(1 - record["coverage"] - unknown))
        same = counts == peer["sections"] and max(apart) <= CLOSE
        about = {
            "peer": "benchmarks/peers/vectors_gensim.py",
            "peer_version": version("gensim", given.peers),
            "command": shown(ours),
        }
        row = {
            "claim": "vectors eval: accuracy, Spearman, Pearson and coverage equal gensim's",
            **about,
            "figure": max(apart),
            "unit": "greatest difference",
            "sections_equal": counts == peer["sections"],
            "questions_known": first["known"],
            "bar": f"<= {CLOSE:g}",
            "met": same,
            "host": host(),
        }
        taken = in_turn(given.runs, {"ours": ours, "peer": theirs})
        speed = ratio_row(
            "vectors eval: questions-words and 7 sets of pairs, with bootstrap intervals, against gensim without",
            taken["ours"], taken["peer"], 1, identical=same, **about,
        )  # fmt: skip
        for one in (row, speed):
            tell(one)
        keep("vectors_eval", [row, speed])


if __name__ == "__main__":
    main()

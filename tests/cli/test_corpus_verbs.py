"""corpus dedup, decontaminate and filter as people run them: pipes, counts, refusals with their exit codes."""

import bz2
import gzip
import io
import json
import lzma
import random
import sys

import zstandard

LINES = "The cat sat.\nA dog ran away.\nthe  CAT sat.\n"


def test_pipes(nlpkit, tmp_path):
    test = tmp_path / "test.txt"
    test.write_text("a DOG ran away\n")
    told = "3 documents read, 2 kept, 1 dropped"
    code, out, err = nlpkit("corpus", "dedup", stdin=LINES.encode())
    assert (code, out) == (0, "The cat sat.\nA dog ran away.\n")
    assert err == f"{told} (exact 1, near 0)\n"
    code, out, err = nlpkit("corpus", "decontaminate", "--against", test, stdin=LINES.encode())
    assert (code, out) == (0, "The cat sat.\nthe  CAT sat.\n")
    assert f"{told} (equal 1, ngram 0, contained 0)" in err
    assert f"{test}: 1 texts, 1 documents dropped" in err
    code, out, err = nlpkit("corpus", "filter", "--min-words", 4, stdin=LINES.encode())
    assert (code, out) == (0, "A dog ran away.\n")
    assert "(min-words 2)" in err
    for verb in (["dedup"], ["decontaminate", "--against", test], ["filter", "--min-words", 1]):
        code, out, err = nlpkit("corpus", *verb)
        assert (code, out) == (0, "") and "0 documents read" in err


def test_json_counts_and_compressed_records(nlpkit, tmp_path):
    given = tmp_path / "in.jsonl.gz"
    records = [{"n": n, "text": t, "x": [n]} for n, t in enumerate(LINES.splitlines())]
    given.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in records).encode()))
    output = tmp_path / "o.jsonl.gz"
    common = (given, "-o", output, "--json", "--force")
    code, out, err = nlpkit("corpus", "dedup", *common, "--exact-only", "--report", tmp_path / "r.jsonl")
    assert (code, err) == (0, "") and json.loads(out) == {"read": 3, "kept": 2, "dropped": {"exact": 1}}
    left = [json.loads(line) for line in gzip.decompress(output.read_bytes()).splitlines()]
    assert left == records[:2]
    assert json.loads((tmp_path / "r.jsonl").read_text())["kept"] == {"number": 1}
    code, out, _ = nlpkit("corpus", "filter", *common, "--field-equals", "n=1", "--match", "dog|CAT")
    assert code == 0
    assert json.loads(out) == {"read": 3, "kept": 1, "dropped": {"match": 1, "field-equals": 1}}
    code, out, _ = nlpkit("corpus", "decontaminate", *common, "--against", given)
    found = json.loads(out)
    assert code == 0 and found["kept"] == 0 and found["dropped"]["equal"] == 3
    assert found["against"] == {str(given): {"texts": 3, "documents": 3}} and len(found["examples"]) == 3


def test_exit_codes(nlpkit, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a", "score": 1}\n{"text": "b"\n')
    good = tmp_path / "good.jsonl"
    good.write_text('{"text": "a", "score": 1}\n{"text": "b"}\n')
    output = tmp_path / "o.jsonl"
    for verb in (["dedup"], ["decontaminate", "--against", good], ["filter", "--min-words", 1]):
        code, _, err = nlpkit("corpus", *verb, tmp_path / "absent", "-o", output)
        assert code == 2 and "no such file" in err and err.count("\n") == 1
        code, _, err = nlpkit("corpus", *verb, bad, "-o", output)
        assert code == 3 and f"{bad}:2: not JSON" in err and err.count("\n") == 1
        code, _, err = nlpkit("corpus", *verb, good, "-o", good)
        assert code == 2 and "exists already" in err
        code, _, err = nlpkit("corpus", *verb, good, "--json")
        assert code == 2 and "-o" in err
    cases = [
        (2, ["filter", good], "no rule is on"),
        (2, ["filter", good, "--match", "("], "no regular expression"),
        (2, ["filter", good, "--field-equals", "x"], "NAME=VALUE"),
        (2, ["filter", good, "--score-field", "score"], "--min-score"),
        (3, ["filter", good, "--score-field", "score", "--min-score", 0], f"{good}:2: no field 'score'"),
        (2, ["decontaminate", good], "--against"),
        (2, ["decontaminate", good, "--against", tmp_path / "absent"], "no such file"),
        (3, ["decontaminate", good, "--against", bad], f"{bad}:2: not JSON"),
        (2, ["dedup", good, "--threshold", 2], "--threshold"),
        (2, ["dedup", good, "--errors", "what"], "--errors"),
    ]
    for wanted, verb, words in cases:
        code, out, err = nlpkit("corpus", *verb, "-o", output)
        assert (code, out) == (wanted, "") and words in err, verb
        assert not output.exists()


def test_the_missing_extra(nlpkit, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rensa", None)
    code, out, err = nlpkit("corpus", "dedup", stdin=LINES.encode())
    assert (code, out) == (2, "") and "pip install 'nlpkit[dedup]'" in err
    code, out, err = nlpkit("corpus", "dedup", "--exact-only", stdin=LINES.encode())
    assert (code, out) == (0, "The cat sat.\nA dog ran away.\n")


def test_a_model_filters(nlpkit, tmp_path):
    """A classifier and a next-token model, trained in a second or two, drop what they were not trained to like."""
    draw = random.Random(0)
    good, bad = ["cat", "dog", "sat", "mat"], ["buy", "now", "cheap", "deal"]

    def text(words):
        return " ".join(draw.choices(words, k=8))

    rows = [(label, text(words)) for label, words in (("good", good), ("spam", bad)) for _ in range(60)]
    (tmp_path / "train.tsv").write_text("label\ttext\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    (tmp_path / "good.txt").write_text("\n\n".join(b for a, b in rows if a == "good"))
    sizes = ["model.width=16", "model.depth=1", "model.heads=2", "data.vocab_size=270", "train.threads=1"]
    sets = [w for s in [*sizes, "train.lr=0.01"] for w in ("-s", s)]
    train = ("--steps", 40, "-q", *sets)
    assert (
        nlpkit("train", "classifier", "--data", tmp_path / "train.tsv", "-o", tmp_path / "c", *train)[0] == 0
    )
    given = (
        "pretrain",
        tmp_path / "good.txt",
        "--objective",
        "clm",
        "--optimizer",
        "adamw",
        "-s",
        "data.context=32",
    )
    assert nlpkit(*given, "-o", tmp_path / "lm", *train)[0] == 0

    wanted = [draw.random() < 0.5 for _ in range(40)]
    records = [{"text": text(good if w else bad), "n": n} for n, w in enumerate(wanted)]
    records.append({"text": "cat"})  # too short: the model is not asked
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(r) + "\n" for r in records))
    report = tmp_path / "dropped.jsonl"
    common = ("corpus", "filter", source, "-o", tmp_path / "o.jsonl", "--json", "--force", "--min-words", 2)
    for rule, reason in (
        (("--model", tmp_path / "c", "--label", "good", "--min-score", 0.5), "min-score"),
        (("--model", tmp_path / "lm", "--max-perplexity", 40), "max-perplexity"),
    ):
        code, out, err = nlpkit(*common, *rule, "--report", report)
        assert code == 0, err
        dropped = wanted.count(False)
        assert json.loads(out) == {
            "read": 41,
            "kept": 40 - dropped,
            "dropped": {"min-words": 1, reason: dropped},
        }
        kept = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
        assert kept == [r for r, w in zip(records, wanted, strict=False) if w]
        told = [json.loads(line) for line in report.read_text().splitlines()]
        assert [t["reason"] for t in told].count(reason) == dropped == sum("score" in t for t in told)
    for rule, code, words in (
        (("--model", tmp_path / "c", "--label", "god", "--min-score", 0.5), 2, "did you mean 'good'"),
        (("--model", tmp_path / "c", "--label", "good"), 2, "--min-score"),
        (("--model", tmp_path / "c", "--max-perplexity", 9), 2, "is a classifier model"),
        (("--model", tmp_path / "lm", "--label", "good", "--min-score", 0.5), 2, "is a clm model"),
        (("--model", tmp_path / "none", "--max-perplexity", 9), 2, "no model"),
        (("--label", "good"), 2, "--model RUN"),
    ):
        found = nlpkit(*common, *rule)
        assert found[0] == code and words in found[2], found


PACK = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def forms(texts):
    """The same documents in every form."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), file)
    return {
        "txt": "".join(t + "\n" for t in texts).encode(),
        "jsonl": "".join(json.dumps({"text": t}) + "\n" for t in texts).encode(),
        "csv": ("text\n" + "".join(f'"{t}"\n' for t in texts)).encode(),
        "tsv": ("text\n" + "".join(f"{t}\n" for t in texts)).encode(),
        "parquet": file.getvalue(),
    }


def test_every_form_and_compression(nlpkit, tmp_path):
    texts = ["The cat sat on the mat.", "A dog ran away.", "the  cat sat on THE mat.", "one two three"]
    (tmp_path / "test.txt").write_text("one two three\n")
    verbs = {
        "dedup": (("--exact-only",), {"exact": 1}),
        "decontaminate": (("--against", tmp_path / "test.txt"), {"equal": 1, "ngram": 0, "contained": 0}),
        "filter": (("--min-words", 4), {"min-words": 1}),
    }
    for form, data in forms(texts).items():
        for end, pack in PACK.items():
            given = tmp_path / f"in.{form}{end}"
            given.write_bytes(pack(data))
            code, out, _ = nlpkit("corpus", "stats", given, "--json")
            assert code == 0 and json.loads(out)["documents"] == 4, given
            for verb, (options, dropped) in verbs.items():
                target = tmp_path / f"o.{form}{end}"
                code, out, err = nlpkit("corpus", verb, given, "-o", target, "--json", "--force", *options)
                assert code == 0, err
                assert json.loads(out)["kept"] == 3 and json.loads(out)["dropped"] == dropped, given
                code, out, _ = nlpkit("corpus", "stats", target, "--json")
                assert json.loads(out)["documents"] == 3, target
            code, _, err = nlpkit("corpus", "split", given, "-o", tmp_path / "s", "--force", "--test", 0.5)
            parts = {}
            for part in ("train", "valid", "test"):
                for line in (tmp_path / "s" / f"{part}.jsonl").read_text().splitlines():
                    parts.setdefault(" ".join(json.loads(line)["text"].lower().split()), set()).add(part)
            assert code == 0 and len(parts) == 3 and all(len(found) == 1 for found in parts.values())


def test_a_bad_record_has_the_line_of_its_file(nlpkit, tmp_path):
    """Lines that --errors skip drops are counted, so the number is the one an editor shows."""
    bad = b"\xff\xfe\n"
    cases = {
        "x.jsonl": b'{"text": "a"}\n' + b'{"text": "' + bad + b'{"text": "b"}\n{"text": 1}\n',
        "x.tsv": b"text\tn\na\t1\n" + bad + b"b\n",
        "x.csv": b"text,n\na,1\n" + bad + b"b\n",
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        line = data.count(b"\n")
        code, _, err = nlpkit("corpus", "stats", tmp_path / name, "--errors", "skip")
        assert code == 3 and f"{tmp_path / name}:{line}:" in err, err
    (tmp_path / "x.txt").write_bytes(b"a\n" + bad + b"b\n")
    rule = ("--score-field", "n", "--min-score", 0, "--min-words", 0, "--not-match", "^a")
    code, _, err = nlpkit("corpus", "filter", tmp_path / "x.txt", "--errors", "skip", *rule)
    assert code == 3 and f"{tmp_path / 'x.txt'}:3: no field 'n'" in err

"""corpus dedup, decontaminate and filter as people run them: pipes, counts, refusals with their exit codes."""

import gzip
import io
import json
import sys

import pytest

from nlpkit import cli

LINES = "The cat sat.\nA dog ran away.\nthe  CAT sat.\n"


@pytest.fixture
def nlpkit(monkeypatch, capfdbinary):
    """Runs a command line with bytes on standard input: (exit code, stdout, stderr)."""

    def run(*argv, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        code = cli.run([str(a) for a in argv])
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run


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

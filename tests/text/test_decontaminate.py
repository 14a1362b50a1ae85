"""Planted contamination is found, clean documents stay, and each evaluation file gets its count."""

import json
import random

import numpy as np
import pytest

from nlpkit.errors import DataError, UsageError
from nlpkit.text.decontaminate import Evaluation, Runs, decontaminate, words_of

RANDOM = random.Random(1)
VOCABULARY = [f"word{n}" for n in range(5000)]


def text(count):
    return " ".join(RANDOM.choices(VOCABULARY, k=count))


def write(path, texts, field="text"):
    path.write_text("".join(json.dumps({"id": f"d{n}", field: t}) + "\n" for n, t in enumerate(texts)))
    return path


def kept(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


@pytest.fixture
def clean():
    return [text(60) for _ in range(20)]


def run(tmp_path, texts, against, **options):
    given = write(tmp_path / "in.jsonl", texts)
    out = tmp_path / "o.jsonl"
    counted, found = decontaminate([given], against, str(out), force=True, **options)
    return counted, found, kept(out)


def test_a_shared_run_of_exactly_n_words(tmp_path, clean):
    evaluation = text(40)
    words = evaluation.split()
    thirteen = f"{text(20)} {' '.join(words[10:23])} {text(20)}"
    twelve = f"{text(20)} {' '.join(words[10:22])} {text(20)}"
    against = write(tmp_path / "eval.jsonl", [text(30), evaluation])
    counted, found, ids = run(tmp_path, [*clean, thirteen, twelve], [against])
    assert ids == [f"d{n}" for n in range(20)] + ["d21"]
    assert counted.as_record() == {
        "read": 22, "kept": 21, "dropped": {"equal": 0, "ngram": 1, "contained": 0}
    }  # fmt: skip
    assert found["against"] == {str(against): {"texts": 2, "documents": 1}}
    (example,) = found["examples"]
    assert example == {
        "number": 21, "id": "d20", "reason": "ngram", "share": round(13 / 53, 4),
        "against": str(against), "text_number": 2, "words": " ".join(words[10:23]),
    }  # fmt: skip
    counted, _, _ = run(tmp_path, [*clean, thirteen, twelve], [against], ngram=12)
    assert counted.dropped["ngram"] == 2


def test_case_punctuation_and_spacing_do_not_count(tmp_path, clean):
    run_of = "one two three four five six seven eight nine ten eleven twelve thirteen"
    against = write(tmp_path / "eval.jsonl", [run_of + " and more"])
    loud = "start " + ",  ".join(run_of.upper().split()) + "! end"
    counted, _, ids = run(tmp_path, [clean[0], loud], [against])
    assert ids == ["d0"] and counted.dropped["ngram"] == 1


def test_short_evaluation_texts(tmp_path, clean):
    ten, four = text(10), text(4)
    against = write(tmp_path / "eval.jsonl", [ten, four])
    texts = [
        f"{clean[0]} {ten} {clean[1]}",  # holds the text of 10 words
        f"{clean[2]} {four} {clean[3]}",  # holds that of 4: too short to mean anything
        four.upper() + ".",  # equals it
        ten,
        " ".join(ten.split()[:9]),  # a part of an evaluation text is not one
    ]
    counted, _, ids = run(tmp_path, texts, [against])
    assert ids == ["d1", "d4"]
    assert counted.dropped == {"equal": 2, "ngram": 0, "contained": 1}
    counted, _, ids = run(tmp_path, texts, [against], min_contained=4)
    assert ids == ["d4"] and counted.dropped == {"equal": 2, "ngram": 0, "contained": 2}
    counted, _, ids = run(tmp_path, texts, [against], min_contained=11)
    assert ids == ["d0", "d1", "d4"]


def test_counts_for_each_file(tmp_path, clean):
    shared, alone = text(20), text(20)
    one = write(tmp_path / "one.jsonl", [shared, alone, shared])
    two = write(tmp_path / "two.jsonl", [text(20), shared])
    texts = [f"{clean[0]} {shared}", clean[1], f"{alone} {clean[2]}", shared]
    counted, found, ids = run(tmp_path, texts, [one, two])
    assert ids == ["d1"]
    assert found["against"] == {
        str(one): {"texts": 3, "documents": 3},
        str(two): {"texts": 2, "documents": 2},
    }
    assert counted.dropped == {"equal": 1, "ngram": 2, "contained": 0}
    assert [e["text_number"] for e in found["examples"]] == [1, 2, 1]


def test_min_share(tmp_path, clean):
    evaluation = text(100)
    quarter = f"{' '.join(evaluation.split()[:20])} {text(60)}"
    most = f"{' '.join(evaluation.split()[:80])} {text(20)}"
    against = write(tmp_path / "eval.jsonl", [evaluation])
    for share, left in ((0.0, []), (0.25, []), (0.26, ["d0"]), (0.8, ["d0"]), (0.81, ["d0", "d1"])):
        _, _, ids = run(tmp_path, [quarter, most], [against], min_share=share)
        assert ids == left, share


def test_report_field_and_text_files(tmp_path, clean):
    evaluation = text(20)
    against = write(tmp_path / "eval.jsonl", [evaluation], field="question")
    lines = tmp_path / "eval.txt"
    lines.write_text(f"{text(20)}\n\n{clean[3]}\n")
    report = tmp_path / "r.jsonl"
    _, found, ids = run(
        tmp_path, [*clean, evaluation], [against], against_field="question", report=str(report)
    )
    assert len(ids) == 20 and json.loads(report.read_text())["id"] == "d20"
    _, found, ids = run(tmp_path, clean, [lines])
    assert "d3" not in ids and len(ids) == 19 and found["against"][str(lines)]["texts"] == 2
    with pytest.raises(DataError, match=r"eval\.jsonl:1: no field 'text'"):
        run(tmp_path, clean, [against])


def test_run_hashes_are_those_of_the_words():
    """Equal runs have equal hashes wherever they stand; order counts."""
    runs = Runs(4)
    a = runs.runs(runs.words("p a b c d q".split()), [4])[4]
    b = runs.runs(runs.words("a b c d".split()), [4])[4]
    c = runs.runs(runs.words("a b d c".split()), [4])[4]
    assert a.shape == (3,) and b[0] == a[1] and c[0] not in a
    assert runs.runs(runs.words(["a"]), [4])[4].shape == (0,)
    words = [f"w{n}" for n in range(300)]
    every = runs.runs(runs.words([w for x in words for y in words for w in (x, y)]), [2])[2][::2]
    assert len(np.unique(every)) == 300 * 300


def test_against_sets_of_runs():
    """The hashed search finds what sets of word tuples find."""
    small = [f"v{n}" for n in range(6)]
    texts = [" ".join(RANDOM.choices(small, k=RANDOM.randint(1, 25))) for _ in range(300)]

    def grams(one, size):
        words = words_of(one)
        return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}

    for size in (3, 5):
        evaluation = [t for t in texts[:30] if len(t.split()) >= size]
        known = set().union(*(grams(t, size) for t in evaluation))
        search = Evaluation.__new__(Evaluation)
        search.__init__([], size)
        search.names, search.counts = ["x"], [0]
        for number, one in enumerate(evaluation, 1):
            search._add(words_of(one), 0, number, 8)
        for table in search._tables.values():
            table.seal()
        hits = [bool(grams(t, size) & known) for t in texts]
        assert any(hits) and not all(hits)
        assert [found is not None for found in search.shared(texts)] == hits
        assert [search.shared([t])[0] for t in texts] == search.shared(texts)


def test_refusals(tmp_path, clean):
    against = write(tmp_path / "eval.jsonl", [text(20)])
    empty = tmp_path / "empty.txt"
    empty.write_text("\n...\n")
    with pytest.raises(DataError, match="holds no text to look for"):
        run(tmp_path, clean, [empty])
    for files, options in (
        ([], {}), (["-"], {}), ([tmp_path / "absent"], {}), ([against], {"ngram": 0}),
        ([against], {"min_share": 1.5}), ([against], {"min_contained": 0}),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            run(tmp_path, clean, files, **options)

"""Every rule both ways, the first failing rule as the reason, and scores that are not numbers."""

import json

import pytest

from nlpkit.errors import DataError, UsageError
from nlpkit.text import quality
from nlpkit.text.quality import Rules, filter_corpus

GOOD = "The cat sat on the mat and it was warm."

CASES = [
    ({"min_words": 10}, GOOD, "Nine words are in this text, not one more."),
    ({"max_words": 3}, "one two three", "one two three four"),
    ({"max_mean_word_length": 4.0}, "abcd abcd", "abcd abcde"),
    ({"max_symbol_ratio": 0.25}, "a #b c d", "a #b c…"),
    ({"max_symbol_ratio": 0.1}, "a. b. c.", "more ... and"),
    ({"max_repeated_lines": 0.3}, "a\nb\n\nc\nd", "a\nb\na"),
    ({"max_digit_share": 0.5}, "ab 12", "ab 123"),
    ({"min_alpha_share": 0.8}, "a b c d 5", "a b c 4 5"),
    ({"lang_stopwords": 2}, "Cats AND, dogs of", "cats dogs the the"),
    ({"match": ("cat", "[0-9]")}, "cat 9", "cat nine"),
    ({"not_match": ("(?i)lorem ipsum", "^x")}, "a x", "LOREM ipsum"),
]


def write(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


@pytest.mark.parametrize(("rule", "passes", "fails"), CASES, ids=lambda c: next(iter(c)) if c else "")
def test_each_rule(tmp_path, rule, passes, fails):
    given = write(tmp_path / "in.jsonl", [{"text": passes}, {"text": fails}, {"text": passes, "k": 1}])
    counted = filter_corpus([given], Rules(**rule), str(tmp_path / "o.jsonl"))
    left = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert left == [{"text": passes}, {"text": passes, "k": 1}]
    reason = next(iter(rule)).replace("_", "-")
    assert counted.as_record() == {"read": 3, "kept": 2, "dropped": {reason: 1}}


def test_measures_of_nothing():
    for measure in (quality.mean_word_length, quality.symbol_ratio, quality.repeated_lines,
                    quality.digit_share, quality.alpha_share, quality.stopwords_in):  # fmt: skip
        assert measure("") == 0 == measure(" \n ")


def test_fields_and_scores(tmp_path):
    records = [
        {"text": "a", "label": "good", "n": 3, "ok": True, "probabilities": {"good": 0.9}, "p.q": 0.9},
        {"text": "b", "label": "bad", "n": 3, "ok": True, "probabilities": {"good": 0.2}, "p.q": "0.2"},
        {"text": "c", "label": "good", "n": 4, "ok": False, "probabilities": {"good": 0.5}, "p.q": 0.5},
    ]
    given = write(tmp_path / "in.jsonl", records)

    def left(**rules):
        filter_corpus([given], Rules(**rules), str(tmp_path / "o.jsonl"), force=True)
        return "".join(json.loads(line)["text"] for line in (tmp_path / "o.jsonl").read_text().splitlines())

    assert left(field_equals=(("label", "good"),)) == "ac"
    assert left(field_equals=(("label", "good"), ("n", "3"))) == "a"
    assert left(field_equals=(("ok", "true"),)) == "ab"
    assert left(score_field="probabilities.good", min_score=0.5) == "ac"
    assert left(score_field="p.q", min_score=0.3) == "ac"
    assert left(score_field="n", min_score=3.5) == "c"


def test_csv_scores_and_form(tmp_path):
    given = tmp_path / "in.csv"
    given.write_text('text,score\n"a, b",0.5\nc,-1e3\n"d ""e""",7\n')
    filter_corpus([given], Rules(score_field="score", min_score=0.5), str(tmp_path / "o.csv"))
    assert (tmp_path / "o.csv").read_text() == 'text,score\n"a, b",0.5\n"d ""e""",7\n'


@pytest.mark.parametrize("value", ["high", None, True, [1], "nan", "inf", 10**400])
def test_a_score_that_is_no_number(tmp_path, value):
    given = write(tmp_path / "in.jsonl", [{"text": "a", "score": 1}, {"text": "b", "score": value}])
    with pytest.raises(DataError, match=r"in\.jsonl:2: field 'score' is no number"):
        filter_corpus([given], Rules(score_field="score", min_score=0), str(tmp_path / "o.jsonl"))
    assert not (tmp_path / "o.jsonl").exists()


def test_a_score_that_is_not_there(tmp_path):
    given = write(tmp_path / "in.jsonl", [{"text": "a", "score": 1}])
    with pytest.raises(DataError, match=r"in\.jsonl:1: no field 'scor'; did you mean 'score'\?"):
        filter_corpus([given], Rules(score_field="scor", min_score=0), str(tmp_path / "o.jsonl"))


def test_the_first_rule_that_fails_counts(tmp_path):
    given = write(tmp_path / "in.jsonl", [{"text": t} for t in ("x", "9 9 9", "a b c", "a b", "a b 1 c")])
    rules = Rules(min_words=3, max_digit_share=0.1, not_match=("[0-9]",))
    counted = filter_corpus([given], rules, str(tmp_path / "o.jsonl"), report=str(tmp_path / "r.jsonl"))
    assert counted.dropped == {"min-words": 2, "max-digit-share": 2, "not-match": 0}
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [(line["number"], line["reason"]) for line in lines] == [
        (1, "min-words"), (2, "max-digit-share"), (4, "min-words"), (5, "max-digit-share")
    ]  # fmt: skip


def test_a_field_that_no_document_has_is_told(tmp_path, capsys):
    given = write(tmp_path / "in.jsonl", [{"text": "a"}, {"text": "b", "label": "x"}])
    filter_corpus([given], Rules(field_equals=(("label", "x"),)), str(tmp_path / "o.jsonl"))
    assert "no document" not in capsys.readouterr().err
    filter_corpus([given], Rules(field_equals=(("lable", "x"),)), str(tmp_path / "p.jsonl"))
    assert "--field-equals lable: no document has this field" in capsys.readouterr().err


@pytest.mark.parametrize(
    "rules",
    [
        Rules(),
        Rules(match=("(",)),
        Rules(score_field="s"),
        Rules(min_score=1.0),
        Rules(min_words=5, max_words=4),
    ],
)
def test_rules_that_cannot_be_asked(rules):
    with pytest.raises(UsageError):
        filter_corpus([], rules)


def test_a_document_is_written_before_the_next_is_read(tmp_path, monkeypatch):
    written, read = [], []

    class Tap(quality.Writer):
        def write(self, record):
            written.append(record["text"])
            super().write(record)

    def records(*arguments):
        for n in range(50):
            assert written == read
            read.append(str(n))
            yield {"text": str(n)}, f"x:{n}"

    monkeypatch.setattr(quality, "Writer", Tap)
    monkeypatch.setattr(quality, "read_records", records)
    given = write(tmp_path / "in.jsonl", [])
    assert (
        quality.sift([given], quality.one_by_one(lambda item: None), [], str(tmp_path / "o.jsonl")).kept == 50
    )
    assert written == read == [str(n) for n in range(50)]


def test_output_is_whole_or_absent(tmp_path):
    """A bad record late in the input leaves what was there before, and no half file."""
    given = tmp_path / "in.jsonl"
    given.write_text('{"text": "a"}\n' * 1000 + "{\n")
    output = tmp_path / "o.jsonl"
    output.write_text("older\n")
    with pytest.raises(DataError, match=r"in\.jsonl:1001"):
        filter_corpus([given], Rules(min_words=1), str(output), force=True, report=str(tmp_path / "r.jsonl"))
    assert output.read_text() == "older\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "o.jsonl"]


def test_whole_files_are_named_in_the_report(tmp_path):
    for name, body in (("a", "x\ny\n"), ("b", "x\n")):
        (tmp_path / f"{name}.txt").write_text(body)
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    report, output = tmp_path / "r.jsonl", tmp_path / "o.jsonl"
    filter_corpus(paths, Rules(min_words=2), str(output), documents="file", report=str(report))
    assert json.loads(report.read_text())["id"] == (tmp_path / "b.txt").as_posix()
    assert json.loads(output.read_text()) == {"text": "x\ny\n"}

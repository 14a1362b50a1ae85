"""Parquet: the same records back, every kind of text column, what bad files say, and nothing without pyarrow."""

import datetime
import decimal
import gzip
import io
import json
import random
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit import cli
from nlpkit.data.records import columns
from nlpkit.errors import DataError, UsageError
from nlpkit.text import parquet
from nlpkit.text.documents import Counts, Document, Source, read_documents
from nlpkit.text.quality import Rules, filter_corpus
from nlpkit.text.recipe import Recipe
from nlpkit.text.records import Writer, read_records
from nlpkit.text.standardize_stream import standardize

EVERY = Rules(min_words=0)


def put(path, table, **options):
    pq.write_table(pa.table(table), path, **options)
    return path


def lines(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def back(path):
    return [record for record, _ in read_records(Source(path, "parquet"))]


words = st.text(max_size=8)
values = {
    "text": words,
    "n": st.none() | st.integers(-(2**63), 2**63 - 1),
    "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "yes": st.booleans(),
    "list": st.lists(st.none() | st.integers(-9, 9), max_size=3),
    "inner": st.fixed_dictionaries({"a": words, "b": st.lists(words, max_size=2)}),
}


@settings(max_examples=40, deadline=None)
@given(records=st.lists(st.fixed_dictionaries(values), max_size=6), block=st.sampled_from([1, 1 << 22]))
def test_records_return(records, block):
    file = io.BytesIO()
    writer = Writer(file, "parquet")
    kept, parquet._BLOCK = parquet._BLOCK, block
    try:
        for record in records:
            writer.write(record)
        writer.close()
    finally:
        parquet._BLOCK = kept
    rows = pq.read_table(pa.BufferReader(file.getvalue())).to_pylist()
    assert rows == records


def test_jsonl_to_parquet_to_jsonl(tmp_path):
    records = [{"id": str(n), "text": f"Line {n} é\n\r\x85", "tags": ["a", "b"][: n % 3]} for n in range(700)]
    given = lines(tmp_path / "in.jsonl", records)
    for end in ("", ".gz"):
        there, here = tmp_path / f"x.parquet{end}", tmp_path / "out.jsonl"
        filter_corpus([given], EVERY, str(there))
        filter_corpus([there], EVERY, str(here), force=True)
        assert [json.loads(line) for line in here.read_bytes().split(b"\n")[:-1]] == records
        assert list(read_documents([there])) == list(read_documents([given]))
    standardize([there], Recipe.DEFAULT, str(tmp_path / "s.parquet"))
    assert back(tmp_path / "s.parquet")[1] == {"id": "1", "text": "line 1 e", "tags": ["a"]}
    (tmp_path / "empty.jsonl").write_text("")
    filter_corpus([tmp_path / "empty.jsonl"], EVERY, str(tmp_path / "none.parquet"))
    assert (
        pq.read_schema(tmp_path / "none.parquet").names == ["text"] and back(tmp_path / "none.parquet") == []
    )


KINDS = [
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(),
    pa.dictionary(pa.int32(), pa.string()),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_text_columns(tmp_path, kind):
    path = put(tmp_path / "x.parquet", {"text": pa.array(["a", "é", ""]).cast(kind), "id": [7, 8, 9]})
    assert list(read_documents([path])) == [Document("a", "7"), Document("é", "8"), Document("", "9")]
    assert columns(path) == ["text", "id"]


def test_values_become_those_of_json(tmp_path):
    when = datetime.datetime(2024, 5, 6, 7, 8, 9)
    path = put(tmp_path / "x.parquet", {
        "text": ["a"], "when": [when], "day": [when.date()], "price": [decimal.Decimal("1.50")],
        "nan": [float("nan")], "raw": [b"ab"], "deep": [{"x": [when], "y": {"z": float("inf")}}],
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        "long": [datetime.timedelta(seconds=1.5)],
    })  # fmt: skip
    (record,) = back(path)
    assert record == {
        "text": "a", "when": when.isoformat(), "day": "2024-05-06", "price": "1.50", "nan": None, "raw": "ab",
        "deep": {"x": [when.isoformat()], "y": {"z": None}}, "map": [["k", 1]], "long": 1.5,
    }  # fmt: skip
    json.dumps(record, allow_nan=False)


def test_bytes_that_are_not_utf8(tmp_path):
    path = put(tmp_path / "x.parquet", {"text": pa.array([b"a\xff", b"b", b"\xff", b"c"], pa.binary())})
    counts = Counts()
    assert [d.text for d in read_documents([path], counts=counts)] == ["a�", "b", "�", "c"]
    assert (counts.replaced, counts.dropped) == (2, 0)
    counts = Counts()
    found = list(read_records(Source(path, "parquet"), "text", "skip", counts))
    assert [(r["text"], where) for r, where in found] == [("b", f"{path}:2"), ("c", f"{path}:4")]
    assert (counts.replaced, counts.dropped) == (0, 2)
    with pytest.raises(DataError, match=r"x\.parquet:1: byte 0xff at 2 is not UTF-8"):
        list(read_documents([path], errors="strict"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"text": ["a", None]}, r"x\.parquet:2: field 'text' is not text but null"),
        ({"text": pa.array([None], pa.null())}, r"x\.parquet:1: field 'text' is not text but null"),
        ({"text": [1]}, r"x\.parquet:1: field 'text' is not text but int64"),
        ({"text": [["a"]]}, r"x\.parquet:1: field 'text' is not text but list"),
        ({"text": [datetime.date(2024, 1, 1)]}, r"x\.parquet:1: field 'text' is not text but date32"),
        ({"body": ["a"]}, r"x\.parquet:1: no field 'text'.*--text-field"),
    ],
)
def test_bad_columns(tmp_path, table, message):
    with pytest.raises(DataError, match=message):
        list(read_documents([put(tmp_path / "x.parquet", table)]))


def test_twice_the_same_name(tmp_path):
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="'text' stands twice"):
        list(read_documents([tmp_path / "x.parquet"]))


def test_damage_is_one_line(tmp_path):
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcdefgh", k=30)) for _ in range(300)]
    given = lines(tmp_path / "in.jsonl", [{"text": t} for t in texts])
    filter_corpus([given], EVERY, str(tmp_path / "whole.parquet"))
    whole = (tmp_path / "whole.parquet").read_bytes()
    path = tmp_path / "x.parquet"
    cut = [whole[:n] for n in (0, 3, 4, len(whole) // 2, len(whole) - 1)]
    flipped = []
    for _ in range(80):
        at, bit = draw.randrange(len(whole)), draw.randrange(8)
        flipped.append(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
    refused = 0
    for data in [*cut, b"not parquet at all", *flipped]:
        path.write_bytes(data)
        told = ""
        try:
            assert [d.text for d in read_documents([path])] == texts
        except DataError as error:
            told = str(error)
        assert not told or (str(path) in told and "\n" not in told)
        refused += bool(told)
    assert refused > 60


def test_records_that_fit_no_column(tmp_path):
    cases = [
        ([{"text": "a", "x": 1}, {"text": "b", "x": "c"}], "field 'x'"),
        ([{"text": "a", "x": 2**70}], "field 'x'"),
        ([{"text": "a", "x": 2**53 + 1}, {"text": "a", "x": 0.5}], "field 'x'"),
        ([{"text": "a", "x": {}}], "x"),
    ]
    for records, message in cases:
        for block in (1, 1 << 22):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(parquet, "_BLOCK", block)
                with pytest.raises(DataError, match=message) as caught:
                    filter_corpus([lines(tmp_path / "in.jsonl", records)], EVERY, str(tmp_path / "o.parquet"))
            assert "write jsonl" in str(caught.value)
            assert not (tmp_path / "o.parquet").exists()
    mixed = [{"text": "a", "x": 1}, {"text": "b"}, {"text": "c", "x": 0.5, "y": [1]}]
    for block in (1, 1 << 22):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parquet, "_BLOCK", block)
            filter_corpus(
                [lines(tmp_path / "in.jsonl", mixed)], EVERY, str(tmp_path / "o.parquet"), force=True
            )
        assert back(tmp_path / "o.parquet") == [{"x": None, "y": None, **record} for record in mixed]


def test_standard_input_and_verbs(tmp_path, monkeypatch, capfdbinary):
    path = put(tmp_path / "x.parquet", {"text": ["The cat sat.", "A dog."], "label": ["a", "b"]})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(path.read_bytes()))))
    assert cli.run(["standardize", "--input-format", "parquet"]) == 0
    out = capfdbinary.readouterr().out.decode().splitlines()
    assert [json.loads(line) for line in out] == [
        {"text": "the cat sat", "label": "a"}, {"text": "a dog", "label": "b"},
    ]  # fmt: skip
    (tmp_path / "z.parquet").write_bytes(gzip.compress(path.read_bytes()))
    for name in ("x", "z"):
        assert cli.run(["corpus", "stats", str(tmp_path / f"{name}.parquet"), "--json"]) == 0
        assert json.loads(capfdbinary.readouterr().out)["words"] == 5
    # What writes no records does not write them under this name either.
    target = str(tmp_path / "o.parquet")
    assert cli.run(["standardize", str(path), "--explain", "-o", target]) == 2
    assert "Parquet is not what would be written" in capfdbinary.readouterr().err.decode()


def test_without_pyarrow(tmp_path, monkeypatch, capfdbinary):
    path = put(tmp_path / "x.parquet", {"text": ["a"]})
    (tmp_path / "in.txt").write_text("a\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'nlpkit\[parquet\]'"):
        list(read_documents([path]))
    for argv in (["standardize", path], ["standardize", tmp_path / "in.txt", "-o", tmp_path / "o.parquet"]):
        assert cli.run([str(a) for a in argv]) == 2
        said = capfdbinary.readouterr().err.decode()
        assert "nlpkit[parquet]" in said and said.count("\n") == 1
    assert not (tmp_path / "o.parquet").exists()

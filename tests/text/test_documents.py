"""Reading: forms × compressions, encodings, and what each bad input says."""

import bz2
import gzip
import io
import json
import lzma
import sys

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.errors import DataError, NothingToRead, UsageError
from nlpkit.text import blocks
from nlpkit.text import documents as docs
from nlpkit.text.documents import Counts, Document, read_documents
from nlpkit.text.records import json_line, record_of, writing

PACK = {
    "": lambda b: b,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
FORMS = {
    ".txt": "one\nzwei ü\n\nfour\n",
    ".jsonl": '{"_id": 7, "title": "T", "text": "one", "label": "a"}\n\n{"id": "x", "text": "zwei ü"}\n',
    ".tsv": 'label\ttext\na\tone "\nb\tzwei ü\n',
    ".csv": 'label,text\na,"one, ""two""\nthree"\nb,zwei ü\n',
}


def expected(form):
    return {
        ".txt": [Document("one"), Document("zwei ü"), Document(""), Document("four")],
        ".jsonl": [Document("one", "7", "T", {"label": "a"}), Document("zwei ü", "x")],
        ".tsv": [Document('one "', fields={"label": "a"}), Document("zwei ü", fields={"label": "b"})],
        ".csv": [
            Document('one, "two"\nthree', fields={"label": "a"}),
            Document("zwei ü", fields={"label": "b"}),
        ],
    }[form]


def put(folder, name, data):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.fixture
def stdin(monkeypatch):
    def feed(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))

    return feed


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_every_compression(tmp_path, form, packing):
    path = put(tmp_path, f"in{form}{packing}", PACK[packing](FORMS[form].encode()))
    assert list(read_documents([path])) == expected(form)


@pytest.mark.parametrize("packing", PACK)
def test_standard_input_is_decompressed_by_its_first_bytes(stdin, packing):
    stdin(PACK[packing](b"a\nb\n"))
    assert [d.text for d in read_documents(["-"])] == ["a", "b"]


@pytest.mark.parametrize("packing", [p for p in PACK if p])
def test_a_cut_off_stream_is_an_error_that_names_the_file(tmp_path, packing):
    import random

    noise = random.Random(0).randbytes(6000).hex().encode()
    whole = PACK[packing](b"\n".join(noise[i : i + 60] for i in range(0, len(noise), 60)))
    path = put(tmp_path, "cut.txt", whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=r"cut\.txt: damaged or cut-off"):
        list(read_documents([path]))


@pytest.mark.parametrize("packing", [p for p in PACK if p])
def test_flipped_bytes_are_an_error(tmp_path, packing):
    whole = bytearray(PACK[packing](b"some text that is long enough to be compressed\n" * 50))
    whole[12:40] = bytes(b ^ 0xA5 for b in whole[12:40])
    path = put(tmp_path, "bad.txt", bytes(whole))
    with pytest.raises(DataError, match="damaged"):
        list(read_documents([path]))


def test_several_frames_and_members_follow_one_another(tmp_path):
    two = zstandard.ZstdCompressor().compress(b"a\n") + zstandard.ZstdCompressor().compress(b"b\n")
    assert [d.text for d in read_documents([put(tmp_path, "z", two)])] == ["a", "b"]
    two = gzip.compress(b"a\n") + gzip.compress(b"b\n")
    assert [d.text for d in read_documents([put(tmp_path, "g", two)])] == ["a", "b"]


def test_bom_and_crlf(tmp_path):
    path = put(tmp_path, "a.txt", b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert [d.text for d in read_documents([path])] == ["one", "two"]
    with pytest.raises(DataError, match="UTF-16"):
        list(read_documents([put(tmp_path, "b.txt", "x".encode("utf-16"))]))


def test_paragraphs_and_files(tmp_path):
    path = put(tmp_path, "a.txt", "\n\na\nb\n \nc\r\n\r\n\r\nd")
    assert [d.text for d in read_documents([path], documents="paragraph")] == ["a\nb", "c", "d"]
    (whole,) = read_documents([path], documents="file")
    assert whole.text == "\n\na\nb\n \nc\n\n\nd"
    assert whole.id == path.as_posix()


def test_bytes_that_are_not_utf8(tmp_path, capsys):
    path = put(tmp_path, "a.txt", "ok \ufffd\n".encode() + b"b\xffd\xfe\nfine\n")
    assert [d.text for d in read_documents([path])] == ["ok \ufffd", "b\ufffdd\ufffd", "fine"]
    assert capsys.readouterr().err.count("2 byte sequences") == 1
    assert [d.text for d in read_documents([path], errors="skip")] == ["ok \ufffd", "fine"]
    assert "1 documents were dropped" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"a\.txt:2: byte 0xff at column 2"):
        list(read_documents([path], errors="strict"))


def test_long_lines_are_split_between_characters_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(docs, "LIMIT", 10)
    monkeypatch.setattr(blocks, "LIMIT", 10)
    counts = Counts()
    path = put(tmp_path, "a.txt", "üüüüüüüüüü\nabc\nx" + "€" * 5)
    found = [d.text for d in read_documents([path], counts=counts)]
    assert "".join(found) == "üüüüüüüüüüabcx" + "€" * 5
    assert all(len(t.encode()) <= 10 for t in found) and "\ufffd" not in "".join(found)
    assert counts.split == 3


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jsonl", '{"text": "a"}\n{"text": \n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: a JSON object is needed, this is a list"),
        ("a.jsonl", '{"txt": "a"}\n', r"a\.jsonl:1: no field 'text'; did you mean 'txt'"),
        ("a.jsonl", '{"text": 3}\n', r"a\.jsonl:1: field 'text' is not text but int"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl:1: not JSON: nested too deep"),
        ("a.tsv", "label\ttext\na\tb\tc\n", r"a\.tsv:2: 3 fields, the header has 2"),
        ("a.csv", 'label,text\na,"b\n', r"a\.csv:\d: not CSV"),
        ("a.csv", "label,text\na\n", r"a\.csv:2: 1 fields"),
    ],
)
def test_bad_records_name_file_and_line(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        list(read_documents([put(tmp_path, name, content)]))


def test_lone_surrogates_become_text_that_utf8_can_spell(tmp_path, capsys):
    path = put(tmp_path, "a.jsonl", '{"text": "a\\ud800b \\ud83d\\ude00"}\n')
    (found,) = read_documents([path])
    assert found.text == "a\ufffdb 😀"
    assert "1 byte sequences" in capsys.readouterr().err


def test_id_and_text_fields(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"key": 1, "id": 2, "body": "x", "title": null}\n')
    (found,) = read_documents([path], text_field="body", id_field="key")
    assert found == Document("x", "1", "", {"id": 2})
    with pytest.raises(DataError, match="no field 'kye'; did you mean 'key'"):
        list(read_documents([path], text_field="body", id_field="kye"))


def test_folders_are_walked_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    put(tmp_path, "b/2.md", "two\n")
    put(tmp_path, "a.txt.gz", gzip.compress(b"one\n"))
    put(tmp_path, "z.bin", b"\x00")
    put(tmp_path, ".hidden.txt", "no\n")
    assert [d.text for d in read_documents([tmp_path])] == ["one", "two"]


def test_refusals_come_before_reading(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="no such file"):
        read_documents([tmp_path / "absent"])
    with pytest.raises(DataError, match="no text files"):
        read_documents([tmp_path])
    with pytest.raises(UsageError, match="did you mean 'line'"):
        read_documents([tmp_path], documents="lines")
    monkeypatch.setattr(sys, "stdin", type("Tty", (), {"isatty": lambda self: True})())
    with pytest.raises(NothingToRead):
        read_documents([])


@pytest.mark.parametrize("name", ["o.jsonl", "o.jsonl.gz", "o.jsonl.zst", "o.jsonl.xz", "o.jsonl.bz2"])
def test_what_is_written_reads_back(tmp_path, name):
    made = [Document("a\nb", "1", "t", {"label": 3}), Document("ü")]
    with writing(tmp_path / name) as file:
        for document in made:
            file.write(json_line(record_of(document)))
    assert list(read_documents([tmp_path / name])) == made
    with pytest.raises(UsageError, match="exists already"), writing(tmp_path / name):
        pass


@settings(deadline=None)
@given(st.lists(st.text(), max_size=20))
def test_jsonl_round_trip_keeps_order_and_every_character(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "p.jsonl"
    path.write_bytes(b"".join(json.dumps({"text": t}).encode() + b"\n" for t in texts))
    assert [d.text for d in read_documents([path])] == texts


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_some_lines(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(b"#\n" + data)
    found = list(read_documents([path], counts=Counts()))
    assert len(found) == 1 + data.count(b"\n") + (not data.endswith(b"\n") and bool(data))

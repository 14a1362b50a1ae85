"""Folders and files of all kinds as documents: what is read, what it is called, what is left out and said."""

import gzip
import os

import pytest

from nlpkit.errors import DataError, UsageError
from nlpkit.text.collection import Tally, read_collection
from nlpkit.text.pdf import Pdf

PAGE = """<!doctype html><html lang="en"><head><title> A  page </title><style>p {}</style></head><body>
<nav>Home About</nav><h1>Heading</h1><p>One&nbsp;two &amp; three.</p><script>var x = "<p>no</p>"</script>
<ul><li>first<li>second</ul><pre>kept  as
it is</pre><footer>imprint</footer></body></html>"""
NOTE = "---\ntitle: A note\nyear: 2024\ntags: [a, b]\n---\n\n# Other heading\n\nBody of the *note*.\n"


def pdf(*pages: str, title: str = "") -> bytes:
    """A small PDF with a line of text on each page."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode()
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
        kids.append(len(objects))
    listed = b" ".join(b"%d 0 R" % n for n in kids)
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (listed, len(kids))
    objects.append(b"<< /Title (%s) >>" % title.encode())
    made, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    made += b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return made + trailer % (len(objects) + 1, len(objects), start)


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def folder(tmp_path):
    write(
        tmp_path / "d",
        {
            "a.txt": "plain text\n\nof two paragraphs\n", "web/page.html": PAGE, "note.md": NOTE,
            "src/tool.py": "def f():\n    return 1\n", "paper.pdf": pdf("first page", "second page", title="Paper"),
            "rows.jsonl": '{"_id": "r1", "title": "T", "text": "a record", "year": 1999}\n', "empty.txt": "",
            "picture.png": b"\x89PNG\r\n\x1a\n\0\0", "data.bin": b"ab\0cd", ".hidden/x.txt": "no", ".secret": "no",
            ".gitignore": "*.log\nbuild/\n!keep.log\n", "x.log": "no", "keep.log": "kept", "build/out.txt": "no",
            "sub/.gitignore": "local.txt\n", "sub/local.txt": "no", "sub/other.txt": "yes",
            "bom.txt": b"\xef\xbb\xbfwith a mark", "packed.txt.gz": gzip.compress(b"unpacked"),
        },
    )  # fmt: skip
    return tmp_path / "d"


def test_a_folder_is_read_in_order_and_what_is_left_out_is_counted(folder, capfd):
    found = {d.id: d for d in read_collection([folder])}
    names = ["a.txt", "bom.txt", "empty.txt", "keep.log", "note.md", "packed.txt.gz", "paper.pdf", "r1"]
    assert list(found) == [*names, "src/tool.py", "sub/other.txt", "web/page.html"]
    assert found["a.txt"].text == "plain text\n\nof two paragraphs\n" and found["a.txt"].title == "a.txt"
    assert found["bom.txt"].text == "with a mark" and found["packed.txt.gz"].text == "unpacked"
    assert found["empty.txt"].text == "" and found["keep.log"].text == "kept"
    assert found["r1"].title == "T" and found["r1"].fields == {"year": 1999}
    assert found["src/tool.py"].fields == {"path": "src/tool.py", "type": "code", "language": "python"}
    said = capfd.readouterr().err
    assert "read 11 files; skipped" in said and "2 binary" in said
    assert "3 ignored by .gitignore" in said and "hidden" in said


def test_html_markdown_and_pdf(folder):
    found = {d.id: d for d in read_collection([folder])}
    page = found["web/page.html"]
    assert page.title == "A page" and page.fields["language"] == "en"
    assert page.text == "Heading\n\nOne\xa0two & three.\n\nfirst\nsecond\n\nkept  as\nit is"
    note = found["note.md"]
    assert note.title == "A note" and note.text == NOTE and note.fields["year"] == 2024
    assert note.fields["tags"] == ["a", "b"] and note.fields["type"] == "markdown"
    paper = found["paper.pdf"]
    assert paper.title == "Paper" and paper.fields["pages"] == 2
    assert paper.text.split("\f") == ["first page", "second page"]


def test_named_files_and_parts(folder):
    assert [d.text for d in read_collection([folder / "a.txt"])] == ["plain text", "of two paragraphs"]
    assert [d.id for d in read_collection([folder / "note.md"])] == [(folder / "note.md").as_posix()]
    lines = [d for d in read_collection([folder], documents="line") if d.id.startswith("a.txt")]
    assert [d.id for d in lines] == ["a.txt#1", "a.txt#2", "a.txt#3"]


def test_what_cannot_be_read_is_told(tmp_path, capfd):
    write(
        tmp_path / "d",
        {"ok.txt": "fine", "bad.pdf": b"%PDF-1.4 nonsense", "wide.txt": "\ufeffa".encode("utf-16")},
    )
    os.symlink(tmp_path / "d", tmp_path / "d" / "loop")
    os.symlink("nowhere", tmp_path / "d" / "gone.txt")
    assert [d.id for d in read_collection([tmp_path / "d"])] == ["ok.txt"]
    said = capfd.readouterr().err
    assert "bad.pdf" in said and "UTF-16" in said and "links to folders" in said and "unreadable" in said
    with pytest.raises(DataError, match=r"bad\.pdf: damaged"):
        list(read_collection([tmp_path / "d" / "bad.pdf"]))
    write(tmp_path / "b", {"x.bin": b"\0\0"})
    with pytest.raises(DataError, match="no file in the folder can be read"):
        list(read_collection([tmp_path / "b"]))
    (tmp_path / "e").mkdir()
    with pytest.raises(DataError, match="it is empty"):
        list(read_collection([tmp_path / "e"]))
    with pytest.raises(UsageError):
        read_collection([tmp_path / "none.txt"])


def test_names_from_elsewhere_stay_on_one_line(tmp_path, capfd):
    write(tmp_path, {"a\n\x1b[31mb.txt": "text", "c.pdf\nd.pdf": b"%PDF- no"})
    (found,) = read_collection([tmp_path])
    assert found.text == "text"
    said = capfd.readouterr().err
    assert "\x1b" not in said and all(line.startswith(("nlpkit", "read")) for line in said.splitlines())


def test_bytes_that_are_not_text_are_counted(tmp_path):
    write(tmp_path, {"latin.txt": b"caf\xe9", "page.html": b'<meta charset="latin-1"><p>caf\xe9</p>'})
    counts = Tally()
    found = {d.id: d.text for d in read_collection([tmp_path], counts=counts)}
    assert found == {"latin.txt": "caf\ufffd", "page.html": "caf\xe9"} and counts.replaced == 1


def test_two_folders_with_one_name_are_refused(tmp_path):
    write(tmp_path, {"a/x.txt": "1", "b/x.txt": "2", "b/y.txt": "3"})
    with pytest.raises(DataError, match=r"would both have the id 'x\.txt'"):
        list(read_collection([tmp_path / "a", tmp_path / "b"]))
    with pytest.raises(DataError, match="named twice"):
        list(read_collection([tmp_path / "a", tmp_path / "a"]))


def test_a_pdf_with_a_broken_page_keeps_the_others(tmp_path, monkeypatch, capfd):
    (tmp_path / "p.pdf").write_bytes(pdf("one", "two"))
    page = Pdf._page

    def broken(self, number):
        if number == 0:
            self.failed += 1
            return ""
        return page(self, number)

    monkeypatch.setattr(Pdf, "_page", broken)
    (found,) = read_collection([tmp_path / "p.pdf"])
    assert found.text == "\ftwo" and "1 of 2 pages could not be read" in capfd.readouterr().err


def test_a_missing_extra_is_named(tmp_path, monkeypatch, capfd):
    write(tmp_path, {"page.html": "<p>a</p>", "b.txt": "b"})
    monkeypatch.setitem(__import__("sys").modules, "selectolax.lexbor", None)
    assert [d.id for d in read_collection([tmp_path])] == ["b.txt"]
    assert "pip install 'nlpkit[docs]'" in capfd.readouterr().err
    with pytest.raises(UsageError, match=r"nlpkit\[docs\]"):
        list(read_collection([tmp_path / "page.html"]))

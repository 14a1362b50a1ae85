"""Files and folders of all kinds: what is read, as what, and what is said about the rest."""

import errno
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit import console
from nlpkit.errors import DataError, UsageError
from nlpkit.text import collection
from nlpkit.text import documents as docs
from nlpkit.text.collection import Tally, read_collection
from nlpkit.text.documents import Document
from nlpkit.text.folders import walk
from nlpkit.text.markup import declared_encoding, read_html, read_markdown


def put(folder, name, data=""):
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def pdf(*pages, title="", encrypt=None):
    """A PDF whose pages show a line each."""
    import pypdf
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    made = pypdf.PdfWriter()
    font = DictionaryObject({NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
                             NameObject("/BaseFont"): NameObject("/Helvetica")})  # fmt: skip
    for text in pages:
        page = made.add_blank_page(200, 200)
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = made._add_object(content)
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
        )
    if title:
        made.add_metadata({"/Title": title})
    if encrypt is not None:
        made.encrypt(encrypt, "owner", algorithm="RC4-128")
    out = io.BytesIO()
    made.write(out)
    return out.getvalue()


def read(*paths, **options):
    """Documents, and the tally."""
    tally = Tally()
    return list(read_collection(paths, counts=tally, **options)), tally


def ids(*paths, **options):
    return [d.id for d in read(*paths, **options)[0]]


def test_a_folder_of_everything(tmp_path, capsys):
    put(tmp_path, "a.txt", "one\n\ntwo\n")
    put(tmp_path, "b/page.html", "<title>T &amp; t</title><nav>menu</nav><p>a <b>b</b><p>c &eacute;")
    put(tmp_path, "b/notes.md.gz", gzip.compress(b"---\nyear: 2024\n---\n# Head\nbody\n"))
    put(tmp_path, "c.pdf", pdf("first page", "second page", title="The title"))
    put(tmp_path, "d.py", "print(1)\n")
    put(tmp_path, "run", "#!/usr/bin/env python3\npass\n")
    put(tmp_path, "r.jsonl", '{"_id": "7", "title": "R", "text": "rec", "year": 3, "path": "kept"}\n')
    put(tmp_path, "e.txt", "")
    put(tmp_path, "x.png", b"\x89PNG....")
    put(tmp_path, "y.dat", b"abc\0def")
    put(tmp_path, ".hidden/z.txt", "no")
    found = {d.id: d for d in read_collection([tmp_path])}
    assert list(found) == ["a.txt", "b/notes.md.gz", "b/page.html", "c.pdf", "d.py", "e.txt", "7", "run"]
    assert found["a.txt"] == Document("one\n\ntwo\n", "a.txt", "a.txt", {"path": "a.txt", "type": "text"})
    page = found["b/page.html"]
    assert (page.text, page.title, page.fields["type"]) == ("a b\n\nc é", "T & t", "html")
    notes = found["b/notes.md.gz"]
    assert notes.text == "---\nyear: 2024\n---\n# Head\nbody\n" and notes.title == "Head"
    assert notes.fields == {"year": 2024, "path": "b/notes.md.gz", "type": "markdown"}
    paper = found["c.pdf"]
    assert paper.text == "first page\fsecond page" and paper.title == "The title"
    assert paper.fields == {"path": "c.pdf", "type": "pdf", "pages": 2}
    assert found["d.py"].fields == {"path": "d.py", "type": "code", "language": "python"}
    assert found["run"].fields["language"] == "python"
    assert found["7"] == Document("rec", "7", "R", {"year": 3, "path": "kept"})
    assert found["e.txt"].text == ""
    said = capsys.readouterr().err.splitlines()
    assert said == ["read 8 files; skipped 2 binary, 1 hidden (a folder counts once)"]


def test_named_files(tmp_path):
    text = put(tmp_path, "a.txt", "one\n\ntwo\n")
    code = put(tmp_path, "m.py", "x = 1\n")
    page = put(tmp_path, "p.html", "<p>hello")
    paper = put(tmp_path, "no-suffix", pdf("words"))
    rows = put(tmp_path, "r.csv", "id,text\n3,three\n")
    found, tally = read(text, code, page, paper, rows)
    assert [d.text for d in found] == ["one", "two", "x = 1\n", "hello", "words", "three"]
    assert [d.id for d in found] == ["", "", str(code), str(page), str(paper), "3"]
    assert found[2].title == "m.py" and tally.files == 5
    assert [d.text for d in read(text, documents="line")[0]] == ["one", "", "two"]
    assert read(text, documents="file")[0] == list(docs.read_documents([text], documents="file"))
    assert [d.text for d in read(code, format="text", documents="line")[0]] == ["x = 1"]


def test_text_in_folders_is_parted_on_request(tmp_path):
    put(tmp_path, "a.txt", "one\n\ntwo\n")
    put(tmp_path, "b.md", "x\n\ny\n")
    found, _ = read(tmp_path, documents="paragraph")
    assert [(d.id, d.text) for d in found] == [("a.txt#1", "one"), ("a.txt#2", "two"), ("b.md", "x\n\ny\n")]


def test_named_files_that_cannot_be_read(tmp_path):
    for name, data, message in (
        ("x.png", b"\x89PNG\r\n\x1a\n", "x.png: is binary, not text"),
        ("x.html", b"<p>a\0b", "x.html: is binary"),
        ("x.py", "x = 1".encode("utf-16"), "x.py: is UTF-16"),
        ("x.txt", "x = 1".encode("utf-16"), "x.txt: is UTF-16"),
        ("x.pdf", b"%PDF-1.4\nrubbish", "x.pdf: damaged or not PDF"),
        ("e.pdf", b"", "e.pdf: damaged or not PDF"),
        ("s.pdf", pdf("secret", encrypt="pass"), "s.pdf: the PDF is encrypted; decrypt it"),
        ("deep.html", "<div>" * 3000, "deep.html: HTML nested over 1,000 deep"),
        ("x.md.gz", gzip.compress(b"words " * 99)[:-9], "x.md.gz: damaged or cut-off gzip"),
    ):
        with pytest.raises(DataError, match=message):
            read(put(tmp_path, name, data))
    with pytest.raises(UsageError, match="no such file"):
        read_collection([tmp_path / "absent"])
    with pytest.raises(UsageError, match="did you mean 'line'"):
        read_collection([tmp_path], documents="lines")
    with pytest.raises(UsageError, match="named twice"):
        read_collection(["-", "-"], format="text")


def test_broken_files_in_a_folder_are_named_and_counted(tmp_path, capsys):
    put(tmp_path, "ok.txt", "fine")
    put(tmp_path, "bad.pdf", b"%PDF-1.4\nrubbish")
    put(tmp_path, "locked.pdf", pdf("secret", encrypt="pass"))
    put(tmp_path, "open.pdf", pdf("not secret", encrypt=""))
    put(tmp_path, "scan.pdf", pdf(""))
    put(tmp_path, "wide.txt", "x".encode("utf-16"))
    put(tmp_path, "cut.txt.gz", gzip.compress(os.urandom(999).hex().encode())[:-99])
    put(tmp_path, "qrels.tsv", "query-id\tscore\n1\t2\n")
    put(tmp_path, "deep.html", "<div>" * 3000)
    found, tally = read(tmp_path)
    assert [(d.id, d.text) for d in found] == [
        ("ok.txt", "fine"),
        ("open.pdf", "not secret"),
        ("scan.pdf", ""),
    ]
    assert tally.skipped == {
        "broken": 3, "encrypted": 1, "UTF-16": 1, collection.NO_RECORDS: 1,
    }  # fmt: skip
    said = capsys.readouterr().err
    for name in ("bad.pdf", "locked.pdf", "wide.txt", "cut.txt.gz", "deep.html", "scan.pdf"):
        assert said.count(f"{tmp_path}/{name}: ") == 1
    assert "qrels.tsv:2: no field 'text'" in said and "(OCR)" in said
    with pytest.raises(DataError, match=r"bad\.pdf"):
        read(tmp_path, errors="strict")


def test_of_many_broken_files_only_the_first_are_named(tmp_path, capsys):
    for i in range(30):
        put(tmp_path, f"{i}.pdf", b"%PDF-")
    put(tmp_path, "ok.txt")
    assert read(tmp_path)[1].skipped == {"broken": 30}
    assert len(capsys.readouterr().err.splitlines()) == 11


def test_a_pdf_with_a_broken_page_keeps_the_others(tmp_path, monkeypatch, capsys):
    import pypdf

    put(tmp_path, "p.pdf", pdf("one", "two", "three"))
    extract, pages = pypdf.PageObject.extract_text, iter(range(3))

    def broken(self, *arguments):
        if next(pages) == 1:
            raise RecursionError
        return extract(self, *arguments)

    monkeypatch.setattr(pypdf.PageObject, "extract_text", broken)
    (found,), _ = read(tmp_path)
    assert found.text == "one\f\fthree" and found.fields["pages"] == 3
    assert "p.pdf: 1 of 3 pages could not be read" in capsys.readouterr().err


def test_a_bad_record_after_good_ones_is_an_error(tmp_path):
    put(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": \n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: not JSON"):
        read(tmp_path)


def test_a_folder_without_a_readable_file(tmp_path):
    with pytest.raises(DataError, match=r"no file in the folder can be read \(it is empty"):
        read(tmp_path)
    put(tmp_path, "x.bin", b"\0")
    put(tmp_path, ".secret", "x")
    with pytest.raises(DataError, match="skipped 1 hidden, 1 binary") as caught:
        read(tmp_path)
    assert caught.value.exit_code == 3
    assert ids(tmp_path, hidden=True) == [".secret"]


def test_bytes_that_are_not_utf8(tmp_path):
    put(tmp_path, "a.md", b"\xef\xbb\xbf# caf\xe9\r\nx\n")
    (found,), tally = read(tmp_path)
    assert found.text == "# caf\ufffd\nx\n" and found.title == "caf\ufffd" and tally.replaced == 1
    with pytest.raises(DataError, match=r"a\.md:1: byte 0xe9"):
        read(tmp_path, errors="strict")
    found, tally = read(tmp_path, errors="skip")
    assert found[0].text == "x\n" and tally.dropped == 1


def test_big_files_are_parted_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(docs, "LIMIT", 100)
    line = "some words here\n"
    put(tmp_path, "a.md", "# Head\n" + line * 20)
    put(tmp_path, "b.html", "<title>T</title><p>" + line * 20)
    put(tmp_path, "c.pdf", pdf(*("page of words" * 3 for _ in range(9))))
    found, tally = read(tmp_path)
    for name, title, words in (
        ("a.md", "Head", line * 20),
        ("b.html", "T", line * 20),
        ("c.pdf", "c.pdf", "page"),
    ):
        parts = [d for d in found if d.fields["path"] == name]
        assert [d.id for d in parts] == [name, *(f"{name}#{i}" for i in range(2, len(parts) + 1))]
        assert len(parts) > 2 and {d.title for d in parts} == {title}
        assert words == "page" or " ".join(words.split()) in " ".join(" ".join(d.text for d in parts).split())
    assert sum(d.text.count("page of") for d in found) == 27
    assert tally.split == len(found) - 3


def test_ids_of_several_paths(tmp_path):
    for folder in ("a", "b"):
        put(tmp_path, f"{folder}/x.md", folder)
    put(tmp_path, "b/y.md", "y")
    with pytest.raises(
        DataError, match=r"a/x\.md and .*b/x\.md would both have the id 'x\.md'; name the folder above"
    ):
        read(tmp_path / "a", tmp_path / "b")
    assert ids(tmp_path) == ["a/x.md", "b/x.md", "b/y.md"]
    with pytest.raises(DataError, match=r"a/x\.md is named twice"):
        read(tmp_path / "a", tmp_path / "a")


def test_names_of_all_sorts(tmp_path, capsys):
    (tmp_path / "d").mkdir()
    names = [b"new\nline.txt", b"esc\x1b[31m.txt", b"bad\xff.txt", b" sp ace.txt", "ü.txt".encode(), b"-"]
    for name in (*names, b"z\n\x1b\xff.pdf"):
        with open(os.path.join(os.fsencode(tmp_path / "d"), name), "wb") as file:
            file.write(b"x")
    found = ids(tmp_path / "d")
    assert sorted(found) == sorted(
        ["new\nline.txt", "esc\x1b[31m.txt", "bad\\xff.txt", " sp ace.txt", "ü.txt", "-"]
    )
    said = capsys.readouterr().err
    assert "\x1b" not in said and len(said.splitlines()) == 1
    json.dumps(found).encode()
    with pytest.raises(DataError) as caught:
        read(os.fsdecode(os.path.join(os.fsencode(tmp_path / "d"), b"z\n\x1b\xff.pdf")))
    assert "\x1b" not in console.visible(str(caught.value)) and "\n" not in str(caught.value)


def test_links_and_special_files(tmp_path):
    put(tmp_path, "in/a.txt", "a")
    put(tmp_path, "out/b.txt", "b")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/self").symlink_to("self")
    (tmp_path / "in/gone").symlink_to("nowhere")
    (tmp_path / "in/file.txt").symlink_to(tmp_path / "out/b.txt")
    os.mkfifo(tmp_path / "in/pipe")
    found, tally = read(tmp_path / "in")
    assert [d.id for d in found] == ["a.txt", "file.txt"]
    assert tally.skipped == {"links to folders": 1, "unreadable": 2, "no regular files": 1}
    (tmp_path / "link").symlink_to(tmp_path / "out")
    assert ids(tmp_path / "link") == ["b.txt"]


def test_files_that_vanish_or_are_forbidden(tmp_path, monkeypatch, capsys):
    for name in "abcd":
        put(tmp_path, f"{name}.txt", name)
    put(tmp_path, "sub/x.txt")
    reading = collection.texts

    def texts(source, *rest):
        if source.path.name == "c.txt":
            raise PermissionError(errno.EACCES, "Permission denied", str(source.path))
        return reading(source, *rest)

    monkeypatch.setattr(collection, "texts", texts)
    tally, seen = Tally(), []
    for document in read_collection([tmp_path], counts=tally):
        seen.append(document.id)
        if document.id == "a.txt":
            (tmp_path / "b.txt").unlink()
            shutil.rmtree(tmp_path / "sub")
    assert seen == ["a.txt", "d.txt"]
    assert tally.skipped == {"unreadable": 3} and tally.files == 2
    said = capsys.readouterr().err
    assert (
        "b.txt: no such file" in said and "c.txt: permission denied" in said and "sub: no such file" in said
    )


def test_without_the_extra(tmp_path, monkeypatch, capsys):
    for name in ("selectolax.lexbor", "pypdf", "pathspec"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("a.html", "b.html", "c.pdf"):
        put(tmp_path, name, "<p>x")
        with pytest.raises(UsageError, match=r"pip install 'nlpkit\[docs\]'"):
            read(tmp_path / name)
    with pytest.raises(DataError, match="3 of a kind that needs an extra"):
        read(tmp_path)
    put(tmp_path, "d.md", "# x")
    capsys.readouterr()
    assert ids(tmp_path) == ["d.md"]
    assert capsys.readouterr().err.count("pip install") == 2  # once for HTML, once for PDF
    put(tmp_path, ".gitignore", "# only a remark\n\n")
    assert ids(tmp_path) == ["d.md"]
    put(tmp_path, ".gitignore", "d.md\n")
    with pytest.raises(UsageError, match=r"honouring it needs pathspec; run: pip install 'nlpkit\[docs\]'"):
        read(tmp_path)


# ---------------------------------------------------------------------- .gitignore


def test_gitignore(tmp_path):
    put(
        tmp_path, ".gitignore", b"\xef\xbb\xbf*.log\r\n!keep.log\nbuild/\n/top.txt\ndocs/*\n!docs/guide/\n[\n"
    )
    put(tmp_path, "sub/.gitignore", "!x.log\n/own.txt\n")
    kept = ["docs/guide/a.txt", "keep.log", "sub/build.txt", "sub/top.txt", "sub/x.log", "sub/y/own.txt"]
    gone = ["a.log", "sub/a.log", "sub/build/keep.log", "top.txt", "docs/b.txt", "sub/own.txt", "build/x.txt"]
    for name in (*kept, *gone):
        put(tmp_path, name)
    found, tally = read(tmp_path)
    assert [d.id for d in found] == kept
    assert tally.skipped["ignored by .gitignore"] == len(gone) and tally.skipped["hidden"] == 2


def test_rules_above_the_folder_count_unless_it_is_ignored_itself(tmp_path):
    put(tmp_path, ".git/HEAD")
    put(tmp_path, ".gitignore", "*.log\n/data/\nsrc/made.txt\n")
    for folder in ("src", "data/deep"):
        for name in ("a.txt", "a.log", "made.txt"):
            put(tmp_path, f"{folder}/{name}")
    assert ids(tmp_path / "src") == ["a.txt"]
    assert ids(tmp_path / "data/deep") == ["a.log", "a.txt", "made.txt"]
    assert ids(tmp_path) == ["src/a.txt"]
    shutil.rmtree(tmp_path / ".git")
    assert ids(tmp_path / "src") == ["a.log", "a.txt", "made.txt"]


NAMES = ["a", "b", "c.md", "d.py", "keep", "x y", "e.log", "[z]"]
PATTERNS = ["*", "*.md", "!*.md", "/a", "a/", "!a/", "b/*", "!b/keep", "**/c.md", "a/**", "keep", "!keep", "!e.log",
            "/b/c.md", "# c", "x\\ y", "[abc]", "!*/", "a/**/keep", "**", "!**/d.py", "/*", "!/b/**", "?", "a/b", "[z]",
            "\\[z\\]", "*.[lm]*", "trail  ", "!", "[", "/", "//a", "a//b", "!/a/b/", ""]  # fmt: skip
LINES = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=5)
TREES = st.recursive(
    st.none() | LINES.map(tuple),
    lambda inner: st.dictionaries(st.sampled_from([*NAMES, ".gitignore"]), inner, min_size=1, max_size=6),
    max_leaves=25,
)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the reference")
@settings(deadline=None, max_examples=60)
@given(TREES, LINES)
def test_what_is_ignored_is_what_git_ignores(tmp_path_factory, tree, lines):
    top = tmp_path_factory.mktemp("tree")

    def fill(folder, inside):
        for name, content in inside.items():
            if name == ".gitignore":
                put(folder, name, "\n".join(content) if isinstance(content, tuple) else "")
            elif isinstance(content, dict):
                (folder / name).mkdir()
                fill(folder / name, content)
            else:
                put(folder, name)

    fill(top, {**(tree if isinstance(tree, dict) else {"a": None}), ".gitignore": tuple(lines)})
    subprocess.run(["git", "init", "-q", str(top)], check=True)
    command = ["git", "-C", str(top), "ls-files", "-o", "-z", "--exclude-per-directory=.gitignore"]
    listed = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    wanted = {name for name in listed if name and not any(p.startswith(".") for p in name.split("/"))}
    found = [relative for _, relative in walk(str(top), False, lambda *_: None)]
    assert set(found) == wanted
    assert found == sorted(found, key=lambda name: name.split("/"))
    shutil.rmtree(top)


# ---------------------------------------------------------------------- HTML, Markdown


@pytest.mark.parametrize(
    "source, text",
    [
        ("", ""),
        ("plain &lt;text&gt;\n and  more", "plain <text> and more"),
        ("<p>a<p>b<div>c</div>d<br>e", "a\n\nb\n\nc\nd\ne"),
        ("<ul><li>a<li>b</ul>c", "a\nb\n\nc"),
        ("<table><tr><td>a<td>b<tr><td>c<td>d</table>", "a\tb\nc\td"),
        ("x<pre>  a\n    b\n</pre>y", "x\n\n  a\n    b\n\ny"),
        ("a<script>if (i<b) '<div>'</script><style>p{}</style> b<!-- no -->", "a b"),
        ("<nav>menu</nav><main>a</main><aside>ad</aside><footer>f</footer>", "a"),
        ("<nav>only menu</nav>", "only menu"),
        ("in<b>li</b>ne <i> spaced </i> text", "inline spaced text"),
        ("<p>a</b></p></div></body>b</html>c", "a\n\nbc"),
        ("&nbsp;&eacute;&#x1F600;&zzz;", "é😀&zzz;"),
    ],
)
def test_text_of_html(source, text):
    assert read_html(source, "x")[0] == text


def test_title_and_language_of_html():
    page = "<html lang=de><head><title> A\n B </title></head><h1>C</h1><svg><title>no</title></svg>"
    assert read_html(page, "x")[1:] == ("A B", "de")
    assert read_html("<svg><title>no</title></svg><h2></h2><h3>C <i>d</i></h3>", "x")[1:] == ("C d", "")
    assert read_html("<script>" + "if (a<div) b;" * 500 + "</script>" + "<p>x" * 5000, "x")[0].startswith(
        "x\n\nx"
    )


def test_an_html_page_in_the_encoding_that_it_names(tmp_path):
    put(tmp_path, "a.html", b'<meta charset="iso-8859-1"><p>caf\xe9 \x93q\x94')
    put(tmp_path, "b.html", '<meta charset="iso-8859-1"><p>café'.encode())
    put(tmp_path, "c.html", b"<meta charset=rot13><p>caf\xe9")
    assert [d.text for d in read(tmp_path)[0]] == ["café “q”", "café", "caf\ufffd"]
    assert declared_encoding(b"<meta charset=base64>") is None


TAGS = "<p> </p> <div> <table> <td> <b> </b> <pre> x <svg> </svg> <template> <!-- --> <nav> </nav>".split(" ")


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from(TAGS)).map("".join))
def test_any_html_has_some_text(source):
    text, title, _ = read_html(source, "x")
    assert "\0" not in text + title and text == text.strip()


@pytest.mark.parametrize(
    "source, title, fields",
    [
        ("", "", {}),
        ("text\n## [A *b*](u) `c_d` ##\n# E", "A b c_d", {}),
        ("```\n# no\n```\nSet _ext_\n---\n", "Set ext", {}),
        ("    # code\n#no heading\n", "", {}),
        ("---\ntitle: 'T: t'\nid: 4\ndate: 2024-01-02\ntags:\n  - a\n  - 2\nok: true\nn: -1.5\n---\n# H", "T: t",
         {"date": "2024-01-02", "tags": ["a", 2], "ok": True, "n": -1.5}),
        ("---\nnot closed: 1\n", "", {}),
        ("---\na:\n  deep: 1\nlist: [x, \"y\"]\ntype: post\n...\nH\n=\n", "H", {"a": None, "list": ["x", "y"]}),
        ("---\n---\n# H\n", "H", {}),
    ],
)  # fmt: skip
def test_title_and_front_matter_of_markdown(source, title, fields):
    assert read_markdown(source) == (title, fields)

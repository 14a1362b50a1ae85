"""Hostile input to every verb that reads text: no crash, a documented exit code, a counted warning, bounded memory.

The matrix of fixtures and verbs runs in process with small fixtures and lowered limits. With ``NLPKIT_FULL=FILE`` it
also runs at full size (a line of 100 MB, bombs of 1 GB), each cell in a process of its own on one core, and writes
a table of seconds, megabytes, exit codes and warnings to FILE.
"""

import bz2
import gzip
import json
import lzma
import os
import random
import re
import shutil
import subprocess
import sys
import time
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from nlpkit.cli import run
from nlpkit.text import blocks, compression, documents, long_texts, records, standardize
from nlpkit.text.tokenizer import Tokenizer

FULL = os.environ.get("NLPKIT_FULL", "")
#: Of every verb on the biggest fixtures; a document of 16 MiB is held whole with its tokens.
SECONDS, MEGABYTES = 15, 800
MB = 1_000_000
TEXT = b"The quick brown fox, na\xc3\xafve and 42 years old, isn't here.\n"
SPLIT, REPLACED = r"documents over \d+ MiB were split", "byte sequences were not UTF-8"


def noise(size: int) -> bytes:
    """Lines of words that hardly compress."""
    generator = random.Random(0)
    return b"".join(
        b"%x %x\n" % (generator.getrandbits(60), generator.getrandbits(90)) for _ in range(size // 40)
    )


def repeated(unit: bytes, size: float) -> Iterator[bytes]:
    """About ``size`` bytes of a unit, in pieces."""
    piece = unit * max(1, int(min(size, MB)) // len(unit))
    for _ in range(max(1, int(size) // len(piece))):
        yield piece


def packed(kind: str, unit: bytes, size: float) -> Iterator[bytes]:
    """``repeated``, compressed."""
    makers = {
        "zst": lambda: zstandard.ZstdCompressor(level=19).compressobj(),
        "gz": lambda: zlib.compressobj(9, 8, 31),
        "bz2": bz2.BZ2Compressor,
        "xz": lambda: lzma.LZMACompressor(preset=0),
    }
    one = makers[kind]()
    for piece in repeated(unit, size):
        yield one.compress(piece)
    yield one.flush()


def wrong_size(data: bytes) -> bytes:
    """A gz member whose trailer claims almost 4 GB."""
    return gzip.compress(data)[:-4] + b"\xf0\xff\xff\xff"


def jsonl(*texts: str) -> bytes:
    return "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)).encode()


def pairs() -> bytes:
    """Words in composed and in decomposed form."""
    return "\n".join(
        ["Amélie café Å ﬁ", "Ame\u0301lie cafe\u0301 A\u030a fi", "각 \u1100\u1161\u11a8"]
    ).encode()


BIG, HUGE = 100, 1000  # MB of the big fixtures and of what the bombs stand for
ZSTD = zstandard.ZstdCompressor().compress
#: name: (content at a scale that is 1 at full size, exit code of what reads it, what it warns of or complains about)
FIXTURES = {
    "empty.txt": (lambda s: b"", 0, ""),
    "one-byte.txt": (lambda s: b"a", 0, ""),
    "newlines.txt": (lambda s: b"\n" * 50, 0, ""),
    "no-final-newline.txt": (lambda s: TEXT * 3 + b"end", 0, ""),
    "bom-utf8.txt": (lambda s: b"\xef\xbb\xbf" + TEXT * 3, 0, ""),
    "bom-alone.txt": (lambda s: b"\xef\xbb\xbf", 0, ""),
    "utf16-le.txt": (lambda s: b"\xff\xfe" + TEXT.decode().encode("utf-16-le"), 3, "is UTF-16, not UTF-8; convert"),
    "utf16-be.txt": (lambda s: b"\xfe\xff" + TEXT.decode().encode("utf-16-be"), 3, "is UTF-16, not UTF-8; convert"),
    "utf32-le.txt": (lambda s: b"\xff\xfe\0\0" + TEXT.decode().encode("utf-32-le"), 3, "is UTF-32, not UTF-8; conv"),
    "utf32-be.txt": (lambda s: b"\0\0\xfe\xff" + TEXT.decode().encode("utf-32-be"), 3, "is UTF-32, not UTF-8; conv"),
    "crlf.txt": (lambda s: TEXT.replace(b"\n", b"\r\n") * 3, 0, ""),
    "cr.txt": (lambda s: TEXT.replace(b"\n", b"\r") * 3, 0, ""),
    "mixed-ends.txt": (lambda s: b"a b\r\nc d\re f\n\r\n\n\rg\r\r\n", 0, ""),
    "nul.txt": (lambda s: b"a\0b \0\0 c\n\0\n" * 3, 0, ""),
    "all-bytes.txt": (lambda s: bytes(range(256)) * 2, 0, REPLACED),
    "overlong.txt": (lambda s: b"a \xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf \xf8\x88\x80\x80\x80 b\n", 0, REPLACED),
    "surrogates.txt": (lambda s: b"a \xed\xa0\x80 b \xed\xa0\xbd\xed\xb8\x80 c\n", 0, REPLACED),
    "last.txt": (lambda s: "a\U0010ffff b\ufffe\uffff \ufdd0 \U0001fffe\n".encode() * 3, 0, ""),
    "too-high.txt": (lambda s: b"a \xf4\x90\x80\x80 b\n", 0, REPLACED),
    "zwj.txt": (lambda s: ("👩" + "\u200d👩" * 5000 + " x\n").encode(), 0, ""),
    "bidi.txt": (lambda s: "a \u202e\u2066evil\u2069\u202c \u200f b\n".encode() * 3, 0, ""),
    "forms.txt": (lambda s: pairs(), 0, ""),
    "escapes.txt": (lambda s: b"\x1b[31mred\x1b]0;title\x07 \x9b2J\n" * 3, 0, REPLACED),
    "surrogates.jsonl": (lambda s: b'{"text": "a\\ud800 b \\ud83d\\ude00", "n": {"x": "\\udc00"}}\n', 0, REPLACED),
    "deep.jsonl": (lambda s: b'{"text": ' + b"[" * 30_000 + b"\n", 3, r"deep\.jsonl:1: not JSON: nested too deep"),
    "huge-number.jsonl": (lambda s: jsonl("a") + b'{"text": "b", "n": ' + b"9" * 30_000 + b"}\n", 3, r":2: not JSON"),
    "infinite.jsonl": (lambda s: b'{"text": "b", "n": 1e999}\n', 3, r"jsonl:1: not JSON: the number 1e999 is too"),
    "nan.jsonl": (lambda s: b'{"text": "b", "n": NaN}\n', 3, r"jsonl:1: not JSON: NaN is no number"),
    "twice.jsonl": (lambda s: b'{"text": "a", "text": "b"}\n', 3, r"jsonl:1: not JSON: the field 'text' stands twice"),
    "no-text.jsonl": (lambda s: jsonl("a") + b'{"text": null}\n', 3, r"jsonl:2: field 'text' is not text"),
    "cut.jsonl": (lambda s: jsonl("a", "b")[:-9], 3, r"cut\.jsonl:2: not JSON"),
    "twice.csv": (lambda s: b"text,text\na,b\n", 3, r"twice\.csv:1: the header names 'text' twice"),
    "uneven.tsv": (lambda s: b"label\ttext\na\tb\na\tb\tc\n", 3, r"uneven\.tsv:3: 3 fields, the header has 2"),
    "nul.csv": (lambda s: b'label,text\na,"b\0c"\n', 0, ""),
    "cr.csv": (lambda s: b"label,text\ra,b\r", 3, r"cr\.csv:\d: not CSV"),
    "cut.gz": (lambda s: gzip.compress(noise(20_000))[:-3000], 3, "damaged or cut-off gzip data"),
    "cut.zst": (lambda s: ZSTD(noise(20_000))[:-3000], 3, "damaged or cut-off zstd data"),
    "cut.xz": (lambda s: lzma.compress(noise(20_000))[:-3000], 3, "damaged or cut-off xz data"),
    "cut.bz2": (lambda s: bz2.compress(noise(20_000))[:-3000], 3, "damaged or cut-off bzip2 data"),
    "wrong-size.gz": (lambda s: wrong_size(TEXT * 3), 3, "damaged or cut-off gzip data"),
    "members.gz": (lambda s: gzip.compress(TEXT) * 3 + gzip.compress(b""), 0, ""),
    "frames.zst": (lambda s: ZSTD(TEXT) + b"\x50\x2a\x4d\x18\x02\0\0\0xx" + ZSTD(TEXT), 0, ""),
    "zeros.gz": (lambda s: gzip.compress(TEXT) + bytes(30_000), 0, ""),
    "garbage.gz": (lambda s: gzip.compress(TEXT) + b"garbage", 3, "something else follows its end"),
    "garbage.bz2": (lambda s: bz2.compress(TEXT) + b"garbage", 3, "something else follows its end"),
    "garbage.xz": (lambda s: lzma.compress(TEXT) + b"garbage", 3, "something else follows its end"),
    "garbage.zst": (lambda s: ZSTD(TEXT) + b"garbage", 3, "something else follows its end"),
    "line-bomb.zst": (lambda s: packed("zst", b"a", s * HUGE * MB), 3, "expand to over 256 times"),
    "newline-bomb.zst": (lambda s: packed("zst", b"\n", s * HUGE * MB), 3, "expand to over 256 times"),
    "newline-bomb.gz": (lambda s: packed("gz", b"\n", s * HUGE * MB), 3, "expand to over 256 times"),
    "line-bomb.xz": (lambda s: packed("xz", b"a b ", s * HUGE * MB), 3, "expand to over 256 times"),
    "line-bomb.bz2": (lambda s: packed("bz2", b"a", s * HUGE * MB), 3, "expand to over 256 times"),
    "long-line.txt": (lambda s: repeated(TEXT[:-1] + b" ", s * BIG * MB), 0, SPLIT),
    "long-word.txt": (lambda s: repeated(b"a", s * BIG * MB), 0, SPLIT),
    "long-wide-word.txt": (lambda s: repeated("語".encode(), s * BIG * MB), 0, SPLIT),
    "marks.txt": (lambda s: b"e" + b"".join(repeated("\u0301\u0323".encode(), s * 4 * MB)) + b" x\n", 0, ""),
    "empty-lines.txt": (lambda s: repeated(b"\n", s * 10 * MB), 0, ""),
    "open-quote.csv": (lambda s: [b'label,text\na,"', *repeated(TEXT, s * BIG * MB)], 3, r"quote\.csv:\d+: not CSV"),
    "long-field.csv": (lambda s: [b"text\n", *repeated(b"ab ", s * BIG * MB)], 3, r"long-field\.csv:2: a record over"),
    "long-field.tsv": (lambda s: [b"text\n", *repeated(b"ab ", s * BIG * MB)], 3, r"long-field\.tsv:2: a record over"),
    "long-field.jsonl": (lambda s: [b'{"text": "', *repeated(b"ab ", s * BIG * MB), b'"}\n'], 3, r":1: a record over"),
}  # fmt: skip
#: What is run: {} stands for the fixture, OUT for a name that is free.
FILTERS = {
    "standardize": "standardize {} -o OUT.txt",
    "standardize stem": "standardize {} --stem en --stopwords en --strip-html --strip-urls -o OUT.txt",
    "tokenize": "tokenize {} --tokenizer bpe -o OUT.txt",
    "tokenize npy": "tokenize {} --tokenizer bpe -o OUT.npy --format npy",
    "tokenize wordpiece": "tokenize {} --tokenizer wordpiece --format tokens -o OUT.txt",
    "tokenize unigram": "tokenize {} --tokenizer unigram --format jsonl -o OUT.jsonl",
    "tokenize word": "tokenize {} --tokenizer word -o OUT.txt",
    "tokenize char": "tokenize {} --tokenizer char -o OUT.txt",
    "corpus stats": "corpus stats {}",
    "corpus dedup": "corpus dedup {} --exact-only -o OUT.jsonl",
    "corpus decontaminate": "corpus decontaminate {} --against held.txt -o OUT.jsonl",
    "corpus filter": "corpus filter {} --min-words 1 --max-repeated-lines 0.9 -o OUT.jsonl",
}
LEARN = {
    "corpus split": "corpus split {} -o OUT",
    "tokenizer-eval": "tokenizer-eval bpe {}",
    "vectorize": "vectorize {} -o OUT.npz",
    "train-glove": "train-glove {} -o OUT --size 4 --epochs 1 --min-count 1 -j 1 --max-memory 128M",
    **{f"train {kind}": f"train-tokenizer {{}} -o OUT --kind {kind} --vocab-size 600" for kind in
       ("bpe", "wordpiece", "unigram", "word", "char")},
}  # fmt: skip
VERBS = {**FILTERS, **LEARN, "detokenize": "detokenize {} --tokenizer bpe -o OUT.txt"}


def put(folder: Path, name: str, scale: float) -> Path:
    path = folder / name
    made = FIXTURES[name][0](scale)
    with open(path, "wb") as file:
        file.writelines([made] if isinstance(made, bytes) else made)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of each kind and a held-out file."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "learn.txt").write_bytes(TEXT * 20 + pairs() + b"\n0123456789\n")
    (folder / "held.txt").write_bytes(
        b"one two three four five six seven eight nine ten eleven twelve thirteen\n"
    )
    for kind in ("bpe", "wordpiece", "unigram", "word", "char"):
        size = 300 if kind == "bpe" else 150
        line = f"train-tokenizer {folder}/learn.txt -o {folder}/{kind} --kind {kind} --vocab-size {size}"
        assert run(line.split()) == 0
    return folder


def judge(verb: str, name: str, code: int, err: str) -> str:
    """What is wrong with how a verb ended on a fixture; empty when nothing is."""
    _, expected, says = FIXTURES[name]
    lines = err.splitlines()
    failures = [x for x in lines if x.startswith("nlpkit: ") and not x.startswith("nlpkit: warning: ")]
    if "Traceback" in err or "fault of nlpkit" in err or "panicked" in err:
        return "crashed"
    if code not in (0, 2, 3) or (code != 0) != bool(failures) or len(failures) > 1:
        return f"exit {code} with {len(failures)} complaints"
    if code and name not in failures[0] and verb not in LEARN:
        return "does not name the file"
    if verb == "detokenize" and code == 3:
        return ""  # hardly any of these are ids
    if verb in LEARN and expected == 0 and code in (2, 3):
        known = r"nothing to|no words|no term is left|no two words of|no word occurs|raise --vocab-size"
        return "" if re.search(known, failures[0]) else f"exit {code}"
    if code != expected:
        return f"exit {code}, not {expected}"
    wanted = [x for x in lines if re.search(says, x)] if says else lines
    return "" if wanted or not says else "does not say what it changed or found"


@pytest.mark.parametrize("verb", VERBS)
def test_small_fixtures_in_every_verb(verb, home, tmp_path, monkeypatch, capfd):
    for module in (documents, blocks, records):
        monkeypatch.setattr(module, "LIMIT", 1 << 16)
    monkeypatch.setattr(compression, "HELD", 1 << 18)
    monkeypatch.chdir(home)
    wrong = []
    for name in FIXTURES:
        path = put(tmp_path, name, 0.002 if name[-3:] not in ("zst", "bz2", ".gz", ".xz") else 0.005)
        line = (
            VERBS[verb]
            .replace("{}", str(path))
            .replace("OUT", str(tmp_path / f"out-{name.replace('.', '-')}"))
        )
        capfd.readouterr()
        code = run(line.split())
        _, err = capfd.readouterr()
        if problem := judge(verb, name, code, err):
            wrong.append(f"{name}: {problem}: {err.strip()[-200:]!r}")
    assert not wrong, "\n".join(wrong)


STRICT = (
    ("bytes.txt", b"fine \n\nb\xff\n", "bytes.txt:3: byte 0xff"),
    ("long.txt", b"fine\n\n" + b"long " * 20_000, "long.txt:3: a line over"),
    ("half.jsonl", b'{"text": "\\udc00"}', "half.jsonl:1: a lone surrogate"),
)


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "detokenize"])
def test_strict_reading_names_the_line(verb, home, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(documents, "LIMIT", 1 << 16)
    monkeypatch.setattr(blocks, "LIMIT", 1 << 16)
    monkeypatch.chdir(home)
    for name, data, place in STRICT:
        path = tmp_path / name
        path.write_bytes(data)
        words = f"{VERBS[verb]} --errors strict".replace("{}", str(path)).replace(
            "OUT", str(tmp_path / "out")
        )
        assert run(words.split()) == 3, name
        assert place in capfd.readouterr().err


def test_a_corpus_that_compresses_well_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(compression, "HELD", 1 << 19)
    generator = random.Random(0)
    page = b"2026-01-01 00:%02d GET /%x.html 200\n"
    log = b"".join(page % (i // 60 % 60, generator.getrandbits(16)) for i in range(20_000))
    whole = b"same line again\n" * 20_000 + log + b"same line again\n" * 20_000
    for kind, pack in (("gz", gzip.compress), ("zst", ZSTD), ("xz", lzma.compress), ("bz2", bz2.compress)):
        (tmp_path / f"log.{kind}").write_bytes(pack(whole[:300_000]) + pack(whole[300_000:]))
        with compression.reading(tmp_path / f"log.{kind}") as file:
            assert file.read() == whole


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "word", "char"])
def test_a_long_text_has_the_ids_that_it_has_at_once(kind, home, monkeypatch, capsys):
    tokenizer = Tokenizer.load(home / kind)
    text = "The quick  brown fox, naïve\tand \u0301 42 [MASK] old\n isn't  here.<|endoftext|> e\u0301 " * 40
    (whole,) = tokenizer.encode([text])
    monkeypatch.setattr(long_texts, "LONG", 64)
    monkeypatch.setattr(long_texts.pieces, "__defaults__", (64,))
    assert tokenizer.encode(["", text, "x"])[1] == whole
    assert [e.cut for e in tokenizer.encodings([text], max_length=10)] == [len(whole) - 10]
    assert "encoded in pieces" not in capsys.readouterr().err
    tokenizer.encode(["a" * 1000])
    assert "encoded in pieces" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "scheme"), [("bpe", ""), ("unigram", "first"), ("unigram", "never")])
def test_many_ids_have_the_text_that_the_library_gives_them(kind, scheme, home, monkeypatch):
    tokenizer = Tokenizer.load(home / kind)
    if scheme == "never":
        tokenizer = Tokenizer(tokenizer.text.replace('scheme": "first"', 'scheme": "never"'))
        assert "never" in tokenizer.text
    draw = random.Random(0)
    rows = [draw.choices(range(tokenizer.vocab_size), k=draw.randrange(5, 30)) for _ in range(500)]
    rows += tokenizer.encode([" The quick  brown fox, naïve", "一 e\u0301 ", ""])
    whole = [[tokenizer.decode(row, special=special) for special in (False, True)] for row in rows]
    monkeypatch.setattr(long_texts, "LONG", 4)
    assert [[tokenizer.decode(row, special=special) for special in (False, True)] for row in rows] == whole
    assert tokenizer._long_decoder is not None


def test_sorted_marks_are_canonically_the_same_text():
    generator = random.Random(0)
    marks = [chr(c) for c in range(0x110000) if unicodedata.combining(chr(c))] + [
        "\u034f",
        "\u0f73",
        "’",
        "👩",
    ]
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        text = "e" + "".join(generator.choices(marks, k=3000)) + " x"
        assert standardize._normalized(form, text) == unicodedata.normalize(form, text)


START = """import os, re, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from nlpkit.cli import main
try:
    main()
finally:
    sys.stderr.write(re.search("VmHWM.*", open("/proc/self/status").read())[0])  # getrusage also counts the parent
"""
BIG_FIXTURES = [
    n for n, (make, *_) in FIXTURES.items() if {"BIG", "HUGE", "MB"} & set(make.__code__.co_names)
]


def alone(words: list[str], limit: float) -> tuple[int, float, float, str]:
    """Exit code (-9: stopped after ``limit`` seconds), seconds, megabytes at most and stderr of a process."""
    started = time.monotonic()
    try:
        command = [sys.executable, "-c", START, *words]
        done = subprocess.run(command, stdout=-3, stderr=subprocess.PIPE, timeout=limit, check=False)
    except subprocess.TimeoutExpired as expired:
        return -9, limit, 0.0, (expired.stderr or b"").decode()
    said = re.sub(r"VmHWM:.*$", "", done.stderr.decode())
    found = re.search(r"VmHWM:\s*(\d+) kB$", done.stderr.decode())
    size = int(found[1]) * 1024 / MB if found else 0.0
    return done.returncode, time.monotonic() - started, size, said


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("big")
    for name in BIG_FIXTURES:
        put(folder, name, 1)
    return folder


@pytest.mark.skipif(not FULL, reason="minutes; NLPKIT_FULL=FILE runs it and writes its table to FILE")
@pytest.mark.parametrize("verb", VERBS)
def test_full_size_fixtures_in_every_verb(verb, home, big, tmp_path, monkeypatch):
    wrong = []
    for name in BIG_FIXTURES:
        words = VERBS[verb].replace("{}", str(big / name)).replace("OUT", str(tmp_path / "out")).split()
        monkeypatch.chdir(home)
        code, seconds, size, err = alone(words, 4 * SECONDS)
        row = (
            name,
            verb,
            f"{seconds:.1f}",
            f"{size:.0f}",
            str(code),
            " ".join(err.replace(f"{big}/", "").split()),
        )
        with open(FULL, "a", encoding="utf-8") as file:
            file.write("\t".join(row) + "\n")
        problem = judge(verb, name, code, err)
        if problem or seconds > SECONDS or size > MEGABYTES:
            wrong.append(" ".join((*row[:5], problem, err[-200:])))
        for made in tmp_path.iterdir():
            shutil.rmtree(made) if made.is_dir() else made.unlink()
    assert not wrong, "\n".join(wrong)

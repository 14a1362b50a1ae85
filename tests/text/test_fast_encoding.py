"""The bulk encoder gives tokenizers' ids, whatever the text, and lets tokenizers do what it cannot."""

import copy
import json
import random
import sys

import numpy as np
import pytest

from nlpkit.errors import DataError
from nlpkit.text import fast_encoding, token_lines, tokenize_stream
from nlpkit.text.documents import LIMIT, Source, read_documents
from nlpkit.text.recipe import Recipe
from nlpkit.text.shards import TokenShard
from nlpkit.text.token_names import names_of
from nlpkit.text.tokenizer import SPECIALS, Tokenizer

CORPUS = [
    "The quick brown fox doesn't jump over 12 lazy dogs; it sleeps.",
    "“Well,” said he, «naïve» café — 3.14 € … and so on!",
    "日本語のテキスト и русский язык, العربية too",
] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(CORPUS, vocab_size=500)


@pytest.fixture(scope="module")
def encoder(tokenizer):
    pytest.importorskip(
        "gigatoken", reason="the faster encoder is not installed (nlpkit[fast])", exc_type=ImportError
    )
    return fast_encoding.FastEncoder(tokenizer)


def strings(seed=0):
    """12,000 texts without line ends: like the corpus, adversarial, fuzz, random code points."""
    draw = random.Random(seed)
    words = [*" ".join(CORPUS[:3]).split(), "'s", "n't", "[MASK]", "<|endoftext|>", "[PAD]", "<|", "[", "]"]
    spaces = [" ", "  ", "\t", "\u00a0", "\u3000", "\r", "\x0b", "\x1c", "\u2028", "\x85", ""]
    alphabet = "aA1 .'\t\r\u00a0é\u0301ß日👍[]<|>MASK" + "".join(spaces)
    for _ in range(4000):
        yield " ".join(draw.choices(words, k=draw.randrange(12)))
    for _ in range(3000):
        yield "".join(w + draw.choice(spaces) for w in draw.choices(words, k=draw.randrange(8)))
    for _ in range(3000):
        yield "".join(draw.choices(alphabet, k=draw.randrange(20)))
    for _ in range(2000):
        codes = (
            draw.choice((draw.randrange(0x300), draw.randrange(0x110000))) for _ in range(draw.randrange(12))
        )
        yield "".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000 and c != 10)


def rows(ids, lengths):
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


@pytest.mark.parametrize("end", [None, 5])
def test_every_id_is_that_of_tokenizers(tokenizer, encoder, end):
    texts = [text + "." if text.endswith("\r") else text for text in strings()]
    assert len(texts) >= 10_000 and any("[MASK]" in t for t in texts)
    expected = tokenizer.encode(texts)
    expected = expected if end is None else [[*row, end] for row in expected]
    for start in range(0, len(texts), 3000):
        block = "".join(text + "\n" for text in texts[start : start + 3000]).encode()
        assert rows(*encoder(block, end)) == expected[start : start + 3000]


def test_without_special_strings_the_library_alone_does_it(tokenizer, encoder):
    texts = [t.replace("\r", "") for t in strings(1) if not any(s in t for s in SPECIALS)]
    expected = tokenizer.encode(texts)
    encoder.tokenizer = None
    try:
        assert rows(*encoder("\n".join([*texts, ""]).encode())) == expected
    finally:
        encoder.tokenizer = tokenizer


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\na\n\n",
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbfa\xc3\xa9\nb",
        b"a\n\xef\xbb\xbfb\n",
        b"a\r\nb\r\r\nc\r",
        b"ok\n\xff bad \xed\xa0\x80\nok\n",
        b"the [MASK] sat\n x  [MASK]\n[MASK]\nlast <|endoftext|>",
        b"x\n" + b"long " * ((LIMIT + 100) // 5) + b"\n\xef\xbb\xbfend",
    ],
    ids=["empty", "blank", "blanks", "mark", "marked", "late", "crlf", "bad", "special", "long"],
)
@pytest.mark.parametrize("eos", [False, True])
def test_a_shard_is_the_same_with_and_without(tmp_path, tokenizer, monkeypatch, data, eos):
    pytest.importorskip(
        "gigatoken", reason="the faster encoder is not installed (nlpkit[fast])", exc_type=ImportError
    )
    if len(data) > LIMIT and eos:
        pytest.skip("once is enough for 16 MB")
    monkeypatch.setattr(fast_encoding, "SMALL", 0)
    monkeypatch.setattr(fast_encoding, "BLOCK", 8)
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    if len(data) > LIMIT:
        monkeypatch.setattr(fast_encoding, "BLOCK", 1 << 20)
        monkeypatch.setattr(tokenizer, "encode", lambda texts: [[len(t) % 500, len(texts)] for t in texts])
        monkeypatch.setattr(fast_encoding, "_load", lambda tokenizer: (None, ""))
    tokenize_stream.tokenize([path], tokenizer, str(tmp_path / "fast.npy"), format="npy", eos=eos)
    expected = tokenizer.encode([d.text for d in read_documents([path])])
    shard = TokenShard.open(tmp_path / "fast.npy")
    if len(data) > LIMIT:
        assert [row[0] for row in shard] == [row[0] for row in expected]
    else:
        assert [row.tolist() for row in shard] == [[*row, 5] if eos else row for row in expected]
        monkeypatch.setattr(token_lines, "SMALL", 0)
        monkeypatch.setattr(token_lines, "BLOCK", 8)
        tokenize_stream.tokenize([path], tokenizer, str(tmp_path / "ids.txt"), eos=eos)
        shown = [" ".join(map(str, [*row, 5] if eos else row)) + "\n" for row in expected]
        assert (tmp_path / "ids.txt").read_text() == "".join(shown)
        tokenize_stream.tokenize([path], tokenizer, str(tmp_path / "t.txt"), format="tokens", eos=eos)
        names = names_of(tokenizer)
        shown = [" ".join([names[i] for i in ([*row, 5] if eos else row)]) + "\n" for row in expected]
        assert (tmp_path / "t.txt").read_bytes() == "".join(shown).encode()
        tokenize_stream.tokenize([path], tokenizer, str(tmp_path / "t.jsonl"), format="jsonl", eos=eos)
        records = [json.loads(line) for line in (tmp_path / "t.jsonl").read_bytes().splitlines()]
        whole = [[*row, 5] if eos else row for row in expected]
        assert records == [
            {"id": "", "ids": row, "tokens": list(map(tokenizer.id_to_token, row))} for row in whole
        ]
    assert shard.ids.dtype == np.uint16


def test_a_complaint_has_its_line(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(fast_encoding, "BLOCK", 8)
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo two\nthree\nfour \xff\n")
    with pytest.raises(DataError, match=r"a\.txt:4: byte 0xff at column 6"):
        tokenize_stream.tokenize([path], tokenizer, str(tmp_path / "x.npy"), format="npy", errors="strict")
    tokenize_stream.tokenize([path], tokenizer, str(tmp_path / "x.npy"), format="npy", errors="skip")
    assert len(TokenShard.open(tmp_path / "x.npy")) == 3


def test_without_the_library_ids_are_the_same_and_it_is_said_once(tmp_path, tokenizer, monkeypatch, capsys):
    for name in [n for n in sys.modules if n.split(".")[0] == "gigatoken"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    path = tmp_path / "a.txt"
    path.write_text("".join(line + "\n" for line in CORPUS))
    expected = tokenizer.encode(CORPUS)
    tokenize_stream.tokenize([path], tokenizer, str(tmp_path / "small.npy"), format="npy")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(fast_encoding, "SMALL", 0)
    monkeypatch.setattr(fast_encoding, "LARGE", 0)
    monkeypatch.setattr(fast_encoding, "BLOCK", 300)
    tokenize_stream.tokenize([path], tokenizer, str(tmp_path / "large.npy"), format="npy")
    assert capsys.readouterr().err.count("nlpkit[fast]") == 1
    for name in ("small", "large"):
        assert [row.tolist() for row in TokenShard.open(tmp_path / f"{name}.npy")] == expected


def test_a_library_that_errs_is_found_out(tokenizer, encoder, monkeypatch, capsys, tmp_path):
    right = encoder._encode
    monkeypatch.setattr(tokenizer, "encode", lambda texts: [[1] for _ in texts])
    with pytest.raises(fast_encoding.Disagreement, match="other ids"):
        fast_encoding.FastEncoder(tokenizer)
    monkeypatch.undo()
    path = tmp_path / "a.txt"
    path.write_text("\n".join(CORPUS))
    for wrong in (lambda block: right(block)[:-1], lambda block: 1 / 0):
        broken = fast_encoding.FastEncoder(tokenizer)
        monkeypatch.setattr(broken, "_encode", wrong)
        monkeypatch.setattr(fast_encoding, "SMALL", 0)
        monkeypatch.setattr(fast_encoding, "_load", lambda _, broken=broken: (broken, ""))
        made = list(fast_encoding.encode_lines([Source(path, "text")], tokenizer))
        assert [r for ids, lengths in made for r in rows(ids, lengths)] == tokenizer.encode(CORPUS)
        assert "the rest is encoded by tokenizers" in capsys.readouterr().err


def test_what_is_not_known_to_be_equal_is_refused():
    assert fast_encoding.supports(Tokenizer.train(CORPUS, vocab_size=300))
    assert not fast_encoding.supports(
        Tokenizer.train(CORPUS, vocab_size=400, recipe=Recipe(("nfc", "lower")))
    )
    body = Tokenizer.train(CORPUS, vocab_size=300).definition
    for change in (
        {"pre_tokenizer": body["pre_tokenizer"] | {"add_prefix_space": True}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": None},
        {"model": body["model"] | {"ignore_merges": True}},
        {"model": body["model"] | {"dropout": 0.1}},
        {"normalizer": {"type": "NFC"}},
    ):
        assert not fast_encoding.byte_level(Tokenizer(json.dumps(body | change))), change


def test_added_tokens_of_every_sort_agree(encoder):
    body = copy.deepcopy(Tokenizer.train(CORPUS, vocab_size=300, add_tokens=["fox", "«x»"]).definition)
    flags = {"single_word": True, "rstrip": True, "normalized": True, "special": False, "lstrip": True}
    body["added_tokens"].append({"id": 300, "content": "dog", **flags})
    tokenizer = Tokenizer(json.dumps(body))
    assert fast_encoding.supports(tokenizer)
    texts = ["a dog  ran", "dogs", "foxes  fox", "hotdog dog", "plain", " «x» "]
    ids, lengths = fast_encoding.FastEncoder(tokenizer)("\n".join([*texts, ""]).encode())
    assert rows(ids, lengths) == tokenizer.encode(texts)

"""The tables of words and of characters give tokenizers' ids, whatever the text, wherever they are used.

NLPKIT_STRINGS says how many strings each tokenizer is compared on (default 1,500).
"""

import copy
import json
import os
import random
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.text import character_encoding, fast_encoding, long_texts, tokenize_stream, word_encoding
from nlpkit.text.blocks import line_blocks
from nlpkit.text.documents import read_documents
from nlpkit.text.recipe import Recipe
from nlpkit.text.shards import TokenShard
from nlpkit.text.tokenizer import Tokenizer

STRINGS = int(os.environ.get("NLPKIT_STRINGS", "1500"))
CORPUS = [
    "The quick brown fox doesn't jump over 12 lazy dogs; it sleeps.",
    "“Well,” said he, «naïve» café — 3.14 € … and so on! ①②",
    "日本語のテキスト и русский язык, العربية too",
] * 20
RECIPES = {
    "plain": None,
    "usual": Recipe(("nfkc", "lower", "strip-accents", "strip-punct", "collapse-space")),
    "nfd": Recipe(("nfd", "strip-accents", "strip-digits")),
    "nfc": Recipe(("nfc", "lower")),
}
MADE = {
    f"{kind} {name}": Tokenizer.train(CORPUS, kind=kind, vocab_size=400, recipe=recipe)
    for kind in ("wordpiece", "word")
    for name, recipe in RECIPES.items()
    if (kind, name) not in (("word", "nfc"),)
}


def foreign(**changes):
    body = copy.deepcopy(MADE["wordpiece plain"].definition) | changes
    return Tokenizer(json.dumps(body))


BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
MADE["bert uncased"] = foreign(normalizer=BERT | {"strip_accents": None, "lowercase": True})
MADE["bert, nothing cleaned"] = foreign(
    normalizer=BERT | {"clean_text": False, "strip_accents": True, "lowercase": False}
)
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
MADE["spaces begin words"] = foreign(pre_tokenizer=METASPACE, normalizer={"type": "Lowercase"})
MADE["unigram"] = Tokenizer.train(CORPUS, kind="unigram", vocab_size=400)
MADE["unigram nfd"] = Tokenizer.train(CORPUS, kind="unigram", vocab_size=400, recipe=Recipe(("nfd", "lower")))
MADE["char"] = Tokenizer.train(CORPUS, kind="char")
MADE["white space"] = foreign(pre_tokenizer={"type": "WhitespaceSplit"}, normalizer={"type": "NFKC"})


def strings(count, seed=0):
    """Texts without line ends: like the corpus, adversarial, fuzz, random code points."""
    draw = random.Random(seed)
    words = [
        *" ".join(CORPUS[:3]).split(),
        "'s",
        "[MASK]",
        "[PAD]",
        "[SEP]",
        "[SEP",
        "SEP]",
        "［SEP］",
        "[",
        "x" * 150,
        "▁",
        "▁the",
        "fox▁",
    ]
    spaces = (
        " ",
        "  ",
        "\t",
        "\u00a0",
        "\u3000",
        "\r",
        "\x0b",
        "\x0c",
        "\x1c",
        "\x1f",
        "\u2028",
        "\x85",
        "",
        "\x00",
    )
    alphabet = (
        "aAΣσ1 .'\t\r\u00a0é\u0301\u0338ßİı日👍¨ﬁ½²½[]<|>▁MASK\u200d\u200b\ufeff\ufffd\xad한ᄒ\u1161"
        + "".join(spaces)
    )
    for number in range(count):
        if number % 4 == 0:
            yield " ".join(draw.choices(words, k=draw.randrange(12)))
        elif number % 4 == 1:
            yield "".join(w + draw.choice(spaces) for w in draw.choices(words, k=draw.randrange(8)))
        elif number % 4 == 2:
            yield "".join(draw.choices(alphabet, k=draw.randrange(20)))
        else:
            codes = (
                draw.choice((draw.randrange(0x300), draw.randrange(0x110000)))
                for _ in range(draw.randrange(12))
            )
            yield "".join(
                chr(c) + draw.choice(("", "", " ")) for c in codes if not 0xD800 <= c < 0xE000 and c != 10
            )


def rows(ids, lengths):
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


@pytest.mark.parametrize("name", MADE)
def test_every_id_is_that_of_tokenizers(name):
    tokenizer = MADE[name]
    assert fast_encoding.supports(tokenizer) and not fast_encoding.byte_level(tokenizer)
    encoder = fast_encoding.FastEncoder(tokenizer)
    texts = [text + "." if text.endswith("\r") else text for text in strings(STRINGS)]
    expected = tokenizer.encode(texts)
    size = len(texts) // 3
    for start in range(0, len(texts), size):
        block = "".join(text + "\n" for text in texts[start : start + size]).encode()
        for end in (None, 5):
            wanted = expected[start : start + size]
            wanted = wanted if end is None else [[*row, end] for row in wanted]
            assert rows(*encoder(block, end)) == wanted


ENCODER = fast_encoding.FastEncoder(MADE["bert uncased"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text().map(lambda t: t.replace("\n", "").rstrip("\r")), min_size=1, max_size=5))
def test_any_lines_in_order(texts):
    block = "".join(text + "\n" for text in texts).encode()
    assert rows(*ENCODER(block)) == MADE["bert uncased"].encode(texts)


def test_the_table_is_bounded(monkeypatch):
    monkeypatch.setattr(word_encoding, "_SLOTS", 1 << 10)
    tokenizer = MADE["wordpiece plain"]
    table = word_encoding.WordEncoder(tokenizer, tokenizer.vocab_size)
    draw = random.Random(1)
    for _ in range(20):
        texts = [" ".join("".join(draw.choices("thequick", k=3)) for _ in range(40)) for _ in range(4)]
        ids = table("".join(t + "\n" for t in texts).encode()).tolist()
        assert ids == [i for row in tokenizer.encode(texts) for i in (*row, tokenizer.vocab_size)]
        assert table._numbers.count <= 512


def test_a_long_run_is_not_asked_of_a_table_that_does_not_know_it_yet(monkeypatch):
    monkeypatch.setattr(long_texts, "LONG", 64)
    monkeypatch.setattr(long_texts.pieces, "__defaults__", (64,))
    tokenizer, texts = Tokenizer(MADE["unigram"].text), ["x" * 64, "x" * 100, "fox"]
    expected = tokenizer.encode(texts)
    encoder = fast_encoding.FastEncoder(tokenizer)
    tokenizer.engine = encoder.piece
    assert rows(*encoder("".join(f"{text}\n" for text in texts).encode())) == expected
    assert tokenizer.encode(texts) == expected


def test_words_that_cannot_be_told_apart_are_not_guessed():
    # NFKC makes the separator of a word, and this split keeps it whole: its id comes up once too often
    tokenizer = foreign(pre_tokenizer={"type": "WhitespaceSplit"}, normalizer={"type": "NFKC"})
    mark = word_encoding._mark(tokenizer)["content"]
    wide = "".join(chr(ord(c) + 0xFEE0) for c in mark)
    encoder = fast_encoding.FastEncoder(tokenizer)
    with pytest.raises(fast_encoding.Disagreement, match="between words"):
        encoder(f"a {wide} b\n".encode())
    assert rows(*encoder(b"the fox\n")) == tokenizer.encode(["the fox"])


def test_characters_that_are_not_known_to_be_tokens_are_refused():
    def changed(**changes):
        body = copy.deepcopy(MADE["char"].definition)
        return Tokenizer(json.dumps(body | changes))

    split = MADE["char"].definition["pre_tokenizer"]
    assert character_encoding.supports(changed())
    for change in (
        {"pre_tokenizer": split | {"pattern": {"Regex": r"."}}},
        {"pre_tokenizer": split | {"behavior": "MergedWithNext"}},
        {"pre_tokenizer": None},
        {"normalizer": {"type": "NFKC"}},
        {"model": MADE["char"].definition["model"] | {"unk_token": "<none>"}},
        {"added_tokens": [MADE["char"].definition["added_tokens"][0] | {"lstrip": True}]},
    ):
        assert not character_encoding.supports(changed(**change)), change


def test_what_is_not_known_to_be_equal_is_refused():
    assert word_encoding.supports(foreign())
    normal = {"type": "Replace", "pattern": {"String": "a b"}, "content": "c"}
    held = MADE["wordpiece plain"].definition["added_tokens"]
    size = MADE["wordpiece plain"].vocab_size
    more = [*held, held[0] | {"content": "<fox>", "id": size, "normalized": True}]
    for change in (
        {"normalizer": normal},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, normal]}},
        {"normalizer": {"type": "Prepend", "prepend": "_"}},
        {"pre_tokenizer": METASPACE | {"prepend_scheme": "never"}},
        {"pre_tokenizer": METASPACE | {"split": False}},
        {"pre_tokenizer": METASPACE | {"replacement": "_"}},
        {"pre_tokenizer": METASPACE, "normalizer": {"type": "NFKC"}},
        {"pre_tokenizer": None},
        {"added_tokens": more},
        {"added_tokens": []},
    ):
        assert not word_encoding.supports(foreign(**change)), change
    stemmed = Tokenizer.train(CORPUS, kind="word", vocab_size=100, recipe=Recipe(("lower", "stem:en")))
    assert not fast_encoding.supports(stemmed)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_jobs_do_not_change_a_byte(kind, tmp_path, monkeypatch):
    if kind == "bpe":
        pytest.importorskip("gigatoken", reason="nlpkit[fast] is not installed", exc_type=ImportError)
    tokenizer = Tokenizer.train(CORPUS, kind=kind, vocab_size=400)
    for name, value in (("SMALL", 0), ("BULK", 0), ("SHARED", 1000), ("BLOCK", 500)):
        monkeypatch.setattr(fast_encoding, name, value)
    lines = [text.encode() for text in strings(300, seed=3)]
    lines[150] = b"not \xff UTF-8"
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_bytes(b"\n".join(lines))
    second.write_bytes(b"\xef\xbb\xbfone\r\ntwo [MASK] three\n" + b"\n".join(lines[::-1]))
    made = []
    for jobs in (1, 3):
        monkeypatch.setenv("RAYON_NUM_THREADS", str(jobs))
        path = tmp_path / f"{jobs}.npy"
        tokenize_stream.tokenize([first, second], tokenizer, str(path), format="npy", eos=True)
        made.append((path.read_bytes(), path.with_suffix(".offsets.npy").read_bytes()))
        texts = [document.text for document in read_documents([first, second])]
        shard = TokenShard.open(path)
        assert len(shard) == len(texts)
        assert [row.tolist() for row in shard] == [[*row, 5] for row in tokenizer.encode(texts)]
    assert made[0] == made[1]


def test_blocks_that_end_within_a_character_are_whole():
    data = ("é日👍 " * 40_000 + "\n").encode()
    (block,) = line_blocks(BytesIO(data), 1 << 20)
    assert block.clean() == data
    for bad in (data[:-1] + b"\xc3", data[: 1 << 16] + b"\xff" + data[1 << 16 :], b"\xed\xa0\x80"):
        (block,) = line_blocks(BytesIO(bad), 1 << 20)
        assert block.clean() is None

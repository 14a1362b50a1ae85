"""Passages: exact offsets, nothing left out, nothing too long, and the same every time."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.errors import UsageError
from nlpkit.text.chunk import Chunks
from nlpkit.text.tokenizer import Tokenizer

WORDS = st.text(st.sampled_from("ab é\u0301😀\n\r\t.世界 —"), max_size=400)


def words(text):
    return len(text.split())


@settings(max_examples=60, deadline=None)
@given(WORDS, st.integers(1, 12), st.integers(0, 5))
def test_every_character_is_in_a_passage_that_fits(text, size, overlap):
    chunks = Chunks(size, min(overlap, size - 1))
    spans = chunks.spans(text)
    assert spans == chunks.spans(text) == Chunks(size, min(overlap, size - 1)).spans(text)
    covered = set()
    for start, end in spans:
        piece = text[start:end]
        assert piece == piece.strip() and words(piece) <= size
        covered.update(range(start, end))
    assert all(text[i].isspace() for i in set(range(len(text))) - covered)
    starts = [start for start, _ in spans]
    assert starts == sorted(starts) and len(set(spans)) == len(spans)


def test_passages_end_where_the_text_does():
    text = "One two three. Four five six.\n\nSeven eight nine. Ten eleven twelve."
    assert [text[a:b] for a, b in Chunks(6, 0).spans(text)] == [
        "One two three. Four five six.", "Seven eight nine. Ten eleven twelve.",
    ]  # fmt: skip
    text = "One two. Three four. Five six. Seven eight. Nine ten."
    assert [text[a:b] for a, b in Chunks(6, 3).spans(text)] == [
        "One two. Three four. Five six.", "Five six. Seven eight. Nine ten.",
    ]  # fmt: skip


def test_a_long_text_is_cut_window_by_window():
    text = " ".join(f"w{i}." if i % 9 == 0 else f"w{i}" for i in range(40_000))
    spans = Chunks(200, 50).spans(text)
    assert spans[0][0] == 0 and spans[-1][1] == len(text) and len(spans) > 200
    for (_, end), (start, _) in pairwise(spans):
        assert start <= end + 1 and words(text[start:end]) <= 50
    assert max(words(text[a:b]) for a, b in spans) <= 200


def test_a_tokenizer_counts():
    texts = ["opening and closing of files and lists"] * 50
    tokenizer = Tokenizer.train(texts, kind="wordpiece", vocab_size=60)
    text = "opening unopenable files closing disclosing lists " * 20
    spans = Chunks(16, 4, tokenizer).spans(text)
    assert len(spans) > 5
    assert max(len(ids) for ids in tokenizer.encode([text[a:b] for a, b in spans])) <= 16


def test_words_without_end_and_empty_texts():
    assert Chunks(10, 2).spans("") == [(0, 0)] == Chunks(10, 2).spans(" \n\t ")
    spans = Chunks(10, 2).spans("x" * 5000)
    assert spans[0][0] == 0 and spans[-1][1] == 5000 and all(b - a <= 160 for a, b in spans)


@pytest.mark.parametrize("bad", ["", "x", "0/0", "10/10", "10/20", "-5/1", "10/", "1.5/1", "10/2/3"])
def test_nonsense_is_refused(bad):
    with pytest.raises(UsageError, match="--chunk"):
        Chunks.parse(bad)
    assert str(Chunks.parse(" 200 / 50 ")) == "200/50" and str(Chunks.parse("64")) == "64/0"


def test_without_the_splitter(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "semantic_text_splitter", None)
    with pytest.raises(UsageError, match=r"nlpkit\[docs\]"):
        Chunks(5, 1).spans("a b c d e f g")

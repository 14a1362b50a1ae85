"""Passages: exact offsets, nothing left out, none too long, overlap bounded, in any script and with any tokenizer."""

import sys
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from nlpkit.errors import UsageError
from nlpkit.text import chunk
from nlpkit.text.chunk import Chunks

PROSE = (
    "The quick brown fox, isn't it?  It jumped over seven lazy dogs; nobody saw.\nA second line, unforgettable.\n\n"
    "Another paragraph: words upon words, and (in brackets) more of them!\r\n\r\nÄpfel und Birnen – 世界和平是什么。 "
    "한국어 👩\u200d👩\u200d👧 e\u0301te\u0301 𝔘𝔫𝔦\tend.\n"
)


def wordpiece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=180, special_tokens=["[UNK]"], show_progress=False)
    made.train_from_iterator([PROSE] * 3, trainer)
    made.enable_truncation(3)
    made.enable_padding(length=9)
    return made


def byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([PROSE] * 3, trainer)
    return made


TOKENIZERS = {"words": None, "wordpiece": wordpiece(), "bytes": byte_level()}


def tokens(tokenizer: Tokenizer | None, text: str) -> int:
    """What the tokenizer itself says, uncut."""
    if tokenizer is None:
        return len(chunk._words(text))
    raw = Tokenizer.from_str(tokenizer.to_str())
    raw.no_truncation()
    raw.no_padding()
    return len(raw.encode(text, add_special_tokens=False).ids)


def check(text: str, spans: list[tuple[int, int]]) -> None:
    """What holds for the spans of any text."""
    covered = 0
    for i, (start, end) in enumerate(spans):
        assert 0 <= start <= end <= len(text)
        assert not text[covered:start].strip()
        if i:
            assert spans[i - 1][0] < start and spans[i - 1][1] < end
        covered = end
    assert not text[covered:].strip()


@pytest.mark.parametrize("size, overlap", [(40, 20), (12, 11), (25, 0)])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_spans_cover_the_text_and_keep_to_their_size(kind, size, overlap):
    text = PROSE * 30
    tokenizer = TOKENIZERS[kind]
    spans = Chunks(size, overlap, tokenizer).spans(text)
    check(text, spans)
    assert len(spans) > 20
    assert max(tokens(tokenizer, text[a:b]) for a, b in spans) <= size
    assert all(text[a:b] == text[a:b].strip() for a, b in spans)
    shared = [tokens(tokenizer, text[b:c]) for (_, c), (b, _) in pairwise(spans) if b < c]
    assert max(shared, default=0) <= overlap
    assert overlap or not shared


def test_a_tokenizer_of_ours_counts_with_its_recipe():
    from nlpkit.text.tokenizer import Tokenizer as Ours

    ours = Ours.train([PROSE] * 5, kind="wordpiece", vocab_size=150, min_frequency=1)
    spans = Chunks(30, 8, ours).spans(PROSE * 10)
    check(PROSE * 10, spans)
    assert max(len(ids) for ids in ours.encode([(PROSE * 10)[a:b] for a, b in spans])) <= 30


ATOMS = ["a ", "word. ", "\n\n", "\r\n", "語", "😀", "👩\u200d👩", "e\u0301", "\u0301", "x" * 70, "ü" * 90,
         "\t", "\f", "\x1c", "\u2028", "\u3000", "\0", "\ufeff", "مرحبا ", "\ud800", "ก" * 70, "a,b;c:d"]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(ATOMS) | st.text(max_size=9), max_size=60).map("".join),
    st.sampled_from(sorted(TOKENIZERS)),
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))),
    st.sampled_from([30, 300, 1 << 15]),
)
@example("x" * 70 + "ü" * 90, "bytes", (20, 19), 30)
def test_any_text_with_any_tokenizer(text, kind, form, window):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk, "_WINDOW", window)
        patch.setattr(chunk, "_PER_TOKEN", 2)
        chunks = Chunks(*form, TOKENIZERS[kind])
        spans = chunks.spans(text)
        assert spans == Chunks(*form, TOKENIZERS[kind]).spans(text) == chunks.spans(text)
    check(text, spans)
    if not text.strip():
        assert spans == [(0, 0)]
    for start, end in spans:
        # a single character may have more tokens than fit
        piece = text[start:end].replace("\ud800", "\ufffd")
        assert chunks._count(piece) <= form[0] or len(piece) == 1


def test_windows_change_little(monkeypatch):
    text = PROSE * 100
    whole = Chunks(40, 10).spans(text)
    monkeypatch.setattr(chunk, "_WINDOW", 3000)
    parts = Chunks(40, 10).spans(text)
    check(text, parts)
    assert len(set(whole) & set(parts)) > 0.8 * len(whole)


def test_paragraphs_and_sentences_are_kept_whole():
    sentences = [f"Sentence number {i} is here." for i in range(40)]
    text = "\n\n".join(" ".join(sentences[i : i + 4]) for i in range(0, 40, 4))
    spans = Chunks(25, 0).spans(text)
    assert [text[a:b] for a, b in spans] == text.split("\n\n")
    spans = Chunks(11, 0).spans(" ".join(sentences))
    assert all(" ".join(sentences)[b - 1] == "." for _, b in spans)


def test_passages_end_where_sentences_do():
    text = "One two. Three four. Five six. Seven eight. Nine ten."
    assert [text[a:b] for a, b in Chunks(6, 3).spans(text)] == [
        "One two. Three four. Five six.", "Five six. Seven eight. Nine ten.",
    ]  # fmt: skip


def test_neighbours_share_whole_sentences():
    text = " ".join(f"Sentence number {i} is here." for i in range(40))
    spans = Chunks(25, 12).spans(text)
    check(text, spans)
    shared = [text[b:c].split() for (_, c), (b, _) in pairwise(spans)]
    assert {len(words) for words in shared} == {10}
    assert all(words[0] == "Sentence" for words in shared)


def test_offsets_are_characters():
    text = "𝔘𝔫𝔦\r\n\r\n" * 50 + unicodedata.normalize("NFD", "été à la mer. ") * 50
    spans = Chunks(20, 0).spans(text)
    check(text, spans)
    assert "".join("".join(text[a:b] for a, b in spans).split()) == "".join(text.split())
    assert not any(unicodedata.combining(text[a]) for a, _ in spans)


@pytest.mark.parametrize("text", ["", " \n\t\u3000 "])
def test_a_text_without_words_has_one_empty_span(text):
    assert Chunks().spans(text) == [(0, 0)]


def test_a_short_text_is_one_passage():
    assert Chunks().spans("  some words\n") == [(2, 12)]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_run_without_spaces_is_cut(kind):
    text = "ab" * 20_000
    spans = Chunks(50, 10, TOKENIZERS[kind]).spans(text)
    check(text, spans)
    assert 50 < len(spans) < 2_000
    assert max(b - a for a, b in spans) <= 16 * 50


def test_a_callers_tokenizer_keeps_its_settings():
    made = wordpiece()
    Chunks(30, 5, made).spans(PROSE)
    assert made.truncation["max_length"] == 3 and made.padding["length"] == 9


def test_parse():
    assert (str(Chunks.parse("200/50")), str(Chunks.parse(" 64 "))) == ("200/50", "64/0")
    for wrong in ("", "a", "0", "0/0", "-1", "50/50", "50/60", "10/", "/5", "1.5/1", "10/5/2", "٣/١", "1e3"):
        with pytest.raises(UsageError, match="--chunk"):
            Chunks.parse(wrong)
    with pytest.raises(UsageError):
        Chunks(5, -1)


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "semantic_text_splitter", None)
    assert Chunks().spans("") == [(0, 0)]
    with pytest.raises(UsageError, match=r"pip install 'nlpkit\[docs\]'"):
        Chunks().spans("some words")

"""Bulk BPE training against tokenizers' own trainer, byte fallback, training within a memory limit, endless words."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit import cli
from nlpkit.errors import OutOfMemory, UsageError
from nlpkit.text import bpe_training, memory_sample, tokenizer_training
from nlpkit.text.recipe import Recipe
from nlpkit.text.tokenizer import SPECIALS, Tokenizer
from nlpkit.text.training_texts import training_texts

TIES = ["ab ba ab ba cd dc", "dc cd", "xy yx", "zz zzz zzzz zzzzz"]
PIECES = (
    "a", "b", "aa", "abc", "-", "----", " ", "    ", "é", "日本", "'s", "can't", "12", "\t", "\u00a0", "\u3000", "\r",
    "\n", "\n\n", "\x1c", "\x85", "\u2028", "[PAD]", "<|endoftext|>", "\x00", "👍🏽", "a" * 300, " " * 260, "x" * 1200,
)  # fmt: skip
CORPORA = {
    "ties": TIES * 3,
    "unicode": [
        "naïve café e\u0301\u0301",
        "日本語のテキスト日本語 ",
        "русский язык",
        "👍🏽👍🏽 🇩🇪",
        "\u00a0\u00a0x \u3000",
    ]
    * 3,
    "contractions": ["can't don't I'll we've they're it's I'm", "DON'T I'LL 's't ''' ’s"] * 3,
    "special text": ["[PAD] [MASK] a<|endoftext|>b", "the [MASK] sat"] * 3,
    "long runs": ["a" * 3000, " " * 2500 + "x", "-" * 999, "ab" * 700, "ü" * 400] * 2,
    "line ends": ["if x:\n    return\n\n\n", "a\r\nb\r\r", "end  \n ", "\n", "  ", "tab\t\t"] * 3,
    "vertical tabs": ["a\x0b\x0bb", "x\x0b y", "end\x0b\x0b"] * 3,
    "both": ["a\n\nb c\n", "x\x0by", "more  \n"] * 3,
}


def learned(texts, size, frequency, monkeypatch, bulk):
    """tokenizer.json as the library's rival or, for all sizes of input, ``tokenizers`` learns it; rival runs."""
    runs = []
    whole = bpe_training.learn_bulk
    with monkeypatch.context() as patch:
        patch.setattr(bpe_training, "SMALL", 0 if bulk else 1 << 60)
        patch.setattr(bpe_training, "learn_bulk", lambda *a: runs.append(1) or whole(*a))
        made = Tokenizer.train(texts, kind="bpe", vocab_size=size, min_frequency=frequency)
    return json.loads(made.raw.to_str()), len(runs)


@pytest.mark.parametrize("frequency", [1, 2, 4])
@pytest.mark.parametrize("name", CORPORA)
def test_bulk_merges_are_those_of_tokenizers(name, frequency, monkeypatch):
    pytest.importorskip("gigabpe")
    texts = CORPORA[name]
    for size in (262, 275, 400):
        plain, none = learned(texts, size, frequency, monkeypatch, bulk=False)
        bulk, runs = learned(texts, size, frequency, monkeypatch, bulk=True)
        assert bulk == plain
        assert none == 0 and runs == (1 if name == "both" else 2)  # the probe, then the text


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), max_size=12), max_size=12),
    st.sampled_from([263, 300, 500]),
    st.integers(1, 3),
)  # fmt: skip
def test_bulk_merges_of_any_text(documents, size, frequency):
    pytest.importorskip("gigabpe")
    texts = ["a", *map("".join, documents)]
    with pytest.MonkeyPatch.context() as patch:
        plain, _ = learned(texts, size, frequency, patch, bulk=False)
        assert learned(texts, size, frequency, patch, bulk=True)[0] == plain
        lines = [line for text in texts for line in text.replace("\r\n", "\n").split("\n")]
        plain, _ = learned(lines, size, frequency, patch, bulk=False)
        block = ("\n".join(lines) + "\n").encode()
        assert learned([block], size, frequency, patch, bulk=True)[0] == plain


def test_lines_are_read_in_blocks_with_the_same_result(tmp_path, monkeypatch):
    data = "\ufeffone two\r\ntwo  \n\n  three\tthree \x1c\u00a0\u00a0\nlast".encode() * 3 + b"\xff\xfe bad\n"
    (tmp_path / "a.txt").write_bytes(data)
    (tmp_path / "b.txt").write_bytes(b"one two two\n" * 9)
    from nlpkit.text.documents import read_documents

    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    texts = list(training_texts(paths, documents="line", text_field="text", format=None, errors="replace"))
    assert any(isinstance(text, bytes) for text in texts) and any(isinstance(text, str) for text in texts)
    documents = [document.text for document in read_documents(paths)]
    assert list(bpe_training.lines_of(texts)) == documents
    assert learned(texts, 300, 2, monkeypatch, True)[0] == learned(documents, 300, 2, monkeypatch, False)[0]


def test_without_the_library_tokenizers_learns_and_large_input_says_so(monkeypatch, capsys):
    expected, _ = learned(TIES, 300, 2, monkeypatch, bulk=False)
    monkeypatch.setitem(sys.modules, "gigabpe", None)
    assert learned(TIES, 300, 2, monkeypatch, bulk=True) == (expected, 0)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(bpe_training, "LARGE", 20)
    assert learned(TIES, 300, 2, monkeypatch, bulk=True) == (expected, 0)
    err = capsys.readouterr().err
    assert 'pip install "nlpkit[fast]"' in err and err.count("\n") == 1


@pytest.mark.parametrize("fault", ["other merges", "failure"])
def test_a_library_that_errs_is_not_used(fault, monkeypatch, capsys):
    gigabpe = pytest.importorskip("gigabpe")
    whole = gigabpe.train_bpe

    def wrong(*args, **options):
        if fault == "failure":
            raise RuntimeError("broken\nlines")
        vocabulary, merges = whole(*args, **options)
        return vocabulary, merges[::-1]

    expected, _ = learned(TIES, 300, 2, monkeypatch, bulk=False)
    monkeypatch.setattr(gigabpe, "train_bpe", wrong)
    monkeypatch.setattr(bpe_training, "LARGE", 20)
    assert learned(TIES, 300, 2, monkeypatch, bulk=True) == (expected, 1)
    assert "learning with tokenizers: gigabpe" in capsys.readouterr().err


def test_a_recipe_inside_keeps_to_tokenizers(monkeypatch):
    monkeypatch.setattr(bpe_training, "SMALL", 0)
    monkeypatch.setattr(bpe_training, "supported", lambda _: 1 / 0)
    Tokenizer.train(TIES, kind="bpe", vocab_size=300, recipe=Recipe(("lower",)))


@pytest.fixture(scope="module")
def unigram():
    texts = [
        "can't dislike this <0x41>, they dislike that",
        "The cat sat on the mat.\nThe cat can't sit!",
    ] * 6
    return Tokenizer.train(texts, kind="unigram", vocab_size=400, byte_fallback=True)


NO_SPECIALS = st.text().filter(lambda t: not any(s in t for s in SPECIALS))


@settings(max_examples=200, deadline=None)
@given(
    NO_SPECIALS | st.lists(st.sampled_from(["<0x41>", "<0x", "▁", " ", "日", "a", "\x00", ">"])).map("".join)
)
def test_byte_fallback_loses_no_character(unigram, text):
    (ids,) = unigram.encode([text])
    assert unigram.decode(ids) == text
    assert unigram.unk_id not in ids


def test_byte_fallback_in_transformers(unigram, tmp_path):
    from transformers import AutoTokenizer

    assert unigram.vocab_size <= 400 and unigram.kind == "unigram"
    unigram.save(tmp_path / "t")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "t")
    texts = ["  日本 ▁ naïve <0x41>", "the cat", "\n\x00", "👍🏽 a"]
    assert theirs(texts)["input_ids"] == unigram.encode(texts)
    assert [theirs.decode(ids) for ids in unigram.encode(texts)] == texts
    (ids,) = Tokenizer.load(tmp_path / "t").encode(["日"])
    assert [unigram.id_to_token(id) for id in ids] == ["<0xE6>", "<0x97>", "<0xA5>"]


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "word", "char"])
def test_byte_fallback_is_for_unigram(kind):
    with pytest.raises(UsageError, match="--byte-fallback"):
        Tokenizer.train(["a"], kind=kind, vocab_size=600, byte_fallback=True)


@pytest.mark.parametrize("kind", ["bpe", "bulk", "wordpiece", "unigram", "word", "char"])
def test_a_word_of_two_million_characters_trains_in_seconds(kind, monkeypatch):
    if kind == "bulk":
        pytest.importorskip("gigabpe")
        monkeypatch.setattr(bpe_training, "SMALL", 0)
    started = time.monotonic()
    made = Tokenizer.train(
        ["a" * 2_000_000, "the cat"], kind="bpe" if kind == "bulk" else kind, vocab_size=300
    )
    assert made.vocab_size > 6 and time.monotonic() - started < 20


def words_of(number):
    return [" ".join(f"w{17 * i + j}x" for j in range(20)) for i in range(number)]


def test_too_many_words_are_sampled_by_document(monkeypatch, capsys):
    monkeypatch.setattr(memory_sample, "_resident", lambda: 0)
    texts, limit = words_of(5000), (100 << 20) + memory_sample._LEAST
    kept = list(memory_sample.within(texts, "bpe", limit))
    assert 0 < len(kept) < len(texts) and set(kept) < set(texts)
    said = capsys.readouterr().err
    assert f"({len(kept):,} of 5,000 documents, a sample by hash" in said and said.count("\n") == 1
    assert list(memory_sample.within(["\n".join(texts).encode()], "bpe", limit)) == kept
    needs = memory_sample._NEEDS["bpe"]
    need = sum(needs[0] + needs[1] * len(word) for word in {w for text in kept for w in text.split()})
    room = limit - memory_sample._RESERVE
    assert 0.5 * room < need <= room
    capsys.readouterr()
    assert list(memory_sample.within(texts[:200], "bpe", limit)) == texts[:200]
    assert capsys.readouterr().err == ""


def test_memory_that_cannot_do(monkeypatch):
    with pytest.raises(UsageError, match="the least is"):
        list(memory_sample.within(["a"], "bpe", 1 << 20))
    monkeypatch.setattr(memory_sample, "_resident", lambda: 0)
    with pytest.raises(OutOfMemory, match="no document of the text fits"):
        list(memory_sample.within([" ".join(words_of(1500))], "unigram", 106 << 20))


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the system does not say what a process held"
)
def test_the_limit_holds_for_the_process(tmp_path):
    (tmp_path / "t.txt").write_text("\n".join(words_of(30_000)))
    code = (
        "import sys; from nlpkit import cli; code = cli.run(sys.argv[1:]);"
        "print(code, open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    argv = ["train-tokenizer", "t.txt", "-o", "tok", "--documents", "line", "--max-memory", "300M"]
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=tmp_path, capture_output=True, text=True)
    assert "% of the text" in done.stderr
    status, peak = map(int, done.stdout.split())
    assert status == 0
    assert peak * 1024 < 300 << 20


def test_memory_on_the_command_line(tmp_path, capsys):
    (tmp_path / "t.txt").write_text("the cat sat\n" * 50)
    argv = ["train-tokenizer", str(tmp_path / "t.txt"), "-o", str(tmp_path / "tok"), "--vocab-size", "300"]
    assert cli.run([*argv, "--max-memory", "lots"]) == 2
    assert cli.run([*argv, "--max-memory", "1M"]) == 2
    assert "the least is" in capsys.readouterr().err
    assert cli.run([*argv, "--max-memory", "8G"]) == 0
    assert "% of the text" not in capsys.readouterr().err


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(("nfkc", "lower", "strip-accents"))])
@pytest.mark.parametrize("size, frequency", [(10, 1), (14, 2), (300, 1), (300, 30)])
def test_characters_are_those_of_the_librarys_trainer(recipe, size, frequency):
    from tokenizers import AddedToken, trainers

    draw = random.Random(0)
    texts = ["".join(draw.choices("abcdeé日本語👍 \n\t.e\u0301ﬁ", k=draw.randrange(40))) for _ in range(200)]
    raw = tokenizer_training.untrained("char", tokenizer_training.placed(recipe, "char")[0])
    special = [AddedToken(name, normalized=False, special=True) for name in SPECIALS]
    options = {"vocab_size": size, "min_frequency": frequency, "special_tokens": special}
    raw.train_from_iterator(texts, trainers.WordLevelTrainer(show_progress=False, **options))
    made = Tokenizer.train(texts, kind="char", vocab_size=size, min_frequency=frequency, recipe=recipe)
    assert json.loads(made.text)["model"] == json.loads(raw.to_str())["model"]
    assert json.loads(made.text)["added_tokens"] == json.loads(raw.to_str())["added_tokens"]

"""Tokenizers: known splits, round trips, equality with transformers, seals, and what is refused."""

import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.errors import ArtifactError, DataError, UsageError
from nlpkit.text.recipe import Recipe
from nlpkit.text.tokenizer import SPECIALS, Tokenizer
from nlpkit.text.tokenizer_training import KINDS

TEXTS = [
    "can't dislike this, they dislike that",
    "The cat sat on the mat.\nThe cat can't sit!",
    "naïve café — 日本語 text, 100 %",
    "dislike this dislike this can't can't cat cat mat mat",
] * 4
SAMPLES = ["can't dislike this", "The  [MASK] sat!\n ünknown <|endoftext|> 日本", "", " a "]


@pytest.fixture(scope="module")
def tokenizers():
    return {kind: Tokenizer.train(TEXTS, kind=kind, vocab_size=320) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_come_first(tokenizers, kind):
    made = tokenizers[kind]
    assert [made.token_to_id(name) for name in SPECIALS] == list(range(6))
    assert (made.pad_id, made.unk_id, made.cls_id, made.sep_id, made.mask_id, made.eos_id) == (
        0,
        1,
        2,
        3,
        4,
        5,
    )
    assert made.kind == kind
    assert made.vocab_size <= 320
    assert all(made.token_to_id(made.id_to_token(i)) == i for i in range(made.vocab_size))


def test_known_split_at_the_apostrophe_and_before_words(tokenizers):
    made = tokenizers["bpe"]
    assert made.pieces("can't dislike this") == ["can", "'t", " dislike", " this"]
    tokens = [made.id_to_token(i) for i in made.encode(["can't dislike this"])[0]]
    assert tokens == ["can", "'t", "Ġdislike", "Ġthis"]
    word = tokenizers["wordpiece"]
    assert word.pieces("can't dislike this") == ["can", "'", "t", "dislike", "this"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text().filter(lambda t: not any(s in t for s in SPECIALS)), min_size=1, max_size=4))
def test_byte_level_round_trip_and_order(texts):
    made = BYTES
    encoded = made.encode(texts)
    assert [made.decode(ids) for ids in encoded] == texts
    assert encoded == [made.encode([t])[0] for t in texts]


BYTES = Tokenizer.train(TEXTS, kind="bpe", vocab_size=300)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_sees_the_same_ids(tokenizers, kind, tmp_path, caplog, recwarn):
    from transformers import AutoTokenizer

    made = tokenizers[kind]
    made.save(tmp_path / "t")
    (tmp_path / "x").mkdir()
    made.export(tmp_path / "x")
    with caplog.at_level(logging.WARNING):
        plain = AutoTokenizer.from_pretrained(tmp_path / "t")
        full = AutoTokenizer.from_pretrained(tmp_path / "x")
    assert not caplog.records and not recwarn.list
    other = SAMPLES[::-1]
    assert plain(SAMPLES)["input_ids"] == made.encode(SAMPLES)
    assert full(SAMPLES)["input_ids"] == made.encode(SAMPLES, special=True)
    assert full(SAMPLES, other)["input_ids"] == made.encode(SAMPLES, pairs=other, special=True)
    assert full.mask_token_id == 4 and full.pad_token_id == 0 and full.eos_token_id == 5
    again = [Tokenizer.load(tmp_path / name) for name in ("t", "x")]
    assert {t.fingerprint for t in again} == {made.fingerprint}
    for t in again:
        assert t.encode(SAMPLES) == made.encode(SAMPLES)
        assert t.encode(SAMPLES, special=True) == made.encode(SAMPLES, special=True)


def test_special_tokens_pairs_and_truncation():
    made = Tokenizer.train(TEXTS, kind="word", vocab_size=100)
    (a,), (b,) = made.encode(["cat", "mat"])
    assert made.encode(["cat"], special=True) == [[2, a, 3]]
    assert made.encode(["cat"], pairs=["mat"], special=True) == [[2, a, 3, b, 3]]
    assert made.encode(["cat mat cat", "cat"], special=True, max_length=4) == [[2, a, b, 3], [2, a, 3]]
    assert made.truncated == 1
    assert made.encode(["cat mat cat"]) == [[a, b, a]]
    with pytest.raises(UsageError, match="leaves no room"):
        made.encode(["cat"], special=True, max_length=2)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "unigram"])
def test_the_same_texts_give_the_same_tokenizer(tokenizers, kind):
    again = Tokenizer.train(iter(TEXTS), kind=kind, vocab_size=320)
    assert again.fingerprint == tokenizers[kind].fingerprint


def test_a_recipe_lives_inside_where_it_can(tmp_path):
    recipe = Recipe(("nfkc", "lower", "strip-accents", "strip-punct", "collapse-space"))
    made = Tokenizer.train(TEXTS, kind="bpe", vocab_size=300, recipe=recipe)
    assert made.encode(["  CAFÉ,\nthe"]) == made.encode(["cafe the"])
    assert not made.recipe
    made.save(tmp_path / "t")
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tmp_path / "t")
    assert theirs(["CAFÉ, the"])["input_ids"] == made.encode(["cafe the"])


@pytest.mark.parametrize("step", ["stem:en", "stopwords:en", "casefold", "strip-html"])
def test_what_tokenizer_json_cannot_hold_is_for_word_tokenizers(tmp_path, step):
    recipe = Recipe(("lower", step))
    with pytest.raises(UsageError, match="cannot live in a bpe tokenizer"):
        Tokenizer.train(TEXTS, kind="bpe", vocab_size=300, recipe=recipe)
    made = Tokenizer.train(TEXTS, kind="word", vocab_size=100, recipe=recipe)
    made.save(tmp_path / "t")
    again = Tokenizer.load(tmp_path / "t")
    assert again.recipe == recipe and again.fingerprint == made.fingerprint
    assert again.fingerprint != Tokenizer.train(TEXTS, kind="word", vocab_size=100).fingerprint
    text = "THE Cats"
    assert again.encode([text]) == again.encode([again.standardize(text)], standardized=True)
    assert again.encode([text]) != again.encode([text], standardized=True)


def test_stemming_joins_forms_of_a_word():
    made = Tokenizer.train(["cat cats mat"], kind="word", vocab_size=20, recipe=Recipe(("stem:en",)))
    assert made.encode(["cats"]) == made.encode(["cat"]) != made.encode(["mat"])


def test_masks_in_prompts(tokenizers):
    made = tokenizers["bpe"]
    ids = made.encode(["the [MASK] sat"])[0]
    assert 4 in ids
    ids.remove(4)  # the mask has taken the space before it along
    assert ids == made.encode(["the"])[0] + made.encode([" sat"])[0]


def test_added_tokens_are_never_cut():
    made = Tokenizer.train(TEXTS, kind="bpe", vocab_size=300, add_tokens=["<user>", "dislike"])
    assert made.vocab_size <= 300
    (ids,) = made.encode(["<user>"])
    assert [made.id_to_token(i) for i in ids] == ["<user>"]
    assert made.decode(made.encode(["a <user> b"])[0]) == "a <user> b"


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "word"])
def test_one_endless_word_does_not_hold_training_up(kind, capsys):
    made = Tokenizer.train(["a" * 200_000, "the cat", " " * 5000 + "ü" * 2000], kind=kind, vocab_size=300)
    assert made.vocab_size > 6
    assert "runs over 1,000 bytes" in capsys.readouterr().err


def test_wordpiece_knows_every_character_where_it_was_seen(tokenizers):
    made = tokenizers["wordpiece"]
    assert all(made.unk_id not in ids for ids in made.encode(["ctaaat", "Tslike", "nike, 1.0"]))
    listed = json.loads(made.text)["added_tokens"]
    assert [t["content"] for t in listed] == list(SPECIALS)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kind": "bpee"}, "did you mean 'bpe'"),
        ({"kind": "bpe", "vocab_size": 261}, "too small"),
        ({"kind": "wordpiece", "vocab_size": 12}, "too small"),
        ({"kind": "unigram", "vocab_size": 12}, "raise --vocab-size|too small"),
        ({"kind": "word", "vocab_size": 50, "add_tokens": ["[PAD]"]}, "there already"),
    ],
)
def test_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Tokenizer.train(TEXTS, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_learn_from(kind):
    with pytest.raises(DataError, match="nothing to learn from"):
        Tokenizer.train(iter(["", " \n"]), kind=kind, vocab_size=300)


def test_damage_is_found_before_parsing(tmp_path, tokenizers):
    tokenizers["bpe"].save(tmp_path / "t")
    file = tmp_path / "t" / "tokenizer.json"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ArtifactError, match="damaged"):
        Tokenizer.load(tmp_path / "t")
    assert file.read_bytes() == raw


@pytest.mark.parametrize("content", ["garbage", "{}", "[" * 5000, '{"model": {"type": "BPE"}}', "\x00\xff"])
def test_garbage_is_an_artifact_error(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content, encoding="latin-1")
    with pytest.raises(ArtifactError, match="not a tokenizer"):
        Tokenizer.load(tmp_path)


def test_folders_that_are_no_tokenizers(tmp_path):
    with pytest.raises(UsageError, match="no such tokenizer"):
        Tokenizer.load(tmp_path / "absent")
    with pytest.raises(ArtifactError, match=r"has no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "f").write_text("x")
    with pytest.raises(UsageError, match="the folder around it"):
        Tokenizer.load(tmp_path / "f")


def test_a_foreign_folder_opens_with_its_own_special_tokens(tmp_path):
    from tokenizers import Tokenizer as Raw
    from tokenizers import models, pre_tokenizers, processors

    raw = Raw(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2, "<mask>": 3, "a": 4}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    raw.add_special_tokens(["<s>", "</s>", "<unk>", "<mask>"])
    raw.save(str(tmp_path / "tokenizer.json"))
    names = {
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": {"content": "<mask>"},
        "pad_token": "</s>",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names))
    made = Tokenizer.load(tmp_path)
    assert (made.cls_id, made.sep_id, made.unk_id, made.mask_id, made.pad_id) == (0, 1, 2, 3, 1)
    assert made.encode(["a <mask>"], special=True) == [[0, 4, 3, 1]]
    assert made.encode(["a"], pairs=["a"], special=True) == [[0, 4, 1, 1, 4, 1]]
    (tmp_path / "out").mkdir()
    made.export(tmp_path / "out")
    again = Tokenizer.load(tmp_path / "out")
    assert again.fingerprint == made.fingerprint
    assert again.encode(["a"], special=True) == [[0, 4, 1]]


def test_a_foreign_padding_is_not_taken_over(tmp_path, tokenizers):
    made = tokenizers["bpe"]
    made.export(tmp_path)
    body = json.loads((tmp_path / "tokenizer.json").read_text())
    body["padding"] = {
        "strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(body))
    assert Tokenizer.load(tmp_path).encode(["the cat"]) == made.encode(["the cat"])

"""Extended tokenizers: ids and merges that stay, texts that never get longer, foreign folders, refusals."""

import itertools
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit import cli
from nlpkit.errors import DataError, UsageError
from nlpkit.text.recipe import Recipe
from nlpkit.text.tokenizer import Tokenizer
from nlpkit.text.tokenizer_extension import extend_tokenizer

OLD = ["can't dislike this, they dislike that", "The cat sat on the mat.\nThe cat can't sit!"] * 3
NEW = [
    "le chat s'est assis, le chat dort",
    "[MASK] le chien dort: dislike dislike this",
    "日本語 日本語 日本語",
] * 4


@pytest.fixture(scope="module")
def old():
    return Tokenizer.train(OLD, kind="bpe", vocab_size=290, add_tokens=["<user>"])


@pytest.fixture(scope="module")
def extended(old):
    return extend_tokenizer(old, NEW, vocab_size=310, add_tokens=("<bot>",))


def test_old_ids_and_merges_stay_in_place(old, extended):
    assert extended.vocab_size == 310 and extended.token_to_id("<bot>") == 309
    for id in range(old.vocab_size):
        assert extended.id_to_token(id) == old.id_to_token(id)
        assert extended.decode([id], special=True) == old.decode([id], special=True)
    before, after = (t.body["model"]["merges"] for t in (old, extended))
    assert after[: len(before)] == before and len(after) > len(before)
    made = ["".join(pair) for pair in after[len(before) :]]
    assert [extended.token_to_id(name) for name in made] == list(range(old.vocab_size, 309))
    known = old.body["added_tokens"]
    assert extended.body["added_tokens"][: len(known)] == known
    assert {k: v for k, v in extended.body.items() if k not in ("model", "added_tokens")} == {
        k: v for k, v in old.body.items() if k not in ("model", "added_tokens")
    }
    assert extended.encode(["<user> <bot> [MASK]"])[0][0] == old.token_to_id("<user>")
    assert extended.ours and extended.encode(["the"], special=True)[0][0] == extended.cls_id


def test_the_next_merge_is_the_most_frequent_pair(old):
    """Each new merge against a plain count of the pairs that the tokenizer before it leaves."""
    now = old
    for _ in range(12):
        larger = extend_tokenizer(now, NEW, vocab_size=now.vocab_size + 1)
        pairs: Counter[tuple[int, int]] = Counter()
        for text in NEW:
            for part in text.split("[MASK]"):
                for piece, _ in now.raw.pre_tokenizer.pre_tokenize_str(part):
                    ids = [token.id for token in now.raw.model.tokenize(piece)]
                    pairs.update(itertools.pairwise(ids))
        (left, right), _ = min(pairs.items(), key=lambda item: (-item[1], item[0]))
        assert larger.body["model"]["merges"][-1] == [now.id_to_token(left), now.id_to_token(right)]
        now = larger
    assert now.fingerprint == extend_tokenizer(old, NEW, vocab_size=now.vocab_size).fingerprint


WORDS = st.lists(st.sampled_from("cat le chat dislike dort 日本 語 <user> [MASK] é ' mat \n".split(" "))).map(
    " ".join
)


@settings(max_examples=200, deadline=None)
@given(WORDS | st.text())
def test_a_text_never_has_more_tokens(old, extended, text):
    (before,), (after,) = old.encode([text]), extended.encode([text])
    assert len(after) <= len(before)
    assert extended.decode(after, special=True) == old.decode(before, special=True)
    if all(id < old.vocab_size for id in after):
        assert after == before


def test_a_foreign_folder_grows_and_opens_in_transformers(tmp_path):
    from tokenizers import AddedToken, models, pre_tokenizers, processors, trainers
    from tokenizers import Tokenizer as Raw
    from transformers import AutoTokenizer

    raw = Raw(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        OLD, trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    )
    raw.add_special_tokens([AddedToken("<|endoftext|>", normalized=False, special=True)])
    raw.post_processor = processors.ByteLevel(trim_offsets=False)
    body = json.loads(raw.to_str())
    body["model"]["merges"] = [
        " ".join(pair) for pair in body["model"]["merges"]
    ]  # as GPT-2's folder has them
    folder, grown = tmp_path / "gpt2", tmp_path / "grown"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(body))
    config = {"tokenizer_class": "GPT2TokenizerFast", "eos_token": "<|endoftext|>", "model_max_length": 1024}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "new.txt").write_text("\n\n".join(NEW))
    argv = ["train-tokenizer", str(tmp_path / "new.txt"), "-o", str(grown), "--extend", str(folder)]
    assert cli.run([*argv, "--vocab-size", "310"]) == 0
    old, new = Tokenizer.load(folder), Tokenizer.load(grown)
    assert (old.vocab_size, new.vocab_size) == (281, 310)
    assert new.eos_id == old.eos_id == 280
    assert [new.id_to_token(id) for id in range(281)] == [old.id_to_token(id) for id in range(281)]
    assert json.loads((grown / "tokenizer_config.json").read_text()) == config
    assert all(isinstance(merge, str) for merge in new.body["model"]["merges"])
    theirs = AutoTokenizer.from_pretrained(grown)
    texts = ["le chat<|endoftext|>dort", "the cat can't", "日本"]
    assert theirs(texts)["input_ids"] == new.encode(texts)
    assert theirs.decode(new.encode(texts)[0]) == texts[0]
    assert sum(map(len, new.encode(NEW))) < sum(map(len, old.encode(NEW)))


@pytest.mark.parametrize("kind", ["word", "char"])
def test_words_and_characters_come_by_frequency(kind):
    old = Tokenizer.train(["a b c"], kind=kind, vocab_size=40, add_tokens=["<user>"])
    grown = extend_tokenizer(old, ["z z y x y z a <user>"], vocab_size=old.vocab_size + 2)
    assert grown.vocab_size == old.vocab_size + 2
    names = [grown.id_to_token(id) for id in range(grown.vocab_size)]
    assert names == [*(old.id_to_token(id) for id in range(old.vocab_size)), "z", "y"]
    text = "a z <user> q"
    before, after = old.encode([text])[0], grown.encode([text])[0]
    assert [b if b != old.unk_id else None for b in before] == [
        a if a < old.vocab_size and a != old.unk_id else None for a in after
    ]
    rare = extend_tokenizer(old, ["z z y"], vocab_size=old.vocab_size + 9, min_frequency=2)
    assert rare.vocab_size == old.vocab_size + 1


def test_a_recipe_before_the_tokenizer_is_applied_to_the_new_text(tmp_path):
    recipe = Recipe(("lower", "stem:en"))
    old = Tokenizer.train(["cats"], kind="word", vocab_size=20, recipe=recipe)
    grown = extend_tokenizer(old, ["Dogs dog"], vocab_size=20, recipe=recipe)
    assert grown.recipe == recipe and grown.vocab_size == old.vocab_size + 1
    assert grown.encode(["DOG"]) == [[old.vocab_size]]
    with pytest.raises(UsageError, match="leave --recipe out"):
        extend_tokenizer(old, ["dog"], vocab_size=20, recipe=Recipe(("lower",)))


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("bpe", {"vocab_size": 290}, "leaves no room"),
        ("bpe", {"vocab_size": 400, "kind": "word"}, "leave --kind out"),
        ("bpe", {"vocab_size": 400, "recipe": Recipe(("lower",))}, "leave --recipe out"),
        ("bpe", {"vocab_size": 400, "add_tokens": ("[PAD]",)}, "there already"),
        ("wordpiece", {"vocab_size": 900}, "wordpiece vocabulary cannot grow"),
        ("unigram", {"vocab_size": 900}, "unigram vocabulary cannot grow"),
    ],
)
def test_refused(kind, options, message):
    with pytest.raises(UsageError, match=message):
        extend_tokenizer(Tokenizer.train(OLD, kind=kind, vocab_size=290), NEW, **options)


def test_nothing_to_learn(old, capsys):
    with pytest.raises(DataError, match="nothing to learn from"):
        extend_tokenizer(old, ["", " "], vocab_size=400)
    same = extend_tokenizer(old, ["q"], vocab_size=400)
    assert same.vocab_size == old.vocab_size and "did not grow" in capsys.readouterr().err


def test_an_endless_word_and_byte_fallback(old, tmp_path, capsys):
    grown = extend_tokenizer(old, ["a" * 2_000_000 + " ééé"], vocab_size=300)
    assert grown.vocab_size == 300 and "runs over 1,000 bytes" in capsys.readouterr().err
    old.save(tmp_path / "t")
    (tmp_path / "x").write_text("a b")
    argv = [
        "train-tokenizer",
        str(tmp_path / "x"),
        "-o",
        str(tmp_path / "o"),
        "--extend",
        str(tmp_path / "t"),
    ]
    assert cli.run([*argv, "--byte-fallback"]) == 2
    assert cli.run([*argv, "--kind", "word"]) == 2

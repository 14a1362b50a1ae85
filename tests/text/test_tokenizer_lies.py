"""A tokenizer.json that says what cannot be so is refused in one line, by every verb that takes a tokenizer."""

import json
import subprocess
import sys

import pytest

from nlpkit.cli import run
from nlpkit.errors import ArtifactError
from nlpkit.text import tokenizer_file
from nlpkit.text.tokenizer import Tokenizer

BPE = Tokenizer.train(["the cat sat on the mat"] * 4, vocab_size=280)
WORD = Tokenizer.train(["the cat sat on the mat"] * 4, kind="word", vocab_size=30)
UNIGRAM = Tokenizer.train(["the cat sat on the mat"] * 4, kind="unigram", vocab_size=30)


def changed(change, base=BPE):
    body = json.loads(base.text)
    change(body)
    return json.dumps(body)


def vocabulary(**more):
    return lambda body: body["model"]["vocab"].update(more)


def added(**more):
    return lambda body: body["added_tokens"].append(body["added_tokens"][0] | more)


def regex(part, pattern, type="Replace", **more):
    return lambda body: body.update({part: {"type": type, "pattern": {"Regex": pattern}, **more}})


def template(*ids):
    tokens = [f"t{id}" for id in ids]
    special = {"[CLS]": {"id": "[CLS]", "ids": list(ids), "tokens": tokens}}
    pieces = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    made = {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": special}
    return lambda body: body.update(post_processor=made)


LIES = {
    "truncated": (BPE.text[: len(BPE.text) // 2], "not valid JSON"),
    "deep list": ("[" * 100_000 + "]" * 100_000, "nested too deep"),
    "deep object": ('{"model":' * 100_000 + "1" + "}" * 100_000, "nested too deep"),
    "empty": ("", "not valid JSON"),
    "a list": ("[]", "not a JSON object"),
    "no model": (changed(lambda body: body.pop("model")), "with a model"),
    "unknown model": (changed(lambda body: body["model"].update(type="Trigram")), "not a tokenizer"),
    "vocabulary is a list": (changed(lambda body: body["model"].update(vocab=["a"])), "not an object of tokens"),
    "vocabulary is missing": (changed(lambda body: body["model"].pop("vocab")), "not an object of tokens"),
    "two tokens with one id": (changed(vocabulary(zzz=7)), "'!' and 'zzz' have one id|have one id, 7"),
    "a token twice": (WORD.text.replace('"the":6', '"cat":6', 1).replace('"the": 6', '"cat": 6', 1), "stands twice"),
    "a hole": (changed(vocabulary(zzz=5000)), "and no token has id 2"),
    "huge": (changed(vocabulary(zzz=2**40)), "and no token has id"),
    "negative": (changed(vocabulary(zzz=-1)), "go from -1"),
    "a fraction": (changed(vocabulary(zzz=1.5)), "no whole number"),
    "true": (changed(vocabulary(zzz=True)), "no whole number"),
    "merge of nothing": (changed(lambda b: b["model"]["merges"].append(["zz", "t"])), "not in its vocabulary"),
    "merge into nothing": (changed(lambda b: b["model"]["merges"].append(["t", "z"])), "not in its vocabulary"),
    "merge of three": (changed(lambda b: b["model"]["merges"].append(["t", "z", "t"])), "not a merge"),
    "merge of a number": (changed(lambda b: b["model"]["merges"].append(7)), "not a merge"),
    "merges are a word": (changed(lambda b: b["model"].update(merges="t h")), "not a list"),
    "added: other id": (changed(lambda b: b["added_tokens"][0].update(id=9)), "'\\[PAD\\]' has id 9 where 0"),
    "added: id of another": (changed(added(content="<x>", id=7)), "'<x>' has id 7"),
    "added: beyond": (changed(added(content="<x>", id=2**40)), "'<x>' has id 1099511627776"),
    "added: twice": (changed(added()), "stands there twice"),
    "added: empty": (changed(added(content="", id=280)), "'' has id"),
    "added: no list": (changed(lambda b: b.update(added_tokens={"a": 1})), "not a list"),
    "added: no content": (changed(lambda b: b["added_tokens"][0].pop("content")), "no content"),
    "template": (changed(template(999)), "template takes"),
    "bomb: normalizer": (changed(regex("normalizer", "(a+)+$", content="")), "normalizer has a pattern"),
    "bomb: split": (
        changed(regex("pre_tokenizer", r"(?:\p{L}*x)*y", "Split", behavior="Isolated", invert=False)),
        "pre_tokenizer has a pattern",
    ),
    "no regex": (changed(regex("normalizer", "(a", content="")), "not a tokenizer"),
    "unigram: twice": (changed(lambda b: b["model"]["vocab"].append(b["model"]["vocab"][7]), UNIGRAM), "stands twice"),
    "unigram: no scores": (changed(lambda b: b["model"].update(vocab=["a", "b"]), UNIGRAM), "with their scores"),
    "unigram: unknown": (changed(lambda b: b["model"].update(unk_id=10**6), UNIGRAM), "not a tokenizer"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_in_one_line(name, tmp_path, capfd):
    text, words = LIES[name]
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ArtifactError, match=words):
        Tokenizer.load(tmp_path)
    assert run(["tokenize", "--tokenizer", str(tmp_path), str(tmp_path / "absent")]) == 4
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and str(tmp_path) in err and "panicked" not in err


@pytest.mark.parametrize(
    "verb",
    [
        ["tokenize", "IN", "--tokenizer", "T"],
        ["detokenize", "IN", "--tokenizer", "T"],
        ["tokenizer-eval", "T", "IN"],
        ["vectorize", "IN", "--tokenizer", "T", "-o", "OUT.npz"],
    ],
    ids=lambda verb: verb[0],
)
def test_every_verb_refuses(verb, tmp_path, capfd):
    (tmp_path / "T").mkdir()
    (tmp_path / "T" / "tokenizer.json").write_text(LIES["merge of nothing"][0])
    (tmp_path / "IN").write_text("6 7\n")
    places = {name: str(tmp_path / name) for name in ("T", "IN", "OUT.npz")}
    assert run([places.get(word, word) for word in verb]) == 4
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "not in its vocabulary" in err
    assert not (tmp_path / "OUT.npz").exists()


def test_what_is_no_such_file(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.json").write_bytes(BPE.text.encode() + b"\xff")
    with pytest.raises(ArtifactError, match=r"byte 0xff at .* is not UTF-8"):
        Tokenizer.load(tmp_path)
    monkeypatch.setattr(tokenizer_file, "LARGEST", 1 << 10)
    with pytest.raises(ArtifactError, match="bytes, more than the 0 MiB"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(ArtifactError, match=r"has no tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_a_sealed_lie_needs_more_than_the_file(tmp_path):
    BPE.save(tmp_path / "t")
    (tmp_path / "t" / "tokenizer.json").write_text(LIES["a hole"][0])
    with pytest.raises(ArtifactError, match=r"sealed with|damaged"):
        Tokenizer.load(tmp_path / "t")


def test_a_text_that_the_library_panics_on_is_an_error():
    # (a|a)* explodes too, and is not seen in the pattern
    body = json.loads(WORD.text)
    body["normalizer"] = {"type": "Replace", "pattern": {"Regex": "(a|a)*$"}, "content": ""}
    code = (
        "import sys; from nlpkit.errors import ArtifactError; from nlpkit.text.tokenizer import Tokenizer\n"
        "try: Tokenizer(sys.stdin.read()).encode(['a' * 40 + 'b'])\n"
        "except ArtifactError as error: sys.stdout.write(str(error))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(body), capture_output=True, text=True
    )
    assert done.returncode == 0 and "fails on a text" in done.stdout


def test_what_is_true_is_taken():
    for made in (BPE, WORD, UNIGRAM):
        assert Tokenizer(made.text).encode(["the cat"]) == made.encode(["the cat"])
    joined = changed(lambda b: b["model"].update(merges=[" ".join(m) for m in b["model"]["merges"]]))
    assert Tokenizer(joined).encode(["the cat"]) == BPE.encode(["the cat"])
    more = changed(added(content="<x>", id=BPE.vocab_size))
    assert Tokenizer(more).vocab_size == BPE.vocab_size + 1


@pytest.mark.parametrize(
    "pattern, explodes",
    [
        ("(a+)+", True), ("(a*)*b", True), ("((ab)*c)+", True), ("(x{2,})*", True), ("(a+){3,}", True),
        ("(?:a|b)+", False), ("a++", False), ("a*?", False), ("(a+)?", False), ("(a+)b+", False), (r"(a+)\+", False),
        ("[(a+)+]+", False), ("[]+*]+", False), (r"\p{L}+", False), ("(x{2,5})*", False), ("(a+){3}", False),
        (r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)", False),
        ("(", False), ("a)", False), ("\\", False), ("[", False), ("", False),
    ],
)  # fmt: skip
def test_patterns_that_explode(pattern, explodes):
    assert tokenizer_file.explosive(pattern) is explodes

"""The tokenize and detokenize filters: offsets, n-grams, pairs, templates, cuts, shards; nothing is lost or moved."""

import io
import json
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nlpkit import cli
from nlpkit.errors import ArtifactError, DataError, UsageError
from nlpkit.text import detokenize_stream, tokenize_stream
from nlpkit.text.encoded import Encoded
from nlpkit.text.recipe import Recipe
from nlpkit.text.standardize import Standardizer
from nlpkit.text.token_names import names_of
from nlpkit.text.tokenizer import SPECIALS, Tokenizer
from nlpkit.text.tokenizer_training import KINDS
from nlpkit.text.vectorize import vectorize
from nlpkit.text.vocabulary import words_of

TEXTS = [
    "can't dislike this, they dislike that R&D",
    "The cat sat on the mat.\tThe cat can't sit!",
    "naïve Café — 日本語 text, 100 % ½ ﬁ",
    "dislike this dislike this can't can't cat cat mat mat happiness walking",
] * 4
OUTSIDE = Recipe(("strip-html", "lower", "strip-accents", "stem:en"))
MADE = {kind: Tokenizer.train(TEXTS, kind=kind, vocab_size=330) for kind in KINDS}
WITH_RECIPE = {
    kind: Tokenizer.train(TEXTS, kind=kind, vocab_size=330, recipe=Recipe.DEFAULT) for kind in KINDS
}
STEMMED = Tokenizer.train(TEXTS, kind="word", vocab_size=100, recipe=OUTSIDE)
WORDS = [
    *" ".join(TEXTS[:4]).split(),
    "walks,",
    "Happily",
    "İx",
    "👍🏽",
    "a\u0301b",
    "[MASK]",
    "ẖ",
    "\u00a0",
    "½½",
]
LINES = st.one_of(
    st.lists(st.sampled_from([*WORDS, " ", "&amp;", "<b>", "\t", "'s"]), max_size=8).map(" ".join),
    st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=20),
)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("made")
    for kind, made in MADE.items():
        made.save(place / kind)
    return place


@pytest.fixture
def run(monkeypatch, capfdbinary):
    """Runs a command line with text on standard input: (exit code, stdout, stderr)."""

    def line(*argv, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin.encode()))))
        code = cli.run([str(a) for a in argv])
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return line


def records(place, tokenizer, rows, **options):
    """What tokenize --format jsonl makes of texts, or of records."""
    source, out = place / "in.jsonl", place / "out.jsonl"
    rows = [{"text": row} if isinstance(row, str) else row for row in rows]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tokenize_stream.tokenize([source], tokenizer, str(out), format="jsonl", force=True, **options)
    return [json.loads(line) for line in out.read_bytes().splitlines()]


def spans(place, tokenizer, text, **options):
    """(token, the characters of the text that its bytes are) of each token; the general rules are checked."""
    (record,) = records(place, tokenizer, [text], offsets=True, **options)
    assert record["ids"] == tokenizer.encode([text])[0]
    data, at = text.encode(), (0, 0)
    made = []
    for token, (start, end) in zip(record["tokens"], record["offsets"], strict=True):
        assert at[0] <= start <= end <= len(data) and at[1] <= end, "in order, inside the text"
        at = start, end
        made.append((token, data[start:end].decode()))  # on character boundaries
    return made


# ---------------------------------------------------------------------- offsets


@QUICK
@given(LINES.filter(lambda t: not any(s in t for s in SPECIALS)))
def test_offsets_of_byte_level_tokens_are_their_bytes_filled_up_to_characters(tmp_path, text):
    drawn = [b for b in range(256) if chr(b).isprintable() and b not in (0x20, 0xAD)]  # GPT-2's own letters
    letters = [*drawn, *(b for b in range(256) if b not in drawn)]
    byte_of = {chr(b if i < len(drawn) else 256 + i - len(drawn)): b for i, b in enumerate(letters)}
    (record,) = records(tmp_path, MADE["bpe"], [text], offsets=True)
    data = text.encode()
    whole = bytes(byte_of[c] for token in record["tokens"] for c in token)
    assert whole == data
    edges = {0, len(data)} | {i for i, b in enumerate(data) if b & 0xC0 != 0x80}
    at = 0
    for token, (start, end) in zip(record["tokens"], record["offsets"], strict=True):
        assert start == max(e for e in edges if e <= at)
        at += len(token)
        assert end == min(e for e in edges if e >= at)


@QUICK
@given(LINES)
def test_offsets_point_at_what_they_say(tmp_path, text):
    for token, part in spans(tmp_path, MADE["char"], text):
        assert part == token or (token == "[UNK]" and len(part) == 1)
    for token, part in spans(tmp_path, MADE["word"], text):
        assert part == token or (token == "[UNK]" and part)
    clean = MADE["wordpiece"].raw.normalizer.normalize_str
    for token, part in spans(tmp_path, MADE["wordpiece"], text):
        assert clean(part).strip() == token.removeprefix("##") or (token == "[UNK]" and part)
    for i, (token, part) in enumerate(spans(tmp_path, MADE["unigram"], text)):
        if token in SPECIALS:
            assert part.strip() == token or (
                token == "[UNK]" and part
            )  # a mask takes the space before it along
        else:  # the ▁ before a text is no part of it
            before = "▁" if i == 0 and not text.startswith((" ", "▁")) else ""
            assert token == before + part.replace(" ", "▁")


@QUICK
@given(LINES)
def test_offsets_through_the_recipe_inside(tmp_path, text):
    for kind in KINDS:
        found = spans(tmp_path, WITH_RECIPE[kind], text)
        assert all(part or token == "▁" for token, part in found)
        if kind == "word":
            normal = WITH_RECIPE[kind].raw.normalizer.normalize_str
            assert all(token in normal(part) for token, part in found if token not in SPECIALS)


@QUICK
@given(st.lists(st.sampled_from([w for w in WORDS if w.isalpha()]), max_size=8).map(" ".join))
def test_offsets_through_the_recipe_before(tmp_path, text):
    standard = Standardizer(OUTSIDE)
    found = spans(tmp_path, STEMMED, text)
    assert [part for _, part in found] == text.split()  # no word of these is cut
    assert all(standard(part) == token or token == "[UNK]" for token, part in found)


@QUICK
@given(LINES)
@example("&\x0b0:")
def test_offsets_through_the_recipe_before_hold_the_rules_for_any_text(tmp_path, text):
    assert all(part for _, part in spans(tmp_path, STEMMED, text))


def test_offsets_known(tmp_path):
    assert spans(tmp_path, STEMMED, "<b>Walking</b>, R&amp;D naïve") == [
        ("walk", "Walking"), (",", ","), ("r", "R"), ("&", "&amp;"), ("d", "D"), ("naiv", "naïve"),
    ]  # fmt: skip
    found = spans(tmp_path, MADE["bpe"], "日")
    assert len(found) > 1 and {part for _, part in found} == {"日"}  # parts of a character have it in common
    assert spans(tmp_path, MADE["unigram"], "½½")[0] == ("▁", "")
    (record,) = records(tmp_path, MADE["word"], ["the [MASK] cat"], offsets=True, special=True, eos=True)
    assert record["offsets"] == [None, [0, 3], [4, 10], [11, 14], None, None]
    (record,) = records(tmp_path, STEMMED, ["the walk"], offsets=True, standardized=True)
    assert record["offsets"] == [[0, 3], [4, 8]]


@pytest.mark.parametrize("format", ["ids", "tokens", "npy", "bin"])
def test_offsets_need_records(run, folders, tmp_path, format):
    out = tmp_path / f"x.{format}"
    code, _, err = run("tokenize", "--tokenizer", folders / "bpe", "--offsets", "--format", format, "-o", out)
    assert code == 2 and "--format jsonl" in err and err.count("\n") == 1 and not out.exists()


# ---------------------------------------------------------------------- tokens and n-grams


def test_ngrams_are_named_as_vectorize_names_its_columns(run, folders, tmp_path):
    (tmp_path / "x.txt").write_text("The cat can't sit\ncat  cat\n\n", encoding="utf-8")
    for kind in KINDS:
        options = ["--tokenizer", folders / kind, "--format", "tokens", "--ngrams", "1-2"]
        code, out, err = run("tokenize", tmp_path / "x.txt", *options)
        assert (code, err) == (0, "") and out.count("\n") == 3
        words = words_of(tokenizer=MADE[kind])
        vectorize(
            [tmp_path / "x.txt"], str(tmp_path / f"{kind}.npz"), mode="count", words=words, ngrams=(1, 2)
        )
        columns = {row.split("\t")[0] for row in (tmp_path / f"{kind}.vocab.txt").read_text().splitlines()}
        assert {gram for line in out.splitlines() for gram in line.split("\t") if gram} == columns
    argv = ["tokenize", "--tokenizer", folders / "word", "--format", "tokens", "--ngrams"]
    assert run(*argv, "2", stdin="the cat sat\ncat\n")[1] == "the cat\tcat sat\n\n"
    assert run(*argv, "1-3", stdin="the cat sat\n")[1] == "the\tcat\tsat\tthe cat\tcat sat\tthe cat sat\n"


@pytest.mark.parametrize("format", ["ids", "jsonl", "npy"])
def test_ngrams_are_lines_of_tokens(run, folders, tmp_path, format):
    argv = ["--ngrams", "2", "--format", format, "-o", tmp_path / f"x.{format}"]
    code, _, err = run("tokenize", "--tokenizer", folders / "word", *argv)
    assert code == 2 and "--format tokens" in err and err.count("\n") == 1
    code, _, err = run("tokenize", "--tokenizer", folders / "word", "--format", "tokens", "--ngrams", "3-1")
    assert code == 2 and "a range such as 1-3" in err and err.count("\n") == 1


def test_a_line_of_tokens_can_be_read_back():
    made = Tokenizer.train([" ▁\t\u2409 a\n b\r "], kind="char", vocab_size=40)
    names = names_of(made)
    assert len(set(names)) == len(names) == made.vocab_size
    assert all(name and not any(c <= " " for c in name) for name in names)
    drawn = [names[i] for i in made.encode([" ▁\t\u2409\n\r"])[0]]
    assert len(set(drawn)) == 6 and {d.partition("#")[0] for d in drawn} == {
        "▁",
        "\u2409",
        "\u240a",
        "\u240d",
    }


@QUICK
@given(st.lists(LINES, min_size=1, max_size=4))
def test_a_line_of_tokens_says_which_ids(folders, run, texts):
    for kind in KINDS:
        argv = ["tokenize", "--tokenizer", folders / kind]
        stdin = "".join(text + "\n" for text in texts)
        place = {name: i for i, name in enumerate(names_of(MADE[kind]))}
        ids = run(*argv, stdin=stdin)[1].splitlines()
        tokens = run(*argv, "--format", "tokens", stdin=stdin)[1].split("\n")[:-1]
        assert [" ".join(str(place[t]) for t in line.split(" ") if t) for line in tokens] == ids


# ---------------------------------------------------------------------- pairs


def test_pairs(run, folders, tmp_path):
    made = MADE["word"]
    row = {"id": "7", "a": "the cat", "b": "mat", "label": 1}
    argv = ["tokenize", "--tokenizer", folders / "word", "--text-field", "a", "--pair-field", "b", "--format",
            "jsonl", "--input-format", "jsonl", "--offsets"]  # fmt: skip
    code, out, err = run(*argv, "--special", "--eos", stdin=json.dumps(row) + "\n")
    assert (code, err) == (0, "")
    the, cat, mat = made.encode(["the cat mat"])[0]
    assert json.loads(out) == {
        "id": "7", "ids": [2, the, cat, 3, mat, 3, 5],
        "tokens": ["[CLS]", "the", "cat", "[SEP]", "mat", "[SEP]", "<|endoftext|>"],
        "type_ids": [0, 0, 0, 0, 1, 1, 1],
        "offsets": [None, [0, 3], [4, 7], None, [0, 3], None, None], "label": 1,
    }  # fmt: skip
    plain = json.loads(run(*argv, stdin=json.dumps(row) + "\n")[1])
    assert (plain["ids"], plain["type_ids"]) == ([the, cat, mat], [0, 0, 1])
    for name, text in (("x.csv", 'a,b\n"the, cat",mat\n'), ("x.tsv", "a\tb\nthe, cat\tmat\n")):
        (tmp_path / name).write_text(text)
        argv = ["--tokenizer", folders / "word", "--text-field", "a", "--pair-field", "b", "--special"]
        out = run("tokenize", tmp_path / name, *argv)[1]
        assert out == " ".join(map(str, made.encode(["the, cat"], pairs=["mat"], special=True)[0])) + "\n"


@pytest.mark.parametrize(
    "text, message",
    [
        (
            '{"text": "a", "b": "c"}\n{"text": "a", "bb": "c"}\n',
            "in.jsonl:2: no field 'b'; did you mean 'bb'?",
        ),
        ('\n{"text": "a", "b": 3}\n', "in.jsonl:2: field 'b' is not text but int"),
        ('{"text": "a", "b": null}\n', "in.jsonl:1: field 'b' is not text but null"),
    ],
)
def test_a_record_without_its_pair(tmp_path, text, message):
    (tmp_path / "in.jsonl").write_text(text)
    out = tmp_path / "out"
    with pytest.raises(DataError, match=f"{message}.*"):
        tokenize_stream.tokenize([tmp_path / "in.jsonl"], MADE["word"], str(out), pair_field="b")
    assert not out.exists()


def test_lines_of_text_have_no_pairs(run, folders):
    code, out, err = run("tokenize", "--tokenizer", folders / "word", "--pair-field", "b", stdin="a\n")
    assert (code, out) == (2, "") and "no --pair-field" in err and err.count("\n") == 1


# ---------------------------------------------------------------------- cuts and templates


@QUICK
@given(st.lists(st.integers(0, 14), min_size=2, max_size=2), st.integers(4, 20), st.booleans(), st.booleans())
def test_cuts_are_those_of_tokenizers(sizes, most, special, paired):
    made = MADE["word"]
    first, second = (("cat mat the " * 5).split()[:n] for n in sizes)
    row = (" ".join(first), " ".join(second)) if paired else " ".join(first)
    whole = made.raw.encode(*(row if paired else (row,)), add_special_tokens=special)
    theirs = type(made.raw).from_str(made.raw.to_str())
    theirs.enable_truncation(most)
    wanted = theirs.encode(*(row if paired else (row,)), add_special_tokens=special)
    got = Encoded(whole, most)
    assert (got.ids, got.type_ids, got.parts) == (wanted.ids, wanted.type_ids, wanted.sequence_ids)
    assert got.cut == len(whole.ids) - len(wanted.ids)
    assert Encoded(whole, most + 1, 5).ids == [*wanted.ids, 5]


def test_what_is_cut_is_counted_in_documents_and_tokens(run, folders, tmp_path):
    rows = [{"text": "cat " * n, "b": "mat " * m} for n, m in ((9, 2), (1, 1), (3, 9), (8, 8))]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ["tokenize", tmp_path / "in.jsonl", "--tokenizer", folders / "word", "--pair-field", "b"]
    code, out, err = run(*argv, "--special", "--eos", "--max-length", "10")
    lines = [[int(i) for i in line.split()] for line in out.splitlines()]
    assert [len(line) for line in lines] == [10, 6, 10, 10] and all(line[-2:] == [3, 5] for line in lines)
    cat, mat = MADE["word"].encode(["cat mat"])[0]
    assert [(line.count(cat), line.count(mat)) for line in lines] == [(4, 2), (1, 1), (3, 3), (3, 3)]
    assert code == 0 and "3 documents were cut to 10 tokens, 21 tokens were left out" in err
    code, out, err = run("tokenize", "--tokenizer", folders / "word", "--max-length", "2", "--eos",
                         stdin="cat mat cat\ncat\n")  # fmt: skip
    assert out == f"{cat} 5\n{cat} 5\n" and "1 documents were cut to 2 tokens, 2 tokens" in err
    for few, flags in ((1, ["--eos"]), (3, ["--special", "--eos"])):
        code, _, err = run("tokenize", "--tokenizer", folders / "word", *flags, "--max-length", few)
        assert code == 2 and f"at least {few + 1} is needed" in err and err.count("\n") == 1


def test_a_long_pair_is_cut_without_its_leftovers_being_combined():
    made = MADE["word"]
    text = "cat " * 30_000  # the library's own cut would make 900 million encodings
    (encoded,) = made.encodings([text], pairs=[text], special=True, max_length=7)
    assert encoded.type_ids == [0, 0, 0, 0, 1, 1, 1] and encoded.cut == 59_996


@pytest.mark.parametrize("kind", KINDS)
def test_special_and_eos_together(run, folders, kind):
    argv = ["tokenize", "--tokenizer", folders / kind]
    plain = [int(i) for i in run(*argv, stdin="the cat\n")[1].split()]
    for flags, wanted in (
        (["--special"], [2, *plain, 3]),
        (["--eos"], [*plain, 5]),
        (["--special", "--eos"], [2, *plain, 3, 5]),
    ):
        code, out, err = run(*argv, *flags, stdin="the cat\n")
        assert (code, [int(i) for i in out.split()], err) == (0, wanted, "")
        assert run("detokenize", "--tokenizer", folders / kind, stdin=out)[1] == "the cat\n"
    shown = run("detokenize", "--tokenizer", folders / kind, "--special", stdin=out)[1]
    assert shown.startswith("[CLS]") and shown.endswith("<|endoftext|>\n")


def foreign(folder, template):
    """A folder of Hugging Face with its own names and template, or none."""
    from tokenizers import Tokenizer as Raw
    from tokenizers import models, pre_tokenizers, processors

    names = {"<s>": 0, "</s>": 1, "<unk>": 2, "a": 3, "b": 4}
    raw = Raw(models.WordLevel(names, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.add_special_tokens(["<s>", "</s>", "<unk>"])
    if template == "roberta":
        raw.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    elif template == "begin":
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", 0)]
        )
    folder.mkdir()
    raw.enable_truncation(3)
    raw.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "template, special, both, pair, kinds",
    [
        (
            "roberta",
            "0 3 4 3 4 1",
            "0 3 4 3 4 1",
            [0, 3, 1, 1, 4, 1],
            [0] * 6,
        ),  # ends with its own </s> already
        ("begin", "0 3 4 3 4", "0 3 4 3 4 1", [0, 3, 0, 4, 1], [0, 0, 0, 1, 1]),
        (None, "3 4 3 4", "3 4 3 4 1", [3, 4, 1], [0, 1, 1]),
    ],
)
def test_foreign_templates(run, tmp_path, template, special, both, pair, kinds):
    folder = foreign(tmp_path / "t", template)
    argv = ["tokenize", "--tokenizer", folder]
    assert run(*argv, stdin="a b a b\n") == (0, "3 4 3 4\n", "")  # its own truncation is not taken over
    assert run(*argv, "--eos", stdin="a b a b\n") == (0, "3 4 3 4 1\n", "")
    code, out, err = run(*argv, "--special", stdin="a b a b\n")
    assert (code, out) == (0, special + "\n")
    assert ("no template" in err) == (template is None) and err.count("\n") <= 1
    assert run(*argv, "--special", "--eos", stdin="a b a b\n")[1] == both + "\n"
    most = len(both.split()) - 1
    cut = run(*argv, "--special", "--eos", "--max-length", most, stdin="a b a b\n")[1].split()
    assert len(cut) == most and cut[-1] == "1" and cut[0] == special[0]
    row = json.dumps({"text": "a", "b": "b"}) + "\n"
    pairs = ["--pair-field", "b", "--special", "--eos", "--format", "jsonl", "--input-format", "jsonl"]
    record = json.loads(run(*argv, *pairs, stdin=row)[1])
    assert (record["ids"], record["type_ids"]) == (pair, kinds)


def test_a_field_that_a_record_has_already_is_not_lost_in_silence(tmp_path, capsys):
    (record,) = records(tmp_path, MADE["word"], [{"text": "cat", "ids": "mine", "x": [1]}])
    assert record["x"] == [1] and record["ids"] == MADE["word"].encode(["cat"])[0]
    assert "a field 'ids' of their own" in capsys.readouterr().err


# ---------------------------------------------------------------------- and back


@QUICK
@given(st.lists(LINES.filter(lambda t: not any(s in t for s in SPECIALS)), max_size=40))
@pytest.mark.parametrize("form", ["ids", "jsonl", "npy", "bin"])
def test_byte_level_round_trip_in_order(tmp_path, form, texts):
    made = MADE["bpe"]
    source, ids, back = tmp_path / "in.txt", tmp_path / f"x.{form}", tmp_path / "back.txt"
    source.write_bytes("".join(text + "\n" for text in texts).encode())
    eos = form != "ids"
    tokenize_stream.tokenize([source], made, str(ids), format=form, eos=eos, force=True)
    assert detokenize_stream.detokenize([ids], made, str(back), force=True) == len(texts)
    text = source.read_bytes()
    assert back.read_bytes() == text.removeprefix(b"\xef\xbb\xbf")  # a byte-order mark is no text


def test_shards_lines_and_records_in_the_order_of_the_command_line(run, folders, tmp_path):
    argv = ["--tokenizer", folders / "bpe"]
    for name in ("a.npy", "b.bin"):
        (tmp_path / "x.txt").write_text(f"from {name}\n\n")
        assert (
            run("tokenize", tmp_path / "x.txt", *argv, "--format", name[-3:], "-o", tmp_path / name)[0] == 0
        )
    run("tokenize", *argv, "--format", "jsonl", "-o", tmp_path / "c.jsonl", stdin="a record\n")
    paths = [tmp_path / name for name in ("b.bin", "c.jsonl", "a.npy")]
    stdin = run("tokenize", *argv, stdin="a line")[1]
    code, out, err = run("detokenize", *paths, "-", *argv, stdin=stdin)
    assert (code, out, err) == (0, "from b.bin\n\na record\nfrom a.npy\n\na line\n", "")


def test_a_shard_of_another_tokenizer_or_damaged_is_refused(tmp_path):
    shard, source, out = tmp_path / "a.npy", tmp_path / "x.txt", tmp_path / "out.txt"
    source.write_text("the cat\n")
    tokenize_stream.tokenize([source], MADE["bpe"], str(shard), format="npy")
    with pytest.raises(ArtifactError, match="another tokenizer"):
        detokenize_stream.detokenize([shard], MADE["char"], str(out))
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(ArtifactError, match="damaged"):
        detokenize_stream.detokenize([shard], MADE["bpe"], str(out))
    (tmp_path / "bare.npy").write_bytes(b"1 2 3\n")
    with pytest.raises(UsageError, match="a shard is made by"):
        detokenize_stream.detokenize([tmp_path / "bare.npy"], MADE["bpe"], str(out))
    assert not out.exists()


@pytest.mark.parametrize(
    "line",
    ["1 999", "1 -1", "the cat", "1 ²", "1_0", '{"ids": [1, 2.5]}', '{"ids": [true]}', '{"ids": "12"}', '{"ids": 3}',
     '{"x": 1}', "{", '{"ids": [99999999999999999999]}', "9" * 5000],
)  # fmt: skip
def test_what_is_no_id_is_refused_with_its_line(run, folders, line):
    code, _, err = run("detokenize", "--tokenizer", folders / "word", stdin=f"6\n{line}\n")
    assert code == 3 and "standard input:2: " in err and err.count("\n") == 1 and len(err) < 200


def test_a_long_line_of_ids_is_one_document(tmp_path, monkeypatch):
    monkeypatch.setattr(detokenize_stream, "LONGEST", 64)
    made = MADE["bpe"]
    (tmp_path / "x").write_text(" ".join(["70"] * 20) + "\n")
    assert detokenize_stream.detokenize([tmp_path / "x"], made, str(tmp_path / "y")) == 1
    (tmp_path / "x").write_text(" ".join(["70"] * 22) + "\n")
    with pytest.raises(DataError, match="x:1: a line of over"):
        detokenize_stream.detokenize([tmp_path / "x"], made, str(tmp_path / "z"))


def test_texts_that_take_several_lines_are_said(run, folders, tmp_path):
    (tmp_path / "x.txt").write_text("two\nlines\n")
    argv = ["--tokenizer", folders / "bpe"]
    ids = run("tokenize", tmp_path / "x.txt", *argv, "--documents", "file")[1]
    code, out, err = run("detokenize", *argv, stdin=ids + ids.replace(" ", " ", 1))
    assert code == 0 and out == "two\nlines\n\n" * 2 and "2 of 2 texts hold line breaks" in err

"""Offsets of standardized words: the words are the plain ones, and every span holds what its word came from."""

import html
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlpkit.errors import DataError, UsageError
from nlpkit.text.recipe import FORMS, PLAIN, WITH_ARGUMENT, Recipe
from nlpkit.text.standardize import Standardizer
from nlpkit.text.standardize_offsets import with_offsets
from nlpkit.text.standardize_stream import standardize

STEPS = [s for s in PLAIN if s != "fix-mojibake"] + ["stopwords:en", "stem:en", "stem:de", "min-length:2"]
ANY_RECIPE = st.lists(st.sampled_from(STEPS), max_size=6).map(tuple)
HARD = st.text(
    alphabet="abAΣσ'. \t\n\u00a0éÉe\u0301\u0338=<>&;ampltscript/!-ﬁ½Å한\u1112\u1161\u11abİßſ\u0345\u3000www:😀",
    max_size=25,
)
RUNS: dict[tuple[str, ...], Standardizer] = {}


def standardizer(steps):
    return RUNS.setdefault(steps, Standardizer(Recipe(steps)))


def usual(steps):
    order = [*PLAIN, *WITH_ARGUMENT]
    return tuple(sorted(set(steps), key=lambda s: order.index(s.partition(":")[0])))


def checked(run, text):
    """The words and spans, after what always holds of them."""
    raw = text.encode("utf-8", "surrogatepass")
    found = with_offsets(run, text)
    assert " ".join(word for word, _, _ in found) == " ".join(run(text).split())
    before = (0, 0)
    for _, a, b in found:
        assert before[0] <= a < b <= len(raw) and before[1] <= b
        for cut in (a, b):
            assert cut == len(raw) or raw[cut] & 0xC0 != 0x80
        before = a, b
    return found, raw


@settings(max_examples=400, deadline=None)
@given(HARD | st.text(), ANY_RECIPE)
@example("<b>&lt;i&gt;</b>", ("strip-html", "strip-html"))
@example("ΑΣ'Α ΑΣ", ("lower",))
@example("&notit;", ("strip-html",))
@example("0¯", ("stopwords:en", "nfkc"))
def test_words_are_the_plain_ones_and_spans_are_in_order(text, steps):
    checked(standardizer(steps), text)


CHARACTERS = st.sets(
    st.sampled_from(
        ["lower", "casefold", "strip-accents", "strip-punct", "strip-digits", "stopwords:en", "min-length:2"]
    )
)


@settings(max_examples=400, deadline=None)
@given(HARD | st.text(), st.sampled_from([(), *((f,) for f in FORMS)]), CHARACTERS)
def test_the_raw_bytes_of_a_span_give_its_word(text, form, chosen):
    run = standardizer((*usual((*form, *chosen, "collapse-space")),))
    found, raw = checked(run, text)
    for i, (word, a, b) in enumerate(found):
        again = run(raw[a:b].decode("utf-8", "surrogatepass")).split()
        assert len(raw[a:b].decode("utf-8", "surrogatepass").split()) == 1
        near = found[max(0, i - 1) : i + 2]
        if sum(x < b and a < y for _, x, y in near) > 1:  # one raw character gave more than one word
            assert word in again or any("Σ" in t for t in raw[a:b].decode("utf-8", "surrogatepass"))
        else:  # only the lower case of Σ looks at what stands around it
            assert [w.replace("ς", "σ") for w in again] == [word.replace("ς", "σ")]


@settings(max_examples=200, deadline=None)
@given(HARD, st.sampled_from(FORMS))
def test_spans_are_no_wider_than_a_word_and_its_marks(text, form):
    """White space is never within the span of a word, where a recipe makes no space of another character."""
    found, raw = checked(standardizer((form, "lower", "collapse-space")), text)
    for _, a, b in found:
        assert raw[a:b].decode().split() == [raw[a:b].decode()]


@pytest.mark.parametrize(
    "text, steps, spans",
    [
        ("Héllo, the World!", Recipe.DEFAULT.steps, ["Héllo", "the", "World"]),
        ("cafe\u0301s open", ("nfc", "strip-accents", "stem:en"), ["cafe\u0301s", "open"]),
        ("the don't-know cats", (*Recipe.DEFAULT.steps, "stopwords:en", "stem:en"), ["know", "cats"]),
        ("<p class=x>A &amp; B&eacute;</p>", ("strip-html", "lower"), ["A", "&amp;", "B&eacute;"]),
        ("see http://a.b/c now", ("strip-urls", "collapse-space"), ["see", "now"]),
        ("x½", ("nfkc", "strip-punct"), ["x½", "½"]),
        ("한글 각", ("nfc", "collapse-space"), ["한글", "각"]),
        ("a1b", ("strip-digits",), ["a", "b"]),
        ("a<!-- c -->b<script>d</script>e", ("strip-html",), ["a", "b", "e"]),
    ],
)
def test_spans(text, steps, spans):
    found, raw = checked(Standardizer(Recipe(steps)), text)
    assert [raw[a:b].decode() for _, a, b in found] == spans


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a", "Bé", "½", "&amp;", "&eacute;", "<b>", "</b>", "&#x41;", " "]), max_size=12
    )
)
def test_html_words_lie_where_they_stand(parts):
    text = "".join(parts)
    found, raw = checked(standardizer(("strip-html", "collapse-space")), text)
    for word, a, b in found:
        assert html.unescape(raw[a:b].decode()) == word


def test_a_long_text_is_followed_token_by_token():
    run = Standardizer(Recipe.DEFAULT)
    text = "Été, 1 \u00a0x\u2003Ünder-way " * 2000
    found, raw = checked(run, text)
    assert len(found) == 5 * 2000
    for word, a, b in found[-5:]:
        assert run(raw[a:b].decode()) == word


def test_mojibake_is_refused():
    pytest.importorskip("ftfy")
    with pytest.raises(UsageError, match="fix-mojibake"):
        with_offsets(Standardizer(Recipe(("fix-mojibake", "lower"))), "a")


def test_records_keep_their_fields(tmp_path):
    path, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text('{"id": 7, "text": "The Cafés", "n": [1]}\n', encoding="utf-8")
    recipe = Recipe((*Recipe.DEFAULT.steps, "stopwords:en"))
    assert standardize([path], recipe, str(out), offsets=True) == 1
    made = json.loads(out.read_text(encoding="utf-8"))
    assert made == {"id": 7, "text": "cafes", "n": [1], "tokens": ["cafes"], "offsets": [[4, 10]]}
    with pytest.raises(DataError, match=r"b\.jsonl:1: the record has a field 'tokens'"):
        standardize([out], recipe, str(tmp_path / "c.jsonl"), offsets=True)


def test_lines_become_records(tmp_path):
    path, out = tmp_path / "a.txt", tmp_path / "b.jsonl"
    path.write_text("É, a\n\n", encoding="utf-8")
    assert standardize([path], Recipe.DEFAULT, str(out), offsets=True) == 2
    assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == [
        {"text": "e a", "tokens": ["e", "a"], "offsets": [[0, 2], [4, 5]]},
        {"text": "", "tokens": [], "offsets": []},
    ]
    with pytest.raises(UsageError, match="jsonl"):
        standardize([path], Recipe.DEFAULT, str(tmp_path / "c.txt"), offsets=True)
    with pytest.raises(UsageError, match="choose one"):
        standardize([path], Recipe.DEFAULT, None, offsets=True, explain=True)

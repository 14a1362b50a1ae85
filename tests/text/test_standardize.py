"""Standardizing: each step, whole recipes, idempotence, saved recipes."""

import sys
import unicodedata
from importlib import resources

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlpkit.errors import UsageError
from nlpkit.text import standardize
from nlpkit.text.recipe import FORMS, PLAIN, Recipe, shipped_stopwords
from nlpkit.text.standardize import WHOLE, Standardizer, strip_html
from nlpkit.text.standardize_stream import recipe_of


def run(text, *steps):
    return Standardizer(Recipe.of(steps))(text)


@pytest.mark.parametrize(
    "text, steps, result",
    [
        ("Héllo, the World!", Recipe.DEFAULT.steps, "hello the world"),
        ("Héllo, the World!", (*Recipe.DEFAULT.steps, "stopwords:en", "stem:en"), "hello world"),
        ("don't they're", (*Recipe.DEFAULT.steps, "stopwords:en"), ""),
        ("ﬁne ①", ("nfkc",), "fine 1"),
        ("ÉA", ("lower",), "éa"),
        ("Straße", ("casefold",), "strasse"),
        ("e\u0301", ("nfc",), "é"),
        ("é", ("nfd",), "e\u0301"),
        ("Ünï 한국어", ("strip-accents",), "Uni 한국어"),
        ("é", ("nfkd", "strip-accents"), "e"),
        ("a.b—c+d €5", ("strip-punct",), "a b c d  5"),
        ("a1 ½²b", ("strip-digits",), "a    b"),
        (" a\t\n b ", ("collapse-space",), "a b"),
        ("go to https://a.b/c?d WWW.x.org now", ("strip-urls", "collapse-space"), "go to now"),
        ("running dogs", ("stem:english",), "run dog"),
        ("Laufen Häuser", ("lower", "stem:de"), "lauf haus"),
        ("a bb ccc", ("min-length:2",), "bb ccc"),
        ("H\u0331", ("nfc", "lower"), "ẖ"),
    ],
)
def test_steps(text, steps, result):
    assert run(text, *steps) == result


@pytest.mark.parametrize(
    "text, plain",
    [
        ("<p class='x'>a</p> b", "a b"),
        ("a<br/>b", "a b"),
        ("x<!-- <b>no</b> -->y", "x y"),
        ("<style>p { }</style>a<SCRIPT>if (a<b) {}</script>b", "a b"),
        ("1 < 2 and 3 > 2 &amp; &eacute;", "1 < 2 and 3 > 2 & é"),
        ("open <!-- never closed", "open"),
        ("<!DOCTYPE html><?xml?>a", "a"),
    ],
)
def test_html(text, plain):
    assert " ".join(strip_html(text).split()) == plain


def test_html_is_linear_in_its_length():
    import time

    start = time.perf_counter()
    for bad in ("<a" * 200_000, "<!--" * 100_000, "<script>" * 60_000):
        strip_html(bad)
    assert time.perf_counter() - start < 5


CHARACTER = [s for s in PLAIN if s not in WHOLE]
recipes = st.lists(
    st.sampled_from([*CHARACTER, "stopwords:en", "min-length:2"]), max_size=6, unique=True
).filter(lambda steps: len(set(steps) & set(FORMS)) <= 1)
usual = st.sets(st.sampled_from(["strip-urls", "lower", "strip-accents", "strip-punct", "collapse-space"]))


@settings(max_examples=300, deadline=None)
@given(st.text(), recipes)
def test_twice_is_once_in_any_order(text, steps):
    step = Standardizer(Recipe(tuple(steps)))
    once = step(text)
    assert step(once) == once


@settings(max_examples=300, deadline=None)
@given(st.text(), st.sampled_from([*FORMS, None]), usual)
def test_twice_is_once_in_the_usual_order(text, form, chosen):
    steps = tuple(s for s in PLAIN if s in chosen or s == form)
    step = Standardizer(Recipe(steps))
    once = step(text)
    assert step(once) == once


@settings(deadline=None)
@given(st.text())
def test_default_has_no_accents_capitals_or_punctuation(text):
    made = Standardizer(Recipe.DEFAULT)(text)
    apart = unicodedata.normalize("NFD", made)
    assert not any(unicodedata.category(c) == "Mn" or unicodedata.category(c)[0] in "PS" for c in apart)
    assert made == " ".join(made.split())


@settings(deadline=None)
@given(st.text(alphabet="aéÉ.,! ßthe\u0301İ", max_size=30))
def test_fused_steps_are_the_steps_one_by_one(text):
    steps = (*Recipe.DEFAULT.steps, "strip-digits")
    one_by_one = text
    for step in steps:
        one_by_one = run(one_by_one, step)
    assert " ".join(run(text, *steps).split()) == " ".join(one_by_one.split())


def test_explain_says_which_step_did_what():
    recipe = Recipe((*Recipe.DEFAULT.steps, "stopwords:en", "stem:en"))
    changes = Standardizer(recipe).explain("Héllo, the Worlds plain")
    assert [(c.token, c.result) for c in changes] == [
        ("Héllo,", "hello"),
        ("the", ""),
        ("Worlds", "world"),
        ("plain", "plain"),
    ]
    assert [s[0] for s in changes[0].steps] == ["lower", "strip-accents", "strip-punct"]
    assert changes[1].steps == (("stopwords:en", "the", ""),)
    assert changes[2].steps[-1] == ("stem:en", "worlds", "world")
    assert changes[3].steps == ()


def test_recipe_files(tmp_path):
    path = tmp_path / "r.toml"
    recipe = Recipe((*Recipe.DEFAULT.steps, "stopwords:en", "stem:en", "min-length:2"))
    recipe.save(path)
    assert Recipe.load(path) == recipe
    assert Recipe.load(path).hash == recipe.hash
    assert recipe.hash != Recipe(recipe.steps[:-1]).hash


def test_a_stop_word_file_becomes_part_of_the_recipe(tmp_path):
    words = tmp_path / "w.txt"
    words.write_text("# mine\nfoo\nDon't\n")
    recipe = Recipe.of(("lower", "strip-punct", f"stopwords:{words}"))
    assert Standardizer(recipe)("Foo don't bar") == "bar"
    recipe.save(tmp_path / "r.toml")
    before = recipe.hash
    words.write_text("bar\n")
    assert Recipe.load(tmp_path / "r.toml").hash == before
    assert Recipe.of(("lower", "strip-punct", f"stopwords:{words}")).hash != before


@pytest.mark.parametrize(
    "toml, message",
    [
        ('step = ["lower"]', "unknown key 'step'; did you mean 'steps'"),
        ('steps = ["lowre"]', "unknown step 'lowre'; did you mean 'lower'"),
        ('steps = ["lower:x"]', "unknown step 'lower:x'"),
        ('steps = ["stem"]', "needs an argument: stem:en"),
        ('steps = ["stem:klingon"]', "no such stemmer"),
        ('steps = ["stopwords:xx"]', "no such list"),
        ('steps = ["min-length:x"]', "a number of characters"),
        ('steps = "lower"', "expected a list"),
        ("steps = [", "not valid TOML"),
    ],
)
def test_bad_recipes(tmp_path, toml, message):
    path = tmp_path / "r.toml"
    path.write_text(toml)
    with pytest.raises(UsageError, match=message) as caught:
        Recipe.load(path)
    assert str(path) in str(caught.value)


def test_english_stop_words():
    words = Recipe(("stopwords:en",)).words("stopwords:en")
    assert 150 <= len(words) <= 200
    assert {"the", "don", "t", "s"} <= set(words)


def test_every_list_of_stop_words():
    assert shipped_stopwords() == ["da", "de", "en", "es", "fi", "fr", "it", "nl", "no", "pt", "ru", "sv"]
    for language in shipped_stopwords():
        file = resources.files("nlpkit.text") / "stopwords" / f"{language}.txt"
        lines = file.read_text(encoding="utf-8").splitlines()
        written = [word for line in lines if not line.startswith("#") for word in line.split()]
        words = Recipe((f"stopwords:{language}",)).words(f"stopwords:{language}")
        assert len(written) == len(set(written)) and list(words) == sorted(written), language
        assert 100 <= len(words) <= 240, (language, len(words))
        for word in words:
            assert word == word.lower() == unicodedata.normalize("NFC", word) and word.isalpha(), word
        assert Standardizer(Recipe((*Recipe.DEFAULT.steps, f"stopwords:{language}")))(" ".join(words)) == ""


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet="aéÉ .,!ßthe½´İΣ\u0301'\t<&;", max_size=20),
    st.lists(st.sampled_from([*CHARACTER, "stopwords:en", "stem:en", "min-length:2"]), max_size=5),
)
@example("½", ["strip-digits", "strip-accents", "nfkd"])
def test_explained_results_are_the_words(text, steps):
    run = Standardizer(Recipe(tuple(steps)))
    assert " ".join(change.result for change in run.explain(text)).split() == run(text).split()


def test_explain_of_stop_words_and_of_several_results():
    run = Standardizer(Recipe((*Recipe.DEFAULT.steps, "stopwords:en", "stem:en")))
    dont, cats = run.explain("Don't cats-dogs")
    assert (dont.result, dont.steps[-1]) == ("", ("stopwords:en", "don t", ""))
    assert (cats.result, cats.steps[-1]) == ("cat dog", ("stem:en", "cats dogs", "cat dog"))


def test_explain_does_not_strip_mark_up_twice():
    whole, first = Standardizer(Recipe(("strip-html", "lower"))).explain("&amp;lt;A")
    assert whole.steps == (("strip-html", "&amp;lt;A", "&lt;A"),)
    assert (first.token, first.result) == ("&lt;A", "&lt;a")


def test_mojibake():
    pytest.importorskip("ftfy")
    broken = "l\u00e2\u20ac\u2122\u00c3\u00a9t\u00c3\u00a9"
    assert run(broken, "fix-mojibake") == "l\u2019été"
    assert recipe_of({"fix-mojibake": True, "strip-html": True}).steps[:2] == ("fix-mojibake", "strip-html")
    whole, *words = Standardizer(Recipe(("fix-mojibake", "lower"))).explain(broken)
    assert whole.steps[0][0] == "fix-mojibake" and [w.result for w in words] == ["l\u2019été"]


def test_mojibake_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(UsageError, match=r"nlpkit\[mojibake\]"):
        Standardizer(Recipe(("fix-mojibake",)))


@pytest.mark.parametrize(
    "language", ["porter", "ar", "hy", "eu", "ca", "da", "nl", "en", "fi", "fr", "de", "el", "hi"]
)
def test_snowball_by_code(language):
    assert isinstance(run("a b", f"stem:{language}"), str)


def test_every_snowball_language():
    import Stemmer

    for name in Stemmer.algorithms():
        assert len(run("walking houses", f"stem:{name}").split()) == 2


def test_casefold_stands_for_lower():
    assert (
        recipe_of({"casefold": True}).steps[1] == "casefold"
        and "lower" not in recipe_of({"casefold": True}).steps
    )


def test_a_long_text_is_split_into_words_in_portions(monkeypatch):
    text = "  the Cats  ran\t\n \u2003the the the dogs isn't  " * 9
    recipes = [Recipe(("lower", "stopwords:en", "stem:en", "collapse-space")), Recipe(("collapse-space",))]
    expected = [Standardizer(recipe)(text) for recipe in recipes]
    for size in (1, 2, 7, 40):
        monkeypatch.setattr(standardize, "_PORTION", size)
        assert [Standardizer(recipe)(text) for recipe in recipes] == expected

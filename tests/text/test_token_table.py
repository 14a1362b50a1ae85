"""Bulk standardizing gives the bytes of the plain Standardizer, whatever the text and the token-wise recipe."""

import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlpkit.text import token_numbers, token_table, token_wise
from nlpkit.text.blocks import line_blocks
from nlpkit.text.documents import Counts, Source, texts
from nlpkit.text.recipe import Recipe
from nlpkit.text.standardize import Stage, Standardizer
from nlpkit.text.standardize_stream import standardize
from nlpkit.text.token_table import TokenTable
from nlpkit.text.token_wise import BulkLines, ascii_map

FULL = Recipe(("nfkd", "lower", "strip-accents", "strip-punct", "collapse-space", "stopwords:en", "stem:en"))
RECIPES = [
    FULL,
    Recipe.DEFAULT,
    Recipe(("nfc", "strip-urls", "casefold", "strip-digits", "stem:de", "min-length:3")),
    Recipe(("nfd", "lower", "strip-accents", "stopwords:en")),
    Recipe(("collapse-space",)),
    Recipe(("nfkc", "casefold", "strip-punct", "strip-digits", "stopwords:en", "min-length:2")),
    Recipe(("lower", "stem:en")),
]
SPACES = "".join(chr(c) for c in range(0x110000) if chr(c).isspace())
WORDS = (
    "Running", "the", "don't", "ΟΔΟΣ", "Σ", "ﬁne", "é", "e\u0301", "\u0301", "\u0345", "http://a.b/c?d", "www.x.y!",
    "x\u00a0y", "\u00b4", "½", "1,000", "한글", "\u1100\u1161", "!!", "", "a-b", "İ", "ẞ", "</p>", "\u200d", "\ufeff",
    "'s", "\x00", "\U0010ffff", "\x85", "generously", "of", "q" * 70,
)  # fmt: skip
LINES = st.lists(
    st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=8).flatmap(
        lambda words: st.sampled_from((" ", "  ", "\t", "\r", "\x1c", "\u2003")).map(lambda s: s.join(words))
    ),
    max_size=6,
).map(lambda lines: [x.replace("\n", " ").replace("\udc00", "") for x in lines])
TABLES = {recipe: TokenTable(Standardizer(recipe)) for recipe in RECIPES}


def plain(recipe, lines):
    run = Standardizer(recipe)
    return "".join(run(line) + "\n" for line in lines).encode()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.steps[-1])
@given(lines=LINES)
@example(lines=["ΑΣ ΑΣ", "  ", "a\u00a0 \u0301b", " \u0338= ", "http://x y"])
@settings(max_examples=150, deadline=None)
def test_bytes_are_those_of_the_plain_way(recipe, lines):
    lines = [line.encode("utf-8", "replace").decode() for line in lines]
    table = TABLES[recipe]
    table._failed = 0
    made = table("".join(line + "\n" for line in lines).encode())
    if made is None:
        assert any("\x7f" in unicodedata.normalize("NFKD", line) for line in lines)
    else:
        assert made == (plain(recipe, lines), len(lines))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.steps[-1])
@given(
    st.lists(
        st.text(alphabet="abAB1'-.", max_size=20)
        | st.sampled_from(["abcdefgh", "ABCDEFG", "\x00" * 8, "\x00a", "aé"]),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([" ", "-", "", "\t", "\u00a0"]),
)
@settings(max_examples=150, deadline=None)
def test_tokens_that_end_within_a_word(recipe, parts, between):
    line = between.join(parts)
    table = TABLES[recipe]
    table._failed = 0
    # Said twice: the second time every token is known.
    assert table(f"{line}\n{line}\n".encode()) == (2 * plain(recipe, [line]), 2)


def test_an_ascii_character_of_the_table_is_all_that_a_recipe_makes_of_it():
    assert ascii_map(Recipe(("strip-urls", "lower"))) is None
    for recipe in RECIPES:
        made = ascii_map(recipe)
        for code in range(128):
            if made is not None:
                run = Standardizer(
                    Recipe(tuple(s for s in recipe.steps if ":" not in s and s != "collapse-space"))
                )
                assert run(f"a{chr(code)}b") == f"a{chr(made[code])}b"


def test_every_character_beside_a_space():
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and c not in (10, 0x7F)]
    assert len(characters) > 1_000_000
    characters = [c for c in characters if unicodedata.category(c) not in ("Cn", "Co")] + [
        "\ue001",
        "\U0010ffff",
    ]
    lines = [" ".join(f"a{c} {c}b" for c in characters[i : i + 500]) for i in range(0, len(characters), 500)]
    for recipe in (FULL, RECIPES[2]):
        table = TokenTable(Standardizer(recipe))
        for at in range(0, len(lines), 100):
            part, table._failed = lines[at : at + 100], 0
            assert table("".join(x + "\n" for x in part).encode()) == (plain(recipe, part), len(part))


def test_a_private_character_of_the_table_is_left_to_the_plain_way(tmp_path, monkeypatch):
    monkeypatch.setattr(token_wise, "BULK", 0)
    path = tmp_path / "a.txt"
    path.write_text("one two\n\x7f x\x7fy\nthree one\n", encoding="utf-8")
    table = TokenTable(Standardizer(FULL))
    assert table(path.read_bytes()) is None
    made = b"".join(data for data, _ in BulkLines(table.run)(Source(path, "text"), "replace", Counts()))
    assert made == plain(FULL, path.read_text(encoding="utf-8").split("\n")[:-1])


def test_an_empty_stem_is_left_to_the_plain_way():
    run = Standardizer(FULL)
    run.stages = [*run.stages, Stage("vanish", lambda text: text.replace("vanish", ""))]
    table = TokenTable(run)
    assert table(b"a cat\n") == (b"cat\n", 1)
    assert table(b"cat vanish cat\n") is None
    assert table(b"dog cat\n") == (b"dog cat\n", 1)


def test_text_without_repetition_is_given_back():
    table = TokenTable(Standardizer(FULL))
    made = [table(b"".join(b"x%dq y%dq\n" % (n, n) for n in range(at, at + 9))) for at in range(0, 90, 9)]
    assert made[0] is not None and made[-1] is None


def test_a_full_table_begins_again(monkeypatch):
    monkeypatch.setattr(token_table, "_SLOTS", 256)
    table = TokenTable(Standardizer(FULL))
    emptied = []
    clear = table.clear
    monkeypatch.setattr(table, "clear", lambda: (emptied.append(1), clear()))
    for start in range(0, 400, 10):
        lines = [f"word{n} cats the word{n // 2}" for n in range(start, start + 10)]
        assert table("".join(x + "\n" for x in lines).encode()) == (plain(FULL, lines), 10)
    assert emptied
    assert table(b"x " * 600) is None  # more tokens than there is room for


@pytest.mark.parametrize("bulk", [0, 40], ids=["at once", "after a while"])
@pytest.mark.parametrize("errors", ["replace", "skip"])
def test_files_as_the_plain_reading_has_them(tmp_path, monkeypatch, errors, bulk):
    monkeypatch.setattr(token_wise, "BULK", bulk)
    monkeypatch.setattr(token_wise, "_BLOCK", 16)
    for data in (
        b"",
        b"\n\n",
        b"\xef\xbb\xbf\xc3\x89t\xc3\xa9\r\nRunning dogs\r\n",
        b"Cats\nd\xff\xfe ogs\nno end " * 5,
        b"caf\xc3\xa9 " * 40 + b"\n\xef\xbb\xbflate\nends \xc3",
    ):
        path = tmp_path / "a.txt"
        path.write_bytes(data)
        counts, expected = Counts(), Counts()
        made = list(BulkLines(Standardizer(FULL))(Source(path, "text"), errors, counts))
        lines = list(texts(Source(path, "text"), "line", errors, expected))
        assert b"".join(piece for piece, _ in made) == plain(FULL, lines)
        assert sum(n for _, n in made) == len(lines)
        assert counts == expected


def test_the_verb_uses_it_for_large_files_only(tmp_path, monkeypatch):
    path, out = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("Running the dogs\n\nÉté\n" * 20, encoding="utf-8")
    called = []
    monkeypatch.setattr(TokenTable, "__call__", lambda self, data: called.append(data))
    assert standardize([path], FULL, str(out)) == 60 and not called
    monkeypatch.setattr(token_wise, "BULK", 100)
    assert standardize([path], FULL, str(out), force=True) == 60 and called
    monkeypatch.undo()
    before = out.read_bytes()
    monkeypatch.setattr(token_wise, "BULK", 100)
    assert standardize([path], FULL, str(out), force=True) == 60
    assert out.read_bytes() == before == plain(FULL, path.read_text(encoding="utf-8").split("\n")[:-1])


@pytest.mark.parametrize(
    "steps",
    [
        (),
        ("lower",),
        ("strip-html", "lower", "collapse-space"),
        ("collapse-space", "nfkd"),
        ("lower", "nfc", "collapse-space"),
        ("stopwords:en", "stopwords:en"),
        ("collapse-space", "stem:en", "stopwords:en"),
    ],
)
def test_recipes_that_are_not_token_wise(steps):
    assert not token_wise.token_wise(Recipe(steps))


def test_every_recipe_here_is_token_wise():
    assert all(map(token_wise.token_wise, RECIPES))
    assert not token_wise.token_wise(Recipe(("collapse-space", "stopwords:custom"), ("\x7f",)))


def test_blocks_end_where_lines_end(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"".join(b"%d\n" % n * (n % 7) for n in range(300)) + b"last")
    for size in (1, 5, 64, 10_000):
        with path.open("rb") as file:
            found = [(b.data, b.before) for b in line_blocks(file, size, numbered=True)]
        assert b"".join(data for data, _ in found) == path.read_bytes()
        assert all(data.endswith(b"\n") for data, _ in found[:-1])
        assert [n for _, n in found] == [
            b"".join(d for d, _ in found[:i]).count(b"\n") for i in range(len(found))
        ]


def test_no_compiler_at_start_up():
    import subprocess

    probe = (
        "import sys, nlpkit.text.token_table, nlpkit.text.fast_encoding\n"
        "print({'numba', 'gigatoken', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_loading_the_loops_imports_no_extension_of_numba():
    import subprocess

    probe = (
        "import sys\n"
        "from nlpkit.text import token_numbers, word_encoding\n"
        "from numba.core import entrypoints\n"
        "loops = [l for m in (token_numbers, word_encoding) for l in m._loops()]\n"
        "print(entrypoints._already_initialized, 'awkward' in sys.modules, [len(l.signatures) for l in loops])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False [1, 1, 1, 1, 1, 1]"


def test_a_token_of_any_length_has_one_number():
    numbers = token_numbers.TokenNumbers(token_numbers.spaces())
    long = b"a" * ((1 << 24) + 1)
    assert numbers(b"b " + long + b" a " + long + b"\n").tolist() == [0, 1, 2, 1, -1]

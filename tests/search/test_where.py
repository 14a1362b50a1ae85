"""Conditions: their language, what they mean, and that columns and single documents agree about it."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.errors import ArtifactError, UsageError
from nlpkit.search.columns import Columns
from nlpkit.search.where import DEEPEST, flat, parse, record

DOCUMENTS = [
    {"year": 2010, "lang": "en", "tags": ["a", "b"], "author": {"name": "Ada", "born": {"year": 1815}}},
    {"year": "2010", "lang": "de", "tags": [], "author": [{"name": "Bo"}, {"name": "Cy"}]},
    {"year": 2010.5, "lang": None, "open": True},
    {"year": [1999, 2020], "lang": "English", "tags": "c"},
    {},
]


@pytest.mark.parametrize(
    ("expression", "passing"),
    [
        ("year = 2010", [0]),
        ("year == 2010.0", [0]),
        ('year = "2010"', [1]),
        ("year != 2010", [1, 2, 3]),
        ("not year = 2010", [1, 2, 3, 4]),
        ("year > 2010", [2, 3]),
        ("year >= 2010 and year <= 2010.5", [0, 2, 3]),  # each test by itself: 2020 and 1999 of one list
        ("year < 2000", [3]),
        ('lang = "en"', [0]),
        ('lang ~ "EN"', [0, 3]),
        ('lang contains "glis"', [3]),
        ('lang >= "de" and lang < "e"', [1]),
        ("exists(lang)", [0, 1, 3]),
        ("lang = null", [2, 4]),
        ("lang != null", [0, 1, 3]),
        ("has(tags)", [0, 3]),
        ('tags in ("b", "c")', [0, 3]),
        ('tags not in ("b", "x")', [3]),
        ('tags in (null, "c")', [1, 2, 3, 4]),
        ("open = true", [2]),
        ("open = 1", []),
        ("open != false", [2]),
        ('author.name = "Cy" or author.born.year < 1900', [0, 1]),
        ("`author.name` = 'Ada'", [0]),
        ('not (lang = "en" or lang = "de") and exists(year)', [2, 3]),
        ('year = 2010 OR lang = "de" AND tags = "zzz"', [0]),  # and binds before or
        (r'lang = "e\u006e"', [0]),
        ("year <> 2010 and year <> 2010.5", [1, 3]),
    ],
)
def test_what_tests_mean(expression, passing):
    where = parse(expression)
    assert [i for i, d in enumerate(DOCUMENTS) if where.holds(d)] == passing
    assert np.flatnonzero(where.mask(Columns.build(DOCUMENTS))).tolist() == passing


def test_the_own_id_and_title_go_first():
    fields = record("d1", "Files", {"id": 5, "title": 6, "year": 1})
    assert parse('id = "d1" and title ~ "file" and year = 1').holds(fields)
    assert parse("title = null").holds(record("d1", "", {}))


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("year >", "expected a value"),
        ('year > 2010 adn lang = "en"', "did you mean 'and'?, at character 13: year > 2010 ▸adn lang"),
        ("(year = 1", "expected ')', at character 10"),
        ("year = 1)", "at character 9"),
        ("lang = en", 'a string stands in quotes: "en"'),
        ('"lang" = 1', "write it without quotes or as `lang`"),
        ("a = 1 && b = 2", "write 'and'"),
        ("a = 'x", "has no end"),
        ("a = 12b", "a number goes on"),
        ("a = 1.2.3", "a number goes on"),
        ("a < true", "compares numbers and strings"),
        ("a >= null", "compares numbers and strings"),
        ("a ~ 3", "part of a string"),
        (r'a = "\q"', "escape"),
        ("a in ()", "expected a value"),
        ("a in (1 2)", "expected ')'"),
        ("and = 1", "expected the name"),
        ("a not 3", "expected 'in'"),
        ("`` = 1", "backquotes"),
        ("a = " + "9" * 500, "digits"),
        ("(" * 5000 + "a = 1" + ")" * 5000, "brackets"),
        ("not " * 5000 + "a = 1", "brackets"),
        ("a.b", "expected a comparison"),
        ("a = 1 \x00", "means nothing"),
    ],
)
def test_errors_name_the_place(expression, said):
    with pytest.raises(UsageError) as caught:
        parse(expression)
    message = str(caught.value)
    assert said in message and "\n" not in message and len(message) < 250 and "▸" in message


def test_deep_and_long_expressions():
    deep = DEEPEST - 1
    assert parse("(" * deep + "a = 1" + ")" * deep).holds({"a": 1})
    long = " or ".join(f"a = {i}" for i in range(20_000))
    assert parse(long).holds({"a": 19_999}) and not parse(long).holds({"a": 20_000})


def test_unknown_fields_are_named():
    columns = Columns.build(DOCUMENTS)
    parse("year = 1 and id = 'a'").check(columns.names)
    with pytest.raises(UsageError, match="'yaer'; did you mean 'year'"):
        parse("yaer = 1").check(columns.names)


SCALARS = st.one_of(
    st.sampled_from(["a", "A", "ab", "", "é", "2010", "\U0001f600", "z\x00", "ẞ"]),
    st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**63, 2**64, -(2**80), 10**30]),
    st.sampled_from([0.0, -0.0, 1.0, 0.5, 2.0**53, 2.0**63, 2.0**64, 1e30, -1e300, 5e-324]),
    st.sampled_from([math.inf, -math.inf, math.nan]),
    st.booleans(),
    st.none(),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
    max_leaves=4,
)
FIELDS = st.dictionaries(st.sampled_from(["f", "g"]), VALUES, max_size=2)
NAMES = st.sampled_from(["f", "g", "f.x", "g.y", "f.x.x", "none"])


def literal(value):
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


LITERALS = SCALARS.filter(lambda v: not (isinstance(v, float) and math.isnan(v)))
ORDERED = LITERALS.filter(lambda v: v is not None and not isinstance(v, bool))
TESTS = st.one_of(
    st.builds(lambda n, s, v: f"{n} {s} {literal(v)}", NAMES, st.sampled_from(["=", "!="]), LITERALS),
    st.builds(
        lambda n, s, v: f"{n} {s} {literal(v)}", NAMES, st.sampled_from(["<", "<=", ">", ">="]), ORDERED
    ),
    st.builds(lambda n, v: f"{n} ~ {literal(v)}", NAMES, st.sampled_from(["a", "É", "", "ss", "1"])),
    st.builds(
        lambda n, no, vs: f"{n} {no} in ({', '.join(map(literal, vs))})",
        NAMES,
        st.sampled_from(["", "not"]),
        st.lists(LITERALS, min_size=1, max_size=4),
    ),
    st.builds(lambda n: f"exists({n})", NAMES),
)
EXPRESSIONS = st.recursive(
    TESTS,
    lambda inner: (
        st.builds("({} and {})".format, inner, inner)
        | st.builds("({} or {})".format, inner, inner)
        | st.builds("not {}".format, inner)
    ),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None)
@given(documents=st.lists(FIELDS, max_size=8), expression=EXPRESSIONS)
def test_columns_agree_with_single_documents(documents, expression):
    where = parse(expression)
    assert where.mask(Columns.build(documents)).tolist() == [where.holds(d) for d in documents]


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(st.lists(st.tuples(FIELDS, st.booleans()), max_size=4), min_size=1, max_size=3),
    expression=EXPRESSIONS,
)
def test_merged_and_stored_columns_are_those_built_at_once(tmp_path_factory, parts, expression):
    keeps = [np.array([kept for _, kept in part], bool) for part in parts]
    merged = Columns.merge([Columns.build(d for d, _ in part) for part in parts], keeps)
    built = Columns.build(d for part in parts for d, kept in part if kept)
    assert len(merged) == len(built) and merged.names == built.names
    folder = tmp_path_factory.mktemp("columns")
    opened = Columns.open(folder, merged.write(folder), "make it again")
    assert opened.names == built.names
    for name in built.names:
        for part in ("owners", "kinds", "values", "letters", "ends"):
            expected = getattr(built.field(name), part)
            for other in (merged, opened):
                found = getattr(other.field(name), part)
                assert found.dtype == expected.dtype
                np.testing.assert_array_equal(found, expected)
    where = parse(expression)
    np.testing.assert_array_equal(where.mask(opened), where.mask(built))


@settings(max_examples=300, deadline=None)
@given(st.text("ab=<>!~()'\"`,\\ .0123456789-eEandornotixs \n", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        where = parse(text)
    except UsageError:
        return
    assert where.holds({}) in (True, False)


def test_nothing_is_read_before_it_is_needed_and_damage_is_found(tmp_path):
    told = Columns.build({"a": i, "b": f"word {i}"} for i in range(5000)).write(tmp_path)
    for name in told:
        raw = bytearray((tmp_path / name).read_bytes())
        for place in (len(raw) // 2, len(raw) - 3):
            raw[place] ^= 1
            (tmp_path / name).write_bytes(raw)
            with pytest.raises(ArtifactError, match="make it again"):
                columns = Columns.open(tmp_path, told, "make it again")
                for expression in ("a = 2500", 'b ~ "25"'):
                    parse(expression).mask(columns)
            raw[place] ^= 1
        (tmp_path / name).write_bytes(raw)
    # A condition on one field does not read the strings of another.
    raw = bytearray((tmp_path / "columns-letters.npy").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "columns-letters.npy").write_bytes(raw)
    columns = Columns.open(tmp_path, told, "make it again")
    assert parse("exists(a)").mask(columns).all()
    with pytest.raises(ArtifactError):
        parse("exists(b)").mask(columns)


def test_flat_reads_everything_inside():
    deep = {"a": 1}
    for _ in range(3000):
        deep = {"a": [deep]}
    assert len(list(flat(deep))) == 1
    assert list(flat({"a": [1, [2, {"b": None}]], "c": object()})) == [("a", 2), ("a", 1)]

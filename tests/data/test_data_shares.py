"""Shares of sources: never a whole turn behind or ahead, whatever the shares and however they change."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.data.shares import Shares
from nlpkit.data.stages import mixture, ranges, rate_schedule, whole_numbers
from nlpkit.errors import UsageError


def check(shares: Shares, turns: int) -> None:
    counts = [0] * shares.k
    who, ordinal = shares.turns(0, turns)
    for turn, (source, before) in enumerate(zip(who.tolist(), ordinal.tolist(), strict=True), 1):
        assert counts[source] == before
        counts[source] += 1
        target = shares.target(turn)
        assert all(abs(c - t) < 1 for c, t in zip(counts, target, strict=True)), turn
        assert sum(target) == turn
    assert shares.served(turns) == counts


def test_many_small_sources_beside_large_ones():
    """Serving the largest deficit alone is 1.4 turns off here."""
    parts = [1, 60, 60, 60, 1, 60, 5, 1, 5, 1, 1]
    check(Shares([(0, [Fraction(p, sum(parts)) for p in parts])]), 1000)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_served_is_never_a_turn_from_the_target(data):
    k = data.draw(st.integers(2, 6))
    first, stages = 0, []
    for _ in range(data.draw(st.integers(1, 4))):
        parts = data.draw(st.lists(st.integers(0, 30), min_size=k, max_size=k).filter(any))
        stages.append((first, [Fraction(p, sum(parts)) for p in parts]))
        first += data.draw(st.integers(1, 60))
    check(Shares(stages), first + 100)


def test_turns_do_not_depend_on_what_was_asked_before():
    def made():
        third = Fraction(1, 3)
        return Shares([(0, [third, third, third]), (5000, [Fraction(1, 2), Fraction(1, 2), Fraction(0)])])

    one, two = made(), made()
    far = one.turns(9000, 9032)
    for start in (0, 4999, 9000):
        for a, b in zip(one.turns(start, start + 32), two.turns(start, start + 32), strict=True):
            assert a.tolist() == b.tolist()
    assert far[0].tolist() == one.turns(9000, 9032)[0].tolist()
    for turn in (0, 1, 4095, 4096, 4097, 8192):
        assert one.served(turn) == two.served(turn) and sum(one.served(turn)) == turn
    assert set(one.turns(5002, 9000)[0].tolist()) == {0, 1}


def test_one_source_has_every_turn():
    shares = Shares([(0, [Fraction(1)])])
    assert shares.turns(7, 10)[1].tolist() == [7, 8, 9] and shares.served(10**12) == [10**12]
    with pytest.raises(ValueError, match="add up"):
        Shares([(0, [Fraction(1, 2), Fraction(1, 3)])])


def test_ranges_are_exact():
    found = ranges(["0-12.5%: a", "12.5-100%: b"], "x", str)
    assert found == [(Fraction(0), "a"), (Fraction(1, 8), "b")]
    assert whole_numbers("0%-30%:128, 30-100%: 512", "x", 4) == [(0, 128), (Fraction(3, 10), 512)]
    assert whole_numbers("", "x", 4) == []
    assert mixture("a=1/3,b=2/3", "x") == {"a": Fraction(1, 3), "b": Fraction(2, 3)}
    assert mixture("prefix", "x", ("clm", "prefix")) == {"prefix": 1}
    assert rate_schedule(0.2) == (0.2, 0.2) and rate_schedule("0.3:.15") == (0.3, 0.15)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (["0-70%: a", "60-100%: b"], "overlap"),
        (["0-60%: a", "70-100%: b"], "gap"),
        (["10-100%: a"], "gap"),
        (["0-70%: a"], "nothing is said about 70 % to 100 %"),
        (["0-70%: a", "70-120%: b"], "at 100 % or before"),
        (["0-0%: a", "0-100%: b"], "end after it begins"),
        (["0-70% a"], "expected FIRST-LAST"),
        (["0-x%: a"], "expected a number"),
    ],
)
def test_bad_ranges(parts, words):
    with pytest.raises(UsageError, match=words):
        ranges(parts, "data.stages", str)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("web=.8,books=.1", r"add up to 0\.9, not to 1"),
        ("web=.8,book=.2", "did you mean 'books'"),
        ("web=.8,web=.2", "stands twice"),
        ("web=1.5,books=-.5", "0 or more"),
        ("web=much,books=.2", "expected a number"),
        ("web,books", "has no share"),
    ],
)
def test_bad_shares(text, words):
    with pytest.raises(UsageError, match=words):
        mixture(text, "data.stages", ("web", "books"))


def test_bad_numbers():
    with pytest.raises(UsageError, match="whole number of 4 or more, got '3'"):
        whole_numbers("0-100%:3", "data.lengths", 4)
    for wrong in ("a", "0.1:0.2:0.3", "1:0.5", 0.0):
        with pytest.raises(ValueError, match="mask_rate"):
            rate_schedule(wrong)

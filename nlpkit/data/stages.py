"""What changes during a run, as text: ``0-30%: A, 30-100%: B``. Parsed exactly, refused where it leaves a gap.

Shares of the run are ``Fraction``s; :mod:`nlpkit.data.course` makes steps of them.
"""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import TypeVar

from nlpkit.errors import UsageError, did_you_mean

T = TypeVar("T")
Ranges = list[tuple[Fraction, T]]  # (where it begins, as a share of the run; what holds from there on)


def fraction(text: str, what: str) -> Fraction:
    """A number as it stands, without rounding (``.8``, ``1/3``)."""
    try:
        return Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{what}: expected a number, got {text.strip()!r}") from None


def ranges(parts: Iterable[str], what: str, value: Callable[[str], T]) -> Ranges[T]:
    """``["0-30%: A", "30-100%: B"]`` → [(0, value("A")), (3/10, value("B"))].

    :raises UsageError: not of this form, or the ranges overlap or leave a part of the run out.

    >>> ranges(["0-30%:128", "30-100%:512"], "data.lengths", int)
    [(Fraction(0, 1), 128), (Fraction(3, 10), 512)]
    """
    found: Ranges[T] = []
    reached = Fraction(0)
    for part in parts:
        span, colon, said = part.partition(":")
        first, dash, last = span.strip().removesuffix("%").partition("-")
        if not (colon and dash and said.strip()):
            raise UsageError(f"{what}: expected FIRST-LAST%: VALUE, such as '0-70%: …', got {part.strip()!r}")
        begins, ends = fraction(first.strip().removesuffix("%"), what), fraction(last, what)
        if begins != reached:
            problem = "overlap" if begins < reached else "leave a gap"
            raise UsageError(
                f"{what}: {span.strip()!r} begins at {_percent(begins)}, the one before ends at "
                f"{_percent(reached)}: the ranges {problem}; write them in order, from 0 to 100 %"
            )
        if not begins < ends <= 100:
            raise UsageError(
                f"{what}: {span.strip()!r} must end after it begins, at 100 % or before; mend the range"
            )
        found.append((begins / 100, value(said.strip())))
        reached = ends
    if reached != 100:
        raise UsageError(
            f"{what}: nothing is said about {_percent(reached)} to 100 % of the run; add that range"
        )
    return found


def _percent(share: Fraction) -> str:
    return f"{float(share):g} %"


def whole_numbers(text: str, what: str, least: int) -> Ranges[int]:
    """``0-30%:128,30-100%:512`` with whole numbers of ``least`` or more; nothing for an empty text."""

    def number(said: str) -> int:
        if not said.isdigit() or int(said) < least:
            raise UsageError(f"{what}: expected a whole number of {least} or more, got {said!r}")
        return int(said)

    return ranges(text.split(","), what, number) if text else []


def mixture(text: str, what: str, known: Sequence[str] = ()) -> dict[str, Fraction]:
    """``web=.8,books=.2`` (or with ``:``) as shares by name, which must add up to 1; one name alone has all.

    :raises UsageError: an unknown name (where ``known`` is given), a share below 0, shares that do not add up to 1.

    >>> mixture("mlm:.5,clm:.5", "data.objective")
    {'mlm': Fraction(1, 2), 'clm': Fraction(1, 2)}
    """
    shares: dict[str, Fraction] = {}
    parts = text.split(",")
    for part in parts:
        name, sign, share = part.replace(":", "=").partition("=")
        name = name.strip()
        if known and name not in known:
            raise UsageError(f"{what}: unknown name {name!r}{did_you_mean(name, known)}")
        if name in shares:
            raise UsageError(f"{what}: {name!r} stands twice; give each name one share")
        if not sign and len(parts) > 1:
            raise UsageError(f"{what}: {name!r} has no share; write {name}=0.5, shares that add up to 1")
        shares[name] = fraction(share, what) if sign else Fraction(1)
        if shares[name] < 0:
            raise UsageError(f"{what}: the share of {name!r} is {share.strip()}; it must be 0 or more")
    total = sum(shares.values())
    if total != 1:
        raise UsageError(
            f"{what}: the shares in {text.strip()!r} add up to {float(total):g}, not to 1; mend them (1/3 is exact)"
        )
    return shares


def rate_schedule(said: float | str) -> tuple[float, float]:
    """(first, last) of a rate: a number, or ``0.3:0.15``. ValueError for anything else or rates outside (0, 1)."""
    parts = said.split(":") if isinstance(said, str) else [said, said]
    parts = parts * 2 if len(parts) == 1 else parts
    try:
        first, last = (float(p) for p in parts)
    except ValueError:
        raise ValueError(f"mask_rate is a number or FIRST:LAST such as 0.3:0.15, not {said!r}") from None
    if not (0 < first < 1 and 0 < last < 1):
        raise ValueError("mask_rate lies between 0 and 1")
    return first, last


def at(found: Ranges[T], share: Fraction, usual: T) -> T:
    """What holds at a share of the run."""
    held = usual
    for begins, value in found:
        if begins <= share:
            held = value
    return held

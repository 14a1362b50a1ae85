"""A small language for conditions on documents: ``year > 2010 and (lang = "en" or not exists(lang))``.

::

    any   := all ("or" all)*                 all := not ("and" not)*            not := "not" not | "(" any ")" | test
    test  := name ("=" | "!=") value         name ("<" | "<=" | ">" | ">=") (number | string)
           | name ["not"] "in" "(" value, … ")"      name ("~" | "contains") string      ("exists" | "has") "(" name ")"
    value := "string" | 'string' | 12 | -3.5 | 1e6 | true | false | null

A name is a field of the documents, or ``id`` or ``title``; ``author.name`` leads into nested fields, and a name of
other characters stands in `` `backquotes` ``. What a test means:

* A field may have many values (a list); a test holds where **any** of them passes.
* A field that is missing, ``null`` or an empty list passes no test but ``= null``. ``!=`` and ``not in`` are no
  exception: they ask for a field that is there and of which **no** value is the one named. (``not year = 2010`` is
  the way to say «anything else, or nothing».) ``exists(year)`` is ``year != null``.
* A number is never equal to a string, nor ``true`` to 1. Numbers compare exactly, however large; strings by their
  characters' code points, so that ISO dates are in order. ``~`` (or ``contains``) looks for a part of a string
  and ignores case.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nlpkit.errors import UsageError, did_you_mean

Scalar = str | int | float | bool
Value = Scalar | None
DEEPEST = 60  # brackets and nots inside one another
MOST_DIGITS = 400
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_SIGNS = ("<=", ">=", "!=", "==", "<>", "=", "<", ">", "~", "(", ")", ",")
_SAME = {"==": "=", "<>": "!=", "contains": "~", "has": "exists"}
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}
_WORDS = ("and", "or", "not", "in", "exists", "has", "contains", *_CONSTANTS)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "/": "/"}


class Fields(Protocol):
    """What :meth:`Where.mask` asks of columns: see :class:`nlpkit.search.columns.Columns`."""

    def __len__(self) -> int: ...

    def match(self, name: str, sign: str, values: tuple[Scalar, ...]) -> np.ndarray:
        """Where any value of the field passes (N,) bool; no ``values`` with the sign ``exists``."""
        ...


def flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, Scalar]]:
    """Each scalar inside ``fields`` with the dotted name that leads to it; a list adds nothing to a name.

    ``None`` and what is neither a scalar, a list nor a mapping count as nothing.

    >>> sorted(flat({"year": 2010, "author": [{"name": "A"}, {"name": "B"}], "note": None}))
    [('author.name', 'A'), ('author.name', 'B'), ('year', 2010)]
    """
    waiting: list[tuple[str, Any]] = [(str(key), value) for key, value in fields.items()]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, str | int | float):
            yield name, value
        elif isinstance(value, Mapping):
            waiting += [(f"{name}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(name, inner) for inner in value]


def record(name: str, title: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What conditions see of a document: its fields, and its own id and title, which go before fields so named."""
    return {**fields, "id": name, "title": title or None}


def passes(value: Scalar, sign: str, wanted: tuple[Scalar, ...]) -> bool:
    """Whether one value passes a test; the sign ``in`` is equality with any of ``wanted``."""
    if sign == "exists":
        return True
    if sign == "in":
        return any(kind(value) == kind(one) and value == one for one in wanted)
    (one,) = wanted
    if kind(value) != kind(one):
        return False
    if sign == "~":
        return str(one).casefold() in str(value).casefold()
    return _ORDERS[sign](value, one)


def kind(value: Scalar) -> type:
    """``bool``, ``str``, or ``float`` for every number: values of different kinds are never equal."""
    return bool if isinstance(value, bool) else str if isinstance(value, str) else float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of one field, without negation."""

    name: str
    sign: str  # exists, in, ~, <, <=, >, >=
    values: tuple[Scalar, ...] = ()

    def mask(self, fields: Fields) -> np.ndarray:
        """Where it passes (N,) bool."""
        return fields.match(self.name, self.sign, self.values)

    def holds(self, values: Mapping[str, list[Scalar]]) -> bool:
        """Whether it passes for one document, given the values of each field."""
        return any(passes(value, self.sign, self.values) for value in values.get(self.name, ()))


@dataclass(frozen=True, slots=True)
class Not:
    """What does not hold."""

    inner: "Node"

    def mask(self, fields: Fields) -> np.ndarray:
        """Where it passes (N,) bool."""
        return ~self.inner.mask(fields)

    def holds(self, values: Mapping[str, list[Scalar]]) -> bool:
        """Whether it passes for one document, given the values of each field."""
        return not self.inner.holds(values)


@dataclass(frozen=True, slots=True)
class Join:
    """All (``every``) or any of several conditions."""

    every: bool
    parts: tuple["Node", ...]

    def mask(self, fields: Fields) -> np.ndarray:
        """Where it passes (N,) bool."""
        made = self.parts[0].mask(fields)
        for part in self.parts[1:]:
            made = made & part.mask(fields) if self.every else made | part.mask(fields)
        return made

    def holds(self, values: Mapping[str, list[Scalar]]) -> bool:
        """Whether it passes for one document, given the values of each field."""
        return (all if self.every else any)(part.holds(values) for part in self.parts)


Node = Comparison | Not | Join


@dataclass(frozen=True, slots=True)
class Where:
    """A condition as it was written, ready to be asked. ``names``: the fields that it looks at."""

    text: str
    node: Node
    names: frozenset[str]

    def mask(self, columns: Fields) -> np.ndarray:
        """Which of N documents pass (N,) bool."""
        return self.node.mask(columns)

    def holds(self, fields: Mapping[str, Any]) -> bool:
        """Whether one document passes, given its fields (with ``id`` and ``title``: :func:`record`).

        >>> parse('tags = "b" and year != 2010').holds({"tags": ["a", "b"], "year": 2011})
        True
        """
        values: dict[str, list[Scalar]] = {}
        for name, value in flat(fields):
            if name in self.names:
                values.setdefault(name, []).append(value)
        return self.node.holds(values)

    def check(self, known: Iterable[str]) -> None:
        """:raises UsageError: a field that no document has, with the one that was perhaps meant."""
        there = {"id", "title", *known}
        for name in sorted(self.names - there):
            raise UsageError(f"--where: no document has a field {name!r}{did_you_mean(name, there)}")


def parse(text: str) -> Where:
    """Read an expression.

    :raises UsageError: it is not one; the message names the place.

    >>> parse("year > 2010 and not has(lang)").names == {"year", "lang"}
    True
    """
    parser = _Parser(text)
    node = parser.whole()
    return Where(text, node, frozenset(parser.names))


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # sign, word, name (in backquotes), string, number, end
    text: str
    start: int
    value: Value = None


class _Parser:
    """Recursive descent over tokens that are read one ahead."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0
        self.names: set[str] = set()
        self.next = self._read()

    def fail(self, what: str, start: int | None = None) -> UsageError:
        """An error whose message shows the place between its neighbours, marked by ``▸``."""
        at = self.next.start if start is None else start
        before = ("…" if at > 24 else "") + self.text[max(0, at - 24) : at]
        after = self.text[at : at + 24] + ("…" if len(self.text) > at + 24 else "")
        return UsageError(f"--where: {what}, at character {at + 1}: {before}▸{after}")

    def take(self) -> _Token:
        """The token that is due; the one behind it is read."""
        token = self.next
        self.next = self._read()
        return token

    def word(self, *words: str) -> bool:
        """Take the next token if it is one of these keywords."""
        found = self.next.kind == "word" and self.next.text.lower() in words
        if found:
            self.take()
        return found

    def sign(self, sign: str) -> None:
        if self.next.kind != "sign" or self.next.text != sign:
            raise self.fail(f"expected {sign!r}")
        self.take()

    # Grammar

    def whole(self) -> Node:
        if self.next.kind == "end":
            raise self.fail('the condition is empty; write one such as year > 2010 and lang = "en"')
        node = self.any()
        if self.next.kind != "end":
            meant = did_you_mean(self.next.text.lower(), ("and", "or")) if self.next.kind == "word" else ""
            raise self.fail(f"expected 'and', 'or' or the end{meant if 'mean' in meant else ''}")
        return node

    def any(self) -> Node:
        return self._joined(False, self.all, "or")

    def all(self) -> Node:
        return self._joined(True, self.negated, "and")

    def _joined(self, every: bool, one: Callable[[], Node], word: str) -> Node:
        parts = [one()]
        while self.word(word):
            parts.append(one())
        return parts[0] if len(parts) == 1 else Join(every, tuple(parts))

    def negated(self) -> Node:
        if self.depth >= DEEPEST:
            raise self.fail(f"more than {DEEPEST} brackets inside one another")
        self.depth += 1
        try:
            if self.word("not"):
                return Not(self.negated())
            if self.next.kind == "sign" and self.next.text == "(":
                self.take()
                node = self.any()
                self.sign(")")
                return node
            return self.test()
        finally:
            self.depth -= 1

    def test(self) -> Node:
        if self.word("exists", "has"):
            self.sign("(")
            name = self.name()
            self.sign(")")
            return Comparison(name, "exists")
        name = self.name()
        if self.word("not"):
            if not self.word("in"):
                raise self.fail("expected 'in' after 'not'")
            return self._equal(name, self.values(), other=True)
        if self.word("in"):
            return self._equal(name, self.values(), other=False)
        start = self.next.start
        sign = _SAME.get(self.next.text.lower(), self.next.text)
        if not (
            (self.next.kind == "sign" and sign not in "(),") or (self.next.kind == "word" and sign == "~")
        ):
            raise self.fail(f"expected a comparison (= != < <= > >= ~ in) after {name!r}")
        self.take()
        place = self.next.start
        value = self.value()
        if sign in ("=", "!="):
            return self._equal(name, [value], other=sign == "!=")
        if sign == "~" and not isinstance(value, str):
            raise self.fail("'~' looks for a part of a string; give it one in quotes", place)
        if value is None or isinstance(value, bool):
            raise self.fail(f"{sign!r} compares numbers and strings; use = or !=", start)
        return Comparison(name, sign, (value,))

    def _equal(self, name: str, values: list[Value], *, other: bool) -> Node:
        """``name in (values)``; with ``other`` the opposite, for a field that is there."""
        wanted = tuple(v for v in values if v is not None)
        there, found = Comparison(name, "exists"), Comparison(name, "in", wanted)
        if other:
            return Join(True, (there, Not(found))) if wanted else there
        return found if len(wanted) == len(values) else Join(False, (Not(there), found))

    def values(self) -> list[Value]:
        self.sign("(")
        found = [self.value()]
        while self.next.kind == "sign" and self.next.text == ",":
            self.take()
            found.append(self.value())
        self.sign(")")
        return found

    def name(self) -> str:
        token = self.next
        if token.kind == "string":
            raise self.fail(f"expected the name of a field; write it without quotes or as `{token.value}`")
        if token.kind not in ("word", "name") or (token.kind == "word" and token.text.lower() in _WORDS):
            raise self.fail("expected the name of a field")
        self.names.add(token.text)
        return self.take().text

    def value(self) -> Value:
        token = self.next
        if token.kind in ("string", "number"):
            return self.take().value
        if token.kind == "word" and token.text.lower() in _CONSTANTS:
            return _CONSTANTS[self.take().text.lower()]
        if token.kind in ("word", "name"):
            raise self.fail(f'expected a value; a string stands in quotes: "{token.text}"')
        raise self.fail("expected a value (a number, a string in quotes, true, false or null)")

    # Characters

    def _read(self) -> _Token:
        text = self.text
        while self.at < len(text) and text[self.at].isspace():
            self.at += 1
        start = self.at
        if start == len(text):
            return _Token("end", "", start)
        first = text[start]
        if first in "\"'":
            return self._string(start, first)
        if first == "`":
            end = text.find("`", start + 1)
            if end <= start + 1:
                raise self.fail("a name in backquotes that is empty or has no end", start)
            self.at = end + 1
            return _Token("name", text[start + 1 : end], start)
        if first.isdecimal() or (first == "-" and text[start + 1 : start + 2].isdecimal()):
            return self._number(start)
        if first.isalpha() or first == "_":
            while self.at < len(text) and (text[self.at].isalnum() or text[self.at] in "_-.@"):
                self.at += 1
            return _Token("word", text[start : self.at], start)
        for sign in _SIGNS:
            if text.startswith(sign, start):
                self.at += len(sign)
                return _Token("sign", sign, start)
        meant = {"&": "; write 'and'", "|": "; write 'or'", "!": "; write 'not'"}.get(first, "")
        raise self.fail(f"{first!r} means nothing here{meant}", start)

    def _string(self, start: int, quote: str) -> _Token:
        made, at, text = [], start + 1, self.text
        while at < len(text) and text[at] != quote:
            if text[at] != "\\":
                made.append(text[at])
                at += 1
                continue
            code = text[at + 1 : at + 2]
            digits = text[at + 2 : at + 6]
            if code in _ESCAPES:
                made.append(_ESCAPES[code])
                at += 2
            elif code == "u" and len(digits) == 4 and all(c in "0123456789abcdefABCDEF" for c in digits):
                made.append(chr(int(digits, 16)))
                at += 6
            else:
                raise self.fail(r"an unknown escape; write \\ for a backslash", at)
        if at >= len(text):
            raise self.fail("a string that has no end", start)
        self.at = at + 1
        return _Token("string", text[start : self.at], start, "".join(made))

    def _number(self, start: int) -> _Token:
        text, at = self.text, start + (self.text[start] == "-")
        plain = True
        at = self._digits(at)
        if text[at : at + 1] == "." and text[at + 1 : at + 2].isdecimal():
            at, plain = self._digits(at + 1), False
        if text[at : at + 1] in ("e", "E"):
            signed = at + 1 + (text[at + 1 : at + 2] in ("+", "-"))
            if text[signed : signed + 1].isdecimal():
                at, plain = self._digits(signed), False
        follows = text[at : at + 1]
        if follows.isalnum() or follows in ("_", "."):
            raise self.fail("a number goes on with something else; put strings in quotes", start)
        if at - start > MOST_DIGITS:
            raise self.fail(f"a number of more than {MOST_DIGITS} digits", start)
        self.at = at
        raw = text[start:at]
        return _Token("number", raw, start, int(raw) if plain else float(raw))

    def _digits(self, at: int) -> int:
        while at < len(self.text) and self.text[at].isdecimal():
            at += 1
        return at

"""Expressions over words, as in ``king - man + woman``: parsed by recursive descent, worked out to a vector (D,).

    sum     = product { ("+" | "-") product }
    product = signed { ("*" | "/") signed }
    signed  = "-" signed | number | word | 'any word' | "any word" | "(" sum ")"

A word stands for its vector at length 1, as in analogies. Words with blanks, signs or digits alone are quoted.
"""

import re
from dataclasses import dataclass

import numpy as np

from nlpkit.errors import NotFound, UsageError
from nlpkit.vectors.vectors import Vectors, unit_rows

TOKEN = re.compile(
    r"""\s*(?:(?P<sign>[-+*/()])|(?P<quote>['"])(?P<quoted>.*?)(?P=quote)|(?P<bare>[^\s'"()*/+-][^\s"()*/+-]*))"""
)
NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
DEEPEST = 100  # parentheses and signs within one another

Value = float | np.ndarray


@dataclass(frozen=True)
class Token:
    """A piece of an expression: ``sign``, ``number``, ``word`` or ``end``, and the column (from 1) it begins at."""

    kind: str
    text: str
    column: int


def tokens(text: str) -> list[Token]:
    """The pieces of an expression, an ``end`` last.

    >>> [(t.kind, t.text) for t in tokens("2 * king-'new york'")]
    [('number', '2'), ('sign', '*'), ('word', 'king'), ('sign', '-'), ('word', 'new york'), ('end', '')]

    :raises UsageError: a quote that is not closed.
    """
    found, at = [], 0
    while at < len(text.rstrip()):
        match = TOKEN.match(text, at)
        if match is None:
            column = at + 1 + len(text[at:]) - len(text[at:].lstrip())
            raise UsageError(f"column {column}: a quote that is not closed")
        at = match.end()
        if match["sign"]:
            found.append(Token("sign", match["sign"], match.start("sign") + 1))
        elif match["quote"]:
            found.append(Token("word", match["quoted"], match.start("quote") + 1))
        else:
            kind = "number" if NUMBER.fullmatch(match["bare"]) else "word"
            found.append(Token(kind, match["bare"], match.start("bare") + 1))
    return [*found, Token("end", "", len(text.rstrip()) + 1)]


class Expression:
    """An expression worked out over some vectors: its ``vector`` (D,) and the ``words`` that it names.

    :raises UsageError: it cannot be read, or is a number or no direction. :raises NotFound: an unknown word.
    Both tell the column.
    """

    def __init__(self, text: str, vectors: Vectors) -> None:
        self.vectors, self.words = vectors, list[str]()
        self._tokens, self._at, self._depth = tokens(text), 0, 0
        with np.errstate(over="ignore", invalid="ignore"):
            value = self._sum()
        self._take("end")
        if isinstance(value, float):
            raise UsageError("column 1: a number is no direction; name a word")
        if not np.isfinite(value).all() or np.abs(value).max(initial=0) < 1e-9:
            raise UsageError("column 1: the sum has no direction (it is zero, or too large)")
        self.vector: np.ndarray = value.astype(np.float32)

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self, kind: str, text: str = "") -> Token:
        token = self._next
        if token.kind != kind or (text and token.text != text):
            wanted = "a sign or the end" if kind == "end" else repr(text)
            raise UsageError(f"column {token.column}: expected {wanted}, found {self._shown(token)}")
        self._at += 1
        return token

    def _shown(self, token: Token) -> str:
        return "the end" if token.kind == "end" else repr(token.text)

    def _sign(self, signs: str) -> Token | None:
        if self._next.kind == "sign" and self._next.text in signs:
            self._at += 1
            return self._tokens[self._at - 1]
        return None

    def _sum(self) -> Value:
        value = self._product()
        while sign := self._sign("+-"):
            other = self._product()
            if isinstance(value, float) != isinstance(other, float):
                raise UsageError(f"column {sign.column}: a number cannot be added to a word; multiply it")
            value = value + other if sign.text == "+" else value - other
        return value

    def _product(self) -> Value:
        value = self._signed()
        while sign := self._sign("*/"):
            other = self._signed()
            if not isinstance(other, float) and (sign.text == "/" or not isinstance(value, float)):
                what = "multiplied with" if sign.text == "*" else "divided by"
                raise UsageError(f"column {sign.column}: nothing can be {what} a word but by a number")
            if sign.text == "/" and isinstance(other, float) and other == 0:
                raise UsageError(f"column {sign.column}: division by zero")
            value = value * other if sign.text == "*" else value / other
        return value

    def _signed(self) -> Value:
        self._depth += 1
        if self._depth > DEEPEST:
            raise UsageError(f"column {self._next.column}: over {DEEPEST} parentheses within one another")
        try:
            return -self._signed() if self._sign("-") else self._factor()
        finally:
            self._depth -= 1

    def _factor(self) -> Value:
        token = self._next
        if self._sign("("):
            value = self._sum()
            self._take("sign", ")")
            return value
        if token.kind not in ("number", "word"):
            raise UsageError(f"column {token.column}: expected a word, found {self._shown(token)}")
        self._at += 1
        if token.kind == "number":
            return float(token.text)
        try:
            row = self.vectors.index(token.text)
        except NotFound as error:
            raise NotFound(f"column {token.column}: {error}") from error
        self.words.append(token.text)
        return unit_rows(self.vectors.matrix[row : row + 1].astype(np.float64))[0]


def answer(text: str, vectors: Vectors, k: int = 10) -> list[tuple[str, float]]:
    """The ``k`` words nearest to an expression, its own words left out."""
    worked = Expression(text, vectors)
    return vectors.nearest(worked.vector, k, worked.words)

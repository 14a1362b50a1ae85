"""How good word vectors are: analogy questions, and rated word pairs by Spearman's correlation.

N questions or pairs, D width, V vocabulary. The rules are those in common use (word2vec's compute-accuracy, gensim):
only the first, most frequent words count; case is ignored; a question or pair with an unknown word is left out, and
counted, unless unknown words are to count as wrong.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit.errors import DataError
from nlpkit.metrics.correlation import pearson, spearman, spearman_resampled
from nlpkit.metrics.intervals import (
    bootstrap_mean,
    bootstrap_p,
    bootstrap_share,
    mcnemar,
    percentile_interval,
)
from nlpkit.text.compression import reading
from nlpkit.vectors.vectors import BLOCK, Vectors

RESTRICT = 300_000  # words that count unless more are asked for


@dataclass(frozen=True)
class WordTest:
    """A file of questions (word, word, word, answer) in sections, or of rated pairs (word, word)."""

    name: str
    items: list[tuple[str, ...]]
    gold: np.ndarray = field(default_factory=lambda: np.zeros(0))  # the ratings of pairs (N,)
    sections: list[tuple[str, int, int]] = field(default_factory=list)  # name, first question, the one behind

    @property
    def analogies(self) -> bool:
        """Whether it asks questions; else it rates pairs."""
        return not len(self.gold)


def read_test(path: Path | None) -> WordTest:
    """Read a test: questions where its first line begins with ``:``, else pairs ``word word score``; # is a comment.

    Columns are separated by tabs, or where there are none by spaces; a first line without a number is a header.

    :raises DataError: a line of another form (file:line), or nothing in the file.
    """
    name = "standard input" if path is None else str(path)
    with reading(path) as file:
        rows = [(n, line.strip()) for n, line in enumerate(_decoded(file, name), 1)]
    rows = [(n, line) for n, line in rows if line and not line.startswith("#")]
    if not rows:
        raise DataError(f"{name}: holds no questions and no pairs")
    short = "stdin" if path is None else path.name
    return _questions(name, short, rows) if rows[0][1].startswith(":") else _pairs(name, short, rows)


def _decoded(file: Any, name: str) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{name}:{number}: not UTF-8; convert the file with iconv") from error


def _questions(name: str, short: str, rows: list[tuple[int, str]]) -> WordTest:
    items: list[tuple[str, ...]] = []
    sections: list[tuple[str, int, int]] = []
    title, first = rows[0][1].lstrip(": "), 0
    for number, line in rows[1:]:
        if line.startswith(":"):
            sections.append((title, first, len(items)))
            title, first = line.lstrip(": "), len(items)
            continue
        words = tuple(line.split())
        if len(words) != 4:
            raise DataError(f"{name}:{number}: four words are needed in a question, found {len(words)}")
        items.append(words)
    sections.append((title, first, len(items)))
    if not items:
        raise DataError(f"{name}: holds sections but no questions")
    return WordTest(short, items, sections=sections)


def _pairs(name: str, short: str, rows: list[tuple[int, str]]) -> WordTest:
    items: list[tuple[str, ...]] = []
    gold = []
    for at, (number, line) in enumerate(rows):
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        if len(cells) != 3:
            raise DataError(
                f"{name}:{number}: word, word and score are needed, found {len(cells)} columns"
                + ("; questions begin with a line ': name'" if len(cells) == 4 else "")
            )
        try:
            score = float(cells[2])
        except ValueError:
            if at == 0:
                continue
            raise DataError(f"{name}:{number}: the score {cells[2]!r} is not a number") from None
        if not np.isfinite(score):
            raise DataError(f"{name}:{number}: the score {cells[2]!r} is not finite")
        items.append((cells[0], cells[1]))
        gold.append(score)
    if not items:
        raise DataError(f"{name}: holds a header but no pairs")
    return WordTest(short, items, np.array(gold))


class Judge:
    """The words that count of some vectors, and how they answer tests.

    Words are found as they stand or (unless ``case_sensitive``) in another case, and else after the vectors' recipe.
    Words that differ in case alone are one word: its most frequent form is asked, any form is a right answer.
    """

    def __init__(
        self,
        vectors: Vectors,
        *,
        restrict: int = RESTRICT,
        case_sensitive: bool = False,
        unknown_wrong: bool = False,
        method: str = "3cosadd",
    ) -> None:
        self.vectors, self.method, self.unknown_wrong = vectors, method, unknown_wrong
        self.limit = min(restrict, len(vectors)) if restrict else len(vectors)
        self.fold: Callable[[str], str] = str if case_sensitive else str.upper
        self.first: dict[str, int] = {}
        forms = [self.first.setdefault(self.fold(w), i) for i, w in enumerate(vectors.words[: self.limit])]
        self.form = np.array(forms, np.int64)  # (limit,): the most frequent form of each word
        others = np.flatnonzero(self.form != np.arange(self.limit))
        self.forms: dict[int, list[int]] = {}
        for row in others:
            self.forms.setdefault(forms[row], [forms[row]]).append(int(row))

    def row(self, word: str) -> int:
        """The row of a word that counts; -1 when unknown."""
        found = self.first.get(self.fold(word))
        if found is None:
            found = self.vectors.find(word)
        return int(self.form[found]) if found is not None and found < self.limit else -1

    def rows(self, test: WordTest) -> np.ndarray:
        """The rows (N, 2 or 4) of a test's words; -1 where unknown."""
        return np.array([[self.row(word) for word in item] for item in test.items], np.int64)

    def right(self, rows: np.ndarray) -> np.ndarray:
        """Which of the questions (N, 4), all their words known, are answered as expected (N,) bool.

        None of the three words asked with may be the answer, in any form.
        """
        answers = np.empty(len(rows), np.int64)
        step = max(1, BLOCK // max(1, self.limit))
        for start in range(0, len(rows), step):
            block = rows[start : start + step, :3]
            scores = self.vectors.analogy_scores(block, self.method, self.limit)
            np.put_along_axis(scores, block, -np.inf, axis=1)
            if self.forms:
                for row, asked in zip(scores, block.tolist(), strict=True):
                    row[[form for word in asked for form in self.forms.get(word, ())]] = -np.inf
            answers[start : start + step] = scores.argmax(axis=1)
        right: np.ndarray = self.form[answers] == rows[:, 3]
        return right

    def answers(self, test: WordTest) -> tuple[np.ndarray, np.ndarray]:
        """What is known of a test (N,) bool, and 1 for right or the cosine of each item (N,); unknown: 0."""
        rows = self.rows(test)
        known = np.asarray((rows >= 0).all(axis=1))
        values = np.zeros(len(rows))
        values[known] = self.right(rows[known]) if test.analogies else self.vectors.similarities(rows[known])
        return known, values


def evaluate(
    tests: Sequence[WordTest], judge: Judge, other: Judge | None = None, *, seed: int = 0
) -> list[dict]:
    """A record for each test: coverage, accuracy or correlation with 95 % interval; beside ``other`` vectors also
    their difference on the items that both know, its interval and p-value.
    """
    found = []
    for test in tests:
        known, values = judge.answers(test)
        counted = known | judge.unknown_wrong
        record: dict[str, Any] = {
            "test": test.name,
            "kind": "analogies" if test.analogies else "pairs",
            "items": len(known),
            "known": int(known.sum()),
            "coverage": float(known.mean()),
        }
        record |= (_accuracy if test.analogies else _correlation)(test, counted, values, seed)
        if other is not None:
            theirs = other.answers(test)
            both = counted & (theirs[0] | other.unknown_wrong)
            record["against"] = _compared(test, both, values, theirs[1], seed)
        found.append(record)
    return found


def _accuracy(test: WordTest, counted: np.ndarray, values: np.ndarray, seed: int) -> dict[str, Any]:
    def share(where: np.ndarray) -> dict[str, Any]:
        of = int(where.sum())
        right = int(values[where].sum())
        return {"counted": of, "correct": right, "accuracy": right / of if of else None}

    place = np.arange(len(values))
    sections = [
        {"section": title, "items": end - start} | share(counted & (place >= start) & (place < end))
        for title, start, end in test.sections
    ]
    whole = share(counted)
    interval = bootstrap_share(whole["correct"], whole["counted"], seed=seed) if counted.any() else None
    return whole | {"interval": interval, "sections": sections}


def _correlation(test: WordTest, counted: np.ndarray, values: np.ndarray, seed: int) -> dict[str, Any]:
    record: dict[str, Any] = {"counted": int(counted.sum())}
    if record["counted"] < 2:
        return record | {"spearman": None, "pearson": None, "interval": None}
    gold, ours = test.gold[counted], values[counted]
    resampled = spearman_resampled(gold, [ours], seed=seed)[:, 0]
    return record | {
        "spearman": _number(spearman(gold, ours)),
        "pearson": _number(pearson(gold, ours)),
        "interval": _numbers(percentile_interval(resampled)),
    }


def _compared(
    test: WordTest, both: np.ndarray, ours: np.ndarray, theirs: np.ndarray, seed: int
) -> dict[str, Any]:
    """The difference, ours less theirs, on the items that both know."""
    record: dict[str, Any] = {"common": int(both.sum())}
    if record["common"] < 2:
        return record | {"ours": None, "theirs": None, "difference": None, "interval": None, "p": None}
    one, two = ours[both], theirs[both]
    if test.analogies:
        mine, other = float(one.mean()), float(two.mean())
        interval, p = bootstrap_mean(one - two, seed=seed), mcnemar(one, two)
    else:
        gold = test.gold[both]
        mine, other = spearman(gold, one), spearman(gold, two)
        resampled = spearman_resampled(gold, [one, two], seed=seed)
        apart = resampled[:, 0] - resampled[:, 1]
        interval, p = percentile_interval(apart), bootstrap_p(apart)
    return record | {
        "ours": _number(mine),
        "theirs": _number(other),
        "difference": _number(mine - other),
        "interval": _numbers(interval),
        "p": p,
    }


def _number(value: float) -> float | None:
    """A figure as JSON has it: none where it is not a number."""
    return None if np.isnan(value) else float(value)


def _numbers(interval: tuple[float, float]) -> tuple[float, float] | None:
    return None if np.isnan(interval[0]) else interval

"""Sifting a corpus: a stream of records of which some are dropped, and the rules of quality that drop them.

Order is kept, records pass through unchanged, memory is one record, and every drop is counted under one reason.
The rules are a small part of those of Gopher (Rae et al. 2021, appendix A.1.1) and C4 (Raffel et al. 2020,
section 2.2); all are off unless asked for. «Words» are what whitespace separates.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path
from typing import Any

from nlpkit import console
from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.text.documents import ERRORS, UNITS, Counts, document_of, sources, texts
from nlpkit.text.recipe import Recipe
from nlpkit.text.records import Record, Writer, form_written, json_line, read_records, writing

_SYMBOLS = re.compile(r"#|\.\.\.|…")


@dataclass(slots=True)
class Item:
    """One document that is judged, its record as it was read."""

    record: Record
    text: str
    id: str
    number: int  # 1 for the first document of the input
    place: tuple[str, int] | str  # where it was read: a name and a line, or both in one

    @property
    def where(self) -> str:
        """``file:line``."""
        return self.place if isinstance(self.place, str) else f"{self.place[0]}:{self.place[1]}"

    def name(self) -> Record:
        """How reports call it: its number in the input, and its id where it has one."""
        return {"number": self.number, **({"id": self.id} if self.id else {})}


@dataclass(slots=True)
class Sifted:
    """How many documents were read and kept, and how many were dropped for each reason."""

    read: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def as_record(self) -> Record:
        """The counts as ``--json`` prints them."""
        return {"read": self.read, "kept": self.kept, "dropped": dict(self.dropped)}

    def summary(self) -> str:
        """The counts in one line.

        >>> Sifted(5, 3, {"exact": 2, "near": 0}).summary()
        '5 documents read, 3 kept, 2 dropped (exact 2, near 0)'
        """
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.dropped.items())
        total = sum(self.dropped.values())
        return f"{self.read:,} documents read, {self.kept:,} kept, {total:,} dropped ({reasons})"


Verdict = tuple[str, Record] | None  # the reason for a drop and what the report says about it; None keeps
#: Gives each document with its verdict, in order; it may look at several before it gives the first.
Judge = Callable[[Iterator[Item]], Iterator[tuple[Item, Verdict]]]


def one_by_one(verdict: Callable[[Item], Verdict]) -> Judge:
    """The judge that looks at a document at a time."""
    return lambda stream: ((item, verdict(item)) for item in stream)


@dataclass(frozen=True, slots=True)
class ModelRule:
    """A rule that a model decides: ``scores`` gives a number a text, in order; ``keeps`` says whether it stays."""

    reason: str
    scores: Callable[[Iterable[str]], Iterator[float]]
    keeps: Callable[[float], bool]


def items(
    paths: Sequence[str | Path],
    *,
    documents: str = "line",
    text_field: str = "text",
    id_field: str | None = None,
    format: str | None = None,
    errors: str = "replace",
    counted: Counts | None = None,
) -> Iterator[Item]:
    """Every document of ``paths`` with its whole record; paths and options are checked at once.

    What was replaced is said at the end, or added to ``counted``.

    :raises UsageError: a missing file, an unknown option. :raises DataError: a bad record.
    """
    for value, known, what in ((documents, UNITS, "documents"), (errors, ERRORS, "errors")):
        if value not in known:
            raise UsageError(f"--{what} {value!r} is not known{did_you_mean(value, known)}")
    found = sources(paths, format)

    def stream() -> Iterator[Item]:
        counts, number = counted or Counts(), 0
        for source in found:
            if source.format == "text":
                dropped, where = counts.dropped, source.name
                name = source.path.as_posix() if documents == "file" and source.path is not None else ""
                for place, text in enumerate(texts(source, documents, errors, counts), 1):
                    number += 1
                    place += counts.dropped - dropped  # lines that were dropped have a number too
                    yield Item({text_field: text}, text, name, number, (where, place))
                continue
            for record, where in read_records(source, text_field, errors, counts):
                number += 1
                document = document_of(record, where, text_field, id_field)
                yield Item(record, document.text, document.id, number, where)
        if counted is None:
            counts.report()

    return stream()


def _judged(stream: Iterator[Item], judge: Judge, model: ModelRule | None) -> Iterator[tuple[Item, Verdict]]:
    """Each document with its verdict; a model sees only those that ``judge`` keeps, many at a time."""
    told = judge(stream)
    if model is None:
        yield from told
        return
    ahead, behind = tee(told)
    scores = model.scores(item.text for item, verdict in ahead if verdict is None)
    for item, verdict in behind:
        if verdict is None:
            score = next(scores)
            verdict = None if model.keeps(score) else (model.reason, {"score": score})
        yield item, verdict


def sift(
    paths: Sequence[str | Path],
    judge: Judge,
    reasons: Sequence[str],
    output: str | None = None,
    *,
    model: ModelRule | None = None,
    report: str | None = None,
    force: bool = False,
    text_field: str = "text",
    format: str | None = None,
    documents: str = "line",
    **reading: Any,
) -> Sifted:
    """Write the documents that ``judge`` keeps, in order, to ``output`` (none or ``-``: standard output).

    Text gives text and records give records of the same form, unless the name of ``output`` asks for another.
    ``report`` names a jsonl file with a line for every dropped document: its number, id, reason, and what the
    judge says about it. ``reasons`` are those the judge knows, so that those that never came are counted as 0.
    ``model`` judges what the judge keeps, in batches; memory is then what the model holds at a time.
    """
    if report is not None and (
        report == "-" or (output and Path(report).resolve() == Path(output).resolve())
    ):
        raise UsageError(f"--report {report}: name a file of its own")
    stream = items(paths, text_field=text_field, format=format, documents=documents, **reading)
    form = form_written(output, sources(paths, format)[0].format)
    counted = Sifted(dropped=dict.fromkeys([*reasons, *([model.reason] if model else [])], 0))
    with ExitStack() as held:
        bar = held.enter_context(console.progress("reading", unit="documents"))
        writer = Writer(
            held.enter_context(writing(output, force, form)),
            form,
            text_field,
            "\n\n" if documents == "paragraph" else "\n",
        )
        told = held.enter_context(writing(report, force)) if report is not None else None
        for item, verdict in _judged(stream, judge, model):
            counted.read += 1
            if verdict is None:
                counted.kept += 1
                writer.write(item.record)
            else:
                reason, about = verdict
                counted.dropped[reason] += 1
                if told is not None:
                    told.write(json_line({**item.name(), "reason": reason, **about}))
            bar.advance()
        writer.close()
    return counted


@dataclass(frozen=True, slots=True)
class Rules:
    """What a document must be to stay; a rule that is None or empty is off.

    Lengths in words; ``max_mean_word_length`` in characters; ratios and shares from 0 to 1 (``max_symbol_ratio``,
    symbols a word, can be more). ``field_equals`` are (name, value) pairs.
    """

    min_words: int | None = None
    max_words: int | None = None
    max_mean_word_length: float | None = None
    max_symbol_ratio: float | None = None
    max_repeated_lines: float | None = None
    max_digit_share: float | None = None
    min_alpha_share: float | None = None
    lang_stopwords: int | None = None
    match: tuple[str, ...] = ()
    not_match: tuple[str, ...] = ()
    field_equals: tuple[tuple[str, str], ...] = ()
    score_field: str | None = None
    min_score: float | None = None


def mean_word_length(text: str) -> float:
    """Characters a word; 0 without words.

    >>> mean_word_length("ab abcd")
    3.0
    """
    words = text.split()
    return sum(map(len, words)) / len(words) if words else 0.0


def symbol_ratio(text: str) -> float:
    """Hash signs and ellipses (``...`` or ``…``) a word, as Gopher counts them.

    >>> symbol_ratio("#tag and more ...")
    0.5
    """
    return len(_SYMBOLS.findall(text)) / max(1, len(text.split()))


def repeated_lines(text: str) -> float:
    """The share of the lines with text that an earlier line of the document equals.

    >>> repeated_lines("a\\nb\\n\\na\\na")
    0.5
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def digit_share(text: str) -> float:
    """The share of digits among the characters that are no space.

    >>> digit_share("a1 b2")
    0.5
    """
    characters = "".join(text.split())
    return sum(map(str.isdigit, characters)) / max(1, len(characters))


def alpha_share(text: str) -> float:
    """The share of words with a letter; 0 without words.

    >>> alpha_share("one 2 -- four")
    0.5
    """
    words = text.split()
    return sum(any(map(str.isalpha, word)) for word in words) / max(1, len(words))


def stopwords_in(text: str) -> int:
    """How many different English stop words the text has, case and punctuation around them aside.

    >>> stopwords_in("The cat, and the hat.")
    2
    """
    return len(_english() & {word.strip(".,;:!?\"'()[]«»“”‘’") for word in text.lower().split()})


_held: dict[str, frozenset[str]] = {}


def _english() -> frozenset[str]:
    if "en" not in _held:
        _held["en"] = frozenset(Recipe(("stopwords:en",)).words("stopwords:en"))
    return _held["en"]


def score_of(record: Mapping[str, Any], name: str, where: str) -> float:
    """The number in a field of a record; a dotted name reaches within (``probabilities.good``).

    :raises DataError: no such field, or its value is no finite number.
    """
    value = found_at(record, name)
    if value is _ABSENT:
        raise DataError(
            f"{where}: no field {name!r}{did_you_mean(name, map(str, record))}; check --score-field"
        )
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: field {name!r} is no number but {str(value)[:40]!r}; check --score-field")
    return number


_ABSENT = object()


def found_at(record: Mapping[str, Any], name: str) -> Any:
    """The value under a name, or under a dotted path where no field has the whole name."""
    if name in record:
        return record[name]
    value: Any = record
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _compiled(pattern: str, flag: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"{flag} {pattern!r}: no regular expression: {error}") from error


def checks(rules: Rules) -> list[tuple[str, Callable[[Item], bool]]]:
    """The rules that are on, as (reason, whether a document passes), in the order in which they are asked.

    A reason is the flag's name without its dashes. :raises UsageError: a rule that cannot be asked.
    """
    made: list[tuple[str, Callable[[Item], bool]]] = []

    def limit(reason: str, bound: float | None, measure: Callable[[str], float], least: bool = False) -> None:
        if bound is not None:
            if least:
                made.append((reason, lambda item: measure(item.text) >= bound))
            else:
                made.append((reason, lambda item: measure(item.text) <= bound))

    def words(text: str) -> int:
        return len(text.split())

    if rules.min_words is not None and rules.max_words is not None and rules.min_words > rules.max_words:
        raise UsageError(f"--min-words {rules.min_words} is over --max-words {rules.max_words}")
    limit("min-words", rules.min_words, words, least=True)
    limit("max-words", rules.max_words, words)
    limit("max-mean-word-length", rules.max_mean_word_length, mean_word_length)
    limit("max-symbol-ratio", rules.max_symbol_ratio, symbol_ratio)
    limit("max-repeated-lines", rules.max_repeated_lines, repeated_lines)
    limit("max-digit-share", rules.max_digit_share, digit_share)
    limit("min-alpha-share", rules.min_alpha_share, alpha_share, least=True)
    limit("lang-stopwords", rules.lang_stopwords, stopwords_in, least=True)
    if rules.match:
        wanted = [_compiled(pattern, "--match") for pattern in rules.match]
        made.append(("match", lambda item: all(p.search(item.text) for p in wanted)))
    if rules.not_match:
        refused = [_compiled(pattern, "--not-match") for pattern in rules.not_match]
        made.append(("not-match", lambda item: not any(p.search(item.text) for p in refused)))
    if rules.field_equals:
        pairs = rules.field_equals
        made.append(
            ("field-equals", lambda item: all(_equals(found_at(item.record, n), v) for n, v in pairs))
        )
    if (rules.score_field is None) != (rules.min_score is None):
        raise UsageError("--score-field NAME and --min-score X go together; give both or none")
    if rules.score_field is not None and rules.min_score is not None:
        name, least = rules.score_field, rules.min_score
        made.append(("min-score", lambda item: score_of(item.record, name, item.where) >= least))
    return made


def _equals(value: Any, wanted: str) -> bool:
    return value is not _ABSENT and _as_text(value) == wanted


def filter_corpus(
    paths: Sequence[str | Path], rules: Rules, output: str | None = None, **options: Any
) -> Sifted:
    """Keep the documents that pass every rule; each drop is counted under the first rule that it fails.

    ``options`` go to :func:`sift`. A field of ``field_equals`` that no record has is told in a warning.

    :raises DataError: a score that is not there or no number, with file:line.
    """
    asked = checks(rules)
    if not asked and options.get("model") is None:
        raise UsageError("no rule is on, so nothing would be dropped; pass one, such as --min-words 50")
    missing = {name for name, _ in rules.field_equals}

    def judge(item: Item) -> Verdict:
        if missing:
            missing.difference_update([n for n in missing if found_at(item.record, n) is not _ABSENT])
        for reason, passes in asked:
            if not passes(item):
                return reason, {}
        return None

    counted = sift(paths, one_by_one(judge), [reason for reason, _ in asked], output, **options)
    if counted.read:
        for name in sorted(missing):
            console.warn(f"--field-equals {name}: no document has this field")
    return counted

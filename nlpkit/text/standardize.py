"""Standardizing text: Unicode forms, case, accents, punctuation, mark-up, stop words, stems, by a recipe.

The fast path is plain Python: ``unicodedata.normalize``, ``str.lower`` and one ``str.translate`` whose table is
filled as characters are met. Steps on characters that follow one another share a table; steps on words share
one split. Applying a recipe twice is the same as once, unless it stems, strips HTML or mends mojibake.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from nlpkit.errors import UsageError
from nlpkit.text.recipe import FORMS, PLAIN, WITH_ARGUMENT, Recipe, algorithm

__all__ = ["Change", "Recipe", "Stage", "Standardizer", "strip_html", "strip_urls"]

Step = Callable[[str], str]
WordStep = Callable[[list[str]], list[str]]
_TAGS = re.compile(r"<!--|-->|<(/?)([A-Za-z][^\s<>/]*)[^<>]*>|<![^<>]*>|<\?[^<>]*>")
URL = re.compile(r"(?:\bhttps?://|\bftp://|\bwww\.)\S+", re.IGNORECASE)
_CHARACTER_STEPS = ("strip-accents", "strip-punct", "strip-digits")
WHOLE = ("fix-mojibake", "strip-html")  # steps that look at more than a word, and do not give the same twice
_ORDER = {name: rank for rank, name in enumerate((*PLAIN, *WITH_ARGUMENT))}
_PASSES = 8
_PORTION = 1 << 20  # characters of a text that are split into words at a time
_MARKS = 256  # signs in a row from which combining marks are sorted beforehand
_SIGN = re.compile(r"[^\w\s\x00-\x7f]")
_MANY_MARKS = re.compile(rf"[^\w\s\x00-\x7f]{{{_MARKS},}}")


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one token: the steps that changed it, as (step, before, after)."""

    token: str
    result: str
    steps: tuple[tuple[str, str, str], ...]


class Stage(NamedTuple):
    """A part of a compiled recipe: the step (``characters`` for neighbours on characters, ``words`` on words).

    ``words`` are the steps of a stage on words; each does to a list of words what it does to them one by one.
    """

    kind: str
    run: Step
    words: tuple[WordStep, ...] = ()


class Standardizer:
    """Text to standardized text, by a recipe.

    >>> Standardizer(Recipe.DEFAULT)("Héllo, the World!")
    'hello the world'
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.stages = _compile(recipe.steps, recipe)
        names = [s.partition(":")[0] for s in recipe.steps]
        ranks = [_ORDER[n] for n in names]
        # In the usual order once is enough; in another order a later step can make work for an earlier one.
        unusual = ranks != sorted(ranks) or len(set(names)) < len(names)
        self.passes = 1 + _PASSES * (unusual and not {*WHOLE, "stem"} & set(names))

    def __call__(self, text: str) -> str:
        """The standardized text."""
        if not text:  # lines without text are many, and no step makes any
            return text
        for _ in range(self.passes):
            before = text
            for stage in self.stages:
                text = stage.run(text)
            if text == before:
                break
        return text

    def explain(self, text: str) -> list[Change]:
        """Token by token, which step changed it; a token whose result is empty was removed.

        What steps on the whole text did (and those before them) is told first, of the text as one token.
        """
        single = [(name, _compile((name,), self.recipe, self.recipe.steps)) for name in self.recipe.steps]
        first = max((i + 1 for i, (name, _) in enumerate(single) if name in WHOLE), default=0)
        plain, steps = _explained(text, single[:first])
        made = [Change(text, plain, steps)] if steps else []
        for token in plain.split():
            now, steps = _explained(token, single[first:])
            for _ in range(self.passes - 1):
                now, again = _explained(now, single[first:])
                steps += again
                if not again:
                    break
            made.append(Change(token, " ".join(now.split()), steps))
        return made


def _explained(
    text: str, single: list[tuple[str, list[Stage]]]
) -> tuple[str, tuple[tuple[str, str, str], ...]]:
    """``text`` after steps, and those that changed a word of it, as (step, before, after)."""
    steps = []
    for name, stages in single:
        after = text
        for stage in stages:
            after = stage.run(after)
        if after.split() != text.split():
            steps.append((name, text.strip(), after.strip()))
        text = after
    return text, tuple(steps)


def _compile(steps: tuple[str, ...], recipe: Recipe, before: tuple[str, ...] | None = None) -> list[Stage]:
    """The stages of some steps of a recipe, neighbours fused where one pass can do several."""
    around = before or steps
    form = next((s for s in reversed(around) if s in FORMS), None)
    made: list[Stage] = []
    characters: list[str] = []
    words: list[WordStep] = []

    def close() -> None:
        if characters:
            made.append(Stage("characters", _characters(tuple(characters), form)))
            characters.clear()
        if words:
            made.append(Stage("words", _on_words(tuple(words)), tuple(words)))
            words.clear()

    for step in steps:
        name, _, argument = step.partition(":")
        if name in _CHARACTER_STEPS:
            if (
                words or name == "strip-accents"
            ):  # it takes characters apart, which those before it must not see
                close()
            characters.append(name)
            continue
        if name in WITH_ARGUMENT:
            if characters:
                close()
            words.append(_word_step(name, argument, recipe, around))
            continue
        close()
        if name in FORMS:
            made.append(Stage("characters", _form(name)))
        elif name in ("lower", "casefold"):
            change = str.lower if name == "lower" else str.casefold
            made.append(Stage("characters", _case(change, form)))
        else:
            made.append(Stage(name, _mojibake() if name == "fix-mojibake" else _PLAIN_STEPS[name]))
    close()
    return made


def _mojibake() -> Step:
    try:
        from ftfy import fix_encoding
    except ModuleNotFoundError as error:
        raise UsageError("step 'fix-mojibake' needs ftfy; run: pip install \"nlpkit[mojibake]\"") from error
    return fix_encoding


def _form(name: str) -> Step:
    form = name.upper()
    return lambda text: text if text.isascii() else _normalized(form, text)


def _normalized(form: str, text: str) -> str:
    """``unicodedata.normalize`` in time that is linear in runs of combining marks, too.

    The library sorts the marks of a letter by insertion. Marks that are sorted already, which is canonically the
    same text (Unicode Standard Annex 15), leave it nothing to do.
    """
    if _SIGN.search(text[_MARKS - 1 :: _MARKS]):  # so many in a row stand at one of these places, too
        text = _MANY_MARKS.sub(_sorted_marks, text)
    return unicodedata.normalize(form, text)  # type: ignore[arg-type]


def _sorted_marks(run: re.Match[str]) -> str:
    made: list[str] = []
    for mark, group in groupby(run[0], key=lambda c: unicodedata.combining(c) > 0):
        signs = list(group)
        made.extend(sorted(signs, key=unicodedata.combining) if mark else signs)
    return "".join(made)


def _case(change: Step, form: str | None) -> Step:
    """Lower case, composed again: a lower-case letter can have a composed form that its capital lacks (ẖ)."""
    if form is None:
        return change
    again = _form(form)
    return lambda text: again(change(text))


def _characters(names: tuple[str, ...], form: str | None) -> Step:
    table = _Table(names)
    if "strip-accents" not in names:
        return lambda text: text.translate(table)
    # Accents come off the decomposed text; what is left is composed again unless the recipe wants it apart.
    apart = "NFKD" if form == "nfkd" else "NFD"
    together = form not in ("nfd", "nfkd")

    def strip(text: str) -> str:
        if text.isascii():
            return text.translate(table)
        bare = _normalized(apart, text).translate(table)
        return _normalized("NFC", bare) if together else bare

    return strip


class _Table(dict[int, int | None]):
    """A translation table that decides about a character when it is first met."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.accents = "strip-accents" in names
        self.spaced = ("P", "S") * ("strip-punct" in names) + ("N",) * ("strip-digits" in names)

    def __missing__(self, code: int) -> int | None:
        category = unicodedata.category(chr(code))
        made = 32 if category[0] in self.spaced else code
        self[code] = None if self.accents and category == "Mn" else made
        return self[code]


def _portions(text: str) -> Iterator[str]:
    """``text`` cut at spaces into parts whose words do not fill the memory."""
    at = 0
    while 0 <= (cut := text.find(" ", at + _PORTION)):
        yield text[at:cut]
        at = cut + 1
    yield text[at:]


def _on_words(steps: tuple[WordStep, ...]) -> Step:
    def portion(text: str) -> str:
        words = text.split()
        for step in steps:
            words = step(words)
        return " ".join(words)

    def run(text: str) -> str:
        if len(text) <= _PORTION:
            return portion(text)
        return " ".join(filter(None, map(portion, _portions(text))))

    return run


_collapse = _on_words(())


def _word_step(name: str, argument: str, recipe: Recipe, around: tuple[str, ...]) -> WordStep:
    if name == "min-length":
        least = int(argument)
        return lambda words: [w for w in words if len(w) >= least]
    if name == "stem":
        import Stemmer

        stem = Stemmer.Stemmer(algorithm(argument), 0).stemWords
        return lambda words: list(stem(words))
    # A list is matched in the form that the text has by then: "don't" also stands for its pieces "don" and "t".
    earlier = tuple(s for s in around if s in PLAIN and s not in ("fix-mojibake", "strip-urls"))
    listed = recipe.words(f"stopwords:{argument}")
    pieces = Standardizer(Recipe(earlier))(" \n ".join(listed)).split()
    stop = frozenset(listed) | frozenset(pieces)
    return lambda words: [w for w in words if w not in stop]


def strip_urls(text: str) -> str:
    """``text`` with web addresses replaced by a space.

    >>> strip_urls("see https://docs.python.org/3/ now")
    'see   now'
    """
    return URL.sub(" ", text)


def strip_html(text: str) -> str:
    """``text`` without tags, comments, scripts and styles, and with entities resolved. Linear in its length.

    >>> strip_html("<p>a &lt; b</p><script>x()</script>").strip()
    'a < b'
    """
    if "<" not in text:
        return html.unescape(text)
    return html.unescape("".join(text[a:b] if kept else " " for a, b, kept in html_parts(text)))


def html_parts(text: str) -> Iterator[tuple[int, int, bool]]:
    """``(start, end, kept)`` of the parts of ``text`` in order: prose is kept, mark-up becomes a space."""
    at = 0  # where prose begins
    opened, inside = -1, ""  # a comment, script or style: only its end counts
    for match in _TAGS.finditer(text):
        if inside:
            if match.group(0).lower().startswith(inside):
                at, inside = match.end(), ""
                yield opened, at, False
            continue
        if match.group(0) == "-->":
            continue
        yield at, match.start(), True
        at = match.end()
        name = (match.group(2) or "").lower()
        if match.group(0) == "<!--":
            inside = "-->"
        elif name in ("script", "style") and not match.group(1):
            inside = f"</{name}"
        if inside:
            opened = match.start()
        else:
            yield match.start(), at, False
    if inside:
        yield opened, len(text), False
    else:
        yield at, len(text), True


_PLAIN_STEPS = {"strip-html": strip_html, "strip-urls": strip_urls, "collapse-space": _collapse}

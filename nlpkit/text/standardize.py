"""Standardizing text: Unicode forms, case, accents, punctuation, mark-up, stop words, stems, by a recipe.

The fast path is plain Python: ``unicodedata.normalize``, ``str.lower`` and one ``str.translate`` whose table is
filled as characters are met. Steps on characters that follow one another share a table; steps on words share
one split. Applying a recipe twice is the same as once, unless it stems or strips HTML.
"""

import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from nlpkit.text.recipe import FORMS, PLAIN, WITH_ARGUMENT, Recipe, algorithm

__all__ = ["Change", "Recipe", "Standardizer", "strip_html", "strip_urls"]

Step = Callable[[str], str]
_TAGS = re.compile(r"<!--|-->|<(/?)([A-Za-z][^\s<>/]*)[^<>]*>|<![^<>]*>|<\?[^<>]*>")
_URL = re.compile(r"(?:\bhttps?://|\bftp://|\bwww\.)\S+", re.IGNORECASE)
_CHARACTER_STEPS = ("strip-accents", "strip-punct", "strip-digits")
_ORDER = {name: rank for rank, name in enumerate((*PLAIN, *WITH_ARGUMENT))}
_PASSES = 8


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one token: the steps that changed it, as (step, before, after)."""

    token: str
    result: str
    steps: tuple[tuple[str, str, str], ...]


class Standardizer:
    """Text to standardized text, by a recipe.

    >>> Standardizer(Recipe.DEFAULT)("Héllo, the World!")
    'hello the world'
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._pipeline = _compile(recipe.steps, recipe)
        names = [s.partition(":")[0] for s in recipe.steps]
        ranks = [_ORDER[n] for n in names]
        # In the usual order once is enough; in another order a later step can make work for an earlier one.
        unusual = ranks != sorted(ranks) or len(set(names)) < len(names)
        self._repeat = unusual and not {"strip-html", "stem"} & set(names)

    def __call__(self, text: str) -> str:
        """The standardized text."""
        for step in self._pipeline:
            text = step(text)
        if self._repeat:
            for _ in range(_PASSES):
                before = text
                for step in self._pipeline:
                    text = step(text)
                if text == before:
                    break
        return text

    def explain(self, text: str) -> list[Change]:
        """Token by token, which step changed it; a token whose result is empty was removed."""
        whole: list[tuple[str, str, str]] = []
        if "strip-html" in self.recipe.steps:
            plain = strip_html(text)
            if plain != text:
                whole.append(("strip-html", text, plain))
            text = plain
        made = [Change(text, text, tuple(whole))] if whole else []
        for token in text.split():
            now, steps = token, []
            for name in self.recipe.steps:
                after = now
                for step in _compile((name,), self.recipe, before=self.recipe.steps):
                    after = step(after)
                if after.split() != now.split():
                    steps.append((name, now.strip(), after.strip()))
                now = after
            made.append(Change(token, now.strip(), tuple(steps)))
        return made


def _compile(steps: tuple[str, ...], recipe: Recipe, before: tuple[str, ...] | None = None) -> list[Step]:
    """The functions of some steps of a recipe, neighbours fused where one pass can do several."""
    around = before or steps
    form = next((s for s in reversed(around) if s in FORMS), None)
    made: list[Step] = []
    characters: list[str] = []
    words: list[Callable[[list[str]], list[str]]] = []

    def close() -> None:
        if characters:
            made.append(_characters(tuple(characters), form))
            characters.clear()
        if words:
            made.append(_on_words(tuple(words)))
            words.clear()

    for step in steps:
        name, _, argument = step.partition(":")
        if name in _CHARACTER_STEPS:
            if words:
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
            made.append(_form(name))
        elif name in ("lower", "casefold"):
            made.append(_case(str.lower if name == "lower" else str.casefold, form))
        else:
            made.append(
                {"strip-html": strip_html, "strip-urls": strip_urls, "collapse-space": _collapse}[name]
            )
    close()
    return made


def _form(name: str) -> Step:
    form = name.upper()
    return lambda text: text if text.isascii() else unicodedata.normalize(form, text)  # type: ignore[arg-type]


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
        bare = unicodedata.normalize(apart, text).translate(table)  # type: ignore[arg-type]
        return unicodedata.normalize("NFC", bare) if together else bare

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


def _collapse(text: str) -> str:
    return " ".join(text.split())


def _on_words(steps: tuple[Callable[[list[str]], list[str]], ...]) -> Step:
    def run(text: str) -> str:
        words = text.split()
        for step in steps:
            words = step(words)
        return " ".join(words)

    return run


def _word_step(
    name: str, argument: str, recipe: Recipe, around: tuple[str, ...]
) -> Callable[[list[str]], list[str]]:
    if name == "min-length":
        least = int(argument)
        return lambda words: [w for w in words if len(w) >= least]
    if name == "stem":
        import Stemmer

        stem = Stemmer.Stemmer(algorithm(argument), 0).stemWords
        return lambda words: list(stem(words))
    # A list is matched in the form that the text has by then: "don't" also stands for its pieces "don" and "t".
    earlier = tuple(s for s in around if s.partition(":")[0] in PLAIN and s != "strip-urls")
    listed = recipe.words(f"stopwords:{argument}")
    pieces = Standardizer(Recipe(earlier))(" \n ".join(listed)).split()
    stop = frozenset(listed) | frozenset(pieces)
    return lambda words: [w for w in words if w not in stop]


def strip_urls(text: str) -> str:
    """``text`` with web addresses replaced by a space.

    >>> strip_urls("see https://docs.python.org/3/ now")
    'see   now'
    """
    return _URL.sub(" ", text)


def strip_html(text: str) -> str:
    """``text`` without tags, comments, scripts and styles, and with entities resolved. Linear in its length.

    >>> strip_html("<p>a &lt; b</p><script>x()</script>").strip()
    'a < b'
    """
    if "<" not in text:
        return html.unescape(text)
    kept: list[str] = []
    at, inside = 0, ""
    for match in _TAGS.finditer(text):
        if inside:  # within a comment, script or style only its end counts
            tag = match.group(0).lower()
            if tag.startswith(inside):
                at, inside = match.end(), ""
            continue
        if match.group(0) == "-->":
            continue
        kept.extend((text[at : match.start()], " "))
        at = match.end()
        name = (match.group(2) or "").lower()
        if match.group(0) == "<!--":
            inside = "-->"
        elif name in ("script", "style") and not match.group(1):
            inside = f"</{name}"
    if not inside:
        kept.append(text[at:])
    return html.unescape("".join(kept))

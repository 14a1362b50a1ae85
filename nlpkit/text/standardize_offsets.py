"""Where the words of a standardized text stand in the raw one: byte spans, carried through every step.

A text is carried as N characters, each with the span of the raw characters that it comes from. A step on
characters is done to segments that no step looks across (a base character and its marks, a Hangul syllable), and
what comes of a segment has the segment's span; then the whole is compared with the step done to all of it, and
where that differs the span is that of the whole text. So a span may be wide, but it always holds its word.
"""

import html
import re
import unicodedata
from functools import cache, lru_cache
from itertools import accumulate

from nlpkit.errors import UsageError
from nlpkit.text.standardize import URL, Stage, Standardizer, html_parts
from nlpkit.text.token_wise import token_wise

_REFERENCE = re.compile(r"&(?:#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)")
_MOST = 1 << 16  # raw tokens whose words are remembered


def with_offsets(run: Standardizer, text: str) -> list[tuple[str, int, int]]:
    """The words of ``run(text)``, each with the bytes [start, end) of ``text`` (as UTF-8) that it comes from.

    The words are those of ``run(text).split()``, always. Spans are in order, on character boundaries, and may
    touch or be equal where one raw character gives several words (½ under NFKC).

    >>> from nlpkit.text.recipe import Recipe
    >>> with_offsets(Standardizer(Recipe.DEFAULT), "Héllo, the World!")
    [('hello', 0, 6), ('the', 8, 11), ('world', 12, 17)]

    :raises UsageError: the recipe has ``fix-mojibake``, which does not tell what became of which byte.
    """
    return _aligner(run)(text)


@lru_cache(8)
def _aligner(run: Standardizer) -> "_Aligner":
    return _Aligner(run)


class _Traced:
    """A text of N characters, with the byte at which the source of each begins and ends."""

    __slots__ = ("ends", "starts", "text")

    def __init__(self, text: str, starts: list[int], ends: list[int]) -> None:
        self.text, self.starts, self.ends = text, starts, ends

    @classmethod
    def of(cls, text: str) -> "_Traced":
        """Raw text: every character comes from itself."""
        sizes = [1] * len(text) if text.isascii() else [_size(c) for c in text]
        ends = list(accumulate(sizes))
        return cls(text, [0, *ends[:-1]] if ends else [], ends)

    def made(self, parts: list[tuple[int, int, str]]) -> "_Traced":
        """What came of the parts [a, b) of this text that ``parts`` lists in order."""
        starts: list[int] = []
        ends: list[int] = []
        for a, b, result in parts:
            if b - a == len(result) == 1:
                starts.append(self.starts[a])
                ends.append(self.ends[a])
            elif result:
                starts.extend([self.starts[a]] * len(result))
                ends.extend([self.ends[b - 1]] * len(result))
        return _Traced("".join(result for _, _, result in parts), starts, ends)

    def words(self) -> list[tuple[str, int, int]]:
        """The words between white space, each from where its first character begins to where its last ends."""
        spans = (match.span() for match in re.finditer(r"\S+", self.text))
        return [(self.text[a:b], self.starts[a], self.ends[b - 1]) for a, b in spans]


class _Aligner:
    """:func:`with_offsets` for one standardizer, which remembers the tokens that it met."""

    def __init__(self, run: Standardizer) -> None:
        if "fix-mojibake" in run.recipe.steps:
            raise UsageError(
                "offsets cannot be told through the step 'fix-mojibake'; apply it first, then the other steps"
            )
        self.run = run
        self.by_token = token_wise(run.recipe)
        self.known: dict[str, list[tuple[str, int, int]]] = {}
        self.segments: list[dict[str, str]] = [{} for _ in run.stages]

    def __call__(self, text: str) -> list[tuple[str, int, int]]:
        found = self.tokens(text) if self.by_token else self.trace(text)
        words = self.run(text).split()
        size = sum(map(_size, text))
        if [word for word, _, _ in found] == words and _in_order(found, size):
            return found
        return [(word, 0, size) for word in words]

    def tokens(self, text: str) -> list[tuple[str, int, int]]:
        """The words of each raw token, for a recipe that does to a text what it does to its tokens."""
        found = []
        at = byte = 0  # in characters, in bytes
        plain = text.isascii()
        for match in re.finditer(r"\S+", text):
            token, begin = match.group(), match.start()
            byte += begin - at if plain else sum(map(_size, text[at:begin]))
            words = self.known.get(token)
            if words is None:
                if len(self.known) >= _MOST:
                    self.known.clear()
                words = self.known[token] = self.trace(token)
            found += [(word, byte + a, byte + b) for word, a, b in words]
            byte += len(token) if plain else sum(map(_size, token))
            at = match.end()
        return found

    def trace(self, text: str) -> list[tuple[str, int, int]]:
        """The words of ``text`` by the stages of the recipe, one after the other."""
        now = _Traced.of(text)
        for _ in range(self.run.passes):
            before = now.text
            for stage, known in zip(self.run.stages, self.segments, strict=True):
                now = _TRACES[stage.kind](stage, now, known)
            if now.text == before:
                break
        return now.words()


def _in_order(found: list[tuple[str, int, int]], size: int) -> bool:
    """Whether spans hold something, follow one another and lie within ``size`` bytes."""
    before = (0, 0)
    for _, a, b in found:
        if not (before[0] <= a < b <= size and before[1] <= b):
            return False
        before = a, b
    return True


def _characters(stage: Stage, now: _Traced, known: dict[str, str]) -> _Traced:
    """A step on characters, segment by segment; one wide span where that is not the step on the whole."""
    text = now.text
    whole = stage.run(text)
    if len(known) >= _MOST:
        known.clear()
    parts = []
    begin = 0
    for end in range(1, len(text) + 1):
        if end < len(text) and _joins(text[end]):
            continue
        segment = text[begin:end]
        if segment not in known:
            known[segment] = stage.run(segment)
        parts.append((begin, end, known[segment]))
        begin = end
    made = now.made(parts)
    # The lower case of Σ depends on what stands around it, its length does not.
    if made.text.replace("ς", "σ") != whole.replace("ς", "σ"):
        return now.made([(0, len(text), whole)])
    made.text = whole
    return made


@cache
def _joins(character: str) -> bool:
    """Whether a character may change together with the one before it: a mark or a Hangul vowel or final."""
    if character.isascii():
        return False
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff"


def _urls(stage: Stage, now: _Traced, known: dict[str, str]) -> _Traced:
    return _replaced(now, [(*match.span(), " ") for match in URL.finditer(now.text)])


def _html(stage: Stage, now: _Traced, known: dict[str, str]) -> _Traced:
    now = _replaced(now, [(a, b, " ") for a, b, kept in html_parts(now.text) if not kept])
    references = _REFERENCE.finditer(now.text)
    made = _replaced(now, [(*match.span(), html.unescape(match.group())) for match in references])
    whole = html.unescape(now.text)
    return made if made.text == whole else now.made([(0, len(now.text), whole)])


def _replaced(now: _Traced, parts: list[tuple[int, int, str]]) -> _Traced:
    """``now`` with some parts [a, b) replaced; what stands between them stays."""
    if not parts:
        return now
    made: list[tuple[int, int, str]] = []
    at = 0
    for a, b, result in [*parts, (len(now.text), len(now.text), "")]:
        made += [(i, i + 1, now.text[i]) for i in range(at, a)]
        made.append((a, b, result))
        at = b
    return now.made(made)


def _space(stage: Stage, now: _Traced, known: dict[str, str]) -> _Traced:
    ends = len(now.text.rstrip())
    gaps = (match.span() for match in re.finditer(r"\s+", now.text))
    return _replaced(now, [(a, b, " " * (0 < a < ends)) for a, b in gaps])


def _words(stage: Stage, now: _Traced, known: dict[str, str]) -> _Traced:
    words = now.words()
    for step in stage.words:
        words = [(made, a, b) for word, a, b in words for made in step([word])]
    return _joined(words)


def _joined(words: list[tuple[str, int, int]]) -> _Traced:
    """Words with one space between them, which stands for what was between them."""
    starts: list[int] = []
    ends: list[int] = []
    for word, a, b in words:
        if starts:
            starts.append(ends[-1])
            ends.append(max(a, ends[-1]))
        starts.extend([a] * len(word))
        ends.extend([b] * len(word))
    return _Traced(" ".join(word for word, _, _ in words), starts, ends)


_TRACES = {
    "characters": _characters, "strip-urls": _urls, "strip-html": _html, "collapse-space": _space, "words": _words,
}  # fmt: skip


@cache
def _size(character: str) -> int:
    """The bytes of a character in UTF-8 (of a lone surrogate, which has none: those of its code point)."""
    return len(character.encode("utf-8", "surrogatepass"))

"""A recipe: the ordered steps that standardize text, as a value that can be saved, compared and hashed.

A recipe holds everything it needs: the words of a stop word file are part of it, so a saved recipe does the same
on another machine, and two recipes with one hash treat every text alike.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import ClassVar

from nlpkit import config
from nlpkit.errors import UsageError, did_you_mean
from nlpkit.store import atomic

FORMS = ("nfc", "nfkc", "nfd", "nfkd")
#: The steps without an argument, in the order that the command line puts them.
PLAIN = (
    "fix-mojibake",  # first: the wrong decoding was the last thing that happened to the text, mark-up and all
    "strip-html",
    *FORMS,
    "strip-urls",
    "lower",
    "casefold",
    "strip-accents",
    "strip-punct",
    "strip-digits",
    "collapse-space",
)
WITH_ARGUMENT = ("stopwords", "stem", "min-length")
CUSTOM = "custom"


@dataclass(frozen=True)
class Recipe:
    """The steps of standardizing, applied from first to last.

    >>> Recipe(("nfc", "lower")).hash[:8] == Recipe(("nfc", "lower")).hash[:8]
    True
    >>> Recipe(("lowre",))
    Traceback (most recent call last):
    nlpkit.errors.UsageError: unknown step 'lowre'; did you mean 'lower'?
    """

    steps: tuple[str, ...] = ()
    stopwords: tuple[str, ...] = field(default=(), repr=False)

    DEFAULT: ClassVar["Recipe"]

    def __post_init__(self) -> None:
        for step in self.steps:
            _check(step)
        if self.stopwords and f"stopwords:{CUSTOM}" not in self.steps:
            raise UsageError(f"stopwords are given but no step is 'stopwords:{CUSTOM}'")

    @classmethod
    def of(cls, steps: Iterable[str]) -> "Recipe":
        """A recipe from steps where ``stopwords:FILE`` may name a file: its words become part of the recipe."""
        made: list[str] = []
        words: tuple[str, ...] = ()
        for step in steps:
            name, _, argument = step.partition(":")
            if name == "stopwords" and argument != CUSTOM and argument not in shipped_stopwords():
                words = words + _read_words(argument)
                step = f"stopwords:{CUSTOM}"
            made.append(step)
        return cls(tuple(made), tuple(sorted(set(words))))

    @property
    def hash(self) -> str:
        """SHA-256 of everything that decides what the recipe does, stop word lists included."""
        lists = {
            s: hashlib.sha256("\n".join(self.words(s)).encode()).hexdigest()
            for s in self.steps
            if s.startswith("stopwords:")
        }
        return hashlib.sha256(json.dumps([list(self.steps), lists], sort_keys=True).encode()).hexdigest()

    def words(self, step: str) -> tuple[str, ...]:
        """The stop words of a ``stopwords:…`` step."""
        name = step.partition(":")[2]
        return self.stopwords if name == CUSTOM else _shipped(name)

    def __bool__(self) -> bool:
        return bool(self.steps)

    def to_toml(self) -> str:
        """TOML text that :meth:`load` reads back."""
        values: dict[str, list[str]] = {"steps": list(self.steps)}
        if self.stopwords:
            values["stopwords"] = list(self.stopwords)
        return config.to_toml(values)

    def save(self, path: str | Path) -> None:
        """Write the recipe to a TOML file."""
        atomic.write_bytes(path, self.to_toml().encode())

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """A recipe from a TOML file with ``steps`` (and ``stopwords``), every key and step known.

        :raises UsageError: no such file, not TOML, an unknown key or step (with the nearest known one).
        """
        try:
            values = config.read_toml(Path(path))
            if "steps" not in values and set(values) <= {"stopwords"}:
                raise UsageError('has no steps; add a line such as steps = ["lower"]')
            read = config.build(cls, values)
            return read if read.stopwords else cls.of(read.steps)
        except UsageError as error:
            where = str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
            raise UsageError(where) from error


def _check(step: str) -> None:
    name, colon, argument = step.partition(":")
    if name in PLAIN and not colon:
        return
    if name not in WITH_ARGUMENT:
        raise UsageError(f"unknown step {step!r}{did_you_mean(name, [*PLAIN, *WITH_ARGUMENT])}")
    if not argument:
        example = {"stopwords": "en", "stem": "en", "min-length": "3"}[name]
        raise UsageError(f"step {name!r} needs an argument: {name}:{example}")
    if name == "min-length" and not argument.isdecimal():
        raise UsageError(f"step {step!r}: a number of characters is needed, such as min-length:3")
    if name == "stem":
        algorithm(argument)
    if name == "stopwords" and argument != CUSTOM and argument not in shipped_stopwords():
        if Path(argument).is_file():
            return
        known = ", ".join(shipped_stopwords())
        raise UsageError(f"step {step!r}: no such list (known: {known}) and no such file")


def algorithm(language: str) -> str:
    """The Snowball algorithm for a language name or its two-letter code.

    >>> algorithm("en"), algorithm("porter")
    ('english', 'porter')
    """
    import Stemmer

    codes = {
        "ar": "arabic", "hy": "armenian", "eu": "basque", "ca": "catalan", "da": "danish", "nl": "dutch",
        "en": "english", "et": "estonian", "fi": "finnish", "fr": "french", "de": "german", "el": "greek",
        "hi": "hindi", "hu": "hungarian", "id": "indonesian", "ga": "irish", "it": "italian",
        "lt": "lithuanian", "ne": "nepali", "no": "norwegian", "pt": "portuguese", "ro": "romanian",
        "ru": "russian", "sr": "serbian", "es": "spanish", "sv": "swedish", "ta": "tamil", "tr": "turkish",
        "yi": "yiddish",
    }  # fmt: skip
    known = Stemmer.algorithms()
    name = codes.get(language, language)
    if name not in known:
        usable = [c for c, n in codes.items() if n in known] + list(known)
        raise UsageError(f"step 'stem:{language}': no such stemmer{did_you_mean(language, usable)}")
    return name


def shipped_stopwords() -> list[str]:
    """The languages whose stop word list comes with the package."""
    folder = resources.files("nlpkit.text") / "stopwords"
    return sorted(f.name[:-4] for f in folder.iterdir() if f.name.endswith(".txt"))


def _shipped(language: str) -> tuple[str, ...]:
    file = resources.files("nlpkit.text") / "stopwords" / f"{language}.txt"
    return _words(file.read_text(encoding="utf-8"))


def _read_words(name: str) -> tuple[str, ...]:
    path = Path(name)
    if not path.is_file():
        known = ", ".join(shipped_stopwords())
        raise UsageError(f"stop words {name!r}: no such list (known: {known}) and no such file")
    try:
        words = _words(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8; a list of stop words has one a line") from error
    if not words:
        raise UsageError(f"{path}: has no words; a list of stop words has one a line")
    return words


def _words(text: str) -> tuple[str, ...]:
    """The words of a list: one or more a line, ``#`` begins a comment line."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return tuple(sorted({word for line in lines for word in line.split()}))


Recipe.DEFAULT = Recipe(("nfkc", "lower", "strip-accents", "strip-punct", "collapse-space"))

"""From a text to the terms that BM25 counts: the recipe of the index, then a split at spaces."""

from collections.abc import Iterable, Sequence

from nlpkit.errors import ArtifactError
from nlpkit.search.folder import Settings
from nlpkit.store.manifest import Manifest
from nlpkit.text.standardize import Recipe, Standardizer

#: Words of one sign are left out: in text without punctuation they are what remains of initials, list numbers and
#: abbreviations (e.g., J. R.), which match everywhere and mean nothing.
STEPS = ("nfkd", "lower", "strip-accents", "strip-punct", "stopwords:en", "stem:en", "min-length:2")


class Analyzer:
    """Applies one recipe to documents and queries alike.

    >>> Analyzer()("The Files were opened")
    ['file', 'open']
    """

    def __init__(self, recipe: Recipe | None = None) -> None:
        self.recipe = Recipe(STEPS) if recipe is None else recipe
        self._standardize = Standardizer(self.recipe)

    def __call__(self, text: str) -> list[str]:
        """The terms of a text, in order."""
        return self._standardize(text).split()

    @classmethod
    def of(cls, settings: Settings, made: Manifest) -> "Analyzer":
        """The analyzer of an index; refused where its recipe means something else than when it was built."""
        recipe = Recipe(settings.recipe, settings.stopwords)
        if recipe.hash != made.made_with.get("recipe"):
            raise ArtifactError(
                "the index was built with another recipe than this nlpkit makes of its steps (stop words differ); "
                "rebuild it with: nlpkit index build"
            )
        return cls(recipe)


def joined(title: str, text: str) -> str:
    """What is indexed and encoded of a document: its title before its text.

    >>> joined("", "b")
    'b'
    """
    return f"{title} {text}" if title else text


def passages(title: str, text: str, spans: Iterable[Sequence[int]] = ()) -> list[str]:
    """What is indexed and encoded of a document's passages; without ``spans`` the whole document is the one passage.

    >>> passages("t", "one two", [(0, 3), (4, 7)]), passages("", "one two")
    (['t one', 't two'], ['one two'])
    """
    return [joined(title, text[start:end]) for start, end in spans] or [joined(title, text)]

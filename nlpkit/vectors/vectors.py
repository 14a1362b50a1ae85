"""Word vectors on disk and what they are for: neighbours, analogies, the mean vector of a text. Numpy alone.

V vocabulary, D width, N texts, Q queries. A folder holds ``vectors.safetensors`` (word and context vectors (V, D)
float32 and their biases (V,)), ``words.txt``, ``counts.npy``, ``standardize.toml``, ``config.toml``,
``metrics.jsonl`` and ``MANIFEST.json`` of kind «vectors».
"""

import difflib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.errors import ArtifactError, UsageError
from nlpkit.store import atomic, manifest

if TYPE_CHECKING:
    from nlpkit.text.standardize import Recipe, Standardizer

KIND = "vectors"
BLOCK = 1 << 24  # scores that are held at a time


class Vectors:
    """Word vectors (V, D): the sum of a word's two vectors, w + ŵ (Pennington et al. 2014, §4.2)."""

    tokenizer_kind = "word"  # words are what stands between spaces after the recipe

    def __init__(
        self,
        words: list[str],
        matrix: np.ndarray,
        recipe: "Recipe",
        counts: np.ndarray,
        fingerprint: str = "",
    ) -> None:
        self.words, self.matrix, self.recipe, self.counts = words, matrix, recipe, counts
        self.fingerprint = fingerprint
        self._number = {word: i for i, word in enumerate(words)}

    @classmethod
    def load(cls, folder: str | Path) -> "Vectors":
        """The vectors of a folder, after every file in it was compared with its hash.

        Raises ArtifactError for a damaged folder or another kind of artefact.
        """
        from safetensors.numpy import load_file

        from nlpkit.text.standardize import Recipe

        folder = Path(folder)
        made = manifest.check(folder, KIND)
        for name in ("vectors.safetensors", "words.txt", "counts.npy", "standardize.toml"):
            if name not in made.files:
                raise ArtifactError(f"{folder}: has no sealed {name}; {manifest.remedy(folder)}")
        words = (folder / "words.txt").read_bytes().decode("utf-8", "surrogatepass").split("\n")[:-1]
        tensors = load_file(folder / "vectors.safetensors")
        counts = np.load(folder / "counts.npy", allow_pickle=False)
        word, context = tensors.get("word"), tensors.get("context")
        if (
            word is None
            or context is None
            or not word.shape == context.shape == (len(words), word.shape[-1])
            or counts.shape != (len(words),)
        ):
            raise ArtifactError(
                f"{folder}: words, counts and vectors do not agree; {manifest.remedy(folder)}"
            )
        recipe = Recipe.load(folder / "standardize.toml")
        if recipe.hash != made.made_with.get("recipe"):
            raise ArtifactError(
                f"{folder}/standardize.toml: not the recipe that the vectors were made with; "
                + manifest.remedy(folder)
            )
        return cls(words, word + context, recipe, counts, made.fingerprint)

    @property
    def width(self) -> int:
        """D."""
        return int(self.matrix.shape[1])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and self._find(word) is not None

    @cached_property
    def _standardize(self) -> "Standardizer":
        from nlpkit.text.standardize import Standardizer

        return Standardizer(self.recipe)

    @cached_property
    def unit(self) -> np.ndarray:
        """The vectors at length 1 (V, D); a zero vector stays zero."""
        return unit_rows(self.matrix)

    def _find(self, word: str) -> int | None:
        if word in self._number:
            return self._number[word]
        return self._number.get(self._standardize(word).strip())

    def index(self, word: str) -> int:
        """The row of a word, as it stands or after the recipe; UsageError with the nearest spelling when unknown."""
        found = self._find(word)
        if found is None:
            raise UsageError(f"{word!r} is not among the {len(self.words):,} words{self._meant(word)}")
        return found

    def _meant(self, word: str) -> str:
        plain = self._standardize(word).strip() or word
        if not plain:
            return ""
        near = [
            w
            for w in self.words
            if abs(len(w) - len(plain)) <= 2 and (w[0] == plain[0] or w[1:] == plain[1:])
        ]
        close = difflib.get_close_matches(plain, near[:20_000], n=1, cutoff=0.6)
        return f"; did you mean {close[0]!r}?" if close else ""

    def vector(self, word: str) -> np.ndarray:
        """The vector of a word (D,)."""
        row: np.ndarray = self.matrix[self.index(word)]
        return row

    def nearest(self, query: str | np.ndarray, k: int = 10) -> list[tuple[str, float]]:
        """The ``k`` words of greatest cosine with a word (itself left out) or a vector (D,); ties by frequency.

        >>> from nlpkit.text.standardize import Recipe
        >>> matrix = np.array([[1, 0], [0, 1], [3, 4]], np.float32)
        >>> Vectors(["x", "y", "z"], matrix, Recipe(()), np.ones(3, np.int64)).nearest("x", 1)
        [('z', 0.6000000238418579)]
        """
        if isinstance(query, str):
            row = self.index(query)
            return next(self._top(self.unit[row : row + 1], k, [[row]]))
        vector = np.asarray(query, np.float32)
        if vector.shape != (self.width,):
            raise UsageError(f"a vector of {self.width} numbers is needed, not one of shape {vector.shape}")
        return next(self._top(unit_rows(vector[None]), k, [[]]))

    def nearest_all(self, words: Sequence[str], k: int = 10) -> list[list[tuple[str, float]]]:
        """:meth:`nearest` for many words at once, a bounded block of them at a time."""
        rows = [self.index(word) for word in words]
        return list(self._top(self.unit[rows], k, [[row] for row in rows]))

    def analogy(self, a: str, b: str, c: str, k: int = 10) -> list[tuple[str, float]]:
        """Words d for «a is to b as c is to d»: greatest cosine with b - a + c (3CosAdd, Mikolov et al. 2013).

        Vectors are taken at length 1 first; the three words themselves are left out.
        """
        rows = [self.index(word) for word in (a, b, c)]
        first, second, third = self.unit[rows]
        return next(self._top(unit_rows((second - first + third)[None]), k, [rows]))

    def similarity(self, a: str, b: str) -> float:
        """The cosine of two words' vectors, in [-1, 1]."""
        return float(np.clip(self.unit[self.index(a)] @ self.unit[self.index(b)], -1.0, 1.0))

    def mean(self, texts: Sequence[str], *, standardized: bool = False) -> np.ndarray:
        """The mean of the word vectors of each text (N, D) float32, not scaled to length 1.

        The recipe is applied unless the texts are ``standardized`` already; unknown words are skipped, a text with
        no known word is zeros.
        """
        standardize = str if standardized else self._standardize
        means = np.zeros((len(texts), self.width), np.float32)
        for n, text in enumerate(texts):
            rows = [self._number[w] for w in standardize(text).split() if w in self._number]
            if rows:
                means[n] = self.matrix[rows].mean(axis=0)
        return means

    def _top(
        self, queries: np.ndarray, k: int, without: Sequence[Sequence[int]]
    ) -> Iterator[list[tuple[str, float]]]:
        """The best ``k`` of each of (Q, D) unit queries; equal scores in the order of the vocabulary."""
        if k < 1:
            raise UsageError(f"k: expected 1 or more, got {k}")
        step = max(1, BLOCK // max(1, len(self.words)))
        for start in range(0, len(queries), step):
            block = queries[start : start + step] @ self.unit.T  # (at most step, V)
            for scores, left_out in zip(block, without[start : start + step], strict=True):
                scores[list(left_out)] = -np.inf
                take = min(k, len(scores) - len(set(left_out)))
                if take == 0:
                    yield []
                    continue
                least = np.partition(scores, len(scores) - take)[len(scores) - take]
                among = np.flatnonzero(scores >= least)
                best = among[np.argsort(-scores[among], kind="stable")[:take]]
                yield [(self.words[i], float(scores[i])) for i in best]


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Rows (N, D) scaled to length 1; a row of zeros stays zeros.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.sqrt(np.einsum("nd,nd->n", matrix, matrix))[:, None]
    scaled: np.ndarray = matrix / np.where(length > 0, length, 1.0).astype(matrix.dtype)
    return scaled


def save(
    folder: Path,
    *,
    words: Sequence[str],
    counts: np.ndarray,
    word: np.ndarray,
    context: np.ndarray,
    recipe: "Recipe",
    settings: str = "",
    notes: dict[str, Any] | None = None,
) -> None:
    """Write and seal a folder of vectors that is being built.

    ``word`` and ``context`` are (V, D + 1): vectors with the bias last. ``settings`` is the text of config.toml.
    """
    from safetensors.numpy import save as packed

    tensors = {}
    for name, table in (("word", word), ("context", context)):
        tensors[name] = np.ascontiguousarray(table[:, :-1], np.float32)
        tensors[f"{name}_bias"] = np.ascontiguousarray(table[:, -1], np.float32)
    atomic.write_bytes(folder / "vectors.safetensors", packed(tensors))  # save_file would make it private
    listing = "".join(f"{w}\n" for w in words)
    atomic.write_bytes(folder / "words.txt", listing.encode("utf-8", "surrogatepass"))
    with atomic.writing(folder / "counts.npy") as file:
        np.save(file, np.asarray(counts, np.int64), allow_pickle=False)
    recipe.save(folder / "standardize.toml")
    if settings:
        atomic.write_bytes(folder / "config.toml", settings.encode())
    manifest.seal(folder, KIND, made_with={"recipe": recipe.hash}, notes=notes, leave=("metrics.jsonl",))

"""Word vectors on disk and what they are for: neighbours, analogies, the mean vector of a text. Numpy alone.

V vocabulary, D width, N texts, Q queries. A folder holds ``vectors.safetensors``, ``words.txt``, ``counts.npy``,
``standardize.toml`` and ``MANIFEST.json`` of kind «vectors»; one that was trained here ``config.toml`` and
``metrics.jsonl`` too. The tensors are ``word`` (V, D) float32, or ``word_int8`` (V, D) with ``word_scale`` (V,); and
of GloVe ``context`` (V, D) and the biases (V,) of both. A count is 0 where nobody told it.
"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.errors import ArtifactError, DataError, NotFound, UsageError, did_you_mean
from nlpkit.store import atomic, manifest
from nlpkit.vectors.tensors import TensorWriter, map_tensors, writing_tensors

if TYPE_CHECKING:
    from nlpkit.text.standardize import Recipe, Standardizer

KIND = "vectors"
BLOCK = 1 << 24  # scores that are held at a time
ROWS = 1 << 14  # rows that are read, scaled or written at a time
METHODS = ("3cosadd", "3cosmul")
EPSILON = 1e-3  # keeps the quotient of 3CosMul finite (Levy and Goldberg 2014, §6)


class Vectors:
    """Word vectors (V, D): of GloVe the sum of a word's two vectors, w + ŵ (Pennington et al. 2014, §4.2)."""

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

    @classmethod
    def load(cls, folder: str | Path) -> "Vectors":
        """The vectors of a folder, after every file in it was compared with its hash.

        A folder with one table is mapped into memory, not read: its matrix cannot be written to.
        Raises ArtifactError for a damaged folder or another kind of artefact.
        """
        from nlpkit.text.standardize import Recipe

        folder = Path(folder)
        made = manifest.check(folder, KIND)
        for name in ("vectors.safetensors", "words.txt", "counts.npy", "standardize.toml"):
            if name not in made.files:
                raise ArtifactError(f"{folder}: has no sealed {name}; {manifest.remedy(folder)}")
        words = (folder / "words.txt").read_bytes().decode("utf-8", "surrogatepass").split("\n")[:-1]
        counts = np.load(folder / "counts.npy", allow_pickle=False)
        try:
            matrix = _matrix(map_tensors(folder / "vectors.safetensors"))
        except DataError as error:
            raise ArtifactError(f"{error}; {manifest.remedy(folder)}") from error
        if matrix is None or len(matrix) != len(words) or counts.shape != (len(words),):
            raise ArtifactError(
                f"{folder}: words, counts and vectors do not agree; {manifest.remedy(folder)}"
            )
        recipe = Recipe.load(folder / "standardize.toml")
        if recipe.hash != made.made_with.get("recipe"):
            raise ArtifactError(
                f"{folder}/standardize.toml: not the recipe that the vectors were made with; "
                + manifest.remedy(folder)
            )
        return cls(words, matrix, recipe, counts, made.fingerprint)

    @property
    def width(self) -> int:
        """D."""
        return int(self.matrix.shape[1])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and self.find(word) is not None

    @cached_property
    def _number(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def _standardize(self) -> "Standardizer":
        from nlpkit.text.standardize import Standardizer

        return Standardizer(self.recipe)

    @cached_property
    def lengths(self) -> np.ndarray:
        """The Euclidean lengths of the vectors (V,) float32."""
        parts = [np.sqrt(np.einsum("nd,nd->n", rows, rows)) for rows in blocks(self.matrix)]
        return np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32, copy=False)

    def find(self, word: str) -> int | None:
        """The row of a word, as it stands or after the recipe; None when unknown."""
        if word in self._number:
            return self._number[word]
        return self._number.get(self._standardize(word).strip())

    def number(self, word: str, unknown: int = -1) -> int:
        """The row of a word that was standardized already; ``unknown`` where there is none."""
        return self._number.get(word, unknown)

    def index(self, word: str) -> int:
        """The row of a word, as it stands or after the recipe; NotFound with the nearest spelling when unknown."""
        found = self.find(word)
        if found is None:
            raise NotFound(f"{word!r} is not among the {len(self.words):,} words{self._meant(word)}")
        return found

    def _meant(self, word: str) -> str:
        plain = self._standardize(word).strip() or word
        if not plain:
            return ""
        near = [
            w
            for w in self.words
            if abs(len(w) - len(plain)) <= 2 and (w[:1] == plain[0] or w[1:] == plain[1:])
        ]
        close = difflib.get_close_matches(plain, near[:20_000], n=1, cutoff=0.6)
        return f"; did you mean {close[0]!r}?" if close else ""

    def vector(self, word: str) -> np.ndarray:
        """The vector of a word (D,)."""
        row: np.ndarray = self.matrix[self.index(word)]
        return row

    def nearest(
        self, query: str | np.ndarray, k: int = 10, without: Sequence[str] = ()
    ) -> list[tuple[str, float]]:
        """The ``k`` words of greatest cosine with a word (itself left out) or a vector (D,); ties by frequency.

        >>> from nlpkit.text.standardize import Recipe
        >>> matrix = np.array([[1, 0], [0, 1], [3, 4]], np.float32)
        >>> found = Vectors(["x", "y", "z"], matrix, Recipe(()), np.ones(3, np.int64)).nearest("x", 1)
        >>> [(word, round(cosine, 6)) for word, cosine in found]
        [('z', 0.6)]
        """
        left_out = [self.index(word) for word in without]
        if isinstance(query, str):
            row = self.index(query)
            return self.nearest_rows([row], k, [[row, *left_out]])[0]
        vector = np.asarray(query, np.float32)
        if vector.shape != (self.width,):
            raise UsageError(f"a vector of {self.width} numbers is needed, not one of shape {vector.shape}")
        return next(self._top(1, lambda part: self.cosines(vector[None]), k, [left_out]))

    def nearest_all(self, words: Sequence[str], k: int = 10) -> list[list[tuple[str, float]]]:
        """:meth:`nearest` for many words at once, a bounded block of them at a time."""
        rows = [self.index(word) for word in words]
        return self.nearest_rows(rows, k, [[row] for row in rows])

    def nearest_rows(
        self, rows: Sequence[int] | np.ndarray, k: int, without: Sequence[Sequence[int]]
    ) -> list[list[tuple[str, float]]]:
        """The ``k`` words nearest to each of Q rows, the rows of ``without`` left out."""
        at = np.asarray(rows, np.int64)
        return list(self._top(len(at), lambda part: self.cosines(self.matrix[at[part]]), k, without))

    def analogy(
        self, a: str, b: str, c: str, k: int = 10, *, method: str = "3cosadd"
    ) -> list[tuple[str, float]]:
        """Words d for «a is to b as c is to d», with the score of :meth:`analogy_scores`.

        The three words themselves are left out.
        """
        return self.analogies([[self.index(word) for word in (a, b, c)]], k, method=method)[0]

    def analogies(
        self, rows: Sequence[Sequence[int]], k: int = 10, *, method: str = "3cosadd"
    ) -> list[list[tuple[str, float]]]:
        """:meth:`analogy` for many questions at once, each given by the rows of its three words."""
        asked = np.asarray(rows, np.int64).reshape(-1, 3)
        return list(self._top(len(asked), lambda part: self.analogy_scores(asked[part], method), k, rows))

    def cosines(self, queries: np.ndarray, limit: int | None = None) -> np.ndarray:
        """The cosines (Q, V) of vectors (Q, D) with all words, or with the first ``limit`` words."""
        scores = unit_rows(np.asarray(queries, np.float32)) @ self.matrix[:limit].T
        scores *= self._inverse[:limit]
        return scores

    @cached_property
    def _inverse(self) -> np.ndarray:
        return np.where(self.lengths > 0, 1 / np.where(self.lengths > 0, self.lengths, 1), 0)

    def analogy_scores(
        self, rows: np.ndarray, method: str = "3cosadd", limit: int | None = None
    ) -> np.ndarray:
        """How well each word (or each of the first ``limit``) ends the questions a : b = c : ? of rows (Q, 3); (Q, V).

        ``3cosadd``: the cosine with b - a + c, the three at length 1 (Mikolov et al. 2013). ``3cosmul``: the product
        of the cosines with b and c over that with a, cosines moved to [0, 1] (Levy and Goldberg 2014, §6).
        """
        if method not in METHODS:
            raise UsageError(f"method {method!r} is not known{did_you_mean(method, METHODS)}")
        first, second, third = (unit_rows(self.matrix[rows[:, i]]) for i in range(3))
        if method == "3cosadd":
            return self.cosines(second - first + third, limit)
        scores = (self.cosines(second, limit) + 1) / 2
        scores *= (self.cosines(third, limit) + 1) / 2
        scores /= (self.cosines(first, limit) + 1) / 2 + EPSILON
        return scores

    def similarity(self, a: str, b: str) -> float:
        """The cosine of two words' vectors, in [-1, 1]."""
        return float(self.similarities([[self.index(a), self.index(b)]])[0])

    def similarities(self, rows: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
        """The cosines (N,) float64 of pairs of rows (N, 2)."""
        pairs = np.asarray(rows, np.int64).reshape(-1, 2)
        one, other = (unit_rows(self.matrix[pairs[:, i]].astype(np.float64)) for i in range(2))
        return np.clip(np.einsum("nd,nd->n", one, other), -1.0, 1.0)

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
        self, count: int, score: Callable[[slice], np.ndarray], k: int, without: Sequence[Sequence[int]]
    ) -> Iterator[list[tuple[str, float]]]:
        """The best ``k`` words of each of Q queries, whose scores (·, V) are made block by block.

        Equal scores stand in the order of the vocabulary.
        """
        if k < 1:
            raise UsageError(f"k: expected 1 or more, got {k}")
        step = max(1, BLOCK // max(1, len(self.words)))
        for start in range(0, count, step):
            for row, left_out in zip(
                score(slice(start, start + step)), without[start : start + step], strict=True
            ):
                row[list(left_out)] = -np.inf
                take = min(k, len(row) - len(set(left_out)))
                if take == 0:
                    yield []
                    continue
                least = np.partition(row, len(row) - take)[len(row) - take]
                among = np.flatnonzero(row >= least)
                best = among[np.argsort(-row[among], kind="stable")[:take]]
                yield [(self.words[i], float(row[i])) for i in best]


def blocks(matrix: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of a matrix, :data:`ROWS` at a time."""
    return (matrix[start : start + ROWS] for start in range(0, len(matrix), ROWS))


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Rows (N, D) scaled to length 1; a row of zeros stays zeros.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.sqrt(np.einsum("nd,nd->n", matrix, matrix))[:, None]
    scaled: np.ndarray = matrix / np.where(length > 0, length, 1.0).astype(matrix.dtype)
    return scaled


def _matrix(tensors: dict[str, np.ndarray]) -> np.ndarray | None:
    """The vectors (V, D) that a folder's tensors stand for; None when they do not agree."""
    if "word_int8" in tensors:
        packed, scale = tensors["word_int8"], tensors.get("word_scale")
        if packed.ndim != 2 or scale is None or scale.shape != packed.shape[:1]:
            return None
        matrix = packed.astype(np.float32)
        matrix *= scale[:, None]
        return matrix
    word, context = tensors.get("word"), tensors.get("context")
    if word is None or word.ndim != 2 or (context is not None and context.shape != word.shape):
        return None
    return word if context is None else np.add(word, context)


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
    """Write and seal a folder of GloVe's vectors that is being built.

    ``word`` and ``context`` are (V, D + 1): vectors with the bias last. ``settings`` is the text of config.toml.
    """
    with writing_tensors(folder / "vectors.safetensors") as writer:
        for name, table in (("word", word), ("context", context)):
            append_rows(writer, name, table[:, :-1])
            writer.append(f"{name}_bias", np.asarray(table[:, -1], np.float32))
    if settings:
        atomic.write_bytes(folder / "config.toml", settings.encode())
    finish(folder, words, counts, recipe, notes=notes)


def append_rows(writer: TensorWriter, name: str, table: np.ndarray) -> None:
    """Append a table (V, D) as float32, a block at a time."""
    for rows in blocks(table):
        writer.append(name, np.asarray(rows, np.float32))


def finish(
    folder: Path,
    words: Sequence[str],
    counts: np.ndarray | None,
    recipe: "Recipe",
    *,
    made_of: str = "",
    notes: dict[str, Any] | None = None,
) -> None:
    """Write what a folder holds beside its tensors, and seal it.

    ``counts`` None: nobody told them. ``made_of`` is the fingerprint of the vectors that these were made from.
    """
    with atomic.writing(folder / "words.txt") as file:
        file.writelines(f"{word}\n".encode("utf-8", "surrogatepass") for word in words)
    known = np.zeros(len(words), np.int64) if counts is None else np.asarray(counts, np.int64)
    with atomic.writing(folder / "counts.npy") as file:
        np.save(file, known, allow_pickle=False)
    recipe.save(folder / "standardize.toml")
    made_with = {"recipe": recipe.hash} | ({"vectors": made_of} if made_of else {})
    manifest.seal(folder, KIND, made_with=made_with, notes=notes, leave=("metrics.jsonl",))

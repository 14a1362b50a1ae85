"""Training that begins with older vectors: they are put into the tables, held back, and joined to the result.

V words of the new text, K of them known, O words of the older vectors, D width.

Known words start from their two vectors and biases. After every epoch a proximal step draws each known number x back
towards its older value a, x ← (x + η·λ·a) / (1 + η·λ), with AdaGrad's η = rate / √sum of its row: the penalty
½·λ·(x - a)² once an epoch, in the units of one nonzero of weight 1 (forward-backward splitting, Duchi and Singer 2009).
λ = 0 leaves them free. Frozen rows do not move: their sums are so large that no step is felt, and what rounding
leaves is put right after every epoch.

A folder of one table (imported vectors) tells only w + ŵ: half of it stands for each of the two, which GloVe's
symmetry makes alike, and nothing for the biases, which are learned.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nlpkit.errors import ArtifactError, UsageError
from nlpkit.vectors.counting import Vocabulary
from nlpkit.vectors.tables import State
from nlpkit.vectors.tensors import map_tensors
from nlpkit.vectors.vectors import ROWS, Vectors

if TYPE_CHECKING:
    from nlpkit.text.standardize import Recipe

FROZEN = np.float32(1e30)  # a sum of squares beside which every step is nothing
TABLES = ("word", "context")


@dataclass(frozen=True)
class Older:
    """The vectors of a folder, mapped into memory: ``tensors`` as stored, or halves of one table."""

    vectors: Vectors
    tensors: dict[str, np.ndarray]

    @classmethod
    def open(cls, folder: str | Path, size: int, recipe: "Recipe | None") -> "Older":
        """Open a folder, every file checked; ``recipe`` None is the folder's own.

        :raises ArtifactError: damaged, no vectors, or made with another recipe.
        :raises UsageError: vectors of another size.
        """
        vectors = Vectors.load(folder)
        if vectors.width != size:
            raise UsageError(
                f"{folder}: vectors of {vectors.width} numbers, not {size}; pass --size {vectors.width}"
            )
        if recipe is not None and recipe.hash != vectors.recipe.hash:
            raise ArtifactError(
                f"{folder}: made with another recipe; leave out --recipe to use it, or choose other vectors"
            )
        if not len(vectors):
            raise ArtifactError(f"{folder}: has no vectors to start from; choose others or leave out --init")
        tensors = map_tensors(Path(folder) / "vectors.safetensors")
        shapes = {"word": 2, "context": 2, "word_bias": 1, "context_bias": 1}
        if all(name in tensors and tensors[name].ndim == n for name, n in shapes.items()):
            if any(len(tensors[name]) != len(vectors) for name in shapes):
                raise ArtifactError(f"{folder}: biases and vectors do not agree; make the folder again")
        else:
            tensors = {}
        return cls(vectors, tensors)

    @property
    def biases(self) -> bool:
        """Whether biases are known."""
        return bool(self.tensors)

    def rows(self, table: str, numbers: np.ndarray) -> np.ndarray:
        """The vectors with the bias last (n, D + 1) float32 of words by their ``numbers``."""
        made = np.zeros((len(numbers), self.vectors.width + 1), np.float32)
        if self.tensors:
            made[:, :-1], made[:, -1] = self.tensors[table][numbers], self.tensors[f"{table}_bias"][numbers]
        else:
            made[:, :-1] = self.vectors.matrix[numbers] / np.float32(2)
        return made


class Anchor:
    """Older vectors over a vocabulary: ``new`` and ``old`` (K,) are the rows of the known words in both.

    ``weight`` is λ; ``biases`` says whether the objective has word biases to start and hold.
    """

    def __init__(
        self,
        older: Older,
        vocabulary: Vocabulary,
        *,
        weight: float,
        freeze: bool,
        rate: float,
        biases: bool = True,
    ) -> None:
        self.older, self.weight, self.freeze, self.rate = older, np.float32(weight), freeze, np.float32(rate)
        self.columns = older.vectors.width + int(older.biases and biases)
        found = np.array([older.vectors.number(word) for word in vocabulary.words], np.int64)
        self.new = np.flatnonzero(found >= 0)
        self.old = found[self.new]

    def _blocks(self, state: State) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for name, table in zip(TABLES, (state.words, state.contexts), strict=True):
            for start in range(0, len(self.new), ROWS):
                here = slice(start, start + ROWS)
                yield table, self.new[here], self.older.rows(name, self.old[here])[:, : self.columns]

    def start(self, state: State) -> None:
        """Put the older vectors into fresh tables."""
        for table, rows, values in self._blocks(state):
            table[rows, : self.columns] = values
            if self.freeze:
                table[rows, state.size + 1 : self.columns + 2] = (
                    FROZEN  # the sums of the vector, and of the bias
                )

    def pull(self, state: State) -> None:
        """The step back that follows an epoch."""
        if not self.freeze and not self.weight:
            return
        size = state.size
        for table, rows, values in self._blocks(state):
            if not self.freeze:
                roots = np.repeat(np.sqrt(table[rows, size + 1 :]), (size, self.columns - size), axis=1)
                force = self.rate * self.weight / roots
                values = (table[rows, : self.columns] + force * values) / (1 + force)
            table[rows, : self.columns] = values

    def joined(
        self, vocabulary: Vocabulary, words: np.ndarray, contexts: np.ndarray
    ) -> tuple[Vocabulary, np.ndarray, np.ndarray]:
        """The new words and those that only the older vectors have, with tables (·, D + 1); counts are added up.

        Older words that the new text lacks, or has too seldom, keep their vectors. Ordered as a
        :class:`~nlpkit.vectors.counting.Vocabulary` is.
        """
        told = self.older.vectors
        counts = vocabulary.counts.copy()
        counts[self.new] += told.counts[self.old]
        left = np.ones(len(told), bool)
        left[self.old] = False
        only = np.flatnonzero(left)
        names = [*vocabulary.words, *(told.words[n] for n in only.tolist())]
        counts = np.concatenate([counts, told.counts[only]])
        order = np.array(sorted(range(len(names)), key=lambda n: (-counts[n], names[n])))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        made = []
        for name, table in zip(TABLES, (words, contexts), strict=True):
            whole = np.empty((len(names), table.shape[1]), np.float32)
            whole[place[: len(table)]] = table
            for start in range(0, len(only), ROWS):
                here = slice(start, start + ROWS)
                whole[place[len(table) :][here]] = self.older.rows(name, only[here])
            made.append(whole)
        return Vocabulary([names[n] for n in order.tolist()], counts[order]), made[0], made[1]

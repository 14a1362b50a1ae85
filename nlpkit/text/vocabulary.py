"""The columns of a document-term matrix: where words come from, and the vocabulary file that a matrix has beside it.

Shapes: P words of some texts, D texts, C columns (terms, then one for unknown ones where asked). The vocabulary is
two files: ``OUT.vocab.txt``, a line a column (term, tab, number of documents), and ``OUT.vocab.json``, what made it:
the hash of the recipe or the fingerprint of the tokenizer, and what weights need to know of the text.
"""

import hashlib
import json
import re
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nlpkit.errors import ArtifactError, UsageError, did_you_mean
from nlpkit.store import atomic
from nlpkit.text.compression import SUFFIXES
from nlpkit.text.ngrams import Terms, terms_of
from nlpkit.text.recipe import Recipe
from nlpkit.text.standardize import Standardizer
from nlpkit.text.token_names import names_of
from nlpkit.text.tokenizer import Tokenizer
from nlpkit.text.word_ids import WordIds

ANALYZERS = ("word", "char")


class Words(Protocol):
    """Where the words of a text come from: each has an id below ``size`` and a name without spaces."""

    made_with: dict[str, Any]  # what decides the words; equal for equal words
    joint: str  # what stands between the words of an n-gram

    @property
    def size(self) -> int: ...  # noqa: D102

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids (P,) of all texts, end to end, and how many each text has (D,)."""
        ...

    def names(self, ids: Sequence[int]) -> list[str]:
        """The names of ids."""
        ...


def _recipe_notes(recipe: Recipe, analyzer: str) -> dict[str, Any]:
    lists = {"stopwords": list(recipe.stopwords)} if recipe.stopwords else {}
    return {
        "analyzer": analyzer,
        "tokenizer": "",
        "recipe": recipe.hash,
        "steps": list(recipe.steps),
        **lists,
    }


class RecipeWords:
    """The words between spaces of the text that a recipe has standardized.

    >>> words = RecipeWords(Recipe.DEFAULT)
    >>> words.names(words.ids(["The cat.", "the"])[0].tolist())
    ['the', 'cat', 'the']
    """

    joint = " "

    def __init__(self, recipe: Recipe) -> None:
        self.made_with = _recipe_notes(recipe, "word")
        steps = recipe.steps
        if steps[-1:] == ("collapse-space",):  # the split at spaces does it
            steps = steps[:-1]
        self._standardize = Standardizer(Recipe(steps, recipe.stopwords))
        self._words = WordIds()

    @property
    def size(self) -> int:
        """How many words there have been."""
        return len(self._words)

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids (P,) of all texts, end to end, and how many each text has (D,)."""
        return self._words([self._standardize(text) for text in texts])

    def names(self, ids: Sequence[int]) -> list[str]:
        """Words."""
        every = self._words.names
        return [every[i] for i in ids]


class Characters:
    """The characters of the text that a recipe has standardized; their ids are their code points."""

    joint, size = "", 0x110000

    def __init__(self, recipe: Recipe) -> None:
        self.made_with = _recipe_notes(recipe, "char")
        self._standardize = Standardizer(recipe)

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids (P,) of all texts, end to end, and how many each text has (D,)."""
        made = [self._standardize(text) for text in texts]
        raw = "".join(made).encode("utf-32-le", "surrogatepass")
        return np.frombuffer(raw, np.uint32).astype(np.int64), np.fromiter(
            map(len, made), np.int64, len(made)
        )

    def names(self, ids: Sequence[int]) -> list[str]:
        """Characters."""
        return [chr(i) for i in ids]


class TokenizerWords:
    """The tokens of a tokenizer; a space in a token is drawn as ▁, as ``nlpkit tokenize --format tokens`` does."""

    joint = " "

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.made_with = {"analyzer": "word", "tokenizer": tokenizer.fingerprint, "recipe": ""}
        self.size = tokenizer.vocab_size
        self._tokenizer = tokenizer
        self._names = names_of(tokenizer)

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids (P,) of all texts, end to end, and how many each text has (D,)."""
        rows = self._tokenizer.encode(texts)
        sizes = np.fromiter(map(len, rows), np.int64, len(rows))
        return np.fromiter(chain.from_iterable(rows), np.int64, int(sizes.sum())), sizes

    def names(self, ids: Sequence[int]) -> list[str]:
        """Tokens as they are drawn."""
        return [self._names[i] for i in ids]


def words_of(
    *, recipe: Recipe | None = None, tokenizer: Tokenizer | None = None, analyzer: str = "word"
) -> Words:
    """Where words come from: a tokenizer, or a recipe (the default one) and a split at spaces or characters."""
    if analyzer not in ANALYZERS:
        raise UsageError(f"--analyzer {analyzer!r} is not known{did_you_mean(analyzer, ANALYZERS)}")
    if tokenizer is not None:
        if recipe is not None:
            raise UsageError("a tokenizer has its own recipe; leave out --recipe or --tokenizer")
        if analyzer != "word":
            raise UsageError("--analyzer char takes characters, --tokenizer tokens; leave one out")
        return TokenizerWords(tokenizer)
    chosen = Recipe.DEFAULT if recipe is None else recipe
    return Characters(chosen) if analyzer == "char" else RecipeWords(chosen)


# ---------------------------------------------------------------------- the vocabulary file


@dataclass
class Vocabulary:
    """Terms with what weights need (``documents`` N, ``mean_length`` in terms, ``unknown_df``) and what made them.

    ``labels``: the names of the classes 0, 1, … of an svmlight file, where they are text.
    """

    terms: Terms
    made_with: dict[str, Any]
    ngrams: tuple[int, int]
    unknown: bool
    documents: int
    mean_length: float
    unknown_df: int = 0
    labels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Columns, the one for unknown terms included."""
        return len(self.terms) + self.unknown

    @property
    def joint(self) -> str:
        """What stands between the words of a term."""
        return "" if self.made_with["analyzer"] == "char" else " "

    @property
    def df(self) -> np.ndarray:
        """Documents of each column (C,) float64."""
        tail = [self.unknown_df] if self.unknown else []
        return np.concatenate([self.terms.df, tail]).astype(np.float64)

    def save(self, text: Path, about: Path) -> None:
        """Write ``text`` (a line a column: term, tab, df) and then ``about`` (JSON, with the SHA-256 of ``text``)."""
        digest = hashlib.sha256()
        with atomic.writing(text) as file:
            at = 0
            for block in self.terms.texts(self.joint):
                if _TO_ESCAPE.search("".join(block)):
                    block = [_escaped(term) for term in block]
                df = self.terms.df[at : at + len(block)].tolist()
                lines = "".join([f"{term}\t{n}\n" for term, n in zip(block, df, strict=True)])
                raw = lines.encode("utf-8", "replace")
                digest.update(raw)
                file.write(raw)
                at += len(block)
        body = {
            "nlpkit": "vocabulary", "format": 1, **self.made_with, "ngrams": list(self.ngrams),
            "terms": len(self.terms), "unknown": self.unknown, "unknown_df": self.unknown_df,
            "documents": self.documents, "mean_length": self.mean_length,
            "file": text.name, "sha256": digest.hexdigest(),
        }  # fmt: skip
        if self.labels:
            body["labels"] = list(self.labels)
        body["checksum"] = _checksum(body)
        atomic.write_bytes(about, (json.dumps(body, indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """The vocabulary of ``OUT.vocab.json`` (``OUT.npz`` and ``OUT.vocab.txt`` mean the same).

        :raises UsageError: no such file. :raises ArtifactError: damaged, or not a vocabulary.
        """
        path = Path(path)
        about = path if path.suffix == ".json" else beside(path)[1]
        if not about.is_file():
            raise UsageError(f"{about}: no such vocabulary; name the .vocab.json that nlpkit vectorize wrote")
        remedy = "make it again with nlpkit vectorize"
        try:
            body = json.loads(about.read_text(encoding="utf-8"))
            if body.get("nlpkit") != "vocabulary" or body.get("format") != 1:
                raise ArtifactError(f"{about}: not a vocabulary of this nlpkit; {remedy}")
            if body.pop("checksum") != _checksum(body):
                raise ArtifactError(f"{about}: damaged (its checksum differs); {remedy}")
        except (ValueError, KeyError, AttributeError, RecursionError) as error:
            raise ArtifactError(f"{about}: not a vocabulary: {error}; {remedy}") from error
        text = about.with_name(Path(body["file"]).name)
        if not text.is_file():
            raise ArtifactError(f"{text}: is missing, {about.name} needs it; {remedy}")
        with open(text, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != body["sha256"]:
                raise ArtifactError(f"{text}: damaged or not the one of {about.name}; {remedy}")
        keys = ("analyzer", "tokenizer", "recipe", "steps", "stopwords")
        low, high = body["ngrams"]
        return cls(
            _read_terms(text, high, body["analyzer"] == "char"),
            {k: body[k] for k in keys if k in body},
            (low, high),
            body["unknown"],
            body["documents"],
            body["mean_length"],
            body["unknown_df"],
            tuple(body.get("labels", ())),
        )


def _read_terms(path: Path, most: int, characters: bool) -> Terms:
    known: defaultdict[str, int] = defaultdict()
    known.default_factory = known.__len__
    words, sizes, dfs = array("i"), array("i"), array("q")
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            term, _, df = line.rpartition("\t")
            parts = list(_unescaped(term)) if characters else _unescaped(term).split(" ")
            words.extend(map(known.__getitem__, parts))
            sizes.append(len(parts))
            dfs.append(int(df))
    rows = np.full((len(sizes), most), -1, np.int32)
    rows[np.arange(most) < np.array(sizes)[:, None]] = np.array(words)
    return terms_of(list(known), rows, np.array(dfs, np.int64))


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


_TO_ESCAPE = re.compile(r"[\\\t\n\r]")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def _escaped(term: str) -> str:
    return _TO_ESCAPE.sub(lambda m: _ESCAPES[m[0]], term)


def _unescaped(term: str) -> str:
    back = {v: k for k, v in _ESCAPES.items()}
    return re.sub(r"\\[\\tnr]", lambda m: back[m[0]], term) if "\\" in term else term


def beside(output: str | Path) -> tuple[Path, Path]:
    """The two files of the vocabulary of a matrix.

    >>> [p.name for p in beside("out/news.jsonl.gz")]
    ['news.vocab.txt', 'news.vocab.json']
    """
    path = Path(output)
    while path.suffix in (*SUFFIXES, ".npz", ".jsonl", ".svm", ".svmlight", ".txt", ".json", ".vocab"):
        path = path.with_suffix("")
    return path.with_name(path.name + ".vocab.txt"), path.with_name(path.name + ".vocab.json")


def words_again(vocabulary: Vocabulary) -> Words:
    """The words that a vocabulary was made of, where it says all that decides them."""
    made = vocabulary.made_with
    if made["tokenizer"]:
        raise UsageError("the vocabulary was made with a tokenizer; name it with --tokenizer DIR")
    recipe = Recipe(tuple(made["steps"]), tuple(made.get("stopwords", ())))
    return words_of(recipe=recipe, analyzer=made["analyzer"])

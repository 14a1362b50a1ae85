"""Document-term matrices: one-hot, multi-hot, counts, tf-idf and BM25 weights of words and n-grams.

Shapes: N documents, R rows (N; for one-hot a row a token), C columns (terms, then one for unknown ones where asked),
Z entries. The text is read once; blocks of counts lie in temporary files; memory holds the distinct words and
n-grams and some bytes a row, never the text or the matrix. What is written opens with ``scipy.sparse.load_npz``.

Sources: tf-idf as scikit-learn's ``TfidfVectorizer`` has it (smoothed idf ``ln((1+N)/(1+df)) + 1``, rows of length
1); BM25 as in Robertson and Zaragoza 2009, section 3, with Lucene's idf, the form of ``nlpkit search``.
"""

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np

from nlpkit import console
from nlpkit.errors import ArtifactError, DataError, UsageError, did_you_mean
from nlpkit.store import atomic
from nlpkit.text.documents import Document, read_documents, required
from nlpkit.text.labels import Labels
from nlpkit.text.ngrams import Counted, Spool, Terms, blocks, learn
from nlpkit.text.records import json_line, record_of, writing
from nlpkit.text.vocabulary import Vocabulary, Words, beside, words_again, words_of

MODES = ("one-hot", "multi-hot", "count", "tf-idf", "bm25")
FORMATS = ("npz", "svmlight", "jsonl")
MOST_WORDS = 16  # of an n-gram
UNKNOWN = "[UNK]"  # the name of the column of unknown terms in records
K1, B = 1.2, 0.75  # BM25


def ngram_range(text: str) -> tuple[int, int]:
    """The range that ``1-3`` or ``2`` means.

    >>> ngram_range("1-3"), ngram_range("2")
    ((1, 3), (2, 2))
    """
    match = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high <= MOST_WORDS:
        raise UsageError(f"--ngrams {text!r}: a range such as 1-3 is needed, from 1 to {MOST_WORDS} words")
    return low, high


class Matrix:
    """A document-term matrix on disk, block by block: the counts; weights are made when it is read.

    ``shape`` (R, C); ``entries`` Z; ``starts`` (N+1) is where each document's rows begin; ``vocabulary`` its columns.
    """

    def __init__(self, vocabulary: Vocabulary, mode: str, sizes: np.ndarray) -> None:
        self.vocabulary, self.mode = vocabulary, mode
        per = sizes if mode == "one-hot" else np.ones(len(sizes), np.int64)
        self.starts = np.concatenate([[0], np.cumsum(per)])
        self.shape = (int(self.starts[-1]), vocabulary.width)
        self.entries = 0
        self._spool = Spool()

    def add(self, filled: np.ndarray, lengths: np.ndarray, columns: np.ndarray, counts: np.ndarray) -> None:
        """Append rows with ``filled`` entries each, of documents that are ``lengths`` terms long."""
        self.entries += len(columns)
        self._spool.put(*(x.astype(np.int32) for x in (filled, lengths, columns, counts)))

    @property
    def kind(self) -> type:
        """The type of the values: float64 of weights, int64 of counts."""
        return np.float64 if self.mode in ("tf-idf", "bm25") else np.int64

    def rows(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(entries of each row, columns, values) of each block; columns ascend within a row."""
        weigh = self._weights()
        for filled, lengths, columns, counts in self._spool:
            yield filled, columns, weigh(filled, lengths, columns, counts)

    def _weights(self) -> Callable[..., np.ndarray]:
        made, total = self.vocabulary, float(self.vocabulary.documents)
        df = made.df

        def ones(filled: np.ndarray, lengths: np.ndarray, columns: np.ndarray, counts: np.ndarray) -> Any:
            return np.ones(len(columns), np.int64)

        def times(filled: np.ndarray, lengths: np.ndarray, columns: np.ndarray, counts: np.ndarray) -> Any:
            return counts.astype(np.int64)

        def tf_idf(filled: np.ndarray, lengths: np.ndarray, columns: np.ndarray, counts: np.ndarray) -> Any:
            values = counts * (np.log((1 + total) / (1 + df)) + 1)[columns]
            row = np.repeat(np.arange(len(filled)), filled)
            length = np.sqrt(np.bincount(row, values * values, minlength=len(filled)))
            return values / length[row]

        def bm25(filled: np.ndarray, lengths: np.ndarray, columns: np.ndarray, counts: np.ndarray) -> Any:
            idf = np.log1p((total - df + 0.5) / (df + 0.5))
            norm = K1 * (1 - B + B * lengths / made.mean_length)
            return idf[columns] * counts / (counts + np.repeat(norm, filled))

        return {"tf-idf": tf_idf, "bm25": bm25, "count": times}.get(self.mode, ones)

    def close(self) -> None:
        """Give the disk back."""
        self._spool.close()

    # ------------------------------------------------------------------ as files

    def save(self, path: str | Path) -> None:
        """Write the npz layout of ``scipy.sparse.save_npz`` (CSR), with ``document_starts`` beside it for one-hot."""
        small = np.int32 if self.entries < 2**31 else np.int64
        with atomic.writing(path) as file, zipfile.ZipFile(file, "w") as archive:
            _member(archive, "format", np.array(b"csr"))
            _member(archive, "shape", np.array(self.shape, np.int64))
            ends = np.cumsum(np.concatenate([[0], *(filled for filled, *_ in self._spool)]), dtype=np.int64)
            _member(archive, "indptr", ends.astype(small))
            columns = (c for _, _, c, _ in self._spool)
            _streamed(archive, "indices", np.dtype(np.int32), self.entries, columns)
            _streamed(archive, "data", np.dtype(self.kind), self.entries, (v for _, _, v in self.rows()))
            if self.mode == "one-hot":
                _member(archive, "document_starts", self.starts)

    def write_svmlight(self, file: IO[bytes], labels: Sequence[str] | None = None) -> None:
        """Write a line a row: its document's label (N; else 0), then ``column:value``, columns counted from 1."""
        per = np.diff(self.starts).tolist()
        known = ["0"] * len(per) if labels is None else labels
        first = (label for label, rows in zip(known, per, strict=True) for _ in range(rows))
        for filled, columns, values in self.rows():
            cells = [f"{c}:{v!r}" for c, v in zip((columns + 1).tolist(), values.tolist(), strict=True)]
            at = 0
            for size in filled.tolist():
                file.write((" ".join([next(first), *cells[at : at + size]]) + "\n").encode())
                at += size

    def write_jsonl(self, file: IO[bytes], records: Iterable[dict[str, Any]]) -> None:
        """Write a record a row: the document's fields without its text, and ``vector``: term to value."""
        made = self.vocabulary
        names = [*chain.from_iterable(made.terms.texts(made.joint)), *([UNKNOWN] if made.unknown else [])]
        per = np.diff(self.starts).tolist()
        owners = (record for record, rows in zip(records, per, strict=True) for _ in range(rows))
        for filled, columns, values in self.rows():
            cells = list(zip([names[c] for c in columns.tolist()], values.tolist(), strict=True))
            at = 0
            for size in filled.tolist():
                file.write(json_line({**next(owners), "vector": dict(cells[at : at + size])}))
                at += size


def _member(archive: zipfile.ZipFile, name: str, value: np.ndarray) -> None:
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
        np.lib.format.write_array(file, value, allow_pickle=False)


def _streamed(
    archive: zipfile.ZipFile, name: str, kind: np.dtype, size: int, parts: Iterable[np.ndarray]
) -> None:
    """An array of the archive, written as its parts come."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
        about = {"descr": kind.str, "fortran_order": False, "shape": (size,)}
        np.lib.format.write_array_header_1_0(file, about)
        for part in parts:
            file.write(np.ascontiguousarray(part, kind).data)


# ---------------------------------------------------------------------- from text to matrix


def matrix(
    texts: Iterable[Sequence[str]],
    words: Words,
    *,
    mode: str = "count",
    ngrams: tuple[int, int] = (1, 1),
    vocab_size: int | None = None,
    min_df: int = 1,
    unknown: bool = False,
    vocabulary: Vocabulary | None = None,
) -> Matrix:
    """The document-term matrix of blocks of texts; close it.

    Without ``vocabulary`` the columns are learned: n-grams of ``ngrams`` words that are in ``min_df`` documents or
    more, of these the ``vocab_size`` most frequent, in sorted order. With it, its columns, document frequencies and
    mean length are used (``ngrams`` and ``unknown`` are its own then).

    :raises UsageError: an unknown mode. :raises DataError: no term is left. :raises ArtifactError: the vocabulary
        was made with other words.
    """
    if mode not in MODES:
        raise UsageError(f"--mode {mode!r} is not known{did_you_mean(mode, MODES)}")
    if vocabulary is not None:
        _check_same(vocabulary, words)
        ngrams, unknown = vocabulary.ngrams, vocabulary.unknown
    low, high = ngrams
    if mode == "one-hot" and high > 1:
        raise UsageError("--mode one-hot has a row a token, so no n-grams; use --ngrams 1 or another mode")
    with closing(Counted(high, keep_tokens=mode == "one-hot")) as counted:
        with console.progress("vectorize", unit="documents") as bar:
            for block in texts:
                counted.add(*words.ids(block))
                bar.advance(len(block))
        sizes = counted.sizes
        lengths = sum(np.maximum(sizes - (n - 1), 0) for n in range(low, high + 1))
        used = _used(counted, words.size)
        places: list[Spool] = []
        rank = np.full(words.size, -1)
        if vocabulary is None:
            names = words.names(used.tolist())
            order = sorted(range(len(names)), key=names.__getitem__)
            rank[used[order]] = np.arange(len(order))
            names = [names[i] for i in order]
            terms, places = learn(
                counted, names, rank, low, joint=words.joint, min_df=min_df, most=vocab_size
            )
            if not len(terms):
                seen = f"{len(sizes):,} documents with {int(sizes.sum()):,} words"
                raise DataError(f"no term is left of {seen}; give more text or a lower --min-df")
            mean = float(np.mean(lengths))
            vocabulary = Vocabulary(terms, words.made_with, ngrams, unknown, len(sizes), mean)
            fresh = True
        else:
            terms, fresh = vocabulary.terms, False
            known = {name: i for i, name in enumerate(terms.names)}
            rank[used] = [known.get(name, -1) for name in words.names(used.tolist())]
            for n in range(1, high + 1):
                before = places[-1] if places else None
                places.append(counted.places(n, before, rank, terms.keys[n - 1]))
        made = Matrix(vocabulary, mode, sizes)
        df = 0
        for filled, long, columns, counts in _entries(counted, terms, places, low, unknown):
            last = np.repeat(np.arange(len(filled)), filled)[columns == len(terms)]
            df += len(last)
            if mode != "one-hot":
                made.add(filled, long, columns, counts)
        if fresh:
            vocabulary.unknown_df = df
        if mode == "one-hot":
            for row in _one_hot(counted, terms, rank, unknown):
                made.add(*row)
        for spool in places:
            spool.close()
        return made


def _check_same(vocabulary: Vocabulary, words: Words) -> None:
    theirs, ours = vocabulary.made_with, words.made_with
    for key, what in (("analyzer", "analyzer"), ("tokenizer", "tokenizer"), ("recipe", "recipe")):
        if theirs[key] != ours[key]:
            said = [str(x[key])[:12] or "none" for x in (theirs, ours)]
            raise ArtifactError(
                f"the vocabulary was made with another {what} ({said[0]}, this is {said[1]}); use the one that it "
                "was made with, or make a vocabulary with this one"
            )


def _used(counted: Counted, size: int) -> np.ndarray:
    """The ids that occur, ascending."""
    seen = np.zeros(size, bool)
    for _, word, _, _ in counted.grams[0]:
        seen[word] = True
    return np.flatnonzero(seen)


def _entries(
    counted: Counted, terms: Terms, places: list[Spool], low: int, unknown: bool
) -> Iterator[tuple[np.ndarray, ...]]:
    """(entries of each document, its length, columns, counts) of each block, by document, then column."""
    levels = range(low - 1, len(places))
    streams = [zip(counted.pairs[n], places[n], strict=True) for n in levels]
    column_of = [np.append(terms.columns[n], -1) for n in levels]  # the place -1 finds the last
    for sizes, *found in zip(counted.blocks, *streams, strict=True):
        parts = []
        for ((document, gram, count), (place,)), column in zip(found, column_of, strict=True):
            where = column[place[gram]]
            kept = where >= 0
            parts.append((document[kept].astype(np.int64), where[kept], count[kept].astype(np.int64)))
        document, columns, counts = (np.concatenate(x) for x in zip(*parts, strict=True))
        long = np.asarray(sum(np.maximum(sizes - n, 0) for n in levels), np.int64)
        if unknown:
            left = long - np.bincount(document, counts, minlength=len(sizes)).astype(np.int64)
            some = np.flatnonzero(left)
            document = np.concatenate([document, some])
            columns = np.concatenate([columns, np.full(len(some), len(terms))])
            counts = np.concatenate([counts, left[some]])
        order = np.argsort(document * (len(terms) + 1) + columns)
        yield np.bincount(document, minlength=len(sizes)), long, columns[order], counts[order]


def _one_hot(
    counted: Counted, terms: Terms, rank: np.ndarray, unknown: bool
) -> Iterator[tuple[np.ndarray, ...]]:
    """(entries of each token's row, 1, columns, 1) of each block."""
    assert counted.tokens is not None
    known = terms.keys[0]
    column_of = np.full(len(rank), -1)
    if len(known):
        at = np.minimum(np.searchsorted(known, rank), len(known) - 1)
        column_of = np.where(known[at] == rank, terms.columns[0][at], -1)
    if unknown:
        column_of[column_of < 0] = len(terms)
    for (ids,) in counted.tokens:
        columns = column_of[ids]
        filled = columns >= 0
        yield filled, np.ones(len(ids)), columns[filled], np.ones(int(filled.sum()))


def vectorize(
    paths: Sequence[str | Path],
    output: str,
    *,
    mode: str = "count",
    format: str | None = None,
    words: Words | None = None,
    ngrams: tuple[int, int] | None = None,
    vocab_size: int | None = None,
    min_df: int | None = None,
    unknown: bool = False,
    vocabulary: Vocabulary | None = None,
    label_field: str | None = None,
    force: bool = False,
    input_format: str | None = None,
    **reading: Any,
) -> dict[str, int]:
    """Write the document-term matrix of ``paths`` and its vocabulary; its rows, columns and entries.

    ``words`` None: those of ``vocabulary``, or else of the default recipe. ``label_field``: the field with the labels
    of svmlight. ``reading`` goes to :func:`~nlpkit.text.documents.read_documents`.

    :raises DataError: no documents, or no term is left. The other errors are those of :func:`matrix`.
    """
    form = format or _format_of(output)
    if form not in FORMATS:
        raise UsageError(f"--format {form!r} is not known{did_you_mean(form, FORMATS)}")
    if form == "npz" and not output.endswith(".npz"):
        raise UsageError(f"{output}: a matrix is named NAME.npz (or choose --format svmlight or jsonl)")
    if label_field is not None and form != "svmlight":
        raise UsageError("--label-field is for svmlight; add --format svmlight or leave it out")
    if vocabulary is not None and (vocab_size is not None or min_df is not None or unknown):
        raise UsageError("--vocabulary has its columns; leave out --vocab-size, --min-df and --unknown")
    if vocabulary is not None and ngrams not in (None, vocabulary.ngrams):
        raise UsageError(
            f"--vocabulary has n-grams of {vocabulary.ngrams[0]}-{vocabulary.ngrams[1]} words; leave out --ngrams"
        )
    if words is None:
        words = words_of() if vocabulary is None else words_again(vocabulary)
    files = () if output == "-" else (Path(output), *beside(output))
    for path in files:
        atomic.refuse_existing(path, force)
    records = Records() if form == "jsonl" else None
    labels = Labels(label_field, vocabulary.labels if vocabulary else ()) if label_field is not None else None
    documents = required(read_documents(paths, format=input_format, **reading), paths)
    for kept in (records, labels):
        documents = kept.keep(documents) if kept is not None else documents
    texts = ([d.text for d in block] for block in blocks(documents))
    made = matrix(
        texts, words, mode=mode, ngrams=ngrams or (1, 1), vocab_size=vocab_size, min_df=min_df or 1,
        unknown=unknown, vocabulary=vocabulary,
    )  # fmt: skip
    with closing(made):
        if form == "npz":
            made.save(output)
        else:
            numbers = labels.numbers() if labels is not None else None
            made.vocabulary.labels = tuple(labels.names) if labels is not None else made.vocabulary.labels
            with writing(output, force) as file:
                if records is None:
                    made.write_svmlight(file, numbers)
                else:
                    made.write_jsonl(file, records)
        if files:
            made.vocabulary.save(*files[1:])
        if labels is not None and labels.names:
            console.note(f"{output}: {labels.summary()}")
        return {"rows": made.shape[0], "columns": made.shape[1], "entries": made.entries}


def _format_of(output: str) -> str:
    name = Path(output).name
    return "jsonl" if ".jsonl" in name else "svmlight" if ".svm" in name else "npz"


class Records:
    """What documents are besides their text, put aside while they pass and read back once."""

    def __init__(self) -> None:
        self._spool = Spool()

    def keep(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Pass documents on."""
        for document in documents:
            record = record_of(document)
            record.pop("text", None)
            self._spool.put(np.frombuffer(json.dumps(record).encode(), np.uint8))
            yield document

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for (raw,) in self._spool:
            yield json.loads(raw.tobytes())

"""The texts of a language model's run: named sources, without what is in its evaluation files, as tokens on disk."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nlpkit import console
from nlpkit.data import tokens
from nlpkit.data.tokens import Tokens
from nlpkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from nlpkit.text.documents import Document
    from nlpkit.text.tokenizer import Tokenizer

_NAMED = re.compile(r"([\w-]+)=(.+)", re.DOTALL)
OFF = ""  # among the files of data.decontaminate: look for nothing


def named(path: str) -> tuple[str, str]:
    """(name, path) of an input: what stands before ``=``, or else the file's name up to its first dot.

    >>> named("web=crawl/part.txt.gz"), named("texts/books.txt.gz")
    (('web', 'crawl/part.txt.gz'), ('books', 'texts/books.txt.gz'))
    """
    found = _NAMED.fullmatch(path)
    if found and not Path(path).exists():
        return found[1], found[2]
    return Path(path).name.split(".")[0] or path, path


def paths_of(inputs: Sequence[str]) -> list[str]:
    """The inputs without their names."""
    return [named(i)[1] for i in inputs]


def is_shard(path: str) -> bool:
    """Whether a path is a token shard with its sidecar."""
    found = Path(path)
    return found.suffix in (".npy", ".bin") and found.with_suffix(".json").is_file()


def read_tokens(
    inputs: Sequence[str],
    tokenizer: "Tokenizer",
    folder: Path,
    *,
    documents: str,
    apart: bool = False,
    against: Sequence[str] = (),
) -> Tokens:
    """The tokens kept in ``folder``, or those of shards, or of documents that are encoded into ``folder``.

    ``apart``: every input is a source with a name. ``against``: evaluation files; documents that share a run of 13
    words with them are left out. Raises UsageError for two sources of one name, DataError for one without text.
    """
    names = [named(i) for i in inputs]
    if apart:
        twice = next((n for k, (n, _) in enumerate(names) if n in [m for m, _ in names[:k]]), None)
        if twice is not None:
            raise UsageError(f"two inputs are called {twice!r}; give them names: --data {twice}2=PATH")
    if any(is_shard(p) for _, p in names):
        if len(inputs) > 1:
            raise UsageError("one token shard at a time; give text files instead, or join the shards' texts")
        if against:
            console.note(f"{names[0][1]}: is a token shard, so nothing can be looked for in its texts")
        made = tokens.from_shard(names[0][1], tokenizer)
        return replace(made, sources=((names[0][0], len(made.lengths)),)) if apart else made
    if not folder.exists():
        groups = {n: [p] for n, p in names} if apart else {"": [p for _, p in names]}
        sift = _Sift(against, documents) if against else None
        parts = {n: _documents(paths, documents, sift) for n, paths in groups.items()}
        made = tokens.prepare(parts, tokenizer, folder)
        if sift is not None and sift.dropped:
            console.note(sift.told())
        return made
    return tokens.open_tokens(folder, tokenizer)


def _documents(paths: Sequence[str], unit: str, sift: "_Sift | None") -> "Iterator[Document]":
    from nlpkit.text.documents import read_documents, required

    found = required(read_documents(paths, documents=unit), paths)
    return found if sift is None else sift(found, paths)


class _Sift:
    """Lets pass the documents that hold nothing of the evaluation files, and counts the others."""

    def __init__(self, files: Sequence[str], documents: str) -> None:
        from nlpkit.text.decontaminate import Evaluation
        from nlpkit.text.documents import Counts

        self.files = files
        # What is replaced in the validation file is said where it is read to be measured on.
        self.evaluation = Evaluation(files, documents=documents, counted=Counts())
        self.read = self.dropped = 0

    def __call__(self, documents: "Iterable[Document]", paths: Sequence[str]) -> "Iterator[Document]":
        from nlpkit.text.documents import batches

        read = kept = 0
        for batch in batches(documents):
            found = self.evaluation.shared([document.text for document in batch])
            clean = [document for document, one in zip(batch, found, strict=True) if one is None]
            read, kept = read + len(batch), kept + len(clean)
            yield from clean
        self.read, self.dropped = self.read + read, self.dropped + read - kept
        if read and not kept:
            raise DataError(
                f"{', '.join(paths)}: each of its {read:,} documents shares a run of {self.evaluation.ngram} words "
                f"with {', '.join(self.files)}; give other text or smaller documents, or keep them: "
                "-s 'data.decontaminate=[\"\"]'"
            )

    def told(self) -> str:
        """How many documents were left out, in one line."""
        return (
            f"{self.dropped:,} of {self.read:,} documents share a run of {self.evaluation.ngram} words with "
            f"{', '.join(self.files)} and are left out (data.decontaminate)"
        )


def evaluation_files(decontaminate: Sequence[str], valid: str) -> list[str]:
    """What training texts must not share: the files named and the validation file; none where ``""`` is among them."""
    if OFF in decontaminate:
        return []
    if valid and is_shard(valid):
        console.note(f"{valid}: is a token shard, so its texts cannot be looked for in the training text")
        valid = ""
    if missing := [f for f in decontaminate if not Path(f).exists()]:
        raise UsageError(f"data.decontaminate: {missing[0]}: no such file; check the path")
    return list(dict.fromkeys([*decontaminate, *([valid] if valid else [])]))

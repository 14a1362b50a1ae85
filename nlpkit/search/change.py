"""Documents into the record: ids, duplicates, vectors; and the making of a new index."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nlpkit import console
from nlpkit.errors import DataError
from nlpkit.search import encode
from nlpkit.search import folder as folders
from nlpkit.search.analyze import STEPS, Analyzer, joined
from nlpkit.search.derived import View
from nlpkit.search.encode import Encoder
from nlpkit.search.folder import Settings
from nlpkit.search.store import Store, clean, create, explained, fault
from nlpkit.search.writer import take_over
from nlpkit.store.atomic import building, refuse_existing
from nlpkit.text.documents import Document
from nlpkit.text.standardize import Recipe

BATCH = 1000  # documents read, encoded and written at a time


@dataclass(slots=True)
class Changed:
    """What a change did. ``same``: documents without an id whose content is in the index already, kept once."""

    added: int = 0
    updated: int = 0
    same: int = 0
    empty: int = 0

    def words(self) -> str:
        """One line for a person.

        >>> Changed(added=2, same=1).words()
        '2 added, 1 without an id left out because the same text is there'
        """
        said = [f"{self.added:,} added"]
        if self.updated:
            said.append(f"{self.updated:,} updated")
        if self.same:
            said.append(f"{self.same:,} without an id left out because the same text is there")
        if self.empty:
            said.append(f"{self.empty:,} empty")
        return ", ".join(said)


def content_id(title: str, text: str) -> str:
    """The id of a document that has none: 16 hexadecimal digits of its content.

    >>> content_id("", "a")
    'ca978112ca1bbdca'
    """
    return hashlib.sha256(f"{title}\0{text}".encode() if title else text.encode()).hexdigest()[:16]


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """``documents`` in lists of :data:`BATCH`."""
    source = iter(documents)
    while batch := list(islice(source, BATCH)):
        yield batch


def insert(
    store: Store,
    batch: list[Document],
    encoder: Encoder | None,
    changed: Changed,
    *,
    update: bool,
    fresh: bool,
) -> None:
    """Write a batch into the open transaction.

    ``update`` replaces documents of the same id; otherwise such an id is a DataError. ``fresh``: the index is new,
    so the other document of that id came in the same input.
    """
    texts = [(clean(d.title), clean(d.text)) for d in batch]
    made = None if encoder is None else encode.vectors(encoder, [joined(*pair) for pair in texts])
    for i, (document, (title, text)) in enumerate(zip(batch, texts, strict=True)):
        name = clean(document.id) or content_id(title, text)
        there = store.find([name]).get(name)
        if there is not None:
            if not document.id:
                changed.same += 1
                continue
            if not update:
                raise DataError(
                    f"document id {name!r} occurs twice; give each document its own id (--id-field names the field)"
                    if fresh
                    else f"document id {name!r} is in the index or the input already; to replace it use --update"
                )
            store.remove([there])
            changed.updated += 1
        else:
            changed.added += 1
        changed.empty += not joined(title, text).strip()
        store.insert(name, title, text, document.fields, None if made is None else made[i])


def remove(store: Store, ids: list[str]) -> int:
    """Delete documents by id inside the open transaction; an unknown id is a DataError and nothing changes."""
    wanted = list(dict.fromkeys(ids))
    rows = store.find(wanted)
    missing = [name for name in wanted if name not in rows]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(f"no document {missing[0]!r}{more} in the index; nothing was deleted; check the id")
    store.remove(list(rows.values()))
    return len(rows)


def build(
    documents: Iterable[Document],
    output: str | Path,
    *,
    encoder: Encoder | None,
    encoder_path: str,
    recipe: Recipe | None,
    k1: float,
    b: float,
    weight: float,
    force: bool,
) -> Changed:
    """Make an index folder: it appears whole or not at all, and with ``force`` replaces an older index."""
    output = refuse_existing(output, force)
    folders.replaceable(output, force)
    analyzer = Analyzer(Recipe(STEPS) if recipe is None else recipe)
    settings = Settings(analyzer.recipe.steps, analyzer.recipe.stopwords, k1, b, weight)
    if encoder is not None:
        settings = Settings(
            *(settings.recipe, settings.stopwords, k1, b, weight),
            encoder=encode.stored_path(encoder_path, output),
            encoder_fingerprint=encoder.fingerprint,
            tokenizer_fingerprint=encode.tokenizer_fingerprint(encoder),
            encoder_recipe=encode.recipe_hash(encoder),
            width=encoder.width,
        )
    changed = Changed()
    with take_over(output), building(output, force=force) as made, console.progress("indexing") as bar:
        store = create(made)
        try:
            with explained(store.path):
                for batch in batches(documents):
                    insert(store, batch, encoder, changed, update=False, fresh=True)
                    bar.advance(len(batch), f"{changed.added:,} documents")
                if not changed.added:
                    raise DataError("no documents to index: the input is empty; give it some")
                store.connection.execute("COMMIT")
                fault("built")
                view = View.rebuild(store, settings, analyzer)
                store.connection.execute("BEGIN")
                store.trim(view.seq)
                store.connection.execute("COMMIT")
                store.connection.execute("PRAGMA journal_mode=DELETE")
        finally:
            store.connection.close()
        entry = view.write(made, 1)
        folders.seal(
            made,
            settings,
            entry,
            documents=changed.added,
            recipe_hash=analyzer.recipe.hash,
            generation=1,
        )
    return changed

"""Documents into the record: ids, duplicates, what is unchanged, passages and their vectors."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from nlpkit import console
from nlpkit.errors import DataError
from nlpkit.search import encode
from nlpkit.search.analyze import joined, passages
from nlpkit.search.connections import fault
from nlpkit.search.encode import Encoder
from nlpkit.search.folder import Settings
from nlpkit.search.segments import PASSAGES
from nlpkit.search.store import KEY, Store, clean, content_key, packed
from nlpkit.text.documents import Document

if TYPE_CHECKING:
    from nlpkit.text.chunk import Chunks

BATCH = 1000  # documents read and written at a time
EMBEDDED = 512  # passages encoded, and while an index is built committed, at a time
MakeEncoder = Callable[[int], Encoder]  # of how many texts have to be encoded
Holders = Callable[[Sequence[str]], dict[str, list[int]]]


@dataclass(slots=True)
class Changed:
    """What a change did. ``same``: documents without an id whose content is in the index already, kept once.

    ``unchanged``: documents that were to be updated and are there as they are; ``embedded``: passages that went through
    the model; ``cached``: passages whose vectors were there already.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    same: int = 0
    empty: int = 0
    embedded: int = 0
    cached: int = 0

    def words(self) -> str:
        """One line for a person.

        >>> Changed(added=2, same=1).words()
        '2 added, 1 without an id left out because the same text is there'
        """
        said = [f"{self.added:,} added"]
        if self.updated:
            said.append(f"{self.updated:,} updated")
        if self.unchanged:
            said.append(f"{self.unchanged:,} unchanged")
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


class Inserting:
    """Writes documents into the open transaction of ``store``, in batches; vectors come later (:func:`embed`).

    ``update`` replaces documents of the same id; otherwise such an id is a DataError. ``encoder`` opens the model of
    the index, whose tokens measure passages. ``holders`` knows documents by another way than the record's index of ids,
    so that damage there cannot make an id occur twice; without it the index is new, and the other document of an id
    came in the same input.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        changed: Changed,
        encoder: MakeEncoder,
        *,
        update: bool = False,
        holders: Holders | None = None,
    ) -> None:
        self.store, self.changed, self.update, self._holders = store, changed, update, holders
        self._settings, self._encoder = settings, encoder
        self._chunks: Chunks | None = None
        self._removed: set[int] = set()

    def insert(self, batch: Sequence[Document]) -> list[tuple[str, bytes]]:
        """Write a batch; (passage, content hash) of each passage that has to have a vector."""
        texts = [(clean(d.title), clean(d.text)) for d in batch]
        names = [clean(d.id) or content_id(*pair) for d, pair in zip(batch, texts, strict=True)]
        there = self._there(list(dict.fromkeys(names)))
        made: list[tuple[str, bytes]] = []
        for document, name, (title, text) in zip(batch, names, texts, strict=True):
            row = there.get(name)
            fields = packed(document.fields)
            if row is not None:
                if not document.id:
                    self.changed.same += 1
                    continue
                if not self.update:
                    raise DataError(self._twice(name))
                if self._equal(row, title, text, fields):
                    self.changed.unchanged += 1
                    continue
                self.store.remove([row])
                self._removed.add(row)
                self.changed.updated += 1
            else:
                self.changed.added += 1
            self.changed.empty += not joined(title, text).strip()
            spans = self._spans(name, text)
            keys = b""
            if self._settings.encoder:
                parts = passages(title, text, spans)
                hashes = [content_key(passage) for passage in parts]
                made += zip(parts, hashes, strict=True)
                keys = b"".join(hashes)
            packed_spans = np.array(spans, "<i4").tobytes()
            there[name] = self.store.insert(name, title, text, fields, packed_spans, keys)
        return made

    def _twice(self, name: str) -> str:
        if self._holders is None:
            return f"document id {name!r} occurs twice; give each document its own id (--id-field names the field)"
        return f"document id {name!r} is in the index or the input already; to replace it use: nlpkit index update"

    def _there(self, names: list[str]) -> dict[str, int]:
        """The rows of ids that are there, whatever the record's index says."""
        found = self.store.find(names)
        absent = [name for name in names if name not in found]
        if self._holders is not None and absent:
            for name, rows in self._holders(absent).items():
                _refuse(self.store, name, [row for row in rows if row not in self._removed])
        return found

    def _equal(self, row: int, title: str, text: str, fields: str) -> bool:
        known = self.store.fetch([row])[row]
        return (known.title, known.text, packed(known.fields)) == (title, text, fields)

    def _spans(self, name: str, text: str) -> list[tuple[int, int]]:
        size, overlap = self._settings.chunk
        if not size:
            return []
        if self._chunks is None:
            from nlpkit.text.chunk import Chunks

            encoder = self._encoder(1) if self._settings.encoder else None
            self._chunks = Chunks(size, overlap, getattr(encoder, "tokenizer", None))
        spans = self._chunks.spans(text)
        if len(spans) >= 1 << PASSAGES:
            raise DataError(
                f"document {name!r} has {len(spans):,} passages; split it (up to {1 << PASSAGES:,})"
            )
        return [] if spans == [(0, len(text))] else spans


def embed(
    store: Store,
    wanted: Sequence[tuple[str, bytes]],
    encoder: MakeEncoder,
    changed: Changed,
    after: Callable[[int], None] = lambda count: None,
) -> None:
    """Give every passage a vector: those whose content has none go through the model, :data:`EMBEDDED` at a time.

    ``after`` is called with the number of passages each time some were written.
    """
    distinct = {key: passage for passage, key in wanted}
    there = store.embedded(list(distinct))
    missing = [(passage, key) for key, passage in distinct.items() if key not in there]
    changed.cached += len(wanted) - len(missing)
    if not missing:
        return
    model = encoder(len(missing))
    for start in range(0, len(missing), EMBEDDED):
        some = missing[start : start + EMBEDDED]
        store.embed(
            [key for _, key in some], encode.vectors(model, [passage for passage, _ in some], "document")
        )
        changed.embedded += len(some)
        after(len(some))


def embed_all(store: Store, encoder: Encoder, changed: Changed) -> None:
    """Give all documents of a new index their vectors, committing as it goes: a later call goes on from there."""
    total = sum(n // KEY for (n,) in store.connection.execute("SELECT length(keys) FROM documents"))

    def committed(count: int) -> None:
        store.commit()
        fault("embedded")
        store.begin()
        bar.advance(count, f"{changed.embedded:,} passages")

    with console.progress("encoding", total=total, unit="passages") as bar:
        store.begin()
        waiting: list[tuple[str, bytes]] = []
        for batch in store.scan():
            for one in batch:
                hashes = [one.keys[at : at + KEY] for at in range(0, len(one.keys), KEY)]
                waiting += zip(passages(one.title, one.text, one.spans), hashes, strict=True)
            before = changed.cached
            embed(store, waiting, lambda count: encoder, changed, committed)
            bar.advance(changed.cached - before)
            waiting = []
        store.commit()


def remove(store: Store, ids: list[str], holders: Holders) -> int:
    """Delete documents by id inside the open transaction; an unknown id is a DataError and nothing changes."""
    wanted = list(dict.fromkeys(ids))
    rows = store.find(wanted)
    missing = [name for name in wanted if name not in rows]
    for name, there in holders(missing).items():
        _refuse(store, name, there)
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(f"no document {missing[0]!r}{more} in the index; nothing was deleted; check the id")
    store.remove(list(rows.values()))
    return len(rows)


def _refuse(store: Store, name: str, rows: list[int]) -> None:
    """An id that is not found has no document. Rows that only share its hash are another's."""
    for row, one in store.fetch(rows).items():
        if one.id == name:
            raise store.damaged(f"document {name!r} is in row {row}, and its id is not found")

"""The labels of documents as the numbers that an svmlight file begins its lines with.

Numbers stay as they are. Labels that are text are numbered from 0 in sorted order, and the vocabulary file keeps the
list, so that a second file has the same numbers. Memory: 4 bytes a document and the distinct labels.
"""

import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nlpkit.errors import DataError, did_you_mean
from nlpkit.text.documents import Document
from nlpkit.text.records import record_of

_NUMBER = re.compile(r"[-+]?\d{1,15}(\.\d{1,15})?", re.ASCII)


class Labels:
    """Takes the labels of documents while they pass.

    >>> labels = Labels("y")
    >>> documents = labels.keep(Document("", fields={"y": y}) for y in ("b", "a", "b"))
    >>> [len(list(documents)), *labels.numbers()], labels.names
    ([3, '1', '0', '1'], ['a', 'b'])
    """

    def __init__(self, field: str, names: Sequence[str] = ()) -> None:
        self.field = field
        self.names = list(names)  # of labels that are text, in the order of their numbers
        self._known: dict[str, int] = {}
        self._codes = array("i")

    def keep(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Pass documents on.

        :raises DataError: a document without the field, or with something else in it than a number or text.
        """
        for number, document in enumerate(documents, 1):
            label = self._spelled(document, number)
            self._codes.append(self._known.setdefault(label, len(self._known)))
            yield document

    def _spelled(self, document: Document, number: int) -> str:
        record = record_of(document)
        if self.field not in record:
            known = did_you_mean(self.field, [name for name in record if name != "text"])
            raise DataError(f"document {number}: no field {self.field!r}{known} (--label-field)")
        value: Any = record[self.field]
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))):
            kind = "null" if value is None else type(value).__name__
            raise DataError(f"document {number}: label {self.field!r} is no number or text but {kind}")
        return value if isinstance(value, str) else repr(value)

    def numbers(self) -> list[str]:
        """The number of each document, as it is written (D,).

        :raises DataError: a label that is not among the ``names`` that were given.
        """
        if not self.names and not all(map(_NUMBER.fullmatch, self._known)):
            self.names = sorted(self._known)
        spelled = list(self._known)
        if self.names:
            place = {name: str(i) for i, name in enumerate(self.names)}
            new = next((name for name in spelled if name not in place), None)
            if new is not None:
                raise DataError(
                    f"label {new[:40]!r} is not among the {len(place)} of the vocabulary"
                    f"{did_you_mean(new, place) if len(place) < 20 else ''}; vectorize both together or mend it"
                )
            spelled = [place[name] for name in spelled]
        return [spelled[code] for code in self._codes]

    def summary(self) -> str:
        """The numbers of the names in one line; empty where labels were numbers.

        >>> Labels("y", ["a", "b"]).summary()
        'labels: 0 a, 1 b'
        """
        shown = [f"{i} {' '.join(name.split())[:40]}" for i, name in enumerate(self.names[:20])]
        more = f" and {len(self.names) - 20:,} more" if len(self.names) > 20 else ""
        return f"labels: {', '.join(shown)}{more}" if shown else ""

"""The text of PDF files, a page after another, read by pypdf.

A page ends with a form feed (``\\f``), so that the number of form feeds before a character is its page's number less
one. Nothing is recognised in pictures: a scanned page has no text.
"""

import logging
from collections.abc import Iterator
from typing import IO, Any

from nlpkit.errors import DataError, UsageError
from nlpkit.text.documents import Counts, without_surrogates

MAGIC = b"%PDF-"


class Encrypted(DataError):
    """A PDF that cannot be read without its password."""


class Pdf:
    """An open PDF: its ``title`` (empty when it has none), and its pages.

    :raises UsageError: pypdf is not installed. :raises Encrypted: it needs a password.
    :raises DataError: it is broken.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        try:
            import pypdf
        except ModuleNotFoundError as error:
            raise UsageError("reading PDF needs pypdf; run: pip install 'nlpkit[docs]'") from error
        logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it says of every repair that it made it
        self.name = name
        self.failed = 0  # pages that could not be read
        try:
            self._reader = pypdf.PdfReader(file)
            if self._reader.is_encrypted and not self._opened():
                raise Encrypted(f"{name}: the PDF is encrypted; decrypt it first (qpdf --decrypt IN OUT)")
            self.pages = len(self._reader.pages)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # a broken file ends in any of them
            reason = " ".join(str(error).split())[:160].rstrip(".") or type(error).__name__
            raise DataError(f"{name}: damaged or not PDF ({reason}); restore it from its source") from error
        self.title = self._title()

    def _opened(self) -> bool:
        """Whether the empty password opens it, as with files that only forbid printing."""
        try:
            return bool(self._reader.decrypt(""))
        except MemoryError:
            raise
        except Exception:  # a cipher that is not installed, a dictionary that is broken
            return False

    def _title(self) -> str:
        try:
            found: Any = self._reader.metadata and self._reader.metadata.title
        except MemoryError:
            raise
        except Exception:  # a title is not worth a file
            return ""
        return " ".join(without_surrogates(found, Counts()).split()) if isinstance(found, str) else ""

    def texts(self, limit: int) -> Iterator[str]:
        """The text of all pages, each ended by a form feed but the last; in several parts where it is over ``limit``
        characters, parted between pages."""
        held: list[str] = []
        size = 0
        for number in range(self.pages):
            text = self._page(number)
            if held and size + len(text) > limit:
                yield "".join(held)
                held, size = [], 0
            held.append(text if number == self.pages - 1 else text + "\f")
            size += len(held[-1])
        yield "".join(held)

    def _page(self, number: int) -> str:
        try:
            text = self._reader.pages[number].extract_text()
        except MemoryError:
            raise
        except Exception:  # as above; the other pages are still worth having
            self.failed += 1
            return ""
        return without_surrogates(text, Counts()).replace("\f", "\n").strip("\n")

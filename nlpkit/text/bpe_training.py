"""Byte-level BPE learned from bulk text by a faster library (gigabpe) with the merges of ``tokenizers``' own trainer.

The library counts the pieces of GPT-2's split (Radford et al. 2019) line by line and keeps each line's end. Documents
are therefore put aside in a file, a line each: a line end inside a document becomes a vertical tab (its neighbour in
the order of the byte alphabet, and white space alike), and white space at a document's end goes to a line of its own,
before characters that no merge can reach. All pieces that hold a pair are then counted as in the documents. The
library is compared with ``tokenizers`` on a probe whenever it is loaded.
"""

import itertools
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import IO, Any

from nlpkit import console
from nlpkit.errors import NlpkitError

LIBRARY = "gigabpe"
SMALL = 1 << 20  # bytes; below, the probe costs more than the library saves
LARGE = 1 << 23  # bytes; from here on the lack of the library is worth a word
_SPACE = (
    "\t\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # White_Space but the line end
)
_ENDS = frozenset(c.encode()[-1] for c in map(chr, range(0x3001)) if re.match(f"[{_SPACE}\n]", c))
_TRAILING = re.compile(f"[{_SPACE}\n]+\\Z")
#: What trainers disagree about first: ties, runs, contractions, odd white space, marks, several scripts.
_PROBE = (
    "low lower lowest newer newest wider", "aaaa aaa aaaaa aa aaaaaaa", "----- --- -- ------", "x  \ny", "end   ",
    "can't don't I'll we've they're it's I'm DON'T", "a\u00a0\u00a0\u3000 b\t\t c", "    if x:\n        return\n\n\n",
    "naïve café e\u0301", "日本語のテキスト日本語", "русский язык русский", "👍🏽 👍🏽 🇩🇪", "12 123 1234 ½ ²",
    "[PAD] <|endoftext|>",
    "a\rb\r\rc", "\u2028\u2028 \x85", "abc bc abcbc abcab", "\n\n  ", "\x1c\x1f x\x00\x00y",
)  # fmt: skip


class Disagreement(Exception):
    """The library is not there, failed, or does not learn what ``tokenizers`` learns."""


def lines_of(items: Iterable[str | bytes]) -> Iterator[str]:
    """Every document of a stream of documents (``str``) and of blocks of lines (``bytes``, a document a line)."""
    for item in items:
        if isinstance(item, str):
            yield item
        else:
            yield from item.decode().removesuffix("\n").split("\n")


class Documents:
    """Documents put aside in a temporary file, one a line, until the library reads them."""

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.NamedTemporaryFile(prefix="nlpkit-")
        self.breaks = False  # whether a document has a line end inside, written as a vertical tab
        self._tabs = False  # whether one has a vertical tab of its own
        self._seen = b""  # every byte that was met

    def __enter__(self) -> "Documents":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def add(self, item: str | bytes) -> bool:
        """Put a document or a block of lines aside; False, and nothing is, when its line ends have no stand-in."""
        if isinstance(item, bytes):
            tabs, breaks = self._tabs or b"\x0b" in item, self.breaks
        else:
            tabs, breaks = self._tabs or "\x0b" in item, self.breaks or "\n" in item
        if tabs and breaks:
            return False
        self._tabs, self.breaks = tabs, breaks
        if isinstance(item, bytes):
            lines = item.removesuffix(b"\n").split(b"\n")
            found = [i for i, line in enumerate(lines) if line and line[-1] in _ENDS]
            for i in found:
                lines[i] = _line(lines[i].decode())
            data = (b"\n".join(lines) if found else item.removesuffix(b"\n")) + b"\n"
        else:
            data = _line(item) + b"\n"
        if new := data.translate(None, self._seen):
            self._seen += bytes(set(new))
        self.file.write(data)
        return True

    @property
    def alphabet(self) -> int:
        """How many different bytes the library will meet."""
        return len(self._seen)

    def __iter__(self) -> Iterator[str]:
        """Texts with the same pieces as the documents (but for single characters)."""
        self.file.seek(0)
        for line in self.file:
            text = line.decode().removesuffix("\n")
            yield text.replace("\x0b", "\n") if self.breaks else text


def _line(text: str) -> bytes:
    """A document without line ends inside and without white space at its end, which follows on a line of its own."""
    run = _TRAILING.search(text) if text and text.encode()[-1] in _ENDS else None
    lines = [text]
    if run is not None:
        lines = [text[: run.start()], *([run.group() + "\tx"] if len(run.group().encode()) > 1 else [])]
    return "\n".join(line.replace("\n", "\x0b") for line in lines).encode()


def learn_bulk(documents: Documents, specials: Sequence[str], size: int, frequency: int) -> Any:
    """A ``models.BPE`` of at most ``size`` tokens (``specials`` first, then the 256 bytes) learned by the library.

    :raises Disagreement: the library failed.
    """
    import gigabpe
    from tokenizers import models, pre_tokenizers

    documents.file.flush()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    try:
        _, merges = gigabpe.train_bpe(
            [documents.file.name],
            size - len(alphabet) + documents.alphabet,  # it makes no room for bytes that it does not meet
            special_tokens=list(specials),
            min_frequency=frequency,
            pretokenizer="bytelevel",
        )
    except BaseException as error:  # a panic of the library is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError | NlpkitError):
            raise
        raise Disagreement(f"{LIBRARY} failed: {str(error).splitlines()[0][:120]}") from error
    if documents.breaks:
        tab = str.maketrans("\u010b", "\u010a")  # the byte alphabet's vertical tab and line end
        merges = [(left.translate(tab), right.translate(tab)) for left, right in merges]
    vocabulary = {token: id for id, token in enumerate((*specials, *alphabet))}
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    return models.BPE(vocabulary, merges)


def supported(specials: Sequence[str]) -> str:
    """Why the library cannot be used here: an empty string when it can.

    It is when it is installed and learns the same merges from the probe as ``tokenizers``.
    """
    try:
        import gigabpe  # noqa: F401
    except ImportError:
        return f'{LIBRARY} is not installed; pip install "nlpkit[fast]" learns bulk text several times faster'
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = len(specials) + len(alphabet) + 60
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )  # fmt: skip
    texts = [text for text in _PROBE if "\x0b" not in text] * 2
    raw.train_from_iterator(texts, trainer)
    try:
        with Documents() as documents:
            if not all([documents.add(text) for text in texts]):
                return f"{LIBRARY} cannot be tried"
            made = learn_bulk(documents, specials, size, 2)
    except Disagreement as error:
        return str(error)
    return "" if made.__getstate__() == raw.model.__getstate__() else f"{LIBRARY} learns other merges"


def learn(raw: Any, items: Iterable[str | bytes], specials: Sequence[Any], size: int, frequency: int) -> None:
    """Train a byte-level BPE tokenizer without normalizer on documents and blocks of lines.

    Input below :data:`SMALL` bytes, and everything the library cannot do, is learned by ``tokenizers``.
    """
    from tokenizers import pre_tokenizers, trainers

    def plainly(items: Iterable[str | bytes], reason: str) -> None:
        options: dict[str, Any] = {
            "vocab_size": size,
            "special_tokens": list(specials),
            "show_progress": False,
        }
        trainer = trainers.BpeTrainer(
            min_frequency=frequency, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options
        )
        raw.train_from_iterator(_announced(lines_of(items), reason), trainer)

    rest = iter(items)
    held: list[str | bytes] = []
    waiting = 0
    for item in rest:
        held.append(item)
        waiting += len(item)
        if waiting >= SMALL:
            break
    else:
        return plainly(held, "")
    names = [token.content for token in specials]
    if reason := supported(names):
        return plainly(itertools.chain(held, rest), reason)
    with Documents() as documents:
        for item in itertools.chain(held, rest):
            held = []
            if not documents.add(item):
                reason = "the documents have line ends and vertical tabs"
                return plainly(itertools.chain(documents, [item], rest), reason)
        try:
            raw.model = learn_bulk(documents, names, size, frequency)
        except Disagreement as error:
            return plainly(documents, str(error))
    raw.add_special_tokens(list(specials))


def _announced(texts: Iterable[str], reason: str) -> Iterator[str]:
    """The texts; once they turn out to be many, it is said why they go the long way."""
    passed = 0
    for text in texts:
        if reason and passed < LARGE <= passed + len(text):
            console.note(f"learning with tokenizers: {reason}")
        passed += len(text)
        yield text

"""Long texts cut into overlapping passages of about a number of tokens, as exact character offsets.

Where to cut is decided by semantic-text-splitter (paragraphs first, then sentences, words, characters), which asks
how many tokens a piece has. Answering that with a tokenizer takes a second for 150 kB, because each piece is asked
for many times. Here a piece has the sum of its words' tokens, and a word is encoded once, which is thirty times as
fast. The sum is the number of tokens where spaces part them (WordPiece) and seldom less than it elsewhere.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nlpkit.errors import UsageError

_WINDOW = 1 << 15  # characters that the splitter sees at once; its work grows faster than what it sees
_PER_TOKEN = 64  # characters at least, of that, for each token of a passage
_MOST = 1 << 20  # words whose number of tokens is remembered
_LONG = 64  # characters of a run without spaces that are encoded; the rest is counted by the character
_NAME = 16  # characters that are a token at least
#: East Asian scripts, which have no spaces.
_WIDE = "\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_HAS_WIDE = re.compile(f"[{_WIDE}]")
_PIECES = re.compile(f"[{_WIDE}]|[^\\s{_WIDE}]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_FORM = re.compile(r"\s*(\d{1,9})\s*(?:/\s*(\d{1,9})\s*)?", re.ASCII)

Count = Callable[[Sequence[str]], list[int]]


class Chunks:
    """Passages of at most ``size`` tokens, neighbours sharing at most ``overlap`` of them.

    ``tokenizer`` is a :class:`~nlpkit.text.tokenizer.Tokenizer` or a ``tokenizers.Tokenizer``; without one a token is
    a word (East Asian characters count one each).

    >>> Chunks.parse("200/50")
    Chunks(200, 50)
    """

    def __init__(self, size: int = 200, overlap: int = 50, tokenizer: Any = None) -> None:
        if size < 1 or not 0 <= overlap < size:
            raise UsageError(
                f"--chunk {size}/{overlap}: the size must be at least 1 and the overlap less than the size, "
                "such as 200/50"
            )
        self.size, self.overlap = size, overlap
        self._count = _Words(size, _words_of(tokenizer) if tokenizer is not None else None)
        self._splitter: Any = None

    @classmethod
    def parse(cls, text: str, tokenizer: Any = None) -> "Chunks":
        """The chunks that ``SIZE/OVERLAP`` or ``SIZE`` (no overlap) means, in tokens.

        :raises UsageError: it means none.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise UsageError(f"--chunk {text!r}: expected SIZE/OVERLAP in tokens, such as 200/50")
        return cls(int(match[1]), int(match[2] or 0), tokenizer)

    def __repr__(self) -> str:
        return f"Chunks({self.size}, {self.overlap})"

    def __str__(self) -> str:
        """As :meth:`parse` reads it."""
        return f"{self.size}/{self.overlap}"

    def spans(self, text: str) -> list[tuple[int, int]]:
        """``(start, end)`` of each passage in characters, in order: ``text[start:end]`` is the passage.

        Every character that is not space is in one; none begins or ends with space. A text without any such
        character has the one span (0, 0).

        :raises UsageError: the splitter is not installed.
        """
        if not text or text.isspace():
            return [(0, 0)]
        if self._splitter is None:
            self._splitter = _splitter(self._count, self.size, self.overlap)
        if not text.isascii():
            text = _SURROGATE.sub("\ufffd", text)  # the splitter takes UTF-8; as many characters
        found: list[tuple[int, int]] = []
        at, width = 0, max(_WINDOW, _PER_TOKEN * self.size)
        while at < len(text):
            window = text[at : at + width]
            self._count.learn(window)
            made = [(at + i, at + i + len(piece)) for i, piece in self._splitter.chunk_indices(window)]
            last = at + width >= len(text)
            if not last and made and made[-1][0] <= made[0][0]:
                width *= 2
                continue
            # The window's end cut the last passage: it is where the next window begins.
            for start, end in made if last else made[:-1]:
                before = found[-1][1] if found else 0
                if end <= before:
                    continue
                if self._count(text[start:end]) > self.size:
                    found.extend(self._parts(text, max(start, before), end))
                else:
                    found.append((start, end))
            at = made[-1][0] if made and not last else at + width
            width = max(_WINDOW, _PER_TOKEN * self.size)
        return found or [(0, 0)]

    def _parts(self, text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """A passage that fits, or else two parts of it, cut at the last space of its first half.

        The splitter lets passages pass that what they share with the one before makes too long, and some of
        tokens that are no sum of smaller ones.
        """
        piece = text[start:end]
        start, end = end - len(piece.lstrip()), start + len(piece.rstrip())
        if end - start < 2 or self._count(text[start:end]) <= self.size:
            if start < end:
                yield start, end
            return
        middle = (start + end) // 2
        space = text.rfind(" ", start + 1, middle)
        cut = middle if space < 0 else space
        yield from self._parts(text, start, cut)
        yield from self._parts(text, cut, end)


def _splitter(count: Callable[[str], int], size: int, overlap: int) -> Any:
    try:
        from semantic_text_splitter import TextSplitter
    except ModuleNotFoundError as error:
        raise UsageError("--chunk needs semantic-text-splitter; run: pip install 'nlpkit[docs]'") from error
    return TextSplitter.from_callback(count, size, overlap)


def _words_of(tokenizer: Any) -> Count:
    """How many tokens of a tokenizer each word has."""
    if hasattr(tokenizer, "standardize"):  # ours, which may have a recipe before it
        return lambda words: [len(ids) for ids in tokenizer.encode(words)]
    raw = type(tokenizer).from_str(tokenizer.to_str())  # the caller's may cut or pad, and keeps its settings
    raw.no_truncation()
    raw.no_padding()
    return lambda words: [len(e.ids) for e in raw.encode_batch_fast(list(words), add_special_tokens=False)]


class _Words(dict[str, int]):
    """Called with a text it says how many tokens that has: the sum of its words' tokens, which are its items."""

    def __init__(self, size: int, tokens: Count | None) -> None:
        super().__init__()
        self._size, self._tokens = size, tokens
        # Whether spaces are tokens, and whether an unknown character is several (its bytes).
        self._space = tokens is not None and tokens(["a    b\n\nc"]) != tokens(["a b c"])
        self._bytes = tokens is not None and tokens(["\U000e0fff"])[0] > 1

    def __missing__(self, word: str) -> int:
        """Count a word. Of a run without spaces only the beginning is encoded: it may be megabytes, asked for often."""
        self._encode([word[:_LONG]])
        if len(word) <= _LONG:
            return self[word]
        if self._tokens is None:
            return -(-len(word) // _NAME)
        rest = word[_LONG:]
        return self[word[:_LONG]] + len(rest.encode() if self._bytes else rest)

    def learn(self, text: str) -> None:
        """Encode the new words of a text together."""
        if len(self) > _MOST:
            self.clear()
        self._encode([word[:_LONG] for word in _words(text)])

    def _encode(self, words: list[str]) -> None:
        """Count short words and keep the counts."""
        new = list(dict.fromkeys(word for word in words if word not in self))
        if self._tokens is None:
            made = [1] * len(new)
        else:
            made = self._tokens(new)
            if self._space:  # where a space belongs to the word after it, words are met with and without
                made = list(map(max, made, self._tokens([" " + word for word in new])))
        # A long word that is one unknown token still has to be cut somewhere.
        self.update((word, max(n, -(-len(word) // _NAME))) for word, n in zip(new, made, strict=True))

    def __call__(self, text: str) -> int:
        """The tokens of a text; of one that has more than the size of a passage only that it has more."""
        words = text.split(None, self._size)
        if len(words) > self._size:
            return self._size + 1
        if not text.isascii():
            words = _words(text)
        total = sum(map(self.__getitem__, words))
        if self._space:  # one before a word is part of it; of a longer run each is taken for a token
            spaces = text.count(" ")
            total += len(text) - sum(map(len, words)) - spaces + 2 * text.count("  ")
        return total


def _words(text: str) -> list[str]:
    if not text.isascii() and _HAS_WIDE.search(text):
        return _PIECES.findall(text)
    return text.split()

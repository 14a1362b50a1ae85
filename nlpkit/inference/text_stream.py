"""Tokens to text while they come: whole characters only, and nothing of a stop string.

A token may end inside a character, and a stop string inside a token or across several. Text is given out as soon as
it can be neither.
"""

from collections.abc import Sequence

from nlpkit.text.tokenizer import Tokenizer

FRAME = 8  # tokens that are decoded together


class Stops:
    """Passes text on until one of ``stops`` is complete; ``met`` is then the stop string.

    The text ends before the stop string that is complete first (of two at once, the longer). Only as much is held
    back as could be the beginning of one.

    >>> stops = Stops(["END"])
    >>> [stops.push("one E"), stops.push("Nter E"), stops.push("ND two"), stops.met]
    ['one ', 'ENter ', '', 'END']
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.stops = [stop for stop in stops if stop]
        self.met = ""
        self._held = ""

    def push(self, text: str) -> str:
        """What may be shown now that ``text`` has come."""
        if self.met or not self.stops:
            return "" if self.met else text
        text = self._held + text
        found = [(at + len(stop), at, stop) for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:
            _, at, self.met = min(found)
            self._held = ""
            return text[:at]
        keep = max(_begun(text, stop) for stop in self.stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def close(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` are the beginning of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0


class TextStream:
    """The text behind a prompt's ids, pushed a token at a time; the pieces joined are the continuation."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stops: Sequence[str] = ()) -> None:
        self._tokenizer, self._stops = tokenizer, Stops(stops)
        # Only a short frame is decoded each time; the tokens whose text is out give the next ones their spaces.
        self._frame = list(prompt[-FRAME:])
        self._known = tokenizer.decode(self._frame)

    @property
    def stopped(self) -> str:
        """The stop string that was met; empty while there is none."""
        return self._stops.met

    def push(self, token: int) -> str:
        """What may be shown once this token has come; often nothing."""
        self._frame.append(token)
        text = self._tokenizer.decode(self._frame)
        if len(text) <= len(self._known) or text.endswith("\ufffd"):
            return ""
        new = text[len(self._known) :]
        self._frame = self._frame[-FRAME:]
        self._known = self._tokenizer.decode(self._frame)
        return self._stops.push(new)

    def close(self) -> str:
        """The rest, when no more tokens come: an unfinished character is U+FFFD."""
        if self.stopped:
            return ""
        left = self._tokenizer.decode(self._frame)[len(self._known) :]
        return self._stops.push(left) + ("" if self.stopped else self._stops.close())

"""What there is to read in HTML and Markdown, and what they are called.

HTML becomes its readable text, paragraphs apart, without navigation and scripts (parsed by selectolax as browsers
do). Markdown stays as it is written, so that offsets are those of the file; its front matter becomes fields.
"""

import codecs
import re
from collections.abc import Iterator
from typing import Any

from nlpkit.errors import DataError, UsageError

#: Not text of the page, and what stands around it on every page of a site.
_DROPPED = frozenset(
    "script style noscript template head svg iframe object canvas audio video select button textarea".split()
)
_AROUND = frozenset(["nav", "footer", "aside"])
_PARAGRAPHS = frozenset(
    "p h1 h2 h3 h4 h5 h6 ul ol dl table pre blockquote section article main header figure hr form fieldset "
    "details address nav footer aside".split()
)
_LINES = frozenset("div li tr dt dd br figcaption caption summary legend option center".split())
_CELLS = frozenset(["td", "th"])
_DEPTH = 1000  # of elements in elements; the parser's work grows with its square, browsers stop at 512
#: Elements that hold others; none of one letter, which scripts compare with (``i<b``).
_HOLDERS = frozenset(
    "div section article main header footer nav aside ul ol dl table blockquote center fieldset details figure "
    "form pre address span font strong em".split()
)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_SPACE = re.compile(r"[ \t\n\r\f]+")
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)

_RESERVED = frozenset(["id", "_id", "title", "text", "path", "type", "language"])
_FRONT = re.compile(r"---[ \t]*\n(.*?)(?:^|\n)(?:---|\.\.\.)[ \t]*(?:\n|$)", re.DOTALL)
_FRONT_MOST = 1 << 16  # characters that front matter may have
_KEY = re.compile(r"([A-Za-z_][\w.-]{0,63})[ \t]*:(?:[ \t]+(.*))?$")
_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d{0,14})(\.\d{1,15})?", re.ASCII)
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_LINK = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])?")


def declared_encoding(data: bytes) -> str | None:
    """The encoding that an HTML page names for itself, where Python knows it; Latin-1 means Windows-1252 there.

    >>> declared_encoding(b'<meta charset="ISO-8859-1">')
    'cp1252'
    """
    match = _CHARSET.search(data[:4096])
    if match is None:
        return None
    try:
        name = codecs.lookup(match[1].decode("ascii")).name
        "".encode(name)  # base64 and its like are codecs too, but not of text
    except (LookupError, UnicodeError):
        return None
    return "cp1252" if name in ("iso8859-1", "ascii") else name


def read_html(source: str, name: str) -> tuple[str, str, str]:
    """``(text, title, language)`` of a page; empty where it has none.

    The title is ``<title>``, or else the first heading. Navigation, footers and asides are left out unless
    they are all there is. ``name`` is for messages.

    :raises UsageError: selectolax is not installed. :raises DataError: nested too deep.
    """
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ModuleNotFoundError as error:
        raise UsageError("reading HTML needs selectolax; run: pip install 'nlpkit[docs]'") from error
    if _too_deep(source):
        raise DataError(f"{name}: HTML nested over {_DEPTH:,} deep; flatten it")
    page = LexborHTMLParser(source)
    root = page.root
    if root is None:
        return "", "", ""
    title = next((_plain(node.text()) for node in page.css("title") if _outside_drawing(node)), "")
    if not title:
        title = next(
            (t for t in (_plain(node.text()) for node in page.css("h1, h2, h3, h4, h5, h6")) if t), ""
        )
    text = _assembled(_pieces(root, _DROPPED | _AROUND)) or _assembled(_pieces(root, _DROPPED))
    return text, title, (root.attributes.get("lang") or "").strip()


def _outside_drawing(node: Any) -> bool:
    return node.parent is None or node.parent.tag != "svg"


def _plain(text: str) -> str:
    return " ".join(text.split())


def _too_deep(source: str) -> bool:
    if source.count("<") <= _DEPTH:
        return False
    depth = 0
    for closing, name in _TAG.findall(source):
        if name.lower() not in _HOLDERS:
            continue
        depth = max(0, depth - 1) if closing else depth + 1
        if depth > _DEPTH:
            return True
    return False


def _pieces(root: Any, dropped: frozenset[str]) -> Iterator[str | int]:
    """The texts of the tree below ``root`` in order, and between them how many line ends a block asks for.

    A text that begins with NUL (of which HTML has none) is preformatted. The tree may be deep, so no recursion.
    """
    node, open_tags, kept = root, [], 0
    while True:
        tag = node.tag
        down = None
        if tag == "-text":
            text = node.text_content or ""
            yield "\0" + text if kept else _SPACE.sub(" ", text)
        elif tag not in dropped:
            yield _breaks(tag)
            kept += tag == "pre"
            down = node.child
            if down is None:
                yield _breaks(tag)
                kept -= tag == "pre"
            else:
                open_tags.append(tag)
        if down is not None:
            node = down
            continue
        while node.next is None or not open_tags:
            if not open_tags:
                return
            tag = open_tags.pop()
            yield _breaks(tag)
            kept -= tag == "pre"
            node = node.parent
        node = node.next


def _breaks(tag: str) -> int:
    return 2 if tag in _PARAGRAPHS else 1 if tag in _LINES else -1 if tag in _CELLS else 0


def _assembled(pieces: Iterator[str | int]) -> str:
    """One text: blocks apart by the line ends that they ask for, single spaces elsewhere."""
    made: list[str] = []
    wanted, cell = 0, False
    for piece in pieces:
        if isinstance(piece, int):
            wanted, cell = max(wanted, piece), cell or piece < 0
            continue
        raw = piece.startswith("\0")
        text = piece[1:] if raw else piece
        if not raw and (wanted or not made or made[-1].endswith((" ", "\n"))):
            text = text.lstrip(" ")
        if not text:
            continue
        if made and (wanted or cell):
            made[-1] = made[-1].rstrip(" \n") if wanted else made[-1].rstrip(" ")
            made.append("\n" * wanted or "\t")
        wanted, cell = 0, False
        made.append(text)
    return "".join(made).strip()


def read_markdown(source: str) -> tuple[str, dict[str, Any]]:
    """``(title, fields)``: the front matter's title or the first heading, and the rest of the front matter.

    Front matter is ``key: value`` lines between two lines of ``---`` at the top: text, numbers, true and false,
    lists on one line (``[a, b]``) or one item a line. Anything deeper is left to the text.

    >>> read_markdown("---\\nyear: 2024\\ntags: [a, b]\\n---\\n# A *title*\\n")
    ('A title', {'year': 2024, 'tags': ['a', 'b']})
    """
    fields: dict[str, Any] = {}
    title, body = "", source
    front = _FRONT.match(source[:_FRONT_MOST])
    if front is not None:
        fields = _front_matter(front[1])
        title = _plain(str(fields.get("title") or ""))
        body = source[front.end() :]
    fields = {key: value for key, value in fields.items() if key not in _RESERVED}
    return title or _first_heading(body), fields


def _front_matter(text: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    last = ""
    for line in text.split("\n"):
        if match := _KEY.match(line):
            last = match[1]
            fields[last] = _value((match[2] or "").strip())
        elif line.strip().startswith("- ") and (fields.get(last) is None or isinstance(fields[last], list)):
            if last:
                fields[last] = [*(fields[last] or []), _value(line.strip()[2:].strip())]
    return fields


def _value(text: str) -> Any:
    if len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]:
        return text[1:-1]
    if text.startswith("[") and text.endswith("]"):
        return [_value(part.strip()) for part in text[1:-1].split(",") if part.strip()]
    if match := _NUMBER.fullmatch(text):
        return float(text) if match[1] else int(text)
    return {"true": True, "false": False, "null": None, "~": None, "": None}.get(text.lower(), text)


def _first_heading(text: str) -> str:
    fence, before = "", ""
    for line in text.split("\n"):
        opened = _FENCE.match(line)
        if fence:
            if opened and opened[1].startswith(fence):
                fence = ""
            continue
        if opened:
            fence, before = opened[1], ""
        elif match := _HEADING.match(line):
            if found := _words(match[1]):
                return found
        elif before.strip() and _UNDERLINE.match(line):
            return _words(before)
        else:
            before = line if line.strip() and not line.startswith(("    ", "\t", ">", "-", "*", "|")) else ""
    return ""


def _words(heading: str) -> str:
    """A heading without its marks."""
    return _plain(re.sub(r"[*`]|(?<!\w)_|_(?!\w)", "", _LINK.sub(r"\1", heading)))

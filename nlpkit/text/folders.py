"""Walking a folder as git and ripgrep do: in sorted order, without what ``.gitignore`` files name.

The rules of the folder, of those in it and of those above it up to the root of the git work tree count, the nearest
first; a pattern with ``!`` takes a file back in. A folder that is itself ignored was named on purpose: the rules
above it do not count then. Links to folders are not followed, so there are no loops.
"""

import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

from nlpkit.errors import UsageError

HIDDEN, IGNORED = "hidden", "ignored by .gitignore"
LINKS, SPECIAL, UNREADABLE = "links to folders", "no regular files", "unreadable"
_NAME = ".gitignore"
_FOLDER = "ps_d"  # the group of pathspec's expressions that is the slash after the folder a pattern means
_MOST = 1 << 22  # bytes of a .gitignore that are read

Skip = Callable[[str, str, str], None]
Rules = tuple[
    tuple[int, Any], ...
]  # (characters of a path before the part that a spec knows, spec), nearest last


def walk(root: str, hidden: bool, skip: Skip) -> Iterator[tuple[str, str]]:
    """``(path, path relative to root)`` of each file to read, sorted by the names on the way.

    ``skip(reason, path, why)`` is called for what is left out, once for a whole folder; ``why`` is empty where there
    is nothing to mend.

    :raises UsageError: there is a .gitignore and pathspec is not installed. :raises OSError: ``root`` is unreadable.
    """
    top, rules = _above(os.path.realpath(root))
    waiting = [_entries(root, "", top, rules)]
    while waiting:
        listed, rules = waiting[-1]
        if not listed:
            waiting.pop()
            continue
        name, relative = listed.pop()
        path = os.path.join(root, relative)
        if name == ".git" or (name.startswith(".") and not hidden):
            skip(HIDDEN, path, "")
            continue
        try:
            status = os.lstat(path)
            linked = stat.S_ISLNK(status.st_mode)
            if linked:
                status = os.stat(path)
        except OSError as error:
            skip(UNREADABLE, path, _reason(error))
            continue
        folder = stat.S_ISDIR(status.st_mode)
        if ignored(rules, top + relative, folder and not linked):
            skip(IGNORED, path, "")
        elif folder and linked:
            skip(LINKS, path, "")
        elif folder:
            try:
                waiting.append(_entries(root, relative + "/", top, rules))
            except OSError as error:
                skip(UNREADABLE, path, _reason(error))
        elif not stat.S_ISREG(status.st_mode):
            skip(SPECIAL, path, "")
        else:
            yield path, relative


def ignored(rules: Rules, path: str, folder: bool) -> bool:
    """Whether the last pattern of the nearest rules that means a path (from the top, with slashes) leaves it out."""
    for start, spec in reversed(rules):
        inside = path[start:]
        for pattern in reversed(spec.patterns):
            if pattern.include is not None and (
                _means(pattern, inside, "") or (folder and _means(pattern, inside + "/", "/"))
            ):
                return bool(pattern.include)
    return False


def _means(pattern: Any, path: str, end: str) -> bool:
    """Whether a pattern means a path itself, and not only a folder that it is in.

    pathspec's patterns match both. But whether that folder is entered was decided by then, and git does not let
    ``!folder/`` take back what another pattern leaves out of it.
    """
    found = pattern.match_file(path)
    if found is None:
        return False
    match = found.match
    if match.groupdict().get(_FOLDER) is None:
        return not end
    bare = match.start() == match.start(_FOLDER)  # ``*/``: any slash will do
    return bool(end) and (bare or match.end(_FOLDER) == len(path))


def _entries(root: str, relative: str, top: str, rules: Rules) -> tuple[list[tuple[str, str]], Rules]:
    """``(name, relative path)`` of what is in a folder, last first, and the rules for it."""
    names = sorted(os.listdir(os.path.join(root, relative)), reverse=True)
    if _NAME in names:
        rules = _with(rules, os.path.join(root, relative, _NAME), len(top + relative))
    return [(name, relative + name) for name in names], rules


def _above(root: str) -> tuple[str, Rules]:
    """The path of a real folder in its git work tree, ending in a slash if not empty, and the rules of those above."""
    above = root
    while not os.path.exists(os.path.join(above, ".git")):
        if (parent := os.path.dirname(above)) == above:
            return "", ()
        above = parent
    if above == root:
        return "", ()
    parts = os.path.relpath(root, above).split(os.sep)
    rules: Rules = ()
    for i in range(len(parts)):
        here = os.path.join(above, *parts[:i])
        if os.path.isfile(os.path.join(here, _NAME)):
            rules = _with(rules, os.path.join(here, _NAME), len("".join(p + "/" for p in parts[:i])))
        if ignored(rules, "/".join(parts[: i + 1]), True):
            return "", ()
    return "/".join(parts) + "/", rules


def _with(rules: Rules, path: str, start: int) -> Rules:
    """Rules with those of a .gitignore file."""
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    except OSError:  # a folder of that name, or nothing for us: git passes it over too
        return rules
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if all(not line.strip() or line.startswith("#") for line in lines):
        return rules
    try:
        import pathspec
    except ModuleNotFoundError as error:
        raise UsageError(f"{path}: honouring it needs pathspec; run: pip install 'nlpkit[docs]'") from error
    try:
        spec: Any = pathspec.GitIgnoreSpec.from_lines(lines)
    except ValueError:  # git passes over the patterns that it does not understand
        spec = pathspec.GitIgnoreSpec.from_lines([line for line in lines if _understood(line)])
    return (*rules, (start, spec))


def _understood(line: str) -> bool:
    import pathspec

    try:
        pathspec.GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

"""A corpus that every Python carries: its own documentation.

Docstrings of the standard library are read with ``ast`` from the source files, so nothing of it runs; built-in
types and the modules written in C are asked for theirs; the language reference comes from ``pydoc_data``. Any
installed package can be added by name, again without running it.
"""

import ast
import hashlib
import importlib.util
import inspect
import json
import platform
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

from nlpkit.errors import UsageError
from nlpkit.store import atomic, manifest
from nlpkit.text.documents import Document
from nlpkit.text.records import json_line, record_of

SHORTEST = 12  # characters; a shorter docstring says nothing
_LEFT_OUT = {
    "test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages",
    "__pycache__", "__phello__", "lib-dynload", "config", "ensurepip", "pydoc_data",
}  # fmt: skip
_PRIVATE_HOMES = {
    "posixpath": "os.path",
    "_pydecimal": "decimal",
    "_pydatetime": "datetime",
    "_collections_abc": "collections.abc",
}
_SAFE_C = (
    *("array", "binascii", "cmath", "fcntl", "grp", "math", "mmap", "pyexpat", "resource", "select"),
    *("syslog", "termios", "unicodedata", "zlib"),
)
#: Modules in C whose names are met under another module.
_C_HOMES = {
    "_bisect": "bisect", "_collections": "collections", "_csv": "csv", "_functools": "functools",
    "_heapq": "heapq", "_io": "io", "_json": "json", "_random": "random", "_socket": "socket",
    "_sqlite3": "sqlite3", "_sre": "re", "_struct": "struct", "posix": "os",
}  # fmt: skip


def documents(packages: Sequence[str] = ()) -> Iterator[Document]:
    """The documentation of this Python, and of installed ``packages``, in a fixed order.

    A document's id is the qualified name (``str.splitlines``, ``json.dumps``, ``topic:for``), its fields are
    ``summary`` (the first line), ``body`` (the rest), ``kind``, ``module`` and ``source``.

    :raises UsageError: a package is not installed.
    """
    roots = [(name, _package(name)) for name in packages]
    seen: dict[str, int] = {}
    known: set[bytes] = set()
    for document in _everything(roots):
        digest = hashlib.blake2b(document.text.encode("utf-8", "replace"), digest_size=16).digest()
        if digest in known and document.fields["kind"] == "builtin":
            continue  # an inherited text says nothing new
        known.add(digest)
        times = seen[document.id] = seen.get(document.id, 0) + 1
        if times > 1:
            document.id = f"{document.id}#{times}"
        yield document


def _everything(roots: Iterable[tuple[str, Path]]) -> Iterator[Document]:
    yield from _topics()
    yield from _builtins()
    library = Path(sysconfig.get_path("stdlib"))
    for path in _sources(library):
        yield from _file(path, library, "")
    for name, root in roots:
        if root.is_file():
            yield from _file(root, root.parent, "")
        else:
            for path in _sources(root):
                yield from _file(path, root, name)


def _package(name: str) -> Path:
    if "." in name or not name.isidentifier():
        raise UsageError(f"--packages {name!r}: the name of a top-level package is needed")
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    places = list(found.submodule_search_locations or []) if found else []
    if places:
        return Path(places[0])
    if found and found.origin and found.origin.endswith(".py"):
        return Path(found.origin)
    raise UsageError(f"--packages {name!r}: not installed here, or not written in Python")


def _sources(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir(), key=lambda p: p.name):
        if path.name in _LEFT_OUT or path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _sources(path)
        elif path.suffix == ".py" and not path.stem.startswith("test_"):
            yield path


def _file(path: Path, root: Path, prefix: str) -> Iterator[Document]:
    relative = path.relative_to(root).with_suffix("")
    parts = [p for p in (prefix, *relative.parts) if p]
    if parts[-1] == "__init__":
        parts = parts[:-1]
    module = ".".join(parts)
    module = _PRIVATE_HOMES.get(module, module)
    if any(p.startswith("_") for p in module.split(".")):
        if not prefix:
            return
        # A package's public functions are often written in private modules: numpy.lib._x_impl.median.
        module = ".".join(p for p in module.split(".") if not p.startswith("_"))
    if not module:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes are not ours to report
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return
    yield from _node(tree, module, "module", module, path.relative_to(root).as_posix())


def _node(node: ast.AST, name: str, kind: str, module: str, source: str) -> Iterator[Document]:
    assert isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    made = _document(name, ast.get_docstring(node), kind, module, source)
    if made is not None:
        yield made
    if kind in ("function", "method"):
        return
    for child in _definitions(node.body):
        if child.name.startswith("_") and not (child.name.startswith("__") and child.name.endswith("__")):
            continue
        inner = "class" if isinstance(child, ast.ClassDef) else "method" if kind == "class" else "function"
        yield from _node(child, f"{name}.{child.name}", inner, module, source)


def _definitions(body: Iterable[ast.stmt]) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.If | ast.Try):
            handlers = [h.body for h in node.handlers] if isinstance(node, ast.Try) else []
            for part in (node.body, *handlers, node.orelse):
                yield from _definitions(part)


def _document(name: str, text: str | None, kind: str, module: str, source: str) -> Document | None:
    if not isinstance(text, str):
        return None
    text = inspect.cleandoc(text).encode("utf-8", "replace").decode("utf-8").strip()
    if len(text) < SHORTEST:
        return None
    first, _, rest = text.partition("\n\n")
    lines = first.split("\n")
    # A summary is the first line, or the first paragraph up to the end of its first sentence.
    summary = lines[0].strip()
    used = 1
    while used < len(lines) and not summary.endswith((".", "!", "?", ":")) and len(summary) < 160:
        summary = f"{summary} {lines[used].strip()}"
        used += 1
    body = "\n".join(lines[used:]) + ("\n\n" + rest if rest else "")
    fields = {"summary": summary, "body": body.strip(), "kind": kind, "module": module, "source": source}
    return Document(text, name, name, fields)


def _topics() -> Iterator[Document]:
    try:
        topics = import_module("pydoc_data.topics").topics
    except ImportError:
        return
    for name in sorted(topics):
        made = _document(f"topic:{name}", topics[name], "topic", "pydoc_data.topics", "pydoc_data/topics.py")
        if made is not None:
            made.title = name
            lines = made.text.split("\n")
            if len(lines) > 1 and len(lines[1]) > 2 and set(lines[1]) <= set("*=-~^"):
                body = "\n".join(lines[2:]).strip()
                made.fields |= {"summary": lines[0].strip(), "body": body}
            yield made


def _builtins() -> Iterator[Document]:
    """Built-in functions and types, then the C modules: the built-in ones and a list that is safe to import."""
    import builtins

    yield from _members(builtins, "", "builtins")
    names = [n for n in sys.builtin_module_names if not n.startswith("_")]
    for name in sorted({*names, *_SAFE_C, *_C_HOMES}):
        try:
            module = import_module(name)
        except Exception:
            continue
        if getattr(module, "__file__", None) and str(module.__file__).endswith(".py"):
            continue
        home = _C_HOMES.get(name, name)
        if home == name:
            made = _document(name, module.__doc__, "builtin", name, "")
            if made is not None:
                yield made
        yield from _members(module, home + ".", home)


def _members(owner: types.ModuleType, prefix: str, module: str) -> Iterator[Document]:
    for name in sorted(vars(owner)):
        value = vars(owner)[name]
        if name.startswith("_") or isinstance(value, types.ModuleType):
            continue
        if not (isinstance(value, type) or callable(value)):
            continue
        made = _document(prefix + name, getattr(value, "__doc__", None), "builtin", module, "")
        if made is not None:
            yield made
        if not isinstance(value, type):
            continue
        for inner in sorted(vars(value)):
            if inner in ("__doc__", "__class__") or (inner.startswith("_") and not inner.endswith("__")):
                continue
            text = getattr(vars(value)[inner], "__doc__", None)
            if callable(vars(value)[inner]) or inspect.isdatadescriptor(vars(value)[inner]):
                found = _document(f"{prefix}{name}.{inner}", text, "builtin", module, "")
                if found is not None:
                    yield found


def build(output: str | Path, packages: Sequence[str] = (), *, force: bool = False) -> int:
    """Write the corpus as a sealed folder with ``docs.jsonl``; how many documents it has."""
    with atomic.building(output, force=force) as folder:
        count = 0
        with open(folder / "docs.jsonl", "wb") as file:
            for document in documents(packages):
                file.write(json_line(record_of(document)))
                count += 1
        notes: dict[str, object] = {
            "source": "documentation of the Python standard library and language reference",
            "licence": "PSF-2.0",
            "python": platform.python_version(),
            "documents": count,
        }
        if packages:
            notes["packages"] = {name: _version(name) for name in packages}
            notes["licence"] = "PSF-2.0; packages under their own licences"
        manifest.seal(folder, "corpus", notes=json.loads(json.dumps(notes)))
    return count


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"

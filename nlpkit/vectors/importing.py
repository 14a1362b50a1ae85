"""Word vectors from the files of others into a folder, streamed: see :mod:`nlpkit.vectors.exchange` for the forms.

V words, D numbers each, N rows of a block. Every row is checked: its number of numbers, that they are finite, that
its word is UTF-8, has no space and was not there before. A fault ends the import, and nothing is left behind, or (as
the caller wishes) its row is left out and counted.
"""

import errno
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from nlpkit.errors import DataError
from nlpkit.store import atomic
from nlpkit.text.compression import reading
from nlpkit.text.recipe import Recipe
from nlpkit.vectors.exchange import SPACE, TEXT, form_of, known_form, lines_of, number
from nlpkit.vectors.tensors import map_tensors, writing_tensors
from nlpkit.vectors.vectors import finish

LINES = 1 << 11  # lines that are parsed at a time
CHUNK = 1 << 20  # bytes that are read at a time
LONGEST = 1 << 12  # bytes of a word
Block = tuple[list[int], list[bytes], np.ndarray]  # places (line or entry), words, rows (N, D)


@dataclass
class Faults:
    """What is done about a bad row: DataError, or with ``skip`` it is counted and its first reason kept."""

    name: str
    lines: bool
    skip: bool
    count: int = 0
    first: str = ""
    read: int = 0  # lines of rows so far, bad ones among them

    def __call__(self, place: int, reason: str) -> None:
        """A fault of the row at a line or entry."""
        where = f"{self.name}:{place}" if self.lines else f"{self.name}: entry {place:,}"
        if not self.skip:
            raise DataError(f"{where}: {reason}; mend the file, or leave such rows out with --skip-bad")
        self.count += 1
        self.first = self.first or f"{where}: {reason}"


def import_vectors(
    source: str | Path,
    output: str | Path,
    *,
    form: str | None = None,
    recipe: Recipe | None = None,
    skip: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Make a folder of vectors from a file; the form that it had, the words and the width that were found.

    ``recipe`` is what was done to the text that the vectors were trained on; none: words are looked up as they stand.

    :raises DataError: a fault in the file (file:line), unless ``skip``; nothing then is at ``output``.
    """
    source = Path(source)
    form = known_form(form) if form else form_of(source)
    faults = Faults(str(source), form in TEXT, skip)
    seen: dict[str, int] = {}
    width = 0
    told: dict[str, np.ndarray] = {}  # counts, where the file has them
    with atomic.building(output, force=force) as folder:
        with writing_tensors(folder / "vectors.safetensors") as writer:
            for places, words, rows in _BLOCKS[form](source, faults, told):
                kept = _sound(places, words, rows, seen, faults)
                width = rows.shape[1]
                if kept:
                    writer.append("word", rows[kept])
        if not seen:
            raise DataError(f"{source}: holds no word vectors")
        counts = told["counts"][[place - 1 for place in seen.values()]] if "counts" in told else None
        notes = {"imported_from": source.name, "format": form, "left_out": faults.count}
        finish(folder, list(seen), counts, recipe or Recipe(()), notes=notes)
    return {"format": form, "words": len(seen), "size": width, "left_out": faults.count, "why": faults.first}


def _sound(
    places: list[int], words: list[bytes], rows: np.ndarray, seen: dict[str, int], faults: Faults
) -> list[int]:
    """The rows (positions in the block) without a fault; their words are added to ``seen`` with their places."""
    finite = np.isfinite(rows).all(axis=1).tolist()
    kept = []
    for i, (place, raw) in enumerate(zip(places, words, strict=True)):
        try:
            word = raw.decode("utf-8")
        except UnicodeDecodeError:
            faults(place, f"the word {raw[:40]!r} is not UTF-8")
            continue
        if not word or SPACE.search(word):
            faults(place, f"the word {word[:40]!r} has a space in it" if word else "the word is empty")
        elif word in seen:
            what = "line" if faults.lines else "entry"
            faults(place, f"the word {word!r} stands in {what} {seen[word]:,} already")
        elif not finite[i]:
            faults(place, f"a number of {word!r} is not finite (or over float32)")
        else:
            seen[word] = place
            kept.append(i)
    return kept


def _glove(path: Path, faults: Faults, told: dict[str, np.ndarray]) -> Iterator[Block]:
    with reading(path) as file:
        lines = lines_of(file, str(path))
        first = next(lines, b"")
        width = len(first.split()) - 1
        if width < 1:
            raise DataError(f"{path}:1: a word and its numbers are needed")
        yield from _rows(_chain(first, lines), 1, width, faults)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _word2vec(path: Path, faults: Faults, told: dict[str, np.ndarray]) -> Iterator[Block]:
    with reading(path) as file:
        promised, width = _header(path, file)
        yield from _rows(lines_of(file, str(path)), 2, width, faults)
        _as_promised(path, promised, faults.read)


def _header(path: Path, file: IO[bytes]) -> tuple[int, int]:
    cells = file.readline(1 << 10).split()
    if len(cells) != 2 or not all(cell.isdigit() for cell in cells) or int(cells[1]) < 1:
        raise DataError(f"{path}:1: the number of words and the size are needed, as in '400000 300'")
    return int(cells[0]), int(cells[1])


def _as_promised(path: Path, promised: int, found: int) -> None:
    if found != promised:
        raise DataError(
            f"{path}:1: the header promises {promised:,} words, found {found:,}; the file is cut off, "
            "or its header wrong"
        )


def _rows(lines: Iterator[bytes], place: int, width: int, faults: Faults) -> Iterator[Block]:
    """Lines ``word number number …``; those without a fault are parsed a block at a time."""
    while block := list(islice(lines, LINES)):
        words, rests = [], []
        for line in block:
            word, _, rest = line.rstrip().partition(b" ")
            words.append(word)
            rests.append(rest)
        rows = _numbers(rests, width)
        places = list(range(place, place + len(block)))
        if rows is None or b"" in words:
            places, words, rows = _one_by_one(block, place, width, faults)
        place += len(block)
        faults.read += len(block)
        yield places, words, rows


def _numbers(rests: list[bytes], width: int) -> np.ndarray | None:
    """The numbers (N, D) of lines that hold them between single spaces; None where one does not."""
    import warnings

    joined = b" ".join(rests)
    if any(rest.count(b" ") != width - 1 for rest in rests) or any(c in joined for c in (b"  ", *_ODD)):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            found = np.fromstring(joined, np.float32, sep=" ")
        except (DeprecationWarning, ValueError):
            return None
    # A cell between single spaces is one number or more, so the whole sum tells each line's.
    return found.reshape(-1, width) if len(found) == len(rests) * width else None


_ODD = (b"\t", b"\r", b"\v", b"\f", b"\0")


def _one_by_one(block: list[bytes], place: int, width: int, faults: Faults) -> Block:
    """What :func:`_rows` gives, line by line: other white space is allowed, a fault is told by its line."""
    places, words, rows = [], [], []
    for at, line in enumerate(block, place):
        cells = line.split()
        numbers = [number(cell) for cell in cells[1:]]
        if line[:1].isspace():
            faults(at, "the line begins with a space, a word is needed" if cells else "the line is empty")
        elif len(numbers) > width and None in numbers[: len(numbers) - width]:
            word = b" ".join(cells[:-width]).decode("utf-8", "replace")
            faults(at, f"the word {word[:40]!r} has a space in it")
        elif len(numbers) != width:
            faults(at, f"{len(numbers)} numbers, where the first row or the header has {width}")
        elif None in numbers:
            cell = cells[1 + numbers.index(None)].decode("utf-8", "replace")
            faults(at, f"{cell[:40]!r} is not a number")
        else:
            places.append(at)
            words.append(cells[0])
            rows.append(numbers)
    with np.errstate(over="ignore"):
        return places, words, np.array(rows, np.float64).reshape(-1, width).astype(np.float32)


def _word2vec_bin(path: Path, faults: Faults, told: dict[str, np.ndarray]) -> Iterator[Block]:
    with reading(path) as file:
        promised, width = _header(path, file)
        held, at, size, made = b"", 0, 4 * width, 0
        while made < promised:
            words: list[bytes] = []
            rows: list[bytes] = []
            while made + len(words) < promised:
                space = held.find(b" ", at, at + LONGEST)
                if space >= 0 and len(held) >= space + 1 + size:
                    words.append(held[at:space].lstrip(b"\n"))
                    rows.append(held[space + 1 : space + 1 + size])
                    at = space + 1 + size
                    continue
                if space < 0 and len(held) - at >= LONGEST:
                    raise DataError(
                        f"{path}: entry {made + len(words) + 1:,}: no word ends here; not word2vec's binary form"
                    )
                if words:
                    break
                more = file.read(max(CHUNK, size))
                held, at = held[at:] + more, 0
                if not more:
                    _as_promised(path, promised, made)
            numbers = np.frombuffer(b"".join(rows), "<f4").reshape(-1, width)
            yield list(range(made + 1, made + 1 + len(words))), words, numbers
            made += len(words)
        if (held[at:] + file.read(CHUNK)).strip(b"\n"):
            raise DataError(f"{path}:1: the header promises {promised:,} words, but more follows behind them")


_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    OSError,
)


def _npz(path: Path, faults: Faults, told: dict[str, np.ndarray]) -> Iterator[Block]:
    try:
        with zipfile.ZipFile(path) as archive:
            heads = {}
            for name in archive.namelist():
                with archive.open(name) as member:
                    heads[name.removesuffix(".npy")] = (name, *_npy_header(path, name, member))
            table = _choose(path, {n: (s, d.kind) for n, (_, s, d) in heads.items()}, 2, "f", "vectors")
            listing = _choose(path, {n: (s, d.kind) for n, (_, s, d) in heads.items()}, 1, "US", "words")
            words: list[bytes] = [
                word.encode("utf-8", "surrogatepass") if isinstance(word, str) else word
                for block in _npy_rows(path, archive, heads[listing][0])
                for word in block.tolist()
            ]
            if "counts" in heads and heads["counts"][1] == (len(words),) and heads["counts"][2].kind == "i":
                told["counts"] = np.concatenate(list(_npy_rows(path, archive, heads["counts"][0])))
            yield from _beside(path, words, heads[table][1][0], _npy_rows(path, archive, heads[table][0]))
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # what zipfile makes of a wrong offset
            raise
        raise DataError(
            f"{path}: damaged or cut off ({str(error).lower()}); make or fetch it again"
        ) from error


def _npy_header(path: Path, name: str, member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype; objects, which only pickle could read, and columns first are refused."""
    try:
        version = np.lib.format.read_magic(member)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, columns_first, dtype = read[version](member)
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: {name} is not a numpy array that is read here") from error
    if dtype.hasobject or (columns_first and len(shape) > 1):
        what = "pickled objects" if dtype.hasobject else "columns first"
        raise DataError(f"{path}: {name} holds {what}, which is not read; save plain arrays, rows first")
    return shape, dtype


def _npy_rows(path: Path, archive: zipfile.ZipFile, name: str) -> Iterator[np.ndarray]:
    with archive.open(name) as member:
        shape, dtype = _npy_header(path, name, member)
        each = int(np.prod(shape[1:], dtype=object)) * dtype.itemsize
        step = max(1, CHUNK // max(1, each))
        for start in range(0, shape[0], step):
            count = min(step, shape[0] - start)
            raw = member.read(count * each)
            if len(raw) != count * each:
                raise EOFError(f"{name} has fewer rows than it says")
            yield np.frombuffer(raw, dtype).reshape(count, *shape[1:])
        member.read(1)  # at its end the checksum is compared


def _safetensors(path: Path, faults: Faults, told: dict[str, np.ndarray]) -> Iterator[Block]:
    tensors = map_tensors(path)
    kinds = {name: (tensor.shape, tensor.dtype.kind) for name, tensor in tensors.items()}
    table = tensors[_choose(path, kinds, 2, "f", "vectors")]
    listing = _choose(path, {n: kinds[n] for n in kinds if n == "words"}, 1, "u", "words")
    words = tensors[listing].tobytes().split(b"\n")
    if words[-1] == b"":
        words.pop()
    if "counts" in tensors and tensors["counts"].shape == (len(words),) and kinds["counts"][1] == "i":
        told["counts"] = tensors["counts"]
    step = max(1, CHUNK // max(1, 4 * table.shape[1]))
    rows = (table[start : start + step] for start in range(0, len(table), step))
    yield from _beside(path, words, len(table), rows)


def _choose(path: Path, kinds: dict[str, Any], dimensions: int, kind: str, name: str) -> str:
    """The one array of that many dimensions and kind, or of several that of this name."""
    found = [n for n, (shape, code) in kinds.items() if len(shape) == dimensions and code in kind]
    if name in found or len(found) == 1:
        return name if name in found else found[0]
    what = "a table of floats (V, D)" if dimensions == 2 else "a list of the V words"
    raise DataError(
        f"{path}: {what} named {name!r} is needed, "
        + (f"found several: {', '.join(sorted(found))}" if found else "found none")
    )


def _beside(path: Path, words: list[bytes], rows: int, parts: Iterator[np.ndarray]) -> Iterator[Block]:
    if len(words) != rows:
        raise DataError(f"{path}: {len(words):,} words but {rows:,} vectors; make or fetch the file again")
    start = 0
    for part in parts:
        end = start + len(part)
        with np.errstate(over="ignore"):
            yield list(range(start + 1, end + 1)), words[start:end], part.astype(np.float32, copy=False)
        start = end


_BLOCKS = {
    "glove": _glove,
    "word2vec": _word2vec,
    "word2vec-bin": _word2vec_bin,
    "npz": _npz,
    "safetensors": _safetensors,
}

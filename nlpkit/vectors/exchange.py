"""Word vectors in the files of others: what forms there are, how one is told by its content, and writing them.

V words, D numbers each. The forms: ``word2vec`` (text: a line ``V D``, then a line a word), ``word2vec-bin`` (the same
line, then word, space, D little-endian float32), ``glove`` (text without the first line), ``npz`` (numpy: words,
vectors, counts) and ``safetensors`` (the same; the words as the bytes of a text, a line a word). Text is the shortest
decimal that gives the same float32 again, so every form keeps every bit.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.store import atomic
from nlpkit.text.compression import compressed, reading
from nlpkit.vectors.tensors import writing_tensors
from nlpkit.vectors.vectors import Vectors, append_rows, blocks

FORMS = ("word2vec", "word2vec-bin", "glove", "npz", "safetensors")
TEXT = ("word2vec", "glove")
SPACE = re.compile(r"[ \t\n\r\v\f]")
SAMPLE = 1 << 16  # bytes that the form is told by
NAMED = 1 << 30  # bytes that an npz may spend on words, which all take the room of the longest


def known_form(form: str) -> str:
    """``form``, when it is one of :data:`FORMS`; else a UsageError."""
    if form not in FORMS:
        raise UsageError(f"--format {form!r} is not known{did_you_mean(form, FORMS)}")
    return form


def export_vectors(vectors: Vectors, target: str | Path, form: str) -> None:
    """Write vectors in one of :data:`FORMS`, a block at a time; text is compressed when its name ends in .gz or so."""
    known_form(form)
    target = Path(target)
    spaced = next((word for word in vectors.words if not word or SPACE.search(word)), None)
    if spaced is not None:
        raise DataError(
            f"the word {spaced!r} is empty or holds a space, which no form of vectors can tell apart"
        )
    if form == "safetensors":
        with writing_tensors(target) as writer:
            append_rows(writer, "vectors", vectors.matrix)
            writer.append("counts", np.asarray(vectors.counts, np.int64))
            text = "".join(f"{word}\n" for word in vectors.words).encode("utf-8", "surrogatepass")
            writer.append("words", np.frombuffer(text, np.uint8))
        return
    with atomic.writing(target) as file, compressed(file, target if form in TEXT else None) as out:
        if form == "npz":
            _npz(vectors, out)
            return
        if form != "glove":
            out.write(f"{len(vectors)} {vectors.width}\n".encode())
        start = 0
        for rows in blocks(vectors.matrix):
            rows = np.asarray(rows, "<f4")
            words = [w.encode("utf-8", "surrogatepass") for w in vectors.words[start : start + len(rows)]]
            start += len(rows)
            if form == "word2vec-bin":
                out.writelines(word + b" " + row.tobytes() for word, row in zip(words, rows, strict=True))
            else:
                out.writelines(b"%s %s\n" % pair for pair in zip(words, decimals(rows), strict=True))


def _npz(vectors: Vectors, out: IO[bytes]) -> None:
    longest = max(map(len, vectors.words), default=1)
    if 4 * longest * len(vectors) > NAMED:
        raise UsageError(
            f"--format npz keeps {longest:,} characters for each of {len(vectors):,} words, as long as the longest "
            "is; take safetensors"
        )
    words = np.array(vectors.words, dtype=f"<U{longest}")
    np.savez(out, words=words, vectors=vectors.matrix, counts=vectors.counts, allow_pickle=False)


def decimals(rows: np.ndarray) -> list[bytes]:
    """Each row (D,) of float32 as decimals between spaces: the shortest that are read back as the same bits.

    Readers go by way of float64. For a few numbers the shortest decimal then rounds to a neighbour; nine digits never
    do: they lie too near to the number for any double to be half-way to the next.

    >>> decimals(np.array([[0.1, -2.0], [7.038531e-26, 1e9]], np.float32))[0]
    b'0.1 -2.0'
    """
    cells = rows.astype("S16")
    wrong = cells.astype(np.float64).astype(np.float32) != rows
    for i, j in np.argwhere(wrong):
        cells[i, j] = b"%.9g" % rows[i, j]
    return [b" ".join(row) for row in cells.tolist()]


def form_of(path: Path) -> str:
    """The form of a file by its content.

    :raises DataError: it is none of :data:`FORMS`.
    """
    with reading(path) as file:
        head = file.read(SAMPLE)
    if head.startswith(b"PK\x03\x04"):
        return "npz"
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors"
    first, _, rest = head.partition(b"\n")
    if re.fullmatch(rb"\s*\d+ +\d+\s*", first):
        return "word2vec" if _is_text(rest, int(first.split()[1])) else "word2vec-bin"
    cells = first.split()
    if len(cells) > 1 and number(cells[-1]) is not None:
        return "glove"
    raise DataError(
        f"{path}: not word vectors in a known form ({', '.join(FORMS)}); pass --format when it is one of them"
    )


def _is_text(rows: bytes, width: int) -> bool:
    """Whether the numbers behind the first word are written in letters: its line is, or all of so many bytes are."""
    _, _, rest = rows.partition(b" ")
    cells = rest.partition(b"\n")[0].split()
    if len(cells) == width and all(number(cell) is not None for cell in cells):
        return True
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in rest[: min(64, 4 * width)])


def number(cell: bytes) -> float | None:
    """The number that a cell of a text is, or None.

    >>> number(b"-1.5e3"), number(b"1_000"), number(b"x")
    (-1500.0, None, None)
    """
    try:
        return None if b"_" in cell else float(cell)
    except ValueError:
        return None


def lines_of(file: IO[bytes], name: str, most: int = 1 << 22) -> Iterator[bytes]:
    """The lines of a text, their ends included; one of over ``most`` bytes is refused."""
    place = 0
    while line := file.readline(most):
        place += 1
        if len(line) == most and not line.endswith(b"\n"):
            raise DataError(f"{name}:{place}: a line over {most >> 20} MiB holds no word vector")
        yield line

"""Damage to every file of an index: verify finds it, and nothing is answered from it."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

from faults import WORDS, Tally, child, document, ended, text, token, word_vectors

from nlpkit.errors import ArtifactError, NlpkitError
from nlpkit.search.index import Index
from nlpkit.search.verify import verify


def corruptions(count: int, folder: Path, seed: int, tally: Tally) -> None:
    """Flipped bits, zeroed blocks, cuts, noise, stale and swapped files: found by verify, and never answered from."""
    vectors = word_vectors(folder)
    path, older = folder / "index", folder / "older"
    Index.build([document(f"a{i}") for i in range(500)], path, encoder_path=vectors).close()
    with Index.open(path, writable=True) as index:
        index.delete(["a3"])
    shutil.copytree(path, older)
    with Index.open(path, writable=True) as index:
        index.add([document(f"b{i}") for i in range(400)])
    with Index.open(path, writable=True) as index:
        index.add([document("late")])
        index.delete(["a7", "b7"])
    kinds: dict[str, list[str]] = {}
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.stat().st_size:
            kinds.setdefault(file.name, []).append(file.relative_to(path).as_posix())
    asked = [text("a11", 0), text("b11", 0), f"everyone {token('late', 0)}", " ".join(WORDS[5:7])]
    expected = {mode: _answers(path, asked, mode) for mode in ("bm25", "dense", "hybrid")}
    assert verify(path) == [] and all(expected["bm25"])
    told, kept = folder / "told.json", folder / "kept"
    shutil.copytree(path, kept)
    for kind, names in kinds.items():

        def work(kind: str = kind, names: list[str] = names) -> int:
            mine = Tally(kind, folder)
            for i in range(count):
                luck = random.Random(f"{seed} {kind} {i}")
                name = luck.choice(names)
                told.write_text(json.dumps([mine.counts, mine.failures, f"{name}, damage {i}"]))
                _one_damage(path, older, name, luck, asked, expected, mine, f"{name}, damage {i}")
                if len(mine.failures) > 10:
                    break
            told.write_text(json.dumps([mine.counts, mine.failures, ""]))
            return 0

        with child(tally.log, work) as pid:
            code = ended(pid)
        counts, failures, last = json.loads(told.read_text())
        tally.count("kinds of files")
        for what, number in counts.items():
            tally.count(what, number)
        for failure in failures:
            tally.fail(failure)
        if code:
            tally.fail(f"{last}: the process ended with {code}: {tally.log.read_text()[-800:]}")
        shutil.rmtree(path)  # a process that ended early left its damage
        shutil.copytree(kept, path)


def _answers(path: Path, asked: list[str], mode: str) -> list[list[tuple[str, float, str]]]:
    with Index.open(path) as index:
        return [[(h.id, h.score, h.text) for h in hits] for hits in index.search(asked, k=20, mode=mode)]


def damaged(raw: bytes, luck: random.Random, others: list[bytes]) -> bytes:
    """Other bytes in the place of these."""
    while True:
        way = luck.random()
        made = bytearray(raw)
        at = luck.randrange(len(raw))
        if way < 0.5:
            made[at] ^= 1 << luck.randrange(8)
        elif way < 0.65:
            at -= at % 512
            made[at : at + 4096] = bytes(len(made[at : at + 4096]))
        elif way < 0.8:
            del made[at:]
        elif way < 0.9:
            size = min(luck.randrange(1, 65), len(raw) - at)
            made[at : at + size] = luck.randbytes(size)
        else:
            made = bytearray(luck.choice(others)) if others else made
        if made != raw:
            return bytes(made)


def _one_damage(
    path: Path,
    older: Path,
    name: str,
    luck: random.Random,
    asked: list[str],
    expected: dict[str, Any],
    tally: Tally,
    where: str,
) -> None:
    file = path / name
    raw = file.read_bytes()
    others = [
        p.read_bytes() for p in (older / name, *sorted(file.parent.iterdir())) if p.is_file() and p != file
    ]
    file.write_bytes(damaged(raw, luck, [o for o in others if o]))
    tally.count("corruptions")
    try:
        if verify(path):
            tally.count("found by verify")
        else:
            tally.fail(f"{where}: not found by verify")
    except NlpkitError:
        tally.count("found by verify")
    except Exception as error:
        tally.fail(f"{where}: verify: {type(error).__name__}: {error}")
    mode = luck.choice(["bm25", "dense", "hybrid"])
    try:
        if _answers(path, asked, mode) == expected[mode]:
            tally.count("not touched by the search")
        else:
            tally.fail(f"{where}: another answer ({mode})")
    except ArtifactError:
        tally.count("refused by the search")
    except Exception as error:
        tally.fail(f"{where}: search ({mode}): {type(error).__name__}: {error}")
    file.write_bytes(raw)

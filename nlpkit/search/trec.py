"""Test collections and runs in files: BEIR folders (Thakur et al. 2021), and TREC's topics, judgements and runs.

Every file may be compressed. What is not as it should be is a DataError that names file:line.
"""

import html
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.metrics import ranking
from nlpkit.search.hits import Hit
from nlpkit.store.atomic import refuse_existing, writing
from nlpkit.text.compression import reading
from nlpkit.text.documents import Counts, Source, format_of, sources, texts

Qrels = dict[str, dict[str, int]]
Values = dict[str, dict[str, float]]  # by measure, then by query
Results = list[tuple[str, float]]  # document ids and scores

_HEADERS = {(a, b) for a in ("id", "_id", "query-id", "query_id", "qid") for b in ("text", "query", "title")}
_GRADES = {"score", "grade", "rel", "relevance", "label", "judgement", "judgment"}
_TOPIC = re.compile(r"<(top|topic)\b([^>]*)>(.*?)</\1\s*>", re.DOTALL | re.IGNORECASE)
_FIELD = re.compile(r"<(num|title|desc|query)\b[^>]*>([^<]*)", re.IGNORECASE)
_LABEL = re.compile(r"^\s*(number|topic|description)\s*:", re.IGNORECASE)


@dataclass(frozen=True)
class Judged:
    """A test collection: where its corpus lies, queries by id, judgements by query id and document id."""

    corpus: Path
    queries: dict[str, str]
    qrels: Qrels


def _file(path: str | Path, form: str | None = None) -> Source:
    found = sources([path], form)
    if len(found) != 1 or Path(path).is_dir():
        raise DataError(f"{path}: is a folder; name a file in it")
    return found[0]


def _lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank; they are streamed."""
    counts = Counts()
    for number, line in enumerate(texts(_file(path, "text"), "line", "replace", counts), 1):
        if line and not line.isspace():
            yield number, line
    counts.report()


def read_queries(path: str | Path) -> dict[str, str]:
    """Queries by id, in order.

    Records (jsonl, csv, Parquet) have ``_id|id`` and ``text``; other files have lines of ``id<TAB>text``, a bare line
    is numbered; a file that begins with a tag holds TREC topics, whose title is the query (the description where
    there is no title).
    """
    form = format_of(path)
    found: dict[str, str] = {}
    if form in ("text", "tsv"):
        pairs = _topics(path) if _begins_with_tag(path) else _tabbed(path)
    else:
        pairs = _recorded(path, form)
    for name, text, where in pairs:
        if name in found:
            raise DataError(f"{where}: query id {name!r} occurs twice")
        found[name] = text
    if not found:
        raise DataError(f"{path}: has no queries; name a file that has some")
    return found


def _recorded(path: str | Path, form: str) -> Iterator[tuple[str, str, str]]:
    from nlpkit.text.records import read_records

    for number, (record, where) in enumerate(read_records(_file(path, form)), 1):
        name = record.get("_id", record.get("id"))
        yield str(number if name is None else name), record["text"], where


def _tabbed(path: str | Path) -> Iterator[tuple[str, str, str]]:
    first = True
    for number, line in _lines(path):
        name, tab, text = line.rstrip("\r\n").partition("\t")
        name = name.strip()
        header = first and (name.lower(), text.strip().lower()) in _HEADERS
        first = False
        if not header:
            yield (
                (name or str(number), text, f"{path}:{number}")
                if tab
                else (
                    str(number),
                    line,
                    f"{path}:{number}",
                )
            )


def _begins_with_tag(path: str | Path) -> bool:
    source = _file(path, "text")
    with reading(source.path) as file:
        head = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return head.startswith((b"<top", b"<?xml", b"<!--", b"<xml", b"<query"))


def _topics(path: str | Path) -> Iterator[tuple[str, str, str]]:
    counts = Counts()
    whole = "".join(texts(_file(path, "text"), "file", "replace", counts))
    counts.report()
    at, line = 0, 1
    for match in _TOPIC.finditer(whole):
        line, at = line + whole.count("\n", at, match.start()), match.start()
        where = f"{path}:{line}"
        fields: dict[str, str] = {}
        for tag, text in _FIELD.findall(match[3]):
            fields.setdefault(tag.lower(), " ".join(html.unescape(_LABEL.sub("", text)).split()))
        number = re.search(r"\b(?:number|id)\s*=\s*[\"']([^\"']+)", match[2])
        name = number[1].strip() if number else fields.get("num", "")
        text = next((fields[f] for f in ("title", "query", "desc") if fields.get(f)), "")
        if not name or not text:
            raise DataError(f"{where}: a topic without a {'title' if name else 'number'}")
        yield name, text, where


def read_qrels(path: str | Path) -> Qrels:
    """Judgements: ``query-id<TAB>corpus-id<TAB>score`` (BEIR, with a header), or TREC's ``query 0 document grade``.

    Grades are whole numbers. A pair that is judged twice with two grades is a DataError.
    """
    found: Qrels = {}
    first = True
    for number, line in _lines(path):
        cells = line.split("\t") if "\t" in line else line.split()
        header = first and cells[-1].strip().lower() in _GRADES
        first = False
        if header:
            continue
        if len(cells) == 4:
            del cells[1]
        try:
            query, name, told = (cell.strip() for cell in cells)
            value = float(told)
        except ValueError as error:
            raise DataError(f"{path}:{number}: expected query id, document id and a grade") from error
        if not value.is_integer():
            raise DataError(f"{path}:{number}: the grade {told} is not a whole number; round it first")
        grade = int(value)
        if not query or not name:
            raise DataError(
                f"{path}:{number}: an empty {'document' if query else 'query'} id; expected query id, document id "
                "and a grade"
            )
        if found.setdefault(query, {}).setdefault(name, grade) != grade:
            raise DataError(
                f"{path}:{number}: query {query!r} judges document {name!r} twice: {found[query][name]} and {grade}"
            )
    if not found:
        raise DataError(f"{path}: has no judgements; name a file that has some")
    return found


def _one_of(folder: Path, stem: str, ends: Sequence[str]) -> Path:
    for end in ends:
        for packed in ("", ".gz", ".zst", ".xz", ".bz2"):
            path = folder / f"{stem}{end}{packed}"
            if path.is_file():
                return path
    raise UsageError(
        f"{folder}: no {stem}{ends[0]}; a BEIR folder has corpus.jsonl, queries.jsonl and qrels/"
    )


def read_beir(folder: str | Path, split: str = "test") -> Judged:
    """A test collection in BEIR's layout; ``split`` names the file in ``qrels/``."""
    folder = Path(folder)
    corpus = _one_of(folder, "corpus", (".jsonl", ".tsv"))
    queries = read_queries(_one_of(folder, "queries", (".jsonl", ".tsv")))
    inside = sorted({p.name.partition(".")[0] for p in (folder / "qrels").glob("*.tsv*")})
    if inside and split not in inside:
        raise UsageError(f"{folder}/qrels: no split {split!r}{did_you_mean(split, inside)}")
    qrels = read_qrels(
        _one_of(folder / "qrels", split, (".tsv",)) if inside else _one_of(folder, "qrels", (".tsv",))
    )
    return Judged(corpus, queries, qrels)


# Runs


def _run_lines(path: str | Path, wanted: Collection[str]) -> Iterator[tuple[str, str, float, int]]:
    for number, line in _lines(path):
        cells = line.split()
        if len(cells) != 6:
            raise DataError(
                f"{path}:{number}: expected the six columns of a TREC run (query Q0 document rank score tag), "
                f"found {len(cells)}"
            )
        try:
            score = float(cells[4])
        except ValueError:
            score = math.nan
        if math.isnan(score):
            raise DataError(f"{path}:{number}: the score {cells[4]} is not a number")
        if cells[0] in wanted:
            yield cells[0], cells[2], score, number


class _Scattered(Exception):
    """The lines of a query do not stand together."""


def _together(path: str | Path, wanted: Collection[str]) -> Iterator[tuple[str, Results]]:
    done: set[str] = set()
    for query, lines in groupby(_run_lines(path, wanted), itemgetter(0)):
        if query in done:
            raise _Scattered
        done.add(query)
        yield query, _distinct(path, query, ((name, score, number) for _, name, score, number in lines))


def _distinct(path: str | Path, query: str, lines: Iterable[tuple[str, float, int]]) -> Results:
    found: dict[str, float] = {}
    for name, score, number in lines:
        if name in found:
            raise DataError(f"{path}:{number}: document {name!r} is listed twice for query {query!r}")
        found[name] = score
    return list(found.items())


def read_run(path: str | Path, queries: Collection[str]) -> Iterator[tuple[str, Results]]:
    """The results of those queries of a TREC run file that are among ``queries``, one query at a time.

    A file in which a query's lines stand together, as programs write them, is streamed; of any other the lines of
    ``queries`` are held, and what was yielded before that was noticed is yielded again, whole. The column of ranks is
    not looked at, as in trec_eval.
    """
    try:
        yield from _together(path, queries)
        return
    except _Scattered:
        pass
    held: dict[str, list[tuple[str, float, int]]] = {}
    for query, name, score, number in _run_lines(path, queries):
        held.setdefault(query, []).append((name, score, number))
    for query, lines in held.items():
        yield query, _distinct(path, query, lines)


def write_run(
    run: Iterable[tuple[str, Sequence[Hit]]], output: str | Path, *, tag: str = "nlpkit", force: bool = False
) -> int:
    """A TREC run file, one line a hit: ``query Q0 document rank score tag``; how many lines.

    trec_eval sorts by score in single precision and equal ones by id, whatever the ranks say. So that it sees the
    order of the hits, a score that does not fall is written as the next smaller number.
    """
    path = refuse_existing(output, force)
    count = 0
    with writing(path, "w", encoding="utf-8") as file:
        for query, hits in run:
            for rank, (hit, score) in enumerate(zip(hits, falling([h.score for h in hits]), strict=True), 1):
                for name in (query, hit.id):
                    if not name or any(c.isspace() for c in name):
                        raise DataError(
                            f"id {name!r} cannot stand in a TREC run file, which is split at spaces"
                        )
                file.write(f"{query} Q0 {hit.id} {rank} {score:.9g} {tag}\n")
                count += 1
    return count


def falling(scores: Sequence[float]) -> list[float]:
    """``scores`` in single precision, each smaller than the one before it.

    >>> falling([2.0, 1.0, 1.0])[:2], falling([2.0, 1.0, 1.0])[2] < 1
    ([2.0, 1.0], True)
    """
    made = np.asarray(scores, np.float32)
    if len(made) > 1 and not (made[1:] < made[:-1]).all():
        for i in range(1, len(made)):
            made[i] = min(made[i], np.nextafter(made[i - 1], np.float32(-np.inf)))
    return [float(score) for score in made]


# Values of single queries


def read_values(path: str | Path) -> Values | None:
    """Values by measure and query that ``nlpkit eval --per-query`` wrote; ``None``: the file is something else."""
    source = _file(path, "text")
    with reading(source.path) as file:
        head = file.readline(1 << 16).removeprefix(b"\xef\xbb\xbf")
    if head.lstrip().startswith(b"{"):
        return _values_of_json(path)
    names = head.decode("utf-8", "replace").rstrip("\r\n").split("\t")
    if len(names) < 2 or names[0] != "query":
        return None
    columns = [(i, name) for i, name in enumerate(names) if i and _is_measure(name)]
    values: Values = {name: {} for _, name in columns}
    for number, line in _lines(path):
        if number == 1:
            continue
        cells = line.rstrip("\r\n").split("\t")
        try:
            for i, name in columns:
                values[name][cells[0]] = float(cells[i])
        except (IndexError, ValueError) as error:
            raise DataError(
                f"{path}:{number}: expected {len(names)} cells with numbers under the measures"
            ) from error
    return values


def _values_of_json(path: str | Path) -> Values:
    with reading(_file(path, "text").path) as file:
        try:
            told = json.loads(file.read())
            per_query = told["per_query"]
            return {
                str(name): {str(query): float(value) for query, value in of.items()}
                for name, of in per_query.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: holds no values of single queries; write them with nlpkit eval … --per-query FILE.json"
            ) from error


def _is_measure(name: str) -> bool:
    try:
        ranking.parse(name)
    except UsageError:
        return False
    return True


def write_values(
    values: Values,
    output: str | Path,
    queries: Mapping[str, str],
    *,
    against: Values | None = None,
    force: bool = False,
) -> None:
    """A TSV of one query a line: its id, the measures, those of another system with the differences, its text.

    A name that ends in .json gets ``{"per_query": {measure: {query: value}}}``. :func:`read_values` reads both.
    """
    path = refuse_existing(output, force)
    if path.suffix == ".json":
        with writing(path, "w", encoding="utf-8") as file:
            json.dump({"per_query": values}, file, ensure_ascii=False, indent=1)
        return
    header = ["query", *values]
    for name in against or {}:
        header += [f"{name} (other)", f"{name} (difference)"]
    with writing(path, "w", encoding="utf-8") as file:
        file.write("\t".join([*header, "text"]) + "\n")
        for query in next(iter(values.values())):
            cells = [_flat(query), *(repr(of[query]) for of in values.values())]
            for name, of in (against or {}).items():
                known = query in of
                cells += [repr(of[query]), f"{values[name][query] - of[query]:+.6f}"] if known else ["", ""]
            file.write("\t".join([*cells, _flat(queries.get(query, ""))]) + "\n")


def _flat(text: str) -> str:
    return " ".join(text.split())

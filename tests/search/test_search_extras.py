"""Fusion and its tuning, reranking, snippets, test collections, run files."""

import gzip
import json

import numpy as np
import pytest

from nlpkit.errors import ArtifactError, DataError, UsageError
from nlpkit.search.evaluate import evaluate, read_beir, read_qrels, read_queries, retrieve, write_run
from nlpkit.search.fuse import GRID, fused, steady, tune, union
from nlpkit.search.hits import Hit
from nlpkit.search.index import Index
from nlpkit.search.present import as_json, as_text
from nlpkit.search.rerank import rerank
from nlpkit.search.snippet import snippet
from nlpkit.search.topk import top
from nlpkit.text.documents import Document


def test_top_breaks_ties_by_position():
    rng = np.random.default_rng(0)
    for k in (0, 1, 3, 10, 40):
        scores = rng.integers(0, 5, 30).astype(float)
        expected = sorted(range(30), key=lambda i: (-scores[i], i))[:k]
        assert top(scores, k).tolist() == expected


def test_mixing_by_hand():
    words, near = np.array([5.0, 0.0, 2.0]), np.array([0.1, 0.9, 0.5])
    found = union((np.array([0, 2]), words), (np.array([1, 2, 0]), near), np.arange(3))
    np.testing.assert_allclose(fused(found, "rrf", 0.5), [1 / 61 + 1 / 63, 1 / 61, 1 / 62 + 1 / 62])
    np.testing.assert_allclose(fused(found, "norm", 0.25), [0.75, 0.25, 0.75 * 0.4 + 0.25 * 0.5])
    found = union((np.array([0]), words[:2]), (np.array([1]), near[:2]), np.arange(2))
    np.testing.assert_allclose(fused(found, "rrf", 0.5), [1 / 61, 1 / 61])


def test_few_judgments_do_not_lead_far_from_one_half():
    rng = np.random.default_rng(0)
    grid = np.array(GRID)
    truth = 0.5 - (grid - 0.6) ** 2
    noise = rng.normal(size=(2000, len(grid))).cumsum(axis=1) * 0.05  # neighbours err alike
    assert GRID[steady(truth + noise)[0]] == pytest.approx(0.6, abs=0.1)
    draws = [truth + noise[i : i + 4] for i in range(0, 400, 4)]
    ours = [GRID[steady(few)[0]] for few in draws]
    best = [GRID[int(few.mean(axis=0).argmax())] for few in draws]
    assert np.std(ours) < 0.5 * np.std(best)
    assert GRID[steady(np.ones((3, len(grid))))[0]] == 0.5


def test_tuning_finds_the_side_that_is_right(tmp_path, loader, documents):
    some = documents(60)
    index = Index.build(some, tmp_path / "i", encoder_path="m", loader=loader)
    queries = {f"q{i}": f"{some[i].title} {some[i].text}" for i in range(8)}
    for mode in ("bm25", "dense"):
        # What one side alone ranks first is declared relevant: its weight has to win.
        qrels = {}
        for name, text in queries.items():
            hits = index.search(text, mode=mode, k=10)[0]
            qrels[name] = {hit.id: 10 - rank for rank, hit in enumerate(hits)}
        found = tune(index, queries, qrels)
        assert found["queries"] == 8 and list(found["curve"]) == [str(w) for w in GRID]
        assert (found["weight"] > 0.5) == (mode == "dense")
        assert found["ndcg@10"] == found["curve"][str(found["weight"])]
        assert found["ndcg@10"] >= max(found["curve"].values()) - found["error"] - 1e-9
        # The figure is what a search with that weight really gives.
        result = evaluate(index, queries, qrels, "hybrid", weight=found["weight"])
        assert result["ndcg@10"] == pytest.approx(found["ndcg@10"])
        with Index.open(tmp_path / "i", writable=True, loader=loader) as opened:
            opened.set_weight(found["weight"])
        assert Index.open(tmp_path / "i", loader=loader).settings.weight == found["weight"]
    with pytest.raises(DataError, match="ids the same"):
        tune(index, queries, {"other": {"d1": 1}})


class Longest:
    def score(self, query, texts):
        return np.array([len(t) for t in texts], np.float32)


def test_rerank_orders_the_pool_and_keeps_the_first_score(tmp_path, documents):
    index = Index.build(documents(30), tmp_path / "i")
    first = index.search("red cat bird", k=12)[0]
    found = index.search("red cat bird", k=3, rerank=Longest(), pool=12)[0]
    length = {h.id: len(f"{h.title} {h.text}" if h.title else h.text) for h in first}
    assert [h.score for h in found] == sorted(length.values(), reverse=True)[:3]
    assert all(h.parts["rerank"] == length[h.id] == h.score for h in found)
    assert {h.id: h.parts["first"] for h in found}.items() <= {h.id: h.score for h in first}.items()

    class Broken:
        def score(self, query, texts):
            return np.full(len(texts), np.nan)

    with pytest.raises(ArtifactError, match="not finite"):
        rerank("q", first, Broken(), 3)
    assert rerank("q", [], Broken(), 3) == []


def test_expansion_finds_what_the_first_documents_speak_of(tmp_path, loader):
    texts = ["car engine", "car engine oil", "engine repair", *(f"filler {i}" for i in range(37))]
    documents = [Document(text, f"d{i}", fields={"odd": i % 2}) for i, text in enumerate(texts)]
    index = Index.build(documents, tmp_path / "i", encoder_path="m", loader=loader)

    def found(**more):
        return [h.id for h in index.search("car", mode="bm25", **more)[0]]

    assert found() == ["d0", "d1"] and found(expand=True) == ["d0", "d1", "d2"]
    assert found(expand=True, where="odd = 0") == ["d0", "d2"]
    (hits,) = index.search("car", mode="bm25", expand=True, explain=True)
    for hit in hits:
        assert sum(w for _, w in hit.why["terms"]) == pytest.approx(hit.parts["bm25"])
    assert [t for t, _ in hits[2].why["terms"]] == ["engin"]
    assert "d2" in [h.id for h in index.search("car", expand=True, mode="hybrid", weight=0.0)[0][:3]]
    assert index.search("zebra", mode="bm25", expand=True) == [[]]


def analyze(text):
    return text.lower().split()


def test_snippet_shows_the_densest_place():
    text = "cat " + "filler words here " * 40 + "the cat sat by the red river and " + "more of it " * 40
    found = snippet(text, {"cat", "red", "river"}, analyze, 60)
    shown = text[found.start : found.end]
    assert "cat sat by the red river" in shown and len(shown) <= 70
    assert [text[a:b] for a, b in found.highlights] == ["cat", "cat", "red", "river"]
    assert not text[found.start - 1].strip() and (found.end == len(text) or not text[found.end].strip())
    assert snippet("short", set(), analyze).end == 5
    plain = snippet(text, {"absent"}, analyze, 60)
    assert plain.start == 0 and plain.highlights == [] and plain.end <= 60


def test_highlights_are_offsets_in_the_raw_text(tmp_path):
    text = "Caf\u00e9s, CAFE\u0301! file_names os.path\nand a\x1b[31m file"
    index = Index.build([Document(text, "a")], tmp_path / "i")
    (hit,) = index.search("cafe file path")[0]
    (record,) = as_json([hit], "cafe file path", index.analyze)
    marked = [record["text"][a:b] for a, b in record["highlights"]]
    assert marked == ["Caf\u00e9s", "CAFE\u0301", "file", "path", "file"]
    start = record["snippet_start"]
    assert record["text"][start : start + len(record["snippet"])] == record["snippet"]
    (record,) = as_json([Hit("a", 1.0, "", "The Caf\u00e9")], "cafe", index.analyze)
    assert record["title_highlights"] == [[4, 8]] and record["highlights"] == []


EVIL = "[bold]not markup[/bold] red\x1b[2J \u202e cat " + "x" * 300 + " " + "漢字" * 60


def width(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))


@pytest.mark.parametrize("columns", [10, 40, 60, 100, 300])
def test_terminal_text_is_wrapped_and_cannot_steer_the_terminal(monkeypatch, columns):
    from rich.cells import cell_len

    why = {
        "ranks": {"bm25": 3, "dense": None, "mixed": 4, "rerank": 1},
        "terms": [("red", 1.5), ("\x1b]0;x", 0.25), *((f"word{i}", 0.1) for i in range(9))],
        "mixed": {"bm25": 0.5, "dense": 0.125},
    }
    parts = {"bm25": 2.75, "dense": 0.5, "first": 0.625, "rerank": 1.5, "depth": 20.0}
    hits = [
        Hit("id\x07", 1.5, EVIL, "A \x1b]8;;title", {}, parts, why=why),
        Hit("long/" * 12, 0.5, EVIL, "漢字" * 40, {}, {"bm25": 1.0}, start=60, end=90),
        Hit("name", 0.0, "", "", {}, {}),
    ]
    width(monkeypatch, columns)
    lines = list(as_text(hits, "red cat", analyze))
    room = max(24, min(columns, 100))
    names = ("id\\x07", "long/" * 12, "name")  # ids stay whole, to be copied
    assert all(cell_len(line) <= room for line in lines if not any(name in line for name in names))
    assert all(any(name in line for line in lines) for name in names)
    assert not any(ord(c) < 32 or c == "\u202e" for c in "".join(lines))
    shown = " ".join(lines)
    assert columns < 40 or ("[bold]not" in shown and "markup[/bold]" in shown)
    if columns >= 60:
        told = [line.split() for line in lines if line.startswith("    ")]
        assert ["bm25", "2.7500", "#3"] in [t[:3] for t in told]
        assert ["dense", "0.5000", "–"] in told
        assert ["mixed", "0.6250", "#4", "bm25", "0.500", "·", "dense", "0.125"] in told
        assert ["rerank", "1.5000", "#1", "up", "3", "·", "the", "first", "20", "were", "read"] in told
        assert "\\x1b]0;x 0.25" in shown and "3 more 0.30" in shown
    # A passage is shown by itself, with dots for the text around it.
    assert any(line.startswith("    …") for line in lines)


def test_colour_is_closed_and_marks_the_words(monkeypatch):
    width(monkeypatch, 80)
    title = next(as_text([Hit("a", 2.0, "", "The cat sat")], "cat", analyze))
    assert "\x1b" not in title
    plain = list(as_text([Hit("a", 2.0, EVIL, "T"), Hit("b", 1.0, "a cat", "")], "cat", analyze))
    assert "\x1b" not in "".join(plain)
    monkeypatch.setattr("nlpkit.console.colour", lambda: True)
    coloured = list(as_text([Hit("a", 2.0, EVIL, "T"), Hit("b", 1.0, "a cat", "")], "cat", analyze))
    assert "\x1b[1;33mcat\x1b[0m" in coloured[-2]
    title = next(as_text([Hit("a", 2.0, "", "The cat sat")], "cat", analyze))
    assert "\x1b[1mThe \x1b[0m\x1b[1;33mcat\x1b[0m\x1b[1m sat\x1b[0m" in title
    assert all(line.count("\x1b[") == line.count("\x1b[0m") * 2 for line in coloured)
    assert "█████" in coloured[0] and "██▌" in next(line for line in coloured if "1.0000" in line)
    import re

    bare = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in coloured]
    assert [re.sub(" [█▌ ]{5}$", "", line).split() for line in bare] == [line.split() for line in plain]


def test_query_and_judgement_files(tmp_path):
    (tmp_path / "q.tsv").write_text("query-id\ttext\n7\tred cat\n8\tblue\tdog\n\n")
    assert read_queries(tmp_path / "q.tsv") == {"7": "red cat", "8": "blue\tdog"}
    (tmp_path / "q.txt").write_text("red cat\nblue dog\n")
    assert read_queries(tmp_path / "q.txt") == {"1": "red cat", "2": "blue dog"}
    with gzip.open(tmp_path / "q.jsonl.gz", "wt") as file:
        file.write('{"_id": 5, "text": "red"}\n{"_id": "x y", "text": "b"}\n')
    assert read_queries(tmp_path / "q.jsonl.gz") == {"5": "red", "x y": "b"}
    (tmp_path / "r.tsv").write_text("query-id\tcorpus-id\tscore\n7\td1\t2\n7\td2\t0\n")
    assert read_qrels(tmp_path / "r.tsv") == {"7": {"d1": 2, "d2": 0}}
    (tmp_path / "r.txt").write_text("7 0 d1 2\n8 0 d2 1\n")
    assert read_qrels(tmp_path / "r.txt") == {"7": {"d1": 2}, "8": {"d2": 1}}
    (tmp_path / "bad").write_text("7 0 d1 2\nnonsense\n")
    with pytest.raises(DataError, match="bad:2"):
        read_qrels(tmp_path / "bad")
    (tmp_path / "twice").write_text("7\ta\n7\tb\n")
    with pytest.raises(DataError, match="'7' occurs twice"):
        read_queries(tmp_path / "twice")
    for read in (read_queries, read_qrels):
        (tmp_path / "empty").write_text("")
        with pytest.raises(DataError):
            read(tmp_path / "empty")


def test_beir_folder_end_to_end(tmp_path):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    texts = ["red cat", "blue dog", "green bird", "a red bird"]
    with gzip.open(folder / "corpus.jsonl.gz", "wt") as file:
        for i, text in enumerate(texts):
            file.write(json.dumps({"_id": f"d{i}", "title": "", "text": text}) + "\n")
    (folder / "queries.jsonl").write_text(
        "".join(
            json.dumps({"_id": f"q{i}", "text": t}) + "\n"
            for i, t in enumerate(["red", "dogs", "fish", "unjudged"])
        )
    )
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq0\td3\t1\nq1\td1\t1\nq2\td2\t1\nq9\td1\t1\n"
    )
    judged = read_beir(folder)
    from nlpkit.text.documents import read_documents

    index = Index.build(read_documents([judged.corpus]), tmp_path / "i")
    result = evaluate(index, judged.queries, judged.qrels)
    assert json.loads(json.dumps(result)) == result
    run, took = retrieve(index, {q: judged.queries[q] for q in ("q0", "q1", "q2")})
    assert len(took) == 3
    assert result["queries"] == 3 and result["mode"] == "bm25"
    # red: d0 and d3 differ in length only; "a" is a stop word, so they tie and d0 comes first.
    assert result["mrr@10"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert result["recall@10"] == pytest.approx(2 / 3)
    assert result["latency_ms"]["p95"] >= result["latency_ms"]["p50"] > 0
    assert write_run(run.items(), tmp_path / "out.trec") == 3
    first = (tmp_path / "out.trec").read_text().splitlines()[0].split()
    assert first[:4] == ["q0", "Q0", "d0", "1"] and first[5] == "nlpkit" and len(first) == 6
    with pytest.raises(UsageError, match="exists"):
        write_run([], tmp_path / "out.trec")
    with pytest.raises(DataError, match="split at spaces"):
        write_run([("q", [Hit("a b", 1.0, "")])], tmp_path / "no.trec")
    assert not (tmp_path / "no.trec").exists()
    with pytest.raises(UsageError, match="did you mean 'test'"):
        read_beir(folder, "tets")
    with pytest.raises(UsageError, match="BEIR"):
        read_beir(tmp_path)

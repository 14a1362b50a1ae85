"""Evaluation of indexes and TREC runs: files in every form, what counts, comparison, equal to trec_eval's code."""

import gzip
import json
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import pytrec_eval

from nlpkit.cli import run as cli
from nlpkit.errors import DataError, UsageError
from nlpkit.metrics.intervals import paired_randomisation
from nlpkit.search import trec
from nlpkit.search.evaluate import (
    Task,
    compare,
    falling,
    judge,
    measure_index,
    measure_run,
    read_beir,
    read_qrels,
    read_queries,
    read_run,
    write_run,
)
from nlpkit.search.hits import Hit
from nlpkit.search.index import Index
from nlpkit.text.documents import Document


def call(*words):
    return cli([str(w) for w in words])


@pytest.fixture
def files(tmp_path):
    def write(name, text):
        path = tmp_path / name
        with gzip.open(path, "wt") if name.endswith(".gz") else open(path, "w") as file:
            file.write(text)
        return path

    return write


@pytest.fixture
def place(tmp_path, files, documents):
    """An index of 60 documents, 12 queries, graded judgements."""
    rng = np.random.default_rng(1)
    some = documents(60)
    Index.build(some, tmp_path / "i").close()
    files("q.tsv", "".join(f"q{i}\t{some[i].text}\n" for i in range(12)))
    rows = [f"q{i}\td{d}\t{rng.integers(0, 3)}\n" for i in range(12) for d in rng.permutation(60)[:15]]
    files("r.tsv", "query-id\tcorpus-id\tscore\n" + "".join(rows))
    return tmp_path


# Files


@pytest.mark.parametrize("name", ["topics.txt", "topics.txt.gz"])
def test_trec_topics(files, name):
    path = files(
        name,
        "<top>\n<num> Number: 301\n<title> International &amp; Organized\n Crime\n\n<desc> Description:\nIdentify"
        " organizations\n<narr> Narrative:\nrelevant\n</top>\n\n<top>\n<num>302</num><title></title>\n"
        "<desc> Description: Is polio < 100 % gone?\n</top>\n",
    )
    assert read_queries(path) == {"301": "International & Organized Crime", "302": "Is polio"}
    xml = files(
        "t.xml", '<?xml version="1.0"?>\n<topics><topic number="1"><query>covid</query></topic></topics>'
    )
    assert read_queries(xml) == {"1": "covid"}
    with pytest.raises(DataError, match=r"bad:2: a topic without a number"):
        read_queries(files("bad", "\n<top><title> x</top>"))
    with pytest.raises(DataError, match="occurs twice"):
        read_queries(files("two", "<top><num>1<title>x</top><top><num>1<title>y</top>"))


def test_queries_of_records(files):
    assert read_queries(files("q.csv", 'id,text\n7,"red, cat"\n8,dog\n')) == {"7": "red, cat", "8": "dog"}
    assert read_queries(files("e.tsv", "id\tquery\n7\t\n8\tdog\n")) == {"7": "", "8": "dog"}
    with pytest.raises(DataError, match=r"j\.jsonl:2"):
        read_queries(files("j.jsonl", '{"_id": 1, "text": "a"}\n{"_id": 2}\n'))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a 0 d1 1\na 0 d2\n", r"r:2: a|r:2: expected query id, document id and a grade"),
        ("nonsense\n", "r:1: expected query id"),
        ("a 0 d1 yes\n", "r:1: expected query id"),
        ("a 0 d1 1\na 0 d2 0.5\n", r"r:2: the grade 0\.5 is not a whole number"),
        ("a 0 d1 nan\n", "r:1: the grade nan"),
        ("a\td1\t1\n\nb\t\t1\n", "r:3: an empty document id"),
        ("a 0 d1 1\na 0 d1 2\n", "r:2: query 'a' judges document 'd1' twice: 1 and 2"),
        ("query-id\tcorpus-id\tscore\n", "no judgements"),
        ("\n \n", "no judgements"),
    ],
)
def test_bad_judgements_are_told_with_their_place(files, text, said):
    with pytest.raises(DataError, match=said):
        read_qrels(files("r", text))


def test_good_judgements(files):
    found = read_qrels(files("r.gz", "qid\tdocid\trelevance\r\na\td 1\t1.0\r\n\na\td2\t-1\na\td2\t-1\n"))
    assert found == {"a": {"d 1": 1, "d2": -1}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a Q0 d1 1 2.0 x\na Q0 d2 2 1.0\n", "o:2: expected the six columns .*, found 5"),
        ("a Q0 d1 1 high x\n", "o:1: the score high is not a number"),
        ("a Q0 d1 1 nan x\n", "o:1: the score nan"),
        ("a Q0 d1 1 2 x\nb Q0 d1 1 2 x\na Q0 d1 2 1 x\n", "o:3: document 'd1' is listed twice for query 'a'"),
        ("a Q0 d1 1 2 x\n\na Q0 d1 2 1 x\n", "o:3: document 'd1' is listed twice"),
    ],
)
def test_bad_runs_are_told_with_their_place(files, text, said):
    with pytest.raises(DataError, match=said):
        dict(read_run(files("o", text), {"a", "b"}))


def test_runs_in_any_order_of_lines(files):
    together = "a Q0 d1 1 2.5 x\na Q0 d2 2 1 x\nb Q0 d1 1 7 x\n"
    apart = "a Q0 d1 1 2.5 x\nb Q0 d1 1 7 x\nz Q0 d1 1 7 x\na Q0 d2 2 1 x\n"
    expected = {"a": [("d1", 2.5), ("d2", 1.0)], "b": [("d1", 7.0)]}
    for name, text in {"one": together, "two": apart, "three.gz": apart}.items():
        path = files(name, text)
        assert dict(read_run(path, {"a", "b"})) == expected
        task = Task.of(None, {"a": {"d2": 1}, "b": {"d1": 1}, "c": {"d1": 1}})
        made = measure_run(path, task, ["mrr"])
        assert made.values == {"mrr": {"a": 0.5, "b": 1.0, "c": 0.0}} and made.without_hits == 1
    with pytest.raises(DataError, match="no result of a judged query"):
        measure_run(path, Task.of(None, {"c": {"d1": 1}}), ["mrr"])


def test_long_runs_are_streamed(files):
    lines = "".join(f"q{q} Q0 document{d} {d} {1000 - d} x\n" for q in range(40) for d in range(500))
    path = files("o", lines)
    task = Task.of(None, {f"q{q}": {"document3": 1} for q in range(40)})
    tracemalloc.start()
    assert measure_run(path, task, ["mrr"]).means() == {"mrr": 0.25}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(lines)  # held as Python objects, the run is seven times its text


# What counts


def test_an_index_and_the_run_it_writes_are_one_and_equal_to_trec_eval(place):
    qrels, queries = read_qrels(place / "r.tsv"), read_queries(place / "q.tsv")
    told = judge(
        place / "i", queries=place / "q.tsv", qrels=place / "r.tsv", run_file=place / "o.trec",
        measures=["ndcg@10", "map", "recall@20", "r-precision"],
    )  # fmt: skip
    run = {q: dict(results) for q, results in read_run(place / "o.trec", queries)}
    # Equal scores are frequent here: the run says the order of the hits to who sorts by score.
    assert any(
        len({h.score for h in Index.open(place / "i").search(text, k=100)[0]}) < len(run[q])
        for q, text in queries.items()
    )
    for q, text in queries.items():
        ids = [h.id for h in Index.open(place / "i").search(text, k=100)[0]]
        assert sorted(run[q], key=lambda d: (np.float32(run[q][d]), d), reverse=True) == ids
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "map", "recall.20", "Rprec"}).evaluate(run)
    names = {"ndcg@10": "ndcg_cut_10", "map": "map", "recall@20": "recall_20", "r-precision": "Rprec"}
    for mine, name in names.items():
        assert told[mine] == pytest.approx(np.mean([theirs[q][name] for q in qrels]), abs=1e-9)
    of_run = judge(place / "o.trec", qrels=place / "r.tsv", measures=list(names))
    assert all(
        of_run[name] == told[name] and of_run[f"{name}_interval"] == told[f"{name}_interval"]
        for name in names
    )
    assert of_run["kind"] == "TREC run" and "latency_ms" not in of_run and told["k"] == 100
    low, high = told["map_interval"]
    assert low < told["map"] < high


def test_scores_that_fall():
    assert falling([3.0, 2.0, 1.0]) == [3.0, 2.0, 1.0] and falling([]) == []
    made = falling([1.0, 1.0, 1.0, 0.5, 0.5 + 1e-12, -2.0])
    assert all(np.float32(f"{a:.9g}") > np.float32(f"{b:.9g}") for a, b in pairwise(made))
    assert max(abs(np.array(made) - [1, 1, 1, 0.5, 0.5, -2])) < 1e-6


def test_what_is_left_out_is_counted_and_told(tmp_path, files, capfd):
    Index.build([Document("red cat", "a"), Document("blue dog", "b")], tmp_path / "i").close()
    files("q", "1\tred\n2\tzebra\n3\tdog\n4\tblue\n")
    files("r", "1 0 a 2\n2 0 a 1\n3 0 b 0\n9 0 b 1\n")
    told = judge(tmp_path / "i", queries=tmp_path / "q", qrels=tmp_path / "r", measures=["mrr", "success@1"])
    assert (told["queries"], told["without_hits"], told["mrr"]) == (2, 1, 0.5)
    assert told["left_out"] == {"without_relevant": 1, "not_in_queries": 1}
    said = capfd.readouterr().err
    assert "1 judged queries have no relevant document" in said and "1 queries have no hit" in said
    assert "1 judged queries are not among the queries" in said and "document ids" not in said
    files("r2", "1 0 doc-a 1\n")
    judge(tmp_path / "i", queries=tmp_path / "q", qrels=tmp_path / "r2", measures=["mrr"])
    assert "are the document ids the same" in capfd.readouterr().err
    with pytest.raises(DataError, match="are the query ids the same"):
        judge(tmp_path / "i", queries=tmp_path / "q", qrels=files("r3", "x 0 a 1\n"), measures=["mrr"])


def test_options_reach_the_search_and_depth_follows_the_measures(place, capfd):
    asked = []

    class Recording:
        settings = type("S", (), {"encoder": ""})

        def search(self, query, k=10, mode=None, **options):
            asked.append((k, mode, options))
            return [[Hit("d1", 1.0, "")]]

    task = Task.of({"q": "x"}, {"q": {"d1": 1}})
    made = measure_index(Recording(), task, ["mrr"], mode="bm25", k=7, weight=0.25, where="a = 1")
    assert asked[-1] == (7, "bm25", {"weight": 0.25, "where": "a = 1"}) and made.means() == {"mrr": 1.0}
    assert made.about["latency_ms"]["p95"] >= made.about["latency_ms"]["p50"] > 0
    files = {"queries": place / "q.tsv", "qrels": place / "r.tsv"}
    assert judge(place / "i", **files, measures=["recall@300"])["k"] == 300
    assert judge(place / "i", **files, measures=["recall@30", "map"], k=5)["k"] == 5
    assert "-k 5: recall@30 can only see the first 5" in capfd.readouterr().err


# Comparing


def test_comparison_by_hand():
    ours = {"map": {"a": 0.5, "b": 1.0, "c": 0.25, "d": 0.5}, "p@5": {"a": 0, "b": 0, "c": 0, "d": 0}}
    theirs = {"map": {"a": 0.5, "b": 0.0, "c": 0.75}}
    told = compare(ours, theirs, texts={"b": "bee"})
    record = told["measures"]["map"]
    assert told["queries"] == 3 and list(told["measures"]) == ["map"]
    assert (record["won"], record["tied"], record["lost"]) == (1, 1, 1)
    assert record["ours"] == pytest.approx(1.75 / 3) and record["difference"] == pytest.approx(0.5 / 3)
    assert record["p"] == paired_randomisation([0.5, 1.0, 0.25], [0.5, 0.0, 0.75]) == 1.0
    assert record["interval"][0] < 0 < record["interval"][1]
    assert told["wins"] == [{"query": "b", "text": "bee", "ours": 1.0, "theirs": 0.0, "difference": 1.0}]
    assert [q["query"] for q in told["losses"]] == ["c"]
    assert compare(ours, ours)["measures"]["map"]["p"] == 1.0
    with pytest.raises(UsageError, match="none of the measures"):
        compare(ours, {"mrr": {"a": 1.0}})
    with pytest.raises(DataError, match="query ids"):
        compare(ours, {"map": {"z": 1.0}})


def test_against_an_index_a_run_and_written_values_agree(place, documents):
    some = [Document(d.text.split()[0], d.id) for d in documents(60)]
    Index.build(some, place / "worse").close()
    files = {"queries": place / "q.tsv", "qrels": place / "r.tsv", "measures": ["ndcg@10", "map"]}
    judge(place / "worse", **files, run_file=place / "w.trec", per_query=place / "w.tsv")
    judge(place / "worse", **files, per_query=place / "w.json")
    told = [
        judge(place / "i", **files, against=place / n)["against"]
        for n in ("worse", "w.trec", "w.tsv", "w.json")
    ]
    assert all(t["measures"] == told[0]["measures"] and t["wins"] == told[0]["wins"] for t in told)
    assert told[0]["mode"] == "bm25" and told[0]["queries"] == 12
    assert trec.read_values(place / "w.trec") is None
    judge(place / "i", **files, against=place / "w.tsv", per_query=place / "both.tsv")
    header, *lines = [x.split("\t") for x in (place / "both.tsv").read_text().splitlines()]
    assert header == ["query", "ndcg@10", "map", "ndcg@10 (other)", "ndcg@10 (difference)", "map (other)",
                      "map (difference)", "text"]  # fmt: skip
    assert len(lines) == 12 and all(len(x) == 8 for x in lines)
    assert float(lines[3][4]) == pytest.approx(float(lines[3][1]) - float(lines[3][3]), abs=1e-6)
    assert set(trec.read_values(place / "both.tsv")) == {"ndcg@10", "map"}


def test_values_that_are_none(files):
    with pytest.raises(DataError, match="holds no values of single queries"):
        trec.read_values(files("a.json", '{"valid": {"loss": 1}}'))
    with pytest.raises(DataError, match=r"v\.tsv:2"):
        trec.read_values(files("v.tsv", "query\tmap\na\tx\n"))


# The verb


def test_the_verb(place, capfd):
    files = ("--queries", place / "q.tsv", "--qrels", place / "r.tsv")
    assert call("eval", place / "i", *files, "--run", place / "o.trec", "--measures", "map, p@5") == 0
    out = capfd.readouterr().out.splitlines()
    assert "bm25, 100 documents a query; 12 queries of" in out[0] and out[1].split()[:2] == [
        "measure",
        "value",
    ]
    assert [x.split()[0] for x in out[2:4]] == ["map", "p@5"] and " to " in out[2]
    assert out[4].startswith("p50 of a query") and out[4].endswith("ms")
    assert call("eval", place / "o.trec", *files, "--against", place / "o.trec", "--require", "p@5>=0") == 0
    out = capfd.readouterr().out
    assert "against" in out and "1.0000" in out and "won most" not in out
    assert [x.split()[0] for x in out.splitlines() if x.split()[-3:] == ["0", "12", "0"]][-1] == "p@5"
    assert call("eval", place / "i", *files, "--measures", "map", "--json", "--require", "success@3>=0.01",
                "--require", "latency_ms.p95>0", "--require", "queries>=12") == 0  # fmt: skip
    told = json.loads(capfd.readouterr().out)
    assert told["success@3"] > 0 and "mrr@10" not in told
    assert call("eval", place / "i", *files, "--require", "ndcg@10>=1.01") == 1
    assert "required, but not met: ndcg@10>=1.01 (is 0." in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("i {f} --measures ndgc@10", 2, "did you mean 'ndcg'"),
        ("i {f} --measures map,map", 2, "named twice"),
        ("i {f} --measures ,", 2, "no measure"),
        ("i {f} --mode bm52", 2, "did you mean 'bm25'"),
        ("i {f} --require accuracy>=0.5", 2, "no measure 'accuracy'"),
        ("i {f} --against nowhere", 2, "nowhere: no such file"),
        ("i {f} --run r.tsv", 2, "exists"),
        ("i {f} --per-query r.tsv", 2, "exists"),
        ("i {f} -k 0", 2, "-k"),
        ("i --qrels r.tsv", 2, "pass --data"),
        ("i --queries q.tsv", 2, "pass --data"),
        ("i --data .", 2, "a BEIR folder has"),
        ("o.trec", 2, "is a file: a TREC run; pass --data"),
        ("o.trec {f} --mode bm25", 2, "is a run already"),
        ("o.trec {f} --run x.trec", 2, "--run is for an index"),
        ("o.trec --qrels r.tsv --against i", 2, "pass --queries"),
        ("q.tsv {f}", 3, "q.tsv:1: expected the six columns"),
        ("i {f} --against q.tsv", 3, "q.tsv:1: expected the six columns"),
        ("i --queries q.tsv --qrels bad", 3, "bad:1"),
    ],
)
def test_errors_are_one_line(place, capfd, monkeypatch, words, code, said):
    monkeypatch.chdir(place)
    (place / "bad").write_text("a b\n")
    (place / "o.trec").write_text("q1 Q0 d1 1 1.0 x\n")
    assert call("eval", *words.format(f="--queries q.tsv --qrels r.tsv").split()) == code
    shown = capfd.readouterr()
    assert shown.out == "" or "--require" in words
    assert said in shown.err and shown.err.count("\n") == 1 and "Traceback" not in shown.err
    assert not (place / "x.trec").exists()


def test_a_beir_folder_by_split(tmp_path, files):
    (tmp_path / "qrels").mkdir()
    files("corpus.jsonl.gz", "".join(f'{{"_id": "d{i}", "text": "word{i} red"}}\n' for i in range(9)))
    files("queries.jsonl", '{"_id": "a", "text": "word1"}\n{"_id": "b", "text": "word2"}\n')
    files("qrels/test.tsv", "query-id\tcorpus-id\tscore\na\td1\t1\n")
    files("qrels/train.tsv", "query-id\tcorpus-id\tscore\nb\td3\t1\n")
    assert call("index", "build", tmp_path / "corpus.jsonl.gz", "-o", tmp_path / "i") == 0
    assert judge(tmp_path / "i", tmp_path, measures=["mrr"])["mrr"] == 1.0
    told = judge(tmp_path / "i", tmp_path, split="train", measures=["mrr"])
    assert (told["mrr"], told["part"]) == (0.0, "train")
    assert write_run([("b", [Hit("d3", 1.0, "")])], tmp_path / "o") == 1
    assert judge(tmp_path / "o", tmp_path, split="train", measures=["mrr"])["mrr"] == 1.0
    with pytest.raises(UsageError, match="did you mean 'train'"):
        read_beir(tmp_path, "tran")

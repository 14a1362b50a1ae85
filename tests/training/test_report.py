import json
import math
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpkit.errors import UsageError
from nlpkit.report.chart import Curve, chart, number
from nlpkit.report.curves import plot_runs
from nlpkit.report.grid import grid, save_grid
from nlpkit.report.history import history, mixture, smooth, thin
from nlpkit.report.run_html import page, write_report
from nlpkit.store import lines


def test_png_holds_the_pixels(tmp_path):
    generator = np.random.default_rng(0)
    images = generator.random((5, 3, 4, 4))
    save_grid(images, tmp_path / "g.png", columns=3)
    raw = (tmp_path / "g.png").read_bytes()
    width, height, depth, colour = struct.unpack(">IIBB", raw[16:26])
    start = raw.index(b"IDAT")
    (size,) = struct.unpack(">I", raw[start - 4 : start])
    rows = np.frombuffer(zlib.decompress(raw[start + 4 : start + 4 + size]), np.uint8).reshape(height, -1)
    assert (depth, colour) == (8, 2) and (rows[:, 0] == 0).all()
    picture = rows[:, 1:].reshape(height, width, 3)
    assert (picture == grid(images, 3)).all()
    gap = 8
    assert picture[gap, gap].tolist() == np.round(images[0, :, 0, 0] * 255).astype(int).tolist()
    assert picture[0, 0].tolist() == [255, 255, 255]
    with pytest.raises(UsageError):
        grid(np.zeros((0, 1, 2, 2)))


@pytest.fixture
def make_run(tmp_path):
    """Writes the files of a run of 60 steps: two spikes, an event without one, a mixture of two sources."""

    def make(name="run", **more):
        run = tmp_path / name
        run.mkdir()
        origin = {
            "kind": "clm",
            "command": "nlpkit pretrain a.txt && <i>",
            "made": "2026-01-02T03:04:05+0000",
        }
        requested = {"model": {"depth": 2}, "train": {"lr": 0.003, "steps": 0, "device": "auto"}}
        origin |= {
            "versions": {"torch": "2"},
            "inputs": {"a.txt": "f" * 64},
            "requested": requested,
            "seed": 1,
        }
        (run / "origin.json").write_text(json.dumps({**origin, **more}))
        (run / "config.toml").write_text(
            'kind = "clm"\n[model]\ndepth = 2\n[train]\nlr = 0.003\nsteps = 60\ndevice = "cpu"\n'
        )
        results = {
            "valid": {"loss": 1.25, "accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "confusion": [[1]]}
        }
        (run / "eval.json").write_text(json.dumps(results))
        log = ["mlm, 10 parameters; 99 tokens in 3 rows (0.1 % padding)", "step 30 of 60: valid loss 2.0"]
        for line in log:
            lines.append(run / "log.txt", lines.pack_text(f"2026-01-02 03:04:05 {line}"))
        records = []
        for step in range(1, 61):
            told = {"loss": 60 / step, "lr": 0.1, "grad_norm": 1.0, "tokens_per_second": 100.0}
            records.append({"step": step, "split": "train", **told, "seconds": float(step)})
            if step in (20, 40):
                spike = {"event": "spike", "action": "skip", "z": 8.5}
                records.append({"step": step, "split": "event", **spike})
        records.append({"step": 60, "split": "event", "event": "other"})
        mixture = {"served": {"a": 30, "b": 10}, "planned": {"a": 0.5, "b": 0.5}}
        records.append({"step": 60, "split": "valid", "loss": 2.0, "seconds": 61.0, **mixture})
        (run / "metrics.jsonl").write_text("".join(lines.pack_record(r) + "\n" for r in records))
        return run

    return make


class Parsed(HTMLParser):
    """The texts of a page, its tags and the addresses it names."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.tags, self.addresses = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for n, v in attributes if n in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data):
        self.texts.append(data)

    def after(self, text):
        return self.texts[self.texts.index(text) + 1]


def test_report_escapes_what_it_shows(tmp_path):
    run = tmp_path / "<script>alert(1)"
    run.mkdir()
    bad = {"kind": "<cite>", "command": "a && <samp>", "versions": {"<u>": "1"}, "inputs": {"<tt>": "<q>"}}
    (run / "origin.json").write_text(json.dumps({**bad, "requested": {"x": "<del>"}}))
    (run / "config.toml").write_text('x = "</table><bdi>"\n')
    (run / "eval.json").write_text('{"<em>": {"loss": 1.5, "<s>": 2, "<ins>": [[1]]}}')
    lines.append(run / "log.txt", lines.pack_text("2026-01-02 03:04:05 <kbd>"))
    for step in range(3):
        record = {"step": step, "split": "train", "loss": 1.0 / (step + 1), "lr": 0.1, "<sup>": 1.0}
        lines.append(run / "metrics.jsonl", lines.pack_record({**record, "served": {"<sub>": 1}}))
    spike = {"step": 2, "split": "event", "event": "spike", "action": "<var>", "z": 1.0}
    lines.append(run / "metrics.jsonl", lines.pack_record(spike))
    made = page(run, {"x": "<dfn>"})
    tags = set(Parsed(made).tags)
    for name in "script cite samp u tt q del bdi em s ins kbd sup sub var dfn".split():
        assert name not in tags and f"&lt;{name}&gt;" in made.lower(), name
    assert "http" not in made


def test_report_tells_the_run(make_run):
    run = make_run()
    parsed = Parsed(page(run))
    assert parsed.after("2.0000") == "final validation loss" and parsed.after("1 min 1 s")
    assert parsed.after("6,000") == "tokens learned from" and parsed.after("2") == "spikes"
    assert "step 20" in parsed.texts and "step 40" in parsed.texts and parsed.after("skip") == "8.5"
    assert parsed.after("accuracy") == "0.5000" and parsed.after("0.5000") == "0.4000 to 0.6000"
    assert "Also in eval.json: confusion." in parsed.texts
    assert parsed.after("prepared").endswith("(0.1 % padding)") and parsed.texts.count("prepared") == 1
    assert "75.0 %" in parsed.texts and "planned" in parsed.texts
    assert any("train clm -c" in t for t in parsed.texts)
    assert parsed.addresses == [] and "script" not in parsed.tags and parsed.tags.count("svg") >= 5


def test_report_puts_what_was_set_first(make_run):
    run = make_run()
    defaults = {"model": {"depth": 4}, "train": {"lr": 0.003, "steps": 0, "device": "auto"}}
    texts = Parsed(page(run, defaults)).texts
    order = ["Set for this run", "model.depth", "Decided at the start", "train.steps", "train.device"]
    assert [t for t in texts if t in order] == order
    assert (
        texts.index("train.device")
        < texts.index("As the defaults have it: 2 settings")
        < texts.index("train.lr")
    )
    assert "Set for this run" not in Parsed(page(run)).texts


def test_report_of_a_run_that_has_done_nothing(tmp_path):
    (tmp_path / "origin.json").write_text('{"kind": "mlm"}')
    parsed = Parsed(page(tmp_path))
    assert any("nothing was logged" in t for t in parsed.texts) and "svg" not in parsed.tags
    assert write_report(tmp_path).read_text() == page(tmp_path)
    skipped = {"step": 1, "split": "train", "loss": math.nan, "lr": 0.1, "seconds": 1.0}
    lines.append(tmp_path / "metrics.jsonl", lines.pack_record(skipped))
    spike = {"step": 1, "split": "event", "event": "spike", "action": "skip", "z": None}
    lines.append(tmp_path / "metrics.jsonl", lines.pack_record(spike))
    texts = Parsed(page(tmp_path)).texts
    assert any("Loss: nothing was logged" in t for t in texts) and texts[texts.index("step 1") + 1] == "skip"


def test_light_and_dark(make_run):
    text = page(make_run())
    assert "prefers-color-scheme:dark" in text
    light, dark = re.findall(r":root\{(.*?)\}", text, re.S)
    names = [set(re.findall(r"--\w+(?=:)", part)) for part in (light, dark)]
    assert names[0] == names[1] == set(re.findall(r"var\((--\w+)\)", text))


def test_history_counts_tokens_and_places_spikes(make_run):
    told = history("run", lines.check(make_run() / "metrics.jsonl"))
    assert told.tokens[-1] == pytest.approx(6000) and told.seconds == 61.0 and told.speed == 100.0
    assert told.curve("loss", axis="tokens")[9] == pytest.approx((1000.0, 6.0))
    assert [x for x, _ in told.spikes_over("seconds")] == [20.0, 40.0]
    assert [x for x, _ in told.spikes_over("tokens")] == pytest.approx([2000.0, 4000.0])
    assert mixture(told.records) == [("a", 0.5, 0.75), ("b", 0.5, 0.25)]
    with pytest.raises(UsageError, match="--x step"):
        history("cnn", [{"step": 1, "split": "train", "loss": 1.0}]).curve("loss", axis="tokens")
    exact = history(
        "a", [{"step": 1, "split": "train", "tokens": 7, "tokens_per_second": 1e9, "seconds": 1.0}]
    )
    assert exact.tokens == [7.0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.booleans())
def test_thinning_keeps_the_ends_of_the_range(values, log):
    points = list(enumerate(values))
    kept = thin(points, most=40, log=log)
    assert len(kept) <= max(40, 2) and set(kept) <= set(points) and kept == sorted(kept)
    ends = [y for _, y in kept]
    assert (min(ends), max(ends)) == (min(values), max(values))


def test_smoothing_follows_a_steep_start_and_keeps_a_constant():
    points = [(i, 3 + 7 * (i + 1) ** -0.5) for i in range(5000)]
    assert all(abs(a - b) < 0.2 * b for (_, a), (_, b) in zip(smooth(points), points, strict=True))
    assert all(y == pytest.approx(2.5) for _, y in smooth([(i, 2.5) for i in range(100)]))
    assert smooth([]) == []


def test_charts_bridge_gaps_and_choose_their_axes():
    drawn = chart([Curve([(0, 1.0), (1, math.nan), (2, 2.0)])], title="t")
    assert len(re.search(r'points="([^"]*)"', drawn)[1].split()) == 2 and "nan" not in drawn
    assert "nothing was logged" in chart([Curve([])], title="t")
    assert ">100<" in chart([Curve([(1, 1.0), (2, 100.0)])], title="t")  # a logarithmic axis names powers
    logged = chart([Curve([(0, 5.0), (1, 5.0), (1000, 5.0)], label="v", style="dots")], title="t", log_x=True)
    assert logged.count("<circle") == 2 and ">10<" in logged
    marked = chart([Curve([(1, 1.0), (9, 2.0)])], title="t", marks=[(5, "here"), (50, "outside")])
    assert "<title>here</title>" in marked and "outside" not in marked
    assert number(-1500) == "-1.5k" and number(1e-7) == "1e-7"


@pytest.mark.parametrize("axis", ["step", "tokens", "seconds"])
def test_plot_draws_every_run(make_run, tmp_path, axis):
    told = [history(n, lines.check(make_run(n) / "metrics.jsonl")) for n in ("one", "$two$")]
    plot_runs(told, tmp_path / "a.svg", axis=axis, log_x=axis == "tokens")
    text = (tmp_path / "a.svg").read_text()
    for said in ("one", "$two$", "validation", "spike", "loss", "gradient norm", "learning rate"):
        assert f">{said}<" in text


def test_plot_is_the_same_twice_and_refuses_what_it_cannot_draw(make_run, tmp_path):
    told = [history("one", lines.check(make_run() / "metrics.jsonl"))]
    plot_runs(told, tmp_path / "a.svg")
    before = (tmp_path / "a.svg").read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        plot_runs(told, tmp_path / "a.svg")
    plot_runs(told, tmp_path / "a.svg", force=True)
    assert (tmp_path / "a.svg").read_bytes() == before and b">one, training<" in before
    with pytest.raises(UsageError, match="svg, png or pdf"):
        plot_runs(told, tmp_path / "a.txt")
    with pytest.raises(UsageError, match="'tokens'"):
        plot_runs(told, tmp_path / "b.svg", axis="token")
    with pytest.raises(UsageError, match="nothing to draw"):
        plot_runs([history("none", [])], tmp_path / "b.svg")
    with pytest.raises(UsageError, match="at most 8"):
        plot_runs(told * 9, tmp_path / "b.svg")
    assert [p.name for p in tmp_path.glob("*.svg")] == ["a.svg"]

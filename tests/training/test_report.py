import struct
import zlib

import numpy as np
import pytest

from nlpkit.errors import UsageError
from nlpkit.report.grid import grid, save_grid
from nlpkit.report.run_html import figure, page, thin
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


def test_report_escapes_what_it_shows(tmp_path):
    run = tmp_path / "<script>alert(1)"
    run.mkdir()
    (run / "origin.json").write_text('{"kind": "<b>", "command": "a && <i>", "versions": {"<u>": "1"}}')
    (run / "config.toml").write_text('x = "</table><script>"\n')
    (run / "eval.json").write_text('{"<em>": {"loss": 1.5, "<s>": 2}}')
    for step in range(3):
        record = {"step": step, "split": "train", "loss": 1.0 / (step + 1), "lr": 0.1, "grad_norm": 1.0}
        lines.append(run / "metrics.jsonl", lines.pack_record(record))
    html = page(run)
    for bad in ("<script>", "<b>", "<i>", "<u>", "<em>", "<s>"):
        assert bad not in html
    assert html.count("<polyline") == 3 and "http" not in html


def test_curves_are_thinned_and_gaps_bridged():
    assert len(thin([(i, 1.0) for i in range(5000)])) <= 600
    drawn = figure([("a", "a", [(0, 1.0), (1, float("nan")), (2, 2.0)])])
    assert drawn.count(",") >= 2 and "nan" not in drawn
    assert "nothing" in figure([("a", "a", [])])

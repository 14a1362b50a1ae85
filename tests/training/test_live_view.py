"""The live view: what its lines say and fit in, what is drawn where, and what a step of it costs."""

import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from nlpkit import console
from nlpkit.training import live_view
from nlpkit.training.live_view import Curve, LiveView, drawn, packed, sparkline


def train(step, loss=2.0, **more):
    told = {"step": step, "split": "train", "loss": loss, "grad_norm": 0.5, "lr": 1e-3}
    return {**told, "tokens_per_second": 12345.6, "seconds": 0.1 * step, **more}


def valid(step, loss):
    return {"step": step, "split": "valid", "loss": loss, "seconds": 0.1 * step}


@pytest.fixture
def terminal(monkeypatch):
    """As if stderr were a terminal; nothing is drawn before LATE, so that no thread starts."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(live_view, "LATE", 1e9)


def seen(view, width=80, **options):
    return [str(line) for line in view.lines(width, **options)]


@pytest.mark.parametrize("width", [30, 60, 80, 120])
@pytest.mark.parametrize("plain", [False, True])
def test_lines_fit_and_say_what_is_known(terminal, width, plain):
    with LiveView("a-run-with-quite-a-long-name", "clm", 1000) as view:
        for step in range(1, 251):
            view.step(train(step, 5 - step / 100, share_of_peak=0.413))
        view.valid(valid(100, 4.5))
        view.valid(valid(200, 4.75))
        view.step({"step": 250, "split": "event", "event": "spike", "action": "skip", "z": 9.0})
        found = seen(view, width, plain=plain)
    assert all(len(line) <= min(width, live_view.WIDEST) for line in found)
    text = " ".join(" ".join(found).split())
    for words in (
        "250",
        "loss 2.",
        "valid 4.7500",
        "best 4.5000 at step 100",
        "12,346 tokens/s",
        "41.3 % of peak",
    ):
        assert words in text
    assert "gradient 0.5" in text and "lr 1.00e-03" in text and "1 spike" in text
    if width >= 60:
        assert "step 250 of 1,000" in text and "25 %" in text and "left" in text
    assert not plain or text.isascii()


def test_shown_loss_is_an_average_and_time_left_follows_the_pace(terminal, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(live_view.time, "monotonic", lambda: now[0])
    with LiveView("a", "mlm", 11) as view:
        assert view.left() is None
        now[0] += 50  # the first step is slow and does not count
        view.step(train(1, 4.0))
        assert view.loss == pytest.approx(4.0)
        for step in range(2, 7):
            now[0] += 2
            view.step(train(step, 2.0))
        assert view.left() == pytest.approx(10.0)
        assert 2.0 < view.loss < 4.0
        view.step(train(7, float("nan")))
        assert 2.0 < view.loss < 4.0 and view.left() < 10.0


def test_a_resumed_run_shows_its_whole_curve(terminal):
    earlier = [train(s, 9.0) for s in range(1, 31)] + [valid(30, 3.0), {"step": 30, "split": "event"}]
    with LiveView("a", "mlm", 100, earlier) as view:
        assert len(view.curve.means) == 30 and view.left() is None
        assert "valid 3.0000" in " ".join(seen(view))
        view.step(train(31, 1.0))
        assert view.curve.means[0] == 9.0 and view.curve.means[-1] == 1.0
    name = LiveView("evil\x1b[31m[bold]", "mlm", 10)
    name._started = time.monotonic()
    assert "\x1b" not in "".join(seen(name)) and "[bold]" in "".join(seen(name))


def test_curve_is_bounded_and_keeps_its_mean():
    curve = Curve()
    for i in range(10_000):
        curve.add(i)
        assert len(curve.means) <= live_view.KEPT
    assert curve.means == sorted(curve.means) and curve.means[0] < 40 and curve.means[-1] > 9900


def test_sparkline_has_sixteen_heights_and_survives_odd_values():
    high, low = sparkline(list(range(16)), 16)
    assert low[:8] == "▁▂▃▄▅▆▇█" and high[8:] == "▁▂▃▄▅▆▇█" and high[:8] == " " * 8 and low[8:] == "█" * 8
    assert sparkline([], 5) == ("", "") and sparkline([float("nan"), float("inf")], 5) == ("", "")
    assert len(sparkline([1.0] * 500, 40)[1]) == 40
    assert packed([], 10) == [] and packed(["longer than it"], 5) == ["longer than it"]


def test_nothing_is_drawn_without_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(console, "PLAIN_EVERY", 0.0)
    with LiveView("a", "mlm", 4, [train(1)]) as view:
        view.step(train(2, 1.5))
        view.valid(valid(2, 1.0))
        view.note("said")
    err = capsys.readouterr().err
    assert "training mlm: 50 %" in err and "loss 1.500" in err and "said" in err
    assert "\x1b" not in err and "valid" not in err and not drawn()


def test_quiet_and_dumb_terminals(terminal, monkeypatch):
    assert drawn()
    monkeypatch.setenv("TERM", "dumb")
    assert not drawn()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(console._state, "quiet", True)
    assert not drawn()


SCRIPT = """
import time
from nlpkit.training import live_view
live_view.LATE = 0.05
with live_view.LiveView("shown", "clm", 40) as view:
    for step in range(1, 41):
        time.sleep(0.02)
        view.step({"step": step, "split": "train", "loss": 4 - step / 20, "grad_norm": 1.0, "lr": 1e-3})
        if step == 20:
            view.note("halfway [there]")
"""


@pytest.mark.parametrize("no_colour", [False, True])
def test_on_a_terminal(no_colour):
    ours, theirs = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    env |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "PYTHONIOENCODING": "utf-8"}
    env |= {"NO_COLOR": "1"} if no_colour else {}
    started = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, stdout=subprocess.PIPE, env=env)
    os.close(theirs)
    raw, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.5)[0]:
            try:
                raw += os.read(ours, 65536)
            except OSError:
                break
        elif started.poll() is not None:
            break
    out, _ = started.communicate(timeout=10)
    os.close(ours)
    text = raw.decode()
    assert started.returncode == 0 and out == b""
    assert "shown" in text and "of 40" in text and "━" in text and "halfway [there]" in text
    coloured = re.search(r"\x1b\[(?:\d+;)*3[0-7]m", text)
    assert bool(coloured) == (not no_colour)
    # The lines are kept in place: far fewer frames than steps, and the cursor is shown again at the end.
    assert text.count("of 40") <= 12 and text.rindex("\x1b[?25h") > text.rindex("of 40")


def test_a_step_costs_little(terminal, monkeypatch):
    record = train(1, share_of_peak=0.4)
    best = float("inf")
    with LiveView("a", "mlm", 10_000) as view:
        for _ in range(5):
            begun = time.perf_counter()
            for _ in range(1000):
                view.step(record)
            best = min(best, (time.perf_counter() - begun) / 1000)
    assert best < 0.2e-3

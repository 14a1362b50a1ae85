"""Writers beside readers, in processes of their own: no error, and each answer is of one version (long: soak.py)."""

import runpy
from pathlib import Path

from nlpkit.search.hits import Hit

FAULTS = runpy.run_path(str(Path(__file__).with_name("faults.py")))


def test_two_writers_beside_three_readers(tmp_path):
    told, made, wrong = FAULTS["beside"](tmp_path, writers=2, readers=3, queries=300, changes=5, seconds=60)
    assert wrong == ""
    assert [t["wrong"] for t in told] == [[], [], []]
    assert all(t["asked"] > 0 for t in told) and min(made) >= 5


def test_a_mixed_answer_would_be_seen():
    version, group, text = FAULTS["_version"], FAULTS["GROUP"], FAULTS["text"]
    whole = [Hit(f"w1n{i}", 1.0, text(f"w1n{i}", 3, 1)) for i in range(group)]
    assert version(whole, 1, 3, 3) == version(whole, 1, 1, 4) == ""
    assert version(whole, 1, 4, 4) == "of version 3" and version(whole[1:], 1, 3, 3)
    newer = Hit("w1n0", 1.0, text("w1n0", 4, 1))
    assert "several" in version([newer, *whole[1:]], 1, 3, 4)
    assert version([], 1, 4, 5) == "" and version([], 1, 1, 4)

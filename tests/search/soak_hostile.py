"""Text that tries to steer a terminal, printed by every verb of search."""

import json
import os
import pty
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from faults import Tally

from nlpkit.cli import run as nlpkit
from nlpkit.search.hits import Hit
from nlpkit.search.present import as_text

HOSTILE = {
    "clear": "\x1b[2J\x1b[H",
    "colour": "\x1b[31;5;7m",
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;http://evil.example\x1b\\\\click\x1b]8;;\x1b\\\\",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "device": '\x1bP$q"p\x1b\\\\',
    "c1": "\x9b2J\x9d0;owned\x9c",
    "back": "abc\b\b\bxyz\rhidden\x7f\x00\x0b\x0c\x85",
    "bidi": "\u202egnp.exe\u202c \u2066left\u2069 \u200f\u061c",
    "separator": "one\u2028two\u2029three",
    "markup": "[bold red]literal[/bold red] [link=http://evil.example]x[/link] [/]",
    "zalgo": "z" + "\u0301" * 300,
    "json": '", "score": 1e9, "x": "',
}
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_OURS = re.compile(r"\x1b\[(?:\d{1,2}(?:;\d{1,3})*)?m")


def harmful(said: str, terminal: bool) -> str:
    """What of an output could steer a terminal; empty for none. On a terminal our own colours are fine."""
    if HOSTILE["colour"] in said:
        return "a colour of a document's"
    rest = _OURS.sub("", said) if terminal else said
    for char in rest:
        if (ord(char) < 32 and char not in "\n\t" and not (terminal and char == "\r")) or 127 <= ord(
            char
        ) < 160:
            return f"control character {char!r}"
    if found := _BIDI.search(rest) or re.search("[\u2028\u2029]", rest):
        return f"{found[0]!r}"
    return ""


def escapes(folder: Path, tally: Tally) -> None:
    """Documents, titles, ids, fields, queries and file names that try to steer a terminal, printed by every verb."""
    records = [
        {
            "_id": f"id {name}{evil}",
            "title": f"title {evil}",
            "text": f"needle {name} {evil} end",
            "tag": evil,
        }
        for name, evil in HOSTILE.items()
    ]
    evil_name = folder / f"in{HOSTILE['clear']}{HOSTILE['bidi']}.jsonl"
    for file, some in ((folder / "in.jsonl", records), (evil_name, records[:1])):
        file.write_text("".join(json.dumps(r) + "\n" for r in some))
    queries, qrels, index = folder / "q.jsonl", folder / "r.tsv", folder / "index"
    queries.write_text(
        "".join(json.dumps({"_id": f"q{n}", "text": f"needle {e}"}) + "\n" for n, e in HOSTILE.items())
    )
    plain = {"_id": "safe", "text": "needle safe"}
    (folder / "plain.jsonl").write_text(json.dumps(plain) + "\n")
    qrels.write_text("".join(f"q{name}\tid {name}\t1\nq{name}\tsafe\t1\n" for name in HOSTILE))
    (folder / "bad.trec").write_text(f"q {HOSTILE['c1']} {HOSTILE['clear']} x\n")
    for words in (["in.jsonl", "-o", "index"], ["plain.jsonl", "-o", "other"]):
        assert (
            nlpkit(["index", "build", *[str(folder / w) if w[0] != "-" else w for w in words], "--quiet"])
            == 0
        )
    first = records[0]["_id"]
    judged = ["--queries", queries, "--qrels", qrels]
    commands: list[list[Any]] = [
        ["search", index, "needle", "-k", "50"],
        ["search", index, "needle", "-k", "50", "--explain"],
        ["search", index, "--queries", queries],
        ["search", index, f"nothing{HOSTILE['clear']}{HOSTILE['bidi']}"],
        ["index", "info", index],
        ["index", "add", index, folder / "in.jsonl"],
        ["index", "add", index, evil_name],
        ["index", "delete", index, f"nobody{HOSTILE['title']}{HOSTILE['bidi']}"],
        ["index", "add", index, folder / "in.jsonl", "--update"],
        ["index", "build", evil_name, "-o", folder / f"made{HOSTILE['c1']}"],
        ["index", "verify", folder / f"made{HOSTILE['c1']}"],
        ["index", "delete", index, first],
        ["eval", index, *judged, "--against", folder / "other"],
        ["eval", folder / "bad.trec", "--qrels", qrels],
        ["eval", folder / f"no{HOSTILE['title']}", "--qrels", qrels],
        ["search", index, "--mode", f"bm{HOSTILE['clear']}", "x"],
        ["search", index, "needle", "--json", "-k", "50"],
        ["search", index, "needle", "--jsonl", "-k", "50"],
    ]
    for command in commands:
        words = [str(w) for w in command]
        for terminal in (False, True) if "--json" not in words and "--jsonl" not in words else (False,):
            code, said = _printed(words, terminal)
            tally.count("outputs")
            shown = " ".join(words[:2])
            if (
                bad := harmful(said, terminal)
                if "--json" not in words and "--jsonl" not in words
                else _bad_json(said)
            ):
                tally.fail(f"{shown} ({'terminal' if terminal else 'pipe'}): {bad}")
            if code not in (0, 1, 2, 3) or "Traceback" in said:
                tally.fail(f"{shown}: exit {code}: {said[-300:]!r}")
            if words[:3] == ["search", str(index), "needle"] and "[bold red]literal[/bold red]" not in said:
                tally.fail(f"{shown}: markup was taken for markup")
    for luck in (random.Random(i) for i in range(500)):  # any characters at all, through what prints hits
        noise = "".join(
            chr(luck.choice([luck.randrange(0x250), luck.randrange(0x2000, 0x2100), 0x1B, 0x9B]))
            for _ in range(60)
        )
        lines = "\n".join(as_text([Hit(noise, 1.0, noise, noise)], noise, str.split))
        tally.count("random texts")
        if bad := harmful(lines, False):
            tally.fail(f"{noise!r}: {bad}")


def _bad_json(said: str) -> str:
    try:
        for part in (
            [said] if said.startswith(("{", "[")) and said.count("\n{") == 0 else said.strip("\n").split("\n")
        ):
            json.loads(part)
    except ValueError as error:
        return f"not JSON: {error}"
    return next((f"control character {c!r}" for c in said if ord(c) < 32 and c != "\n"), "")


def _printed(words: list[str], terminal: bool) -> tuple[int, str]:
    """(exit code, standard output and error) of the command line, on a pipe or a terminal of 80 columns."""
    command = [sys.executable, "-m", "nlpkit", *words]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LD_PRELOAD": ""}
    if not terminal:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        return done.returncode, done.stdout.decode("utf-8", "backslashreplace")
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    said = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # how Linux says that the other side was closed
            break
        if not piece:
            break
        said += piece
    os.close(master)
    return process.wait(), said.decode("utf-8", "backslashreplace")

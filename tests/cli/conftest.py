"""What the tests of the command line share."""

import io
import sys

import pytest

from nlpkit import cli


@pytest.fixture
def nlpkit(monkeypatch, capfdbinary):
    """Runs a command line with bytes on standard input: (exit code, stdout, stderr)."""

    def run(*argv, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        code = cli.run([str(a) for a in argv])
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run

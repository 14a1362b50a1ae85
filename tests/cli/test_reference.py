"""docs/cli.md is what the code says: a flag that comes, goes or changes is seen here."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_the_code() -> None:
    page = runpy.run_path(str(DOCS / "generate_cli.py"))["page"]()
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == page, "flags changed: run `make docs`"

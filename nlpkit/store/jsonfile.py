"""Small JSON files of an artefact: written in one step, read with one line about what is wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nlpkit.errors import ArtifactError
from nlpkit.store.atomic import write_bytes


def read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; ArtifactError when it holds anything else."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: not valid JSON ({error}); restore it from a copy") from error
    if not isinstance(values, dict):
        raise ArtifactError(f"{path}: expected a JSON object; restore it from a copy")
    return values


def write(path: Path, values: Mapping[str, Any] | list[Any]) -> None:
    """Replace a JSON file in one step.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.json"
    >>> write(target, {"step": 1})
    >>> read(target)
    {'step': 1}
    """
    write_bytes(path, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())

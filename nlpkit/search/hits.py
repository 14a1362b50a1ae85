"""What a search answers with."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Hit:
    """One document found. ``parts`` says what the score is made of: ``bm25``, ``dense``, ``first``, ``rerank``."""

    id: str
    score: float
    text: str
    title: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)

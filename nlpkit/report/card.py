"""The README.md of a model folder: what it is, how it was made, how good it is, how it is used."""

from collections.abc import Mapping
from typing import Any

USES = {
    "mlm": "nlpkit fill-mask runs/{name} 'The capital of France is <MASK>.'",
    "clm": "nlpkit generate runs/{name} 'Once upon a time'",
    "classifier": "nlpkit classify runs/{name} texts.txt",
    "biencoder": "nlpkit index build documents.jsonl -o indexes/{name} --model runs/{name}",
    "crossencoder": "nlpkit search indexes/NAME 'a question' --rerank runs/{name}",
    "cnn": "nlpkit eval runs/{name}",
    "vit": "nlpkit eval runs/{name}",
    "vae": "nlpkit sample runs/{name} -n 64 --grid grid.png",
}
OPENED = {
    "mlm": "AutoModelForMaskedLM",
    "clm": "AutoModelForCausalLM",
    "classifier": "AutoModelForSequenceClassification",
    "crossencoder": "AutoModelForSequenceClassification",
    "biencoder": "AutoModel",
    "vit": "AutoModelForImageClassification",
}


def card(name: str, kind: str, resolved: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """Markdown with what config.toml and the validation measures say.

    >>> card("a", "vae", {}, {"loss": 1.5}).splitlines()[6]
    '# a: a vae model'
    """
    train, named = resolved.get("train", {}), resolved.get("input", {})
    lines = ["---", "library_name: nlpkit", "tags:", f"- {kind}", "---", "", f"# {name}: a {kind} model", ""]
    data = ", ".join(str(p) for p in named.get("data", ()))
    made = [
        ("data", data),
        ("started from", named.get("from", "")),
        ("steps", train.get("steps", "")),
        ("seed", train.get("seed", "")),
        ("precision", train.get("precision", "")),
    ]
    lines += ["## How it was made", "", *(f"* {what}: {value}" for what, value in made if value != ""), ""]
    numbers = [(n, v) for n, v in told.items() if isinstance(v, int | float)]
    if numbers:
        lines += ["## Validation", "", "| measure | value |", "|---|---|"]
        lines += [f"| {n} | {v:.4f} |" if isinstance(v, float) else f"| {n} | {v} |" for n, v in numbers] + [
            ""
        ]
    lines += ["## Use", "", "```", USES.get(kind, "nlpkit eval runs/{name}").format(name=name), "```", ""]
    if kind in OPENED:
        cls = OPENED[kind]
        lines += [
            "```python",
            f"from transformers import {cls}",
            "",
            f'model = {cls}.from_pretrained("model")',
            "```",
            "",
        ]
    return "\n".join(lines)

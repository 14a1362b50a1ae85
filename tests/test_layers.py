"""The house keeps its shape: who imports whom, sizes of files and configs, the registry, the public names."""

import ast
import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import nlpkit
from nlpkit import registry

ROOT = Path(nlpkit.__file__).parent
EVERYONE = {"errors", "config", "registry", "console", "store", ""}
MAY_IMPORT = {
    "cli": {"*"},
    "demo": {"*"},
    "api": {
        "text",
        "vectors",
        "metrics",
        "core",
        "data",
        "models",
        "training",
        "inference",
        "search",
        "report",
    },
    "search": {"text", "vectors", "metrics", "inference"},
    "inference": {"text", "core", "models", "vectors"},
    "training": {"metrics", "core"},
    "data": {"text", "core"},
    "models": {"core"},
    "report": {"metrics"},
    "vectors": {"text", "metrics"},
    "core": set(),
    "text": set(),
    "metrics": set(),
    "store": set(),
    "errors": set(),
    "config": set(),
    "registry": set(),
    "console": set(),
    "__init__": {"api", "search", "text", "vectors"},
    "__main__": {"cli"},
}
NO_TORCH = {"text", "vectors", "metrics", "store"}
MAX_LINES = 500
LONG_FILES: dict[str, str] = {}  # file → the reason why it may be longer
FILES = sorted(ROOT.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            if node.module == "nlpkit":
                found |= {f"nlpkit.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_follow_the_table(path: Path) -> None:
    part = part_of(path)
    allowed = MAY_IMPORT[part]
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "nlpkit" and rest:
            other = rest.split(".")[0]
            if other == "__version__":
                continue
            assert "*" in allowed or other in allowed | EVERYONE | {part}, f"{part} imports {name}"
            if part == "models":
                assert other != "models", f"a model imports another: {name}"
        if top == "torch":
            assert part not in NO_TORCH, f"{part} imports torch"
        assert top not in {"pickle", "dill", "cloudpickle"}, f"{path} imports {top}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_stay_short_and_safe(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    assert len(text.splitlines()) <= MAX_LINES or name in LONG_FILES
    for word in ("torch.load(", "torch.save(", "allow_pickle=True", "trust_remote_code=True"):
        assert word not in text, f"{name}: {word}"
    assert path.stem not in {"utils", "helpers", "base", "manager", "factory"}


def test_cli_files_import_nothing_heavy_at_the_top() -> None:
    for path in (ROOT / "cli").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                top = name.split(".")[0]
                light = {"typer", "nlpkit"} | set(sys.stdlib_module_names)
                assert top in light, f"{path.name} imports {name} at the top"
                assert top != "nlpkit" or name.split(".")[1] in {"errors", "cli"}, f"{path.name}: {name}"


def test_registry_is_the_files() -> None:
    files = {p.stem for p in (ROOT / "models").glob("*.py")} - {"__init__"}
    assert files == set(registry.MODELS)
    for name, entry in registry.MODELS.items():
        assert entry.module == f"nlpkit.models.{name}"


def test_verbs_are_the_files() -> None:
    from nlpkit.cli import VERBS

    files = {p.stem for p in (ROOT / "cli").glob("*.py")} - {"__init__"}
    assert files >= {module for module, _ in VERBS.values()}


def test_config_ceilings() -> None:
    transformer = importlib.import_module("nlpkit.core.transformer")
    configs = [
        value
        for value in vars(transformer).values()
        if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__name__.endswith("Config")
    ]
    assert {c.__name__ for c in configs} >= {
        "TransformerConfig",
        "AttentionConfig",
        "NormConfig",
        "MlpConfig",
    }
    for config in configs:
        assert len(dataclasses.fields(config)) <= 12, config
        assert config.__dataclass_params__.frozen, config  # type: ignore[attr-defined]


def test_public_names_are_frozen() -> None:
    assert nlpkit.__all__ == ["Index", "Tokenizer", "Vectors", "evaluate", "load_model", "train"]
    from nlpkit import Index, Tokenizer, Vectors, evaluate, load_model, train

    assert all(callable(name) for name in (Index, Tokenizer, Vectors, evaluate, load_model, train))
    with pytest.raises(AttributeError):
        _ = nlpkit.nothing


@pytest.mark.parametrize("words", [[], ["search"], ["pretrain"], ["train-glove"], ["tokenize"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys, contextlib, io\n"
        "from nlpkit.cli import run\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    code = run({[*words, '--help']!r})\n"
        "assert code == 0, code\n"
        "heavy = {'torch', 'transformers', 'faiss', 'numpy', 'numba', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

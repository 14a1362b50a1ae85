"""Configs are strict: unknown keys, wrong types and broken files are named."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpkit import config
from nlpkit.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Inner:
    depth: int = 2
    rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    kind: Literal["a", "b"] = "a"
    inner: Inner = dataclasses.field(default_factory=Inner)
    sizes: tuple[int, ...] = ()
    limit: int | None = None


def test_defaults_file_overrides() -> None:
    values = config.override({"name": "x", "inner": {"depth": 3}}, ["inner.rate=1", "sizes=[1, 2]", "kind=b"])
    made = config.build(Outer, values)
    assert made == Outer("x", "b", Inner(3, 1.0), (1, 2))
    assert config.build(Outer, tomllib.loads(config.to_toml(config.to_dict(made)))) == made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "inner": {"dept": 1}}, "unknown key 'inner.dept'; did you mean 'depth'"),
        ({"name": "x", "inner": {"depth": "two"}}, "inner.depth: expected int, got 'two'"),
        ({"name": "x", "inner": {"depth": True}}, "inner.depth: expected int"),
        ({"name": "x", "kind": "c"}, "kind: expected one of a, b"),
        ({"name": "x", "inner": 3}, "inner: expected a table"),
        ({"name": "x", "limit": 1.5}, "limit: expected int"),
        ({}, "missing key 'name'"),
    ],
)
def test_mistakes_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config.build(Outer, values)


def test_bad_toml_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("a = = 1")
    with pytest.raises(UsageError, match=r"c\.toml: not valid TOML"):
        config.read_toml(path)
    with pytest.raises(UsageError, match="no recipe 'nowhere'"):
        config.read_toml("nowhere")
    with pytest.raises(UsageError, match="expected key=value"):
        config.override({}, ["x"])


plain = st.recursive(
    st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), plain, max_size=5))
def test_toml_round_trip(values: dict[str, Any]) -> None:
    assert tomllib.loads(config.to_toml(values)) == values

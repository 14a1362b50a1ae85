"""Frozen dataclasses ← TOML ← ``key=value``: strict, with «did you mean».

The order is: defaults of the dataclass, then the file, then the overrides. An unknown key or a value of the
wrong type is a :class:`~nlpkit.errors.UsageError` that names the key. A nested dataclass is a TOML table.
"""

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from nlpkit.errors import UsageError, did_you_mean

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], at: str = "") -> T:
    """A ``cls`` from nested plain values, checked field by field.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Size:
    ...     width: int = 8
    >>> build(Size, {"width": 16})
    Size(width=16)
    >>> build(Size, {"widht": 16})
    Traceback (most recent call last):
    nlpkit.errors.UsageError: unknown key 'widht'; did you mean 'width'?
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise UsageError(f"unknown key {at + key!r}{did_you_mean(key, fields)}")
        made[key] = _convert(hints[key], value, at + key)
    missing = [
        f.name
        for f in fields.values()
        if f.name not in made
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UsageError(f"missing key {at + missing[0]!r}")
    try:
        return cls(**made)
    except ValueError as error:
        raise UsageError(f"{at.rstrip('.') or cls.__name__}: {error}") from error


def _convert(hint: Any, value: Any, key: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        kinds = [a for a in args if a is not type(None)]
        errors: list[UsageError] = []
        for kind in kinds:
            try:
                return _convert(kind, value, key)
            except UsageError as error:
                errors.append(error)
        raise errors[0]
    if origin is typing.Literal:
        if value not in args:
            raise UsageError(
                f"{key}: expected one of {', '.join(map(str, args))}, got {value!r}"
                + (did_you_mean(value, map(str, args)) if isinstance(value, str) else "")
            )
        return value
    if dataclasses.is_dataclass(hint):
        if dataclasses.is_dataclass(value):
            return value
        if not isinstance(value, Mapping):
            raise UsageError(f"{key}: expected a table, got {value!r}")
        return build(typing.cast(type, hint), value, f"{key}.")
    if origin in (tuple, list):
        if not isinstance(value, list | tuple):
            raise UsageError(f"{key}: expected a list, got {value!r}")
        inner = args[0] if args else Any
        return origin(_convert(inner, item, f"{key}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UsageError(f"{key}: expected a table, got {value!r}")
        return {k: _convert(args[1], v, f"{key}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Any:
        return value
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UsageError(f"{key}: expected {hint.__name__}, got {value!r}")
    return value


def override(values: Mapping[str, Any], pairs: Iterable[str]) -> dict[str, Any]:
    """``values`` with ``a.b=value`` pairs put in; a value is read as TOML, or else as a string.

    >>> override({"a": {"b": 1}}, ["a.b=2", "c=x"])
    {'a': {'b': 2}, 'c': 'x'}
    """
    result = json.loads(json.dumps(values))
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise UsageError(f"-s {pair!r}: expected key=value")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text
        table = result
        *parents, last = key.strip().split(".")
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise UsageError(f"-s {pair!r}: {parent!r} is a value, not a table")
        table[last] = value
    return typing.cast(dict[str, Any], result)


def read_toml(source: str | Path) -> dict[str, Any]:
    """The values of a TOML file, or of the recipe of that name that the package ships."""
    path = Path(source)
    if not path.exists() and path.suffix == "" and len(path.parts) == 1:
        shipped = resources.files("nlpkit") / "recipes" / f"{source}.toml"
        if not shipped.is_file():
            names = [r.name[:-5] for r in (resources.files("nlpkit") / "recipes").iterdir()]
            raise UsageError(f"no recipe {str(source)!r}{did_you_mean(str(source), names)}")
        return tomllib.loads(shipped.read_text(encoding="utf-8"))
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}; mend it or choose another file") from error


def to_dict(value: Any) -> dict[str, Any]:
    """The nested plain values of a config; ``None`` fields are left out (TOML has no null)."""

    def plain(item: Any) -> Any:
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            pairs = ((f.name, getattr(item, f.name)) for f in dataclasses.fields(item))
            return {k: plain(v) for k, v in pairs if v is not None}
        if isinstance(item, tuple | list):
            return [plain(v) for v in item]
        if isinstance(item, Mapping):
            return {k: plain(v) for k, v in item.items() if v is not None}
        return item

    return typing.cast(dict[str, Any], plain(value))


def flat(values: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Nested tables as one of dotted names.

    >>> flat({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{at}{name}.") if isinstance(value, Mapping) else {at + name: value}
    return found


def to_toml(values: Mapping[str, Any]) -> str:
    """TOML text that reads back as ``values`` (tables, lists, strings, numbers, booleans).

    >>> print(to_toml({"a": 1, "t": {"b": "x"}}), end="")
    a = 1
    <BLANKLINE>
    [t]
    b = "x"
    """
    lines: list[str] = []

    def write(table: Mapping[str, Any], prefix: str) -> None:
        plain = {k: v for k, v in table.items() if not isinstance(v, Mapping)}
        if prefix and (plain or not table):
            lines.extend([""] if lines else [])
            lines.append(f"[{prefix}]")
        lines.extend(f"{_key(k)} = {_literal(v)}" for k, v in plain.items())
        for k, v in table.items():
            if isinstance(v, Mapping):
                write(v, f"{prefix}.{_key(k)}" if prefix else _key(k))

    write(values, "")
    return "\n".join(lines) + "\n" if lines else ""


def _key(name: str) -> str:
    bare = name and all(c.isascii() and (c.isalnum() or c in "-_") for c in name)
    return name if bare else _string(name)


def _string(text: str) -> str:
    # JSON's escapes are TOML's, but for the delete character and escaped surrogate pairs.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_literal(v)}" for k, v in value.items()) + "}"
    raise TypeError(f"no TOML for {type(value).__name__}")

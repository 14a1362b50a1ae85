"""tokenizer.json as it is read: what its parser would take silently and must not be true is refused.

The ``tokenizers`` library owns the format and reports what it cannot parse. It lets pass a token that is said twice,
an id that two tokens share, ids that no token has, added tokens whose ids it then ignores, templates that spell ids
of nothing and patterns that run for ever; and it panics, with many lines on stderr, over some merges.
"""

import gc
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlpkit.errors import ArtifactError

LARGEST = 1 << 28  # bytes of a tokenizer.json (256 MiB; a vocabulary of a million tokens has about 60)
_SHOWN = 40
_BLANK, _COLON = re.compile(r"\s*"), re.compile(r"\s*:?\s*")


def read(path: Path) -> str:
    """The text of a file; ArtifactError when it is too large or not UTF-8."""
    size = path.stat().st_size
    if size > LARGEST:
        raise ArtifactError(
            f"has {size:,} bytes, more than the {LARGEST >> 20} MiB that a tokenizer may have"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"byte {error.object[error.start]:#04x} at {error.start} is not UTF-8") from error


def parse(text: str) -> dict[str, Any]:
    """The JSON object of a tokenizer.json, checked.

    :raises ArtifactError: it is no JSON, or says what cannot be so.
    """
    collecting = gc.isenabled()
    gc.disable()  # a hundred thousand lists, all of which stay: looking for garbage would take half of the time
    try:
        body = json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise ArtifactError("its JSON is nested too deep") from error
    except ValueError as error:
        raise ArtifactError(f"not valid JSON ({error})") from error
    finally:
        if collecting:
            gc.enable()
    if not isinstance(body, dict) or not isinstance(body.get("model"), dict):
        raise ArtifactError("not a JSON object with a model")
    vocabulary = _vocabulary(body["model"])
    _check_merges(body["model"], vocabulary)
    names = _with_added(body.get("added_tokens"), vocabulary)
    _check_template(body.get("post_processor"), names)
    for part in ("normalizer", "pre_tokenizer", "decoder", "post_processor"):
        for pattern in _patterns(body.get(part)):
            if explosive(pattern):
                raise ArtifactError(f"{part} has a pattern that can run for ever: {_short(pattern)}")
    return body


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ArtifactError(f"{_short(twice)} stands twice in one object")
    return made


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    """Token to id of a model: ids are 0 and up, each of one token, none left out."""
    held = model.get("vocab")
    if isinstance(held, list) and model.get("type", "Unigram") == "Unigram":
        try:
            vocabulary = {token: id for id, (token, _) in enumerate(held)}
            named = all(isinstance(token, str) for token in vocabulary)
        except (ValueError, TypeError):
            named = False
        if not named:
            raise ArtifactError("its vocabulary is not a list of tokens with their scores")
        if len(vocabulary) < len(held):
            raise ArtifactError("a token stands twice in its vocabulary")
        return vocabulary
    if not isinstance(held, dict):
        raise ArtifactError("its vocabulary is not an object of tokens with their ids")
    if not set(map(type, held.values())) <= {int}:
        raise ArtifactError("an id of its vocabulary is no whole number")
    ids = set(held.values())
    if len(ids) < len(held):
        first: dict[int, str] = {}
        token = next(token for token, id in held.items() if first.setdefault(id, token) != token)
        raise ArtifactError(f"{_short(first[held[token]])} and {_short(token)} have one id, {held[token]}")
    if ids and (min(ids) < 0 or max(ids) >= len(ids)):
        free = next(id for id in range(len(ids)) if id not in ids)
        raise ArtifactError(
            f"its {len(ids):,} ids go from {min(ids)} to {max(ids)}, and no token has id {free}"
        )
    return held


def _check_merges(model: dict[str, Any], vocabulary: dict[str, int]) -> None:
    merges = model.get("merges")
    if merges is None:
        return
    if not isinstance(merges, list):
        raise ArtifactError("its merges are not a list")
    cut = len(model.get("continuing_subword_prefix") or "")
    merge: Any = None
    try:
        for merge in merges:
            left, right = merge if type(merge) is list else merge.split(" ")
            if left + right[cut:] not in vocabulary or left not in vocabulary or right not in vocabulary:
                raise ArtifactError(
                    f"the merge of {_short(left)} and {_short(right)} is not in its vocabulary"
                )
    except (ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{_short(merge)} is not a merge of two tokens") from error


def _with_added(added: Any, vocabulary: dict[str, int]) -> dict[str, int]:
    """The vocabulary with the added tokens, whose ids the library takes from it or counts on from its end."""
    if added is None:
        return vocabulary
    if not isinstance(added, list):
        raise ArtifactError("its added_tokens are not a list")
    more: dict[str, int] = {}
    seen: set[str] = set()
    for token in added:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise ArtifactError("an entry of added_tokens has no content")
        name, id = token["content"], token.get("id")
        expected = vocabulary.get(name, len(vocabulary) + len(more))
        if not name or name in seen or type(id) is not int or id != expected:
            raise ArtifactError(
                f"the added token {_short(name)} has id {_short(id)}"
                + (" and stands there twice" if name in seen else f" where {expected} would be its own")
            )
        seen.add(name)
        if name not in vocabulary:
            more[name] = id
    return vocabulary | more


def _check_template(processor: Any, names: dict[str, int]) -> None:
    """Every special token of a template is a token with these ids."""
    if not isinstance(processor, dict):
        return
    if processor.get("type") == "Sequence" and isinstance(processor.get("processors"), list):
        for part in processor["processors"]:
            _check_template(part, names)
        return
    specials = processor.get("special_tokens")
    if not isinstance(specials, dict):
        return
    for special in specials.values():
        tokens, ids = special.get("tokens"), special.get("ids")
        if isinstance(tokens, list) and [names.get(t) if isinstance(t, str) else None for t in tokens] != ids:
            raise ArtifactError(f"its template takes {_short(tokens)} for the ids {_short(ids)}")


def _patterns(part: Any) -> Iterator[str]:
    """The regular expressions in a part of the file."""
    if isinstance(part, dict):
        pattern = part.get("Regex")
        if isinstance(pattern, str):
            yield pattern
        for inner in part.values():
            yield from _patterns(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _patterns(inner)


def explosive(pattern: str) -> bool:
    """Whether something repeated without bound is inside something repeated without bound.

    Such a pattern can take exponential time on a few dozen characters. The patterns of known tokenizers have none.

    >>> explosive(r"(a+)+$"), explosive(r"\\p{L}+|(?:'s|'t)?\\s+(?!\\S)|[(a+)+]")
    (True, False)
    """
    groups = [False]  # for each open group whether something inside is repeated without bound
    repeated = ended = inside = False  # ended: a group that has something repeated inside ended just now
    at = 0
    while at < len(pattern):
        here = pattern[at]
        unbounded = here in "*+" or (here == "{" and _open_ended(pattern, at))
        if inside:
            at += here == "\\"
            inside = here != "]"
            repeated = ended = False
        elif unbounded and not repeated:
            if ended:
                return True
            groups[-1] = repeated = True
        else:
            ended = repeated = False
            if here == "\\":
                at += 3 if pattern[at + 1 : at + 3] in ("p{", "P{") else 1
            elif here == "[":
                inside = True
                at += pattern[at + 1 : at + 2] == "]" or 2 * (pattern[at + 1 : at + 3] == "^]")
            elif here == "(":
                groups.append(False)
            elif here == ")" and len(groups) > 1:
                ended = groups.pop()
                groups[-1] |= ended
        at += 1
    return False


def _open_ended(pattern: str, at: int) -> bool:
    """Whether ``{`` begins a repetition without bound, such as {2,}."""
    inner, closed, _ = pattern[at + 1 :].partition("}")
    low, comma, high = inner.partition(",")
    return bool(closed and comma and not high and (low.isdigit() or not low))


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"


def with_added(text: str, added: list[dict[str, Any]]) -> str:
    """A tokenizer.json with other added tokens. They stand before the model, which is then not parsed.

    >>> with_added('{"version": "1.0", "added_tokens": [{"id": 0}], "model": {}}', [])
    '{"version": "1.0", "added_tokens": [], "model": {}}'
    """
    decode = json.JSONDecoder().raw_decode
    at = text.find("{") + 1
    try:
        while True:
            name, at = decode(text, _BLANK.match(text, at).end())  # type: ignore[union-attr]
            if name == "model":
                break
            start = _COLON.match(text, at).end()  # type: ignore[union-attr]
            _, at = decode(text, start)
            if name == "added_tokens":
                return text[:start] + json.dumps(added) + text[at:]
            at = text.index(",", at) + 1
    except ValueError:
        pass
    return json.dumps(json.loads(text) | {"added_tokens": added})

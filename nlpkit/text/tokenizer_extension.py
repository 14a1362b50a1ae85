"""A tokenizer that learns more from new text: all its ids and merges stay, what is new comes behind them.

Byte-pair merges go on from the pieces that the old merges leave: the most frequent pair first, among equal counts
the pair with the smaller ids (Sennrich et al. 2016). Every new merge ranks below all old ones and makes a token that
was not there, so that a text is cut as before first and then only joined further: it never has more tokens than it
had. Words and characters are appended by frequency. A WordPiece piece changes how words with it are cut from
the left, and a unigram piece changes the likelihood of all others: neither can be appended.
"""

import copy
import heapq
import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from nlpkit import console
from nlpkit.errors import UsageError
from nlpkit.text.recipe import Recipe
from nlpkit.text.tokenizer import Tokenizer
from nlpkit.text.tokenizer_training import Counted, placed, untrained

_FIXED = {
    "wordpiece": "a new piece changes how words with it are cut, and can make known words unknown",
    "unigram": "a new piece changes the probability of all others",
}


def extend_tokenizer(
    old: Tokenizer,
    texts: Iterable[str | bytes],
    *,
    vocab_size: int,
    kind: str | None = None,
    min_frequency: int | None = None,
    add_tokens: tuple[str, ...] = (),
    recipe: Recipe | None = None,
) -> Tokenizer:
    """``old`` with tokens learned from ``texts`` behind its own, ``vocab_size`` ids in all at most.

    ``kind`` and ``recipe`` may be left out; given, they must be the old tokenizer's. ``add_tokens`` take the last
    ids. Special and added tokens, template and configuration stay. ``min_frequency`` is 2 for BPE, else 1.

    :raises UsageError: a kind that cannot grow, another kind or recipe, a size that leaves no room.
    :raises DataError: the texts are empty.
    """
    _check(old, kind, vocab_size, add_tokens, recipe)
    counted = Counted(texts, capped=old.kind != "char")
    frequency = min_frequency if min_frequency is not None else 2 if old.kind == "bpe" else 1
    pieces = _count_pieces(old, counted)
    counted.report()
    body = copy.deepcopy(old.body)
    model = body["model"]
    added = body.setdefault("added_tokens", [])
    for token in added:  # named in the model too: the library would give those outside it the next free ids
        model["vocab"].setdefault(token["content"], token["id"])
    room, first = vocab_size - old.vocab_size - len(add_tokens), old.vocab_size
    if model["type"] == "BPE":
        merges = _continued(old.raw, pieces, model["vocab"], first, room, frequency)
        joined = bool(model["merges"]) and isinstance(model["merges"][0], str)  # as older versions write them
        model["merges"] += [" ".join(pair) if joined else list(pair) for pair in merges]
        names = [left + right for left, right in merges]
    else:
        new = [(-n, word) for word, n in pieces.items() if n >= frequency and word not in model["vocab"]]
        names = [word for _, word in sorted(new)[:room]]
    model["vocab"] |= {name: first + i for i, name in enumerate(names)}
    for id, name in enumerate(add_tokens, first + len(names)):
        model["vocab"][name] = id
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        added.append({"id": id, "content": name, **flags})
    if not names and not add_tokens:
        console.warn("the text has nothing frequent enough that is new; the vocabulary did not grow")
    return Tokenizer(json.dumps(body, ensure_ascii=False), recipe=old.recipe, config=old._config)


def _check(
    old: Tokenizer, kind: str | None, vocab_size: int, add_tokens: tuple[str, ...], recipe: Recipe | None
) -> None:
    if kind is not None and kind != old.kind:
        raise UsageError(f"--extend: the tokenizer is of kind {old.kind}, not {kind}; leave --kind out")
    if old.kind in _FIXED:
        raise UsageError(
            f"--extend: a {old.kind} vocabulary cannot grow with its ids in place: {_FIXED[old.kind]}; train a new one"
        )
    if recipe:
        inside, outside = placed(recipe, old.kind)
        normalizer = json.loads(untrained(old.kind, inside).to_str())["normalizer"]
        if normalizer != old.body.get("normalizer") or (outside or Recipe()) != old.recipe:
            raise UsageError(
                "--extend keeps the tokenizer's own recipe and this one differs; leave --recipe out"
            )
    model = old.body["model"]
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if old.kind == "bpe" and model.get(key):
            raise UsageError(f"--extend: merges cannot be added to a tokenizer with {key}; train a new one")
    if old.raw.pre_tokenizer is None:
        raise UsageError(
            "--extend: the tokenizer has no pre-tokenizer, its text has no pieces; train a new one"
        )
    if vocab_size - len(add_tokens) < old.vocab_size or vocab_size == old.vocab_size:
        raise UsageError(
            f"--vocab-size {vocab_size} leaves no room: the tokenizer has {old.vocab_size:,} ids"
            + (f", {len(add_tokens)} are to be added" if add_tokens else "")
            + "; raise it"
        )
    known = [t for t in add_tokens if old.token_to_id(t) is not None or not t.strip()]
    if known or len(set(add_tokens)) < len(add_tokens):
        raise UsageError(
            f"--add-tokens: {(known or ['a token'])[0]!r} is empty, named twice or there already"
        )


def _count_pieces(old: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """How often each piece is given to the model by the texts, without the tokens that are matched whole."""
    split, normalizer = old.raw.pre_tokenizer.pre_tokenize_str, old.raw.normalizer
    whole = sorted((t.content for t in old.raw.get_added_tokens_decoder().values()), key=len, reverse=True)
    apart = re.compile("|".join(map(re.escape, whole))) if whole else None
    pieces: Counter[str] = Counter()
    for text in texts:
        text = old.standardize(text)
        for part in apart.split(text) if apart is not None else [text]:
            if normalizer is not None:
                part = normalizer.normalize_str(part)
            pieces.update([piece for piece, _ in split(part)])
    return pieces


def _continued(
    raw: Any, pieces: Counter[str], vocabulary: dict[str, int], first: int, room: int, frequency: int
) -> list[tuple[str, str]]:
    """At most ``room`` further merges, each of a new token; the first takes the id ``first``.

    Pieces with characters that the vocabulary lacks are not learned from.
    """
    names = {id: name for name, id in vocabulary.items()}
    known = set(vocabulary)
    words: list[list[int]] = []
    times: list[int] = []
    counts: Counter[tuple[int, int]] = Counter()
    places: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for piece, n in pieces.items():
        tokens = raw.model.tokenize(piece)
        if len(tokens) < 2 or "".join(token.value for token in tokens) != piece:
            continue
        word = [token.id for token in tokens]
        for pair in itertools.pairwise(word):
            counts[pair] += n
            places[pair].add(len(words))
        words.append(word)
        times.append(n)
    heap = [(-n, pair) for pair, n in counts.items() if n >= frequency]
    heapq.heapify(heap)
    merges: list[tuple[str, str]] = []
    while heap and len(merges) < room:
        count, pair = heapq.heappop(heap)
        if counts[pair] != -count:  # counts fall while a pair waits; it queues again with what is left
            if counts[pair] >= frequency:
                heapq.heappush(heap, (-counts[pair], pair))
            continue
        left, right = pair
        name = names[left] + names[right]
        if name in known:  # a way to a token that is there: old merges could go on from it
            counts[pair] = 0
            continue
        new = first + len(merges)
        names[new] = name
        known.add(name)
        merges.append((names[left], names[right]))
        changed: set[tuple[int, int]] = set()
        for at in places.pop(pair):
            before, n = words[at], times[at]
            after = _joined(before, left, right, new)
            for gone in itertools.pairwise(before):
                counts[gone] -= n
            for come in itertools.pairwise(after):
                counts[come] += n
                if new in come:
                    places[come].add(at)
                    changed.add(come)
            words[at] = after
        for come in changed:
            if counts[come] >= frequency:
                heapq.heappush(heap, (-counts[come], come))
    return merges


def _joined(word: list[int], left: int, right: int, new: int) -> list[int]:
    """The word with every ``left right`` replaced by ``new``, from the left."""
    made: list[int] = []
    at = 0
    while at < len(word):
        if word[at] == left and at + 1 < len(word) and word[at + 1] == right:
            made.append(new)
            at += 2
        else:
            made.append(word[at])
            at += 1
    return made

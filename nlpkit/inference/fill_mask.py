"""The likeliest words for ``<MASK>`` in a text, by a masked language model (Devlin et al. 2019, section 3.1).

Shapes: B batch, T tokens, D width, V vocabulary, M masks of a text. :func:`fill` answers every mask of a text by one
forward pass, independently of the other masks; :func:`fill_jointly` fills them one after another, so that they agree.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from nlpkit import console
from nlpkit.core.batch import pad
from nlpkit.errors import DataError, UsageError, did_you_mean
from nlpkit.inference.batching import by_length, device_of, special_ids, text_config, windows
from nlpkit.inference.loading import LoadedModel
from nlpkit.text.tokenizer import Tokenizer

ORDERS = ("certain", "left")
MARK = re.compile(r"<MASK>|\[MASK\]|<mask>")


@dataclass(frozen=True)
class Candidate:
    """A token that may stand at a mask: its text, its id and its probability among the whole vocabulary."""

    token: str
    id: int
    probability: float


@dataclass(frozen=True)
class Filled:
    """A text, the top-k candidates of each of its masks, and the text with the first candidates put in."""

    text: str
    masks: list[list[Candidate]]
    filled: str


@dataclass(frozen=True)
class Filling:
    """A token for each mask, their joint pseudo-probability, and the text with them put in."""

    tokens: list[str]
    ids: list[int]
    probability: float
    filled: str


@dataclass(frozen=True)
class JointlyFilled:
    """A text and its likeliest fillings, the best first."""

    text: str
    fillings: list[Filling]


def _encode(tokenizer: Tokenizer, text: str, room: int) -> tuple[list[int], list[int], bool]:
    """(ids with [CLS] and [SEP], places of the masks, whether the text was cut to ``room`` tokens)."""
    mask = tokenizer.mask_id
    pieces = MARK.split(text)
    if len(pieces) == 1:
        raise DataError(f"no <MASK> in {text[:60]!r}; write <MASK> where a word is wanted")
    # A space before the mask belongs to the word that is wanted, not to the text before it.
    pieces = [piece.rstrip() for piece in pieces[:-1]] + [pieces[-1]]
    ids: list[int] = []
    for i, piece in enumerate(tokenizer.encode(pieces)):
        ids += [mask, *piece] if i else piece
    places = [i for i, token in enumerate(ids) if token == mask]
    around = tokenizer.encode([""], special=True)[0]  # [CLS] [SEP]
    head, tail = around[: len(around) // 2], around[len(around) // 2 :]
    room -= len(head) + len(tail)
    start, cut = 0, len(ids) > room
    if cut:
        first, last = places[0], places[-1]
        if last - first >= room:
            raise DataError(
                f"the masks of {text[:60]!r} lie {last - first} tokens apart; the model reads {room}"
            )
        # Keep a window around the masks, with as much before them as after.
        start = min(max(0, (first + last + 1 - room) // 2), len(ids) - room)
        ids = ids[start : start + room]
    return head + ids + tail, [place - start + len(head) for place in places], cut


def _put_in(text: str, tokens: Sequence[str]) -> str:
    answers = iter(tokens)
    return MARK.sub(lambda _: next(answers), text)


def shown(tokenizer: Tokenizer, token: int) -> str:
    """A token as a word: without the space or the continuation mark (``##``) of its vocabulary."""
    return tokenizer.decode([token], special=True).strip().removeprefix("##")


def fill(
    loaded: LoadedModel, texts: Iterable[str], k: int = 5, *, batch_tokens: int = 8192
) -> Iterator[Filled]:
    """For each text, in order, the ``k`` likeliest tokens at every ``<MASK>`` (``[MASK]`` is understood too).

    Special tokens are never offered. A text longer than the model's context is cut to a window around its masks,
    and counted in one warning. Raises DataError for a text without a mask, UsageError for another kind of model.
    """
    _check(loaded, k)
    tokenizer, model = loaded.text, cast(Any, loaded.model)
    context, device = text_config(model).context, device_of(model)
    special = _special(tokenizer, device)
    cut = 0
    for window in windows(texts, 1024):
        encoded = [_encode(tokenizer, text, context) for text in window]
        cut += sum(shortened for _, _, shortened in encoded)
        made: list[Filled | None] = [None] * len(window)
        for rows in by_length([len(ids) for ids, _, _ in encoded], batch_tokens):
            ids, segments = pad([encoded[i][0] for i in rows], tokenizer.pad_id, device)
            with torch.inference_mode():
                hidden = model.encoder(ids, segments)  # (B, T, D)
            for b, i in enumerate(rows):
                with torch.inference_mode():  # at the masks only: logits of all tokens can take gigabytes
                    logits = model.head(hidden[b, encoded[i][1]], model.encoder.embed.token.weight)
                chance = logits.float().softmax(-1)  # (M, V)
                chance[:, special] = -1.0
                best = chance.topk(min(k, chance.shape[1] - len(special)), dim=-1)
                masks = [
                    [Candidate(shown(tokenizer, t), t, p) for t, p in zip(ts, ps, strict=True)]
                    for ts, ps in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                ]
                filled = _put_in(window[i], [row[0].token if row else "" for row in masks])
                made[i] = Filled(window[i], masks, filled)
        yield from (one for one in made if one is not None)
    _say(cut, context)


def fill_jointly(
    loaded: LoadedModel,
    texts: Iterable[str],
    k: int = 5,
    *,
    beams: int = 10,
    order: str = "certain",
    batch_tokens: int = 8192,
) -> Iterator[JointlyFilled]:
    """For each text, in order, the ``k`` likeliest ways to fill all its masks together.

    A beam search: one mask after another is filled and the others are asked again with the word in its place; the
    ``beams`` best partial fillings are kept. ``order`` certain fills the mask whose best word is the likeliest, left
    the first. The joint pseudo-probability is the product of each word's probability when it was put in; it depends
    on the order, as a masked model does not tell one joint distribution. Special tokens are never offered. Texts are
    cut and errors raised as by :func:`fill`.
    """
    _check(loaded, k)
    if beams < k:
        raise UsageError(f"--beams {beams}: must be at least the number of fillings, -k {k}")
    if order not in ORDERS:
        raise UsageError(f"--order {order!r} is not known{did_you_mean(order, ORDERS)}")
    tokenizer, context, cut = loaded.text, text_config(loaded.model).context, 0
    for text in texts:
        ids, places, shortened = _encode(tokenizer, text, context)
        cut += shortened
        kept: list[tuple[float, dict[int, int]]] = [(0.0, {})]  # log-probability, place → token
        for _ in places:
            best: dict[tuple[int, ...], tuple[float, dict[int, int]]] = {}
            for log_probability, filled in _one_more(loaded, ids, places, kept, beams, order, batch_tokens):
                key = tuple(filled.get(place, -1) for place in places)  # two orders may lead to one filling
                if key not in best or best[key][0] < log_probability:
                    best[key] = log_probability, filled
            kept = sorted(best.values(), key=lambda one: -one[0])[:beams]
        fillings = []
        for log_probability, filled in kept[:k]:
            chosen = [filled[place] for place in places]
            words = [shown(tokenizer, token) for token in chosen]
            fillings.append(Filling(words, chosen, math.exp(log_probability), _put_in(text, words)))
        yield JointlyFilled(text, fillings)
    _say(cut, context)


def _one_more(
    loaded: LoadedModel,
    ids: list[int],
    places: list[int],
    kept: list[tuple[float, dict[int, int]]],
    beams: int,
    order: str,
    batch_tokens: int,
) -> Iterator[tuple[float, dict[int, int]]]:
    """Each kept partial filling with one more mask filled, in the ``beams`` likeliest ways."""
    model, device = cast(Any, loaded.model), device_of(loaded.model)
    special, size = _special(loaded.text, device), max(1, batch_tokens // len(ids))
    for start in range(0, len(kept), size):
        some = kept[start : start + size]
        rows = [[filled.get(i, token) for i, token in enumerate(ids)] for _, filled in some]
        with torch.inference_mode():
            hidden = model.encoder(torch.tensor(rows, device=device))  # (B, T, D)
            for row, (so_far, filled) in zip(hidden, some, strict=True):
                open_ = [place for place in places if place not in filled]
                logits = model.head(row[open_], model.encoder.embed.token.weight)
                logits = logits if logits.dtype == torch.float64 else logits.float()
                chance = logits.log_softmax(-1).index_fill_(-1, special, -torch.inf)  # (M, V)
                mask = 0 if order == "left" else int(chance.amax(-1).argmax())
                best = chance[mask].topk(min(beams, chance.shape[1] - len(special)))
                for value, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                    yield so_far + value, {**filled, open_[mask]: token}


def _check(loaded: LoadedModel, k: int) -> None:
    loaded.need("mlm", verb="fill-mask")
    if k < 1:
        raise UsageError(f"-k {k}: must be 1 or more")


def _special(tokenizer: Tokenizer, device: torch.device) -> Tensor:
    """The ids that are never offered."""
    barred = special_ids(tokenizer, "pad", "unk", "cls", "sep", "mask", "eos")
    return torch.tensor(sorted(barred), device=device, dtype=torch.long)


def _say(cut: int, context: int) -> None:
    if cut:
        console.warn(
            f"{cut} texts were longer than the model reads ({context} tokens); cut around their masks"
        )

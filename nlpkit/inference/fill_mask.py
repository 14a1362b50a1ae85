"""The likeliest words for ``<MASK>`` in a text, by a masked language model (Devlin et al. 2019, section 3.1).

Shapes: B batch, T tokens, D width, V vocabulary, M masks of a text. Every mask of a text is answered by one forward
pass, independently of the other masks.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from nlpkit import console
from nlpkit.core.batch import pad
from nlpkit.errors import DataError, UsageError
from nlpkit.inference.batching import by_length, device_of, special_ids, text_config, windows
from nlpkit.inference.loading import LoadedModel
from nlpkit.text.tokenizer import Tokenizer

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
    loaded.need("mlm", verb="fill-mask")
    if k < 1:
        raise UsageError(f"-k {k}: must be 1 or more")
    tokenizer, model = loaded.text, cast(Any, loaded.model)
    context, device = text_config(model).context, device_of(model)
    barred = special_ids(tokenizer, "pad", "unk", "cls", "sep", "mask", "eos")
    special = torch.tensor(sorted(barred), device=device)
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
    if cut:
        console.warn(
            f"{cut} texts were longer than the model reads ({context} tokens); cut around their masks"
        )

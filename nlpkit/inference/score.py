"""How likely a text is under a language model: loss, perplexity, and bits per byte, in which all models compare.

Shapes: B batch, T tokens, D width, M scored tokens, V vocabulary.

Next-token models score a text by the chain rule. Masked models have its pseudo-log-likelihood: each token is hidden in
turn and asked for (Salazar et al. 2020); ``within-word`` hides the later tokens of its word too, which would give it
away (Kauf and Ivanova 2023). A text longer than the model reads is scored in windows.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from nlpkit import console
from nlpkit.core.batch import IGNORE, pad
from nlpkit.errors import UsageError, did_you_mean
from nlpkit.inference.batching import MAX_ROWS, by_length, device_of, special_ids, text_config, windows
from nlpkit.inference.loading import LoadedModel
from nlpkit.text.tokenizer import Tokenizer

PLL = ("original", "within-word")
BATCH_TOKENS = 8192  # padded tokens of one batch
LOGITS = 1 << 23  # numbers that are held at once


@dataclass(frozen=True)
class Score:
    """The nats that a text, or several, cost a model, with the tokens and the UTF-8 bytes that they are of.

    >>> Score(4 * math.log(2), 2, 8).bits_per_byte
    0.5
    """

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0

    @property
    def loss(self) -> float | None:
        """Nats a token; ``None`` where there are none."""
        return self.nats / self.tokens if self.tokens else None

    @property
    def perplexity(self) -> float | None:
        """exp of the loss."""
        return math.exp(min(self.nats / self.tokens, 700.0)) if self.tokens else None

    @property
    def bits_per_byte(self) -> float | None:
        """Bits for a byte of text, whatever its tokens are."""
        return self.nats / math.log(2) / self.bytes if self.tokens and self.bytes else None

    def record(self) -> dict[str, float | int | None]:
        """What is told of it."""
        return {
            "loss": self.loss,
            "tokens": self.tokens,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
        }

    def __add__(self, other: "Score") -> "Score":
        return Score(self.nats + other.nats, self.tokens + other.tokens, self.bytes + other.bytes)


class _Window(NamedTuple):
    """Some tokens of a text that the model reads together, and which of them it is asked for."""

    text: int  # the number of the text
    ids: list[int]  # next-token models: the token before them stands first
    first: int  # the place in ``ids`` of the first token that is asked for
    last: int  # and behind the last one
    words: list[int | None]  # the word of each of ``ids``


def score(
    loaded: LoadedModel,
    texts: Iterable[str],
    *,
    pll: str = "original",
    overlap: int = 0,
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[Score]:
    """The score of each text, in order; one without tokens has no loss. Memory is that of a window of texts.

    Next-token models begin a text behind ``<|endoftext|>`` (a foreign one behind its own first token), and its end
    is not asked for. Long texts are read in windows as long as the context; ``overlap`` tokens of a window were scored
    in the one before (a masked model's stand on both sides) and are context here. Raises UsageError for another kind
    of model. Tokens that stand for unknown text are counted in one warning.
    """
    loaded.need("clm", "mlm", verb="score")
    if pll not in PLL:
        raise UsageError(f"--pll {pll!r} is not known{did_you_mean(pll, PLL)}")
    tokenizer, context = loaded.text, text_config(loaded.model).context
    room = context if loaded.kind == "clm" else context - len(tokenizer.encode([""], special=True)[0])
    if not 0 <= overlap < room:
        raise UsageError(f"--overlap {overlap}: must be from 0 to {room - 1}; this model reads {room} tokens")
    causal = loaded.kind == "clm"
    unknown, known = special_ids(tokenizer, "unk") - {tokenizer.eos_id}, 0
    lost = 0
    for window in windows(texts):
        found = tokenizer.encodings(window, offsets=not causal and pll == "within-word")
        encoded = [e.ids for e in found]
        lost += sum(ids.count(id) for ids in encoded for id in unknown)
        known += sum(map(len, encoded))
        nats = [0.0] * len(window)
        if causal:
            first = _beginning(tokenizer)
            parts = [w for i, ids in enumerate(encoded) for w in _behind(i, [first, *ids], room, overlap)]
            losses = _next_tokens(loaded, parts, batch_tokens)
        else:
            words = [e.words if pll == "within-word" else [] for e in found]
            parts = [w for i, ids in enumerate(encoded) for w in _around(i, ids, words[i], room, overlap)]
            losses = _hidden_tokens(loaded, parts, batch_tokens)
        for text, loss in losses:
            nats[text] += loss
        for text_, ids, sum_ in zip(window, encoded, nats, strict=True):
            yield Score(sum_, len(ids), len(text_.encode("utf-8", "replace")))
    if lost:
        console.warn(
            f"{lost:,} of {known:,} tokens stand for text that the tokenizer does not know; what it says is not "
            "scored, so the bits per byte are too few"
        )


def _beginning(tokenizer: Tokenizer) -> int:
    """The token that a text begins behind."""
    own = [] if tokenizer.ours else tokenizer.encode([""], special=True)[0]
    return own[0] if own else tokenizer.eos_id


def _behind(text: int, seen: list[int], room: int, overlap: int) -> Iterator[_Window]:
    """Windows of ``room`` inputs for a next-token model; each but the first begins with ``overlap`` scored ones."""
    at = 1  # the next token to be asked for
    while at < len(seen):
        begin = max(0, at - 1 - overlap) if at > 1 else 0
        ids = seen[begin : begin + room + 1]
        yield _Window(text, ids, at - begin, len(ids), [])
        at = begin + len(ids)


def _around(text: int, ids: list[int], words: list[int | None], room: int, overlap: int) -> Iterator[_Window]:
    """Windows of ``room`` tokens for a masked model, as much overlap before what is asked for as behind it."""
    at = 0
    while at < len(ids):
        begin = min(max(0, at - overlap // 2), max(0, len(ids) - room))
        end = min(begin + room, len(ids))
        last = end if end == len(ids) else max(at + 1, end - (overlap - overlap // 2))
        yield _Window(text, ids[begin:end], at - begin, last - begin, words[begin:end])
        at = last


def _next_tokens(loaded: LoadedModel, parts: list[_Window], batch_tokens: int) -> Iterator[tuple[int, float]]:
    """(text, nats) of each window: of each asked token behind those before it."""
    model, device, filler = cast(Any, loaded.model), device_of(loaded.model), loaded.text.pad_id
    for rows in by_length([len(part.ids) - 1 for part in parts], batch_tokens):
        held = [parts[i] for i in rows]
        inputs, segments = pad([part.ids[:-1] for part in held], filler, device)
        asked = [[IGNORE] * (p.first - 1) + p.ids[p.first :] for p in held]
        labels, _ = pad(asked, IGNORE, device)  # (B, T)
        with torch.inference_mode():
            hidden = model.encoder(inputs, segments)  # (B, T, D)
            scored = labels != IGNORE
            losses = _losses(model, hidden[scored], labels[scored])  # (M,)
            rows_ = scored.nonzero()[:, 0].to(losses.device)
            sums = losses.new_zeros(len(held)).index_add_(0, rows_, losses)
        yield from zip([part.text for part in held], sums.tolist(), strict=True)


def _hidden_tokens(
    loaded: LoadedModel, parts: list[_Window], batch_tokens: int
) -> Iterator[tuple[int, float]]:
    """(text, nats) of each token that is asked for, hidden among the others of its window."""
    model, device, tokenizer = cast(Any, loaded.model), device_of(loaded.model), loaded.text
    around = tokenizer.encode([""], special=True)[0]  # [CLS] [SEP]
    head, tail = around[: len(around) // 2], around[len(around) // 2 :]

    def rows() -> Iterator[tuple[_Window, int]]:
        for i in sorted(range(len(parts)), key=lambda i: -len(parts[i].ids)):
            yield from ((parts[i], at) for at in range(parts[i].first, parts[i].last))

    for held in _filled(rows(), len(around), batch_tokens):
        masked = [head + _hide(part, at, tokenizer.mask_id) + tail for part, at in held]
        ids, segments = pad(masked, tokenizer.pad_id, device)
        places = torch.tensor([len(head) + at for _, at in held], device=device)
        labels = torch.tensor([part.ids[at] for part, at in held], device=device)
        with torch.inference_mode():
            hidden = model.encoder(ids, segments)[torch.arange(len(held), device=device), places]  # (B, D)
            losses = _losses(model, hidden, labels).tolist()
        yield from zip([part.text for part, _ in held], losses, strict=True)


def _filled(
    rows: Iterator[tuple[_Window, int]], extra: int, batch_tokens: int
) -> Iterator[list[tuple[_Window, int]]]:
    """Batches of rows that come longest first."""
    held: list[tuple[_Window, int]] = []
    for row in rows:
        if held and len(held) >= max(1, min(MAX_ROWS, batch_tokens // (len(held[0][0].ids) + extra))):
            yield held
            held = []
        held.append(row)
    if held:
        yield held


def _hide(part: _Window, at: int, mask: int) -> list[int]:
    """The window with a token hidden, and with it the later ones of its word where the words are known."""
    ids = list(part.ids)
    ids[at] = mask
    if part.words and part.words[at] is not None:
        for later in range(at + 1, len(ids)):
            if part.words[later] != part.words[at]:
                break
            ids[later] = mask
    return ids


def _losses(model: Any, hidden: Tensor, labels: Tensor) -> Tensor:
    """The nats (M,), float64, of ``labels`` (M,) at ``hidden`` (M, D); only so many logits are held at once."""
    weight = model.encoder.embed.token.weight
    size = max(1, LOGITS // weight.shape[0])
    made = []
    for some, wanted in zip(hidden.split(size), labels.split(size), strict=True):
        logits = model.head(some, weight)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        made.append(F.cross_entropy(logits, wanted, reduction="none").double())
    return torch.cat(made)


def total(scores: Iterable[Score]) -> dict[str, float | int | None]:
    """One record of all texts: sums divided once; texts without tokens are counted as empty and left out.

    >>> total([Score(2.0, 2, 4), Score(0.0, 0, 1)])["empty"]
    1
    """
    whole, texts, empty = Score(), 0, 0
    for one in scores:
        texts += 1
        empty += not one.tokens
        whole = whole + one if one.tokens else whole
    return {"texts": texts, "empty": empty, **whole.record(), "bytes": whole.bytes, "nats": whole.nats}

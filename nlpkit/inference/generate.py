"""Continues a prompt token by token with a next-token model; each token is read once (keys and values are kept).

Shapes: T tokens, V vocabulary. Sampling: temperature, then the top-k tokens, then the smallest set of tokens
whose probabilities reach top-p (nucleus, Holtzman et al. 2020, section 3.1).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nlpkit import console
from nlpkit.core.cache import Cache
from nlpkit.errors import UsageError
from nlpkit.inference.batching import device_of, special_ids, text_config
from nlpkit.inference.loading import LoadedModel

FRAME = 8  # tokens that are decoded together while text streams


@dataclass(frozen=True)
class Sampling:
    """How a next token is drawn. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 cut nothing off."""

    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"--temperature {self.temperature}: must be 0 (greedy) or more")
        if self.top_k < 0:
            raise UsageError(f"--top-k {self.top_k}: must be 0 (off) or more")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p {self.top_p}: must be above 0 and at most 1")


def choose(logits: Tensor, how: Sampling, generator: torch.Generator) -> int:
    """The next token of logits (V,), drawn on the processor so that a seed means the same everywhere.

    >>> choose(torch.tensor([0.0, 2.0, 1.0]), Sampling(temperature=0), torch.Generator())
    1
    """
    logits = logits.float().cpu()
    if how.temperature == 0:
        return int(logits.argmax())
    values, order = (logits / how.temperature).sort(descending=True, stable=True)
    if how.top_k:
        values, order = values[: how.top_k], order[: how.top_k]
    chance = values.softmax(-1)
    if how.top_p < 1:
        before = chance.cumsum(-1) - chance  # what the likelier tokens hold; 0 for the first, which stays
        chance = chance.masked_fill(before >= how.top_p, 0.0)
    return int(order[torch.multinomial(chance, 1, generator=generator)])


def tokens(
    loaded: LoadedModel,
    prompt: list[int],
    *,
    max_new_tokens: int = 100,
    sampling: Sampling | None = None,
    cached: bool = True,
) -> Iterator[int]:
    """The ids that follow ``prompt`` (at least one id), until ``<|endoftext|>`` or ``max_new_tokens``.

    When the context is full, its older half is dropped and the newer half read again. ``cached=False`` reads the
    whole text for every token: slower, the same result up to rounding.
    """
    loaded.need("clm", verb="generate")
    how = sampling or Sampling()
    model, tokenizer = loaded.model, loaded.text
    context, device = text_config(model).context, device_of(model)
    generator = torch.Generator().manual_seed(how.seed)
    end = tokenizer.eos_id
    barred = sorted(special_ids(tokenizer, "pad", "unk", "cls", "sep", "mask") - {end})
    ids = list(prompt)
    start, read, cache = max(0, len(ids) - context), 0, Cache(context)  # ids[start:read] are in the cache
    if start:
        console.warn(f"the first {start:,} tokens of the prompt are not read: the model reads {context}")
    for _ in range(max_new_tokens):
        if len(ids) - start > context:
            start, read, cache = len(ids) - max(1, context // 2), 0, Cache(context)
        fresh = ids[max(start, read) :] if cached else ids[start:]
        with torch.inference_mode():
            inputs = torch.tensor([fresh], device=device)
            logits = model(inputs, cache=cache if cached else None, last=True)[0, -1]
            logits[barred] = -torch.inf
        read = len(ids)
        token = choose(logits, how, generator)
        if token == end:
            return
        ids.append(token)
        yield token


def stream(
    loaded: LoadedModel,
    prompt: str = "",
    *,
    max_new_tokens: int = 100,
    sampling: Sampling | None = None,
    cached: bool = True,
) -> Iterator[str]:
    """Pieces of text that follow ``prompt``, each as soon as its bytes make whole characters.

    An empty prompt starts behind ``<|endoftext|>``, as a new document. The pieces joined are the continuation.
    """
    if max_new_tokens < 0:
        raise UsageError(f"--max-new-tokens {max_new_tokens}: must be 0 or more")
    tokenizer = loaded.text
    # Ours learn documents bare; a foreign tokenizer knows whether its model expects a first token.
    ids = tokenizer.encode([prompt], special=not tokenizer.ours)[0] if prompt else []
    ids = ids or [tokenizer.eos_id]
    # Only a short frame of tokens is decoded each time; those whose text is out give the next ones their spaces.
    frame = ids[-FRAME:]
    out = len(frame)
    for token in tokens(loaded, ids, max_new_tokens=max_new_tokens, sampling=sampling, cached=cached):
        frame.append(token)
        known, text = tokenizer.decode(frame[:out]), tokenizer.decode(frame)
        if len(text) > len(known) and not text.endswith("\ufffd"):
            yield text[len(known) :]
            frame = frame[-FRAME:]
            out = len(frame)
    left = tokenizer.decode(frame)[len(tokenizer.decode(frame[:out])) :]
    if left:
        yield left

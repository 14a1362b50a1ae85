"""Continues prompts token by token with a next-token model; each token is read once (keys and values are kept).

Shapes: B rows, T tokens, V vocabulary. Sampling, in this order: repetition penalty (Keskar et al. 2019, section
4.1), temperature, the top-k tokens, the smallest set of tokens whose probabilities reach top-p (nucleus, Holtzman et
al. 2020, section 3.1), the tokens that have at least min-p of the likeliest one's probability (Nguyen et al. 2024).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nlpkit import console
from nlpkit.errors import UsageError
from nlpkit.inference.batching import by_length, text_config, windows
from nlpkit.inference.decoding import Decoding
from nlpkit.inference.loading import LoadedModel
from nlpkit.inference.text_stream import TextStream
from nlpkit.text.tokenizer import Tokenizer

PROMPTS = 256  # that are held and sorted by length at once


@dataclass(frozen=True)
class Sampling:
    """How a next token is drawn. ``temperature`` 0 is greedy.

    ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and ``repetition_penalty`` 1 change nothing.
    """

    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"--temperature {self.temperature}: must be 0 (greedy) or more")
        if self.top_k < 0:
            raise UsageError(f"--top-k {self.top_k}: must be 0 (off) or more")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p {self.top_p}: must be above 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            raise UsageError(f"--min-p {self.min_p}: must be from 0 (off) to 1")
        if not 0 < self.repetition_penalty < float("inf"):
            raise UsageError(f"--repetition-penalty {self.repetition_penalty}: must be above 0 (1 is off)")


@dataclass(frozen=True)
class Completion:
    """What follows a prompt, how many tokens that took, and why it ended: ``end`` (of text), ``stop`` or ``length``."""

    prompt: str
    text: str
    tokens: int
    ended: str


def choose(logits: Tensor, how: Sampling, generator: torch.Generator) -> int:
    """The next token of logits (V,), drawn on the processor so that a seed means the same everywhere.

    >>> choose(torch.tensor([0.0, 2.0, 1.0]), Sampling(temperature=0), torch.Generator())
    1
    """
    if how.temperature == 0:
        return int(logits.argmax())
    values, order = (logits.float().cpu() / how.temperature).sort(descending=True, stable=True)
    if how.top_k:
        values, order = values[: how.top_k], order[: how.top_k]
    chance = values.softmax(-1)
    least = how.min_p * chance[0]
    if how.top_p < 1:
        before = chance.cumsum(-1) - chance  # what the likelier tokens hold; 0 for the first, which stays
        chance = chance.masked_fill(before >= how.top_p, 0.0)
    if how.min_p:
        chance = chance.masked_fill(chance < least, 0.0)
    return int(order[torch.multinomial(chance, 1, generator=generator)])


def penalise(logits: Tensor, seen: Iterable[int], penalty: float) -> None:
    """Make the tokens ``seen`` less likely in logits (V,), in place: divided by ``penalty``, times it where negative.

    >>> logits = torch.tensor([2.0, -2.0, 2.0])
    >>> penalise(logits, [0, 1], 2.0)
    >>> logits
    tensor([ 1., -4.,  2.])
    """
    index = torch.tensor(sorted(set(seen)), device=logits.device, dtype=torch.long)
    values = logits[index]
    logits[index] = torch.where(values > 0, values / penalty, values * penalty)


def steps(
    decoding: Decoding, max_new_tokens: int, how: Sampling, done: set[int]
) -> Iterator[list[tuple[int, int]]]:
    """The next token of each row that is not ``done``, as (number of the row, id), step after step.

    A row is done behind ``<|endoftext|>``, which is told too; whoever reads on may add rows to ``done``. Each row is
    drawn with its own generator, so that it has the tokens that it would have alone.
    """
    live = list(range(len(decoding.rows)))
    draws = [torch.Generator().manual_seed(how.seed) for _ in live]
    for _ in range(max_new_tokens):
        logits = decoding.logits()
        if how.repetition_penalty != 1:
            with torch.inference_mode():
                for scores, row in zip(logits, decoding.rows, strict=True):
                    penalise(scores, set(row) - {decoding.end}, how.repetition_penalty)
        if how.temperature == 0:
            drawn = logits.argmax(-1).tolist()
        else:
            drawn = [choose(scores, how, draws[i]) for i, scores in zip(live, logits, strict=True)]
        done.update(i for i, token in zip(live, drawn, strict=True) if token == decoding.end)
        yield list(zip(live, drawn, strict=True))
        decoding.append(drawn)
        if done:
            decoding.select([r for r, i in enumerate(live) if i not in done])
            live = [i for i in live if i not in done]
            if not live:
                return


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
    decoding = Decoding(loaded, [prompt], room=max_new_tokens, cached=cached)
    if decoding.starts[0]:
        console.warn(
            f"the first {decoding.starts[0]:,} tokens of the prompt are not read: the model reads {decoding.context}"
        )
    for ((_, token),) in steps(decoding, max_new_tokens, sampling or Sampling(), set()):
        if token != decoding.end:
            yield token


def prompt_ids(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[list[int]]:
    """The ids of each prompt; an empty one starts behind ``<|endoftext|>``, as a new document."""
    # Ours learn documents bare; a foreign tokenizer knows whether its model expects a first token.
    encoded = tokenizer.encode(prompts, special=not tokenizer.ours)
    rows = zip(prompts, encoded, strict=True)
    return [ids if prompt and ids else [tokenizer.eos_id] for prompt, ids in rows]


def stream(
    loaded: LoadedModel,
    prompt: str = "",
    *,
    max_new_tokens: int = 100,
    sampling: Sampling | None = None,
    stops: Sequence[str] = (),
    cached: bool = True,
) -> Iterator[str]:
    """Pieces of text that follow ``prompt``, each as soon as its bytes make whole characters.

    The pieces joined are the continuation; it ends before the first of ``stops``, of which nothing is given out.
    """
    check_limits(max_new_tokens, stops)
    (ids,) = prompt_ids(loaded.text, [prompt])
    text = TextStream(loaded.text, ids, stops)
    for token in tokens(loaded, ids, max_new_tokens=max_new_tokens, sampling=sampling, cached=cached):
        if piece := text.push(token):
            yield piece
        if text.stopped:
            return
    if piece := text.close():
        yield piece


def complete(
    loaded: LoadedModel,
    prompts: Iterable[str],
    *,
    max_new_tokens: int = 100,
    sampling: Sampling | None = None,
    stops: Sequence[str] = (),
    batch_tokens: int = 8192,
) -> Iterator[Completion]:
    """What follows each prompt, in order: as :func:`stream` continues it alone, but many prompts in a batch.

    A batch holds at most ``batch_tokens`` tokens, prompts and room for what follows them. Prompts longer than the
    context are read from their end; they are counted in one warning.
    """
    check_limits(max_new_tokens, stops)
    loaded.need("clm", verb="generate")
    tokenizer, context = loaded.text, text_config(loaded.model).context
    cut = 0
    for window in windows(prompts, PROMPTS):
        encoded = prompt_ids(tokenizer, window)
        cut += sum(len(ids) > context for ids in encoded)
        made: list[Completion | None] = [None] * len(window)
        sizes = [min(len(ids) + max_new_tokens, context) for ids in encoded]
        for rows in by_length(sizes, batch_tokens):
            batch = _together(
                loaded, [encoded[i] for i in rows], max_new_tokens, sampling or Sampling(), stops
            )
            for i, (text, count, ended) in zip(rows, batch, strict=True):
                made[i] = Completion(window[i], text, count, ended)
        yield from (one for one in made if one is not None)
    if cut:
        console.warn(
            f"{cut} prompts were longer than the model reads ({context} tokens); only their ends were read"
        )


def _together(
    loaded: LoadedModel, prompts: list[list[int]], most: int, how: Sampling, stops: Sequence[str]
) -> list[tuple[str, int, str]]:
    """(text, number of tokens, why it ended) of each prompt of a batch."""
    decoding = Decoding(loaded, prompts, room=most)
    streams = [TextStream(loaded.text, prompt, stops) for prompt in prompts]
    texts: list[list[str]] = [[] for _ in prompts]
    counts, ended, done = [0] * len(prompts), ["length"] * len(prompts), set[int]()
    for step in steps(decoding, most, how, done):
        for i, token in step:
            if token == decoding.end:
                ended[i] = "end"
                continue
            counts[i] += 1
            texts[i].append(streams[i].push(token))
            if streams[i].stopped:
                ended[i] = "stop"
                done.add(i)
    for i, rest in enumerate(streams):
        texts[i].append(rest.close())
        if rest.stopped:
            ended[i] = "stop"
    return [("".join(text), count, why) for text, count, why in zip(texts, counts, ended, strict=True)]


def check_limits(max_new_tokens: int, stops: Sequence[str]) -> None:
    """A usage error for a negative number of tokens or an empty stop string."""
    if max_new_tokens < 0:
        raise UsageError(f"--max-new-tokens {max_new_tokens}: must be 0 or more")
    if "" in stops:
        raise UsageError("--stop '': is empty; give the text to stop at")

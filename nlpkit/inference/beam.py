"""Beam search: the likeliest continuations as a whole, where greedy choice sees one token at a time (Graves 2012).

Shapes: N beams, V vocabulary. A continuation of n tokens with the log-probability s is worth s / n^a; a = 0 favours
short ones, a = 1 is the mean log-probability of a token (Wu et al. 2016, section 7, in its simpler form).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nlpkit.errors import UsageError
from nlpkit.inference.decoding import Decoding
from nlpkit.inference.generate import Completion, check_limits, prompt_ids
from nlpkit.inference.loading import LoadedModel
from nlpkit.inference.text_stream import FRAME, TextStream


@dataclass(frozen=True)
class Hypothesis:
    """A continuation: its ids, their log-probability in nats, its worth, and whether it is finished."""

    ids: list[int]
    log_probability: float
    score: float
    ended: str  # as in Completion


def search(
    loaded: LoadedModel,
    prompt: Sequence[int],
    beams: int,
    *,
    max_new_tokens: int = 100,
    length_penalty: float = 1.0,
    stops: Sequence[str] = (),
) -> list[Hypothesis]:
    """The best continuations of the prompt's ids, at most ``beams``, the best first.

    Each step every beam is continued and the ``beams`` best stay; what ends with ``<|endoftext|>`` (which counts in
    the log-probability and the length, but is not among the ids) or completes a stop string is finished. The search
    ends when no beam can become worth more than the finished ones, or after ``max_new_tokens``. Deterministic.
    """
    if beams < 1:
        raise UsageError(f"--beam {beams}: must be 1 or more")
    check_limits(max_new_tokens, stops)
    decoding = Decoding(loaded, [list(prompt)], room=max_new_tokens)
    begin, running, finished = len(prompt), [0.0], list[Hypothesis]()

    def worth(log_probability: float, length: int) -> float:
        return log_probability / max(length, 1) ** length_penalty

    for length in range(1, max_new_tokens + 1):
        with torch.inference_mode():
            chance = decoding.logits().double().log_softmax(-1).cpu()  # (N, V)
            total = (torch.tensor(running, dtype=torch.float64)[:, None] + chance).flatten()
            best = total.topk(min(2 * beams, len(total)))
        vocabulary, kept = chance.shape[1], list[tuple[int, int, float]]()
        for rank, (sum_, place) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            row, token = divmod(place, vocabulary)
            if sum_ == -torch.inf or len(kept) == beams:
                break
            ids = decoding.rows[row][begin:]
            if token == decoding.end:
                if rank < beams:  # else it is no better than what is left behind
                    finished.append(Hypothesis(ids, sum_, worth(sum_, length), "end"))
            elif _stopped(loaded, [*prompt, *ids, token], begin, stops):
                if rank < beams:
                    finished.append(Hypothesis([*ids, token], sum_, worth(sum_, length), "stop"))
            else:
                kept.append((row, token, sum_))
        decoding.select([row for row, _, _ in kept])
        decoding.append([token for _, token, _ in kept])
        running = [sum_ for _, _, sum_ in kept]
        finished = sorted(finished, key=lambda h: -h.score)[:beams]
        if not running:
            break
        # A sum only falls; it is worth most at once or, where length is rewarded, as long as can be.
        hope = max(worth(running[0], length + 1), worth(running[0], max_new_tokens))
        if len(finished) == beams and finished[-1].score >= hope:
            running = []
            break
    for ids, sum_ in zip([row[begin:] for row in decoding.rows], running, strict=False):
        finished.append(Hypothesis(ids, sum_, worth(sum_, len(ids)), "length"))
    return sorted(finished, key=lambda h: -h.score)[:beams]


def _stopped(loaded: LoadedModel, ids: list[int], begin: int, stops: Sequence[str]) -> bool:
    """Whether the newest token of the continuation completes a stop string."""
    if not stops:
        return False
    # A token has a byte or more, so no stop string reaches further back than this.
    first = max(begin, len(ids) - max(len(stop.encode()) for stop in stops) - FRAME)
    text = TextStream(loaded.text, ids[:first], stops)
    for token in ids[first:]:
        text.push(token)
    return bool(text.stopped)


def complete(
    loaded: LoadedModel,
    prompt: str,
    beams: int,
    *,
    max_new_tokens: int = 100,
    length_penalty: float = 1.0,
    stops: Sequence[str] = (),
) -> Completion:
    """The text of the best continuation of a prompt, without the stop string that it may end with."""
    (ids,) = prompt_ids(loaded.text, [prompt])
    found = search(
        loaded, ids, beams, max_new_tokens=max_new_tokens, length_penalty=length_penalty, stops=stops
    )
    if not found:
        return Completion(prompt, "", 0, "length")
    text = TextStream(loaded.text, ids, stops)
    pieces = [text.push(token) for token in found[0].ids] + [text.close()]
    return Completion(prompt, "".join(pieces), len(found[0].ids), found[0].ended)

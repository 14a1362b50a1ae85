"""Packed rows for language models: masked (BERT) and next-token (GPT) batches.

Letters: B rows of a micro-batch, T tokens of a row (= context). A batch has ``input_ids``, ``segments`` (0 padding,
1, 2, … the documents of a row) and ``labels`` (-100: not scored), each int64 (B, T).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch

from nlpkit.core.batch import IGNORE, Batch
from nlpkit.data.order import MASK, VALID, Order, keyed, split_up
from nlpkit.data.packing import Plan, pack
from nlpkit.data.tokens import Tokens, split
from nlpkit.errors import DataError

START_RATE = 0.1


@dataclass(frozen=True)
class LanguageConfig:
    """``batch_size`` rows of ``context`` tokens a step, in micro-batches of ``micro_batch`` rows (0: all at once).

    ``mask_rate`` of the tokens are asked for (80 % [MASK], 10 % random, 10 % kept: BERT, appendix A.1).
    ``valid_fraction`` of the text, at most ``valid_tokens``, is held out.
    """

    context: int = 128
    batch_size: int = 32
    micro_batch: int = 0
    mask_rate: float = 0.15
    valid_fraction: float = 0.02
    valid_tokens: int = 200_000
    vocab_size: int = 8000
    documents: Literal["line", "paragraph", "file"] = "paragraph"

    def __post_init__(self) -> None:
        if self.context < 4 or self.batch_size < 1 or self.micro_batch < 0:
            raise ValueError("context must be 4 or more, batch_size 1 or more, micro_batch 0 or more")
        if not 0 < self.mask_rate < 1 or not 0 <= self.valid_fraction < 1:
            raise ValueError("mask_rate lies between 0 and 1, valid_fraction in [0, 1)")


class Specials(Protocol):
    """The ids that masking and packing need; a Tokenizer has them."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""

    @property
    def pad_id(self) -> int:
        """Fills up a row."""

    @property
    def cls_id(self) -> int:
        """Begins a piece (mlm)."""

    @property
    def sep_id(self) -> int:
        """Ends a piece (mlm)."""

    @property
    def mask_id(self) -> int:
        """Hides a token."""

    @property
    def eos_id(self) -> int:
        """Is predicted behind a document (clm)."""


class LanguageData:
    """Rows of packed documents; ``objective`` mlm wraps each piece in [CLS] … [SEP], clm predicts across a document.

    In clm a document of n tokens gives n inputs and n labels (its tokens 2 … n and <|endoftext|>); where a long
    document is cut, the last label of a piece is the first token of the next. Now and then (START_RATE, never in
    validation) a document begins with <|endoftext|> instead and its last prediction is left out, so that a model
    learns to begin from nothing.
    """

    def __init__(
        self,
        tokens: Tokens,
        specials: Specials,
        config: LanguageConfig,
        *,
        objective: Literal["mlm", "clm"],
        seed: int = 0,
        valid: Tokens | None = None,
    ) -> None:
        self.tokens, self.config, self.objective, self.seed = tokens, config, objective, seed
        self.ids = {
            name: int(getattr(specials, f"{name}_id")) for name in ("pad", "cls", "sep", "mask", "eos")
        }
        self.vocab_size = int(specials.vocab_size)
        # Specials are the ids below the first ordinary one; a random replacement is never a special.
        self.first_word = max(self.ids.values()) + 1 if max(self.ids.values()) < 16 else 0
        overhead = 2 if objective == "mlm" else 0
        fraction = 0.0 if valid is not None else config.valid_fraction
        starts, lengths, held = split(tokens, fraction, config.valid_tokens, config.context - overhead)
        self.ends = tokens.offsets[1:].astype(np.int64)
        self.plan = pack(starts[~held], lengths[~held], config.context, overhead)
        self.valid_tokens = valid if valid is not None else tokens
        if valid is not None:
            starts, lengths, held = valid.starts, valid.lengths, np.ones(len(valid.lengths), bool)
        self.valid_ends = self.valid_tokens.offsets[1:].astype(np.int64)
        self.valid_plan = pack(starts[held], lengths[held], config.context, overhead)
        if self.plan.n_rows == 0:
            raise DataError(
                "no document is left to train on; give more text or a smaller data.valid_fraction"
            )
        self.order = Order(self.plan.n_rows, config.batch_size, seed)

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every row was seen."""
        return self.order.steps_per_epoch

    def describe(self) -> str:
        """One line: tokens, rows and the share that is padding."""
        n = int(self.plan.lengths.sum())
        held = int(self.valid_plan.lengths.sum())
        return (
            f"{n:,} tokens to train on in {self.plan.n_rows:,} rows of {self.config.context} "
            f"({100 * self.plan.waste:.1f} % padding), {held:,} held out"
        )

    def batch(self, step: int) -> list[Batch]:
        """The micro-batches of a step: a pure function of (seed, step)."""
        parts = split_up(self.order.items(step), self.config.micro_batch)
        return [
            self._assemble(self.tokens, self.ends, self.plan, rows, (self.seed, MASK, step, micro))
            for micro, rows in enumerate(parts)
        ]

    def valid(self) -> Iterator[Batch]:
        """The held-out rows, always masked in the same way whatever the seed of the run."""
        size = self.config.micro_batch or self.config.batch_size
        for number, start in enumerate(range(0, self.valid_plan.n_rows, size)):
            rows = np.arange(start, min(start + size, self.valid_plan.n_rows))
            yield self._assemble(
                self.valid_tokens, self.valid_ends, self.valid_plan, rows, (0, VALID, number)
            )

    def _assemble(
        self, tokens: Tokens, ends: np.ndarray, plan: Plan, rows: np.ndarray, key: tuple[int, ...]
    ) -> Batch:
        shape = (len(rows), plan.context)
        ids = np.full(shape, self.ids["pad"], np.int64)
        segments = np.zeros(shape, np.int64)
        labels = np.full(shape, IGNORE, np.int64)
        mlm, flat = self.objective == "mlm", tokens.ids
        starts_anew = keyed(*key).random(int((plan.rows[rows + 1] - plan.rows[rows]).sum())) < START_RATE
        piece = 0
        for r, row in enumerate(rows.tolist()):
            at = 0
            first, last = int(plan.rows[row]), int(plan.rows[row + 1])
            pieces = zip(plan.starts[first:last].tolist(), plan.lengths[first:last].tolist(), strict=True)
            for segment, (start, length) in enumerate(pieces, 1):
                document = int(np.searchsorted(ends, start, side="right")) if not mlm else 0
                begin = int(tokens.offsets[document])
                if mlm:
                    ids[r, at] = self.ids["cls"]
                    ids[r, at + 1 : at + 1 + length] = flat[start : start + length]
                    ids[r, at + 1 + length] = self.ids["sep"]
                    taken = length + 2
                elif key[1] == MASK and starts_anew[piece] and start == begin:
                    ids[r, at], ids[r, at + 1 : at + length] = (
                        self.ids["eos"],
                        flat[start : start + length - 1],
                    )
                    labels[r, at : at + length] = flat[start : start + length]
                    taken = length
                else:
                    ids[r, at : at + length] = flat[start : start + length]
                    labels[r, at : at + length - 1] = flat[start + 1 : start + length]
                    end = start + length
                    labels[r, at + length - 1] = self.ids["eos"] if end == ends[document] else flat[end]
                    taken = length
                segments[r, at : at + taken] = segment
                at, piece = at + taken, piece + 1
        if mlm:
            self._mask(ids, segments, labels, key)
        names = {"input_ids": ids, "segments": segments, "labels": labels}
        return {name: torch.from_numpy(array) for name, array in names.items()}

    def _mask(self, ids: np.ndarray, segments: np.ndarray, labels: np.ndarray, key: tuple[int, ...]) -> None:
        """Choose, remember and replace in place (Devlin et al. 2019, appendix A.1)."""
        generator = keyed(*key)
        draw = generator.random(ids.shape, np.float32)
        ordinary = segments > 0
        for name in ("cls", "sep", "mask", "eos", "pad"):
            ordinary &= ids != self.ids[name]
        chosen = ordinary & (draw < self.config.mask_rate)
        if (
            not chosen.any() and ordinary.any()
        ):  # a tiny batch: the lowest draw is asked for, so a loss exists
            chosen.flat[int(np.where(ordinary, draw, 2.0).argmin())] = True
        labels[chosen] = ids[chosen]
        where = np.flatnonzero(chosen)
        kind = generator.random(len(where), np.float32)
        ids.flat[where[kind < 0.8]] = self.ids["mask"]
        random = where[(kind >= 0.8) & (kind < 0.9)]
        ids.flat[random] = generator.integers(self.first_word, self.vocab_size, len(random))

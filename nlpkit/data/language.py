"""Packed rows for language models: masked (BERT), next-token (GPT) and prefix batches, or a mix of two of them.

Letters: B rows of a micro-batch, T tokens of a row (= context), K sources. A batch has ``input_ids``, ``segments``
(0 padding, 1, 2, … the documents of a row) and ``labels`` (-100: not scored), each int64 (B, T); prefix batches have
``prefix`` (1 on the tokens that are seen both ways), next-token batches of a masked model ``causal`` (True).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np
import torch

from nlpkit.core.batch import Batch
from nlpkit.data import rows as arrays
from nlpkit.data.course import Course
from nlpkit.data.masking import HIGHEST_SPAN_RATE, Masking, Unit, continues
from nlpkit.data.order import MASK, PREFIX, VALID, Order, keyed, split_up
from nlpkit.data.packing import Plan, Stream, joined, pack, stream
from nlpkit.data.stages import Ranges, mixture, ranges, rate_schedule, whole_numbers
from nlpkit.data.tokens import Tokens, split
from nlpkit.errors import DataError, UsageError

START_RATE = 0.1
EXCERPT = 24  # tokens
OBJECTIVES = {
    "mlm": ("mlm", "clm"),
    "clm": ("clm", "prefix"),
}  # what a kind of model can learn by, its own first
ALL = "text"  # how the sources are called together where no stages tell them apart


@dataclass(frozen=True)
class LanguageConfig:
    """``batch_size`` rows of ``context`` tokens a step, in micro-batches of ``micro_batch`` rows (0: all at once).

    ``objective`` refines the kind: prefix of a clm, or a mix (mlm:.5,clm:.5); "": the kind's own. ``mask_rate`` of the
    tokens, or FIRST:LAST over the run, are asked for: single tokens, words, or spans of words (``mask``); of these the
    shares ``mask_split`` become [MASK], become another token and stay. ``stages`` ("0-70%: web=.8,books=.2") share the
    rows among the inputs; ``lengths`` ("0-30%:128,30-100%:512") regroup the tokens of a step in rows of other contexts;
    ``batches`` ("0-20%:16,20-100%:32") change the rows of a step. ``cross``: clm rows run across documents.
    ``valid_fraction`` of the text, at most ``valid_tokens``, is held out. Documents that share a run of 13 words with
    the files of ``decontaminate`` or the validation file are left out ("" among them: none is).
    """

    context: int = 128
    batch_size: int = 32
    micro_batch: int = 0
    objective: str = ""
    mask: Unit = "token"
    mask_rate: float | str = 0.15
    mask_split: tuple[float, ...] = (0.8, 0.1, 0.1)
    stages: tuple[str, ...] = ()
    lengths: str = ""
    batches: str = ""
    cross: bool = False
    valid_fraction: float = 0.02
    valid_tokens: int = 200_000
    decontaminate: tuple[str, ...] = ()
    vocab_size: int = 8000
    documents: Literal["line", "paragraph", "file"] = "paragraph"

    def __post_init__(self) -> None:
        if self.context < 4 or self.batch_size < 1 or self.micro_batch < 0:
            raise ValueError("context must be 4 or more, batch_size 1 or more, micro_batch 0 or more")
        if not 0 <= self.valid_fraction < 1:
            raise ValueError("valid_fraction lies in [0, 1)")
        if len(self.mask_split) != 3 or min(self.mask_split) < 0 or abs(sum(self.mask_split) - 1) > 1e-9:
            raise ValueError("mask_split is three shares that add up to 1: [MASK], another token, kept")
        first, last = self.rates
        if self.mask == "span" and max(first, last) > HIGHEST_SPAN_RATE:
            raise ValueError(
                f"spans hide at most {HIGHEST_SPAN_RATE:.0%} of the words; choose a lower mask_rate"
            )
        batches = {self.batch_size, *(rows for _, rows in self.batch_ranges)}
        for _, context in self.context_ranges:
            if context > self.context:
                raise ValueError(
                    f"lengths: {context} is more than context = {self.context}; raise context to it"
                )
            for rows in batches:
                if rows * self.context % context:
                    raise ValueError(
                        f"lengths: the {rows} × {self.context} tokens of a step are no whole rows of {context}"
                    )
        self.shares()

    @property
    def context_ranges(self) -> Ranges[int]:
        """The contexts by share of the run; empty where there is one."""
        return whole_numbers(self.lengths, "data.lengths", 4)

    @property
    def batch_ranges(self) -> Ranges[int]:
        """The rows of a step by share of the run; empty where they stay."""
        return whole_numbers(self.batches, "data.batches", 1)

    @property
    def rates(self) -> tuple[float, float]:
        """The mask rate at the first and the last step."""
        return rate_schedule(self.mask_rate)

    def shares(self, known: tuple[str, ...] = ()) -> Ranges[dict[str, Fraction]]:
        """The shares of the sources by stage; empty without stages. UsageError for a name not among ``known``."""
        if not self.stages:
            return []
        return ranges(self.stages, "data.stages", lambda said: mixture(said, "data.stages", known))


class Specials(Protocol):
    """What masking and packing need of a Tokenizer."""

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
        """Hides a token (mlm)."""

    @property
    def eos_id(self) -> int:
        """Is predicted behind a document (clm)."""

    @property
    def kind(self) -> str:
        """Which marks its words have (masks of words and spans)."""

    def id_to_token(self, id: int) -> str:
        """The token of an id (masks of words and spans)."""


@dataclass(frozen=True)
class Layout:
    """The rows of one context: the sources' plans joined, and of each source its first row and its order."""

    plan: Plan | Stream
    base: list[int]
    counts: list[int]
    orders: list[Order]


class LanguageData:
    """Rows of packed documents; the kind mlm wraps each piece in [CLS] … [SEP], clm predicts across a document.

    In clm a document of n tokens gives n inputs and n labels (its tokens 2 … n and <|endoftext|>); where a long
    document is cut, the last label of a piece is the first token of the next. Now and then (START_RATE, never in
    validation) a document begins with <|endoftext|> instead and its last prediction is left out, so that a model
    learns to begin from nothing.

    Raises UsageError for an objective that the kind cannot have and for stages that do not fit the sources,
    DataError for text without a row to train on and for ids beyond the vocabulary.
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
        self.tokens, self.config, self.kind, self.seed = tokens, config, objective, seed
        self._decode: Callable[[list[int]], str] | None = getattr(specials, "decode", None)
        self.objectives = mixture(config.objective or objective, "data.objective", OBJECTIVES[objective])
        if config.cross and (objective == "mlm" or list(self.objectives) != ["clm"]):
            raise UsageError("data.cross is for next-token models (clm) alone; leave it out")
        needed = ("pad", "cls", "sep", "mask", "eos") if objective == "mlm" else ("pad", "eos")
        self.ids = {name: int(getattr(specials, f"{name}_id")) for name in needed}
        self.vocab_size = int(specials.vocab_size)
        self._masking = self._masks(specials) if objective == "mlm" else None
        self._overhead = 2 if objective == "mlm" else 0
        self.valid_tokens = valid if valid is not None else tokens
        for held in {id(t): t for t in (tokens, self.valid_tokens)}.values():
            self._check(held)
        fraction = 0.0 if valid is not None else config.valid_fraction
        starts, lengths, chosen = split(
            tokens, fraction, config.valid_tokens, config.context - self._overhead
        )
        names = tuple(n for n, _ in tokens.sources) or (ALL,)
        self._stages = config.shares(names)
        unused = [n for n in names if self._stages and all(n not in shares for _, shares in self._stages)]
        if unused:
            raise UsageError(
                f"data.stages: {unused[0]!r} is in no stage; give it a share, or 0, or leave it out"
            )
        self.sources = names if self._stages else (ALL,)
        self._parts = self._apart(starts[~chosen], lengths[~chosen])
        for name, (_, part, _) in zip(self.sources, self._parts, strict=True):
            if not part.sum():
                whose = f"of {name!r} " if len(self.sources) > 1 else ""
                raise DataError(
                    f"no document {whose}is left to train on; give more text or a smaller data.valid_fraction"
                )
        self._layouts: dict[int, Layout] = {}
        self.plan, self.order = self._layout(config.context).plan, self._layout(config.context).orders[0]
        if valid is not None:
            starts, lengths, chosen = valid.starts, valid.lengths, np.ones(len(valid.lengths), bool)
        self.valid_plan = self._pack(
            [self._closed(self.valid_tokens, starts[chosen], lengths[chosen])], config.context
        )[0]
        self.begin(self.steps_per_epoch)

    def _masks(self, specials: Specials) -> Masking:
        # Specials are the ids below the first ordinary one; a random replacement is never a special.
        highest = max(self.ids.values())
        hidden, other, kept = self.config.mask_split
        ordinary = np.ones(max(self.vocab_size, highest + 1), bool)
        ordinary[list(self.ids.values())] = False
        return Masking(
            self.config.mask,
            (hidden, other, kept),
            self.ids["mask"],
            ordinary,
            highest + 1 if highest < 16 else 0,
            self.vocab_size,
            None if self.config.mask == "token" else continues(specials),
        )

    def _check(self, tokens: Tokens) -> None:
        highest = tokens.highest
        if highest >= self.vocab_size:
            raise DataError(
                f"the text has the token id {highest}, the tokenizer {self.vocab_size:,} ids; make the tokens again"
            )

    # ------------------------------------------------------------------ packing

    def _closed(
        self, tokens: Tokens, starts: np.ndarray, lengths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Blocks with whether each ends its document, int64 0 or 1."""
        ends = tokens.offsets[1:].astype(np.int64)
        last = np.searchsorted(ends, starts + lengths)
        return starts, lengths, (ends[np.minimum(last, len(ends) - 1)] == starts + lengths).astype(np.int64)

    def _apart(
        self, starts: np.ndarray, lengths: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The blocks to train on of each source."""
        whole = self._closed(self.tokens, starts, lengths)
        if len(self.sources) == 1:
            return [whole]
        documents = np.cumsum([count for _, count in self.tokens.sources])
        source = np.searchsorted(self.tokens.offsets[documents].astype(np.int64), starts, side="right")
        return [tuple(a[source == k] for a in whole) for k in range(len(self.sources))]  # type: ignore[misc]

    def _pack(
        self, parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], context: int
    ) -> tuple[Plan | Stream, list[int]]:
        if self.config.cross:
            return stream(parts, context)
        plans = [pack(starts, lengths, context, self._overhead) for starts, lengths, _ in parts]
        return joined(plans), [p.n_rows for p in plans]

    def _layout(self, context: int) -> Layout:
        """The rows of a context, packed when they are first wanted."""
        if context not in self._layouts:
            plan, counts = self._pack(self._parts, context)
            base = [sum(counts[:k]) for k in range(len(counts))]
            orders = [
                Order(
                    n,
                    self.config.batch_size,
                    self.seed,
                    () if k == 0 and context == self.config.context else (context, k),
                )
                for k, n in enumerate(counts)
            ]
            self._layouts[context] = Layout(plan, base, counts, orders)
        return self._layouts[context]

    # ------------------------------------------------------------------ what a step has

    def begin(self, steps: int) -> None:
        """Say how many steps the run has: stages and schedules are shares of it. Without this, one epoch."""
        config = self.config
        self.course = Course(
            steps,
            context=config.context,
            rows=config.batch_size,
            micro=config.micro_batch,
            lengths=config.context_ranges,
            batches=config.batch_ranges,
            sources=self.sources,
            stages=self._stages,
            objectives=self.objectives,
            rates=config.rates,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps until as many rows were seen as there are."""
        batches = self.config.batch_ranges or [(Fraction(0), self.config.batch_size)]
        ends = [*(share for share, _ in batches[1:]), Fraction(1)]
        mean = sum((end - share) * rows for (share, rows), end in zip(batches, ends, strict=True))
        return math.ceil(self.plan.n_rows / mean)

    def served(self, step: int) -> dict[str, int]:
        """How many rows of each source the steps before ``step`` took."""
        return self.course.served(step)

    def planned(self, step: int) -> dict[str, float]:
        """How many rows of each source the stages say for the steps before ``step``."""
        return self.course.planned(step)

    def describe(self) -> str:
        """One line: tokens, rows, the share that is padding and the documents that are cut."""
        n = sum(int(lengths.sum()) for _, lengths, _ in self._parts)
        held = int(self.valid_plan.lengths.sum())
        plan = self.plan
        cut = "rows run across documents"
        if not self.config.cross:
            of = np.searchsorted(self.tokens.offsets[1:].astype(np.int64), plan.starts, side="right")
            number = int((np.bincount(of) > 1).sum())
            cut = f"{number:,} document{'s' * (number != 1)} cut"
        counts = self._layout(self.config.context).counts
        each = ", ".join(f"{name} {rows:,}" for name, rows in zip(self.sources, counts, strict=True))
        return (
            f"{n:,} tokens to train on in {plan.n_rows:,} rows of {self.config.context}"
            f"{f' ({each})' if len(counts) > 1 else ''} ({100 * plan.waste:.1f} % padding, {cut}), {held:,} held out"
        )

    def items(self, step: int) -> np.ndarray:
        """The rows of a step, int64, in the plan of its context."""
        layout = self._layout(self.course.phase(step).context)
        who, places = self.course.turns(step)
        items = np.empty(len(who), np.int64)
        for source in np.unique(who).tolist():
            mine = np.flatnonzero(who == source)  # their places in the source's order follow one another
            items[mine] = layout.base[source] + layout.orders[source].run(int(places[mine[0]]), len(mine))
        return items

    def excerpt(self, step: int) -> str:
        """The beginning of a step's text, to name it by."""
        ids = self.batch(step)[0]["input_ids"][0, :EXCERPT].tolist()
        return self._decode(ids) if self._decode is not None else " ".join(map(str, ids))

    def batch(self, step: int) -> list[Batch]:
        """The micro-batches of a step: a pure function of (seed, step)."""
        phase, objective, rate = (
            self.course.phase(step),
            self.course.objective(step),
            self.course.mask_rate(step),
        )
        plan = self._layout(phase.context).plan
        return [
            self._assemble(self.tokens, plan, rows, objective, rate, (self.seed, MASK, step, micro))
            for micro, rows in enumerate(split_up(self.items(step), phase.micro))
        ]

    def valid(self) -> Iterator[Batch]:
        """The held-out rows, always masked in the same way, at the last rate, whatever the seed of the run.

        They are for the objective, or in a mix for the kind's own.
        """
        size = self.config.micro_batch or self.config.batch_size
        objective = self.kind if len(self.objectives) > 1 else next(iter(self.objectives))
        for number, start in enumerate(range(0, self.valid_plan.n_rows, size)):
            rows = np.arange(start, min(start + size, self.valid_plan.n_rows))
            key = (0, VALID, number)
            yield self._assemble(
                self.valid_tokens, self.valid_plan, rows, objective, self.config.rates[1], key
            )

    def _assemble(
        self,
        tokens: Tokens,
        plan: Plan | Stream,
        rows: np.ndarray,
        objective: str,
        rate: float,
        key: tuple[int, ...],
    ) -> Batch:
        ids, more = self.ids, {}
        if isinstance(plan, Stream):
            made = arrays.streamed(tokens, plan, rows, ids["pad"], ids["eos"])
        elif self._masking is not None:
            made = arrays.wrapped(tokens, plan, rows, ids["pad"], ids["cls"], ids["sep"])
            if objective == "mlm":
                self._masking(made.ids, made.segments, made.labels, rate, keyed(*key))
            else:
                arrays.shifted(made)
                more["causal"] = torch.tensor(True)
        else:
            pieces = int((plan.rows[rows + 1] - plan.rows[rows]).sum())
            draw = keyed(*key).random(pieces) if key[1] == MASK else None
            made = arrays.plain(tokens, plan, rows, ids["pad"], ids["eos"], draw, START_RATE)
            if objective == "prefix":
                lengths = keyed(key[0], PREFIX, *key[1:]).random(pieces)
                more["prefix"] = torch.from_numpy(arrays.prefixes(made, lengths))
        names = {"input_ids": made.ids, "segments": made.segments, "labels": made.labels}
        return {name: torch.from_numpy(array) for name, array in names.items()} | more

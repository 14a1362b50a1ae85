"""nlpkit in the frame of its peers: ``python X.py STEPS LIMIT pretrain …`` runs that command line.

Steps end where the run writes them down (a line of metrics.jsonl each); beside the wall clock's figure stands what the
run itself tells, the sum of tokens over the sum of its seconds.
"""

import sys
from collections.abc import Mapping
from typing import Any

from steady import Steady

from nlpkit.cli import main
from nlpkit.training.run import Run

steps, limit, *arguments = sys.argv[1:]
told = {"tokens": 0.0, "seconds": 0.0, "before": 0.0, "step": 0.0}
last: dict[str, Any] = {}


def about() -> dict[str, Any]:
    """What the run says of itself."""
    peak = {k: v for k, v in last.items() if "peak" in k or "mfu" in k}
    return {"told_tokens_per_second": told["tokens"] / told["seconds"], "last_loss": last["loss"], **peak}


window = Steady(int(steps), float(limit), about)
written = Run.metric


def metric(run: Run, record: Mapping[str, Any]) -> None:
    """Write the record, and count its tokens: those of each second times the seconds it took."""
    written(run, record)
    if record["split"] == "train":
        spent = record["seconds"] - told["before"]
        tokens = record["tokens_per_second"] * spent
        if window.warm:
            told["tokens"] += tokens
            told["seconds"] += spent
        last.update(record)
        told["before"] = record["seconds"]
        window.step(round(tokens))
    else:
        told["before"] = record["seconds"]


Run.metric = metric  # type: ignore[method-assign]
sys.argv = ["nlpkit", *arguments]
sys.exit(main())

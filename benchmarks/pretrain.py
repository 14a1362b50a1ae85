"""Pretraining beside the Trainer of transformers and nanoGPT: tokens a second, losses at equal time, steps, resuming.

Run: python benchmarks/pretrain.py --data DIR --nanogpt DIR [--peers PYTHON] [--only PART ...] [--threads N ...]
     (writes benchmarks/results/pretrain.json; --quick writes nothing)

--data holds novels100, brown, 20newsgroups and tinyshakespeare; --nanogpt is a checkout of karpathy/nanoGPT; PYTHON has
torch, transformers and accelerate. Everything is offline. Every measurement is a process of its own, the sides take
turns, and figures are ratios of medians. Both sides read the same ids of the same tokenizer (byte-level BPE, 8,192,
learned from novels100), have 4 layers of width 256 with 4 heads and as many parameters (within 2 %; the hidden size of
ours is set for that), and about 4,096 tokens a step. Tokens are real ones, without padding, from the end of step 10 on;
what comes before (imports, reading, compiling) is told as seconds_to_step_10. On a CPU bf16=True needs use_cpu=True,
which the Trainer is always given. --set passes a setting to every run of ours.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import ONE_THREAD, keep, tell
from pretrain_quality import optimizer, scaling, shakespeare
from pretrain_sides import CORES, SIZES, STEP, Place, sized


def masked(place: Place) -> Iterator[dict[str, Any]]:
    """Masked words, 32 rows of 128 tokens, no padding on the peer's side."""
    plain = place.trainer("bert", "novels", "--context", 128, "--batch", 32)
    size = place.count(*plain)
    shape = {"data.context": 128, "data.batch_size": STEP // 128}
    commands = {
        "ours": place.timed("masked", "mlm", {**sized("mlm", size, **SIZES), **shape}),
        "ours, bert": place.timed(
            "masked-bert",
            "mlm",
            {**sized("mlm", size, family="bert", context=128, dropout=0.0, **SIZES), **shape, "data.mask_rate": 0.15},
        ),
        "defaults": plain,
        "bf16": [*plain, "--bf16"],
        "no dropout": [*plain, "--no-dropout"],
        "no dropout, bf16": [*plain, "--no-dropout", "--bf16"],
    }  # fmt: skip
    told = place.measure(commands)
    yield place.share("masked", "masked words, the default recipe", commands["ours"])
    base = "transformers Trainer, BertForMaskedLM, 32 rows of 128, mlm_probability 0.15"
    for side, name, bar, words in (
        ("ours", "defaults", 3.2, "its defaults (dropout 0.1, float32)"),
        ("ours", "bf16", 2.2, "its defaults (dropout 0.1), bf16=True"),
        ("ours, bert", "no dropout", 2.6, "dropout 0, float32"),
        ("ours, bert", "no dropout, bf16", 1.6, "dropout 0, bf16=True"),
    ):
        what = "the default recipe" if side == "ours" else "BERT without dropout"
        yield place.row(
            f"masked words, {what}, against the Trainer, {words}",
            bar, told[side], told[name], commands[side], f"{base}, {words}",
        )  # fmt: skip


def mixed(place: Place) -> Iterator[dict[str, Any]]:
    """Masked words in documents of mixed length, at most 512 tokens: packing against padding."""
    for corpus, unit in (("brown", "sentences of Brown"), ("20newsgroups", "messages of 20 Newsgroups")):
        mean = float(np.minimum(place.lengths(corpus) + 2, 512).mean())
        batch = max(1, round(STEP / mean))
        plain = place.trainer("bert", corpus, "--context", 512, "--batch", batch, "--mixed")
        shape = {"data.context": 512, "data.batch_size": STEP // 512}
        commands = {
            "ours": place.timed(corpus, "mlm", {**sized("mlm", place.count(*plain), **SIZES), **shape}),
            "defaults": plain,
            "bf16": [*plain, "--bf16"],
            # Its sampler sorts 50 batches at a time: the 50 steps that are counted see each length once.
            "bf16, by length": [*plain, "--bf16", "--by-length", "--limit", "600"],
        }
        told = place.measure(commands)
        base = (
            f"transformers Trainer, BertForMaskedLM, {batch} documents a batch (mean {mean:.0f} tokens), "
            "padded to the longest, cut at 512"
        )
        for name, bar, words in (
            ("defaults", 4.0, "its defaults (dropout 0.1, float32)"),
            ("bf16", 4.0, "bf16=True"),
            ("bf16, by length", 2.0, "bf16=True, train_sampling_strategy=group_by_length"),
        ):
            yield place.row(
                f"{unit}, packed, against the Trainer, {words}",
                bar, told["ours"], told[name], commands["ours"], f"{base}, {words}",
            )  # fmt: skip


def causal(place: Place) -> Iterator[dict[str, Any]]:
    """The next token, 16 rows of 256 tokens."""
    plain = place.trainer("gpt2", "novels", "--context", 256, "--batch", 16)
    size = place.count(*plain)
    shape = {"data.context": 256, "data.batch_size": STEP // 256}
    gpt2 = sized("clm", size, family="gpt2", context=256, dropout=0.0, **SIZES)
    commands = {
        "ours": place.timed("causal", "clm", {**sized("clm", size, **SIZES), **shape}),
        "ours, gpt2": place.timed("causal-gpt2", "clm", {**gpt2, **shape}),
        "defaults": plain,
        "bf16": [*plain, "--bf16"],
        "nanoGPT": place.gpt_timed(),
        "nanoGPT, compiled": place.gpt_timed("--autocast", own=["--compile=True", "--dtype=bfloat16"]),
    }
    told = place.measure(commands)
    yield place.share("causal", "next token, the default recipe", commands["ours"])
    hugging = "transformers Trainer, GPT2LMHeadModel, 16 rows of 256"
    nano = "nanoGPT train.py, 16 rows of 256"
    readme = "as its README runs it on a CPU (float32, not compiled, dropout 0)"
    fast = "compile=True, dtype=bfloat16 (its autocast, which it leaves out on a CPU, switched on)"
    for side, name, bar, against, peer in (
        (
            "ours",
            "defaults",
            2.3,
            "the Trainer, its defaults",
            f"{hugging}, its defaults (dropout 0.1, float32)",
        ),
        ("ours", "bf16", 1.5, "the Trainer, bf16=True", f"{hugging}, its defaults (dropout 0.1), bf16=True"),
        ("ours", "nanoGPT", 1.8, "nanoGPT as in its README", f"{nano}, {readme}"),
        ("ours", "nanoGPT, compiled", 0.95, "nanoGPT, compiled, bfloat16", f"{nano}, {fast}"),
        ("ours, gpt2", "nanoGPT", 1.8, "nanoGPT as in its README", f"{nano}, {readme}"),
        ("ours, gpt2", "nanoGPT, compiled", 0.95, "nanoGPT, compiled, bfloat16", f"{nano}, {fast}"),
    ):
        what = "the default recipe" if side == "ours" else "GPT-2 without dropout"
        yield place.row(
            f"next token, {what}, against {against}", bar, told[side], told[name], commands[side], peer
        )


SPEEDS = (masked, mixed, causal)
PARTS: dict[str, Callable[[Place], Iterator[dict[str, Any]]]] = {
    part.__name__: part for part in (*SPEEDS, shakespeare, optimizer, scaling)
}


def bind(cores: set[int], threads: int, cache: Path) -> None:
    """Bind this process and all it starts to so many cores and threads, offline, with compiled code in ``cache``."""
    os.sched_setaffinity(0, set(sorted(cores)[:threads]))
    many = {name: str(threads) for name in ONE_THREAD if name.endswith("THREADS")}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.update({**many, **offline, "TORCHINDUCTOR_CACHE_DIR": str(cache)})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nanogpt", type=Path, required=True)
    parser.add_argument("--peers", default=sys.executable, help="the interpreter that has accelerate")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, choices=CORES, nargs="+", default=list(CORES))
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="for every run of ours"
    )
    parser.add_argument("--optimizer", nargs="*", default=["train.optimizer=muon"], metavar="KEY=VALUE")
    parser.add_argument("--scratch", type=Path, help="keep the made files here")
    parser.add_argument("--quick", action="store_true", help="few steps, one run; nothing is written")
    given = parser.parse_args()
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as name:
        folder = (given.scratch or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        runs = 1 if given.quick else given.runs
        settings = {"more": given.set, "optimizer": given.optimizer}
        place = Place(
            given.data.resolve(), given.nanogpt.resolve(), given.peers, folder, runs, given.quick, **settings
        )
        for part in given.only:
            wanted = given.threads if PARTS[part] in SPEEDS else [max(given.threads)]
            for threads in wanted:
                if threads > len(cores):
                    print(f"{part}: only {len(cores)} core can be used; {threads} left out", flush=True)
                    continue
                place.threads = threads
                bind(cores, threads, folder / "inductor")
                for row in PARTS[part](place):
                    if row["figure"] is None:
                        print(f"MISS {row['claim']}: never, bar {row['bar']}", flush=True)
                    else:
                        tell(row)
                    if not given.quick:
                        keep("pretrain", [row])


if __name__ == "__main__":
    main()

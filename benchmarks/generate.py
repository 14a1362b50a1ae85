"""Greedy generation beside transformers' cached ``generate`` on the same folder: the same tokens, in less time.

Run: python benchmarks/generate.py [--runs 5] [--tokens 256]      (writes benchmarks/results/generate.json)

The folder is written by nlpkit and opened by both; its weights are random, as their values do not matter for the
time. Both sides run in this process on one core and one thread, in turn; a run is from the prompt to the last token.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import keep, on_one_core, ratio_row, tell, version

SIZES = {"vocab": 8192, "width": 256, "depth": 4, "heads": 4, "context": 512}
PROMPT = list(range(100, 108))


def written(folder: Path, family: str) -> Path:
    """A model folder with random weights and a tokenizer of its vocabulary's kind."""
    import torch

    from nlpkit.core import folder as model_folder
    from nlpkit.models import clm
    from nlpkit.text.tokenizer import Tokenizer

    torch.manual_seed(0)
    path = folder / family
    path.mkdir()
    model_folder.save(clm.Model(clm.Config(family=family, **SIZES)), "clm", path)  # type: ignore[arg-type]
    Tokenizer.train(["the cat sat on the mat"], kind="bpe", vocab_size=300).export(path)
    return path


def sides(path: Path, new: int) -> dict[str, Callable[[], list[int]]]:
    """Both programs as functions from nothing to the ids behind the prompt."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from nlpkit.inference.generate import Sampling, tokens
    from nlpkit.inference.loading import load_model

    logging.disable_progress_bar()
    loaded, peer = load_model(path), AutoModelForCausalLM.from_pretrained(path).eval()
    barred = [[i] for i in range(5)]  # special tokens; nlpkit never offers them
    prompt = torch.tensor([PROMPT])
    asked: dict[str, Any] = {"do_sample": False, "use_cache": True, "max_new_tokens": new, "pad_token_id": 0}

    def ours() -> list[int]:
        return list(tokens(loaded, PROMPT, max_new_tokens=new, sampling=Sampling(temperature=0)))

    def plain() -> list[int]:
        with torch.inference_mode():
            made = peer.generate(prompt, attention_mask=torch.ones_like(prompt), **asked)
        return made[0, len(PROMPT) :].tolist()

    def checked() -> list[int]:
        with torch.inference_mode():
            made = peer.generate(
                prompt, attention_mask=torch.ones_like(prompt), bad_words_ids=barred, **asked
            )
        return made[0, len(PROMPT) :].tolist()

    return {"ours": ours, "peer": plain, "checked": checked}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=256)
    given = parser.parse_args()
    on_one_core()
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        for family in ("llama", "gpt2"):
            run = sides(written(Path(name), family), given.tokens)
            same = run["ours"]() == run["checked"]()  # and both are warm
            run["peer"]()
            taken: dict[str, list[float]] = {"ours": [], "peer": []}
            made = {}
            for _ in range(given.runs):
                for side, runs in taken.items():
                    started = time.perf_counter()
                    made[side] = run[side]()
                    runs.append(time.perf_counter() - started)
            speed = {s: round(len(made[s]) / statistics.median(taken[s])) for s in taken}
            row = ratio_row(
                f"greedy generation of {given.tokens} tokens, {family} of width 256 and depth 4",
                taken["ours"], taken["peer"], 2, command="nlpkit.inference.generate.tokens, temperature 0",
                peer="transformers AutoModelForCausalLM.generate, cached", peer_version=version("transformers"),
                identical=same and len(made["ours"]) == len(made["peer"]), tokens_per_second=speed,
            )  # fmt: skip
            tell(row)
            keep("generate", [row])


if __name__ == "__main__":
    main()

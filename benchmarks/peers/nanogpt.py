"""nanoGPT's own train.py, from its own folder: ``python X.py FOLDER [options] -- [its arguments]``; see --help.

The file is read from FOLDER and run as it is, in this process, so that each step it prints can be timed. Two phrases
can be exchanged before it runs, each only when asked for: its fixed seed (--seed), and its rule that a CPU computes in
float32 whatever ``dtype`` says (--autocast: ``dtype`` then means on a CPU what it means on a GPU). With --evaluate
nothing is trained: the loss of a checkpoint over all of a file of ids is printed, in windows of the block size side by
side, as mean nats a token.
"""

import argparse
import json
import os
import re
import sys

from steady import Steady

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder")
parser.add_argument(
    "--steps", type=int, default=0, help="stop when the speed was measured over so many steps"
)
parser.add_argument("--limit", type=float, default=40.0)
parser.add_argument("--tokens", type=int, default=4096, help="of a step")
parser.add_argument("--seed", type=int)
parser.add_argument("--autocast", action="store_true")
parser.add_argument("--evaluate", nargs=2, metavar=("CHECKPOINT", "IDS"))
cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
given, rest = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
os.chdir(given.folder)
sys.path.insert(0, given.folder)


def exchange(source: str, phrase: str, other: str) -> str:
    """The source with a phrase exchanged that must be there once."""
    if source.count(phrase) != 1:
        sys.exit(f"{given.folder}/train.py: {phrase!r} is not there once; this program knows another version")
    return source.replace(phrase, other)


def evaluate(checkpoint: str, ids: str) -> None:
    """Print the mean loss over all targets of a file of uint16 ids."""
    import numpy as np
    import torch
    from model import GPT, GPTConfig

    held = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model = GPT(GPTConfig(**held["model_args"]))
    model.load_state_dict({k.removeprefix("_orig_mod."): v for k, v in held["model"].items()})
    model.eval()
    flat = torch.from_numpy(np.fromfile(ids, np.uint16).astype(np.int64))
    block, total, targets = held["model_args"]["block_size"], 0.0, len(flat) - 1
    whole = targets // block * block
    windows = list(
        zip(
            flat[:whole].view(-1, block).split(64),
            flat[1 : whole + 1].view(-1, block).split(64),
            strict=True,
        )
    )
    if whole < targets:
        windows.append((flat[whole:targets][None], flat[whole + 1 :][None]))
    with torch.inference_mode():
        for inputs, labels in windows:
            total += float(model(inputs, labels)[1]) * labels.numel()
    told = {"loss": total / targets, "targets": targets, "step": held["iter_num"]}
    print(json.dumps({**told, "parameters": model.get_num_params(non_embedding=False)}))


def train() -> None:
    """Run train.py; with --steps until its speed is known."""
    with open("train.py", encoding="utf-8") as file:
        source = file.read()
    if given.seed is not None:
        source = exchange(source, "torch.manual_seed(1337 + seed_offset)", f"torch.manual_seed({given.seed})")
    if given.autocast:
        source = exchange(source, "nullcontext() if device_type == 'cpu' else ", "")
    space: dict[str, object] = {"__name__": "__main__", "__file__": "train.py"}
    if given.steps:
        counts = lambda: {"parameters": space["model"].get_num_params(False)}  # type: ignore[attr-defined] # noqa: E731
        window = Steady(given.steps, given.limit, counts)

        def heard(*words: object) -> None:
            if re.match(r"iter \d+:", str(words[0])):
                window.step(given.tokens)

        space["print"] = heard
    sys.argv = ["train.py", *rest]
    exec(compile(source, os.path.join(given.folder, "train.py"), "exec"), space)


if given.evaluate:
    evaluate(*given.evaluate)
else:
    train()

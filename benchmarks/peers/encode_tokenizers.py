"""Lines to uint16 ids by tokenizers: ``python X.py SOURCE TARGET TOKENIZER``."""

import sys

import numpy as np
from tokenizers import Tokenizer

source, target, folder = sys.argv[1:4]
raw = Tokenizer.from_file(f"{folder}/tokenizer.json")


def ids(held):
    return b"".join(
        np.array(e.ids, np.uint16).tobytes() for e in raw.encode_batch_fast(held, add_special_tokens=False)
    )


with open(source, encoding="utf-8", newline="\n") as f, open(target, "wb") as o:
    held = []
    for line in f:
        held.append(line.removesuffix("\n"))
        if len(held) == 2048:
            o.write(ids(held))
            held = []
    if held:
        o.write(ids(held))

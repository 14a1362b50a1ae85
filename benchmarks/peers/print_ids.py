"""A few lines to printed ids by tokenizers alone: ``python X.py SOURCE TOKENIZER``."""

import sys

from tokenizers import Tokenizer

source, folder = sys.argv[1:3]
raw = Tokenizer.from_file(f"{folder}/tokenizer.json")
with open(source, encoding="utf-8", newline="\n") as file:
    for line in file:
        print(*raw.encode(line.removesuffix("\n"), add_special_tokens=False).ids)

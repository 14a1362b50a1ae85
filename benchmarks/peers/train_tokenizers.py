"""Byte-level BPE by the trainer of tokenizers: ``python X.py SOURCE TARGET SIZE [lines]``.

It reads the file itself, which keeps the line ends; with ``lines`` it is given the lines without them.
"""

import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

source, target, size, *way = sys.argv[1:]
raw = Tokenizer(models.BPE())
raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
raw.decoder = decoders.ByteLevel()
special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|endoftext|>"]
trainer = trainers.BpeTrainer(
    vocab_size=int(size),
    min_frequency=2,
    special_tokens=special,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
if way == ["lines"]:
    with open(source, encoding="utf-8", newline="\n") as file:
        raw.train_from_iterator((line.removesuffix("\n") for line in file), trainer)
else:
    raw.train([source], trainer)
raw.save(target)

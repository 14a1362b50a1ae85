"""Byte-level BPE by the trainer of tokenizers, which reads the file itself: ``python X.py SOURCE TARGET SIZE``."""

import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

source, target, size = sys.argv[1:4]
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
raw.train([source], trainer)
raw.save(target)

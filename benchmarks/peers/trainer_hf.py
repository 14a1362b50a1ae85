"""The Trainer of transformers on token ids: ``python X.py bert|gpt2 SHARD TOKENIZER [options]``; see --help.

SHARD is an array of ids (.npy) with the offsets of its documents beside it (.offsets.npy). Documents are joined and
cut into blocks, each document between [CLS] and [SEP] (bert) or before <|endoftext|> (gpt2), as run_mlm.py and
run_clm.py do; with --mixed each document, cut at the context, is a row, and batches are padded to their longest.
Arguments of the Trainer that are not named here are its defaults, but that it neither saves nor reports.
With --count only the number of parameters is printed.
"""

import argparse
import os
import sys
from itertools import pairwise

from steady import Steady

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", choices=["bert", "gpt2"])
parser.add_argument("shard")
parser.add_argument("tokenizer")
parser.add_argument("--context", type=int, default=128)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--mixed", action="store_true", help="a document a row")
parser.add_argument("--by-length", action="store_true", help="train_sampling_strategy group_by_length")
parser.add_argument("--no-dropout", action="store_true")
parser.add_argument("--bf16", action="store_true")
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--limit", type=float, default=40.0)
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--count", action="store_true")
parser.add_argument("--width", type=int, default=256)
parser.add_argument("--depth", type=int, default=4)
parser.add_argument("--heads", type=int, default=4)
given = parser.parse_args()
masked = given.model == "bert"


def made(vocabulary: int) -> torch.nn.Module:
    """The network, with fresh weights."""
    if masked:
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return BertForMaskedLM(
            BertConfig(
                vocab_size=vocabulary, hidden_size=given.width, num_hidden_layers=given.depth,
                num_attention_heads=given.heads, intermediate_size=4 * given.width,
                max_position_embeddings=given.context, pad_token_id=tokenizer.pad_token_id,
                **(dropout if given.no_dropout else {}),
            )
        )  # fmt: skip
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary, n_embd=given.width, n_layer=given.depth, n_head=given.heads,
            n_positions=given.context, bos_token_id=end, eos_token_id=end,
            **(dropout if given.no_dropout else {}),
        )
    )  # fmt: skip


class Rows(torch.utils.data.Dataset):
    """Rows of token ids as lists, with the mask of special tokens, as a tokenized data set gives them."""

    def __init__(self, rows: list[np.ndarray]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> dict[str, list[int]]:
        ids = self.rows[at]
        row = {"input_ids": ids.tolist(), "attention_mask": [1] * len(ids)}
        if masked:
            row["special_tokens_mask"] = (ids < 6).astype(int).tolist()
        return row


def rows_of(shard: str) -> list[np.ndarray]:
    """The rows that a run reads."""
    ids = np.load(shard, mmap_mode="r", allow_pickle=False)
    offsets = np.load(shard.removesuffix(".npy") + ".offsets.npy", allow_pickle=False).astype(np.int64)
    before, after = ([tokenizer.cls_token_id], [tokenizer.sep_token_id]) if masked else ([], [end])
    room = given.context - len(before) - len(after) if given.mixed else None
    documents = [
        np.concatenate([before, ids[a:b][:room], after]).astype(np.int64)
        for a, b in pairwise(offsets)
        if b > a
    ]
    if given.mixed:
        return documents
    joined = np.concatenate(documents)
    whole = len(joined) // given.context
    return list(joined[: whole * given.context].reshape(whole, given.context))


class Clock(TrainerCallback):
    """Tells the window that a step ended."""

    def on_step_end(self, *arguments: object, **more: object) -> None:
        window.step(*seen[window.done])


tokenizer = AutoTokenizer.from_pretrained(given.tokenizer)
end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
torch.manual_seed(given.seed)
model = made(len(tokenizer))
if given.count:
    print(model.num_parameters())
    sys.exit()
window = Steady(given.steps, given.limit, lambda: {"parameters": model.num_parameters()})
seen: list[tuple[int, int]] = []  # of every batch, in order: real tokens, places
collate = DataCollatorForLanguageModeling(
    tokenizer, mlm=masked, **({"mlm_probability": 0.15} if masked else {})
)


def counted(examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """The collator's batch; its size is remembered."""
    batch = collate(examples)
    seen.append((int(batch["attention_mask"].sum()), batch["input_ids"].numel()))
    return batch


arguments = TrainingArguments(
    output_dir=os.path.join(os.path.dirname(given.shard), "trainer"),
    per_device_train_batch_size=given.batch,
    max_steps=100_000,
    save_strategy="no",
    report_to="none",
    disable_tqdm=True,
    bf16=given.bf16,
    use_cpu=True,  # it takes no bf16 on a CPU otherwise
    seed=given.seed,
    **({"train_sampling_strategy": "group_by_length"} if given.by_length else {}),
)
Trainer(
    model=model,
    args=arguments,
    train_dataset=Rows(rows_of(given.shard)),
    data_collator=counted,
    callbacks=[Clock()],
).train()

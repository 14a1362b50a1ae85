"""sentence-transformers, and OpenVINO, encode texts: a server on standard input, asked for seconds.

Started with: encode_peers.py KIND MODEL, KIND one of st-fp32, st-bf16, openvino-bf16. A line «encode IN.json OUT.npy»
encodes a list of texts and answers with {"seconds", "cpu"} in JSON; texts of the first call warm it up. One thread.

sentence-transformers is asked as its documentation does: ``encode(texts)``, batches of 32, which it sorts by length.
OpenVINO gets its model from ``openvino.convert_model`` with a latency hint and batches of 32 sorted by length, padded
to their longest; tokens come from the same ``tokenizers`` in batches, the mean is over real tokens.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import torch

BATCH = 32


def sentence_transformers(model: str, dtype: torch.dtype) -> Any:
    from sentence_transformers import SentenceTransformer

    network = SentenceTransformer(model, device="cpu", model_kwargs={"dtype": dtype})

    def encode(texts: list[str]) -> np.ndarray:
        made = network.encode(texts, convert_to_tensor=dtype != torch.float32, show_progress_bar=False)
        return made.float().numpy() if isinstance(made, torch.Tensor) else made

    return encode


def openvino(model: str, precision: str) -> Any:
    import openvino as ov
    from tokenizers import Tokenizer
    from transformers import AutoModel

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = AutoModel.from_pretrained(model).eval()

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            made = self.network(input_ids=ids, attention_mask=mask, token_type_ids=types)
            return made.last_hidden_state  # type: ignore[no-any-return]

    ids = torch.ones(2, 8, dtype=torch.long)
    converted = ov.convert_model(Hidden(), example_input=(ids, ids, torch.zeros_like(ids)))
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = ov.Core().compile_model(converted, "CPU", settings).create_infer_request()
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    with open(f"{model}/sentence_bert_config.json") as file:
        tokenizer.enable_truncation(json.load(file)["max_seq_length"])
    tokenizer.no_padding()

    def encode(texts: list[str]) -> np.ndarray:
        every = [e.ids for e in tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(texts)), key=lambda i: -len(every[i]))
        rows = np.zeros((len(texts), 384), np.float32)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            longest = len(every[batch[0]])
            ids, mask = np.zeros((2, len(batch), longest), np.int64)
            for row, i in enumerate(batch):
                ids[row, : len(every[i])] = every[i]
                mask[row, : len(every[i])] = 1
            hidden = request.infer([ids, mask, np.zeros_like(ids)])[0]
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
            rows[batch] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return rows

    return encode


def main() -> None:
    torch.set_num_threads(1)
    kind, model = sys.argv[1:3]
    library, _, precision = kind.partition("-")
    if library == "st":
        encode = sentence_transformers(model, {"fp32": torch.float32, "bf16": torch.bfloat16}[precision])
    else:
        encode = openvino(model, precision)
    print(json.dumps({"ready": kind}), flush=True)
    warm = False
    for line in sys.stdin:
        _, given, out = line.split()
        with open(given, encoding="utf-8") as file:
            texts = json.load(file)
        if not warm:
            encode(texts[:256])
            warm = True
        began, cpu = time.perf_counter(), time.process_time()
        rows = encode(texts)
        taken = time.perf_counter() - began, time.process_time() - cpu
        np.save(out, rows)
        print(json.dumps({"seconds": taken[0], "cpu": taken[1]}), flush=True)


if __name__ == "__main__":
    main()

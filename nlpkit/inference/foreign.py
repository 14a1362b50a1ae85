"""Text encoders of architectures that are not ours, through ``transformers``: DistilBERT, RoBERTa, MPNet and others.

Shapes: B texts of a batch, T tokens of the longest, D width. No code of a folder is run, nothing is fetched, and no
pickle is opened. ``transformers`` is imported when such a folder is opened.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nlpkit.errors import ArtifactError
from nlpkit.inference.known_files import fingerprint
from nlpkit.inference.sentences import SentenceEncoder
from nlpkit.store import jsonfile


def is_foreign(folder: Path) -> bool:
    """Whether config.json names a text architecture that nlpkit does not have itself."""
    values = jsonfile.read(folder / "config.json")
    kind = values.get("model_type")
    ours = ("bert", "modernbert", "gpt2", "llama", "qwen3", "vit", "resnet")
    return isinstance(kind, str) and not kind.startswith("nlpkit-") and kind not in ours


class ForeignEncoder(SentenceEncoder):
    """``AutoModel`` of a folder, with the folder's pooling (the mean where it says nothing); float32."""

    def __init__(self, folder: Path, device: str | None = None) -> None:
        from nlpkit.core.device import find as find_device
        from nlpkit.text.tokenizer import Tokenizer

        if not (folder / "tokenizer.json").is_file():
            raise ArtifactError(
                f"{folder}: has no tokenizer.json; save it anew with AutoTokenizer, which writes one"
            )
        self.network, self.device = _opened(folder), find_device(device)
        self.network.to(self.device)
        config = self.network.config
        context = (
            getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 512
        )
        # RoBERTa and its kin number positions from the padding's id on: the table has so many rows more.
        table = getattr(getattr(self.network, "embeddings", None), "position_embeddings", None)
        offset = getattr(table, "padding_idx", None)
        context = min(context - (0 if offset is None else offset + 1), 2**20)
        width = getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or config.dim
        super().__init__(folder, Tokenizer.load(folder), int(context), int(width))
        self.fingerprint = fingerprint(folder)

    def vectors(self, ids: list[list[int]], batch_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As its parent, in padded batches; padding is not seen by the pooling."""
        import torch

        from nlpkit.core.batch import pad
        from nlpkit.inference.batching import by_length

        for rows in by_length([len(text) for text in ids], batch_tokens):
            padded, segments = pad([ids[i] for i in rows], self.tokenizer.pad_id, self.device)
            with torch.inference_mode():
                made = self.network(input_ids=padded, attention_mask=(segments != 0).long())
                hidden = made.last_hidden_state.float()[segments != 0].cpu().numpy()
            starts = np.concatenate([[0], np.cumsum([len(ids[i]) for i in rows])])
            yield np.array(rows), self.pool(hidden, starts)


def _opened(folder: Path) -> Any:
    """The network in evaluation mode; of an encoder-decoder, the encoder."""
    import logging

    from transformers import AutoModel

    if not list(folder.glob("*.safetensors")):
        raise ArtifactError(
            f"{folder}: has no safetensors file (pickles are not opened); convert it where you trust it"
        )
    loud = logging.getLogger("transformers").level
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        network: Any = AutoModel.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, use_safetensors=True, dtype="float32"
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError, TypeError) as error:
        kind = jsonfile.read(folder / "config.json").get("model_type")
        said = str(error).strip().split("\n")[0][:200]
        raise ArtifactError(f"{folder}: transformers cannot open this {kind}: {said}") from error
    finally:
        logging.getLogger("transformers").setLevel(loud)
    if getattr(network.config, "is_encoder_decoder", False):
        network = network.get_encoder()
    return network.eval()

"""Texts → unit vectors by our text encoders, many at a time: in packed batches on a processor, padded ones elsewhere.

Shapes: T tokens of a batch, D width.

On a processor nothing is computed for padding (:mod:`nlpkit.inference.packed`), batches of about a thousand tokens stay
in its caches, and each thread works on a batch of its own. Few tokens, and other devices, take PyTorch's own way.
Texts of a few tokens, over which roundings do not average out, are float32 in every precision.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nlpkit import console
from nlpkit.core import folder as core_folder
from nlpkit.core import hf, hf_config
from nlpkit.core.batch import pad
from nlpkit.core.device import find as find_device
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.inference.batching import by_length, device_of, trunk_of
from nlpkit.inference.known_files import fingerprint
from nlpkit.inference.loading import LoadedModel, load_model, resolve
from nlpkit.inference.packed import Packed, Precision, can
from nlpkit.inference.sentences import SentenceEncoder, batches, packed
from nlpkit.text.tokenizer import Tokenizer

CHUNK = 1024  # tokens of a packed batch: its rows stay near the processor
FEW = 4096  # tokens of a call that are not worth loading the compiled loops
SHORT = 8  # tokens of a text that is float32 in every precision
ENOUGH = 16_384  # tokens of a call from which on precisions are compared
GAIN = 1.25  # how much faster bf16 has to be to be taken


class TransformerEncoder(SentenceEncoder):
    """A text encoder with pooling: bi-encoders, sentence-transformers folders, and masked models (mean).

    ``precision`` auto is fp32 until a call brings :data:`ENOUGH` tokens; then bf16 is taken where it is
    :data:`GAIN` times as fast, which is said.
    """

    def __init__(self, loaded: LoadedModel, precision: str = "fp32") -> None:
        loaded.need("biencoder", "mlm", verb="embed")
        self.loaded, self.trunk = loaded, trunk_of(loaded.model)
        config = self.trunk.config
        super().__init__(loaded.folder, loaded.text, config.context, config.trunk.width)
        self.fingerprint = fingerprint(loaded.folder)
        self.precision, self._nets = precision, dict[Precision, Packed]()
        self._bulk = device_of(loaded.model).type == "cpu" and can(self.trunk)
        if precision == "int8" and not self._bulk:
            raise UsageError("int8 is for the processor: pass --device cpu, or another --precision")
        if precision == "int8":
            self._net("int8")  # a machine that cannot is told at once

    def vectors(self, ids: list[list[int]], batch_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As its parent."""
        total = sum(map(len, ids))
        if not self._bulk or (total < FEW and not self._nets and self.precision in ("auto", "fp32")):
            yield from self._padded(ids, batch_tokens)
            return
        lengths = np.array([len(text) for text in ids])
        if self.precision == "auto" and total >= ENOUGH:
            self.precision = self._faster(ids, lengths)
        chosen: Precision = "fp32" if self.precision == "auto" else self.precision  # type: ignore[assignment]
        work: list[tuple[Packed, np.ndarray]] = []
        short = lengths <= (SHORT if chosen != "fp32" else 0)
        for net, some in ((chosen, np.flatnonzero(~short)), ("fp32", np.flatnonzero(short))):
            for batch in batches(lengths[some], min(CHUNK, batch_tokens)):
                work.append((self._net(net), some[batch]))  # type: ignore[arg-type]

        def done(item: tuple[Packed, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            return item[1], self._run(item[0], [ids[i] for i in item[1]])

        before = torch.get_num_threads()
        if min(before, len(work)) < 2:
            yield from map(done, work)
            return
        with ThreadPoolExecutor(min(before, len(work)), "encode", torch.set_num_threads, (1,)) as pool:
            try:
                yield from pool.map(done, work)
            finally:
                torch.set_num_threads(before)  # a thread's own number is also what later threads begin with

    def _net(self, precision: Precision) -> Packed:
        if precision not in self._nets:
            self._nets[precision] = Packed(self.trunk, precision)
        return self._nets[precision]

    def _run(self, net: Packed, texts: list[list[int]]) -> np.ndarray:
        ids, starts = packed(texts)
        return self.pool(net.rows(ids, starts), starts)

    def _faster(self, ids: list[list[int]], lengths: np.ndarray) -> Precision:
        """fp32, or bf16 where it takes less time for two batches from the middle; said."""
        found = batches(lengths, CHUNK)
        trial = found[len(found) // 2 :][:2]
        rates: dict[Precision, float] = {}
        for precision in ("fp32", "bf16"):
            net: Packed = self._net(precision)  # type: ignore[arg-type]
            self._run(net, [ids[i] for i in trial[0]])  # loads what is loaded once
            began = time.perf_counter()
            for batch in trial:
                self._run(net, [ids[i] for i in batch])
            taken = time.perf_counter() - began
            rates[precision] = sum(int(lengths[b].sum()) for b in trial) / taken  # type: ignore[index]
        best: Precision = "bf16" if rates["bf16"] >= GAIN * rates["fp32"] else "fp32"
        console.note(
            f"precision: {best} (measured tokens/s of a thread: bf16 {rates['bf16']:,.0f}, fp32 {rates['fp32']:,.0f})"
        )
        return best

    def _padded(self, ids: list[list[int]], batch_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        device = device_of(self.loaded.model)
        low = self.precision == "bf16"
        for rows in by_length([len(text) for text in ids], batch_tokens):
            padded, segments = pad([ids[i] for i in rows], self.tokenizer.pad_id, device)
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=low):
                hidden = self.trunk(padded, segments)[segments != 0].float().cpu().numpy()
            starts = np.concatenate([[0], np.cumsum([len(ids[i]) for i in rows])])
            yield np.array(rows), self.pool(hidden, starts)


def open_encoder(name: str | Path, device: str | None = None) -> LoadedModel:
    """A model to embed with. As :func:`~nlpkit.inference.loading.load_model`, but any pooling may stand behind it."""
    folder = resolve(name)
    values = core_folder.read_config(folder)
    where = str(folder / core_folder.CONFIG)
    if "nlpkit" in values or core_folder.kind_of(values, where) != "biencoder":
        return load_model(name, device)
    core_folder.check(folder)
    text = hf_config.read(values, where)
    tensors = core_folder.read_tensors(folder)
    if text.trunk.depth > len(tensors):
        raise ArtifactError(f"{folder}: {len(tensors)} tensors for {text.trunk.depth} layers")
    tensors = hf.normalise(tensors, text, "bare")
    from nlpkit.core.families import sizes
    from nlpkit.models.biencoder import Config, Model

    with torch.device("meta"):
        model = Model(Config(**sizes(replace(text, tied=True))))
    shapes = {n: t.shape for n, t in model.state_dict().items()}
    state, _ = hf.from_hf(tensors, text, "bare", shapes, str(folder))
    model.load_state_dict({n: t.float() for n, t in state.items()}, strict=True, assign=True)
    if not (folder / "tokenizer.json").is_file():
        raise ArtifactError(f"{folder}: has no tokenizer.json; a biencoder model cannot read text without it")
    model.eval().to(find_device(device))
    return LoadedModel("biencoder", model, Tokenizer.load(folder), folder, [])

"""``config.json`` and ``preprocessor_config.json`` of a Hugging Face ViT ⇄ the config of our ``vit``.

The first says what the network is, the second how pixels are prepared for it: scaled to [0, 1], then
(pixels - mean) / std. What cannot be represented is refused, never dropped.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nlpkit.core.hf_config import TO_HF, Reader
from nlpkit.core.image_encoder import ImageConfig
from nlpkit.errors import ArtifactError
from nlpkit.store import jsonfile

PROCESSOR = "preprocessor_config.json"
NEUTRAL = (
    0.5  # the mean and standard deviation that published ViTs take, and that a folder without the file means
)


def read(values: Mapping[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """The values of our config, labels aside, out of a folder; ArtifactError where it is another network."""
    if values.get("model_type") != "vit":
        raise ArtifactError(f"{where}: model_type {values.get('model_type')!r} is not 'vit'")
    r = Reader(values, where)
    if values.get("quantization_config"):
        raise r.refuse("quantized weights are not supported: use the unquantized folder")
    if not r.flag("qkv_bias", True):
        raise r.refuse("qkv_bias = False is not supported (only True)")
    width = r.whole("hidden_size", 768)
    mean, std = _scaling(folder / PROCESSOR)
    return {
        "in_channels": r.whole("num_channels", 3),
        "size": r.whole("image_size", 224),
        "patch": r.whole("patch_size", 16),
        "width": width,
        "depth": r.whole("num_hidden_layers", 12),
        "heads": r.whole("num_attention_heads", 12),
        "hidden": r.whole("intermediate_size", 3072),
        "activation": r.activation("hidden_act", "gelu"),
        "eps": r.number("layer_norm_eps", 1e-12),
        "dropout": r.number("hidden_dropout_prob", 0.0),
        "mean": mean,
        "std": std,
    }


def write(image: ImageConfig) -> dict[str, Any]:
    """The keys of ``config.json`` for this architecture."""
    c = image.trunk
    return {
        "model_type": "vit",
        "image_size": image.size,
        "patch_size": image.patch,
        "num_channels": image.in_channels,
        "hidden_size": c.width,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.attention.heads,
        "intermediate_size": c.mlp.hidden,
        "hidden_act": TO_HF[c.mlp.activation],
        "layer_norm_eps": c.norm.eps,
        "hidden_dropout_prob": c.dropout,
        "attention_probs_dropout_prob": c.dropout,
        "qkv_bias": True,
        "initializer_range": 0.02,
    }


def processor(image: ImageConfig, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """``preprocessor_config.json``: what makes of a picture the pixels that the network is given."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": image.size, "width": image.size},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _each(mean, image.in_channels),
        "image_std": _each(std, image.in_channels),
    }


def _each(values: Sequence[float], channels: int) -> list[float]:
    return list(values) * channels if len(values) == 1 else list(values)


def _scaling(path: Path) -> tuple[list[float], list[float]]:
    """(mean, std) of a folder's pixels in [0, 1]; one number where all channels have the same."""
    if not path.is_file():
        return [NEUTRAL], [NEUTRAL]
    r = Reader(jsonfile.read(path), str(path))
    if not r.flag("do_rescale", True) or abs(r.number("rescale_factor", 1 / 255) - 1 / 255) > 1e-9:
        raise r.refuse("only pixels scaled to [0, 1] are supported (do_rescale with rescale_factor 1/255)")
    if not r.flag("do_normalize", True):
        return [0.0], [1.0]
    return _numbers(r, "image_mean"), _numbers(r, "image_std")


def _numbers(r: Reader, key: str) -> list[float]:
    found = r.values.get(key)
    found = NEUTRAL if found is None else found
    given = found if isinstance(found, list) else [found]
    if not given or any(isinstance(x, bool) or not isinstance(x, int | float) for x in given):
        raise r.refuse(f"{key}: expected a number a channel, got {found!r}")
    numbers = [float(x) for x in given]
    return numbers[:1] if len(set(numbers)) == 1 else numbers

"""The only currency between data, models and training: named tensors.

Text: ``input_ids`` (B, T), ``segments`` (B, T; 0 padding, equal numbers see one another), ``labels``. Pairs:
``query_ids``, ``query_segments``, ``doc_ids``, ``doc_segments``, ``doc_key`` (B,). Images: ``pixels`` (B, C, H, W)
in [0, 1], ``labels`` (B,).
"""

from torch import Tensor

Batch = dict[str, Tensor]

IGNORE = -100  # the label of a token that is not scored

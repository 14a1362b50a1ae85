"""Images as one PNG grid, written with zlib alone. Letters: N images, C channels (1 or 3), H, W."""

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from nlpkit.errors import UsageError
from nlpkit.store import atomic

GAP = 0.08  # of an image's side, between images
CELL = 96  # pixels: smaller images are enlarged by a whole factor to about this


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """(N, C, H, W) in [0, 1] → one picture uint8 (height, width, C), enlarged without smoothing, white between.

    >>> grid(np.zeros((4, 1, 8, 8))).shape
    (216, 216, 1)
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise UsageError(f"a grid needs images (N, 1 or 3, H, W), got {images.shape}")
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    factor = max(1, CELL // max(height, width))
    height, width = height * factor, width * factor
    gap = max(1, round(GAP * max(height, width)))
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, np.uint8)
    pixels = np.round(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)
    for i, image in enumerate(pixels):
        row, column = divmod(i, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        large = image.transpose(1, 2, 0).repeat(factor, 0).repeat(factor, 1)
        sheet[top : top + height, left : left + width] = large
    return sheet


def png(picture: np.ndarray) -> bytes:
    """A picture uint8 (height, width, 1 or 3) as PNG (ISO/IEC 15948: 8-bit grey or RGB, no filter)."""
    height, width, channels = picture.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = np.zeros((height, 1 + width * channels), np.uint8)
    rows[:, 1:] = picture.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def save_grid(images: np.ndarray, path: str | Path, columns: int | None = None) -> None:
    """Write images (N, C, H, W) in [0, 1] as one PNG file."""
    atomic.write_bytes(path, png(grid(images, columns)))

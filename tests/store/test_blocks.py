"""An array with a checksum a block: read lazily, and no changed bit is ever answered."""

import random

import numpy as np
import pytest

from nlpkit.errors import ArtifactError
from nlpkit.store import blocks


@pytest.mark.parametrize("shape", [(0,), (1,), (5000,), (700, 96), (3, 9000), (0, 8)])
@pytest.mark.parametrize("kind", [np.float32, np.int64, np.uint8])
def test_what_was_written_is_read(tmp_path, shape, kind):
    array = np.random.default_rng(0).integers(0, 200, shape).astype(kind)
    told = blocks.write(tmp_path / "a.npy", array)
    opened = blocks.Checked(tmp_path / "a.npy", told)
    assert opened.shape == shape and opened.dtype == kind and len(opened) == shape[0]
    assert (opened.whole() == array).all() and (np.load(tmp_path / "a.npy") == array).all()
    if shape[0]:
        some = np.array([shape[0] - 1, 0])
        assert (opened[some] == array[some]).all() and (opened[1:3] == array[1:3]).all()


def test_parts_are_one_array(tmp_path):
    parts = [np.full((n, 7), n, np.float32) for n in (3, 0, 6000, 1)]
    blocks.write(tmp_path / "a.npy", parts)
    assert (blocks.Checked(tmp_path / "a.npy").whole() == np.concatenate(parts)).all()


def test_every_flip_is_found_before_use(tmp_path):
    array = np.arange(20_000, dtype=np.int32).reshape(-1, 4)
    path = tmp_path / "a.npy"
    told = blocks.write(path, array)
    whole, luck = path.read_bytes(), random.Random(0)
    for _ in range(300):
        raw = bytearray(whole)
        at = luck.randrange(8 * len(raw))
        raw[at // 8] ^= 1 << at % 8
        path.write_bytes(raw)
        with pytest.raises(ArtifactError, match=r"a\.npy"):
            blocks.Checked(path, told).whole()
    for cut in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ArtifactError):
            blocks.Checked(path, told).whole()


def test_only_what_is_touched_is_checked(tmp_path):
    path = tmp_path / "a.npy"
    told = blocks.write(path, np.arange(100_000, dtype=np.int64))
    raw = bytearray(path.read_bytes())
    raw[400_000] ^= 1
    path.write_bytes(raw)
    opened = blocks.Checked(path, told)
    assert opened[np.array([5, 99_999])].tolist() == [5, 99_999] and opened[10:20][0] == 10
    with pytest.raises(ArtifactError, match="block of rows"):
        opened[np.array([49_984])]


def test_another_version_of_the_file_is_refused(tmp_path):
    told = blocks.write(tmp_path / "a.npy", np.arange(10))
    blocks.write(tmp_path / "a.npy", np.arange(11))
    with pytest.raises(ArtifactError, match="its end"):
        blocks.Checked(tmp_path / "a.npy", told)
    (tmp_path / "a.npy").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        blocks.Checked(tmp_path / "a.npy", told)

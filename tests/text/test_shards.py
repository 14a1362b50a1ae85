"""Token shards: what is written is what is mapped, and damage is found."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.errors import ArtifactError, UsageError
from nlpkit.text.recipe import Recipe
from nlpkit.text.shards import TokenShard, smallest_dtype, write_shard
from nlpkit.text.tokenizer import Tokenizer

WORD = Tokenizer.train(["a b c d e"], kind="word", vocab_size=20)
BIG = Tokenizer.train(["a b c d e"], kind="bpe", vocab_size=300)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 10), max_size=5), max_size=8), st.sampled_from(["npy", "bin"]))
def test_round_trip(tmp_path_factory, rows, suffix):
    path = tmp_path_factory.getbasetemp() / f"s.{suffix}"
    write_shard(path, iter(rows), WORD, force=True)
    shard = TokenShard.open(path)
    assert [r.tolist() for r in shard] == rows and len(shard) == len(rows)
    assert shard.ids.dtype == np.uint8 and shard.offsets.dtype == np.uint64
    assert shard.offsets.tolist() == np.cumsum([0, *map(len, rows)]).tolist()
    shard.require(WORD)


def test_numpy_reads_the_files(tmp_path):
    write_shard(tmp_path / "s.npy", [[1, 2], [299]], BIG)
    ids = np.load(tmp_path / "s.npy", allow_pickle=False)
    assert ids.dtype == np.uint16 and ids.tolist() == [1, 2, 299]
    assert np.load(tmp_path / "s.offsets.npy").tolist() == [0, 2, 3]
    write_shard(tmp_path / "b.bin", [[1, 2], [299]], BIG)
    assert (tmp_path / "b.bin").read_bytes() == np.array([1, 2, 299], "<u2").tobytes()
    assert isinstance(TokenShard.open(tmp_path / "s.npy").ids, np.memmap)


def test_any_of_its_names_opens_it(tmp_path):
    write_shard(tmp_path / "s.npy", [[1]], WORD)
    for name in ("s.npy", "s.json", "s.offsets.npy"):
        assert TokenShard.open(tmp_path / name).ids.tolist() == [1]
    with pytest.raises(UsageError, match="no such file"):
        TokenShard.open(tmp_path / "t.npy")


@pytest.mark.parametrize("name", ["s.npy", "s.offsets.npy", "s.json"])
def test_every_flipped_byte_is_found(tmp_path, name):
    write_shard(tmp_path / "s.npy", [[1, 2, 3], [4]], WORD)
    path = tmp_path / name
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        if name == "s.json" and json.loads(whole) == _parsed(path):
            continue
        with pytest.raises(ArtifactError):
            TokenShard.open(tmp_path / "s.npy")
    path.write_bytes(whole[:-1])
    with pytest.raises(ArtifactError) if name != "s.json" else _nothing():
        TokenShard.open(tmp_path / "s.npy", verify=False)


def _parsed(path):
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def _nothing():
    from contextlib import nullcontext

    return nullcontext()  # only the line break at its end is missing


def test_another_tokenizer_is_refused(tmp_path):
    write_shard(tmp_path / "s.npy", [[1]], WORD)
    other = Tokenizer.train(["a b c d e"], kind="word", vocab_size=20, recipe=Recipe(("stem:en",)))
    with pytest.raises(ArtifactError, match="made with another recipe"):
        TokenShard.open(tmp_path / "s.npy").require(other)


def test_existing_shards_are_kept_unless_forced_and_failures_leave_nothing(tmp_path):
    write_shard(tmp_path / "s.npy", [[1]], WORD)
    with pytest.raises(UsageError, match="exists already"):
        write_shard(tmp_path / "s.npy", [[2]], WORD)

    def broken():
        yield [1]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "t.npy", broken(), WORD)
    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "s.npy", broken(), WORD, force=True)
    assert TokenShard.open(tmp_path / "s.npy").ids.tolist() == [1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.json", "s.npy", "s.offsets.npy"]
    with pytest.raises(UsageError, match=r"NAME\.npy"):
        write_shard(tmp_path / "s.txt", [[1]], WORD)


@pytest.mark.parametrize("size, bits", [(6, 8), (256, 8), (257, 16), (65536, 16), (65537, 32)])
def test_dtype(size, bits):
    assert smallest_dtype(size).itemsize * 8 == bits

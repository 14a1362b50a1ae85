import gzip
import json

import numpy as np
import pytest
import torch

from nlpkit.data import images, labelled, pairs
from nlpkit.data.images import ImageData, ImagesConfig
from nlpkit.data.labelled import Labelled, LabelledConfig, LabelledData
from nlpkit.data.order import Buckets
from nlpkit.data.pairs import PairData, Pairs, PairsConfig, ScoredPairData
from nlpkit.errors import DataError, UsageError


class Words:
    """A tokenizer stand-in: a word is its length."""

    pad_id, vocab_size, truncated = 0, 50, 0

    def encode(self, texts, *, pairs=None, special=False, max_length=None):
        rows = []
        for i, text in enumerate(texts):
            row = [2, *(len(w) + 6 for w in text.split()), 3]
            if pairs is not None:
                row += [*(len(w) + 6 for w in pairs[i].split()), 3]
            self.truncated += len(row) > max_length
            rows.append(row[:max_length])
        return rows


def test_labelled_files_of_every_kind(tmp_path):
    rows = [("good", 'a fine, «quoted" film'), ("bad", "no")]
    (tmp_path / "a.tsv").write_text("label\ttext\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    with gzip.open(tmp_path / "b.tsv.gz", "wt") as file:
        file.write("label\ttext\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    (tmp_path / "c.csv").write_text('label,text\ngood,"a fine, «quoted"" film"\nbad,no\n')
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"label": a, "text": b}) + "\n" for a, b in rows))
    for name in ("a.tsv", "b.tsv.gz", "c.csv", "d.jsonl"):
        found = labelled.read_labelled(tmp_path / name, LabelledConfig())
        assert list(zip(found.labels, found.texts, strict=True)) == rows, name


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("", DataError, "no rows"),
        ("label\ttext\n", DataError, "no rows"),
        ("labl\ttext\nx\ty\n", UsageError, "'labl'"),
        ("label\ttext\nx\n", DataError, "bad.tsv:2"),
        ("label\ttext\n\ty\n", DataError, "bad.tsv:2"),
    ],
)
def test_bad_labelled_files(tmp_path, content, error, words):
    (tmp_path / "bad.tsv").write_text(content)
    with pytest.raises(error, match=words):
        labelled.read_labelled(tmp_path / "bad.tsv", LabelledConfig())


def test_one_label_is_no_task():
    with pytest.raises(DataError, match="two or more"):
        LabelledData(Labelled(["a", "b"], ["x", "x"]), None, Words(), LabelledConfig())


def test_classifier_batches(capsys):
    generator = np.random.default_rng(0)
    texts = [" ".join(["w"] * int(n)) for n in generator.integers(1, 40, 500)]
    train = Labelled(texts, ["b" if t.count("w") % 2 else "a" for t in texts])
    config = LabelledConfig(batch_size=16, max_length=30, micro_batch=5)
    made, again = (LabelledData(train, train, Words(), config, seed=3) for _ in range(2))
    assert "were cut at data.max_length" in capsys.readouterr().err
    for step in (40, 2, 0):
        for a, b in zip(made.batch(step), again.batch(step), strict=True):
            assert torch.equal(a["input_ids"], b["input_ids"]) and torch.equal(a["labels"], b["labels"])
    seen = sum(len(b["labels"]) for s in range(made.steps_per_epoch) for b in made.batch(s))
    assert seen == 500
    cells = [b["segments"].float().mean() for s in range(made.steps_per_epoch) for b in made.batch(s)]
    assert np.mean(cells) > 0.9  # of like length: little padding
    assert sum(len(b["labels"]) for b in made.valid()) == 500


def test_buckets_cover_an_epoch():
    buckets = Buckets(np.arange(103), 10, seed=0)
    assert sorted(np.concatenate(buckets.epoch(0)).tolist()) == list(range(103))
    assert [b.tolist() for b in buckets.epoch(0)] != [b.tolist() for b in buckets.epoch(1)]


def test_pairs_positives_by_threshold(tmp_path):
    path = tmp_path / "sts.tsv"
    path.write_text("sentence1\tsentence2\tscore\na b\tc d\t5\ne f\tg h\t1\ni\tj\t4\n\tk\t4\n")
    found = pairs.read_pairs(path, PairsConfig())
    assert found.scores == [1.0, 0.2, 0.8] and len(found.positives(0.7)) == 2
    made = PairData(found, found, Words(), PairsConfig(batch_size=2))
    (batch,) = made.batch(0)
    assert set(batch) == {"query_ids", "query_segments", "doc_ids", "doc_segments", "doc_key"}
    assert batch["doc_key"].dtype == torch.int64 and len(batch["doc_key"]) == 2
    scored = ScoredPairData(found, found, Words(), PairsConfig(batch_size=3))
    assert sorted(scored.batch(0)[0]["labels"].tolist()) == pytest.approx([0.2, 0.8, 1.0])


def test_negatives_are_drawn_and_never_the_same_document():
    found = Pairs([f"q{i}" for i in range(20)], [f"{'d ' * (i % 5 + 1)}" for i in range(20)], None)
    made = ScoredPairData(found, None, Words(), PairsConfig(negatives=2))
    labels = made.train[1]
    assert labels.sum() == 20 and 20 <= (labels == 0).sum() <= 40
    again = ScoredPairData(found, None, Words(), PairsConfig(negatives=2))
    assert made.train[0] == again.train[0]
    with pytest.raises(DataError, match="same document"):
        ScoredPairData(Pairs(["a", "b"], ["d", "d"], None), None, Words(), PairsConfig())


def test_bad_score_names_the_line(tmp_path):
    path = tmp_path / "p.tsv"
    path.write_text("sentence1\tsentence2\tscore\na\tb\tmuch\n")
    with pytest.raises(DataError, match=r"p.tsv:2.*'much'"):
        pairs.read_pairs(path, PairsConfig())


def test_images_npz_idx_and_digits(tmp_path):
    generator = np.random.default_rng(0)
    pixels, targets = generator.integers(0, 256, (100, 6, 6)).astype(np.uint8), np.arange(100) % 4
    np.savez(tmp_path / "a.npz", images=pixels, labels=targets)
    parts = images.load(tmp_path / "a.npz")
    assert {n: len(p) for n, p in parts.items()} == {"train": 72, "valid": 8, "test": 20}
    assert np.bincount(parts["test"].labels).tolist() == [5, 5, 5, 5]
    assert parts["train"].pixels.shape[1:] == (1, 6, 6) and parts["train"].pixels.max() <= 1
    made = ImageData(parts, ImagesConfig(batch_size=10))
    assert torch.equal(made.batch(9)[0]["pixels"], made.batch(9)[0]["pixels"]) and made.classes == 4

    def idx(array):
        head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        return head + array.astype(np.uint8).tobytes()

    for stem in ("train", "t10k"):
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(idx(pixels))
        (tmp_path / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(targets)))
    parts = images.load(tmp_path)
    assert len(parts["test"]) == 100 and len(parts["train"]) + len(parts["valid"]) == 100
    digits = images.load("digits")
    assert sum(map(len, digits.values())) == 1797


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rubbish", b"not a zip"])
def test_bad_npz(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.npz"):
        images.load(tmp_path / "bad.npz")


def test_pickled_npz_is_refused(tmp_path):
    np.savez(tmp_path / "p.npz", images=np.array([object()]), labels=np.array([1]))
    with pytest.raises(DataError, match=r"p\.npz"):
        images.load(tmp_path / "p.npz")


def test_unknown_source():
    with pytest.raises(UsageError, match="digits"):
        images.load("digit")

"""Export and import: every bit comes back, each form is told by its content, each fault by its line."""

import gzip
import subprocess

import numpy as np
import pytest

from nlpkit.errors import DataError, UsageError
from nlpkit.text.recipe import Recipe
from nlpkit.vectors.exchange import FORMS, decimals, export_vectors, form_of
from nlpkit.vectors.importing import import_vectors
from nlpkit.vectors.vectors import Vectors

WORDS = ["the", "naïve", "<unk>", "-", "don't", "12", "\u00a0", "日本"]


def some(rows=8, width=5, seed=0):
    rng = np.random.default_rng(seed)
    words = (WORDS + [f"w{i}" for i in range(rows)])[:rows]
    return Vectors(
        words, rng.normal(size=(rows, width)).astype(np.float32), Recipe(()), np.arange(rows)[::-1] + 1
    )


def bits(matrix):
    return np.ascontiguousarray(matrix, np.float32).view(np.uint32)


@pytest.mark.parametrize("form", FORMS)
def test_every_bit_comes_back(tmp_path, form):
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 2**32, size=60_000, dtype=np.uint32).view(np.float32)
    raw = raw[np.isfinite(raw)][: 5000 * 8].reshape(-1, 8)
    raw[0, :3] = [0.0, -0.0, 1e-45]
    raw[0, 3] = np.array([0x15AE43FD], np.uint32).view(np.float32)[0]
    vectors = Vectors([f"w{i}" for i in range(len(raw))], raw, Recipe(()), np.arange(len(raw)))
    export_vectors(vectors, tmp_path / "file", form)
    assert form_of(tmp_path / "file") == form
    made = import_vectors(tmp_path / "file", tmp_path / "v")
    assert (made["format"], made["words"], made["size"]) == (form, len(raw), 8)
    found = Vectors.load(tmp_path / "v")
    assert found.words == vectors.words
    np.testing.assert_array_equal(bits(found.matrix), bits(raw))
    assert found.counts.tolist() == (vectors.counts.tolist() if form in FORMS[3:] else [0] * len(raw))


@pytest.mark.parametrize("form", FORMS)
def test_odd_words_and_one_number(tmp_path, form):
    for width in (1, 5):
        vectors = some(width=width)
        export_vectors(vectors, tmp_path / "file", form)
        import_vectors(tmp_path / "file", tmp_path / "v", force=True)
        found = Vectors.load(tmp_path / "v")
        assert found.words == WORDS
        np.testing.assert_array_equal(found.matrix, vectors.matrix)


def test_decimals_are_the_shortest_that_readers_of_float64_take_back():
    # The shortest decimal of 0x15ae43fd, 7.038531e-26, is its upper neighbour when it is read as float64 first.
    odd = np.array([0x15AE43FD], np.uint32).view(np.float32)[0]
    found = decimals(np.array([[0.1, 1 / 3, 16777216, odd]], np.float32))[0].split()
    assert found == [b"0.1", b"0.33333334", b"1.6777216e+07", b"7.03853069e-26"]
    assert np.float32(float(found[3])) == odd != np.float32(float(str(odd)))


@pytest.mark.parametrize("form", ["glove", "word2vec"])
def test_text_in_the_wild(tmp_path, form):
    head = "3 2\r\n" if form == "word2vec" else ""
    raw = (head + "the 0.5 -1 \r\nof\t2e-1\t+3\r\n<unk>  4 5.\r\n").encode()
    for name, data in (("plain", raw), ("packed.gz", gzip.compress(raw))):
        (tmp_path / name).write_bytes(data)
        import_vectors(tmp_path / name, tmp_path / "v", force=True)
        found = Vectors.load(tmp_path / "v")
        assert found.words == ["the", "of", "<unk>"]
        np.testing.assert_array_equal(found.matrix, np.array([[0.5, -1], [0.2, 3], [4, 5]], np.float32))


def test_the_binary_form_of_word2vec_itself_ends_rows_with_a_line_feed(tmp_path):
    rows = np.arange(6, dtype="<f4").reshape(3, 2)
    words = [b"a", b"b", b"c"]
    raw = b"3 2\n" + b"".join(w + b" " + r.tobytes() + b"\n" for w, r in zip(words, rows, strict=True))
    (tmp_path / "f").write_bytes(raw)
    import_vectors(tmp_path / "f", tmp_path / "v")
    assert Vectors.load(tmp_path / "v").words == ["a", "b", "c"]
    np.testing.assert_array_equal(Vectors.load(tmp_path / "v").matrix, rows)


def test_blocks_and_chunks_of_any_size_are_one_file(tmp_path, monkeypatch):
    vectors = some(rows=50, width=7)
    for form in FORMS:
        export_vectors(vectors, tmp_path / "file", form)
        for size in (1, 3, 40, 1000):
            for name in ("LINES", "CHUNK"):
                monkeypatch.setattr(f"nlpkit.vectors.importing.{name}", size)
            import_vectors(tmp_path / "file", tmp_path / "v", force=True)
            np.testing.assert_array_equal(Vectors.load(tmp_path / "v").matrix, vectors.matrix)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a 1 2\nb 1\n", ":2: 1 numbers, where the first row or the header has 2"),
        ("a 1 2\nb 1 2 3\n", ":2: 3 numbers"),
        ("a 1 2\nb 1 x\n", ":2: 'x' is not a number"),
        ("a 1 2\nb 1 1_0\n", ":2: '1_0' is not a number"),
        ("a 1 2\nb 1.2.3 4\n", ":2: '1.2.3' is not a number"),
        ("a 1 2\nb 1 nan\n", ":2: a number of 'b' is not finite"),
        ("a 1 2\nb 1 -inf\n", ":2: a number of 'b' is not finite"),
        ("a 1 2\nb 1 1e39\n", ":2: a number of 'b' is not finite"),
        ("a 1 2\nb 1 2\na 3 4\n", ":3: the word 'a' stands in line 1 already"),
        ("a 1 2\nat name 1 2\n", ":2: the word 'at name' has a space in it"),
        ("a 1 2\n\nb 1 2\n", ":2: the line is empty"),
        ("a 1 2\n 1 2\n", ":2: the line begins with a space"),
        ("3 2\na 1 2\nb 1 2\n", ":1: the header promises 3 words, found 2"),
        ("1 2\na 1 2\nb 1 2\n", ":1: the header promises 1 words, found 2"),
        ("2 2\na 1 2\nb 1\n", ":3: 1 numbers"),
        ("2 2\na 1 2\n\xff 1 2\n", ":3: the word b'\\\\xff' is not UTF-8"),
        ("hello world\n", ": not word vectors in a known form"),
        ("", ": not word vectors in a known form"),
        ("0 2\n", ": holds no word vectors"),
    ],
)
def test_a_fault_is_told_by_its_line_and_leaves_nothing(tmp_path, text, says):
    (tmp_path / "f").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=f"^{tmp_path}/f{says}"):
        import_vectors(tmp_path / "f", tmp_path / "v")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_bad_rows_can_be_left_out_and_are_counted(tmp_path):
    rows = ["a 1 2", "b 1", "c 1 x", "at n 1 2", "a 1 2", "d 1 nan", "e 3 4"]
    (tmp_path / "f").write_text("7 2\n" + "\n".join(rows) + "\n")
    made = import_vectors(tmp_path / "f", tmp_path / "v", skip=True)
    assert Vectors.load(tmp_path / "v").words == ["a", "e"]
    assert (made["left_out"], made["why"]) == (
        5,
        f"{tmp_path}/f:3: 1 numbers, where the first row or the header has 2",
    )


@pytest.mark.parametrize("form", ["word2vec-bin", "npz", "safetensors"])
def test_a_binary_file_that_is_cut_anywhere_is_refused(tmp_path, form):
    export_vectors(some(rows=3, width=2), tmp_path / "whole", form)
    raw = (tmp_path / "whole").read_bytes()
    for size in range(0, len(raw), max(1, len(raw) // 60)):
        (tmp_path / "f").write_bytes(raw[:size])
        with pytest.raises(DataError, match=f"^{tmp_path}/f"):
            import_vectors(tmp_path / "f", tmp_path / "v", form=form)
        assert not (tmp_path / "v").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_file_with_some_bytes_changed_is_read_or_refused(tmp_path, form):
    export_vectors(some(rows=8, width=3), tmp_path / "whole", form)
    raw = (tmp_path / "whole").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        at, gone = int(rng.integers(len(raw))), int(rng.integers(4))
        (tmp_path / "f").write_bytes(raw[:at] + rng.bytes(int(rng.integers(4))) + raw[at + gone :])
        try:
            import_vectors(tmp_path / "f", tmp_path / "v", form=form, force=True)
        except DataError:
            refused += 1
    assert refused > 20


def test_more_behind_the_last_word_and_no_words_at_all(tmp_path):
    export_vectors(some(rows=3, width=2), tmp_path / "f", "word2vec-bin")
    raw = (tmp_path / "f").read_bytes()
    (tmp_path / "f").write_bytes(raw.replace(b"3 2", b"2 2", 1))
    with pytest.raises(DataError, match="more follows"):
        import_vectors(tmp_path / "f", tmp_path / "v")
    (tmp_path / "f").write_bytes(b"3 2\n" + b"\x01" * 9000)
    with pytest.raises(DataError, match="no word ends here"):
        import_vectors(tmp_path / "f", tmp_path / "v", form="word2vec-bin")


def test_arrays_of_others(tmp_path):
    from safetensors.numpy import save_file

    table = np.arange(6, dtype=np.float64).reshape(3, 2)
    np.savez_compressed(tmp_path / "f.npz", vocab=np.array([b"a", b"b", b"c"]), embeddings=table)
    import_vectors(tmp_path / "f.npz", tmp_path / "v")
    assert Vectors.load(tmp_path / "v").words == ["a", "b", "c"]
    np.testing.assert_array_equal(Vectors.load(tmp_path / "v").matrix, table)
    save_file(
        {"emb": table.astype(np.float16), "words": np.frombuffer(b"a\nb\nc", np.uint8)},
        tmp_path / "f.safetensors",
    )
    import_vectors(tmp_path / "f.safetensors", tmp_path / "w")
    assert Vectors.load(tmp_path / "w").words == ["a", "b", "c"]
    bad = {
        "objects": {"words": np.array(["a", 1, 2], object), "vectors": table},
        "no words": {"vectors": table},
        "too few words": {"words": np.array(["a", "b"]), "vectors": table},
        "two tables": {"words": np.array(["a", "b", "c"]), "x": table, "y": table},
        "a space": {"words": np.array(["a", "b b", "c"]), "vectors": table},
        "twice": {"words": np.array(["a", "b", "a"]), "vectors": table},
        "columns first": {"words": np.array(["a", "b", "c"]), "vectors": np.asfortranarray(table)},
    }
    for name, arrays in bad.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(DataError, match=f"^{tmp_path}/{name}.npz"):
            import_vectors(tmp_path / f"{name}.npz", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_what_no_form_can_hold_is_refused(tmp_path):
    spaced = Vectors(["new york"], np.ones((1, 2), np.float32), Recipe(()), np.ones(1))
    with pytest.raises(DataError, match="'new york'"):
        export_vectors(spaced, tmp_path / "f", "glove")
    long = Vectors(
        ["x" * 60_000] + [f"w{i}" for i in range(5000)],
        np.ones((5001, 1), np.float32),
        Recipe(()),
        np.ones(5001),
    )
    with pytest.raises(UsageError, match="safetensors"):
        export_vectors(long, tmp_path / "f", "npz")
    with pytest.raises(UsageError, match="did you mean 'glove'"):
        export_vectors(some(), tmp_path / "f", "glov")
    assert list(tmp_path.iterdir()) == []


def test_compressed_text_is_gzip(tmp_path):
    export_vectors(some(), tmp_path / "f.txt.gz", "glove")
    shown = subprocess.run(["gzip", "-dc", tmp_path / "f.txt.gz"], capture_output=True, check=True).stdout
    assert len(shown.splitlines()) == 8

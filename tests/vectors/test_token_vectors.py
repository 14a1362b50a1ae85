"""Vectors of a tokenizer's tokens: exact values on a hand-made vocabulary, and the way into another width."""

import json

import numpy as np
import pytest

from nlpkit.errors import DataError
from nlpkit.text.standardize import Recipe
from nlpkit.text.tokenizer import SPECIALS, Tokenizer
from nlpkit.vectors.token_vectors import in_width, token_vectors
from nlpkit.vectors.vectors import Vectors

# run | run ##ner | sing ##er | sing ##ing, with a capital Run ##ner | S ##ing ##er; and tokens that no word holds
PIECES = ["run", "##ner", "sing", "##er", "##ing", "zebra", "Run", "##un", "R", "S", "##nothing"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Raw

    vocabulary = {token: id for id, token in enumerate([*SPECIALS, *PIECES])}
    raw = Raw(models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    raw.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in SPECIALS])
    return Tokenizer(json.dumps(json.loads(raw.to_str())))


WORDS = ["run", "runner", "singer", "singing", "ing"]
COUNTS = np.array([50, 10, 30, 10, 1000])
MATRIX = np.array([[1, 0], [0, 1], [4, 0], [0, 8], [9, 9]], np.float32)


def test_words_are_taken_and_pieces_pooled_by_count(tokenizer: Tokenizer) -> None:
    held = Vectors(WORDS, MATRIX, Recipe.of(["lower"]), COUNTS)
    found = token_vectors(held, tokenizer)
    expected = {
        "run": [1, 0],  # a word; runner holds it too, but a word is not pooled
        "##ner": [0, 1],  # of runner alone
        "sing": [3, 2],  # (30 · singer + 10 · singing) / 40
        "##er": [4, 0],  # of singer alone: runner is cut run ##ner
        "##ing": [3, 2],  # S ##ing ##er, S ##ing ##ing; the word «ing» is not cut so, however frequent
        "S": [3, 2],
        "Run": [1, 0],  # the same word by the recipe
    }
    for token, row in expected.items():
        assert found.rows[tokenizer.token_to_id(token)].tolist() == row, token
    names = [tokenizer.id_to_token(int(i)) for i in np.flatnonzero(found.whole)]
    assert names == ["run", "Run"]
    parts = {tokenizer.id_to_token(int(i)) for i in np.flatnonzero(found.part)}
    assert parts == {"##ner", "sing", "##er", "##ing", "S"}
    assert not found.rows[~found.known].any() and not found.known[: len(SPECIALS)].any()
    assert found.describe() == "2 of 17 tokens are words, 5 are parts of words, 10 start at random"


def test_byte_level_words_stand_behind_a_space_and_suffixes_are_pooled() -> None:
    text = ["the singing king is singing and ringing in the ring"] * 50
    tokenizer = Tokenizer.train(text, kind="bpe", vocab_size=285)
    words = ["the", "singing", "king", "ringing", "ring", "ing"]
    matrix = np.eye(6, dtype=np.float32)
    found = token_vectors(Vectors(words, matrix, Recipe(()), np.full(6, 10)), tokenizer)
    the, suffix = tokenizer.token_to_id("Ġthe"), tokenizer.token_to_id("ing")
    assert the is not None and found.whole[the] and found.rows[the].tolist() == [1, 0, 0, 0, 0, 0]
    assert suffix is not None and found.part[suffix] and not found.whole[suffix]
    holds = [i for i, w in enumerate(words) if any(suffix in ids for ids in tokenizer.encode(spelled(w)))]
    assert found.rows[suffix] == pytest.approx(np.isin(np.arange(6), holds) / len(holds))


def spelled(word: str) -> list[str]:
    return [word, " " + word, word.capitalize(), " " + word.capitalize()]


@pytest.mark.parametrize("width", [3, 8, 12])
def test_rows_get_the_spread_of_the_table(width: int) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) * np.arange(1, 9) + 5
    placed = in_width(rows, width, 0.02, 0)
    assert placed.shape == (50, width) and placed.dtype == np.float32
    assert np.sqrt((placed.astype(float) ** 2).mean()) == pytest.approx(0.02, rel=1e-5)
    assert (placed == in_width(rows, width, 0.02, 0)).all()
    apart = rows - rows.mean(0)
    if width >= 8:  # all angles and relative lengths are kept, and another seed is another rotation
        scale = (placed.astype(float) ** 2).sum() / (apart**2).sum()
        assert placed @ placed.T == pytest.approx(apart @ apart.T * scale, abs=1e-5)
        assert not np.allclose(placed, in_width(rows, width, 0.02, 1))
    else:  # the widest axes: no other three keep more
        kept = apart @ np.linalg.svd(apart, full_matrices=False)[2][:width].T
        kept *= 0.02 / np.sqrt((kept**2).mean())
        assert np.abs(placed) == pytest.approx(np.abs(kept), abs=1e-5)


def test_nothing_to_place_is_refused() -> None:
    for rows in (np.zeros((0, 4)), np.ones((1, 4)), np.ones((3, 4))):
        with pytest.raises(DataError, match="fewer than two"):
            in_width(rows.astype(np.float32), 6, 0.02, 0)

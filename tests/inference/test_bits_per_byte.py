"""``eval`` and ``score`` name the same bits for the same bytes, where both predict the same tokens."""

import math
from typing import Any

import pytest

from nlpkit.data.language import LanguageConfig, LanguageData
from nlpkit.data.tokens import from_lists
from nlpkit.training.measures import measure

TEXTS = ["the cat sat on the mat", "naïve café, größer: unicode is read as bytes", "a list is a dict"] * 3


def test_bytes_are_those_of_the_predicted_text(loaded: Any) -> None:
    held = loaded("clm", context=64)
    for parameter in held.model.parameters():
        parameter.data.zero_()  # each token costs log V, whatever it is
    tokens = from_lists(held.tokenizer.encode(TEXTS))
    data = LanguageData(
        tokens, held.tokenizer, LanguageConfig(context=64, batch_size=2), objective="clm", valid=tokens
    )
    told = measure("clm", held.model, data.valid(), decode=held.tokenizer.decode)
    rows = held.tokenizer.encode(TEXTS)
    predicted = sum(len(held.tokenizer.decode(ids[1:]).encode()) for ids in rows)  # the first token is given
    bits = math.log2(held.tokenizer.vocab_size) * sum(map(len, rows)) / predicted
    assert told["count"] == sum(map(len, rows))  # the end of each text is predicted
    assert told["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
    assert "bits_per_byte" not in measure("clm", held.model, data.valid())

"""Masks of tokens, words and spans: how often, of what, and never half a word."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from nlpkit.data.language import LanguageConfig, LanguageData
from nlpkit.data.masking import Masking, continues, span_lengths, spans
from nlpkit.data.tokens import from_lists
from nlpkit.errors import ArtifactError
from nlpkit.text.tokenizer import Tokenizer

SIZE = 200
NAMES = [f"Ġ{i}" if i % 3 == 0 else f"x{i}" if i % 3 == 1 else "," for i in range(SIZE)]
INSIDE = np.arange(SIZE) % 3 == 1


class Vocabulary:
    """Ids 0 to 5 are special; of the others every third begins a word, goes on with one, is punctuation."""

    vocab_size, kind = SIZE, "bpe"
    pad_id, cls_id, sep_id, mask_id, eos_id = 0, 2, 3, 4, 5

    def id_to_token(self, id):
        return "[SPECIAL]" if id < 6 else NAMES[id]


def data(seed=0, n=600, longest=200, **config):
    generator = np.random.default_rng(7)
    docs = [generator.integers(6, SIZE, generator.integers(1, longest)).tolist() for _ in range(n)]
    made = LanguageConfig(**{"context": 256, "batch_size": 64, "valid_fraction": 0.0, **config})
    return LanguageData(from_lists(docs), Vocabulary(), made, objective="mlm", seed=seed)


def units(batch):
    """Of each word: (its places, whether each is asked for, its ids as seen, its ids as they were)."""
    for ids, labels, segments in zip(
        *(batch[n].numpy() for n in ("input_ids", "labels", "segments")), strict=True
    ):
        was = np.where(labels >= 0, labels, ids)
        for number in range(1, segments.max() + 1):
            places = np.flatnonzero(segments == number)[1:-1]
            for word in np.split(places, np.flatnonzero(~INSIDE[was[places]])):
                if len(word):
                    yield word, labels[word] >= 0, ids[word], was[word]


def test_word_borders_come_from_the_tokenizers_own_marks():
    texts = ["unbelievable unbelievably believable walking walked talking talked, don't 2024"] * 20
    for kind in ("bpe", "wordpiece", "unigram", "word", "char"):
        tokenizer = Tokenizer.train(texts, kind=kind, vocab_size=300 if kind == "bpe" else 45)
        inside = continues(tokenizer)
        assert inside.shape == (tokenizer.vocab_size,) and not inside[:6].any()
        ids = tokenizer.encode(["walked unbelievable, walking"])[0]
        begins = [tokenizer.id_to_token(i) for i in ids if not inside[i]]
        if kind == "word":
            assert not inside.any()
            continue
        words = sum(name.strip("Ġ▁ ")[:1].isalpha() for name in begins)
        # The first word has no mark before it in byte-level and character vocabularies: it begins with its piece.
        assert words in ((2, 3) if kind == "bpe" else (0,) if kind == "char" else (3,)), (kind, begins)


@pytest.mark.parametrize("unit", ["word", "span"])
def test_words_are_never_half_masked_and_share_their_replacement(unit):
    made = data(mask=unit, mask_rate=0.25)
    kinds = np.zeros(3, int)
    asked_tokens = all_tokens = 0
    for step in range(12):
        for _, asked, seen, was in units(made.batch(step)[0]):
            assert asked.all() or not asked.any()
            all_tokens += len(was)
            if asked.any():
                asked_tokens += len(was)
                hidden, kept = seen == 4, seen == was
                assert hidden.all() or not hidden.any()
                kinds += [hidden.all(), not (hidden.all() or kept.all()), kept.all()]
    assert asked_tokens / all_tokens == pytest.approx(0.25, abs=0.01)
    assert kinds / kinds.sum() == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


@pytest.mark.parametrize("split", [(0.8, 0.1, 0.1), (0.5, 0.2, 0.3), (1.0, 0.0, 0.0)])
def test_the_split_of_replacements(split):
    made = data(mask_split=split)
    counts = np.zeros(3, int)
    for step in range(8):
        (batch,) = made.batch(step)
        ids, labels = batch["input_ids"].numpy(), batch["labels"].numpy()
        asked = labels >= 0
        ids, labels = ids[asked], labels[asked]
        counts += [(ids == 4).sum(), ((ids != 4) & (ids != labels)).sum(), (ids == labels).sum()]
    # A random replacement is the token itself once in (SIZE - 6) times.
    chance = 1 / (SIZE - 6)
    expected = np.array([split[0], split[1] * (1 - chance), split[2] + split[1] * chance]) * counts.sum()
    there = expected > 0
    assert (counts[~there] == 0).all()
    if there.sum() > 1:
        assert stats.chisquare(counts[there], expected[there]).pvalue > 1e-3


def test_single_tokens_are_asked_for_at_the_rate():
    made = data(mask_rate=0.15)
    batches = [made.batch(s)[0] for s in range(12)]
    asked = sum(int((b["labels"] >= 0).sum()) for b in batches)
    ordinary = sum(len(was) for b in batches for _, _, _, was in units(b))
    assert stats.binomtest(asked, ordinary, 0.15).pvalue > 1e-3


@pytest.mark.parametrize("rate", [0.15, 0.5])
def test_spans_have_spanberts_lengths(rate):
    p, mean = span_lengths()
    assert mean == pytest.approx(3.797, abs=1e-3) and len(p) == 10
    generator = np.random.default_rng(0)
    shares, lengths = [], []
    for _ in range(60):
        asked, begins = spans(4000, rate, generator)
        shares.append(asked.mean())
        assert not (begins & ~asked).any() and (asked[1:] & ~asked[:-1] <= begins[1:]).all()
        edges = np.flatnonzero(np.diff(asked, prepend=False, append=False))
        lengths += (edges[1::2] - edges[::2]).tolist()[1:-1]  # the first and last may be cut
    error = np.std(shares) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - rate) < 4 * error + 1e-4
    counts = np.bincount(lengths, minlength=11)[1:]
    assert len(counts) == 10
    assert np.mean(lengths) == pytest.approx(mean, abs=4 * np.std(lengths) / np.sqrt(len(lengths)))
    assert stats.chisquare(counts, p * counts.sum()).pvalue > 1e-3


def test_every_place_is_asked_for_equally_often():
    generator = np.random.default_rng(0)
    often = sum(spans(40, 0.3, generator)[0].astype(int) for _ in range(6000)) / 6000
    assert np.abs(often - 0.3).max() < 0.03


def test_a_rate_that_falls_over_the_run_and_validation_at_the_last():
    made = data(mask_rate="0.4:0.1", valid_fraction=0.3)
    made.begin(101)
    assert made.course.mask_rate(0) == 0.4 and made.course.mask_rate(100) == pytest.approx(0.1)
    assert made.course.mask_rate(50) == pytest.approx(0.25) and made.course.mask_rate(500) == pytest.approx(
        0.1
    )

    def share(batches):
        asked = sum(int((b["labels"] >= 0).sum()) for b in batches)
        return asked / sum(len(was) for b in batches for _, _, _, was in units(b))

    assert share(made.batch(0) + made.batch(1)) == pytest.approx(0.4, abs=0.03)
    assert share(made.batch(100) + made.batch(99)) == pytest.approx(0.1, abs=0.02)
    before = [b["labels"] for b in made.valid()]
    assert share(list(made.valid())) == pytest.approx(0.1, abs=0.02)
    made.begin(7)
    assert all((a == b["labels"]).all() for a, b in zip(before, made.valid(), strict=True))


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_a_batch_with_one_word_has_a_loss(unit):
    inside = INSIDE if unit != "token" else None
    ordinary = np.arange(SIZE) > 5
    masking = Masking(unit, (0.8, 0.1, 0.1), 4, ordinary, 6, SIZE, inside)
    ids = np.array([[2, 6, 7, 3, 0]])
    for seed in range(20):
        seen, labels = ids.copy(), np.full_like(ids, -100)
        masking(seen, (ids > 0).astype(np.int64), labels, 0.05, np.random.default_rng(seed))
        assert (labels >= 0).sum() == (1 if unit == "token" else 2)
    nothing = np.array([[2, 3, 0]])
    labels = np.full_like(nothing, -100)
    masking(nothing, (nothing > 0).astype(np.int64), labels, 0.5, np.random.default_rng(0))
    assert (labels == -100).all()


def test_bad_masks():
    with pytest.raises(ValueError, match="spans hide at most 70%"):
        LanguageConfig(mask="span", mask_rate=0.8)
    for split in ((0.8, 0.1), (0.8, 0.1, 0.2), (1.1, -0.1, 0.0)):
        with pytest.raises(ValueError, match="mask_split"):
            LanguageConfig(mask_split=split)


def test_a_tokenizer_without_a_mask_token_learns_next_tokens_only():
    class Plain(SimpleNamespace):
        @property
        def mask_id(self):
            raise ArtifactError("this tokenizer has no mask token")

    plain = Plain(vocab_size=SIZE, pad_id=0, cls_id=2, sep_id=3, eos_id=5)
    tokens, config = from_lists([[6, 7, 8]]), LanguageConfig(context=8, batch_size=2)
    assert LanguageData(tokens, plain, config, objective="clm").batch(0)
    with pytest.raises(ArtifactError, match="no mask token"):
        LanguageData(tokens, plain, config, objective="mlm")

"""Document-term matrices: known answers, equal to scikit-learn and to search's BM25, vocabularies that return."""

import json
import random

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from nlpkit.errors import ArtifactError, DataError, UsageError
from nlpkit.search.bm25 import BM25
from nlpkit.text import ngrams, word_ids
from nlpkit.text.recipe import Recipe
from nlpkit.text.standardize import Standardizer
from nlpkit.text.tokenizer import Tokenizer
from nlpkit.text.vectorize import matrix, ngram_range, vectorize
from nlpkit.text.vocabulary import RecipeWords, TokenizerWords, Vocabulary, words_of

run = Standardizer(Recipe.DEFAULT)


def made_texts(documents=60, words=40, seed=0):
    draw = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(words)] + ["é", "Naïve", "don't", "x_y", "日本"]
    weights = [1 / (i + 1) for i in range(len(vocabulary))]
    texts = [" ".join(draw.choices(vocabulary, weights, k=draw.randrange(0, 30))) for _ in range(documents)]
    return [*texts, "", "!!", "w0"]


TEXTS = made_texts()


def of(made):
    """The scipy matrix of one of ours, straight from its blocks."""
    rows = list(made.rows())
    starts = np.concatenate([[0], np.cumsum(np.concatenate([r[0] for r in rows]))])
    columns, values = (np.concatenate([r[i] for r in rows]) for i in (1, 2))
    found = sp.csr_matrix((values, columns, starts), made.shape)
    made.close()
    return found


def split_in(texts, size):
    return [texts[i : i + size] for i in range(0, len(texts), size)]


def terms_of(vocabulary):
    return [term for block in vocabulary.terms.texts(vocabulary.joint) for term in block]


def assert_equal(mine, theirs):
    theirs.sort_indices()
    assert mine.shape == theirs.shape
    assert mine.dtype == theirs.dtype
    assert (mine.indptr == theirs.indptr).all() and (mine.indices == theirs.indices).all()
    np.testing.assert_allclose(mine.data, theirs.data, rtol=0, atol=1e-12)


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("span", [(1, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("mode", ["count", "multi-hot", "tf-idf"])
def test_equal_to_scikit_learn(mode, span, block):
    kind = TfidfVectorizer if mode == "tf-idf" else CountVectorizer
    options = {"binary": True} if mode == "multi-hot" else {}
    oracle = kind(
        preprocessor=run, tokenizer=str.split, token_pattern=None, ngram_range=span, min_df=2, **options
    )
    theirs = oracle.fit_transform(TEXTS)
    made = matrix(split_in(TEXTS, block), words_of(), mode=mode, ngrams=span, min_df=2)
    assert terms_of(made.vocabulary) == oracle.get_feature_names_out().tolist()
    assert made.entries == theirs.nnz
    assert_equal(of(made), theirs)
    other = made_texts(seed=1)
    again = matrix(split_in(other, block), words_of(), mode=mode, vocabulary=made.vocabulary)
    assert_equal(of(again), oracle.transform(other))


def test_characters_are_those_of_scikit_learn():
    oracle = CountVectorizer(analyzer="char", preprocessor=run, ngram_range=(2, 3))
    theirs = oracle.fit_transform(TEXTS)
    made = matrix([TEXTS], words_of(analyzer="char"), ngrams=(2, 3))
    assert terms_of(made.vocabulary) == oracle.get_feature_names_out().tolist()
    assert_equal(of(made), theirs)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(alphabet="ab c\x01\x08é", max_size=12), min_size=1, max_size=8),
    st.integers(1, 3), st.integers(0, 2), st.integers(1, 3), st.integers(1, 4),
)  # fmt: skip
def test_any_text_any_range(texts, low, more, min_df, block):
    span = (low, low + more)
    oracle = CountVectorizer(tokenizer=str.split, token_pattern=None, ngram_range=span, min_df=min_df)
    try:
        theirs = oracle.fit_transform(texts)
    except ValueError:
        with pytest.raises(DataError, match="no term is left"):
            matrix(split_in(texts, block), words_of(recipe=Recipe(("lower",))), ngrams=span, min_df=min_df)
        return
    made = matrix(split_in(texts, block), words_of(recipe=Recipe(("lower",))), ngrams=span, min_df=min_df)
    assert terms_of(made.vocabulary) == oracle.get_feature_names_out().tolist()
    assert_equal(of(made), theirs)


def test_the_most_frequent_terms_are_kept_and_the_rest_is_unknown():
    texts = ["b b b a", "a c", "c d"]
    made = matrix([texts], words_of(), vocab_size=2, unknown=True)
    assert terms_of(made.vocabulary) == ["a", "b"]  # a and c are equally frequent: the first in order stays
    assert made.vocabulary.unknown_df == 2
    assert of(made).toarray().tolist() == [[1, 3, 0], [1, 0, 1], [0, 0, 2]]
    again = matrix([["z a z"]], words_of(), vocabulary=made.vocabulary)
    assert of(again).toarray().tolist() == [[1, 0, 2]]
    pairs = matrix([["a b", "b a b"]], words_of(), ngrams=(1, 2), vocab_size=2, unknown=True)
    assert terms_of(pairs.vocabulary) == ["a", "b"]
    assert of(pairs).toarray().tolist() == [[1, 1, 1], [1, 2, 2]]


def test_a_term_whose_part_is_no_term_is_found_again():
    made = matrix([["x y", "x y", "x y z"]], words_of(), ngrams=(2, 3), min_df=1)
    assert terms_of(made.vocabulary) == ["x y", "x y z", "y z"]
    again = matrix([["y z x y z"]], words_of(), vocabulary=made.vocabulary)
    assert of(again).toarray().tolist() == [[1, 1, 2]]


def test_bm25_rows_times_a_query_are_the_scores_of_search():
    index = BM25()
    index.add([run(text).split() for text in TEXTS])
    made = matrix(split_in(TEXTS, 9), words_of(), mode="bm25")
    terms = terms_of(made.vocabulary)
    found = of(made)
    query = ["w0", "w3", "naive", "日本"]
    ones = np.isin(terms, query).astype(np.float64)
    assert ones.sum() == 4
    np.testing.assert_allclose(found @ ones, index.scores(query), rtol=0, atol=1e-12)


def test_one_hot_has_a_row_a_token(tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("the cat the\n\ndog\n")
    assert vectorize([source], str(tmp_path / "m.npz"), mode="one-hot") == {
        "rows": 4, "columns": 3, "entries": 4,
    }  # fmt: skip
    assert sp.load_npz(tmp_path / "m.npz").toarray().tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    with np.load(tmp_path / "m.npz", allow_pickle=False) as arrays:
        assert arrays["document_starts"].tolist() == [0, 3, 3, 4]
    few = matrix([["the cat the", "dog the"]], words_of(), mode="one-hot", vocab_size=1)
    assert of(few).toarray().tolist() == [[1], [0], [1], [0], [1]]
    some = matrix([["the cat the", "dog the"]], words_of(), mode="one-hot", vocab_size=1, unknown=True)
    assert of(some).toarray().tolist() == [[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]]
    assert some.vocabulary.unknown_df == 2


def test_a_tokenizers_tokens_are_the_terms():
    tokenizer = Tokenizer.train(["a b\tc a b"] * 3, kind="char", vocab_size=40)
    made = matrix([["a b", "b\tc"]], TokenizerWords(tokenizer), ngrams=(1, 2))
    assert terms_of(made.vocabulary) == ["a", "a ▁", "b", "b ␉", "c", "␉", "␉ c", "▁", "▁ b"]
    assert of(made).sum() == 10


def test_merging_in_small_steps_changes_nothing(monkeypatch):
    whole = of(matrix([TEXTS], words_of(), ngrams=(1, 3)))
    monkeypatch.setattr(ngrams, "_MERGE", 3)
    assert_equal(of(matrix(split_in(TEXTS, 2), words_of(), ngrams=(1, 3))), whole)


def test_wide_vocabularies_are_ordered_too():
    rows = np.array([[2, 1], [0, 3], [2, -1], [0, -1]], np.int32)
    assert ngrams._lexicographic(rows, 5).tolist() == [3, 1, 2, 0]
    assert ngrams._lexicographic(rows, 1 << 40).tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize("analyzer", ["word", "char"])
def test_a_vocabulary_returns_from_its_file(tmp_path, analyzer):
    source = tmp_path / "in.jsonl"
    texts = [*TEXTS, "back\\slash a\\tb\\", "tab\tand\rline\nend"]
    source.write_text("".join(json.dumps({"text": t, "id": str(i)}) + "\n" for i, t in enumerate(texts)))
    recipe = Recipe(("lower", "stopwords:custom"), ("w1",)) if analyzer == "word" else Recipe(("lower",))
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    vectorize(
        [source], str(first), mode="tf-idf", words=words_of(recipe=recipe, analyzer=analyzer), ngrams=(1, 2)
    )
    vectorize([source], str(second), mode="tf-idf", vocabulary=Vocabulary.load(first))
    assert_equal(sp.load_npz(second), sp.load_npz(first))
    assert first.read_bytes() == second.read_bytes()
    one, two = ((tmp_path / f"{n}.vocab.txt").read_bytes() for n in "ab")
    assert one == two
    assert one.count(b"\n") == sp.load_npz(first).shape[1]


def test_records_and_svmlight(tmp_path):
    from sklearn.datasets import load_svmlight_file

    source = tmp_path / "in.jsonl"
    source.write_text('{"id": "7", "text": "a b a", "label": "x"}\n{"text": ""}\n{"text": "b"}\n')
    vectorize([source], str(tmp_path / "m.jsonl"), mode="count")
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert rows == [
        {"id": "7", "label": "x", "vector": {"a": 2, "b": 1}},
        {"vector": {}},
        {"vector": {"b": 1}},
    ]
    vectorize([source], str(tmp_path / "m2.svm"), mode="tf-idf")
    vectorize([source], str(tmp_path / "m3.npz"), mode="tf-idf")
    values, labels = load_svmlight_file(str(tmp_path / "m2.svm"), n_features=2, zero_based=False)
    assert (values != sp.load_npz(tmp_path / "m3.npz")).nnz == 0
    assert labels.tolist() == [0, 0, 0]


def test_svmlight_has_the_labels(tmp_path):
    from sklearn.datasets import load_svmlight_file

    def written(name, records, **options):
        source = tmp_path / f"{name}.jsonl"
        source.write_text("".join(json.dumps(r) + "\n" for r in records))
        vectorize([source], str(tmp_path / f"{name}.svm"), label_field="y", force=True, **options)
        return load_svmlight_file(str(tmp_path / f"{name}.svm"), n_features=3)

    texts = ["b a b", "c", ""]
    for classes, wanted in (
        ([2, -1, 2], [2, -1, 2]),
        (["2", "10", "2"], [2, 10, 2]),
        ([0.5, 1, 2], [0.5, 1, 2]),
        (["yes", "no", "yes"], [1, 0, 1]),
        (["1", "no", "1"], [0, 1, 0]),
    ):
        records = [{"text": t, "y": y} for t, y in zip(texts, classes, strict=True)]
        values, labels = written("in", records, mode="tf-idf")
        assert labels.tolist() == wanted
        vectorize([tmp_path / "in.jsonl"], str(tmp_path / "m.npz"), mode="tf-idf", force=True)
        assert (values != sp.load_npz(tmp_path / "m.npz")).nnz == 0
    vocabulary = Vocabulary.load(tmp_path / "in.svm")
    assert vocabulary.labels == ("1", "no")
    later = [{"text": "a", "y": "no"}, {"text": "b", "y": "no"}]
    assert written("later", later, vocabulary=vocabulary)[1].tolist() == [1, 1]
    for records, message in (
        ([{"text": "a", "y": "maybe"}], "'maybe' is not among the 2 of the vocabulary"),
        ([{"text": "a", "y": "no"}, {"text": "a"}], "document 2: no field 'y'"),
        ([{"text": "a", "y": None}], "document 1: label 'y' is no number or text but null"),
        ([{"text": "a", "y": True}], "no number or text but bool"),
    ):
        with pytest.raises(DataError, match=message):
            written("bad", records, vocabulary=vocabulary)
        assert not (tmp_path / "bad.svm").exists()
    with pytest.raises(UsageError, match="--label-field is for svmlight"):
        vectorize([tmp_path / "in.jsonl"], str(tmp_path / "n.npz"), label_field="y")


def test_labels_of_one_hot_rows(tmp_path):
    (tmp_path / "in.tsv").write_text("text\tlabel\na b\t7\n\t5\nb\t3\n")
    vectorize([tmp_path / "in.tsv"], str(tmp_path / "m.svm"), mode="one-hot", label_field="label")
    assert (tmp_path / "m.svm").read_text() == "7 1:1\n7 2:1\n3 2:1\n"


@pytest.mark.parametrize("seed", range(3))
def test_word_ids_are_those_of_a_dictionary(seed):
    draw = random.Random(seed)
    pieces = ["a", "b", "ab", "abcdefgh", "abcdefghi", "abcdefghabcdefgh", "abcdefghabcdefghi", "é", "日本語"]
    spaces = [" ", "  ", "\t", "\x1c", "\x85", "\u2003", "\n", "\x0b "]
    for odd in ([], ["\x00", "a\x00", "\x7f"]):
        words, known = word_ids.WordIds(), {}
        for _ in range(20):
            texts = [
                "".join(
                    draw.choice(spaces) + "".join(draw.choices(pieces + odd, k=draw.randrange(4)))
                    for _ in range(draw.randrange(12))
                )
                for _ in range(draw.randrange(5))
            ]
            ids, sizes = words(texts)
            names = words.names
            wanted = [text.split() for text in texts]
            assert [names[i] for i in ids] == [word for row in wanted for word in row]
            assert sizes.tolist() == [len(row) for row in wanted]
            known |= dict.fromkeys(names)
        assert len(words) == len(known) == len(set(words.names))


def test_what_is_refused(tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("a b\n")
    out = str(tmp_path / "m.npz")
    vectorize([source], out)
    vocabulary = Vocabulary.load(out)
    with pytest.raises(UsageError, match="exists already"):
        vectorize([source], out)
    with pytest.raises(ArtifactError, match="another recipe"):
        matrix([["a"]], RecipeWords(Recipe(("lower",))), vocabulary=vocabulary)
    with pytest.raises(ArtifactError, match="another analyzer"):
        matrix([["a"]], words_of(analyzer="char"), vocabulary=vocabulary)
    tokenizer = Tokenizer.train(["a b"], kind="word", vocab_size=10)
    with pytest.raises(ArtifactError, match="another tokenizer"):
        matrix([["a"]], TokenizerWords(tokenizer), vocabulary=vocabulary)
    with pytest.raises(UsageError, match="no n-grams"):
        matrix([["a"]], words_of(), mode="one-hot", ngrams=(1, 2))
    with pytest.raises(UsageError, match="did you mean 'tf-idf'"):
        matrix([["a"]], words_of(), mode="tfidf")
    for bad in ("0", "3-2", "1-", "x", "1-99"):
        with pytest.raises(UsageError, match="--ngrams"):
            ngram_range(bad)
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    with pytest.raises(DataError, match="no documents"):
        vectorize([empty], str(tmp_path / "e.npz"))
    assert not (tmp_path / "e.npz").exists()


@pytest.mark.parametrize("damage", ["text", "about", "gone"])
def test_a_damaged_vocabulary_is_refused(tmp_path, damage):
    source = tmp_path / "in.txt"
    source.write_text("a b\n")
    vectorize([source], str(tmp_path / "m.npz"))
    text, about = tmp_path / "m.vocab.txt", tmp_path / "m.vocab.json"
    if damage == "text":
        text.write_text(text.read_text().replace("a", "c"))
    elif damage == "about":
        about.write_text(about.read_text().replace('"documents": 1', '"documents": 2'))
    else:
        text.unlink()
    with pytest.raises(ArtifactError, match=r"m\.vocab"):
        Vocabulary.load(about)

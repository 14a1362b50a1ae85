"""Several sources by stages, and documents that are left out because an evaluation file has them."""

import json
from itertools import pairwise

import numpy as np
import pytest

from nlpkit.data.assemble import assemble
from nlpkit.data.language import LanguageConfig, LanguageData
from nlpkit.data.sources import evaluation_files, named, paths_of
from nlpkit.data.tokens import from_lists
from nlpkit.errors import DataError, UsageError
from nlpkit.text.tokenizer import Tokenizer

STAGES = ("0-70%: web=.8,books=.2", "70-100%: books=1")


class Specials:
    vocab_size, pad_id, cls_id, sep_id, mask_id, eos_id = 200, 0, 2, 3, 4, 5


def two(stages=STAGES, **config):
    """Documents of web hold the ids 10 to 19, those of books 20 to 29."""
    generator = np.random.default_rng(0)
    docs = [generator.integers(10, 20, 12).tolist() for _ in range(120)]
    docs += [generator.integers(20, 30, 9).tolist() for _ in range(40)]
    made = LanguageConfig(
        **{"context": 16, "batch_size": 6, "stages": stages, "valid_fraction": 0.0, **config}
    )
    return LanguageData(from_lists(docs, (("web", 120), ("books", 40))), Specials(), made, objective="clm")


def source_of(batch):
    """Which source each row of a batch is of."""
    ids = batch["input_ids"].numpy()
    web, books = ((ids >= 10) & (ids < 20)).any(1), (ids >= 20).any(1)
    assert (web ^ books).all()
    return np.where(web, "web", "books").tolist()


def test_rows_come_from_the_sources_in_their_shares():
    made = two(micro_batch=4)
    made.begin(100)
    served = {"web": 0, "books": 0}
    for step in range(120):
        assert made.served(step) == served
        planned = made.planned(step)
        assert all(abs(served[n] - planned[n]) < 1 for n in served)
        for name in [s for b in made.batch(step) for s in source_of(b)]:
            served[name] += 1
    assert made.planned(70) == {"web": 336.0, "books": 84.0} and made.served(120)["books"] == 84 + 300
    again = two(micro_batch=4)
    again.begin(100)
    for step in (99, 3):
        for a, b in zip(again.batch(step), made.batch(step), strict=True):
            assert (a["input_ids"] == b["input_ids"]).all()


def test_each_source_has_its_own_order():
    made = two(stages=("0-100%: web=.5,books=.5",))
    made.begin(200)
    rows = np.concatenate([made.items(s) for s in range(200)])
    n_web = 120
    web, books = rows[rows < n_web], rows[rows >= n_web] - n_web
    assert sorted(web[:n_web]) == list(range(n_web)) and sorted(books[:40].tolist()) == list(range(40))
    assert books[:40].tolist() != books[40:80].tolist()


def test_stages_and_contexts_together():
    made = two(lengths="0-50%:8,50-80%:16,80-100%:8")
    made.begin(50)
    for step in (0, 24, 25, 39, 40, 49, 60):
        (batch,) = made.batch(step)
        assert batch["input_ids"].shape == ((12, 8) if not 25 <= step < 40 else (6, 16))
        source_of(batch)
    # At context 8 the order goes on behind the phase of 16: the first 120 rows of books are all different.
    layout = made._layout(8)
    rows = np.concatenate([made.items(s) for s in [*range(25), *range(40, 100)]])
    books = rows[rows >= layout.base[1]][: layout.counts[1]]
    assert len(set(books.tolist())) == len(books) == layout.counts[1]


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (("0-100%: web=.8,book=.2",), "did you mean 'books'"),
        (("0-100%: web=1",), "'books' is in no stage"),
        (("0-50%: web=1", "40-100%: books=1"), "overlap"),
        (("0-50%: web=.5,books=.4", "50-100%: books=1"), "add up to 0.9"),
    ],
)
def test_stages_that_do_not_fit(stages, words):
    with pytest.raises(UsageError, match=words):
        two(stages)


def test_a_share_of_nothing_is_allowed_and_an_empty_source_is_not():
    made = two(("0-100%: web=1,books=0",))
    assert made.served(30) == {"web": 180, "books": 0}
    tokens = from_lists([[6, 7], []], (("web", 1), ("books", 1)))
    config = LanguageConfig(stages=STAGES, valid_fraction=0.0)
    with pytest.raises(DataError, match="no document of 'books'"):
        LanguageData(tokens, Specials(), config, objective="clm")


# ---------------------------------------------------------------------- from files


@pytest.fixture
def corpus(tmp_path):
    """web.txt and books.txt of lines, a tokenizer, and a file of evaluation texts that shares two lines of web."""
    generator = np.random.default_rng(1)
    words = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("an", "el", "ir", "om", "us")]
    lines = {n: [" ".join(generator.choice(words, 18)) for _ in range(60)] for n in ("web", "books")}
    for name, texts in lines.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(texts) + "\n")
    held = [" ".join(lines["web"][3].split()[2:16]), lines["web"][9].upper(), "nothing else is shared"]
    (tmp_path / "held.txt").write_text("\n".join(held) + "\n")
    tokenizer = Tokenizer.train([*lines["web"], *lines["books"]], vocab_size=400)
    return tmp_path, tokenizer, lines


def made(corpus, paths, folder="run", valid="", **config):
    home, tokenizer, _ = corpus
    (home / folder).mkdir(exist_ok=True)
    asked = LanguageConfig(**{"context": 32, "batch_size": 4, "documents": "line", **config})
    return assemble("clm", paths, asked, home / folder, valid=valid, tokenizer=tokenizer).data


def test_inputs_have_names(tmp_path):
    assert named("a=b/c.txt") == ("a", "b/c.txt") and named("b/c.txt.gz") == ("c", "b/c.txt.gz")
    odd = tmp_path / "x=y.txt"
    odd.write_text("a")
    assert named(str(odd)) == ("x=y", str(odd)) and paths_of(["a=b", "c"]) == ["b", "c"]


def test_files_are_sources_by_their_names(corpus):
    home, tokenizer, lines = corpus
    paths = [str(home / "web.txt"), f"novels={home / 'books.txt'}"]
    data = made(corpus, paths, stages=("0-50%: web=1", "50-100%: web=.25,novels=.75"))
    assert data.tokens.sources == (("web", 60), ("novels", 60))
    again = made(
        corpus, paths, stages=("0-50%: web=1", "50-100%: web=.25,novels=.75")
    )  # opened, not encoded anew
    assert again.tokens.sources == data.tokens.sources
    data.begin(40)
    assert data.served(40) == {"web": 100, "novels": 60}
    web = {tuple(ids) for ids in tokenizer.encode(lines["web"])}
    (batch,) = data.batch(0)
    for ids, segments in zip(batch["input_ids"].numpy(), batch["segments"].numpy(), strict=True):
        piece = ids[segments == 1].tolist()
        assert piece[0] == 5 or any(w[: len(piece)] == tuple(piece) or set(piece) <= set(w) for w in web)
    together = made(corpus, paths, "other")
    assert together.tokens.sources == () and together.served(3) == {"text": 12}
    assert (np.asarray(together.tokens.ids) == np.asarray(data.tokens.ids)).all()
    with pytest.raises(UsageError, match="two inputs are called 'web'"):
        made(corpus, [paths[0], paths[0]], "third", stages=("0-100%: web=1",))


def test_documents_of_the_validation_file_are_left_out(corpus, capsys):
    home, tokenizer, lines = corpus
    web, held = str(home / "web.txt"), str(home / "held.txt")
    data = made(corpus, [web], valid=held)
    assert "2 of 60 documents share a run of 13 words with" in capsys.readouterr().err
    assert len(data.tokens.lengths) == 58
    left = {tuple(ids) for i, ids in enumerate(tokenizer.encode(lines["web"])) if i not in (3, 9)}
    flat, offsets = np.asarray(data.tokens.ids).tolist(), data.tokens.offsets.astype(int).tolist()
    assert {tuple(flat[a:b]) for a, b in pairwise(offsets)} == left
    assert len(made(corpus, [web], "off", valid=held, decontaminate=("",)).tokens.lengths) == 60
    assert len(made(corpus, [web], "own").tokens.lengths) == 60
    with open(home / "eval.jsonl", "w") as file:
        file.write(json.dumps({"text": lines["web"][20]}) + "\n")
    found = made(corpus, [web], "both", valid=held, decontaminate=(str(home / "eval.jsonl"),))
    assert len(found.tokens.lengths) == 57


def test_bad_evaluation_files(corpus):
    home = corpus[0]
    with pytest.raises(UsageError, match=r"no-such\.txt: no such file"):
        made(corpus, [str(home / "web.txt")], decontaminate=("no-such.txt",))
    with pytest.raises(DataError, match="each of its 60 documents shares"):
        made(corpus, [str(home / "web.txt")], decontaminate=(str(home / "web.txt"),))
    assert evaluation_files(("", "x"), "y") == []

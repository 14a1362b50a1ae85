"""fill-mask: probabilities against a plain forward pass, several masks, long texts, order."""

from typing import Any

import pytest
import torch

from nlpkit.errors import DataError, UsageError
from nlpkit.inference.fill_mask import fill, fill_jointly


def test_candidates_are_those_of_a_plain_forward_pass(loaded: Any) -> None:
    held = loaded("mlm", family="bert")
    answer = next(fill(held, ["the cat <MASK> on the [MASK]"], k=3))
    tokenizer = held.tokenizer
    ids = [
        tokenizer.cls_id,
        *tokenizer.encode(["the cat"])[0],
        tokenizer.mask_id,
        *tokenizer.encode([" on the"])[0],
        tokenizer.mask_id,
        tokenizer.sep_id,
    ]
    with torch.no_grad():
        chance = held.model(torch.tensor([ids]))[0].softmax(-1)
    places = [i for i, token in enumerate(ids) if token == tokenizer.mask_id]
    assert len(answer.masks) == 2
    for candidates, place in zip(answer.masks, places, strict=True):
        assert [c.probability for c in candidates] == sorted(
            (c.probability for c in candidates), reverse=True
        )
        for one in candidates:
            assert one.probability == pytest.approx(float(chance[place, one.id]), rel=1e-4)
        ordinary = chance[place].clone()
        ordinary[:6] = -1
        assert candidates[0].id == int(ordinary.argmax())
    first, second = (row[0].token for row in answer.masks)
    assert answer.filled == f"the cat {first} on the {second}"


def test_a_sure_model_names_its_word(loaded: Any) -> None:
    held = loaded("mlm")
    the = held.tokenizer.encode([" the"])[0]
    assert len(the) == 1
    with torch.no_grad():
        held.model.head.vocabulary.bias[the[0]] += 1000.0
    answer = next(fill(held, ["on <MASK> mat"], k=1))
    assert answer.filled == "on the mat"
    assert answer.masks[0][0].token == "the" and answer.masks[0][0].probability == pytest.approx(1.0)


def test_batches_do_not_change_answers_or_order(loaded: Any) -> None:
    held = loaded("mlm")
    texts = ["a <MASK>", "the dog sat on the <MASK> and on the log", "<MASK> is a list"] * 5
    together = list(fill(held, texts, k=2))
    assert [one.text for one in together] == texts
    for text, one in zip(texts, together, strict=True):
        alone = next(fill(held, [text], k=2))
        assert [c.id for row in alone.masks for c in row] == [c.id for row in one.masks for c in row]
        assert alone.masks[0][0].probability == pytest.approx(one.masks[0][0].probability, rel=1e-4)


def test_a_long_text_is_cut_around_its_mask_and_counted(
    loaded: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    held = loaded("mlm", family="bert", context=16)
    text = "the dog " * 30 + "<MASK>" + " the cat" * 30
    (answer,) = fill(held, [text], k=2)
    assert len(answer.masks) == 1 and len(answer.filled) > len("the dog " * 60)
    assert "1 text" in capsys.readouterr().err
    with pytest.raises(DataError, match="apart"):
        list(fill(held, ["<MASK>" + " the cat" * 30 + " <MASK>"]))


def test_what_cannot_be_answered_is_one_error(loaded: Any) -> None:
    with pytest.raises(DataError, match="no <MASK>"):
        list(fill(loaded("mlm"), ["nothing is hidden"]))
    with pytest.raises(UsageError, match="clm"):
        list(fill(loaded("clm"), ["<MASK>"]))
    with pytest.raises(UsageError, match="-k"):
        list(fill(loaded("mlm"), ["<MASK>"], k=0))


@pytest.mark.parametrize("order", ["certain", "left"])
def test_joint_fillings_are_those_of_an_exhaustive_search(loaded: Any, order: str) -> None:
    held = loaded("mlm", family="bert", depth=1)
    held.model.double()
    tokenizer, text = held.tokenizer, "the <MASK> on <MASK>"
    allowed = [ids[0] for ids in tokenizer.encode([" the", "a", "s"])]
    bias = torch.full((tokenizer.vocab_size,), -1e4, dtype=torch.float64)
    bias[allowed] = torch.tensor([0.0, 2.0, 1.0], dtype=torch.float64)
    held.model.head.vocabulary.bias.data += bias
    the, on = tokenizer.encode(["the", " on"])
    cls, mask, sep = tokenizer.cls_id, tokenizer.mask_id, tokenizer.sep_id

    def chances(first: int, second: int) -> torch.Tensor:
        row = [cls, *the, first, *on, second, sep]
        with torch.inference_mode():
            found = held.model(torch.tensor([row]))[0].softmax(-1)
        return found[[1 + len(the), 2 + len(the) + len(on)]]

    start = chances(mask, mask)
    left = order == "left" or float(start[0].max()) >= float(start[1].max())
    wanted = {}
    for one in allowed:
        for other in allowed:
            if left:
                wanted[one, other] = float(start[0, one] * chances(one, mask)[1, other])
            else:
                wanted[one, other] = float(start[1, other] * chances(mask, other)[0, one])
    (answer,) = fill_jointly(held, [text], k=9, beams=9, order=order)
    assert [tuple(one.ids) for one in answer.fillings] == sorted(wanted, key=lambda ids: -wanted[ids])
    assert [one.probability for one in answer.fillings] == pytest.approx(
        sorted(wanted.values(), reverse=True)
    )
    best = answer.fillings[0]
    assert best.filled == f"the {best.tokens[0]} on {best.tokens[1]}"
    assert sum(one.probability for one in answer.fillings) == pytest.approx(1.0)


def test_one_mask_alone_is_filled_as_ever_and_few_beams_suffice(loaded: Any) -> None:
    held = loaded("mlm")
    texts = ["a <MASK> is a sequence", "MIT is <MASK> in Cambridge, <MASK> and was <MASK> in 1861."]
    single = next(fill(held, texts[:1], k=3)).masks[0]
    first, second = fill_jointly(held, texts, k=3, batch_tokens=20)
    assert [one.ids for one in first.fillings] == [[c.id] for c in single]
    assert [one.probability for one in first.fillings] == pytest.approx([c.probability for c in single])
    assert len(second.fillings) == 3 and all(len(one.ids) == 3 for one in second.fillings)
    assert second.fillings[0].probability >= second.fillings[2].probability > 0
    assert "<MASK>" not in second.fillings[0].filled


def test_joint_settings_that_cannot_be_are_one_error(loaded: Any) -> None:
    with pytest.raises(UsageError, match="--beams"):
        list(fill_jointly(loaded("mlm"), ["<MASK>"], k=3, beams=2))
    with pytest.raises(UsageError, match="--order"):
        list(fill_jointly(loaded("mlm"), ["<MASK>"], order="right"))
    with pytest.raises(UsageError, match="clm"):
        list(fill_jointly(loaded("clm"), ["<MASK>"]))
    with pytest.raises(DataError, match="no <MASK>"):
        list(fill_jointly(loaded("mlm"), ["no word is hidden"]))

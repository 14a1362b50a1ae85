"""The size that a budget chooses; every speed is given, none is measured."""

import time

import pytest

from nlpkit import api, config
from nlpkit.core.operations import batch_operations
from nlpkit.data.assemble import CONFIGS
from nlpkit.data.language import LanguageConfig
from nlpkit.models import clm, mlm
from nlpkit.training import sizing
from nlpkit.training.request import request
from nlpkit.training.settings import TrainConfig
from nlpkit.training.sizing import LADDER, StandIn, choose, foretold_loss

VALUES = {"vocab": 8000, "family": "llama"}


def rows(tokens=10**12, masked=False):
    made = StandIn(LanguageConfig(), 8000, masked, [])
    made.tokens = tokens
    return made


def machine(rate):
    """Seconds of a step on a machine of so many operations a second."""
    return lambda model: 3 * sum(batch_operations(model, b) for b in rows().batch(0)) / rate


def chosen(budget, tokens=10**12, rate=1e11, **settings):
    found = choose(
        clm, VALUES, rows(tokens), TrainConfig(budget=budget, **settings), time.monotonic(), machine(rate)
    )
    return [(s.width, s.depth) for s in LADDER].index((found[0]["width"], found[0]["depth"])), *found


def test_the_law_asks_for_twenty_tokens_a_parameter_at_any_scale():
    for operations in (1e13, 1e16, 1e19):
        best = (operations / 6 / sizing.RATIO) ** 0.5
        around = [best * 2 ** (i / 4) for i in range(-8, 9)]
        losses = [foretold_loss(n, operations / 6 / n, 1e30) for n in around]
        assert losses.index(min(losses)) in (7, 8, 9)
    # Said again it is worth less, and at last next to nothing.
    fresh, again = foretold_loss(1e6, 8e7, 8e7), foretold_loss(1e6, 8e7, 2e7)
    assert fresh < again < foretold_loss(1e6, 2e7, 2e7)
    assert foretold_loss(1e6, 1e13, 2e7) == pytest.approx(foretold_loss(1e6, 1e12, 2e7), rel=1e-6)


def test_more_time_and_a_faster_machine_pay_for_a_larger_model():
    places = [chosen(budget)[0] for budget in ("10s", "10m", "10h", "100d")]
    assert places == sorted(places) and places[0] == 0 and places[1] < places[2] < places[3]
    assert chosen("10m", rate=1e14)[0] > chosen("10m")[0]
    assert chosen("1e17flops")[0] > chosen("1e15flops")[0] > 0
    for budget in ("1h", "1e16flops", "200Mtok"):
        place, values, settings, said = chosen(budget)
        parameters = sum(p.numel() for p in clm.Model(config.build(clm.Config, values)).parameters())
        told = float(said.split("about ")[1].split("M tokens")[0].replace("G", "e3")) * 1e6
        assert 8 < told / parameters < 50, said
        assert f"width {LADDER[place].width}" in said and f"{parameters:,} parameters" in said
        assert settings.epochs == sizing.EPOCHS


def test_a_small_corpus_bounds_the_tokens_and_the_rest_goes_into_size_until_it_is_worth_nothing():
    place, _, settings, said = chosen("100d", tokens=3 * 10**6)
    assert 0 < place < chosen("100d")[0]
    assert chosen("100d", tokens=30)[0] == 0  # nothing to learn from: the smallest
    assert "8 epochs" in said and settings.epochs == 8.0
    assert chosen("1h", tokens=3 * 10**6, epochs=2.0)[2].epochs == 2.0


def test_a_size_that_somebody_gave_is_kept():
    def asked(*overrides, kind="clm", budget="10m", **more):
        flags = {"budget": budget} if budget else {"steps": 5}
        return request(kind, "a.txt", overrides=overrides, flags=flags, data_class=CONFIGS[kind], **more)

    assert asked().sizeable and not {"width", "depth", "heads"} & set(asked().tables["model"])
    assert asked("model.family=gpt2", "model.context=64").sizeable
    for key in ("width=64", "depth=2", "hidden=64"):
        assert not asked(f"model.{key}").sizeable
    assert not asked(budget=None).sizeable and asked(budget=None).tables["model"]["width"] == 128
    assert not asked(start_from="runs/a").sizeable
    assert not asked(kind="mlm", config="demo-mlm").sizeable
    assert asked(kind="mlm", config={"data": {"context": 64}}).sizeable
    assert not asked(kind="biencoder").sizeable
    # What was asked for is written down without a size: the same command asks for the same again.
    assert asked(config=asked().tables).sizeable


def test_what_was_chosen_is_written_before_the_first_step_and_shown_before_anything_is_read(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sizing, "_timed", lambda model, data, trial, seconds: machine(1e11)(model))
    monkeypatch.setattr(sizing, "LADDER", (sizing.Size(8, 1, 1), sizing.Size(16, 2, 2)))
    text = tmp_path / "a.txt"
    text.write_text("".join(f"line {i} says {i * i}, no less\n\n" for i in range(900)))
    more = ["data.vocab_size=300", "data.context=16", "data.batch_size=8"]
    shown = dict(api.preview("clm", [str(text)], tmp_path / "run", overrides=more, budget="60ktok"))
    assert "width 8, depth 1" in shown["size"] and "8 epochs" in shown["size"]
    assert not (tmp_path / "run").exists()
    run = api.train("clm", [str(text)], tmp_path / "run", overrides=more, budget="12ktok", threads=1)
    told = capsys.readouterr().err
    assert told.count("--budget 12ktok: width 8, depth 1, 1 heads") == 1
    decided = config.read_toml(run / "config.toml")
    assert (decided["model"]["width"], decided["model"]["depth"]) == (8, 1)
    assert decided["train"]["steps"] > 0 and decided["train"]["budget"] == ""


def test_a_stand_in_has_the_shape_of_the_run(tmp_path):
    (tmp_path / "ids.npy").write_bytes(bytes(8000))
    (tmp_path / "b.txt").write_text("x" * 4000)
    config_ = LanguageConfig(context=16, batch_size=6, micro_batch=4, mask_rate=0.25)
    made = StandIn(config_, 50, True, sizing.files_in([str(tmp_path), f"name={tmp_path / 'b.txt'}"]))
    assert made.tokens == 4000 + 1000 + 1000 and made.steps_per_epoch == 6000 // 96
    micro = made.batch(0)
    assert [b["input_ids"].shape for b in micro] == [(4, 16), (2, 16)]
    assert int((micro[0]["labels"] >= 0).sum()) == 4 * 4 and list(made.valid()) == []
    model = mlm.Model(mlm.Config(vocab=50, width=8, depth=1, heads=1))
    assert float(model.loss(micro[0])["loss"].detach()) > 0
    assert made.batch(3)[0]["input_ids"].equal(made.batch(3)[0]["input_ids"])

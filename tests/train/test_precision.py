"""`precision: auto` is what the device computes fast, and what a run began with."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from perceptic.cli.main import run
from perceptic.errors import ConfigError
from perceptic.train import muon, precision
from perceptic.train.loop import precision_context
from perceptic.train.precision import likely_device, precision_advice, settled
from perceptic.train.recipe import load_recipe, recipe_names
from perceptic.train.runs import RunCallbacks, train

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False], ids=["with bf16 units", "without"])
def has_units(request, monkeypatch):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: request.param)
    return request.param


def golden_recipe(golden, *changes):
    found = json.loads(golden.read_text())
    kept = [change for change in found["changes"] if not change.startswith("precision")]
    return load_recipe(found["recipe"], (*kept, *changes))


def test_auto_is_what_is_fast(has_units):
    assert settled(load_recipe("nano-core"), CPU).precision == ("bf16" if has_units else "fp32")
    adapters = settled(load_recipe("plm-nano-lora"), CPU)
    assert adapters.precision == adapters.frozen_dtype == ("bf16" if has_units else "fp32")


def test_what_is_asked_for_stays_and_is_advised_against_where_it_is_slow(has_units):
    asked = load_recipe("nano-core", ("precision=bf16",))
    assert settled(asked, CPU) == asked
    assert (precision_advice(asked, CPU) is None) == has_units
    assert precision_advice(asked, torch.device("meta")) is None
    assert precision_advice(load_recipe("nano-core", ("precision=fp32",)), CPU) is None


def test_a_run_keeps_what_it_began_with(has_units):
    recipe = load_recipe("nano-core")
    assert [settled(recipe, CPU, begun).precision for begun in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert settled(recipe, CPU, "auto") == settled(recipe, CPU)


def test_every_nano_recipe_runs_in_what_is_fast():
    for name in recipe_names():
        assert (load_recipe(name).precision == "auto") == ("nano" in name), name


def test_frozen_weights_of_bf16_need_bf16():
    for precision_of_all in ("fp32", "auto"):
        with pytest.raises(ConfigError, match="set 'precision: bf16' too"):
            load_recipe("plm-nano-lora", (f"precision={precision_of_all}", "frozen_dtype=bf16"))


def test_nothing_unsettled_is_computed_with():
    with pytest.raises(AssertionError, match="settled before the run"):
        precision_context("auto")


def test_a_dry_run_is_of_this_machine(has_units, capsys):
    assert likely_device(load_recipe("nano-core", ("device=cpu",))) == CPU
    for asked, told in (("auto", "bf16" if has_units else "fp32"), ("bf16", "bf16")):
        assert run(["train", "nano-core", "--dry-run", "--set", f"precision={asked}", "--set", "device=cpu"]) == 0
        assert f"adamw, {told}" in capsys.readouterr().out


def test_runs_say_what_they_chose_and_go_on_with_it(tmp_path, data_cache, goldens, monkeypatch):
    told: list[str] = []
    golden = goldens / "train" / "nano-core.json"
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: False)
    for changes in ((), ("checkpoint.keep=3",)):
        recipe = golden_recipe(golden, *changes)
        assert recipe.precision == "auto"
        train(recipe, tmp_path / "run", data_cache, callbacks=RunCallbacks(on_advice=told.append))
        assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["precision"] == "fp32"
        # On another machine it would begin in bf16; it has begun.
        monkeypatch.setattr(precision, "computes_bfloat16", lambda device: True)
    assert told == []


def test_a_slow_type_is_told_before_the_run(tmp_path, data_cache, goldens, monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: False)
    recipe = golden_recipe(goldens / "train" / "nano-core.json", "precision=bf16")
    train(recipe, tmp_path / "run", data_cache, callbacks=RunCallbacks(on_advice=told.append))
    assert ["precision=auto" in text for text in told] == [True]


def test_matrices_are_as_orthogonal_in_either_type(monkeypatch):
    torch.manual_seed(0)
    x_NMK = torch.randn(3, 24, 40)
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(muon, "_fast_type", lambda device, dtype=dtype: dtype)
        found = muon.orthogonal(x_NMK)
        assert found.dtype == torch.float32
        values = torch.linalg.svdvals(found)
        assert values.min() > 0.5
        assert values.max() < 1.5

"""Claims: intervals and verdicts by hand, results that are kept, the budget, the experiments' parts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from perceptic.cli.main import run
from perceptic.data.shards import ShardSource
from perceptic.errors import ConfigError, DataError
from perceptic.evaluate.claims import battery, distilling, layerwise, mirrored, order, recipes, video
from perceptic.evaluate.claims.claim import Claim, Curve, Quantity, SeedResult, Setting, estimate, judge, judge_all
from perceptic.evaluate.claims.grounding import box_shares
from perceptic.evaluate.claims.mini import Arm, mini_recipe, run_name, trained
from perceptic.evaluate.claims.registry import CLAIMS, find_claims
from perceptic.evaluate.claims.report import render_finding, write_findings
from perceptic.evaluate.claims.runner import ClaimOptions, Finding, run_claim
from perceptic.evaluate.layers_features import intermediate_maps
from perceptic.models.vision import VisionTransformer
from perceptic.text.bpe_training import train_bpe
from perceptic.train.recipe import Recipe, load_recipe, parse_yaml
from perceptic.weights.pretrained import load_bundle
from perceptic.world.vocabulary import LETTERS

ABOVE = Quantity("gain", "points", "above")


def test_the_interval_is_students() -> None:
    """1, 2, 3: mean 2, deviation 1, t(2) = 4.303, half width 4.303 / sqrt(3) = 2.484."""
    found = estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, -0.4843, 4.4843), abs=1e-3)
    assert math.isnan(estimate([1.0]).low)
    for values in ([], [1.0, math.nan]):
        with pytest.raises(DataError, match="finite effects"):
            estimate(values)


@pytest.mark.parametrize(
    ("quantity", "values", "verdict"),
    [
        (ABOVE, [1.0, 1.1, 1.2], "holds"),
        (ABOVE, [-1.0, -1.1, -1.2], "does not hold"),
        (ABOVE, [-1.0, 1.0, 2.0], "undecided"),
        (ABOVE, [0.0, 0.0, 0.0], "undecided"),
        (ABOVE, [5.0, 5.0], "undecided"),  # two seeds decide nothing
        (Quantity("gain", "points", "below"), [-1.0, -1.1, -1.2], "holds"),
        (Quantity("gain", "points", "below"), [1.0, 1.1, 1.2], "does not hold"),
        (Quantity("gain", "points", "above", threshold=2.0), [1.0, 1.1, 1.2], "does not hold"),
        (Quantity("tie", "points", "equal", margin=1.0), [0.1, 0.0, -0.1], "holds"),
        (Quantity("tie", "points", "equal", margin=1.0), [3.0, 3.1, 3.2], "does not hold"),
        (Quantity("tie", "points", "equal", margin=1.0), [-3.0, 0.0, 3.0], "undecided"),
        (Quantity("tie", "points", "equal", margin=1.0), [0.0, 0.0, 0.0], "holds"),
    ],
)
def test_verdicts(quantity: Quantity, values: list[float], verdict: str) -> None:
    assert judge(quantity, estimate(values)) == verdict


def test_a_claim_holds_only_if_all_that_decides_holds() -> None:
    assert judge_all(["holds", "holds"]) == "holds"
    assert judge_all(["holds", "undecided"]) == "undecided"
    assert judge_all(["undecided", "does not hold"]) == "does not hold"
    with pytest.raises(ConfigError, match="quantity"):
        judge_all([])


def made_up(calls: list[int]) -> Claim:
    def experiment(seed: int, setting: Setting) -> SeedResult:
        calls.append(seed)
        return SeedResult({"gain": 1.0 + seed / 10}, {"first": 2.0}, (Curve("c", (1.0, 2.0), (0.5, 0.7)),))

    return Claim(99, "A <claim>", "It is said.", "It is done.", (ABOVE,), experiment, 1.0, "It is small.", ("x", "y"))


def test_results_are_kept_and_added_to(tmp_path: Path) -> None:
    calls: list[int] = []
    claim = made_up(calls)
    assert run_claim(claim, ClaimOptions(num_seeds=2), tmp_path) is not None
    finding = run_claim(claim, ClaimOptions(num_seeds=4), tmp_path)
    assert calls == [0, 1, 2, 3]
    assert finding is not None
    assert finding.verdict == "holds"
    assert finding.seeds == (0, 1, 2, 3)


def test_a_kept_result_of_another_experiment_is_not_used(tmp_path: Path) -> None:
    calls: list[int] = []
    run_claim(made_up(calls), ClaimOptions(num_seeds=1), tmp_path)
    path = tmp_path / "claim-99" / "seed-0.json"
    path.write_text(path.read_text().replace("It is done.", "Something else."))
    run_claim(made_up(calls), ClaimOptions(num_seeds=1), tmp_path)
    assert calls == [0, 0]
    path.write_text("{")
    with pytest.raises(DataError, match=r"seed-0\.json: cannot be read"):
        run_claim(made_up(calls), ClaimOptions(num_seeds=1), tmp_path)


def test_a_spent_budget_begins_no_seed_and_still_reads_kept_ones(tmp_path: Path) -> None:
    calls: list[int] = []
    broke = ClaimOptions(num_seeds=3, budget_minutes=0)
    assert run_claim(made_up(calls), broke, tmp_path) is None
    assert calls == []
    run_claim(made_up(calls), ClaimOptions(num_seeds=1), tmp_path)
    finding = run_claim(made_up(calls), broke, tmp_path)
    assert finding is not None
    assert finding.out_of_budget
    assert finding.verdict == "undecided"
    assert calls == [0]


def test_a_page_says_verdict_interval_and_limits(tmp_path: Path) -> None:
    finding = run_claim(made_up([]), ClaimOptions(), tmp_path)
    assert isinstance(finding, Finding)
    page = render_finding(finding)
    assert "<b>Holds</b>, over 3 seeds" in page
    assert "A &lt;claim&gt;" in page
    assert "It is small." in page
    assert page.count("<svg") == 2
    assert "nan" not in page
    assert 'aria-label=""' not in page
    write_findings([finding], tmp_path)
    assert json.loads((tmp_path / "claims.json").read_text())[0]["effects"][0]["mean"] == pytest.approx(1.1)
    assert 'href="claim-99.html"' in (tmp_path / "claims.html").read_text()


def test_a_single_seed_has_a_page_too(tmp_path: Path) -> None:
    finding = run_claim(made_up([]), ClaimOptions(num_seeds=1), tmp_path)
    assert finding is not None
    write_findings([finding], tmp_path)
    assert json.loads((tmp_path / "claims.json").read_text())[0]["effects"][0]["low"] is None


def test_the_registry_knows_its_numbers() -> None:
    assert [claim.number for claim in find_claims([])] == sorted(CLAIMS)
    with pytest.raises(ConfigError, match="claim 2, 99: not implemented; there are 1, "):
        find_claims([1, 2, 99])
    for claim in CLAIMS.values():
        assert any(quantity.decides for quantity in claim.quantities)


def test_the_command_lists_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["claims", "--list"]) == 0
    assert "Mean pooling cannot see order" in capsys.readouterr().out
    assert run(["claims", "3", "--out", str(tmp_path)]) == 1
    assert run(["claims", "18", "--budget", "0", "--out", str(tmp_path)]) == 0
    assert "not run" in capsys.readouterr().err


# Experiments


RECIPE_ARMS = (recipes.BASE, recipes.PROGRESSIVE, recipes.HIGH_LAST, recipes.ABSOLUTE_ONLY, recipes.AUGMENTED)
OTHER_ARMS = (distilling.ALONE, *distilling.STUDENTS.values(), video.CLIPS, video.PICTURES, mirrored.FLIPPED)


@pytest.mark.parametrize("arm", [*RECIPE_ARMS, *OTHER_ARMS], ids=lambda arm: arm.name)
def test_every_arm_is_a_recipe(arm: Arm, tmp_path: Path) -> None:
    path = tmp_path / "mini.yaml"
    path.write_text(mini_recipe(arm.recipe))
    steps = []
    for scale in (1.0, 0.5):
        loaded = load_recipe(path, (*arm.scaled(scale).all_changes, "seed=1"))
        assert isinstance(loaded, Recipe)
        steps.append(loaded.num_steps)
    assert steps[1] == pytest.approx(steps[0] / 2, abs=2)


@pytest.mark.parametrize("arm", RECIPE_ARMS, ids=lambda arm: arm.name)
def test_arms_use_as_many_tokens_as_they_say(arm: Arm) -> None:
    stages = arm.stages or recipes.BASE.scaled(1.0001).stages
    tokens = sum(steps * (size // 8) ** 2 for size, steps in stages)
    share = {"progressive": 0.60, "high resolution last": 1.02}.get(arm.name, 1.0)
    assert tokens / (500 * 4**2) == pytest.approx(share, abs=0.02)


def test_runs_are_named_by_what_decides_them() -> None:
    assert run_name(Arm("a", ("x=1", "y=2")), 0) == run_name(Arm("a", ("y=2", "x=1")), 0)
    names = {run_name(Arm("a", changes), seed) for changes in ((), ("x=1",)) for seed in (0, 1)}
    assert len(names) == 4


def test_order_cannot_be_seen_in_a_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "_NUM_CLIPS", 12)
    found = order.run(0, Setting(tmp_path))
    assert found.effects["direction from the mean of frames, above guessing"] == 0.0
    assert found.scores["largest difference of a clip's two embeddings"] < 1e-5


def test_letters_that_are_letters_in_a_mirror_do_not_count() -> None:
    counted = {LETTERS[number] for number in mirrored.one_way_letters()}
    assert {"F", "G", "7"} <= counted
    assert not {"A", "H", "O", "8"} & counted


def test_a_shard_of_letters_is_what_a_recipe_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrored, "_TRAIN", 6)
    (change,) = mirrored.write_glyphs(tmp_path)
    source = ShardSource.find((str(tmp_path / "glyphs" / "train.tar"),), image_size=32)
    expected = list(mirrored.glyphs("train", 6))
    for sample, glyph in zip(source.read(0, 6), expected, strict=True):
        assert np.array_equal(sample.pixels[0].transpose(1, 2, 0), glyph.pixels)
        assert sample.captions[0].endswith(f"the letter {LETTERS[glyph.label]}")
        assert not sample.is_flip_safe
    assert change == f"data.glyphs.shards=['{tmp_path / 'glyphs' / 'train.tar'}']"


def test_the_letters_have_words_enough_for_their_vocabulary() -> None:
    sizes = parse_yaml(mini_recipe("glyphs"), "glyphs")["model_overrides"]["text"]
    told = [template.format(letter) for template in mirrored._TEMPLATES for letter in LETTERS]
    tokenizer = train_bpe(told * 2, sizes["vocab_size"], context_length=sizes["context_length"])
    assert tokenizer.vocab_size == sizes["vocab_size"]


def test_a_box_is_spread_over_the_patches_it_covers() -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 1.0, 0.75]])
    shares = box_shares(boxes, 2)
    assert shares.tolist() == [
        pytest.approx([1.0, 0.0, 0.0, 0.0]),
        pytest.approx([0.0, 0.0, 0.5, 0.5]),
        pytest.approx([1 / 3, 1 / 3, 1 / 6, 1 / 6]),
    ]


def test_windows_are_the_same_for_every_arm() -> None:
    battery.windows.cache_clear()
    first = battery.windows("outline")
    battery.windows.cache_clear()
    assert (battery.windows("outline").pixels == first.pixels).all()
    assert first.pixels.shape[1:] == (1, 3, 48, 48)


FEW = ("data.closeups.count=300", "tokenizer.num_samples=300")


@pytest.mark.slow
def test_a_run_is_kept_and_measured(tmp_path: Path) -> None:
    """Two steps: trained, kept, and measured; an untrained encoder guesses."""
    arm = Arm("short", FEW, stages=((32, 2),))
    folder = trained(arm, 0, Setting(tmp_path))
    assert trained(arm, 0, Setting(tmp_path)) == folder
    scores = battery.shape_accuracy(folder, 32)
    assert set(scores) == {"known", "foreign", "poses and backgrounds", "palette swap", "outline", "confusables"}
    assert scores["known"] < 20.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "arm",
    [
        replace(distilling.ALONE, changes=(*distilling.ALONE.changes, "data.closeups.count=300")),
        replace(distilling.STUDENTS[200], changes=(*distilling.STUDENTS[200].changes, "data.closeups.count=300")),
        replace(video.CLIPS, changes=("data.clips.count=40", "data.images.count=40")),
        replace(video.PICTURES, changes=(*video.PICTURES.changes, "data.clips.count=40", "data.images.count=300")),
    ],
    ids=lambda arm: arm.name,
)
def test_arms_with_a_teacher_or_a_start_train(arm: Arm, tmp_path: Path) -> None:
    short = arm.scaled(1 / 250) if arm.recipe == "mini" else arm.scaled(1 / 60)
    assert (trained(short, 0, Setting(tmp_path)) / "model.safetensors").exists()


def test_a_finer_tower_sees_the_same_at_twice_the_size(tmp_path: Path) -> None:
    """Loaded as its own model it gives what the encoder gives for a larger picture."""
    folder = layerwise.finer_tower("PE-Core-Nano", tmp_path / "finer")
    assert layerwise.finer_tower("PE-Core-Nano", folder) == folder
    bundle = load_bundle(folder, kind="vision", dtype=torch.float32)
    assert bundle.preprocessing.image_size == 128
    pixels = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    own = load_bundle("PE-Core-Nano", kind="vision", dtype=torch.float32).model
    assert isinstance(own, VisionTransformer)
    assert isinstance(bundle.model, VisionTransformer)
    with torch.inference_mode():
        first, second = (intermediate_maps(tower.eval(), pixels, [0, 5]) for tower in (own, bundle.model))
    for one, other in zip(first, second, strict=True):
        assert one.shape[1:3] == (16, 16)
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_layers_are_compared_on_both_resolutions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layerwise, "_LIMIT", 8)
    found = layerwise.run(0, Setting(tmp_path))
    assert set(found.effects) == {quantity.name for quantity in layerwise.CLAIM.quantities}
    grids = {"tracking", "tracking, the model's own grid"}
    ceilings = {name: found.scores[f"{name}, true masks on this patch grid"] for name in grids}
    assert ceilings["tracking"] > ceilings["tracking, the model's own grid"]

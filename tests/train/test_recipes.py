"""Every packaged recipe: complete, true to what is published, and with its losses of ten steps."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from perceptic.configs import clip_config
from perceptic.train.recipe import Recipe, load_recipe, recipe_names
from perceptic.train.runs import train

FOLDER = Path(__file__).parents[1] / "goldens" / "train"
PAPER_MODELS = ("PE-Core-T16-384", "PE-Core-S16-384", "PE-Core-B16-224", "PE-Core-L14-336", "PE-Core-G14-448")
ENCODER_RECIPES = [name for name in recipe_names() if isinstance(load_recipe(name), Recipe)]
GOLDEN_RECIPES = sorted(path.stem for path in FOLDER.glob("*.json"))
SAME_AS_A_SISTER = {
    f"pe-{kind}-{size}"
    for kind, sizes in {
        "core": ("t16-384", "s16-384", "l14-336"),
        "distill": ("s16-384", "b16-224", "l14-336"),
        "video": ("t16-384", "s16-384", "l14-336", "g14-448"),
    }.items()
    for size in sizes
}
"""They differ from another recipe in model and resolutions, which ten shrunken steps do not have."""


def short_losses(name, out, cache):
    golden = json.loads((FOLDER / f"{name}.json").read_text())
    assert golden["recipe"] == name
    train(load_recipe(name, tuple(golden["changes"])), out, cache)
    return golden["losses"], [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SAME_AS_A_SISTER else ()) for name in GOLDEN_RECIPES],
)
def test_ten_steps_have_their_losses(name, tmp_path, data_cache):
    """Rounding differs between processors; ten steps at small learning rates do not let it grow."""
    expected, found = short_losses(name, tmp_path / "run", data_cache)
    assert len(expected) == max(10, len(load_recipe(name).phases))
    assert found == pytest.approx(expected, rel=1e-3)


def test_every_encoder_recipe_has_its_losses():
    assert set(GOLDEN_RECIPES) >= set(ENCODER_RECIPES)


@pytest.mark.parametrize("model", PAPER_MODELS)
def test_pretraining_is_what_is_published(model):
    recipe = load_recipe(f"pe-core-{model.removeprefix('PE-Core-').lower()}")
    images, cooldown = recipe.phases
    assert recipe.model == model
    assert (recipe.optimizer.name, recipe.optimizer.betas, recipe.optimizer.weight_decay) == ("lamb", (0.9, 0.95), 0.05)
    assert (images.learning_rate, images.batch_size, images.warmup_steps) == (2e-3, 131_072, 2000)
    assert images.num_steps == (656_000 if model == "PE-Core-G14-448" else 443_000)
    assert recipe.max_logit_scale == 100.0
    assert (recipe.mask.share * images.batch_size, recipe.mask.ratio) == (8192, 0.4)
    varied = images.augmentation
    assert (varied.crop_scale, varied.crop_ratio) == ((0.08, 1.0), pytest.approx((0.75, 1.33), abs=0.005))
    assert (varied.brightness, varied.contrast, varied.saturation, varied.hue) == (0.32, 0.0, 0.32, 0.0)
    assert (varied.flip_share, varied.flip_unsafe) == (0.5, True)
    assert cooldown.num_steps * cooldown.batch_size == pytest.approx(50e6, rel=0.01)
    assert cooldown.augmentation == varied


@pytest.mark.parametrize("model", PAPER_MODELS)
def test_resolutions_rise_in_whole_patches_to_the_models_own(model):
    recipe = load_recipe(f"pe-core-{model.removeprefix('PE-Core-').lower()}")
    sizes = [stage.image_size for phase in recipe.phases for stage in phase.stages]
    config = clip_config(model).vision
    assert sizes == sorted(sizes)
    assert sizes[-1] == config.image_size
    assert all(size % config.patch_size == 0 for size in sizes)


def test_published_ladders():
    for name, ladder in {
        "pe-core-b16-224": [112, 160, 224],
        "pe-core-l14-336": [98, 154, 224, 336],
        "pe-core-g14-448": [98, 154, 224, 336, 448],
    }.items():
        assert [stage.image_size for stage in load_recipe(name).phases[0].stages] == ladder


@pytest.mark.parametrize("model", PAPER_MODELS[:4])
def test_distillation_is_what_is_published(model):
    size = model.removeprefix("PE-Core-").lower()
    recipe = load_recipe(f"pe-distill-{size}")
    (phase,) = recipe.phases
    assert (recipe.distill.teacher, recipe.distill.teacher_logit_scale) == ("PE-Core-G14-448", 200.0)
    assert recipe.distill.student_image_size == clip_config(model).vision.image_size
    assert (phase.learning_rate, phase.batch_size, phase.warmup_steps) == (1e-6, 16_384, 2000)
    assert phase.num_steps == 269_000
    varied = phase.augmentation
    assert (varied.crop_share, varied.brightness, varied.saturation, varied.flip_share) == (0.0, 0.0, 0.0, 0.0)
    assert recipe.init == f"runs/pe-core-{size}/model"


@pytest.mark.parametrize("model", PAPER_MODELS)
def test_video_finetuning_is_what_is_published(model):
    size = model.removeprefix("PE-Core-").lower()
    recipe = load_recipe(f"pe-video-{size}")
    (phase,) = recipe.phases
    assert recipe.data[phase.data].num_frames == 8
    assert (phase.learning_rate, phase.batch_size, phase.warmup_steps, phase.num_steps) == (1e-6, 4096, 2000, 5400)
    assert phase.stages[0].image_size == clip_config(model).vision.image_size
    assert recipe.mask is None
    # G has no teacher: it comes from pretraining, the others from distillation.
    before = "core" if model == "PE-Core-G14-448" else "distill"
    assert recipe.init == f"runs/pe-{before}-{size}/model"


@pytest.mark.parametrize("name", [name for name in ENCODER_RECIPES if name.startswith("pe-")])
def test_a_paper_recipe_marks_what_is_not_published(name):
    text = (resources.files("perceptic.train") / "recipes" / f"{name}.yaml").read_text()
    assert "not published" in text

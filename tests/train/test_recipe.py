"""Recipes are read strictly: every mistake is named with its key."""

import dataclasses

import pytest

from perceptic.errors import ConfigError
from perceptic.train.recipe import load_recipe, recipe_names

TINY = """
name: tiny
model: PE-Core-Nano
data:
  images: {source: world-images, count: 64, image_size: 32}
tokenizer: {data: images, num_samples: 64}
phases:
  - name: images
    data: images
    batch_size: 8
    learning_rate: 1e-3
    warmup_steps: 1
    augmentation: {crop_scale: [0.5, 1.0]}
    stages:
      - {image_size: 16, steps: 2}
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    return file


def test_values_become_typed_and_frozen(path):
    recipe = load_recipe(path)
    phase = recipe.phases[0]
    assert phase.learning_rate == 0.001  # YAML 1.1 reads 1e-3 as text
    assert phase.augmentation.crop_scale == (0.5, 1.0)
    assert recipe.data["images"].count == 64
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 3


def test_set_changes_nested_and_listed_keys(path):
    changes = ("seed=7", "phases.0.stages.0.steps=9", "optimizer.name=adamw", "phases.0.augmentation.brightness=0.5")
    recipe = load_recipe(path, changes)
    assert (recipe.seed, recipe.num_steps, recipe.optimizer.name) == (7, 9, "adamw")
    assert recipe.phases[0].augmentation.brightness == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sed=1", "sed: no such key; did you mean 'seed'"),
        ("phases.0.learning_rat=1", "phases.0.learning_rat: no such key; did you mean 'learning_rate'"),
        ("optimizer.name=sgd", "optimizer.name: must be one of lamb, adamw"),
        ("seed=one", "seed: expected int, not 'one'"),
        ("compile=1", "compile: expected bool, not 1"),
        ("seed=true", "seed: expected int, not True"),
        ("phases.1.name=x", "'1' leads nowhere"),
        ("phases.0.data=video", "no data is named 'video'"),
        ("phases.0.augmentation.crop_scale=[1]", "crop_scale: expected 2 values, not 1"),
        ("phases=[]", "needs a phase"),
        ("seed", "write key=value"),
        ("seed=[", "is not valid YAML"),
        ("loss=l2", "loss: must be one of infonce, siglip"),
        ("objective=distill", "'objective: distill' and this block"),
        ("distill={teacher: PE-Core-Nano}", "'objective: distill' and this block"),
        ("mask={ratio: 2.0}", "mask.ratio"),
        ("tokenizer={data: images, model: PE-Core-Nano}", "not both"),
        ("data.images.source=stream", "a stream has no end"),
    ],
)
def test_mistakes_name_the_key(path, change, message):
    with pytest.raises(ConfigError) as error:
        load_recipe(path, (change,))
    assert message in str(error.value)


def test_one_text_is_a_list_of_one(path):
    recipe = load_recipe(path, ("data.images.source=stream", "data.images.shards=a/*.tar", "tokenizer=null"))
    assert recipe.data["images"].shards == ("a/*.tar",)


def test_a_missing_key_is_named(path):
    path.write_text(TINY.replace("    batch_size: 8\n", ""))
    with pytest.raises(ConfigError, match=r"phases\.0\.batch_size: is missing"):
        load_recipe(path)


def test_an_unknown_recipe_lists_the_packaged_ones():
    with pytest.raises(ConfigError, match="nano-core"):
        load_recipe("no-such-recipe")


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipes_are_valid(name):
    assert load_recipe(name).name == name

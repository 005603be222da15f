"""The flat list of steps of a recipe."""

from perceptic.train.plan import plan_steps
from perceptic.train.recipe import Recipe
from perceptic.train.strict import build

RECIPE = build(
    Recipe,
    {
        "name": "two-phases",
        "model": "PE-Core-Nano",
        "data": {"a": {"source": "world-images"}, "b": {"source": "world-clips"}},
        "tokenizer": {"data": "a"},
        "phases": [
            {
                "name": "first", "data": "a", "batch_size": 8, "learning_rate": 0.1, "warmup_steps": 2,
                "stages": [{"image_size": 32, "steps": 3}, {"image_size": 64, "steps": 2}],
            },
            {
                "name": "second", "data": "b", "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 0,
                "stages": [{"image_size": 64, "steps": 2}],
            },
        ],
    },
    "",
)  # fmt: skip


def test_steps_follow_phases_and_stages():
    steps = plan_steps(RECIPE)
    assert [step.index for step in steps] == list(range(7)) == list(range(RECIPE.num_steps))
    assert [step.phase.name for step in steps] == ["first"] * 5 + ["second"] * 2
    assert [step.step_in_phase for step in steps] == [0, 1, 2, 3, 4, 0, 1]
    assert [step.image_size for step in steps] == [32, 32, 32, 64, 64, 64, 64]


def test_each_phase_has_its_own_schedule():
    rates = [step.learning_rate for step in plan_steps(RECIPE)]
    assert rates[:3] == [0.05, 0.1, 0.1]
    assert rates[3] < 0.1
    assert rates[5] == 0.01

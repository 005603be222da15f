"""The steps of a recipe as a flat list: what each step trains on, at which size and learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from perceptic.train.recipe import PhaseRecipe, Recipe
from perceptic.train.schedule import cosine_with_warmup


@dataclass(frozen=True)
class PlannedStep:
    """`index` counts from 0 in the run, `step_in_phase` in its phase."""

    index: int
    phase: PhaseRecipe
    step_in_phase: int
    image_size: int

    @property
    def learning_rate(self) -> float:
        phase = self.phase
        return cosine_with_warmup(
            self.step_in_phase, phase.num_steps, phase.learning_rate, phase.warmup_steps, phase.final_learning_rate
        )


def plan_steps(recipe: Recipe) -> list[PlannedStep]:
    """Every step of the run in order."""
    steps: list[PlannedStep] = []
    for phase in recipe.phases:
        sizes = [stage.image_size for stage in phase.stages for _ in range(stage.steps)]
        first = len(steps)
        steps.extend(PlannedStep(first + i, phase, i, size) for i, size in enumerate(sizes))
    return steps


def samples_before(recipe: Recipe, step: int) -> int:
    """Pairs that the first `step` steps of the run use."""
    total = 0
    for phase in recipe.phases:
        total += phase.batch_size * max(0, min(step, phase.num_steps))
        step -= phase.num_steps
    return total

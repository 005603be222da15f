"""The steps of a recipe as a flat list: which phase each is of, and its learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from perceptic.train.run_recipe import Phase, RunRecipe
from perceptic.train.schedule import cosine_with_warmup


@dataclass(frozen=True)
class PlannedStep:
    """`index` counts from 0 in the run, `step_in_phase` in its phase; `image_size` is 0 where phases have none."""

    index: int
    phase: Phase
    step_in_phase: int
    image_size: int = 0
    warmup_from_zero: bool = False

    @property
    def learning_rate(self) -> float:
        phase = self.phase
        return cosine_with_warmup(
            self.step_in_phase,
            phase.num_steps,
            phase.learning_rate,
            phase.warmup_steps,
            phase.final_learning_rate,
            from_zero=self.warmup_from_zero,
        )


def plan_steps(recipe: RunRecipe) -> list[PlannedStep]:
    """Every step of the run in order."""
    steps: list[PlannedStep] = []
    from_zero = recipe.optimizer.warmup_from == "zero"
    for phase in recipe.schedule:
        first = len(steps)
        steps.extend(PlannedStep(first + i, phase, i, phase.image_size(i), from_zero) for i in range(phase.num_steps))
    return steps

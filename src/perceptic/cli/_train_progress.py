"""How a training run looks at the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceptic.train.metrics import StepMetrics
    from perceptic.train.recipe import AnyRecipe
    from perceptic.train.runs import RunCallbacks


class TrainProgress:
    """A progress bar for the data and one for the steps, with loss, rate and time left."""

    def __init__(self, recipe: AnyRecipe) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.recipe = recipe
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> TrainProgress:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def callbacks(self) -> RunCallbacks:
        """What to give to `train`."""
        from perceptic.train.runs import RunCallbacks

        return RunCallbacks(self._on_data, self._on_start, self._on_step, self._on_advice)

    def _on_advice(self, advice: str) -> None:
        self.bar.console.print(f"Note: {advice}.", highlight=False)

    def _on_data(self, name: str, done: int, total: int) -> None:
        self._update(f"data: {name}", done, total, "")

    def _on_start(self, step: int) -> None:
        self._update("training", step, self.recipe.num_steps, "")

    def _on_step(self, metrics: StepMetrics) -> None:
        self._update("training", metrics.step + 1, self.recipe.num_steps, _note(metrics))

    def _update(self, key: str, done: int, total: int, note: str) -> None:
        if key not in self.tasks:
            self.tasks[key] = self.bar.add_task(key, total=total, completed=done, note=note)
        self.bar.update(self.tasks[key], completed=done, note=note)


def _note(metrics: StepMetrics) -> str:
    parts = [f"loss {metrics.loss:.3f}"]
    extra = metrics.extra
    if "accuracy" in extra:
        parts.append(f"accuracy {extra['accuracy']:.2f}")
    parts.append(f"{1 / metrics.seconds:.2f} steps/s")
    if "tokens" in extra:
        parts.append(f"{extra['tokens'] / metrics.seconds:,.0f} tokens/s")
    parts.append(f"data {100 * metrics.data_seconds / metrics.seconds:.0f} %")
    parts.append(metrics.phase + (f" {extra['image_size']:.0f} px" if "image_size" in extra else ""))
    return "  ".join(parts)

"""Modules whose weights are rearranged for inference: neither trained nor saved, moved or cast."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, Self

from torch import nn

from perceptic.errors import ConfigError


class InferenceOnly(nn.Module):
    """To inherit from before the module it stands for. `made_by` names the function that makes it, for messages."""

    made_by: ClassVar[str]

    def train(self, mode: bool = True) -> Self:
        """Only evaluation mode exists. Raises ConfigError for `train(True)`."""
        if mode:
            self._refuse("trained")
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """There is none: weights are packed. Raises ConfigError."""
        self._refuse("saved")

    def _apply(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("moved or cast")

    def _refuse(self, what: str) -> NoReturn:
        raise ConfigError(f"an accelerated model cannot be {what}: use the model that was given to {self.made_by}()")

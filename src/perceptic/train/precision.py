"""What `precision: auto` becomes on a device, and which precisions are slow there."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch

from perceptic.inference.processors import computes_bfloat16
from perceptic.train.plm_recipe import PlmRecipe
from perceptic.train.recipe import AnyRecipe

R = TypeVar("R", bound=AnyRecipe)


def settled(recipe: R, device: torch.device, begun_with: object = None) -> R:
    """A recipe without `auto`: bf16 where the device multiplies it in hardware, else fp32.

    Args:
        device: of this process; all processes of a run have the same kind.
        begun_with: the precision of the run that is gone on with, which then is kept wherever it goes on.
    """
    if recipe.precision == "auto":
        begun = begun_with if begun_with in ("fp32", "bf16") else None
        precision: Any = begun or ("bf16" if computes_bfloat16(device) else "fp32")
        recipe = dataclasses.replace(recipe, precision=precision)
    if isinstance(recipe, PlmRecipe) and recipe.frozen_dtype == "auto":
        recipe = dataclasses.replace(recipe, frozen_dtype=recipe.precision)
    return recipe


def likely_device(recipe: AnyRecipe) -> torch.device:
    """Where the recipe would run if it were started here."""
    return torch.device("cuda" if recipe.device != "cpu" and torch.cuda.is_available() else "cpu")


def precision_advice(recipe: AnyRecipe, device: torch.device) -> str | None:
    """What to say before a run that will be slow for its number type alone; None if it will not."""
    if recipe.precision != "bf16" or device.type != "cpu" or computes_bfloat16(device):
        return None
    return (
        "this processor has no units for bf16 and may take ten times as long with it as with fp32; "
        "a run that begins with '--set precision=auto' takes what is fast here"
    )

"""Which setup a recipe needs."""

from __future__ import annotations

from perceptic.train.encoder_setup import EncoderSetup
from perceptic.train.parts import RunContext, Setup
from perceptic.train.plm_recipe import PlmRecipe
from perceptic.train.plm_setup import PlmSetup
from perceptic.train.recipe import AnyRecipe


def prepare(recipe: AnyRecipe, context: RunContext) -> Setup:
    """Make a recipe's data ready.

    Raises:
        DataError: data that cannot be read. ConfigError: names that do not exist.
    """
    if isinstance(recipe, PlmRecipe):
        return PlmSetup.prepare(recipe, context)
    return EncoderSetup.prepare(recipe, context)

"""What `perceptic train --dry-run` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from perceptic.cli._shared import print_json

if TYPE_CHECKING:
    from perceptic.train.estimate import Estimate
    from perceptic.train.plm_estimate import PlmEstimate
    from perceptic.train.recipe import AnyRecipe


def print_estimate(recipe: AnyRecipe, processes: int, as_json: bool) -> None:
    """Parameters, memory on each device, tokens per step and steps per epoch; nothing is allocated or fetched."""
    from perceptic.train.estimate import estimate
    from perceptic.train.plm_estimate import estimate_plm
    from perceptic.train.plm_recipe import PlmRecipe
    from perceptic.train.precision import likely_device, settled

    recipe = settled(recipe, likely_device(recipe))
    if isinstance(recipe, PlmRecipe):
        plm_figures = estimate_plm(recipe, processes)
        print_json(plm_figures) if as_json else _print_plm(recipe, plm_figures)
        return
    figures = estimate(recipe, processes)
    print_json(figures) if as_json else _print_encoder(recipe, figures)


def _print_plm(recipe: AnyRecipe, figures: PlmEstimate) -> None:
    _print_head(recipe, figures.processes)
    for phase in figures.phases:
        rows = "rows are counted once the data is there"
        if phase.rows is not None:
            rows = f"{phase.rows:,} rows, at most {phase.steps_per_epoch:,} steps an epoch"
        click.echo(f"phase       {phase.name}: {phase.steps:,} steps of {phase.tokens_per_step:,} tokens; {rows}")
        click.echo(f"  learns    {phase.trainable:,} of {phase.parameters:,} parameters")
        click.echo(
            f"  memory    {_size(phase.device_bytes)} on each device: weights {_size(phase.weight_bytes)}, gradients "
            f"{_size(phase.gradient_bytes)}, optimiser {_size(phase.optimizer_bytes)}, activations about "
            f"{_size(phase.activation_bytes)}"
        )


def _print_encoder(recipe: AnyRecipe, figures: Estimate) -> None:
    _print_head(recipe, figures.processes)
    click.echo(f"parameters  {figures.parameters:,}")
    teacher = f", {_size(figures.teacher_bytes)} teacher" if figures.teacher_bytes else ""
    click.echo(
        f"memory      {_size(figures.device_bytes)} on each device: {_size(figures.state_bytes)} weights, gradients "
        f"and optimiser{teacher}, and activations"
    )
    click.echo(f"data        {_size(figures.data_bytes)} decoded, mapped from disk")
    for phase in figures.phases:
        epochs = f", {phase.epochs:.1f} epochs of {phase.steps_per_epoch:,} steps" if phase.steps_per_epoch else ""
        click.echo(
            f"phase       {phase.name}: {phase.steps:,} steps, {phase.samples:,} samples{epochs}; up to "
            f"{phase.tokens_per_step:,} tokens a step, about {_size(phase.activation_bytes)} activations"
        )


def _print_head(recipe: AnyRecipe, processes: int) -> None:
    shared = f", {processes} processes" if processes > 1 else ""
    click.echo(f"recipe      {recipe.name}: {recipe.model}, {recipe.optimizer.name}, {recipe.precision}{shared}")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB" if num_bytes < 2**33 else f"{num_bytes / 2**30:,.1f} GiB"

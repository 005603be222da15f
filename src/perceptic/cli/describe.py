"""`perceptic describe`: a picture, a video, a region, or a video event by event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from perceptic.cli._answering import busy, printable, require_files, show_end, show_notes
from perceptic.cli._plm_options import (
    BoxNumbers,
    allow_network_option,
    box_option,
    generation_options,
    plm_options,
    seeing_options,
    take_assistant,
    take_generation,
    take_seeing,
)
from perceptic.cli._shared import json_option, print_json

if TYPE_CHECKING:
    from perceptic.tasks.describe import DenseDescription


@click.command()
@click.argument("path", metavar="PATH")
@box_option("Describe this region, in pixels: written into the question of a picture, drawn in red on a video.")
@click.option("--drawn", is_flag=True, help="Draw the box in red on a picture, too.")
@click.option("--dense", is_flag=True, help="List the events of a video with their times.")
@seeing_options
@generation_options(max_new_tokens=512)
@allow_network_option
@plm_options
@json_option
def command(
    path: str,
    boxes: tuple[BoxNumbers, ...],
    drawn: bool,
    dense: bool,
    allow_network: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Describe a picture or a video, or a region of it, in the words that the released models were asked in.

    With --dense: what happens when, one event per line. If the model's answer has no events that can be read, it is
    shown as it is and the exit status is 1.
    """
    from perceptic.tasks.describe import dense_describe, describe
    from perceptic.tasks.media_parts import media_part

    if len(boxes) > 1:
        raise click.UsageError("give one --box: the region to describe")
    box = boxes[0] if boxes else None
    evenly = dense or box is not None
    seeing, generation = take_seeing(options, "uniform" if evenly else "one_per_second"), take_generation(options)
    part = media_part(path, allow_network=allow_network)
    if dense and part.kind == "image":
        raise click.UsageError("--dense lists the events of a video; this is a picture")
    require_files([part])
    assistant = take_assistant(options)
    common: dict[str, Any] = {"model": assistant, "seeing": seeing, "options": generation}
    if dense:
        with busy("Looking"):
            events = dense_describe(part, box, **common)
        show_notes(events.notes)
        _show_events(events, path, assistant.name, as_json)
        return
    with busy("Looking"):
        answer = describe(part, box, drawn=drawn, **common)
    show_notes(answer.notes)
    if as_json:
        print_json({"path": path, "model": assistant.name, **vars(answer)})
        return
    click.echo(printable(answer.text))
    show_end(answer.finish_reason, generation.max_new_tokens)


def _show_events(found: DenseDescription, path: str, model: str, as_json: bool) -> None:
    if as_json:
        print_json({"path": path, "model": model, **vars(found)})
    else:
        for event in found.events:
            click.echo(f"{event.start_seconds:8.2f} s to {event.end_seconds:8.2f} s  {printable(event.text)}")
    if found.problem is None:
        return
    click.echo(f"Not all could be read: {found.problem}.", err=True)
    if not found.events:
        click.echo(f"The model said: {printable(found.text)}", err=True)
        click.get_current_context().exit(1)

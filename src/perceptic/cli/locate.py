"""`perceptic locate`: when something happens in a video, or where something is in a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from perceptic.cli._answering import busy, printable, require_files, show_notes
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
    from perceptic.tasks.locate import Located, LocatedRegion


@click.command()
@click.argument("path", metavar="PATH")
@click.argument("text")
@box_option("Whose doing: a region in pixels, drawn in red on every frame of the video.")
@seeing_options
@generation_options(max_new_tokens=32)
@allow_network_option
@plm_options
@json_option
def command(
    path: str, text: str, boxes: tuple[BoxNumbers, ...], allow_network: bool, as_json: bool, **options: Any
) -> None:
    """Say when TEXT happens in a video, in seconds; in a picture, where TEXT is, as a box in pixels.

    Frames are spread evenly over the video; the answer is as exact as they are dense. If the model's answer cannot be
    read as times or a box, it is shown as it is and the exit status is 1.
    """
    from perceptic.tasks.locate import locate, locate_region
    from perceptic.tasks.media_parts import media_part

    if len(boxes) > 1:
        raise click.UsageError("give one --box: who or what it is about")
    seeing, generation = take_seeing(options, sampling="uniform"), take_generation(options)
    part = media_part(path, allow_network=allow_network)
    if part.kind == "image" and boxes:
        raise click.UsageError("--box is for videos; in a picture a box is what is looked for")
    require_files([part])
    assistant = take_assistant(options)
    common: dict[str, Any] = {"model": assistant, "seeing": seeing, "options": generation}
    with busy("Looking"):
        found: Located | LocatedRegion
        if part.kind == "image":
            found = locate_region(part, text, **common)
        else:
            found = locate(part, text, boxes[0] if boxes else None, **common)
    show_notes(found.notes)
    if as_json:
        print_json({"path": path, "model": assistant.name, **vars(found)})
    elif found.problem is None:
        click.echo(_in_words(found))
    if found.problem is not None:
        click.echo(f"Not found: {found.problem}. The model said: {printable(found.text)}", err=True)
        click.get_current_context().exit(1)


def _in_words(found: Located | LocatedRegion) -> str:
    from perceptic.tasks.locate import Located

    if isinstance(found, Located):
        return (
            f"{found.start_seconds:.2f} s to {found.end_seconds:.2f} s  "
            f"(frames {found.start_frame:g} to {found.end_frame:g} of 0 to {len(found.frame_seconds) - 1} seen)"
        )
    box = found.box
    assert box is not None, "an answer without a problem has a box"
    return f"{box.left:.0f},{box.top:.0f},{box.right:.0f},{box.bottom:.0f}"

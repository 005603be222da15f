"""`perceptic world`: write a synthetic world to a folder."""

from __future__ import annotations

from pathlib import Path

import click

from perceptic.world.vocabulary import SPLITS, check_split


@click.command("world")
@click.option(
    "--out", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write."
)
@click.option("--images", "num_images", default=1000, show_default=True, type=click.IntRange(0), help="Pictures.")
@click.option("--videos", "num_videos", default=100, show_default=True, type=click.IntRange(0), help="Clips.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Equal seeds give equal worlds.")
@click.option("--size", default="64", show_default=True, type=click.Choice(["64", "96", "128"]), help="Pixels a side.")
@click.option("--split", default="train", show_default=True, type=click.Choice(SPLITS), help="Which part of the world.")
@click.option("--zero-shot", "num_zero_shot", default=160, show_default=True, type=click.IntRange(0),
              help="Labelled pictures in each of the four zero-shot sets; 0 for none.")  # fmt: skip
@click.option("--frames", "num_frames", default=32, show_default=True, type=click.IntRange(8), help="Frames a clip.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
def command(
    folder: Path,
    num_images: int,
    num_videos: int,
    seed: int,
    size: str,
    split: str,
    num_zero_shot: int,
    num_frames: int,
    jobs: int,
) -> None:
    """Write pictures and clips with exact captions, masks, boxes, tracks and questions.

    The folder holds single files with annotations.jsonl, webdataset shards, zero-shot sets, training rows for the
    language model and benchmark rows. Run again after an interruption: complete shards are kept.
    """
    # Imported late: PyAV and the exporters are not needed for --help.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from perceptic.world.export import export_world, total_samples
    from perceptic.world.export_chunks import WorldSettings

    settings = WorldSettings(
        num_images=num_images,
        num_videos=num_videos,
        seed=seed,
        size=int(size),
        split=check_split(split),
        num_zero_shot=num_zero_shot,
        num_frames=num_frames,
    )
    columns = (TextColumn("writing the world"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # On standard error, and silent in logs, so that standard output stays the result.
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("world", total=total_samples(settings))
        try:
            export_world(folder, settings, jobs=jobs, on_progress=lambda count: progress.advance(task, count))
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Run the same command again to go on.") from None
    click.echo(f"{folder}: {num_images} images, {num_videos} clips, split {split}, seed {seed}")

"""A world of training rows below a cache folder: exported once for all runs of one setting and code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from perceptic import world
from perceptic.data.world_source import code_hash

Progress = Callable[[int, int], None]


def world_registry(
    cache: Path,
    *,
    images: int,
    videos: int,
    seed: int = 0,
    single_share: float = 0.0,
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """The `datasets.yaml` of an exported world of split "train": `images` pictures of 64 px and `videos` clips of 32
    frames with all kinds of rows. What is there is kept, what an interruption left unfinished is finished.

    Args:
        cache: parent folder of worlds. seed: of the scenes.
        single_share: of pictures and clips with one object and no text.
        workers: processes that draw and encode.
        progress: called with (pictures and clips done, in all).

    Raises:
        ConfigError: negative numbers. DataError: the folder holds something else. OutputError: no space.
    """
    settings = world.WorldSettings(
        num_images=images, num_videos=videos, seed=seed, num_zero_shot=0, single_share=single_share
    )
    folder = cache / f"world-{code_hash()}-{images}-{videos}-{seed}-{single_share:g}"
    total = images + videos
    done = 0

    def count(finished: int) -> None:
        nonlocal done
        done += finished
        if progress is not None:
            progress(done, total)

    world.export_world(folder, settings, jobs=workers, on_progress=count)
    return folder / "plm" / "datasets.yaml"

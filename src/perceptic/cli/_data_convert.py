"""`perceptic data convert`: published tables and shards as training rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from perceptic.cli._data_check import reading_bar
from perceptic.cli._shared import json_option, print_json

if TYPE_CHECKING:
    from perceptic.data.released_regions import RegionKind
    from perceptic.data.released_rows import Converted, MakeRow

_KINDS = ("auto", "said", "rcap", "rtloc", "rdcap", "videos")


@click.command()
@click.argument("source")
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--kind", type=click.Choice(_KINDS), default="auto", show_default=True,
              help="said: conversations, questions and answers, captions. videos: captioned tar shards.")  # fmt: skip
@click.option("--boxes", type=click.Path(path_type=Path, dir_okay=False),
              help="rcap, rtloc, rdcap: lines of video, masklet_id, bbox {frame: [x1,y1,x2,y2] or null}.")  # fmt: skip
@click.option("--without-boxes", is_flag=True, help="rcap, rtloc, rdcap: questions that do not speak of rectangles.")
@click.option("--frame-step", type=click.IntRange(1), default=1, show_default=True,
              help="Frames of the video files for each frame of the boxes: 4 for SA-V's 24-fps files.")  # fmt: skip
@click.option("--video-suffix", default=".mp4", show_default=True, help="Added to video ids without one.")
@click.option("--media", type=click.Path(path_type=Path, file_okay=False),
              help="videos: folder to unpack into. Default: OUTPUT without its ending.")  # fmt: skip
@json_option
def convert(source: str, output: Path, kind: str, as_json: bool, **options: Any) -> int:
    """Make training rows of a published data set.

    SOURCE is a parquet or JSONL file, a folder of parquet files (PLM-Video-Human, PLM-Video-Auto, PLM-Image-Auto), or
    tar shards of captioned videos (PE-Video, "shards/*.tar"). OUTPUT is a JSONL file.

    Exit status: 0, or 1 if no row could be made.
    """
    if kind == "videos" or (kind == "auto" and source.endswith(".tar")):
        media = options["media"] or output.with_suffix("")
        converted = _unpack(source, output, media)
        entry = f"annotation: {output}, root_dir: {media}"
    else:
        converted = _convert(source, output, kind, options)
        entry = f"annotation: {output}, root_dir: FOLDER-OF-MEDIA"
    if as_json:
        print_json({"output": str(output), **asdict(converted)})
    else:
        _print(converted, output, entry)
    return 0 if converted.num_rows else 1


@dataclass(frozen=True)
class _Plan:
    """How the records of a table are read."""

    make: MakeRow
    columns: tuple[str, ...]


def _convert(source: str, output: Path, kind: str, options: dict[str, Any]) -> Converted:
    from perceptic.data.released_rows import convert_tables, count_records

    tables = _tables(Path(source))
    plan = _plan(kind, tables[0], options)
    counts = [count_records(table) for table in tables]
    total = None if None in counts else sum(filter(None, counts))
    with reading_bar("records") as update:
        return convert_tables(tables, output, plan.make, plan.columns, lambda done: update(done, total or done))


def _unpack(source: str, output: Path, media: Path) -> Converted:
    from perceptic.data.released_videos import unpack_shards
    from perceptic.data.tar_units import TarUnits

    units = TarUnits.find((str(Path(source) / "*.tar") if Path(source).is_dir() else source,))
    with reading_bar("shards") as update:
        return unpack_shards(units, output, media, lambda done: update(done, len(units)))


def _tables(source: Path) -> list[Path]:
    from perceptic.errors import DataError

    if source.is_dir():
        tables = sorted(source.rglob("*.parquet"))
        if not tables:
            raise DataError(f"{source}: holds no parquet file (tar shards are named: 'FOLDER/*.tar')")
        return tables
    if not source.is_file():
        raise DataError(f"{source}: no such file or folder")
    return [source]


def _plan(kind: str, table: Path, options: dict[str, Any]) -> _Plan:
    import functools

    from perceptic.data.released_regions import COLUMNS, RegionKind, RegionRows, read_boxes
    from perceptic.data.released_rows import released_row
    from perceptic.errors import ConfigError

    if kind == "auto":
        kind = _kind_of(table)
    if kind not in get_args(RegionKind):
        return _Plan(functools.partial(released_row, video_suffix=options["video_suffix"]), ())
    region_kind: RegionKind = kind  # type: ignore[assignment]  # one of them, as just seen
    if (options["boxes"] is None) == (not options["without_boxes"]):
        raise ConfigError(
            f"{kind} rows are about a subject in a box, and the tables have no boxes: give --boxes FILE "
            "(lines with video, masklet_id, bbox), or --without-boxes"
        )
    boxes = None if options["boxes"] is None else read_boxes(options["boxes"])
    return _Plan(RegionRows(region_kind, boxes, options["frame_step"]), COLUMNS[region_kind])


def _kind_of(table: Path) -> str:
    """By columns; RCap and RTLoc have the same, and are told apart by the file's path."""
    from perceptic.data.released_rows import column_names
    from perceptic.errors import ConfigError

    columns = set(column_names(table))
    if "dense_captions" in columns:
        return "rdcap"
    if not {"masklet_id", "start_frame"} <= columns:
        return "said"
    path = str(table).lower()
    found = [kind for kind in ("rcap", "rtloc") if kind in path]
    if len(found) != 1:
        raise ConfigError(f"{table}: its columns are those of rcap and of rtloc; say which with --kind")
    return found[0]


def _print(converted: Converted, output: Path, entry: str) -> None:
    click.echo(f"{output}: {converted.num_rows:,} rows")
    for reason, count in sorted(converted.skipped.items(), key=lambda item: -item[1]):
        click.echo(f"  left out: {reason}: {count:,}")
        for example in converted.examples[reason]:
            click.echo(f"      {example}")
    if converted.num_rows:
        click.echo(f"In a datasets.yaml: {output.stem}: {{{entry}}}")

"""A world on disk, in the formats of the real data sets, so that nothing downstream has a special path for it.

images/, videos/            single files            annotations.jsonl   everything true of each of them
contrastive/{train,test}/   webdataset image-text  clips/{train,test}/ webdataset video shards with JSON sidecars
zero_shot/<attribute>-<seen|unseen>/               classification sets with class names and templates
plm/*.jsonl, plm/datasets.yaml                     language-model rows    videobench/*/*.jsonl   benchmark rows
retrieval.csv               video_id,sentence      overview.png           contact sheet    world.json   settings
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

from perceptic.errors import ConfigError, DataError
from perceptic.files import atomic_path, write_text
from perceptic.world.export_chunks import Chunk, WorldSettings, plan_chunks, write_chunk
from perceptic.world.overview import write_overview
from perceptic.world.shards import write_retrieval_files, write_split_files
from perceptic.world.vocabulary import check_split

_PLM_KINDS: Final = (
    "image", "multi_image", "image_region", "video", "text", "rcap", "rtloc", "rdcap",
    "image_label", "image_list", "image_existence", "image_drill", "region_drill",
    "video_list", "video_drill", "video_locate", "video_tube",
    "image_map", "image_patches", "image_places", "image_transcript", "image_names", "image_counts",
    "video_patches", "video_questions", "video_places", "video_directions", "video_orders",
    "words_brief", "words", "words_places", "words_twice", "words_boxes", "words_events", "words_video", "words_frames",
    "words_moves", "words_counts",
)  # fmt: skip
_BENCH_TASKS: Final = ("fgqa", "sgqa", "rcap", "rtloc", "rdcap")


def export_world(
    root: Path, settings: WorldSettings, *, jobs: int = 1, on_progress: Callable[[int], None] | None = None
) -> None:
    """Write a world into `root`. Interrupted at any moment and called again, it keeps complete chunks and goes on.

    Args:
        root: a folder that does not exist, is empty, or holds an export of the same settings.
        settings: what to write.
        jobs: processes.
        on_progress: called with the number of samples finished since the last call.

    Raises:
        ConfigError: numbers out of range, unknown split.
        DataError: the folder holds something else or another world.
        OutputError: a file cannot be written.
    """
    _check_settings(settings, jobs)
    if _is_complete(root, settings):
        if on_progress is not None:
            on_progress(total_samples(settings))
        return
    write_text(root / "world.json", _settings_text(settings, complete=False))
    for finished in _run(root, settings, jobs):
        if on_progress is not None:
            on_progress(finished)
    _combine(root, settings)
    write_overview(root / "overview.png", settings)
    write_text(root / "world.json", _settings_text(settings, complete=True))
    shutil.rmtree(root / ".parts", ignore_errors=True)


def total_samples(settings: WorldSettings) -> int:
    """What `on_progress` sums up to."""
    return sum(chunk.stop - chunk.start for chunk in plan_chunks(settings))


def _check_settings(settings: WorldSettings, jobs: int) -> None:
    check_split(settings.split)
    for name in ("num_images", "num_videos", "num_zero_shot", "seed"):
        if getattr(settings, name) < 0:
            raise ConfigError(f"{name} is {getattr(settings, name)}; give 0 or more")
    if settings.size < 32 or settings.size % 2:
        raise ConfigError(f"size {settings.size}: give an even number of pixels from 32 (64 to 128 are meant)")
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}; give at least 1")


def _is_complete(root: Path, settings: WorldSettings) -> bool:
    """Whether `root` holds this very world, finished; raises DataError if it holds anything else."""
    marker = root / "world.json"
    if not marker.exists():
        if root.is_dir() and any(root.iterdir()):
            raise DataError(f"{root}: not empty and not a world; give a new or empty folder")
        return False
    try:
        found: dict[str, Any] = json.loads(marker.read_text(encoding="utf-8"))
        complete = bool(found.pop("complete"))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{marker}: not the settings of a world ({error}); give another folder") from error
    if found != asdict(settings):
        wanted = asdict(settings)
        other = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
        differences = ", ".join(f"{key} {found.get(key)} instead of {wanted.get(key)}" for key in other)
        raise DataError(f"{root}: holds another world ({differences}); give another folder or the same settings")
    return complete


def _settings_text(settings: WorldSettings, *, complete: bool) -> str:
    return json.dumps({**asdict(settings), "complete": complete}, indent=2) + "\n"


def _run(root: Path, settings: WorldSettings, jobs: int) -> Iterator[int]:
    chunks = plan_chunks(settings)
    if jobs == 1 or len(chunks) < 2:
        for chunk in chunks:
            yield write_chunk(root, settings, chunk)
        return
    # Spawned, not forked: the caller may have threads (torch, progress bars).
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(chunks)), mp_context=context, initializer=_ignore_interrupt) as pool:
        pending = {pool.submit(write_chunk, root, settings, chunk) for chunk in chunks}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            # After Ctrl-C the running chunks end whole, the waiting ones never start.
            pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _combine(root: Path, settings: WorldSettings) -> None:
    """Join the chunks' rows into the final files."""
    chunks = plan_chunks(settings)
    kinds: dict[str, Path] = {"annotations": root / "annotations.jsonl"}
    kinds |= {kind: root / "plm" / f"{kind}.jsonl" for kind in _PLM_KINDS}
    if settings.num_videos:
        bench = root / "videobench"
        kinds |= {f"bench/{task}": bench / task / f"plm_{task}_test.jsonl" for task in _BENCH_TASKS}
        kinds["bench/metadata"] = bench / "metadata" / "metadata_test.jsonl"
    sentences = [("video_id", "sentence")]
    with ExitStack() as stack:
        streams = {
            kind: stack.enter_context(stack.enter_context(atomic_path(path)).open("w", encoding="utf-8"))
            for kind, path in kinds.items()
        }
        for chunk in chunks:
            rows = _read_part(root, chunk)
            _append(streams, rows)
            clips = [row for row in rows.get("annotations", []) if "video" in row]
            sentences += [(Path(row["video"]).stem, row["captions"]["long"]) for row in clips]
    _write_registries(root, settings, chunks)
    if settings.num_videos:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(sentences)
        write_text(root / "retrieval.csv", table.getvalue())


def _read_part(root: Path, chunk: Chunk) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = json.loads(chunk.part_path(root).read_text(encoding="utf-8"))
    return rows


def _append(streams: Mapping[str, IO[str]], rows: dict[str, list[dict[str, Any]]]) -> None:
    for kind, found in rows.items():
        for row in found:
            streams[kind].write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def _write_registries(root: Path, settings: WorldSettings, chunks: list[Chunk]) -> None:
    lines = [f"world_{kind}:\n  annotation: {kind}.jsonl\n  root_dir: ..\n" for kind in _PLM_KINDS]
    write_text(root / "plm" / "datasets.yaml", "# Paths are relative to this file.\n" + "".join(lines))
    for kind, folder in (("images", "contrastive"), ("videos", "clips")):
        count = sum(chunk.kind == kind for chunk in chunks)
        if count:
            write_split_files(root / folder, settings.folder, count)
            write_retrieval_files(root / folder)

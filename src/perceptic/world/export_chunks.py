"""The parts of an export that run side by side: a chunk of pictures, a chunk of clips, one zero-shot set.

A chunk writes its media and its shard, and last its part file; a part file that exists says that all of the chunk does.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from perceptic.files import write_bytes, write_text
from perceptic.world.annotation import clip_annotation, scene_annotation
from perceptic.world.caption_noise import CaptionNoise
from perceptic.world.captioning import captions
from perceptic.world.clip import Clip
from perceptic.world.clip_captioning import clip_captions
from perceptic.world.clip_drills import (
    event_words_row,
    move_words_row,
    video_directions_row,
    video_orders_row,
    video_questions_row,
)
from perceptic.world.clip_rendering import RenderedClip, render_clip_annotated
from perceptic.world.clip_sampling import sample_clip
from perceptic.world.drills import (
    event_listing_row,
    existence_row,
    image_counts_row,
    image_drill_row,
    label_row,
    listing_row,
    region_drill_rows,
    tube_row,
    video_drill_row,
    video_locate_row,
)
from perceptic.world.encoding import mp4_bytes, png_bytes
from perceptic.world.lines import image_names_row, video_places_row
from perceptic.world.maps import image_map_row, image_patches_row, video_patches_row
from perceptic.world.plm_rows import (
    Row,
    image_rows,
    multi_image_row,
    rcap_row,
    rdcap_row,
    region_rows,
    rtloc_row,
    text_row,
    video_rows,
)
from perceptic.world.question_answer import questions
from perceptic.world.randomness import pick, seeded
from perceptic.world.rendering import Rendered, render, render_pixels
from perceptic.world.sampling import sample_scene
from perceptic.world.scene import Scene
from perceptic.world.shards import (
    ShardSample,
    captions_member,
    json_member,
    sample_key,
    write_classification_files,
    write_shard,
    write_split_files,
)
from perceptic.world.tellings import clip_telling_row, place_telling_row, scene_telling_row
from perceptic.world.transcripts import image_places_row, image_transcript_row
from perceptic.world.video_bench import bench_rows
from perceptic.world.vocabulary import Split
from perceptic.world.words import box_word_rows, brief_word_rows, clip_word_rows, count_word_row, scene_word_rows
from perceptic.world.zero_shot import CLASS_NAMES, TEMPLATES, zero_shot_scenes

IMAGES_PER_CHUNK: Final = 500
CLIPS_PER_CHUNK: Final = 100
_QUESTIONS: Final = 8
_CAPTIONER_NOISE: Final = CaptionNoise(missing=0.1, wrong=0.05)

_IMAGE_DRILLS: Final = {"image_label": label_row, "image_existence": existence_row, "image_drill": image_drill_row}

ChunkKind = Literal["images", "videos", "zero_shot"]
Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """What an export contains; two exports of equal settings are equal. `num_zero_shot` is per attribute and pair set,
    `num_frames` per clip (32 suits the region tasks, which count time in 32 frames). A share `single_share` of pictures
    and clips, spread evenly, holds one object and no text: what a small model begins with."""

    num_images: int
    num_videos: int
    seed: int = 0
    size: int = 64
    split: Split = "train"
    num_zero_shot: int = 160
    num_frames: int = 32
    single_share: float = 0.0

    @property
    def folder(self) -> str:
        """Name of the split's folder in webdataset trees, which know "train" and "test" only."""
        return "train" if self.split == "train" else "test"

    def is_single(self, index: int) -> bool:
        """Whether picture or clip `index` holds one object."""
        return int((index + 1) * self.single_share) > int(index * self.single_share)

    def world_seed(self, index: int) -> int:
        """Seed of the picture or clip `index`."""
        return self.seed * 1_000_000_000 + index


@dataclass(frozen=True, slots=True)
class Chunk:
    """Pictures, clips or zero-shot samples `start` to `stop` - 1; for zero-shot sets `name` is "shape-seen" and the
    like."""

    kind: ChunkKind
    index: int
    start: int
    stop: int
    name: str = ""

    def part_path(self, root: Path) -> Path:
        """The file whose presence says that the chunk is complete."""
        return root / ".parts" / f"{self.kind}{self.name}-{self.index:05d}.json"


def plan_chunks(settings: WorldSettings) -> list[Chunk]:
    """Everything there is to do, in order."""
    chunks = [
        *_cut("images", settings.num_images, IMAGES_PER_CHUNK),
        *_cut("videos", settings.num_videos, CLIPS_PER_CHUNK),
    ]
    if settings.num_zero_shot:
        for attribute in ("shape", "colour"):
            for pairs in ("seen", "unseen"):
                chunks.append(Chunk("zero_shot", 0, 0, settings.num_zero_shot, f"{attribute}-{pairs}"))
    return chunks


def write_chunk(root: Path, settings: WorldSettings, chunk: Chunk) -> int:
    """Write a chunk unless it is complete already; returns its number of samples.

    Raises:
        OutputError: a file cannot be written.
    """
    part = chunk.part_path(root)
    if not part.exists():
        write = {"images": _write_images, "videos": _write_videos, "zero_shot": _write_zero_shot}[chunk.kind]
        rows = write(root, settings, chunk)
        write_text(part, json.dumps(rows, ensure_ascii=False, separators=(",", ":")))
    return chunk.stop - chunk.start


def image_path(index: int) -> str:
    """Where a picture lies, relative to the world's folder."""
    return f"images/{index:07d}.png"


def video_path(index: int) -> str:
    """Where a clip lies, relative to the world's folder."""
    return f"videos/{index:07d}.mp4"


def _cut(kind: ChunkKind, total: int, length: int) -> list[Chunk]:
    return [
        Chunk(kind, place, start, min(start + length, total)) for place, start in enumerate(range(0, total, length))
    ]


def _write_images(root: Path, settings: WorldSettings, chunk: Chunk) -> Rows:
    rows: Rows = defaultdict(list)
    samples: list[ShardSample] = []
    previous: tuple[str, Scene] | None = None
    for index in range(chunk.start, chunk.stop):
        seed = settings.world_seed(index)
        alone: dict[str, Any] = {"num_objects": 1, "text_fraction": 0.0} if settings.is_single(index) else {}
        scene = sample_scene(seed, settings.split, **alone)
        rendered = render(scene, settings.size)
        path, content = image_path(index), png_bytes(rendered.pixels)
        write_bytes(root / path, content)
        annotation = _add_image_rows(rows, path, scene, rendered, seed)
        annotation = {"image": path, "seed": seed, **annotation}
        rows["annotations"].append(annotation)
        told = annotation["captions"]
        members = {"png": content, "txt": captions_member(list(told.values())), "json": json_member(annotation)}
        samples.append(ShardSample(sample_key(index), members))
        if previous is not None and index % 2:
            both = (previous[0], path), (previous[1], scene)
            _add(rows, "multi_image", multi_image_row(*both, seeded(seed, "multi image")))
        previous = path, scene
    write_shard(root / "contrastive" / settings.folder / f"{chunk.index}.tar", samples)
    return rows


def _add_image_rows(rows: Rows, path: str, scene: Scene, rendered: Rendered, seed: int) -> dict[str, Any]:
    rng = seeded(seed, "image rows")
    told, asked = captions(scene, seed), questions(scene, seed, limit=_QUESTIONS)
    rows["image"] += image_rows(path, told, asked, rng)
    rows["image_region"] += region_rows(path, scene, rendered, rng)
    _add(rows, "text", text_row(told, asked, rng))
    drill_rng = seeded(seed, "image drill")
    for kind, make in _IMAGE_DRILLS.items():
        _add(rows, kind, make(path, scene, drill_rng))
    _add(rows, "image_list", listing_row(path, scene, seeded(seed, "image_list")))
    rows["region_drill"] += region_drill_rows(path, scene, rendered, drill_rng)
    _add(rows, "image_transcript", image_transcript_row(path, scene))
    _add(rows, "image_map", image_map_row(path, scene, rendered, seeded(seed, "image map")))
    _add(rows, "image_patches", image_patches_row(path, scene, rendered))
    _add(rows, "image_places", image_places_row(path, scene, rendered, seeded(seed, "image places")))
    _add(rows, "image_names", image_names_row(path, scene, seeded(seed, "image names")))
    _add(rows, "image_counts", image_counts_row(path, scene, seeded(seed, "image counts")))
    rows["words"] += scene_word_rows(scene, seeded(seed, "scene words"))
    rows["words_boxes"] += box_word_rows(scene, rendered, seeded(seed, "words of boxes"))
    _add(rows, "words_places", place_telling_row(scene, seeded(seed, "words of places")))
    _add(rows, "words_twice", scene_telling_row(scene, seeded(seed, "words told twice")))
    _add(rows, "words_counts", count_word_row(scene, seeded(seed, "words of counts")))
    rows["words_brief"] += brief_word_rows(scene, seeded(seed, "brief words"))
    return scene_annotation(scene, rendered, told, asked)


def _add(rows: Rows, kind: str, row: Row | None) -> None:
    if row is not None:
        rows[kind].append(row)


def _write_videos(root: Path, settings: WorldSettings, chunk: Chunk) -> Rows:
    rows: Rows = defaultdict(list)
    samples: list[ShardSample] = []
    for index in range(chunk.start, chunk.stop):
        seed = settings.world_seed(index)
        count = 1 if settings.is_single(index) else None
        clip = sample_clip(seed, settings.split, num_frames=settings.num_frames, num_objects=count)
        rendered = render_clip_annotated(clip, settings.size)
        told, asked = clip_captions(clip, seed), questions(clip, seed, limit=_QUESTIONS)
        guessed = clip_captions(clip, seed + 1, noise=_CAPTIONER_NOISE)
        path, content = video_path(index), mp4_bytes(rendered.pixels, clip.frames_per_second)
        write_bytes(root / path, content)
        annotation = {"video": path, "seed": seed, **clip_annotation(clip, rendered, told, asked)}
        rows["annotations"].append(annotation)
        rng = seeded(seed, "video rows")
        rows["video"] += video_rows(path, clip, told, asked, rng)
        event = pick(rng, clip.events)
        rows["rcap"].append(rcap_row(path, clip, rendered, event, rng))
        _add(rows, "rtloc", rtloc_row(path, clip, rendered, event, rng))
        rows["rdcap"].append(rdcap_row(path, clip, rendered, event.object_index, rng))
        _add_clip_drills(rows, path, clip, rendered, seed)
        for task, found in bench_rows(index, Path(path).name, clip, rendered, asked, rng).items():
            rows[f"bench/{task}"] += found
        sidecar = _video_sidecar(annotation, told.long, guessed.long, told.short)
        samples.append(ShardSample(f"{index:07d}", {"mp4": content, "json": json_member(sidecar)}))
    write_shard(root / "clips" / settings.folder / f"{chunk.index:06d}.tar", samples)
    return rows


def _add_clip_drills(rows: Rows, path: str, clip: Clip, rendered: RenderedClip, seed: int) -> None:
    rng = seeded(seed, "clip drill")
    rows["video_list"].append(event_listing_row(path, clip))
    _add(rows, "video_drill", video_drill_row(path, clip, rng))
    _add(rows, "video_locate", video_locate_row(path, clip, rng))
    rows["video_tube"].append(tube_row(path, clip, rendered, rng))
    rows["video_patches"].append(video_patches_row(path, clip, rendered, seeded(seed, "video patches")))
    _add(rows, "video_questions", video_questions_row(path, clip, seeded(seed, "video questions")))
    _add(rows, "video_places", video_places_row(path, clip, seeded(seed, "video places")))
    _add(rows, "video_directions", video_directions_row(path, clip, seeded(seed, "video directions")))
    _add(rows, "video_orders", video_orders_row(path, clip, seeded(seed, "video orders")))
    _add(rows, "words_events", event_words_row(clip, seeded(seed, "event words")))
    rows["words_moves"].append(move_words_row(seeded(seed, "words of moves")))
    _add(rows, "words_frames", clip_telling_row(clip, seeded(seed, "words of frames")))
    rows["words_video"] += clip_word_rows(clip, seeded(seed, "clip words"))


def _video_sidecar(annotation: dict[str, Any], human: str, model: str, description: str) -> dict[str, Any]:
    """The PE-Video sidecar: the exact caption as the human's, a noisy one as the model's."""
    return {
        "human_caption": human,
        "model_caption": model,
        "description": description,
        "category": annotation["events"][0]["kind"],
        "keywords": sorted({f"{item['colour']} {item['shape']}" for item in annotation["objects"]}),
        "video_duration_in_s": annotation["duration_seconds"],
        "fps": annotation["frames_per_second"],
        "width": annotation["width"],
        "height": annotation["height"],
        "events": annotation["events"],
    }


def _write_zero_shot(root: Path, settings: WorldSettings, chunk: Chunk) -> Rows:
    attribute, pairs = chunk.name.split("-")
    split = "heldout_pairs" if pairs == "unseen" else "validation"
    folder = root / "zero_shot" / chunk.name
    scenes = zero_shot_scenes(split, chunk.stop - chunk.start, seed=settings.seed)
    samples = []
    for index, labelled in enumerate(scenes):
        content = png_bytes(render_pixels(labelled.scene, settings.size))
        label = str(labelled.labels[attribute]).encode()
        samples.append(ShardSample(sample_key(index), {"png": content, "cls": label}))
    write_shard(folder / "test" / "0.tar", samples)
    write_split_files(folder, "test", 1)
    write_classification_files(folder, CLASS_NAMES[attribute], TEMPLATES[attribute])
    return {}

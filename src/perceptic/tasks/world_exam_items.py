"""Exam questions out of the synthetic world: scenes and clips that training never draws, with exact answers.

Questions and prompts are those of the world's own training rows (`world.questions`, `world.plm_rows`), so that what is
measured is seeing, not the reading of new wordings. Kinds with a world version of a real benchmark carry its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from perceptic import world
from perceptic.data.plm_rows import ImageRow, VideoRow, parse_row
from perceptic.media.sampling import rounded_indices
from perceptic.tasks.describe import IMAGE_PROMPT, VIDEO_PROMPT
from perceptic.tasks.media_parts import MediaPart
from perceptic.tasks.seeing import Seeing
from perceptic.world.plm_rows import Row, rcap_row, rdcap_row, region_rows, rtloc_row
from perceptic.world.question import Question
from perceptic.world.randomness import pick, seeded
from perceptic.world.rendering import render
from perceptic.world.scene import Scene

NUM_FRAMES = 32
_MOST_COUNTED = 4
_FEWEST_FRAMES = 8
_SEEDS_OF_ONE_EXAM = 1_000_000
# Region tasks count time in the frames seen; the other questions are asked as in training.
_EVENLY = Seeing(sampling="uniform")
_PLAIN = Seeing()


@dataclass(frozen=True, eq=False)
class ExamItem:
    """One question about one picture or clip.

    Attributes:
        num_choices: how many answers are possible, where the question leaves few.
    """

    part: MediaPart
    question: str
    wanted: str
    num_choices: int | None = None


@dataclass(frozen=True)
class Section:
    """One skill.

    Attributes:
        make: the item of a world seed; None where that scene or clip has no such question.
        score: which of the answer readings applies (`world_exam_scores.SCORES`).
        max_new_tokens: enough for every right answer in a vocabulary of 2,000, with the steps that lead to it.
    """

    name: str
    make: Callable[[ExamWorld, int], ExamItem | None]
    score: str = "exact"
    seeing: Seeing = _PLAIN
    max_new_tokens: int = 24

    def items(self, source: ExamWorld, num_items: int, seed: int) -> list[ExamItem]:
        """The first items that there are, from the seed on."""
        found: list[ExamItem] = []
        for index in range(seed * _SEEDS_OF_ONE_EXAM, (seed + 1) * _SEEDS_OF_ONE_EXAM):
            item = self.make(source, index)
            found += [item] if item is not None else []
            if len(found) == num_items:
                break
        return found


@dataclass
class ExamWorld:
    """Scenes and clips of one split by seed, each drawn and encoded once.

    Attributes:
        split: of the world; training draws from "train" alone.
        size: of pictures and frames in pixels.
    """

    split: str = "validation"
    size: int = 64
    _files: dict[str, bytes] = field(default_factory=dict, repr=False)

    def scene(self, seed: int, layout: str | None = None, text_fraction: float = 0.25) -> Scene:
        return world.sample_scene(seed, self.split, layout=layout, text_fraction=text_fraction)

    def clip(self, seed: int) -> world.Clip:
        return world.sample_clip(seed, self.split, num_frames=NUM_FRAMES)

    def picture(self, scene: Scene, name: str) -> MediaPart:
        if name not in self._files:
            self._files[name] = world.png_bytes(world.render_pixels(scene, self.size))
        return MediaPart("image", self._files[name], f"{name}.png")

    def video(self, clip: world.Clip, name: str) -> MediaPart:
        if name not in self._files:
            self._files[name] = world.mp4_bytes(world.render_clip(clip, self.size), clip.frames_per_second)
        return MediaPart("video", self._files[name], f"{name}.mp4")


def _about_scene(*kinds: str, layout: str | None = None, text_fraction: float = 0.25) -> Callable[..., ExamItem | None]:
    """Items of the first question of these kinds that a scene has."""

    def make(source: ExamWorld, seed: int) -> ExamItem | None:
        scene = source.scene(seed, layout, text_fraction)
        for question in _of_kinds(world.questions(scene, seed), kinds):
            if scene.chart is None or layout == "chart":
                return _asked(source.picture(scene, _scene_name(seed, layout, text_fraction)), question)
        return None

    return make


def _scene_name(seed: int, layout: str | None = None, text_fraction: float = 0.25) -> str:
    """Of the picture of `ExamWorld.scene`, by which sections share it."""
    return f"scene-{layout or 'any'}-{text_fraction:g}-{seed}"


def _about_clip(kind: str, choices: tuple[str, ...] | None = None) -> Callable[..., ExamItem | None]:
    """Items of the first question of a kind, and with these choices, that a clip has."""

    def make(source: ExamWorld, seed: int) -> ExamItem | None:
        clip = source.clip(seed)
        for question in _of_kinds(world.questions(clip, seed), (kind,)):
            if choices is None or question.choices == choices:
                return _asked(source.video(clip, f"clip-{seed}"), question)
        return None

    return make


def _of_kinds(questions: tuple[Question, ...], kinds: tuple[str, ...]) -> Iterator[Question]:
    for question in questions:
        too_many = question.kind == "count" and int(question.answer) > _MOST_COUNTED
        if question.kind in kinds and not too_many:
            yield question


def _asked(part: MediaPart, question: Question) -> ExamItem:
    return ExamItem(part, question.question, question.answer, len(question.choices) or None)


def _boxed_name(source: ExamWorld, seed: int) -> ExamItem | None:
    """What is in this box? In scenes of several objects, so that without the box nobody can know."""
    scene = source.scene(seed)
    if scene.chart is not None or len(scene.objects) < 2:
        return None
    rows = region_rows("picture", scene, render(scene, source.size), seeded(seed, "exam"))
    if not rows:
        return None
    row = parse_row(rows[0], "exam")
    assert isinstance(row, ImageRow), "a region lies in a picture"
    return _item_of(row, source.picture(scene, _scene_name(seed)))


def _region_task(kind: str) -> Callable[..., ExamItem | None]:
    """RTLoc, RCap or RDCap about one event of a clip and its object."""

    def make(source: ExamWorld, seed: int) -> ExamItem | None:
        clip = source.clip(seed)
        rendered = world.render_clip_annotated(clip, source.size)
        rng = seeded(seed, "exam")
        event = pick(rng, clip.events)
        found: Row | None
        if kind == "rtloc":
            found = rtloc_row("clip", clip, rendered, event, rng)
        elif kind == "rcap":
            found = rcap_row("clip", clip, rendered, event, rng)
        else:
            found = rdcap_row("clip", clip, rendered, event.object_index, rng)
        if found is None:
            return None
        row = parse_row(found, "exam")
        assert isinstance(row, VideoRow), "region tasks are about clips"
        if not any(index in row.boxes for index in rounded_indices(NUM_FRAMES, _FEWEST_FRAMES)):
            return None  # a model of few frames would see no box at all
        source_part = source.video(clip, f"clip-{seed}")
        return _item_of(row, MediaPart("video", source_part.source, source_part.name, boxes=row.boxes))

    return make


def _captioned_picture(source: ExamWorld, seed: int) -> ExamItem | None:
    """What `perceptic caption` asks about pictures, with the world's own caption."""
    scene = source.scene(seed)
    if scene.chart is not None:
        return None
    return ExamItem(source.picture(scene, _scene_name(seed)), IMAGE_PROMPT, world.captions(scene, seed).long)


def _captioned_clip(source: ExamWorld, seed: int) -> ExamItem:
    clip = source.clip(seed)
    return ExamItem(source.video(clip, f"clip-{seed}"), VIDEO_PROMPT, world.clip_captions(clip, seed).medium)


def _item_of(row: ImageRow | VideoRow, part: MediaPart) -> ExamItem:
    question, answer = row.turns[:2]
    text = question.text.replace("<image>\n", "").replace("<video>\n", "")
    return ExamItem(part, text, answer.text)


_CHART_KINDS = ("chart_value", "chart_compare", "chart_trend", "chart_count", "chart_kind")
SECTIONS: dict[str, Section] = {
    section.name: section
    for section in (
        Section("existence", _about_scene("existence")),
        Section("colour", _about_scene("colour")),
        Section("shape", _about_scene("shape")),
        Section("count", _about_scene("count"), max_new_tokens=48),
        Section("size", _about_scene("size")),
        Section("texture", _about_scene("texture")),
        Section("location", _about_scene("location")),
        Section("ocr", _about_scene("reading", text_fraction=1.0)),
        Section("chart", _about_scene(*_CHART_KINDS, layout="chart")),
        Section("boxed_name", _boxed_name, score="names", max_new_tokens=64),
        Section(
            "motion_direction", _about_clip("motion_direction", ("left", "right", "up", "down")), max_new_tokens=48
        ),
        Section("event_order", _about_clip("event_order"), max_new_tokens=96),
        Section("rtloc", _region_task("rtloc"), score="stretch", seeing=_EVENLY, max_new_tokens=48),
        Section("rcap", _region_task("rcap"), score="words", seeing=_EVENLY, max_new_tokens=64),
        Section("caption", _captioned_picture, score="words", max_new_tokens=96),
        Section("clip_caption", _captioned_clip, score="words", max_new_tokens=96),
        Section("rdcap", _region_task("rdcap"), score="events", seeing=_EVENLY, max_new_tokens=256),
    )
}

"""How pictures and videos are looked at: which settings each medium of a conversation gets, and what they cost.

PerceptionLM was trained with one tiled picture, or several pictures of one squashed chunk each, or up to
`max_video_frames` frames (perception-language-model spec sections 3.4 and 4). What goes beyond that has to be asked
for.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from perceptic.configs import Config
from perceptic.configs_plm import PerceptionLMPreprocessing
from perceptic.errors import ConfigError
from perceptic.media.collection import MediaKind
from perceptic.tasks.media_parts import MediaPart, check_looking

Sampling = Literal["one_per_second", "uniform"]
ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Seeing(Config):
    """How media are looked at that do not say it themselves.

    Attributes:
        num_frames: the most frames of each video. None: the number the model was trained with, shared by all videos.
        max_num_tiles: the most tiles of each picture, its thumbnail not counted; 0 squashes it into one chunk. None:
            the model's own number for a picture alone, one chunk for each of several media.
        start_seconds, end_seconds: of each video.
        sampling: `one_per_second` is the rule of the models' training (spec 5.1); `uniform` spreads the frames over the
            clip from its first to its last, as in PLM-VideoBench.
        beyond_training: allow more frames or tiles than the model was trained with. Answers then say so in their notes.
    """

    num_frames: int | None = None
    max_num_tiles: int | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    sampling: Sampling = "one_per_second"
    beyond_training: bool = False

    def __post_init__(self) -> None:
        check_looking(self.max_num_tiles, self.num_frames, self.start_seconds, self.end_seconds)
        self._require(
            self.sampling in get_args(Sampling),
            f"sampling must be {' or '.join(get_args(Sampling))}, not {self.sampling!r}",
        )


@dataclass(frozen=True)
class MediaSeen:
    """What the model sees of one picture or video.

    Attributes:
        width, height: of the upright picture or frame, in pixels.
        num_chunks: squares the vision tower sees: thumbnail and tiles, or frames.
        num_tokens: positions they take in the prompt.
        frame_seconds: when each frame seen appears, from the start of the video; empty for a picture.
        frame_indices: their numbers in the video.
        total_frames: of the whole video; 0 for a picture.
    """

    path: str
    kind: MediaKind
    width: int
    height: int
    num_chunks: int
    num_tokens: int
    frame_seconds: tuple[float, ...] = ()
    frame_indices: tuple[int, ...] = ()
    total_frames: int = 0


@dataclass(frozen=True)
class View:
    """One medium with all that decides its chunks. `max_num_tiles=None` is the model's own way with a picture."""

    part: MediaPart
    max_num_tiles: int | None
    num_frames: int
    start_seconds: float | None
    end_seconds: float | None
    sampling: Sampling

    @property
    def key(self) -> Hashable | None:
        """Equal for equal chunks; None if that cannot be told."""
        identity = self.part.identity
        boxes = self.part.boxes
        drawn = tuple(sorted(boxes.items())) if isinstance(boxes, Mapping) else boxes
        if identity is None:
            return None
        looking = (self.max_num_tiles, self.num_frames, self.start_seconds, self.end_seconds, self.sampling)
        return (self.part.kind, identity, looking, drawn)


def plan_views(
    parts: Sequence[MediaPart], seeing: Seeing, preprocessing: PerceptionLMPreprocessing
) -> tuple[View, ...]:
    """Decide how each medium of a conversation is looked at.

    Raises:
        ConfigError: more tiles, or more frames for one video, than the model was trained with, and not asked for so.
    """
    num_videos = sum(part.kind == "video" for part in parts)
    frames_each = max(1, preprocessing.max_video_frames // max(1, num_videos))
    tiles_each = None if len(parts) == 1 else 0
    views = tuple(
        View(
            part=part,
            max_num_tiles=_first(part.max_num_tiles, seeing.max_num_tiles, tiles_each),
            num_frames=_first(part.num_frames, seeing.num_frames, frames_each) or frames_each,
            start_seconds=_first(part.start_seconds, seeing.start_seconds),
            end_seconds=_first(part.end_seconds, seeing.end_seconds),
            sampling=seeing.sampling,
        )
        for part in parts
    )
    for view in views:
        check_looking(None, None, view.start_seconds, view.end_seconds)
    if not seeing.beyond_training:
        _require_trained(views, preprocessing)
    return views


def notes_on(
    views: Sequence[View], seen: Sequence[MediaSeen], seeing: Seeing, preprocessing: PerceptionLMPreprocessing
) -> tuple[str, ...]:
    """In what a prompt differs from what the model was trained with, in words for people.

    Raises:
        ConfigError: more frames in all videos together than that, and not asked for so.
    """
    notes = []
    num_frames, known = (
        sum(medium.num_chunks for medium in seen if medium.kind == "video"),
        preprocessing.max_video_frames,
    )
    if num_frames > known:
        notes.append(f"{num_frames} video frames; the model was trained with up to {known}")
        if not seeing.beyond_training:
            raise ConfigError(
                f"{notes[0]}. Lower num_frames, show fewer videos, or give beyond_training=True (--beyond-training)"
            )
    for view, medium in zip(views, seen, strict=True):
        tiles, known = view.max_num_tiles or 0, preprocessing.max_num_tiles
        if view.part.kind == "image" and tiles > known:
            notes.append(f"{medium.path}: up to {tiles} tiles; the model was trained with up to {known}")
    if len(seen) > 1 and any(medium.kind == "image" and medium.num_chunks > 1 for medium in seen):
        notes.append("a tiled picture beside other media; the model was trained with one chunk for each of several")
    return tuple(notes)


def _require_trained(views: Sequence[View], preprocessing: PerceptionLMPreprocessing) -> None:
    for view in views:
        name, asked, known = "num_frames", view.num_frames, preprocessing.max_video_frames
        if view.part.kind == "image":
            name, asked, known = "max_num_tiles", view.max_num_tiles or 0, preprocessing.max_num_tiles
        if asked > known:
            raise ConfigError(
                f"{view.part.name}: {name}={asked} is more than the {known} that the model was trained with; answers "
                "may get worse. beyond_training=True (--beyond-training) allows it"
            )


def _first(*values: ValueT | None) -> ValueT | None:
    return next((value for value in values if value is not None), None)

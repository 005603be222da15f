"""How PLM-VideoBench asks: prompts, frames, limits (datasets-and-benchmarks 2, perception-language-model 6.3).

Compatible mode asks as the public harness does, oddities included; clean mode mends them:

|                               | compatible               | clean                              |
|-------------------------------|--------------------------|------------------------------------|
| end of FGQA and SGQA prompts  | the literal `{answer}`   | nothing                            |
| longest answer of SGQA        | 16 tokens                | 64 (the prompt asks for 30 words)  |
| longest answer of RTLoc       | 16 tokens                | 32                                 |
| frames that RCap speaks of    | those of the file        | the 32 that are shown              |
| last dot of an answer         | taken off                | stays                              |
| first token                   | never ends the answer    | may                                |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perceptic.errors import DataError
from perceptic.evaluate.plm_bench_rows import BenchRow, BenchSection, BoxTrack, FgqaRow, RegionRow, SgqaRow
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.sampling import rounded_indices
from perceptic.metrics import Mode, Stretch
from perceptic.metrics.modes import require_mode
from perceptic.tasks.media_parts import MediaPart
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Seeing
from perceptic.text.region_prompts import events_prompt, rcap_prompts, when_prompt

NUM_FRAMES = 32
_FGQA = "Question: {row.question}\nOptions:\n(A) {row.options[0]}\n(B) {row.options[1]}\nOnly give the best option."
# Double spaces are the benchmark's.
_SGQA = (
    "The following question is asked by the camera wearer at the end of the video.  Provide a detailed answer even if "
    "unsure.  Try to answer in around 20-30 words.  Now answer the following question based on the video content: "
    "{row.question}"
)
_UNFILLED = "{answer}"
_MAX_TOKENS = {
    "compatible": {"fgqa": 16, "sgqa": 16, "rtloc": 16, "rcap": 512, "rdcap": 512},
    "clean": {"fgqa": 16, "sgqa": 64, "rtloc": 32, "rcap": 512, "rdcap": 512},
}


@dataclass(frozen=True)
class Asking:
    """How the rows of one task are asked.

    Attributes:
        max_new_tokens: None takes the mode's own.
        num_frames: shown; fewer than 32 for a model that was trained with fewer. Prompts count in 32 all the same.
    """

    section: BenchSection
    mode: Mode = "compatible"
    max_new_tokens: int | None = None
    num_frames: int = NUM_FRAMES

    def __post_init__(self) -> None:
        require_mode(self.mode)

    @property
    def seeing(self) -> Seeing:
        """FGQA leaves frames to the model's own rule; the others are shown 32 spread evenly."""
        return Seeing(num_frames=self.num_frames, sampling="one_per_second" if self.section == "fgqa" else "uniform")

    @property
    def options(self) -> GenerationOptions:
        limit = self.max_new_tokens or _MAX_TOKENS[self.mode][self.section]
        return GenerationOptions(max_new_tokens=limit, first_token_may_stop=self.mode == "clean")

    def prompt(self, row: BenchRow) -> str:
        """The words of the question."""
        tail = _UNFILLED if self.mode == "compatible" else ""
        if isinstance(row, FgqaRow):
            return _FGQA.format(row=row) + tail
        if isinstance(row, SgqaRow):
            return _SGQA.format(row=row) + tail
        segment = row.segments[0]
        if self.section == "rdcap":
            return events_prompt(NUM_FRAMES)
        if self.section == "rtloc":
            return when_prompt(NUM_FRAMES).format(caption=segment.caption)
        stretch = self.shown(row, segment.start_frame, segment.end_frame)
        spoken_of = row.total_frames if self.mode == "compatible" else NUM_FRAMES
        return rcap_prompts(spoken_of)[0].format(start=int(stretch.start), end=int(stretch.end))

    def shown(self, row: RegionRow, start_frame: int, end_frame: int) -> Stretch:
        """A stretch of frames of the file in the 32 that are shown: proportional, cut off, not the nearest."""
        ends = [int(frame / (row.total_frames / NUM_FRAMES)) for frame in (start_frame, end_frame)]
        if self.mode == "clean":  # a segment may end behind the last frame
            ends = [min(max(end, 0), NUM_FRAMES - 1) for end in ends]
        return Stretch(*ends)

    def message(self, row: BenchRow, video: Path, boxes: BoxTrack | None = None) -> ChatMessage:
        """Prompt and video, boxes drawn in red on the frames that have one."""
        # A track that none of the frames shown touches leaves them as they are, as in the harness.
        is_drawn = boxes is not None and isinstance(row, RegionRow) and self._shows(boxes, row.total_frames)
        drawn = boxes if is_drawn else None
        return ChatMessage.user(MediaPart("video", video, row.video, boxes=drawn), self.prompt(row))

    def _shows(self, boxes: BoxTrack, total_frames: int) -> bool:
        return any(boxes.get(index) is not None for index in rounded_indices(total_frames, self.num_frames))

    def answer(self, text: str) -> str:
        """What counts of a model's text."""
        return text.removesuffix(".") if self.mode == "compatible" else text


def check_frames(row: RegionRow, frames_of_file: int) -> None:
    """A region task needs the frames that its boxes count.

    Raises:
        DataError: another number of frames than the row says, or fewer than are shown.
    """
    if frames_of_file < NUM_FRAMES:
        raise DataError(f"{row.video}: has {frames_of_file} frames; region tasks show {NUM_FRAMES}")
    if abs(frames_of_file - row.total_frames) > max(2, row.total_frames // 50):
        raise DataError(
            f"{row.video}: has {frames_of_file} frames, its row says {row.total_frames}; region tasks need the videos "
            "at 6 frames per second (SA-V's videos_fps_6.tar)"
        )

"""Benchmark rows in the columns of PLM-VideoBench: FGQA, SGQA, RCap, RTLoc, RDCap and the box metadata.

Columns: datasets-and-benchmarks section 1.5. Frame numbers are those of the file; readers rescale them to 32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from perceptic.world.clip import Clip
from perceptic.world.clip_rendering import RenderedClip
from perceptic.world.dense_captions import dense_segments, event_caption
from perceptic.world.plm_rows import box_map
from perceptic.world.question import Question
from perceptic.world.randomness import shuffled

Row = dict[str, Any]

_QUESTION_TYPES = {
    "motion_direction": "Movement Direction",
    "event_kind": "Action Recognition",
    "event_order": "Action Sequence",
    "final_state": "Object State",
}
_MAX_VARIANTS = 3


def bench_rows(
    number: int,
    video: str,
    clip: Clip,
    rendered: RenderedClip,
    questions: tuple[Question, ...],
    rng: np.random.Generator,
) -> dict[str, list[Row]]:
    """All rows of one clip by task, "metadata" holding the boxes; `number` is the clip's index, part of every uid."""
    rows: dict[str, list[Row]] = {"fgqa": [], "sgqa": [], "rcap": [], "rtloc": [], "rdcap": [], "metadata": []}
    for place, question in enumerate(questions):
        uid = f"w{number:07d}_{place}"
        if question.kind in _QUESTION_TYPES and question.choices:
            rows["fgqa"] += _binary_rows(uid, video, question, rng)
        else:
            rows["sgqa"].append(
                {
                    "uid": uid,
                    "video": video,
                    "question": question.question,
                    "answer": question.answer,
                    "domain": "world",
                }
            )
    for index in sorted({event.object_index for event in clip.events}):
        common = {"video": video, "masklet_id": index, "total_frames": clip.num_frames}
        segments = _segments(clip, index)
        rows["rcap"] += segments
        # The same caption twice has no single interval.
        captions = [segment["caption"] for segment in segments]
        rows["rtloc"] += [segment for segment in segments if captions.count(segment["caption"]) == 1]
        dense = [
            {"start_frame": part.start_frame, "end_frame": part.end_frame, "caption": part.caption}
            for part in dense_segments(clip, index)
        ]
        rows["rdcap"].append({"uid": 10 * number + index, **common, "dense_captions": dense})
        rows["metadata"].append({"video": video, "masklet_id": index, "bbox": box_map(rendered, index)})
        for place, segment in enumerate(segments):
            segment.update(uid=100 * number + 10 * index + place, **common)
    return rows


def _segments(clip: Clip, object_index: int) -> list[Row]:
    return [
        {"caption": event_caption(event), "start_frame": event.start_frame, "end_frame": event.end_frame}
        for event in clip.events
        if event.object_index == object_index
    ]


def _binary_rows(uid: str, video: str, question: Question, rng: np.random.Generator) -> list[Row]:
    wrong = shuffled(rng, [choice for choice in question.choices if choice != question.answer])[:_MAX_VARIANTS]
    rows = []
    for place, other in enumerate(wrong):
        options = shuffled(rng, [question.answer, other])
        rows.append(
            {
                "uid": f"{uid}_{place}",
                "qa_uid": uid,
                "video": video,
                "question": question.question,
                "answer": question.answer,
                "options": {"option_0": options[0], "option_1": options[1]},
                "answer_index": options.index(question.answer),
                "metadata": {"source_dataset": "world", "question_type": _QUESTION_TYPES[question.kind]},
            }
        )
    return rows

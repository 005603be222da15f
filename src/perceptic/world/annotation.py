"""Scenes and clips as JSON values: everything that is true of a picture, beside the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceptic.world.captioning import Captions
from perceptic.world.clip import Clip
from perceptic.world.clip_captioning import action_phrase
from perceptic.world.clip_rendering import RenderedClip
from perceptic.world.question import Question
from perceptic.world.rendering import BACKGROUND_DEPTH, Box, Rendered
from perceptic.world.scene import Scene, SceneObject, location, main_relation


def scene_annotation(
    scene: Scene, rendered: Rendered, captions: Captions, questions: tuple[Question, ...]
) -> dict[str, Any]:
    """One picture: captions, objects with boxes [x, y, w, h] in pixels, masks and depth, relations, questions.

    Masks are uncompressed COCO run lengths. The depth map follows from them: an object's depth where its mask is, 1.0
    elsewhere.
    """
    height, width = rendered.pixels.shape[:2]
    masks = rendered.masks
    objects = [
        {
            **object_attributes(item),
            "depth": item.depth,
            "location": location(item),
            "box": _xywh(rendered.boxes[index]),
            "amodal_box": _xywh(rendered.amodal_boxes[index]),
            "mask": run_lengths(masks[index]),
        }
        for index, item in enumerate(scene.objects)
    ]
    return {
        "split": scene.split,
        "width": width,
        "height": height,
        "captions": captions_value(captions),
        "objects": objects,
        "relations": _relations(scene.objects),
        "background": {
            "pattern": scene.background.pattern,
            "colour": scene.background.colour,
            "depth": BACKGROUND_DEPTH,
        },
        "sign": None if scene.sign is None else {"text": scene.sign.text, "place": scene.sign.place},
        "chart": _chart(scene),
        "questions": [question_value(question) for question in questions],
    }


def clip_annotation(
    clip: Clip, rendered: RenderedClip, captions: Captions, questions: tuple[Question, ...]
) -> dict[str, Any]:
    """One clip: captions, objects with tracks (a box [x1, y1, x2, y2] or null per frame), events with frames and
    seconds, questions."""
    height, width = rendered.pixels.shape[1:3]
    return {
        "split": clip.scene.split,
        "width": width,
        "height": height,
        "num_frames": clip.num_frames,
        "frames_per_second": clip.frames_per_second,
        "duration_seconds": clip.duration_seconds,
        "captions": captions_value(captions),
        "objects": [
            {**object_attributes(item), "depth": item.depth, "track": [_xyxy(box) for box in track]}
            for item, track in zip(clip.scene.objects, rendered.tracks, strict=True)
        ],
        "events": [
            {
                "object": event.object_index,
                "kind": event.kind,
                "phrase": action_phrase(event),
                "start_frame": event.start_frame,
                "end_frame": event.end_frame,
                "start_seconds": clip.start_seconds(event),
                "end_seconds": clip.end_seconds(event),
            }
            for event in clip.events
        ],
        "sign": None if clip.scene.sign is None else {"text": clip.scene.sign.text, "place": clip.scene.sign.place},
        "questions": [question_value(question) for question in questions],
    }


def object_attributes(item: SceneObject) -> dict[str, Any]:
    """An object's named attributes."""
    return {"shape": item.shape, "colour": item.colour, "size": item.size, "texture": item.texture, "text": item.text}


def captions_value(captions: Captions) -> dict[str, str]:
    """The three captions by length."""
    return {"short": captions.short, "medium": captions.medium, "long": captions.long}


def question_value(question: Question) -> dict[str, Any]:
    """A question as a JSON value."""
    return {
        "kind": question.kind,
        "question": question.question,
        "answer": question.answer,
        "choices": list(question.choices),
        "object": question.object_index,
    }


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths of an (H, W) mask: down the columns, starting with the number of zeros."""
    flat = np.concatenate([[False], mask.T.reshape(-1), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()
    # A mask that ends in ones ends with its own run, not with an empty run of zeros.
    if counts[-1] == 0 and len(counts) > 1:
        counts.pop()
    return {"size": [mask.shape[0], mask.shape[1]], "counts": counts}


def mask_from_run_lengths(value: dict[str, list[int]]) -> NDArray[np.bool_]:
    """The (H, W) mask back from `run_lengths`."""
    height, width = value["size"]
    flags = np.arange(len(value["counts"])) % 2 == 1
    mask: NDArray[np.bool_] = np.repeat(flags, value["counts"]).reshape(width, height).T
    return mask


def _relations(objects: tuple[SceneObject, ...]) -> list[list[int | str]]:
    """[first, relation, second] with object indices: the main relation of every pair that has one."""
    found: list[list[int | str]] = []
    for first in range(len(objects)):
        for second in range(first + 1, len(objects)):
            relation = main_relation(objects[first], objects[second])
            if relation is not None:
                found.append([first, relation, second])
    return found


def _chart(scene: Scene) -> dict[str, Any] | None:
    chart = scene.chart
    if chart is None:
        return None
    return {"kind": chart.kind, "labels": list(chart.labels), "values": list(chart.values), "title": chart.title}


def _xywh(box: Box | None) -> list[int] | None:
    return None if box is None else list(box.xywh)


def _xyxy(box: Box | None) -> list[int] | None:
    return None if box is None else list(box.xyxy)

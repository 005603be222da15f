"""Training rows about when something happens, told after what is seen of it frame by frame.

"0 c 7 f 3 e 5 f 1 c 6 f 2 d 4 f: [4, 18]": the columns of what moves to the right in the frames that a model sees,
then from when to when. Nothing in a single frame tells a time or an order, and a model of a few layers finds them in
steps that it writes down (docs/plm-nano.md).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from perceptic.text.region_prompts import when_prompt
from perceptic.world.acts import STILL, act_word, is_seen, told_frames
from perceptic.world.clip import Clip, Event, scene_at
from perceptic.world.clip_questions import clip_questions, event_sentence
from perceptic.world.clip_rendering import RenderedClip
from perceptic.world.dense_captions import event_caption
from perceptic.world.drills import FRAME_COUNTS, about, frame_span
from perceptic.world.lines import GONE
from perceptic.world.places import COLUMNS, ROWS, cell_of
from perceptic.world.plm_rows import Row, box_map
from perceptic.world.question import Question
from perceptic.world.randomness import pick, shuffled
from perceptic.world.scene import SceneObject
from perceptic.world.words import VISIBLE, clip_words, colour_now, reading

_MAX_TIMES: Final = 3
_TOLD_ORDER: Final = (0, 7, 3, 5, 1, 6, 2, 4)
_SIZED: Final = ("grows", "shrinks")


def video_times_rows(path: str, clip: Clip, rendered: RenderedClip, rng: np.random.Generator) -> list[Row]:
    """When events happen that happen once: of the whole clip, and of one object in a box."""
    index = pick(rng, clip.events).object_index
    anywhere, inside = _times(clip, None, rng), _times(clip, index, rng)
    rows: list[Row] = []
    if anywhere:
        rows.append({"video": path, "conversations": about("video", anywhere)})
    if inside:
        rows.append({"video": path, "bbox_map": box_map(rendered, index), "conversations": about("video", inside)})
    return rows


def video_orders_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """What happens first, or last, or after something; None where no two events differ."""
    turns = _orders(clip, rng)
    return {"video": path, "conversations": about("video", turns)} if turns else None


def steps_word_rows(clip: Clip, rng: np.random.Generator) -> list[Row]:
    """Readings of a clip's words with its times and orders, none where sizes would have to be read: words of clips do
    not tell them."""
    if any(event.kind in _SIZED for event in clip.events):
        return []
    index = pick(rng, clip.events).object_index
    told = [(None, _times(clip, None, rng)), (index, _times(clip, index, rng)), (None, _orders(clip, rng))]
    return [reading(clip_words(clip, boxed), turns) for boxed, turns in told if turns]


def trail(clip: Clip, event: Event) -> list[str]:
    """What the frames that a model sees show of what an event changes, a word each: a column or a row, a size, a colour
    or that nothing is there; of a turn or a shake, whether something was done since the frame before."""
    frames = told_frames(clip)
    items = [scene_at(clip, frame).objects[event.object_index] for frame in frames]
    if event.kind.startswith("turns") or event.kind in ("bounces", "shakes"):
        return [STILL, *(act_word(event) if is_seen(event, *step) else STILL for step in pairwise(frames))]
    return [GONE if item.opacity < VISIBLE else _seen(event, item) for item in items]


def trail_words(clip: Clip, event: Event) -> str:
    """The same with the numbers of the frames, by which a model finds them, the two ends first: "0 c 7 f 3 e". In their
    order each would mostly be the one before, and that is all a model would learn of them."""
    words = trail(clip, event)
    return " ".join(f"{number} {words[number]}" for number in _TOLD_ORDER)


def _seen(event: Event, item: SceneObject) -> str:
    column, row = cell_of(item)
    if event.kind in ("moves up", "moves down"):
        return ROWS[row]
    if event.kind in _SIZED:
        return item.size
    return colour_now(item) if event.kind == "changes colour" else COLUMNS[column]


def _orders(clip: Clip, rng: np.random.Generator) -> list[tuple[str, str]]:
    by_sentence = {event_sentence(clip, event): event for event in clip.events}
    if len(by_sentence) < len(clip.events):
        return []
    orders = [one for one in clip_questions(clip, rng) if one.kind == "event_order"]
    # Two questions a pair of events, of which one answers the other.
    asked = [pick(rng, both) for both in zip(orders[::2], orders[1::2], strict=True)]
    return [(one.question, _order(clip, one, by_sentence)) for one in shuffled(rng, asked)]


def _order(clip: Clip, question: Question, by_sentence: dict[str, Event]) -> str:
    """ "0 c 7 f ... 4 f from 1, 0 gone ... 4 gone from 4: the red star moves right": of each event that the question
    names, and of the one that it asks for, what is seen of it and from which frame on."""
    named = sorted((words for words in by_sentence if words in question.question), key=question.question.index)
    if question.answer not in named:
        named.append(question.answer)
    steps = (f"{trail_words(clip, by_sentence[words])} from {_begins(clip, by_sentence[words])}" for words in named)
    return f"{', '.join(steps)}: {question.answer}"


def _begins(clip: Clip, event: Event) -> int:
    return max(number for number, frame in enumerate(told_frames(clip)) if frame <= event.start_frame)


def _times(clip: Clip, boxed: int | None, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Of some events that happen once, in the clip or to the boxed object."""
    if boxed is None:
        told = [(event, event_sentence(clip, event)) for event in clip.events]
    else:
        own = [event for event in clip.events if event.object_index == boxed]
        told = [(event, event_caption(event).removesuffix(".")) for event in own]
    captions = [caption for _, caption in told]
    once = [(event, caption) for event, caption in told if captions.count(caption) == 1]
    asked = shuffled(rng, once)[:_MAX_TIMES]
    return [_time(clip, event, caption, rng, is_boxed=boxed is not None) for event, caption in asked]


def _time(clip: Clip, event: Event, caption: str, rng: np.random.Generator, *, is_boxed: bool) -> tuple[str, str]:
    total = pick(rng, FRAME_COUNTS)
    ask = when_prompt(total, is_boxed=is_boxed).format(caption=caption)
    return ask, f"{trail_words(clip, event)}: {frame_span(clip, event.start_frame, event.end_frame, total)}"

"""The vocabulary of PLM-Nano: learned from what is said about the synthetic world, and a little plain English.

    python -m perceptic.data.nano_tokenizer tokenizer.model

writes the bundled file again, byte for byte.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from perceptic.configs_plm import plm_config
from perceptic.data.plain_english import PLAIN_ENGLISH
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.rank_bpe_training import train_rank_bpe
from perceptic.text.templates import SYSTEM_PROMPT, without_tags
from perceptic.world.captioning import captions
from perceptic.world.clip_captioning import clip_captions
from perceptic.world.clip_rendering import render_clip_annotated
from perceptic.world.clip_sampling import sample_clip
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
from perceptic.world.randomness import seeded
from perceptic.world.rendering import render
from perceptic.world.sampling import sample_scene

NUM_SCENES = 1000
NUM_CLIPS = 200

# Only the words of rows are used: pictures may be small, they are drawn for what can be seen in them.
_PICTURE_SIZE = 16
_CLIP_FRAMES = 32
_QUESTIONS = 8
_MARKER = re.compile(r"<\|bbox\d+\|>")

# Wordings of people and benchmarks that world rows do not have; each counts as often as a frequent prompt.
_PROMPTS = (
    SYSTEM_PROMPT,
    "system",
    "user",
    "assistant",
    "Describe the image in details.",
    "What is happening in the video?",
    "Please describe the region inside the rec rectangle.",
    "What is the difference between two images.",
    "Answer the question using a single word or phrase.",
    "Answer with the option's letter from the given choices directly.",
    "Only give the best option.",
    "Question: Options: Answer:",
    "The following question is asked by the camera wearer at the end of the video.  Provide a detailed answer even if "
    "unsure.  Try to answer in around 20-30 words.  Now answer the following question based on the video content: ",
    "Yes, there is. No, there is not. I don't know. It's not shown in this image.",
)
_PROMPT_WEIGHT = 100


def nano_tokenizer(num_scenes: int = NUM_SCENES, num_clips: int = NUM_CLIPS) -> LlamaTokenizer:
    """Learn PLM-Nano's vocabulary; the same numbers give the same vocabulary on every machine.

    Raises:
        TextError: too few scenes and clips for that many tokens.
    """
    return train_rank_bpe(corpus(num_scenes, num_clips), plm_config("PLM-Nano").decoder.vocab_size)


def corpus(num_scenes: int, num_clips: int) -> Iterator[str]:
    """Everything said in training rows of so many scenes and clips, all their captions, prompts and plain English."""
    yield PLAIN_ENGLISH
    for prompt in _PROMPTS:
        yield from [prompt] * _PROMPT_WEIGHT
    for seed in range(num_scenes):
        yield from _scene_texts(seed)
    for seed in range(num_clips):
        yield from _clip_texts(seed)


def _scene_texts(seed: int) -> Iterator[str]:
    scene = sample_scene(seed)
    told, asked = captions(scene, seed), questions(scene, seed, limit=_QUESTIONS)
    yield from (told.short, told.medium, told.long)
    rng = seeded(seed, "vocabulary of scenes")
    rows: list[Row | None] = [*image_rows("", told, asked, rng), text_row(told, asked, rng)]
    rows += region_rows("", scene, render(scene, _PICTURE_SIZE), rng)
    rows.append(multi_image_row(("", ""), (scene, sample_scene(seed + 1)), rng))
    yield from _said(rows)


def _clip_texts(seed: int) -> Iterator[str]:
    clip = sample_clip(seed, num_frames=_CLIP_FRAMES)
    told, asked = clip_captions(clip, seed), questions(clip, seed, limit=_QUESTIONS)
    yield from (told.short, told.medium, told.long)
    rng = seeded(seed, "vocabulary of clips")
    rendered = render_clip_annotated(clip, _PICTURE_SIZE)
    rows: list[Row | None] = [*video_rows("", clip, told, asked, rng)]
    for event in clip.events:
        rows += [rcap_row("", clip, rendered, event, rng), rtloc_row("", clip, rendered, event, rng)]
        rows.append(rdcap_row("", clip, rendered, event.object_index, rng))
    yield from _said(rows)


def _said(rows: list[Row | None]) -> Iterator[str]:
    for row in rows:
        for turn in row["conversations"] if row is not None else ():
            # What the tags and markers become has no letters: pictures and numbers.
            yield _MARKER.sub("[0,0,0,0]", without_tags(turn["value"]))


def main(arguments: list[str]) -> None:
    """Write the vocabulary to the file that is named."""
    if len(arguments) != 1:
        sys.exit("usage: python -m perceptic.data.nano_tokenizer OUTPUT")
    nano_tokenizer().save_rank_file(Path(arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])

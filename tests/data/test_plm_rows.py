"""Rows become samples with the original's pixels and ids, and bad rows say what is wrong with them."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from perceptic.configs_plm import PerceptionLMPreprocessing
from perceptic.data.plm_rows import (
    ImageRow,
    MultiImageRow,
    PlmRow,
    RowError,
    TextRow,
    Turn,
    VideoRow,
    parse_row,
)
from perceptic.data.plm_samples import SampleMaker, TrainingSample
from perceptic.data.row_files import RowFile, RowSet
from perceptic.errors import DataError
from perceptic.media.boxes import Box
from perceptic.media.chunks import ChunkTransform
from perceptic.text.llama_tokenizer import LlamaTokenizer

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES = json.loads((GOLDENS / "plm" / "text" / "dataset_rows.json").read_text())
TOKENIZER = LlamaTokenizer.from_file(GOLDENS / "plm" / "tokenizer" / "tokenizer.model")
TALK = [{"from": "human", "value": "What is it?"}, {"from": "assistant", "value": "A cat."}]
# Pictures that are too large to carry along: any of their size gives the same ids.
ABSENT = {"dog.png": (1024, 687), "rock_climbing.jpg": (1920, 1147)}


def maker(max_tokens: int = CASES["seq_len"], **changes: Any) -> SampleMaker:
    settings = {name: CASES[name] for name in ("vision_input_type", "max_num_tiles", "max_video_frames")}
    transform = ChunkTransform(PerceptionLMPreprocessing(tile_size=CASES["image_res"], **settings))
    tokens_per_chunk = (CASES["image_res"] // CASES["patch_size"] // CASES["pooling_ratio"]) ** 2
    return SampleMaker(TOKENIZER, transform, tokens_per_chunk, max_tokens, allow_special=True, **changes)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for name in ("cat.png", "ocrbench_centre.jpg", "dog.mp4"):
        shutil.copy(GOLDENS / "media" / name, folder)
    for name, size in ABSENT.items():
        Image.new("RGB", size).save(folder / name)
    return folder


def sample_of(row: dict[str, Any], media: Path, **changes: Any) -> TrainingSample:
    return maker(**changes)(parse_row(row, "rows.jsonl:1"), media, "rows.jsonl:1")


@pytest.mark.parametrize("case", CASES["rows"], ids=lambda case: str(case["row"])[:60])
def test_goldens(case: dict[str, Any], media: Path) -> None:
    row = case["row"]
    if "text_ids" not in case:
        with pytest.raises(RowError, match=r"no such file|no room"):
            sample_of(row, media)
        return
    sample = sample_of(row, media)
    assert list(sample.tokens.token_ids) == case["text_ids"]
    assert list(sample.tokens.image_positions) == case["image_pos"]
    assert list(sample.tokens.response_positions) == case["response_pos"]
    assert sample.media_type == case["media_type"]
    if sample.media_type == "text":  # the original attaches a dummy picture
        assert sample.chunks is None
        return
    assert sample.chunks is not None
    assert list(sample.chunks.shape) == case["media_shape"]
    paths = row.get("image", row.get("video"))
    if not set(paths if isinstance(paths, list) else [paths]) & set(ABSENT):
        assert hashlib.sha256(sample.chunks.numpy().tobytes()).hexdigest() == case["media_sha256_u8"]


def test_kinds() -> None:
    turns = (Turn("human", "What is it?"), Turn("assistant", "A cat."))
    cases: list[tuple[dict[str, Any], PlmRow]] = [
        ({"conversations": TALK}, TextRow(turns)),
        ({"text": "A cat."}, TextRow((Turn("human", ""), turns[1]))),
        ({"image": "a.png", "conversations": TALK, "id": 7, "video": None}, ImageRow(turns, "a.png")),
        ({"image": ["a.png"], "conversations": TALK}, ImageRow(turns, "a.png")),
        ({"image": ["a.png", "b.png"], "conversations": TALK}, MultiImageRow(turns, ("a.png", "b.png"))),
        ({"video": "v.mp4", "conversations": TALK}, VideoRow(turns, "v.mp4", None, None, {})),
        (
            {
                "video": "v.mp4",
                "start_time": -0.1,
                "end_time": 9,
                "bbox_map": {"0": [10, 20, 90, 150], "1": None, "2": []},
                "conversations": TALK,
            },
            VideoRow(turns, "v.mp4", 0.0, 9.0, {0: Box(10, 20, 90, 150)}),
        ),
    ]
    for value, row in cases:
        assert parse_row(value, "here") == row


def test_answers_may_be_numbers_but_not_nothing() -> None:
    row = parse_row({"conversations": [TALK[0], {"from": "assistant", "value": 2}]}, "here")
    assert row.turns[1].text == "2"
    with pytest.raises(RowError, match="turn 2"):
        parse_row({"conversations": [TALK[0], {"from": "assistant", "value": None}]}, "here")


def test_region_text() -> None:
    row = parse_row(
        {
            "image": "a.png",
            "width": 640,
            "height": 480,
            "bbox": [[64, 48, 64, 48], [185, 62, 200, 100]],
            "conversations": [
                {"from": "human", "value": "Compare <|bbox0|> and <|bbox1|>."},
                {"from": "assistant", "value": "<|bbox1|>"},
            ],
        },
        "here",
    )
    assert [turn.text for turn in row.turns] == [
        "Compare [100,100,200,200] and [289,129,601,337].",
        "[289,129,601,337]",
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "here: not an object"),
        ({"image": "a.png"}, "'conversations', or 'text'"),
        ({"image": "", "conversations": TALK}, "bad image"),
        ({"image": [], "conversations": TALK}, "bad image"),
        ({"image": "a", "video": "b", "conversations": TALK}, "image and video"),
        ({"image": "a", "start_time": 1, "conversations": TALK}, "start_time without video"),
        ({"video": "a", "start_time": "1", "conversations": TALK}, "bad start_time"),
        ({"video": "a", "end_time": float("nan"), "conversations": TALK}, "bad end_time"),
        ({"conversations": "hello"}, "bad conversations"),
        ({"conversations": [{"from": "gpt", "value": ""}]}, "'gpt'; known: human"),
        ({"conversations": [{"from": "human"}]}, "turn 1"),
        ({"image": "a", "bbox": [[1, 2, 3, 4]], "conversations": TALK}, "bbox without width"),
        ({"image": "a", "bbox": [[1, 2, 3]], "width": 9, "height": 9, "conversations": TALK}, "bad bbox"),
        ({"bbox": [[1, 2, 3, 4]], "width": 9, "height": 9, "conversations": TALK}, "bbox without image"),
        ({"image": "a", "text": "See <|bbox0|>."}, "region without its box"),
        ({"video": "a", "bbox_map": [1], "conversations": TALK}, "bad bbox_map"),
        ({"video": "a", "bbox_map": {"x": [1, 2, 3, 4]}, "conversations": TALK}, "'x' is no frame number"),
        ({"video": "a", "bbox_map": {"0": [3, 2, 1, 4]}, "conversations": TALK}, "swapped"),
    ],
)
def test_bad_rows(value: object, message: str) -> None:
    with pytest.raises(RowError, match=message.replace("[", r"\[")) as caught:
        parse_row(value, "here")
    assert str(copy.copy(caught.value)) == str(caught.value), "errors cross processes"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["from", "value", "0"]), inner),
    max_leaves=8,
)
KEYS = ["image", "video", "conversations", "text", "bbox", "width", "height", "bbox_map", "start_time", "end_time"]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), JSON | st.just(TALK)))
def test_any_json_is_a_row_or_a_row_error(value: dict[str, Any]) -> None:
    with contextlib.suppress(RowError):
        assert parse_row(value, "here").turns is not None


@pytest.mark.parametrize(
    ("row", "max_tokens", "message"),
    [
        ({"image": ["cat.png", "cat.png"], "conversations": TALK}, 512, "placeholders for 2 pictures"),
        ({"image": "gone.png", "conversations": TALK}, 512, "gone.png"),
        ({"video": "cat.png", "conversations": TALK}, 512, "cat.png"),
        ({"conversations": TALK[:1]}, 512, "no answer"),
        ({"conversations": [TALK[0], TALK[0], TALK[1]]}, 512, "take turns"),
        ({"image": "cat.png", "conversations": TALK}, 104, "no room for the answer"),
        ({"image": "cat.png", "conversations": TALK}, 90, "no room for the question"),
        (
            {
                "image": ["cat.png", "cat.png"],
                "conversations": [
                    {"from": "human", "value": "<image>"},
                    {"from": "assistant", "value": "A"},
                    {"from": "human", "value": "<image>"},
                    {"from": "assistant", "value": "B"},
                ],
            },
            100,
            "pictures cut off",
        ),
    ],
)
def test_rows_that_cannot_be_trained_on(row: dict[str, Any], max_tokens: int, message: str, media: Path) -> None:
    with pytest.raises(RowError, match=message):
        sample_of(row, media, max_tokens=max_tokens)


def test_later_turns_may_be_cut(media: Path) -> None:
    row = {"conversations": TALK * 3}
    whole = sample_of(row, media)
    part = sample_of(row, media, max_tokens=len(whole.tokens.token_ids) - 1)
    assert (whole.is_cut, part.is_cut) == (False, True)
    assert part.tokens.token_ids == whole.tokens.token_ids[: len(part.tokens.token_ids)]


def test_labels_are_one_before_what_is_learned(media: Path) -> None:
    sample = sample_of({"text": "hi"}, media, template="warmup")
    ids = sample.tokens.token_ids
    assert TOKENIZER.decode(ids) == "hi\n"
    assert sample.num_inputs == len(ids) - 1
    assert sample.label_positions == list(range(len(ids) - 1)), "the first token has nothing before it"


def test_boxes_are_drawn_on_their_frames(media: Path) -> None:
    plain = sample_of({"video": "dog.mp4", "conversations": TALK}, media).chunks
    boxes = {"30": [0, 0, 255, 255], "31": [0, 0, 255, 255], "120": None}
    boxed = sample_of({"video": "dog.mp4", "bbox_map": boxes, "conversations": TALK}, media).chunks
    assert plain is not None
    assert boxed is not None
    changed = (plain != boxed).flatten(1).any(dim=1).tolist()
    assert changed == [False, True, False, False], "frames 0, 30, 90 and 120 are seen"
    red, green, blue = boxed[1, :, 5:50, 0].float().mean(dim=1).tolist()
    assert red > 200, "the box of the whole frame is its left edge"
    assert max(green, blue) < 50


def test_row_files(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"ü{i}" * i}, ensure_ascii=False) for i in range(20)]
    for name, text in (("a", "\n".join(lines[:12])), ("b", "".join(line + "\r\n" for line in lines[12:])), ("c", "")):
        (tmp_path / name).write_bytes(text.encode())
    rows = RowSet("rows", tuple(RowFile(tmp_path / name) for name in "abc"), tmp_path)
    assert [len(file) for file in rows.files] == [12, 8, 0]
    assert [rows.row(i).turns[1].text for i in range(len(rows))] == [f"ü{i}" * i for i in range(20)]
    assert rows.where(13) == f"{tmp_path / 'b'}:2"


def test_bad_lines(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'{"text": "x"}\n\n{"text": "\xff"}\n[1]\n')
    file = RowFile(tmp_path / "a")
    assert len(file) == 4
    for index, message in ((1, "a:2: not JSON"), (2, "a:3: not JSON"), (3, "a:4: not an object")):
        with pytest.raises(RowError, match=message):
            file.row(index)
    with pytest.raises(DataError, match="cannot be read"):
        RowFile(tmp_path / "gone")

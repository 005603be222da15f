"""Boxes as text and as drawings, to the original's strings and pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perceptic.errors import ConfigError
from perceptic.media.boxes import Box, fill_regions, parse_region, region_text
from perceptic.media.regions import draw_box, draw_boxes

GOLDENS = json.loads((Path(__file__).parents[1] / "goldens/plm/text/regions.json").read_text())


def test_boxes() -> None:
    assert len(GOLDENS["boxes"]) == 120
    for case in GOLDENS["boxes"]:
        text = region_text(
            Box.from_xywh(*case["box_xywh"]),
            case["width"],
            case["height"],
            box_format=case["region_format"],
            with_point=case["coordinate_format"] == "standard",
            digits=case["coord_decimal"],
        )
        assert text == case["text"], case


@pytest.mark.parametrize("case", GOLDENS["conversations"])
def test_markers(case: dict[str, Any]) -> None:
    boxes = [Box.from_xywh(*box) for box in case["boxes_xywh"]]
    for entry, wanted in zip(case["conversations"], case["result"], strict=True):
        assert fill_regions(entry["value"], boxes, case["width"], case["height"]) == wanted["value"]


def test_a_marker_without_a_box() -> None:
    with pytest.raises(ConfigError, match="bbox2"):
        fill_regions("What is <|bbox2|>?", [Box(0, 0, 1, 1)], 10, 10)
    with pytest.raises(ConfigError, match="0 x 10"):
        region_text(Box(0, 0, 1, 1), 0, 10)


@pytest.mark.parametrize(
    ("answer", "box"),
    [
        ("[040,482,112,576]", Box(40, 482, 112, 576)),
        ("It is at [0.040, 0.482, 0.112, 0.576].", Box(40, 482, 112, 576)),
        ("[.5,.5,1,1]", Box(500, 500, 100, 100)),
        ("[000,000,999,999] and [1,2,3,4]", Box(0, 0, 999, 999)),
        ("nowhere", None),
        ("[1, 2, 3]", None),
        ("[a, b, c, d]", None),
        ("", None),
    ],
)
def test_parse(answer: str, box: Box | None) -> None:
    parsed = parse_region(answer, 1000, 1000)
    assert parsed.text == answer
    if box is None:
        assert parsed.box is None
    else:
        assert parsed.box is not None
        found = (parsed.box.left, parsed.box.top, parsed.box.right, parsed.box.bottom)
        assert found == pytest.approx((box.left, box.top, box.right, box.bottom))


@given(st.text(alphabet="[]0123456789., x", max_size=40))
def test_parse_never_raises(answer: str) -> None:
    assert parse_region(answer, 640, 480).text == answer


SIDE = st.floats(0, 0.998)


@given(SIDE, SIDE, SIDE, SIDE)
def test_text_comes_back_to_a_thousandth(left: float, top: float, right: float, bottom: float) -> None:
    box = Box(640 * left, 480 * top, 640 * right, 480 * bottom)
    parsed = parse_region(region_text(box, 640, 480), 640, 480).box
    assert parsed is not None
    assert abs(parsed.left - box.left) <= 0.65
    assert abs(parsed.bottom - box.bottom) <= 0.49


def test_stroke() -> None:
    frame = torch.zeros(3, 40, 50, dtype=torch.uint8)
    drawn = draw_box(frame, Box(10.7, 5.2, 30.9, 25.6))
    assert int(frame.sum()) == 0
    painted = drawn[0] == 255
    assert int(painted.sum()) == 272
    assert painted[15].nonzero().flatten().tolist() == [10, 11, 12, 13, 27, 28, 29, 30]
    assert painted[:, 20].nonzero().flatten().tolist() == [5, 6, 7, 8, 22, 23, 24, 25]
    assert painted[5, 10]
    assert painted[25, 30]
    assert int(drawn[1:].sum()) == 0


@pytest.mark.parametrize(
    ("box", "count"),
    [
        (Box(-10, -10, 100, 100), 0),  # the stroke lies outside the picture
        (Box(-2, -2, 49, 39), 40 * 50 - 34 * 44),
        (Box(3, 3, 3, 3), 1),
        (Box(0, 0, 5, 5), 36),
        (Box(60, 60, 70, 70), 0),
        (Box(-20, 0, -10, 10), 0),
    ],
)
def test_strokes_at_the_border(box: Box, count: int) -> None:
    drawn = draw_box(torch.zeros(3, 40, 50, dtype=torch.uint8), box)
    assert int((drawn[0] == 255).sum()) == count


def test_only_frames_with_a_box_are_drawn_on() -> None:
    frames = torch.zeros(3, 3, 20, 20, dtype=torch.uint8)
    drawn = draw_boxes(frames, [0, 5, 9], {5: Box(0, 0, 9, 9), 9: None, 7: Box(0, 0, 3, 3)})
    assert [int((frame > 0).sum()) for frame in drawn] == [0, 96, 0]


def test_swapped_corners_are_refused() -> None:
    with pytest.raises(ConfigError, match="left <= right"):
        draw_box(torch.zeros(3, 20, 20, dtype=torch.uint8), Box(9, 0, 3, 5))

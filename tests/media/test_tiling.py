"""Grids, chunks and video frames are the original's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from perceptic.configs_plm import PerceptionLMPreprocessing
from perceptic.errors import ConfigError
from perceptic.media.boxes import Box
from perceptic.media.chunks import ChunkTransform
from perceptic.media.preprocess import image_to_tensor
from perceptic.media.regions import draw_boxes
from perceptic.media.tiling import Grid, choose_grid

GOLDENS = Path(__file__).parents[1] / "goldens"
PREPROCESS = GOLDENS / "preprocess"
GRIDS = [case for case in json.loads((PREPROCESS / "grids.json").read_text()) if not case["area_limit"]]
IMAGES = json.loads((PREPROCESS / "plm_image.json").read_text())
VIDEOS = json.loads((PREPROCESS / "plm_video.json").read_text())["cases"]


def test_grids() -> None:
    assert len(GRIDS) > 300
    for case in GRIDS:
        grid = choose_grid(case["width"], case["height"], case["tile_size"], case["max_num_tiles"])
        assert [grid.columns, grid.rows] == case["grid_wh"], case


@pytest.mark.parametrize(
    ("max_num_tiles", "digest"),
    [
        (4, "2b9ff1fd50af15646712c3a6a6827ae31d30ba2a99c5e2b71130d2aca28a24cf"),
        (9, "0f0494a0e490c6b96282ed61088f26c163f7bee67e6cd6dd4d49322395b5bbd2"),
        (16, "9e3f48152d0e4b9fa6621d070e07291c2a672ac9fdd3bf0459a82a14ab488c16"),
        (36, "63345e91de57ff6a02967dd77e20435774c030af4b58d726b019bf6bcd60def7"),
    ],
)
def test_grids_in_bulk(max_num_tiles: int, digest: str) -> None:
    pairs = [
        [grid.columns, grid.rows]
        for width in range(16, 6000, 61)
        for height in range(16, 6000, 67)
        for grid in [choose_grid(width, height, 448, max_num_tiles)]
    ]
    assert hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode()).hexdigest() == digest


@pytest.mark.parametrize(
    ("width", "height", "columns", "rows"),
    [(640, 480, 7, 5), (1920, 1080, 8, 4), (300, 20000, 1, 36), (2480, 3508, 5, 7), (1, 1000, 1, 36), (84, 1681, 0, 0)],
)
def test_worked_examples(width: int, height: int, columns: int, rows: int) -> None:
    grid = choose_grid(width, height, 448, 36)
    assert grid.num_tiles <= 36
    if columns:
        assert grid == Grid(columns, rows)


@pytest.mark.parametrize("sizes", [(0, 5, 448, 4), (5, -1, 448, 4), (5, 5, 0, 4), (5, 5, 448, 0)])
def test_bad_sizes(sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        choose_grid(*sizes)


def transform(size: int, **fields: Any) -> ChunkTransform:
    return ChunkTransform(PerceptionLMPreprocessing(tile_size=size, **fields))


def digest_of(pixels: torch.Tensor) -> str:
    return hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("case", IMAGES, ids=lambda case: case["key"])
def test_pictures(case: dict[str, Any]) -> None:
    image = Image.open(GOLDENS / "media" / case["image"]).convert("RGB")
    chunks = transform(case["size"], vision_input_type=case["vision_input_type"], max_num_tiles=case["max_num_tiles"])
    pixels = chunks.pixels(image)
    assert list(pixels.shape) == case["shape"]
    assert digest_of(pixels) == case["sha256_u8"]
    assert chunks.num_chunks(image.width, image.height) == case["shape"][0]
    if "sampled_tiles" in case:  # the numbers below are of those tiles alone
        return
    normalised = chunks(image)
    assert normalised.min().item() == pytest.approx(case["min"], abs=1e-6)
    assert normalised.max().item() == pytest.approx(case["max"], abs=1e-6)


def test_order_of_tiles() -> None:
    blocks = torch.arange(6, dtype=torch.uint8).reshape(2, 3) * 40
    pixels = blocks.repeat_interleave(28, 0).repeat_interleave(28, 1)
    image = Image.fromarray(pixels.numpy()).convert("RGB")
    tiles = transform(28, max_num_tiles=6).pixels(image)
    assert tiles[:, 0, 14, 14].tolist() == [152, 0, 40, 80, 120, 160, 200]


def test_tiles_can_be_limited_by_the_caller() -> None:
    chunks, image = transform(56, max_num_tiles=36), Image.new("RGB", (640, 480))
    assert transform(448).num_chunks(640, 480) == 36
    assert len(chunks(image)) == chunks.num_chunks(640, 480) == 13
    assert len(chunks(image, max_num_tiles=4)) == chunks.num_chunks(640, 480, 4) == 5
    assert len(chunks(image, max_num_tiles=0)) == chunks.num_chunks(640, 480, 0) == 1
    assert chunks.images([image, image]).shape == (2, 3, 56, 56)
    with pytest.raises(ConfigError, match="negative"):
        chunks(image, max_num_tiles=-1)


def decode(name: str, indices: list[int]) -> torch.Tensor:
    with av.open(str(GOLDENS / "media" / name)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.stack([image_to_tensor(Image.fromarray(frames[index])) for index in indices])


@pytest.mark.parametrize("case", VIDEOS, ids=lambda case: case["key"])
def test_video(case: dict[str, Any]) -> None:
    frames = decode(case["video"], case["frame_indices"])
    if "sha256_decoded_rgb" in case:
        found = [hashlib.sha256(frame.permute(1, 2, 0).contiguous().numpy().tobytes()).hexdigest() for frame in frames]
        if found != case["sha256_decoded_rgb"]:
            pytest.skip("this FFmpeg decodes other pixels")
    boxes = {int(key): Box(*box) if box else None for key, box in case.get("bbox_map", {}).items()}
    chunks = transform(case["size"]).frames(draw_boxes(frames, case["frame_indices"], boxes))
    wanted = load_file(PREPROCESS / "plm_video.safetensors")[case["key"]]
    levels = ((chunks + 1) * 127.5 - wanted.float()).abs()
    # One level and 0.01 on average is the tolerance for tensor resizing on another machine.
    assert levels.max() < 1.01
    assert levels.mean() < 0.01

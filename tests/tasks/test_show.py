"""Drawings have the right shape and place, for every kind of tower."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from perceptic.errors import ConfigError, DataError, MediaError, OutputError
from perceptic.inference.encode import load_encoder
from perceptic.media.images import load_image
from perceptic.media.preprocess import ImageTransform
from perceptic.tasks.feature_maps import dense_embeddings
from perceptic.tasks.show import feature_map, overlay, paint, show


@pytest.mark.parametrize("model", ["tiny_clip", "tiny_tower"])
@pytest.mark.parametrize("colours", ["lch", "rgb"])
def test_components(model: str, colours: str, media: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    output = tmp_path / "out.png"
    shown = show(media / "a.png", output, model=request.getfixturevalue(model), colours=colours)  # type: ignore[arg-type]
    assert shown.map_kind == "components"
    assert shown.values.shape == (4, 4, 3)
    assert 0 <= shown.values.min() <= shown.values.max() <= 1
    with Image.open(output) as written:
        assert written.format == "PNG"
        assert written.size == shown.image.size == (2 * 576 + 12, 384)  # 30 x 20 enlarged, twice, and a gap


def test_point_in_pixels_and_as_a_share_are_the_same(tiny_tower: Path, media: Path) -> None:
    by_share = show(media / "a.png", model=tiny_tower, point=(0.9, 0.1))
    by_pixel = show(media / "a.png", model=tiny_tower, point=(27, 2))
    np.testing.assert_array_equal(by_share.values, by_pixel.values)
    assert by_share.map_kind == "point"
    assert by_share.values[0, 3] == pytest.approx(1, abs=1e-6)
    assert by_share.values.max() <= 1 + 1e-6


def test_layer_and_size(tiny_tower: Path, media: Path) -> None:
    last = show(media / "a.png", model=tiny_tower, point=(0, 0)).values
    assert np.array_equal(last, show(media / "a.png", model=tiny_tower, point=(0, 0), layer=2).values)
    assert not np.allclose(last, show(media / "a.png", model=tiny_tower, point=(0, 0), layer=0).values)
    assert show(media / "a.png", model=tiny_tower, point=(0, 0), size=41).values.shape == (10, 10)


def test_text_map_pools_every_patch_alone(tiny_clip: Path, media: Path) -> None:
    encoder = load_encoder(tiny_clip, needs_text=True)
    picture = load_image(media / "a.png")
    kind, values = feature_map(encoder, picture, text="a red circle")
    assert kind == "text"
    features = encoder.patch_features(ImageTransform(encoder.preprocessing)(picture)[None])
    with torch.inference_mode():
        text = encoder.clip.encode_text(encoder.tokenizer("a red circle"), normalize=True)[0]
        for row, column in ((0, 0), (3, 1)):
            alone = encoder.tower.project(encoder.tower.attn_pool(features[row, column][None, None]))[0]
            assert values[row, column] == pytest.approx(float(torch.cosine_similarity(alone, text, dim=0)), abs=1e-5)


def test_one_patch_pictures_are_embedded_by_the_dense_path(tiny_clip: Path, media: Path) -> None:
    """Where the pool sees one token only, pooling it alone is pooling: the dense path must give the embedding."""
    encoder = load_encoder(tiny_clip)
    pixels = ImageTransform(encoder.preprocessing.replace(image_size=4))(load_image(media / "a.png"))[None]
    dense = dense_embeddings(encoder, encoder.patch_features(pixels))[0, 0]
    with torch.inference_mode():
        stripped = encoder.tower(pixels, strip_cls_token=True)[0]
    torch.testing.assert_close(dense, stripped, atol=1e-5, rtol=0)


def test_a_video_shows_its_middle_frame(tiny_clip: Path, media: Path) -> None:
    assert show(media / "clip.mp4", model=tiny_clip).values.shape == (4, 4, 3)


def test_mistakes(tiny_clip: Path, tiny_tower: Path, media: Path, tmp_path: Path) -> None:
    picture = media / "a.png"
    with pytest.raises(ConfigError, match="not both"):
        show(picture, model=tiny_clip, point=(0, 0), text="red")
    with pytest.raises(ConfigError, match=r"point 31,5 lies outside the picture \(30 x 20\)"):
        show(picture, model=tiny_clip, point=(31, 5))
    with pytest.raises(ConfigError, match="layer_idx 7 is out of range"):
        show(picture, model=tiny_clip, layer=7)
    with pytest.raises(ConfigError, match="last layer"):
        show(picture, model=tiny_clip, text="red", layer=0)
    with pytest.raises(ConfigError, match="without a text tower"):
        show(picture, model=tiny_tower, text="red")
    with pytest.raises(ConfigError, match="at least 4 px"):
        show(picture, model=tiny_clip, size=3)
    with pytest.raises(ConfigError, match=r"ends in \.png"):
        show(picture, tmp_path / "out.jpg", model=tiny_clip)
    with pytest.raises(DataError, match="is a folder"):
        show(media, model=tiny_clip)
    with pytest.raises(MediaError):
        show(media / "torn.png", model=tiny_clip)
    with pytest.raises(OutputError):
        show(picture, media / "a.png" / "out.png", model=tiny_clip)


def test_painting() -> None:
    values = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    painted = np.asarray(paint("point", values)).astype(int).sum(axis=-1)
    assert painted[0, 0] < painted[0, 1] < painted[1, 0] < painted[1, 1], "higher is lighter"
    assert overlay(Image.new("RGB", (50, 30)), "point", values).size == (50, 30)

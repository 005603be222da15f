"""Features are computed once for each content, by any process, and survive interruptions and damage."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from perceptic import world
from perceptic.errors import ConfigError, DataError
from perceptic.evaluate.feature_cache import FeatureCache, content_key
from perceptic.evaluate.features import FeatureSpec, Medium, extract
from perceptic.evaluate.request import ModelUnderTest
from perceptic.inference.encode import Encoder
from perceptic.weights.pretrained import CLIP, load_bundle


def same(content: bytes) -> bytes:
    return content


def picture(number: int) -> bytes:
    return world.png_bytes(world.render_pixels(world.sample_scene(number, "validation"), 64))


def media(count: int) -> list[Medium]:
    return [Medium(f"{number}.png", "image", partial(same, picture(number))) for number in range(count)]


@pytest.fixture
def encoded(nano: ModelUnderTest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of the encoder saw."""
    counts: list[int] = []
    original: Callable[..., torch.Tensor] = Encoder.encode_pixels

    def counted(self: Encoder, pixels: torch.Tensor, batch_size: int = 32) -> torch.Tensor:
        counts.append(len(pixels))
        return original(self, pixels, batch_size)

    monkeypatch.setattr(Encoder, "encode_pixels", counted)
    return counts


def test_known_content_is_not_encoded_again(nano: ModelUnderTest, tmp_path: Path, encoded: list[int]) -> None:
    first = extract(nano.encoder, media(5), FeatureSpec(), cache=tmp_path)
    assert sum(encoded) == 5
    renamed = [Medium(f"other-{one.name}", "image", one.read) for one in media(6)]
    second = extract(nano.encoder, renamed, FeatureSpec(), cache=tmp_path)
    assert sum(encoded) == 6  # one new picture; names do not matter
    torch.testing.assert_close(second.vectors()[:5], first.vectors(), rtol=0, atol=0)
    assert first.digest != second.digest
    assert first.digest == extract(nano.encoder, media(5), FeatureSpec(), cache=tmp_path).digest


def test_models_that_share_a_vision_tower_share_pictures_and_no_results(
    nano: ModelUnderTest, tmp_path: Path, encoded: list[int]
) -> None:
    bundle = load_bundle("PE-Core-Nano")
    assert isinstance(bundle.model, CLIP)
    with torch.no_grad():
        bundle.model.logit_scale.add_(0.1)
    bundle.model.save_pretrained(tmp_path / "retuned", tokenizer=bundle.tokenizer)
    retuned = ModelUnderTest(str(tmp_path / "retuned"), device="cpu", dtype="float32")
    assert retuned.fingerprint != nano.fingerprint
    assert retuned.encoder.vision_fingerprint == nano.encoder.vision_fingerprint
    extract(nano.encoder, media(3), FeatureSpec(), cache=tmp_path)
    extract(retuned.encoder, media(3), FeatureSpec(), cache=tmp_path)
    assert sum(encoded) == 3


def test_another_layer_size_or_way_is_another_recipe(nano: ModelUnderTest, tmp_path: Path) -> None:
    for spec in (FeatureSpec(), FeatureSpec(0, "mean"), FeatureSpec(0, "class"), FeatureSpec(mirror=True)):
        extract(nano.encoder, media(2), spec, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_features_are_those_of_the_encoder(nano: ModelUnderTest) -> None:
    from perceptic.media.images import load_image
    from perceptic.media.preprocess import ImageTransform

    features = extract(nano.encoder, media(3), FeatureSpec(), batch_size=2)
    transform = ImageTransform(nano.encoder.preprocessing)
    pixels = torch.stack([transform(load_image(picture(number))) for number in range(3)])
    expected = torch.nn.functional.normalize(nano.encoder.encode_pixels(pixels), dim=-1)
    torch.testing.assert_close(features.vectors(), expected, rtol=1e-4, atol=1e-5)
    tokens = extract(nano.encoder, media(3), FeatureSpec(-1, "tokens"))
    assert tokens.frames[0].shape == (1, 65, nano.encoder.tower.config.width)
    mean = extract(nano.encoder, media(3), FeatureSpec(-1, "mean"))
    np.testing.assert_allclose(tokens.frames[0][:, 1:].mean(axis=1), mean.frames[0], rtol=2e-2, atol=2e-2)


def test_unreadable_media_are_listed_and_left_out(nano: ModelUnderTest) -> None:
    some = media(3)
    some[1] = Medium("torn.png", "image", partial(same, picture(1)[:60]))
    features = extract(nano.encoder, some, FeatureSpec())
    assert features.kept.tolist() == [0, 2]
    assert list(features.failures) == ["torn.png"]
    with pytest.raises(DataError, match="not one picture"):
        extract(nano.encoder, [some[1]], FeatureSpec())


def test_an_interruption_keeps_what_was_computed(nano: ModelUnderTest, tmp_path: Path, encoded: list[int]) -> None:
    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(nano.encoder, media(8), FeatureSpec(), cache=tmp_path, batch_size=2, on_count=stop)
    before = sum(encoded)
    extract(nano.encoder, media(8), FeatureSpec(), cache=tmp_path, batch_size=2)
    assert 8 <= sum(encoded) < before + 8


def test_parts_of_several_writers_come_together(tmp_path: Path) -> None:
    recipe = {"a": 1}
    one, other = FeatureCache(tmp_path, recipe), FeatureCache(tmp_path, recipe)
    one.add(content_key(b"x"), np.ones(3, dtype=np.float32))
    other.add(content_key(b"y"), np.zeros(3, dtype=np.float32))
    other.add(content_key(b"x"), np.ones(3, dtype=np.float32))
    one.flush()
    other.flush()
    assert len(FeatureCache(tmp_path, recipe)) == 2
    assert len(FeatureCache(tmp_path, {"a": 2})) == 0


def test_a_damaged_part_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = FeatureCache(tmp_path, {})
    cache.add(content_key(b"x"), np.ones(3, dtype=np.float32))
    cache.flush()
    (part,) = (tmp_path / cache.digest).glob("part-*.npz")
    part.write_bytes(part.read_bytes()[:50])
    assert FeatureCache(tmp_path, {}).get(content_key(b"x")) is None
    assert "computed again" in caplog.text


def test_a_layer_needs_a_way_to_pool_it() -> None:
    with pytest.raises(ConfigError, match="pooling"):
        FeatureSpec(layer=2)
    with pytest.raises(ConfigError, match="pooling"):
        FeatureSpec(pooling="mean")

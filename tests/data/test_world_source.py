"""The world as a source: exact, repeatable, close-ups that hold their object."""

import numpy as np
import pytest

from perceptic import world
from perceptic.data.world_source import WorldClips, WorldCloseups, WorldImages, world_seed


def test_pictures_are_the_world_s_own():
    samples = list(WorldImages(20, seed=4).read(7, 9))
    scene = world.sample_scene(world_seed(4, 7))
    assert np.array_equal(samples[0].pixels[0].transpose(1, 2, 0), world.render_pixels(scene, 64))
    told = world.captions(scene, world_seed(4, 7))
    assert samples[0].captions == (told.short, told.medium, told.long)
    assert samples[0].is_flip_safe == world.is_flip_safe(scene)
    assert len(samples) == 2


def test_a_share_of_the_pictures_holds_one_object():
    told = [sample.captions[2] for sample in WorldImages(200, single_share=1.0).read(0, 30)]
    mixed = [sample.captions[2] for sample in WorldImages(200, single_share=0.0).read(0, 30)]
    named = [sum(text.lower().count(f" {shape}") for shape in world.SHAPES) for text in told]
    assert sum(named) < 0.75 * sum(sum(text.lower().count(f" {shape}") for shape in world.SHAPES) for text in mixed)
    assert "chart" not in " ".join(told)


def test_close_ups_hold_the_whole_object_at_its_size_in_the_scene():
    source = WorldCloseups(40, seed=9, image_size=32, scene_size=64)
    for index, sample in enumerate(source.read(0, 40)):
        scene = world.sample_scene(world_seed(9, index), num_objects=1, text_fraction=0.0)
        whole = world.render_pixels(scene, 64).transpose(2, 0, 1)
        windows = np.lib.stride_tricks.sliding_window_view(whole, (3, 32, 32))[0]
        places = np.argwhere((windows == sample.pixels[0]).all(axis=(-1, -2, -3)))
        item = scene.objects[0]
        low = np.array([item.y - item.radius, item.x - item.radius]) * 64
        high = np.array([item.y + item.radius, item.x + item.radius]) * 64
        assert any((place <= low + 1).all() and (place + 32 >= high - 1).all() for place in places)
        assert sample.captions[0] == world.label_caption(scene, world_seed(9, index))
        assert sample.captions[1:] == (world.captions(scene, world_seed(9, index)).short,) * 2


@pytest.mark.parametrize("source", [WorldImages(5), WorldCloseups(5), WorldClips(5, num_frames=3)])
def test_reading_twice_gives_the_same_and_identity_names_the_content(source):
    first, second = list(source.read(1, 4)), list(source.read(1, 4))
    assert [sample.captions for sample in first] == [sample.captions for sample in second]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, second, strict=True))
    assert source.identity != type(source)(6).identity
    assert first[0].pixels.dtype == np.uint8


def test_clips_have_their_frames_first_and_last_included():
    sample = next(WorldClips(3, num_frames=8, seed=1).read(0, 1))
    clip = world.sample_clip(world_seed(1, 0))
    frames = world.render_clip(clip, 64).transpose(0, 3, 1, 2)
    assert sample.pixels.shape == (8, 3, 64, 64)
    assert np.array_equal(sample.pixels[0], frames[0])
    assert np.array_equal(sample.pixels[-1], frames[-1])

"""A world of training rows in the cache: complete, kept, and told apart by its settings."""

from __future__ import annotations

from pathlib import Path

from perceptic.data.registry import open_mix, parse_mix, read_registry
from perceptic.data.world_rows import world_registry


def test_a_world_is_exported_once_and_opens_as_a_mix(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = world_registry(tmp_path, images=6, videos=2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (8, 8)
    mix = open_mix(parse_mix("world_image_drill:2,world_video_tube:1"), read_registry(path))
    assert all(mix.lengths)
    written = path.stat().st_mtime_ns
    assert world_registry(tmp_path, images=6, videos=2) == path
    assert path.stat().st_mtime_ns == written


def test_other_settings_are_another_world(tmp_path: Path) -> None:
    first = world_registry(tmp_path, images=2, videos=0)
    assert world_registry(tmp_path, images=2, videos=0, seed=1) != first
    assert world_registry(tmp_path, images=3, videos=0) != first

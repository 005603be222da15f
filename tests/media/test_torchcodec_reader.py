"""torchcodec behind the same protocol: the same frames, or a clear word why not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from perceptic import optional
from perceptic.errors import MediaError, MissingDependencyError
from perceptic.media import torchcodec_reader, video

sys.path.insert(0, str(Path(__file__).parent))
from video_files import Recipe, set_rotation, write_video

loads = pytest.mark.skipif(torchcodec_reader.load_failure() is not None, reason="torchcodec does not load here")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path, Recipe("clip.mp4", options={"g": "10"}))


@pytest.fixture
def without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Decoders:
        @staticmethod
        def VideoDecoder(source: object) -> object:
            raise RuntimeError("Could not load libtorchcodec. Likely causes: ...")

    monkeypatch.setattr(optional, "is_installed", lambda module: True)
    monkeypatch.setattr(torchcodec_reader, "_decoders", lambda: Decoders)
    torchcodec_reader.load_failure.cache_clear()
    yield
    torchcodec_reader.load_failure.cache_clear()


@pytest.mark.usefixtures("without_ffmpeg")
def test_torchcodec_without_ffmpeg_is_named_when_asked_for_and_not_missed_otherwise(clip: Path) -> None:
    with pytest.raises(MissingDependencyError, match="found no FFmpeg libraries"):
        video.read_video(clip, reader="torchcodec")
    assert len(video.read_video(clip, reader="auto")) == 8


def test_torchcodec_not_installed(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional, "is_installed", lambda module: False)
    torchcodec_reader.load_failure.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"pip install 'perceptic\[torchcodec\]'"):
        video.open_video(clip, "torchcodec")
    torchcodec_reader.load_failure.cache_clear()


def test_a_codec_that_no_reader_knows(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz"))
    monkeypatch.setattr(torchcodec_reader, "load_failure", lambda: "not in this test")
    with pytest.raises(MediaError, match="codec is unknown to this PyAV"):
        video.read_video(clip)


def test_a_codec_that_pyav_lacks_is_given_to_torchcodec(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz"))
    given: list[object] = []
    monkeypatch.setattr(torchcodec_reader, "load_failure", lambda: None)
    monkeypatch.setattr(torchcodec_reader, "TorchcodecReader", lambda source: given.append(source) or "reader")
    assert video.open_video(clip) == "reader"
    assert given == [clip]


@loads
@pytest.mark.parity
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("even.mp4", options={"g": "10"}),
        Recipe("odd_height.mkv", codec="ffv1", height=49, num_frames=5),
        Recipe("ten_bit.mp4", pix_fmt="yuv420p10le"),
        Recipe("full_chroma.mp4", pix_fmt="yuv444p"),
        Recipe("full_range.mp4", pix_fmt="yuvj420p"),
        Recipe("bt709.mp4", options={"colorspace": "bt709"}),
        Recipe("hd.mp4", width=1280, height=720, num_frames=3),
    ],
    ids=lambda recipe: recipe.name,
)
def test_pixels_are_torchcodecs(recipe: Recipe, tmp_path: Path) -> None:
    path = write_video(tmp_path, recipe)
    ours, theirs = (video.read_video(path, num_frames=3, reader=name) for name in ("pyav", "torchcodec"))
    assert torch.equal(ours.pixels, theirs.pixels)
    assert ours.seconds.tolist() == theirs.seconds.tolist()
    assert ours.indices.tolist() == theirs.indices.tolist()


@loads
@pytest.mark.parity
def test_facts_are_the_same(clip: Path) -> None:
    set_rotation(clip, 90)
    assert video.probe_video(clip, "torchcodec") == video.probe_video(clip, "pyav")


@loads
@pytest.mark.parity
def test_torchcodec_refuses_what_is_no_video(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello " * 100)
    for path, message in [(tmp_path / "text.mp4", "not a readable"), (tmp_path / "missing.mp4", "no such file")]:
        with pytest.raises(MediaError, match=message):
            video.open_video(path, "torchcodec")
    with video.open_video(clip, "torchcodec") as reader, pytest.raises(MediaError, match="has no frame 60"):
        reader.read([60])

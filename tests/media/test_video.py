"""Reading videos: any frame of any file is the one that decoding everything would give, and bad files say why."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch

from perceptic.errors import ConfigError, MediaError
from perceptic.media import segment_decoding
from perceptic.media.preprocess import tensor_to_image
from perceptic.media.pyav_reader import PyavReader
from perceptic.media.video import open_video, probe_video, read_video

sys.path.insert(0, str(Path(__file__).parent))
from video_files import (
    Recipe,
    decode_all,
    number_in,
    set_rotation,
    skip_first_frames,
    write_audio,
    write_video,
)

OPEN_GROUPS = {"g": "12", "x264-params": "open-gop=1:bframes=3:scenecut=0"}
UNEVEN = [number * 40 + number % 7 * 5 + (1000 if number > 30 else 0) for number in range(60)]

RECIPES = {
    recipe.name: recipe
    for recipe in [
        Recipe("short_groups.mp4", options={"g": "8"}),
        Recipe("one_group.mp4"),
        Recipe("reference_b_frames.mkv", options={"g": "20", "bf": "5", "b-pyramid": "normal"}),
        Recipe("open_groups.mp4", options=OPEN_GROUPS),
        Recipe("open_groups.mkv", options=OPEN_GROUPS),
        Recipe("open_groups.ts", options=OPEN_GROUPS),
        Recipe("intra_refresh.mp4", options={"x264-params": "intra-refresh=1:keyint=12"}),
        Recipe("fragmented.mp4", options={"g": "10"}, mux_options={"movflags": "frag_keyframe+empty_moov"}),
        Recipe("no_index.h264", options={"g": "10"}),
        Recipe("b_frames.avi", options={"g": "10"}),
        Recipe("hevc.mp4", codec="libx265", options={"x265-params": "log-level=none:keyint=12"}),
        Recipe("mpeg4.mp4", codec="mpeg4", options={"g": "10", "bf": "2", "b": "2M"}),
        Recipe("mpeg4.avi", codec="mpeg4", options={"g": "10", "bf": "2", "b": "2M"}),
        Recipe("mpeg2.mpg", codec="mpeg2video", options={"g": "10", "bf": "2", "b": "2M"}),
        Recipe("hidden.webm", codec="libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16", "b": "300k"}),
        Recipe("vp9.webm", codec="libvpx-vp9", options={"lag-in-frames": "16", "b": "300k", "cpu-used": "8"}),
        Recipe("every_frame.avi", codec="mjpeg", pix_fmt="yuvj420p"),
        Recipe("lossless.mkv", codec="ffv1"),
        Recipe("animation.gif", codec="gif", pix_fmt="rgb8"),
        Recipe("uneven.mp4", options={"g": "15"}, pts=UNEVEN),
        Recipe("uneven.mkv", options={"g": "15"}, pts=UNEVEN),
        Recipe("ten_bit.mp4", pix_fmt="yuv420p10le", options={"g": "10"}),
        Recipe("single.mp4", num_frames=1),
    ]
}

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("videos")
    return functools.cache(lambda name: write_video(folder, RECIPES[name]))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path, Recipe("video.mp4", options={"g": "10"}))


def _assert_same(pixels: torch.Tensor, truth: list[npt.NDArray[np.uint8]], indices: list[int]) -> None:
    for position, index in enumerate(indices):
        assert np.array_equal(pixels[position].numpy(), truth[index]), f"frame {index}"


@pytest.mark.parametrize("name", RECIPES)
def test_every_frame_equals_full_decoding(name: str, make: Make) -> None:
    truth = decode_all(make(name))
    assert len(truth) == RECIPES[name].num_frames
    with open_video(make(name)) as reader:
        assert len(reader.seconds) == len(truth)
        _assert_same(reader.read(range(len(truth))).pixels, truth, list(range(len(truth))))
        random = np.random.default_rng(0)
        for _ in range(6):
            indices = random.integers(0, len(truth), random.integers(1, 6)).tolist()
            _assert_same(reader.read(indices).pixels, truth, indices)


@pytest.mark.parametrize("name", ["short_groups.mp4", "open_groups.ts", "reference_b_frames.mkv"])
def test_several_decoders_give_the_same(name: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_decoding, "_PIXELS_PER_DECODER", 1)
    path = make(name)
    truth = decode_all(path)
    with PyavReader(path, num_threads=4) as reader:
        for indices in (list(range(60)), [59, 0, 30, 30], [3]):
            _assert_same(reader.read(indices).pixels, truth, indices)


def test_frames_show_their_numbers_and_carry_their_seconds(make: Make) -> None:
    frames = read_video(make("uneven.mp4"), num_frames=5)
    assert frames.pixels.dtype == torch.uint8
    assert frames.pixels.shape == (5, 3, 48, 64)
    assert frames.indices.tolist() == [0, 14, 29, 44, 59]
    assert [number_in(picture.numpy()) for picture in frames.pixels] == [0, 14, 29, 44, 59]
    assert frames.seconds.tolist() == pytest.approx([UNEVEN[index] / 1000 for index in (0, 14, 29, 44, 59)])
    assert len(frames) == 5
    assert frames.image(1).tobytes() == tensor_to_image(frames.pixels[1]).tobytes()


def test_seconds_count_from_the_first_frame(make: Make) -> None:
    path = make("open_groups.ts")
    with av.open(str(path)) as container:
        assert container.start_time > 0  # transport streams start at about 1.4 s
    with open_video(path) as reader:
        assert reader.seconds[:3] == pytest.approx((0, 0.04, 0.08))


def test_an_edit_list_hides_frames_that_decoding_needs(tmp_path: Path) -> None:
    path = write_video(tmp_path, Recipe("edited.mp4", options={"g": "20"}))
    with av.open(str(path)) as container:
        ticks = int(1 / (25 * container.streams.video[0].time_base))
    skip_first_frames(path, 7, ticks)
    truth = decode_all(path)
    assert len(truth) == 53
    with open_video(path) as reader:
        assert len(reader.seconds) == 53
        assert reader.seconds[0] == 0
        frames = reader.read([0, 1, 52])
    assert [number_in(picture.numpy()) for picture in frames.pixels] == [7, 8, 59]
    _assert_same(frames.pixels, truth, [0, 1, 52])


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_metadata_is_applied(degrees: int, video: Path) -> None:
    set_rotation(video, degrees)
    frames = read_video(video, num_frames=2)
    upright = np.rot90(decode_all(video)[0], degrees // 90, axes=(1, 2))
    assert np.array_equal(frames.pixels[0].numpy(), upright)
    info = probe_video(video)
    assert (info.width, info.height) == (frames.pixels.shape[3], frames.pixels.shape[2])
    assert info.rotation_degrees == degrees


def test_info(video: Path) -> None:
    info = probe_video(video)
    assert (info.num_frames, info.frames_per_second, info.width, info.height) == (60, 25.0, 64, 48)
    assert info.duration_seconds == pytest.approx(2.4)
    assert info.codec == "h264"
    assert info.path == str(video)


def test_rates_and_time_ranges(video: Path) -> None:
    assert read_video(video, frames_per_second=5).indices.tolist() == list(range(0, 60, 5))
    assert read_video(video, frames_per_second=2, start_seconds=1.01, end_seconds=2).indices.tolist() == [25, 37]
    assert read_video(video, num_frames=3, start_seconds=1.0, end_seconds=1.2).indices.tolist() == [25, 27, 29]
    assert read_video(video, num_frames=2, start_seconds=2.3).indices.tolist() == [58, 59]
    assert read_video(video, num_frames=1).indices.tolist() == [30]
    for start, end, message in [(9, None, "past the last frame"), (2, 1, "is empty"), (None, -1, "before the first")]:
        with pytest.raises(MediaError, match=message):
            read_video(video, start_seconds=start, end_seconds=end)
    with pytest.raises(ConfigError, match="num_frames"):
        read_video(video, num_frames=0)
    with pytest.raises(ConfigError, match="frames_per_second"):
        read_video(video, frames_per_second=0)


def test_bytes_are_read_like_files(video: Path) -> None:
    from_path, from_bytes = read_video(video), read_video(video.read_bytes())
    assert torch.equal(from_path.pixels, from_bytes.pixels)
    assert from_path.seconds.tolist() == from_bytes.seconds.tolist()


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("cut.mkv", options={"g": "10"}),
        Recipe("cut.ts", options={"g": "10"}),
        Recipe("cut.mp4", options={"g": "10"}, mux_options={"movflags": "faststart"}),
        Recipe("cut_fragments.mp4", options={"g": "10"}, mux_options={"movflags": "frag_keyframe+empty_moov"}),
        Recipe("cut.webm", codec="libvpx", options={"b": "300k"}),
        Recipe("cut.avi", codec="mpeg4"),
    ],
    ids=lambda recipe: recipe.name,
)
@pytest.mark.parametrize("share", [0.9, 0.5])
def test_a_file_cut_off_gives_the_frames_it_has(recipe: Recipe, share: float, tmp_path: Path) -> None:
    path = write_video(tmp_path, recipe)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    truth = decode_all(path)
    assert 0 < len(truth) < 60
    frames = read_video(path, num_frames=5)
    assert frames.indices[0] == 0
    assert frames.indices[-1] == len(truth) - 1
    _assert_same(frames.pixels, truth, frames.indices.tolist())


def test_a_stream_that_changes_size_keeps_the_first(tmp_path: Path) -> None:
    small = write_video(tmp_path, Recipe("small.h264", num_frames=10)).read_bytes()
    large = write_video(tmp_path, Recipe("large.h264", num_frames=10, width=96, height=80)).read_bytes()
    (tmp_path / "both.h264").write_bytes(small + large)
    frames = read_video(tmp_path / "both.h264", num_frames=4)
    assert frames.pixels.shape == (4, 3, 48, 64)
    assert [number_in(picture.numpy()) for picture in frames.pixels] == [0, 6, 2, 9]


def test_files_without_frames_say_why(tmp_path: Path, video: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("hello " * 100)
    tail_lost = tmp_path / "tail_lost.mp4"
    tail_lost.write_bytes(video.read_bytes()[:2000])
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:10,\nvideo.mp4\n#EXT-X-ENDLIST\n")
    os.mkfifo(tmp_path / "pipe.mp4")
    with av.open(str(tmp_path / "no_frames.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    for path, message in [
        (write_audio(tmp_path / "audio.m4a"), "has no video stream"),
        (tmp_path / "missing.mp4", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe.mp4", "is not a regular file"),
        (tmp_path / "empty.mp4", "not a readable video"),
        (tmp_path / "text.mp4", "not a readable video"),
        (tail_lost, "not a readable video"),
        (tmp_path / "list.m3u8", "not a readable video"),
        (tmp_path / "no_frames.mkv", "not a readable video|no frame"),
        ("http://localhost:1/video.mp4", "no such file"),
        ("bad\0name.mp4", "no such file|cannot be opened"),
    ]:
        with pytest.raises(MediaError, match=message):
            read_video(path)


def test_frames_that_do_not_exist_are_refused(video: Path) -> None:
    with open_video(video) as reader:
        for index in (60, -1):
            with pytest.raises(MediaError, match=f"has no frame {index} .it holds 60"):
                reader.read([0, index])
        with pytest.raises(MediaError, match="no frames were asked for"):
            reader.read([])


def test_sizes_are_limited(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MediaError, match="above the limit of 100 pixels"):
        PyavReader(video, max_pixels=100)
    monkeypatch.setattr(segment_decoding, "MAX_FRAME_BYTES", 10_000)
    with pytest.raises(MediaError, match=r"8 frames of 64 x 48 need .* above the limit"):
        read_video(video)


def test_an_unknown_reader_is_refused(video: Path) -> None:
    with pytest.raises(ConfigError, match="reader must be"):
        read_video(video, reader="ffmpeg")  # type: ignore[arg-type]


def test_nothing_is_printed(tmp_path: Path, video: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(video.read_bytes())
    middle = data.index(b"mdat") + 2000
    data[middle : middle + 500] = bytes(500)
    (tmp_path / "damaged.mp4").write_bytes(bytes(data))
    read_video(tmp_path / "damaged.mp4")
    assert capfd.readouterr() == ("", "")

"""Worlds on disk: every format read back by its own rules, and interruptions that lose nothing."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from perceptic.cli.world import command
from perceptic.errors import ConfigError, DataError
from perceptic.world import (
    COLOURS,
    SHAPES,
    WorldSettings,
    captions,
    clip_captions,
    export_chunks,
    export_world,
    mp4_bytes,
    png_bytes,
    render,
    render_clip,
    render_clip_annotated,
    render_pixels,
    sample_clip,
    sample_scene,
)
from perceptic.world.annotation import mask_from_run_lengths, run_lengths
from perceptic.world.dense_captions import dense_segments

SETTINGS = WorldSettings(num_images=25, num_videos=7, seed=3, num_zero_shot=12)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_chunks, "IMAGES_PER_CHUNK", 10)
    monkeypatch.setattr(export_chunks, "CLIPS_PER_CHUNK", 3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_chunks, "IMAGES_PER_CHUNK", 10)
        patch.setattr(export_chunks, "CLIPS_PER_CHUNK", 3)
        progress: list[int] = []
        export_world(root, SETTINGS, on_progress=progress.append)
        assert sum(progress) == 25 + 7 + 4 * 12
    return root


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def pixels_of(source: Path | bytes) -> np.ndarray:
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
        return np.asarray(picture)


def members_of(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def test_pictures_and_annotations_are_those_of_the_seeds(world: Path) -> None:
    rows = [row for row in rows_of(world / "annotations.jsonl") if "image" in row]
    assert len(rows) == 25
    for index, row in enumerate(rows):
        assert row["image"] == f"images/{index:07d}.png"
        assert row["seed"] == 3_000_000_000 + index
        scene = sample_scene(row["seed"])
        rendered = render(scene, 64)
        assert np.array_equal(pixels_of(world / row["image"]), rendered.pixels)
        assert row["captions"]["long"] == captions(scene, row["seed"]).long
        for item, mask, box in zip(row["objects"], rendered.masks, rendered.boxes, strict=True):
            assert np.array_equal(mask_from_run_lengths(item["mask"]), mask)
            assert item["box"] == (list(box.xywh) if box else None)
        depth = np.ones((64, 64), dtype=np.float32)
        for item in row["objects"]:
            depth[mask_from_run_lengths(item["mask"])] = item["depth"]
        assert np.array_equal(depth, rendered.depth)


def test_run_lengths_are_cocos() -> None:
    mask = np.array([[1, 0], [1, 1], [0, 0]], dtype=bool)
    # Down the columns: 1 1 0 | 0 1 0.
    assert run_lengths(mask) == {"size": [3, 2], "counts": [0, 2, 2, 1, 1]}
    for picture in (np.zeros((3, 5), dtype=bool), np.ones((3, 5), dtype=bool), mask):
        assert np.array_equal(mask_from_run_lengths(run_lengths(picture)), picture)


def test_clips_decode_to_what_was_rendered(world: Path) -> None:
    rows = [row for row in rows_of(world / "annotations.jsonl") if "video" in row]
    assert len(rows) == 7
    for row in rows:
        clip = sample_clip(row["seed"], num_frames=32)
        with av.open(str(world / row["video"])) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert float(stream.average_rate or 0) == 8.0
            frames = list(container.decode(video=0))
        assert [frame.time for frame in frames] == [number / 8 for number in range(32)]
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in frames]).astype(int)
        # Halved chroma blurs coloured edges; flat areas stay within a few levels.
        assert np.abs(decoded - render_clip(clip, 64)).mean() < 5
        assert row["captions"]["medium"] == clip_captions(clip, row["seed"]).medium
        tracks = render_clip_annotated(clip, 64).tracks
        assert [item["track"] for item in row["objects"]] == [
            [list(box.xyxy) if box else None for box in track] for track in tracks
        ]


def test_encoding_is_deterministic_and_refuses_odd_sizes() -> None:
    frames = render_clip(sample_clip(0), 64)
    assert mp4_bytes(frames, 8.0) == mp4_bytes(frames, 8.0)
    assert np.array_equal(pixels_of(png_bytes(frames[0])), frames[0])
    with pytest.raises(ConfigError, match="even H and W"):
        mp4_bytes(frames[:, :63], 8.0)
    with pytest.raises(ConfigError, match="F above 0"):
        mp4_bytes(frames[:0], 8.0)


def test_contrastive_shards_follow_the_layout(world: Path) -> None:
    folder = world / "contrastive"
    assert (folder / "dataset_type.txt").read_text() == "retrieval\n"
    assert (folder / "train" / "nshards.txt").read_text() == "3\n"
    shards = [members_of(folder / "train" / f"{index}.tar") for index in range(3)]
    names = [name for shard in shards for name in shard]
    expected = [f"s{index:07d}.{extension}" for index in range(25) for extension in ("png", "txt", "json")]
    assert names == expected
    for index in (0, 24):
        shard = shards[index // 10]
        scene = sample_scene(3_000_000_000 + index)
        assert np.array_equal(pixels_of(shard[f"s{index:07d}.png"]), render_pixels(scene, 64))
        told = captions(scene, 3_000_000_000 + index)
        assert shard[f"s{index:07d}.txt"].decode().split("\n") == [told.short, told.medium, told.long]


def test_zero_shot_sets_follow_the_layout(world: Path) -> None:
    for attribute, names in (("shape", SHAPES), ("colour", tuple(COLOURS))):
        for pairs in ("seen", "unseen"):
            folder = world / "zero_shot" / f"{attribute}-{pairs}"
            assert (folder / "classnames.txt").read_text().splitlines() == list(names)
            templates = (folder / "zeroshot_classification_templates.txt").read_text().splitlines()
            assert all("{c}" in template for template in templates)
            assert (folder / "test" / "nshards.txt").read_text() == "1\n"
            members = members_of(folder / "test" / "0.tar")
            labels = [int(content) for name, content in members.items() if name.endswith(".cls")]
            assert len(labels) == 12
            assert all(0 <= label < len(names) for label in labels)


def test_video_shards_have_pe_video_sidecars(world: Path) -> None:
    members: dict[str, bytes] = {}
    for index in range(3):
        members |= members_of(world / "clips" / "train" / f"{index:06d}.tar")
    assert set(members) == {f"{index:07d}.{extension}" for index in range(7) for extension in ("mp4", "json")}
    for index in range(7):
        sidecar = json.loads(members[f"{index:07d}.json"])
        assert {"human_caption", "model_caption", "category", "video_duration_in_s"} <= set(sidecar)
        assert sidecar["video_duration_in_s"] == 4.0
        assert members[f"{index:07d}.mp4"] == (world / "videos" / f"{index:07d}.mp4").read_bytes()
    with (world / "retrieval.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["video_id"] for row in table] == [f"{index:07d}" for index in range(7)]
    assert all(row["sentence"] for row in table)


def test_language_model_rows_have_the_keys_of_their_kind(world: Path) -> None:
    registry = yaml.safe_load((world / "plm" / "datasets.yaml").read_text())
    for entry in registry.values():
        for row in rows_of(world / "plm" / entry["annotation"]):
            turns = row["conversations"]
            assert [turn["from"] for turn in turns] == ["human", "assistant"] * (len(turns) // 2)
            assert all(isinstance(turn["value"], str) and turn["value"] for turn in turns)
            media = row.get("image", row.get("video", []))
            for path in media if isinstance(media, list) else [media]:
                assert (world / "plm" / entry["root_dir"] / path).is_file()
            markers = {"image": "<image>", "video": "<video>"}
            for kind, marker in markers.items():
                wanted = len(row[kind]) if isinstance(row.get(kind), list) else int(kind in row)
                assert turns[0]["value"].count(marker) == wanted
                assert all(marker not in turn["value"] for turn in turns[1:])
    expected = {"image", "multi_image", "image_region", "video", "text", "rcap", "rtloc", "rdcap"}
    expected |= {
        "image_label",
        "image_list",
        "image_existence",
        "image_drill",
        "region_drill",
        "video_list",
        "video_drill",
        "video_locate",
        "video_tube",
        "image_map",
        "image_patches",
        "image_places",
        "image_names",
        "image_counts",
        "video_patches",
        "image_transcript",
        "video_questions",
        "video_places",
        "video_directions",
        "video_orders",
        "words_brief",
        "words",
        "words_boxes",
        "words_events",
        "words_places",
        "words_twice",
        "words_frames",
        "words_moves",
        "words_counts",
        "words_video",
    }
    assert set(registry) == {f"world_{kind}" for kind in expected}
    assert all(rows_of(world / "plm" / f"{kind}.jsonl") for kind in expected)


def test_region_rows_point_at_the_object_they_describe(world: Path) -> None:
    annotations = {row["image"]: row for row in rows_of(world / "annotations.jsonl") if "image" in row}
    for row in rows_of(world / "plm" / "image_region.jsonl"):
        annotation = annotations[row["image"]]
        assert (row["width"], row["height"]) == (64, 64)
        described = [item for item in annotation["objects"] if item["box"] == row["bbox"][0]]
        text = " ".join(turn["value"] for turn in row["conversations"])
        assert "<|bbox0|>" in text
        assert f"{described[0]['colour']} " in text


def test_pictures_and_clips_are_told_in_two_lengths(world: Path) -> None:
    for kind in ("image", "video"):
        told: dict[str, list[str]] = {}
        for row in rows_of(world / "plm" / f"{kind}.jsonl"):
            ask, answer = row["conversations"][:2]
            if re.search(r"(?i)describe|description|shown|you see|is this|is in th|video\?|briefly", ask["value"]):
                told.setdefault(row[kind], []).append(answer["value"])
        assert told
        assert all(len(answers) == 2 for answers in told.values())
        assert sum(len(set(answers)) == 2 for answers in told.values()) > 0.8 * len(told)


def test_video_rows_cut_out_events(world: Path) -> None:
    cut = [row for row in rows_of(world / "plm" / "video.jsonl") if "start_time" in row]
    assert len(cut) == 7
    assert all(0 <= row["start_time"] < row["end_time"] <= 4.0 for row in cut)


def test_stc_rows_count_in_32_frames(world: Path) -> None:
    for kind in ("rcap", "rtloc", "rdcap"):
        for row in rows_of(world / "plm" / f"{kind}.jsonl"):
            assert list(row["bbox_map"]) == [str(frame) for frame in range(32)]
            boxes = [box for box in row["bbox_map"].values() if box is not None]
            assert boxes
            assert all(0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 64 for x1, y1, x2, y2 in boxes)
            ask, answer = (turn["value"] for turn in row["conversations"])
            assert "32 frame video" in ask
            if kind == "rtloc":
                assert re.fullmatch(r"\[\d+, \d+\]", answer)
            if kind == "rdcap":
                spans = [tuple(map(int, span)) for span in re.findall(r"Frame \[(\d+), (\d+)\]: ", answer)]
                assert len(spans) == answer.count("\n") + 1
                assert (spans[0][0], spans[-1][1]) == (0, 31)
                assert all(first[1] == second[0] for first, second in pairwise(spans))


def test_dense_segments_say_when_nothing_is_seen() -> None:
    hidden = 0
    for seed in range(150):
        clip = sample_clip(seed)
        for index, item in enumerate(clip.scene.objects):
            segments = dense_segments(clip, index)
            assert segments[0].start_frame == 0
            assert segments[-1].end_frame == clip.num_frames - 1
            if item.opacity == 0.0:
                hidden += segments[0].caption == "Out of frame"
    assert hidden > 10


def test_bench_rows_have_the_benchmarks_columns(world: Path) -> None:
    bench = world / "videobench"
    boxes = {
        (row["video"], row["masklet_id"]): row["bbox"] for row in rows_of(bench / "metadata" / "metadata_test.jsonl")
    }
    for task in ("rcap", "rtloc", "rdcap"):
        rows = rows_of(bench / task / f"plm_{task}_test.jsonl")
        assert len({row["uid"] for row in rows}) == len(rows) > 0
        for row in rows:
            assert len(boxes[row["video"], row["masklet_id"]]) == row["total_frames"] == 32
    for row in rows_of(bench / "fgqa" / "plm_fgqa_test.jsonl"):
        assert row["options"][f"option_{row['answer_index']}"] == row["answer"]
        assert row["options"]["option_0"] != row["options"]["option_1"]
    assert all(
        {"uid", "video", "question", "answer"} <= set(row) for row in rows_of(bench / "sgqa" / "plm_sgqa_test.jsonl")
    )


def content_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_an_interrupted_export_goes_on_where_it_stopped(world: Path, tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_world(tmp_path, SETTINGS, on_progress=interrupt)
    assert json.loads((tmp_path / "world.json").read_text())["complete"] is False
    shard = tmp_path / "contrastive" / "train" / "0.tar"
    written = shard.stat().st_mtime_ns
    assert not [path for path in tmp_path.rglob("*") if ".part-" in path.name]
    export_world(tmp_path, SETTINGS)
    assert shard.stat().st_mtime_ns == written, "the complete shard was kept"
    assert content_of(tmp_path) == content_of(world)


def test_processes_write_the_same_world(world: Path, tmp_path: Path) -> None:
    export_world(tmp_path, SETTINGS, jobs=2)
    assert content_of(tmp_path) == content_of(world)


def test_a_complete_world_is_left_alone(world: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    progress: list[int] = []
    export_world(world, SETTINGS, on_progress=progress.append)
    assert before == {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    assert sum(progress) == 25 + 7 + 48


def test_foreign_folders_and_other_worlds_are_refused(world: Path, tmp_path: Path) -> None:
    other = WorldSettings(num_images=25, num_videos=7, seed=4, num_zero_shot=12)
    with pytest.raises(DataError, match=r"holds another world \(seed 3 instead of 4\)"):
        export_world(world, other)
    (tmp_path / "diary.txt").write_text("private")
    with pytest.raises(DataError, match="not empty and not a world"):
        export_world(tmp_path, SETTINGS)
    (tmp_path / "world.json").write_text("[]")
    with pytest.raises(DataError, match="not the settings of a world"):
        export_world(tmp_path, SETTINGS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (WorldSettings(-1, 0), "num_images is -1"),
        (WorldSettings(1, 0, size=65), "size 65"),
        (WorldSettings(1, 0, split="other"), "split 'other' does not exist"),  # type: ignore[arg-type]
    ],
)
def test_wrong_settings_are_named(settings: WorldSettings, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        export_world(tmp_path / "new", settings)
    assert not (tmp_path / "new").exists()


def test_the_command_writes_a_held_out_world(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--images", "3", "--videos", "1", "--zero-shot", "0", "--size", "96"]
    result = CliRunner().invoke(command, [*arguments, "--split", "heldout_pairs"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "3 images, 1 clips, split heldout_pairs" in result.output
    assert (tmp_path / "contrastive" / "test" / "0.tar").is_file()
    assert pixels_of(tmp_path / "images" / "0000000.png").shape == (96, 96, 3)
    assert pixels_of(tmp_path / "overview.png").shape[1] == 1152
    assert not (tmp_path / ".parts").exists()


def test_the_command_says_how_to_go_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("perceptic.world.export.export_world", interrupt)
    with pytest.raises(click.Abort) as caught:
        command.main(["--out", str(tmp_path / "w")], standalone_mode=False)
    assert str(caught.value.__cause__) == "Run the same command again to go on."

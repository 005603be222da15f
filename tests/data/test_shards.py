"""Webdataset shards: an exported world read back, foreign layouts, and what is said of broken ones."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from perceptic.data.shards import ShardSource, index_shard
from perceptic.data.world_source import WorldImages
from perceptic.errors import DataError
from perceptic.world import WorldSettings, export_world


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    return path


def png(colour, size=(20, 10)):
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    export_world(root, WorldSettings(num_images=6, num_videos=2, seed=3, num_zero_shot=0))
    return root


def test_an_exported_world_gives_the_world_s_own_samples(exported):
    source = ShardSource.find((str(exported / "contrastive" / "train" / "*.tar"),), image_size=64)
    direct = list(WorldImages(6, seed=3).read(0, 6))
    read = list(source.read(0, len(source)))
    assert len(read) == 6
    for one, two in zip(read, direct, strict=True):
        assert np.array_equal(one.pixels, two.pixels)
        assert one.captions == two.captions


def test_clips_of_an_exported_world_have_frames_and_captions(exported):
    source = ShardSource.find((str(exported / "clips" / "train" / "*.tar"),), image_size=32, num_frames=4)
    samples = list(source.read(0, 2))
    assert [sample.pixels.shape for sample in samples] == [(4, 3, 32, 32)] * 2
    assert all(text for sample in samples for text in sample.captions)


def test_members_are_grouped_by_key_whatever_folder_or_order(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        [
            ("train/0001.txt", b"a red field\na long red field"),
            ("train/0002.json", json.dumps({"caption": "green", "is_flip_safe": True}).encode()),
            ("train/0001.png", png("red")),
            ("train/0002.jpg", png("green")),
        ],
    )
    assert [(entry.key, sorted(entry.members)) for entry in index_shard(path)] == [
        ("train/0001", ["png", "txt"]),
        ("train/0002", ["jpg", "json"]),
    ]
    red, green = ShardSource.find((str(path),), image_size=8).read(0, 2)
    assert red.captions == ("a red field", "a long red field", "a long red field")
    assert (red.is_flip_safe, green.is_flip_safe) == (False, True)
    assert green.captions == ("green",) * 3
    assert red.pixels.shape == (1, 3, 8, 8)
    assert red.pixels[0, :, 4, 4].tolist() == [255, 0, 0]


def test_a_part_can_be_read_alone_and_escapes_are_undone(tmp_path):
    members = []
    for index in range(4):
        members += [(f"{index}.png", png("blue")), (f"{index}.txt", f"line {index}\\nsecond \\\\ line".encode())]
    source = ShardSource.find((str(write_tar(tmp_path / "a.tar", members)),), image_size=8)
    assert [sample.captions[0] for sample in source.read(2, 4)] == [
        "line 2\nsecond \\ line",
        "line 3\nsecond \\ line",
    ]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("7.png", png("red"))], "sample 7: no caption"),
        ([("7.txt", b"words")], "sample 7: no picture or video: it has no png, jpg"),
        ([("7.txt", b"words"), ("7.png", b"not a picture")], "sample 7: "),
        ([("7.json", b"{broken"), ("7.png", png("red"))], "bad JSON: its json cannot be parsed"),
    ],
)
def test_a_bad_sample_is_named(tmp_path, members, message):
    source = ShardSource.find((str(write_tar(tmp_path / "bad.tar", members)),), image_size=8)
    with pytest.raises(DataError) as error:
        list(source.read(0, 1))
    assert message in str(error.value)
    assert "bad.tar" in str(error.value)


def test_missing_empty_and_broken_shards_are_errors(tmp_path):
    with pytest.raises(DataError, match="matches no file"):
        ShardSource.find((str(tmp_path / "*.tar"),), image_size=8)
    write_tar(tmp_path / "empty.tar", [])
    with pytest.raises(DataError, match="holds no sample"):
        ShardSource.find((str(tmp_path / "empty.tar"),), image_size=8)
    (tmp_path / "broken.tar").write_bytes(b"x" * 3000)
    with pytest.raises(DataError, match=r"broken\.tar: cannot be read as a tar"):
        index_shard(tmp_path / "broken.tar")


def test_identity_changes_with_the_files(tmp_path):
    one = ShardSource.find((str(write_tar(tmp_path / "a.tar", [("1.png", png("red"))])),), image_size=8)
    two = ShardSource.find((str(write_tar(tmp_path / "b.tar", [("1.png", png("red"))])),), image_size=8)
    assert one.identity != two.identity

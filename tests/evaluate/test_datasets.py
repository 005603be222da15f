"""Every layout of the field, built from one export of the world, gives the same items."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perceptic.data.shards import index_shard
from perceptic.errors import DataError
from perceptic.evaluate.benchmark import find_benchmark
from perceptic.evaluate.data_types import EvalData
from perceptic.evaluate.datasets import has_split, locate, open_data, open_split
from perceptic.evaluate.folder_data import clean_class_name
from perceptic.world.shards import ShardSample, write_shard


@pytest.fixture
def shapes(exported: Path) -> Path:
    return exported / "zero_shot" / "shape-seen"


def pictures(tree: Path) -> list[tuple[bytes, int]]:
    """Picture and label of every sample of a classification tree."""
    entries = index_shard(tree / "test" / "0.tar")
    return [(entry.read("png"), int(entry.read("cls"))) for entry in entries]


def content(data: EvalData) -> list[tuple[bytes, str]]:
    """Bytes and class name of every item, in a fixed order."""
    return sorted((item.medium.read(), data.class_names[item.label or 0]) for item in data.items)


def as_folders(tree: Path, target: Path) -> Path:
    names = (tree / "classnames.txt").read_text().splitlines()
    for number, (picture, label) in enumerate(pictures(tree)):
        (target / names[label]).mkdir(parents=True, exist_ok=True)
        (target / names[label] / f"{number:04d}.png").write_bytes(picture)
    return target


def test_a_webdataset_tree(shapes: Path) -> None:
    data = open_split(shapes, "test").labelled()
    assert (data.layout, len(data.items), len(data.class_names)) == ("webdataset", 64, 16)
    assert data.templates == tuple((shapes / "zeroshot_classification_templates.txt").read_text().splitlines())
    assert data.items[0].label == pictures(shapes)[0][1]


def test_folders_parquet_and_jsonl_say_the_same(shapes: Path, tmp_path: Path) -> None:
    expected = content(open_split(shapes, "test"))
    assert content(open_split(as_folders(shapes, tmp_path / "folders"), "test")) == expected
    names = (shapes / "classnames.txt").read_text().splitlines()
    rows = pictures(shapes)
    label = {"feature": {"label": {"names": names}}}
    table = pa.table(
        {"image": [{"bytes": picture, "path": None} for picture, _ in rows], "label": [n for _, n in rows]}
    )
    metadata = {"huggingface": json.dumps({"info": {"features": label["feature"]}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "test-00000-of-00001.parquet", row_group_size=10)
    read = open_split(tmp_path / "test-00000-of-00001.parquet", "test")
    assert (read.layout, content(read)) == ("parquet", expected)
    lines = []
    for number, (picture, target) in enumerate(rows):
        (tmp_path / f"{number}.png").write_bytes(picture)
        lines.append(json.dumps({"image": f"{number}.png", "label": names[target]}))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    assert content(open_split(tmp_path / "rows.jsonl", "test")) == expected


def test_class_names_beside_folders(shapes: Path, tmp_path: Path) -> None:
    root = as_folders(shapes, tmp_path / "plain")
    folders = sorted(path.name for path in root.iterdir())
    (root / "classnames.txt").write_text("".join(f"{name},a {name}\n" for name in folders))
    assert open_split(root, "test").class_names == tuple(f"a {name}" for name in folders)
    (root / "classnames.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="2 names for"):
        open_split(root, "test")
    numbered = tmp_path / "numbered"
    for number in (0, 2, 10):
        shutil.copytree(root / folders[0], numbered / str(number))
    (numbered / "classnames.txt").write_text("".join(f"class {n}\n" for n in range(12)))
    data = open_split(numbered, "test").labelled()
    assert {item.label for item in data.items} == {0, 2, 10}
    assert data.class_names[10] == "class 10"


def test_labels_by_name_keep_their_meaning(exported: Path, tmp_path: Path) -> None:
    rows = []
    for picture, label in zip(sorted((exported / "images").glob("*.png"))[:2], ("apple", "pear"), strict=True):
        shutil.copy(picture, tmp_path)
        rows.append({"image": picture.name, "label": label})
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for lines, expected in (
        ("pear\nplum\napple\n", ["apple", "pear"]),  # another order, and one that does not occur
        ("pear\napple\n", ["apple", "pear"]),
        ("an apple\na pear\n", ["an apple", "a pear"]),  # the same classes in better words
    ):
        (tmp_path / "classnames.txt").write_text(lines)
        data = open_split(tmp_path, "test").labelled()
        assert [data.class_names[item.label or 0] for item in data.items] == expected
    (tmp_path / "classnames.txt").write_text("apple\n")
    with pytest.raises(DataError, match="no line 'pear'"):
        open_split(tmp_path, "test")


def test_folder_names_are_cleaned() -> None:
    assert clean_class_name("_applauding_(loudly)_") == "applauding loudly"
    assert clean_class_name("air drumming") == "air drumming"


def test_captions_of_a_tree_a_csv_and_flat_folders(exported: Path, tmp_path: Path) -> None:
    pictures_ = open_split(exported / "contrastive", "test").captioned()
    assert all(len(item.captions) == 3 for item in pictures_.items)
    clips = open_split(exported / "clips", "test").captioned()
    assert all(item.medium.kind == "video" for item in clips.items)
    table = open_split(exported / "retrieval.csv", "test").captioned()
    assert (table.layout, len(table.items)) == ("csv", 8)
    with (exported / "retrieval.csv").open() as stream:
        assert table.items[0].captions == (next(csv.DictReader(stream))["sentence"],)
    for picture in (exported / "images").glob("*.png"):
        shutil.copy(picture, tmp_path)
        (tmp_path / f"{picture.stem}.txt").write_text("one\n\ntwo\n")
    assert open_split(tmp_path, "test").captioned().items[0].captions == ("one", "two")


def test_several_sentences_of_a_video(exported: Path, tmp_path: Path) -> None:
    video = next((exported / "videos").glob("*.mp4"))
    shutil.copy(video, tmp_path / "v1.mp4")
    (tmp_path / "test.csv").write_text("video_id,sentence\nv1,a dog@a brown dog\nv1,it runs\n")
    (item,) = open_split(tmp_path, "test").captioned().items
    assert item.captions == ("a dog", "a brown dog", "it runs")


def test_rows_of_one_picture_come_together(exported: Path, tmp_path: Path) -> None:
    shutil.copy(next((exported / "images").glob("*.png")), tmp_path / "a.png")
    rows = [{"image": "a.png", "caption": text} for text in ("one", "two")]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (item,) = open_split(tmp_path, "test").captioned().items
    assert item.captions == ("one", "two")
    (tmp_path / "test.jsonl").write_text('{"image": "a.png", "label": 0}\n{"image": "a.png", "label": 1}\n')
    with pytest.raises(DataError, match="two labels"):
        open_split(tmp_path, "test")


def test_pe_video_sidecars(exported: Path, tmp_path: Path) -> None:
    content_ = next((exported / "videos").glob("*.mp4")).read_bytes()
    sidecar = json.dumps(
        {"human_caption": "by a person", "model_caption": "by a model", "category": "Animals"}
    ).encode()
    silent = json.dumps({"human_caption": None, "model_caption": "by a model", "category": "Water Scenes"}).encode()
    samples = [
        ShardSample("0001", {"mp4": content_, "json": sidecar}),
        ShardSample("0002", {"mp4": content_, "json": silent}),
    ]
    write_shard(tmp_path / "test" / "000000.tar", samples)
    data = open_split(tmp_path, "test").captioned()
    assert [item.captions for item in data.items] == [("by a person",), ("by a model",)]
    assert data.class_names == ("Animals", "Water Scenes")


def test_multi_label_vectors(exported: Path, tmp_path: Path) -> None:
    import io

    stream = io.BytesIO()
    np.save(stream, np.array([0, 1, 1], dtype=np.int64))
    picture = next((exported / "images").glob("*.png")).read_bytes()
    write_shard(tmp_path / "test" / "0.tar", [ShardSample("s0000000", {"png": picture, "npy": stream.getvalue()})])
    (tmp_path / "classnames.txt").write_text("a\nb\nc\n")
    assert open_split(tmp_path, "test").labelled().items[0].positives == (1, 2)


def test_where_data_are_looked_for(shapes: Path, tmp_path: Path) -> None:
    benchmark = find_benchmark("imagenet-a")
    for place in (tmp_path / "a" / "wds" / "wds_imagenet-a", tmp_path / "b" / "wds-wds_imagenet-a", tmp_path / "c"):
        shutil.copytree(shapes, place)
        root = tmp_path / place.relative_to(tmp_path).parts[0]
        assert locate(benchmark, root) == place
    assert locate(benchmark, Path(f"{tmp_path}/b/{{dataset_cleaned}}")).name == "wds-wds_imagenet-a"
    with pytest.raises(DataError, match="looked for"):
        locate(benchmark, tmp_path / "nowhere")
    assert len(open_data(benchmark, tmp_path / "a").items) == 64


def test_splits(shapes: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        as_folders(shapes, tmp_path / part)
    assert has_split(tmp_path, "train")
    data = open_split(tmp_path, "test")
    assert data.where == tmp_path / "val"
    assert "measured on 'val'" in data.notes[0]
    assert not has_split(shapes, "train")


def test_a_class_called_train_is_a_class(shapes: Path, tmp_path: Path) -> None:
    as_folders(shapes, tmp_path)
    (tmp_path / "star").rename(tmp_path / "train")
    assert "train" in open_split(tmp_path, "test").labelled().class_names
    assert not has_split(tmp_path, "test")
    only = tmp_path / "only"
    as_folders(shapes, only / "train")
    with pytest.raises(DataError, match="has no split 'test', only train"):
        open_split(only, "test")


def test_limits_are_drawn_by_the_seed(shapes: Path) -> None:
    data = open_split(shapes, "test")
    first = [item.medium.name for item in data.limited(10, 0).items]
    assert first == [item.medium.name for item in data.limited(10, 0).items] == sorted(first)
    assert first != [item.medium.name for item in data.limited(10, 1).items]
    assert data.limited(1000, 0) is data


def test_what_is_missing_is_said(shapes: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="have no caption"):
        open_split(shapes, "test").captioned()
    with pytest.raises(DataError, match="have no label"):
        open_split(exported / "contrastive", "test").labelled()
    with pytest.raises(DataError, match="holds no picture"):
        open_split(tmp_path, "test")
    torn = tmp_path / "torn"
    shutil.copytree(shapes, torn)
    (torn / "test" / "nshards.txt").write_text("2\n")
    with pytest.raises(DataError, match="promises 2 tar files, there are 1"):
        open_split(torn, "test")
    (torn / "test" / "nshards.txt").write_text("1\n")
    (torn / "classnames.txt").write_text("only\n")
    with pytest.raises(DataError, match="has no name"):
        open_split(torn, "test").labelled()
    (tmp_path / "rows.jsonl").write_text('{"image": "nothing.png", "label": "a"}\n')
    with pytest.raises(DataError, match="there is no file"):
        open_split(tmp_path / "rows.jsonl", "test")
    (tmp_path / "rows.jsonl").write_text("not json\n")
    with pytest.raises(DataError, match="is not JSON"):
        open_split(tmp_path / "rows.jsonl", "test")
    (tmp_path / "x.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="cannot be read as a parquet"):
        open_split(tmp_path / "x.parquet", "test")

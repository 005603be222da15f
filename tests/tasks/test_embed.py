"""Embedding: vectors equal the model's own, bad files become rows, interrupted work continues."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from perceptic.errors import ConfigError, DataError, MediaError, OutputError
from perceptic.inference import encode
from perceptic.inference.encode import load_encoder
from perceptic.media.images import load_image
from perceptic.media.preprocess import ImageTransform
from perceptic.media.video import read_video
from perceptic.tasks.embed import embed, embed_to_file
from perceptic.tasks.embeddings_file import FORMATS, read_embeddings
from perceptic.tasks.journal import parts_folder
from perceptic.tasks.media_stream import Progress
from perceptic.weights.pretrained import CLIP, load_bundle

GOOD = {"a.png", "b.jpg", "c.webp", "d.bmp", "clip.mp4", "e.png"}


def names(paths: list[str]) -> list[str]:
    return [Path(path).name for path in paths]


def test_vectors_are_the_models_own(tiny_clip: Path, media: Path) -> None:
    found = embed([media / "a.png", media / "clip.mp4"], model=tiny_clip, num_frames=4)
    bundle = load_bundle(tiny_clip)
    transform = ImageTransform(bundle.preprocessing)
    with torch.inference_mode():
        image = bundle.model.encode_image(transform(load_image(media / "a.png"))[None], normalize=True)[0]
        frames = transform.frames(read_video(media / "clip.mp4", num_frames=4))
        video = bundle.model.encode_video(frames[None], normalize=True)[0]
    np.testing.assert_allclose(found.vectors, torch.stack([image, video]).numpy(), atol=1e-6)
    assert found.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    assert [item.kind for item in found.items] == ["image", "video"]
    assert (found.items[0].width, found.items[0].height) == (30, 20)
    assert found.items[1].frame_seconds == pytest.approx((0.0, 0.6, 1.2, 1.8))


def test_a_folder_with_bad_files(tiny_clip: Path, media: Path) -> None:
    found = embed(media, model=tiny_clip)
    assert set(names(found.paths)) == GOOD
    assert set(names(list(found.failures))) == {"torn.png", "torn.mp4"}
    assert all(found.failures.values()), "every failure has a reason"
    assert len(found.vectors) == len(GOOD)
    assert [item.path for item in found.items] == sorted(item.path for item in found.items)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_do_not_change_vectors(tiny_clip: Path, media: Path, batch_size: int) -> None:
    once = embed(media, model=tiny_clip)
    again = embed(media, model=tiny_clip, batch_size=batch_size)
    assert again.paths == once.paths
    np.testing.assert_allclose(again.vectors, once.vectors, atol=2e-6)


def test_a_tower_without_pooling_embeds_by_its_mean_patch(tiny_tower: Path, media: Path) -> None:
    found = embed(media / "a.png", model=tiny_tower)
    bundle = load_bundle(tiny_tower)
    with torch.inference_mode():
        pixels = ImageTransform(bundle.preprocessing)(load_image(media / "a.png"))[None]
        tokens = bundle.model.forward_features(pixels, strip_cls_token=True)[0]
    expected = torch.nn.functional.normalize(tokens.mean(dim=0), dim=0)
    np.testing.assert_allclose(found.vectors[0], expected.numpy(), atol=1e-6)


def test_auto_computes_in_what_was_saved_where_that_is_fast(
    tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = CLIP.from_pretrained(tiny_clip, dtype="bfloat16").save_pretrained(
        tmp_path / "half", tokenizer=load_bundle(tiny_clip).tokenizer
    )
    for is_fast in (True, False):
        monkeypatch.setattr(encode, "has_fast_bfloat16", lambda device, answer=is_fast: answer)
        assert load_encoder(tiny_clip, device="cpu").dtype == torch.float32
        assert load_encoder(saved, device="cpu").dtype == (torch.bfloat16 if is_fast else torch.float32)
        assert load_encoder(saved, device="cpu", dtype="float32").dtype == torch.float32
    fingerprints = {load_encoder(saved, dtype=dtype).fingerprint for dtype in ("auto", "float32", "bfloat16")}
    assert len(fingerprints) == 1, "the same weights, whatever they are computed in"


def test_what_tells_models_apart(tiny_clip: Path, tiny_tower: Path, tmp_path: Path) -> None:
    bundle = load_bundle(tiny_clip)
    with torch.no_grad():
        bundle.model.text.token_embedding.weight[0] += 1
    other = bundle.model.save_pretrained(tmp_path / "other-text", tokenizer=bundle.tokenizer)
    whole, pictures, changed = (
        load_encoder(tiny_clip, needs_text=True),
        load_encoder(tiny_clip),
        load_encoder(other, needs_text=True),
    )
    assert len({one.vision_fingerprint for one in (whole, pictures, changed)}) == 1
    assert changed.fingerprint != whole.fingerprint
    tower = load_encoder(tiny_tower)
    assert tower.fingerprint == tower.vision_fingerprint != pictures.vision_fingerprint


def test_lower_precision_stays_close(tiny_clip: Path, media: Path) -> None:
    exact = embed(media, model=tiny_clip).vectors
    rough = embed(media, model=tiny_clip, dtype="bfloat16").vectors
    assert rough.dtype == np.float32
    assert (exact * rough).sum(axis=1).min() > 0.999


def test_fast_resizing_stays_close(tiny_clip: Path, media: Path) -> None:
    exact = embed(media, model=tiny_clip).vectors
    fast = embed(media, model=tiny_clip, method="fast").vectors
    assert (exact * fast).sum(axis=1).min() > 0.999


def test_progress_counts_every_file(tiny_clip: Path, media: Path) -> None:
    seen: list[Progress] = []
    embed(media, model=tiny_clip, on_progress=seen.append)
    assert [progress.done for progress in seen] == list(range(1, 9))
    assert seen[-1] == Progress(done=8, failed=2, total=8)


def test_the_number_of_torch_threads_is_the_callers_again(tiny_clip: Path, media: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        embed(media, model=tiny_clip, batch_size=1)
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyboardInterrupt):
            embed_to_file(media, tmp_path / "out.parquet", model=tiny_clip, on_progress=interrupt)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_nothing_to_embed(tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image or video in"):
        embed(tmp_path, model=tiny_clip)
    with pytest.raises(DataError, match="an empty list"):
        embed([], model=tiny_clip)


def test_one_wrong_path_among_many_is_a_row(tiny_clip: Path, media: Path, tmp_path: Path) -> None:
    paths = [media / "a.png", tmp_path / "gone.png", media / "notes.txt"]
    found = embed(paths, model=tiny_clip)
    assert names(found.paths) == ["a.png"]
    assert found.failures == {
        str(tmp_path / "gone.png"): "no such file or folder",
        str(media / "notes.txt"): "neither an image nor a video that perceptic reads",
    }
    summary = embed_to_file(paths, tmp_path / "out.parquet", model=tiny_clip)
    assert (summary.files, summary.embedded, summary.failed) == (3, 1, 2)
    assert sorted(names(read_embeddings(tmp_path / "out.parquet").paths)) == ["a.png", "gone.png", "notes.txt"]
    shutil.copy(media / "b.jpg", tmp_path / "gone.png")  # it turns up, and is taken
    assert embed_to_file(paths, tmp_path / "out.parquet", model=tiny_clip).embedded == 1


def test_a_single_wrong_path_is_an_error(tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.png: no such file"):
        embed(tmp_path / "gone.png", model=tiny_clip)
    with pytest.raises(DataError, match="no image or video in"):
        embed([tmp_path / "gone.png", tmp_path / "gone too.png"], model=tiny_clip)


def test_wrong_device_and_dtype(tiny_clip: Path) -> None:
    with pytest.raises(ConfigError, match="dtype must be one of"):
        load_encoder(tiny_clip, dtype="float8")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="device 'warp' cannot be used"):
        load_encoder(tiny_clip, device="warp")


@pytest.mark.parametrize("suffix", FORMATS)
def test_to_file_equals_in_memory(tiny_clip: Path, media: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    summary = embed_to_file(media, output, model=tiny_clip)
    assert (summary.files, summary.embedded, summary.skipped, summary.failed) == (8, 6, 0, 2)
    assert set(names(list(summary.failures))) == {"torn.png", "torn.mp4"}
    stored = read_embeddings(output)
    assert Path(stored.settings.model).name == "tiny-clip"
    expected = embed(media, model=tiny_clip)
    by_path = dict(zip(stored.paths, stored.vectors, strict=True))
    for path, vector in zip(expected.paths, expected.vectors, strict=True):
        np.testing.assert_allclose(by_path[path], vector, atol=2e-6)
    assert {Path(p).name for p, e in zip(stored.paths, stored.errors, strict=True) if e} == {"torn.png", "torn.mp4"}
    assert not parts_folder(output).exists()


def test_a_second_run_does_only_what_changed(tiny_clip: Path, media: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(media, tmp_path / "media")
    output = tmp_path / "out.parquet"
    embed_to_file(folder, output, model=tiny_clip)
    before = dict(zip(read_embeddings(output).paths, read_embeddings(output).vectors, strict=True))
    Image.new("RGB", (9, 9), "red").save(folder / "new.png")
    Image.new("RGB", (9, 9), "blue").save(folder / "a.png")
    shutil.copy(media / "b.jpg", folder / "torn.png")  # mended
    summary = embed_to_file(folder, output, model=tiny_clip)
    assert (summary.embedded, summary.skipped, summary.failed) == (3, 5, 1)
    stored = read_embeddings(output)
    after = dict(zip(stored.paths, stored.vectors, strict=True))
    assert len(stored.paths) == len(after) == 9
    changed = {Path(path).name for path in after if not np.array_equal(after[path], before.get(path))}
    assert changed == {"new.png", "a.png", "torn.png"}


def test_relative_and_absolute_paths_are_one_file(
    tiny_clip: Path, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.parquet"
    embed_to_file(media / "a.png", output, model=tiny_clip)
    monkeypatch.chdir(media)
    summary = embed_to_file(["a.png", "deeper/../b.jpg"], output, model=tiny_clip)
    assert (summary.embedded, summary.skipped) == (1, 1)
    assert read_embeddings(output).paths == [str(media / "a.png"), str(media / "b.jpg")]


def test_other_weights_are_refused(tiny_clip: Path, tiny_tower: Path, media: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    embed_to_file(media / "a.png", output, model=tiny_clip)
    with pytest.raises(ConfigError, match="begun with other settings"):
        embed_to_file(media / "b.jpg", output, model=tiny_tower)
    with pytest.raises(ConfigError, match="num_frames: 8 there, 2 now"):
        embed_to_file(media / "b.jpg", output, model=tiny_clip, num_frames=2)
    summary = embed_to_file(media / "b.jpg", output, model=tiny_tower, restart=True)
    assert (summary.embedded, summary.embedding_size) == (1, 16)


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tiny_clip: Path, media: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"

    def interrupt(progress: Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"All but 5 of 8 files are saved; run the same command again"):
        embed_to_file(media, output, model=tiny_clip, batch_size=1, on_progress=interrupt)
    assert not output.exists()
    assert parts_folder(output).exists()
    summary = embed_to_file(media, output, model=tiny_clip)
    assert summary.skipped >= 1
    assert summary.skipped + summary.embedded == 6
    assert len(read_embeddings(output).paths) == 8
    assert not parts_folder(output).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tiny_clip: Path, media: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        embed_to_file(media, folder / "out.parquet", model=tiny_clip)


def test_output_below_a_file(tiny_clip: Path, media: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        embed_to_file(media, tmp_path / "file" / "out.parquet", model=tiny_clip)

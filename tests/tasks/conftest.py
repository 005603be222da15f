"""Tiny random models and a small folder of media; nothing here has learned anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.media_parts import MediaPart, media_part
from perceptic.text.bpe_training import train_bpe
from perceptic.weights.pretrained import CLIP, VisionTransformer

VOCABULARY = 520
COLOURS, SHAPES = ("red", "blue", "green"), ("circle", "square", "star")
CORPUS = [f"a big {colour} {shape} in the picture" for colour in COLOURS for shape in SHAPES] * 3


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PE-Core model folder with a few thousand random weights and a vocabulary of its own."""
    torch.manual_seed(0)
    vision = VisionConfig(
        patch_size=4, width=32, layers=2, heads=2, image_size=16, output_dim=12, use_cls_token=True, attn_pooler_heads=4
    )
    text = TextConfig(context_length=24, width=16, heads=2, layers=1, output_dim=12, vocab_size=VOCABULARY)
    folder = tmp_path_factory.mktemp("models") / "tiny-clip"
    tokenizer = train_bpe(CORPUS, VOCABULARY, context_length=24)
    return CLIP(ClipConfig(vision=vision, text=text)).save_pretrained(folder, tokenizer=tokenizer)


@pytest.fixture(scope="session")
def tiny_tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PE-Spatial-like tower folder: no pooling, no projection, no text."""
    torch.manual_seed(1)
    config = VisionConfig(
        patch_size=4,
        width=16,
        layers=3,
        heads=2,
        image_size=16,
        use_cls_token=True,
        pool_type="none",
        use_ln_post=False,
    )
    return VisionTransformer(config).save_pretrained(tmp_path_factory.mktemp("models") / "tiny-tower")


@pytest.fixture(scope="session")
def plm_folder(goldens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PerceptionLM of two layers in the original's format: 4 tokens a chunk of 56 px, up to 4 tiles or frames.

    Its weights are random, so its answers are noise; all that leads to them is what larger models have.
    """
    folder = tmp_path_factory.mktemp("plm") / "tiny-plm"
    folder.mkdir()
    for file in ("tied_scaled/params.json", "tied_scaled/consolidated.pth", "tokenizer/tokenizer.model"):
        shutil.copy(goldens / "plm" / file, folder)
    return folder


@pytest.fixture(scope="session")
def loaded_assistant(plm_folder: Path) -> Assistant:
    return Assistant.load(plm_folder, dtype="float32")


@pytest.fixture
def assistant(loaded_assistant: Assistant) -> Iterator[Assistant]:
    """One model for all tests, remembering nothing of those before."""
    loaded_assistant.forget()
    yield loaded_assistant
    loaded_assistant.forget()


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images (one deeper), one video, and two files that only look like media."""
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    (folder / "deeper").mkdir()
    for name in ("a.png", "b.jpg", "c.webp", "d.bmp", "deeper/e.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / name)
    write_video(folder / "clip.mp4", rng.integers(0, 256, (10, 32, 48, 3), dtype=np.uint8))
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:100])
    (folder / "torn.mp4").write_bytes(b"no video at all")
    (folder / "notes.txt").write_text("not media")
    return folder


def write_video(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=5)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def cat(goldens: Path) -> MediaPart:
    return media_part(goldens / "media" / "cat.png")


@pytest.fixture
def dog(goldens: Path) -> MediaPart:
    return media_part(goldens / "media" / "dog.mp4")

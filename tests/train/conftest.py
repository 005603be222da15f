"""A recipe small enough to train in a test: 64 px scenes, a one-layer model, a dozen steps."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

TINY_RECIPE = """
name: tiny
model: PE-Core-Nano
model_overrides:
  vision: {width: 32, layers: 1, heads: 2, output_dim: 16, attn_pooler_heads: 2}
  text: {width: 32, layers: 1, heads: 2, output_dim: 16, vocab_size: 600}
threads: 1
chunk_size: 4
data:
  images: {source: world-images, count: 40, seed: 5, noise: {missing: 0.1}}
  clips: {source: world-clips, count: 8, seed: 6, num_frames: 2}
tokenizer: {data: images, num_samples: 40}
optimizer: {name: lamb, weight_decay: 0.05, clip_norm: 1.0}
checkpoint: {every_steps: 3, keep: 2}
phases:
  - name: images
    data: images
    batch_size: 8
    learning_rate: 0.01
    warmup_steps: 2
    augmentation: {crop_scale: [0.7, 1.0], crop_share: 0.5, brightness: 0.1, saturation: 0.1}
    stages:
      - {image_size: 16, steps: 4}
      - {image_size: 32, steps: 3}
  - name: clips
    data: clips
    batch_size: 4
    learning_rate: 0.002
    warmup_steps: 0
    stages:
      - {image_size: 16, steps: 3}
"""


@pytest.fixture(autouse=True)
def same_threads():
    """Recipes set the number of threads for the whole process; put it back."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def recipe_path(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.fixture(scope="session")
def data_cache(tmp_path_factory):
    """Decoded data, made once for all tests."""
    return tmp_path_factory.mktemp("data-cache")


@pytest.fixture(scope="session")
def recipes_worker():
    """The script that runs recipes in several processes, as a module."""
    spec = importlib.util.spec_from_file_location("recipes_worker", Path(__file__).with_name("recipes_worker.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

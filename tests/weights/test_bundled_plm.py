"""The bundled language model lies in the package, is what its name says, needs no network, and sees a little."""

from __future__ import annotations

import math

import pytest
from safetensors import safe_open

from perceptic import world
from perceptic.configs_plm import PLM_CONFIGS, PerceptionLMPreprocessing
from perceptic.tasks.ask import ask
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.media_parts import MediaPart
from perceptic.weights.plm_card import NANO_FOLDER, NANO_NAME, count_plm_parameters
from perceptic.weights.plm_folder import read_plm_folder

MAX_BYTES = 15_000_000


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    return Assistant.load(NANO_NAME)


def test_the_bundle_is_the_zoos_architecture(assistant: Assistant) -> None:
    assert read_plm_folder(NANO_FOLDER).config == PLM_CONFIGS[NANO_NAME]
    with safe_open(NANO_FOLDER / "model.safetensors", framework="pt") as weights:
        sizes = [math.prod(weights.get_slice(name).get_shape()) for name in weights.keys()]  # noqa: SIM118  not iterable itself
    assert sum(sizes) == count_plm_parameters(PLM_CONFIGS[NANO_NAME])
    assert assistant.preprocessing == PerceptionLMPreprocessing(64, "vanilla", max_num_tiles=1, max_video_frames=8)


def test_the_bundle_is_small() -> None:
    assert sum(file.stat().st_size for file in NANO_FOLDER.iterdir()) <= MAX_BYTES


def test_it_knows_colours_of_single_objects(assistant: Assistant) -> None:
    right = 0
    colours = ("red", "green", "blue", "yellow", "black", "white")
    for colour in colours:
        look = world.SceneObject("circle", colour, "large", "solid", x=0.5, y=0.5, radius=0.235, depth=0.5)
        scene = world.Scene((look,), world.Background("plain", "light grey", "light grey"))
        part = MediaPart("image", world.png_bytes(world.render_pixels(scene, 64)), f"{colour}.png")
        right += ask(part, "What colour is the circle?", model=assistant).text == colour
    assert right >= 5

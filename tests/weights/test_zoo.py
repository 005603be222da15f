"""The zoo's facts are the spec's, and its names are forgiving."""

from __future__ import annotations

import subprocess
import sys

import pytest

from perceptic import zoo
from perceptic.configs import ClipConfig, VisionConfig
from perceptic.errors import ConfigError

# Spec 1.3: vision, text, whole CLIP.
PARAMETERS = {
    "PE-Core-T16-384": (6_140_544, 63_405_056, 69_545_601),
    "PE-Core-S16-384": (23_782_656, 63_405_056, 87_187_713),
    "PE-Core-B16-224": (93_672_960, 353_986_560, 447_659_521),
    "PE-Core-L14-336": (317_151_232, 353_986_560, 671_137_793),
    "PE-Core-G14-448": (1_882_032_640, 537_233_920, 2_419_266_561),
    "PE-Lang-L14-448": (291_415_040, 0, 291_415_040),
    "PE-Lang-L14-448-Tiling": (291_415_040, 0, 291_415_040),
    "PE-Lang-G14-448": (1_740_922_624, 0, 1_740_922_624),
    "PE-Lang-G14-448-Tiling": (1_740_922_624, 0, 1_740_922_624),
    "PE-Spatial-T16-512": (5_683_200, 0, 5_683_200),
    "PE-Spatial-S16-512": (21_983_232, 0, 21_983_232),
    "PE-Spatial-B16-512": (86_433_792, 0, 86_433_792),
    "PE-Spatial-L14-448": (303_964_160, 0, 303_964_160),
    "PE-Spatial-G14-448": (1_851_887_104, 0, 1_851_887_104),
}


def test_the_zoo_is_complete() -> None:
    assert zoo.names() == ["PE-Core-Nano", *PARAMETERS]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name: str) -> None:
    card = zoo.find_card(name)
    assert (card.vision_parameters, card.text_parameters, card.parameters) == PARAMETERS[name]


@pytest.mark.parametrize("card", zoo.cards(), ids=lambda card: card.name)
def test_cards_are_consistent(card: zoo.ModelCard) -> None:
    assert card.licence == "Apache-2.0"
    assert card.preprocessing.image_size == card.image_size == card.vision.image_size
    assert card.is_clip == (card.family == "core") == isinstance(card.config, ClipConfig)
    assert card.is_clip or isinstance(card.config, VisionConfig)
    assert card.bundled == (card.original is None) == (card.folder is not None)
    assert (card.open_clip is not None) == (card.is_clip and not card.bundled)
    assert all(0 < score.percent < 100 for score in card.scores)


def test_published_scores() -> None:
    scores = {score.benchmark: score.percent for score in zoo.find_card("PE-Core-L14-336").scores}
    assert scores["ImageNet-1k"] == 83.5
    assert scores["MSR-VTT"] == 50.3
    assert zoo.find_card("PE-Core-Nano").scores == ()


@pytest.mark.parametrize(
    ("spelling", "name", "repository"),
    [
        ("PE-Core-B16-224", "PE-Core-B16-224", "facebook/PE-Core-B16-224"),
        (" pe-core-b16-224 ", "PE-Core-B16-224", "facebook/PE-Core-B16-224"),
        ("PE_Core_B16_224", "PE-Core-B16-224", "facebook/PE-Core-B16-224"),
        ("pe core b16 224", "PE-Core-B16-224", "facebook/PE-Core-B16-224"),
        ("facebook/pe-lang-g14-448-tiling", "PE-Lang-G14-448-Tiling", "facebook/PE-Lang-G14-448-Tiling"),
        ("timm/PE-Core-T-16-384", "PE-Core-T16-384", "timm/PE-Core-T-16-384"),
        ("PE-Core-B-16", "PE-Core-B16-224", "timm/PE-Core-B-16"),
        ("hf-hub:timm/PE-Core-L-14-336", "PE-Core-L14-336", "timm/PE-Core-L-14-336"),
        (
            "hf_hub:timm/vit_pe_core_gigantic_patch14_448.fb",
            "PE-Core-G14-448",
            "timm/vit_pe_core_gigantic_patch14_448.fb",
        ),
        ("vit_pe_spatial_tiny_patch16_512", "PE-Spatial-T16-512", "timm/vit_pe_spatial_tiny_patch16_512.fb"),
        ("vit_pe_lang_large_patch14_448", "PE-Lang-L14-448", "timm/vit_pe_lang_large_patch14_448.fb"),
        (
            "vit_pe_lang_large_patch14_448.fb_tiling",
            "PE-Lang-L14-448-Tiling",
            "timm/vit_pe_lang_large_patch14_448.fb_tiling",
        ),
    ],
)
def test_spellings(spelling: str, name: str, repository: str) -> None:
    location = zoo.locate(spelling)
    assert location is not None
    assert location.file is not None
    assert (location.card.name, location.file.repo_id) == (name, repository)
    assert zoo.find_card(spelling) is location.card


def test_unknown_names_get_a_hint() -> None:
    assert zoo.locate("PE-Core-B14-224") is None
    with pytest.raises(ConfigError, match="no model is named 'PE-Core-B14-224'; did you mean 'PE-Core-B16-224'"):
        zoo.find_card("PE-Core-B14-224")
    with pytest.raises(ConfigError, match="known models: PE-Core-Nano, PE-Core-T16-384"):
        zoo.find_card("resnet50")


def test_timm_and_open_clip_names() -> None:
    card = zoo.find_card("PE-Core-G14-448")
    assert (card.timm_architecture, card.open_clip_name) == ("vit_pe_core_gigantic_patch14_448", "PE-Core-bigG-14-448")
    assert zoo.find_card("PE-Core-Nano").timm_architecture is None


def test_matching_card() -> None:
    card = zoo.find_card("PE-Core-B16-224")
    assert zoo.matching_card(card.config) is zoo.matching_card(card.vision) is card
    assert zoo.matching_card(card.vision.replace(layers=3)) is None


def test_the_zoo_needs_no_torch() -> None:
    program = "import sys, perceptic.zoo as zoo; zoo.cards(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""The public constructors: names, overrides, the original's calling conventions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import errors as hub_errors

import perceptic.pe as pe
from perceptic.configs import ClipConfig, Preprocessing, VisionConfig, vision_config
from perceptic.errors import ConfigError, WeightsError
from perceptic.weights import hub
from perceptic.weights.pretrained import CLIP, TextTransformer, VisionTransformer, load_bundle

MakeClip = Callable[[], CLIP]
MakeTower = Callable[[VisionConfig], VisionTransformer]


@pytest.fixture
def spatial_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "PE-Spatial-T16-512.pt"
    torch.save(VisionTransformer.from_config("PE-Spatial-T16-512").state_dict(), path)
    return path


def test_names() -> None:
    core = ["PE-Core-T16-384", "PE-Core-S16-384", "PE-Core-B16-224", "PE-Core-L14-336", "PE-Core-G14-448"]
    assert CLIP.available_configs() == TextTransformer.available_configs() == [*core, "PE-Core-Nano"]
    assert len(VisionTransformer.available_configs()) == 15
    assert set(core) < set(VisionTransformer.available_configs())


def test_fresh_weights_are_random_and_ready_to_train() -> None:
    first, second = (VisionTransformer.from_config("PE-Spatial-T16-512", layers=1) for _ in range(2))
    assert first.training
    assert first.config.layers == 1
    assert not torch.equal(first.conv1.weight, second.conv1.weight)
    assert first.preprocessing == Preprocessing(image_size=512)


def test_overrides_are_config_fields() -> None:
    tower = VisionTransformer.from_config("pe-core-t16-384", output_dim=None, drop_path=0.1, layers=2)
    assert tower.config == vision_config("PE-Core-T16-384").replace(output_dim=None, drop_path=0.1, layers=2)
    with pytest.raises(ConfigError, match="has no key 'depth'"):
        VisionTransformer.from_config("PE-Core-T16-384", depth=3)


def test_configurations_are_accepted(clip_config: ClipConfig) -> None:
    assert CLIP.from_config(clip_config).config == clip_config
    assert CLIP.from_config(clip_config.to_dict()).config == clip_config
    assert TextTransformer.from_config(clip_config).config == clip_config.text
    assert VisionTransformer.from_config(clip_config.vision, layers=1).config.layers == 1


def test_unknown_names_raise() -> None:
    with pytest.raises(ConfigError, match="no vision tower is named 'PE-Core-B16'; did you mean 'PE-Core-B16-224'"):
        VisionTransformer.from_config("PE-Core-B16")
    with pytest.raises(ConfigError, match="no CLIP model is named 'PE-Spatial-T16-512'"):
        CLIP.from_config("PE-Spatial-T16-512")
    with pytest.raises(ConfigError, match="expected a ClipConfig, not a TextConfig"):
        CLIP.from_config(CLIP.from_config("PE-Core-Nano").config.text)


def test_clip_has_no_overrides_of_one_tower(clip_config: ClipConfig) -> None:
    with pytest.raises(ConfigError, match="layers"):
        CLIP.from_config(clip_config, layers=3)


def test_pretrained_from_a_checkpoint_path(spatial_file: Path) -> None:
    tower = VisionTransformer.from_config("PE-Spatial-T16-512", pretrained=True, checkpoint_path=str(spatial_file))
    assert not tower.training
    shorter = VisionTransformer.from_config(
        "PE-Spatial-T16-512", pretrained=True, checkpoint_path=str(spatial_file), layers=3
    )
    pixels = torch.randn(1, 3, 64, 64)
    assert shorter.config.layers == 3
    assert torch.equal(shorter(pixels), tower.forward_features(pixels, layer_idx=2))


def test_pretrained_by_name_or_uri_asks_the_hub(spatial_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fake(file: object, options: object) -> str:
        asked.append(str(file))
        if "other" in str(file):
            raise hub_errors.OfflineModeIsEnabled("x")
        return str(spatial_file)

    monkeypatch.setattr(hub, "_hf_hub_download", fake)
    VisionTransformer.from_config("PE-Spatial-T16-512", pretrained=True)
    pe.VisionTransformer.from_config("PE-Spatial-T16-512", True, "hf://a/b:c.pt")
    with pytest.raises(WeightsError):
        VisionTransformer.from_config("PE-Spatial-T16-512", pretrained=True, checkpoint_path="hf://other/b:c.pt")
    assert asked == [
        "hf://facebook/PE-Spatial-T16-512:PE-Spatial-T16-512.pt",
        "hf://a/b:c.pt",
        "hf://other/b:c.pt",
    ]


def test_contradictions_are_errors(spatial_file: Path) -> None:
    with pytest.raises(ConfigError, match="checkpoint_path is given but pretrained is False"):
        VisionTransformer.from_config("PE-Spatial-T16-512", checkpoint_path=str(spatial_file))
    with pytest.raises(ConfigError, match="needs checkpoint_path"):
        VisionTransformer.from_config(vision_config("PE-Spatial-T16-512"), pretrained=True)


def test_another_image_size_with_pretrained_weights_is_an_error(spatial_file: Path) -> None:
    with pytest.raises(WeightsError, match=r"'positional_embedding' has shape \(1025, 192\), expected \(785, 192\)"):
        VisionTransformer.from_config(
            "PE-Spatial-T16-512", pretrained=True, checkpoint_path=spatial_file, image_size=448
        )


def test_without_a_config_the_shapes_decide(spatial_file: Path) -> None:
    tower = VisionTransformer.from_pretrained(spatial_file)
    assert tower.config == vision_config("PE-Spatial-T16-512")
    assert tower.card is None, "a file may hold anybody's weights: no card, no published numbers"


def test_an_unknown_architecture_asks_for_it(make_tower: MakeTower, core_config: VisionConfig, tmp_path: Path) -> None:
    torch.save(make_tower(core_config).state_dict(), tmp_path / "w.pt")
    with pytest.raises(
        WeightsError, match=r"w\.pt: original weights with vision tower: no model of the zoo has width 16"
    ):
        VisionTransformer.from_pretrained(tmp_path / "w.pt")


def test_the_towers_of_the_public_clip_are_public(clip_config: ClipConfig) -> None:
    clip = CLIP(clip_config)
    assert type(clip.visual) is VisionTransformer
    assert type(clip.text) is TextTransformer
    assert clip.image_size == 16
    assert clip.context_length == 6
    assert clip.preprocessing == Preprocessing(image_size=16)


def test_bundles(make_clip: MakeClip, tmp_path: Path) -> None:
    folder = make_clip().save_pretrained(tmp_path / "model")
    bundle = load_bundle(folder, kind="vision", dtype="bf16")
    assert isinstance(bundle.model, VisionTransformer)
    assert bundle.model.conv1.weight.dtype == torch.bfloat16
    assert bundle.tokenizer is None
    with pytest.raises(ConfigError, match="kind must be 'clip', 'vision' or None, not 'text'"):
        load_bundle(folder, kind="text")  # type: ignore[arg-type]


def test_a_vision_file_is_a_vision_bundle(spatial_file: Path) -> None:
    bundle = load_bundle(spatial_file)
    assert isinstance(bundle.model, VisionTransformer)
    assert bundle.preprocessing == Preprocessing(image_size=512)
    with pytest.raises(WeightsError, match="original weights without a text tower; load them with VisionTransformer"):
        load_bundle(spatial_file, kind="clip")


def test_code_for_the_original_runs_with_other_imports(make_clip: MakeClip, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    config = CLIP.from_config("PE-Core-T16-384").config
    small = ClipConfig(config.vision.replace(layers=1), config.text.replace(layers=1, vocab_size=64))
    torch.save(
        {key.removeprefix("text."): value for key, value in CLIP(small).state_dict().items()},
        path,
    )
    model = pe.CLIP.from_config(small, pretrained=True, checkpoint_path=str(path))
    pixels, ids = torch.randn(1, 3, 384, 384), torch.randint(0, 64, (2, 32))
    with torch.no_grad():
        image_features, text_features, logit_scale = model(pixels, ids)
        probabilities = (logit_scale * image_features @ text_features.T).softmax(dim=-1)
    assert probabilities.shape == (1, 2)
    torch.testing.assert_close(probabilities.sum(), torch.tensor(1.0))

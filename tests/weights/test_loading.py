"""Loading is strict: all weights come from the file or an error names what is wrong; types stay or change as asked."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from perceptic.configs import ClipConfig, VisionConfig
from perceptic.errors import ConfigError, WeightsError
from perceptic.weights.formats import FORMATS
from perceptic.weights.names import StateDict
from perceptic.weights.pretrained import CLIP, TextTransformer, VisionTransformer

MakeClip = Callable[[], CLIP]
MakeTower = Callable[[VisionConfig], VisionTransformer]


def same(model: torch.nn.Module, expected: torch.nn.Module) -> bool:
    ours, theirs = model.state_dict(), expected.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def save(model: CLIP | VisionTransformer, form: str, path: Path) -> Path:
    prefix = "" if isinstance(model, CLIP) else "visual."
    state = FORMATS[form].from_perceptic({prefix + key: value for key, value in model.state_dict().items()})  # type: ignore[index]
    torch.save(state, path)
    return path


@pytest.mark.parametrize("form", ["original", "open_clip", "perceptic"])
def test_clip_and_its_towers(form: str, make_clip: MakeClip, clip_config: ClipConfig, tmp_path: Path) -> None:
    clip = make_clip()
    path = save(clip, form, tmp_path / "w.pt")
    assert same(CLIP.from_pretrained(path, config=clip_config), clip)
    assert same(VisionTransformer.from_pretrained(path, config=clip_config.vision), clip.visual)
    assert same(TextTransformer.from_pretrained(path, config=clip_config.text), clip.text)


def test_config_may_be_a_dictionary_or_of_the_whole_model(
    make_clip: MakeClip, clip_config: ClipConfig, tmp_path: Path
) -> None:
    clip = make_clip()
    path = save(clip, "original", tmp_path / "w.pt")
    assert same(CLIP.from_pretrained(path, config=clip_config.to_dict()), clip)
    assert same(VisionTransformer.from_pretrained(path, config=clip_config), clip.visual)
    assert same(VisionTransformer.from_pretrained(path, config=clip_config.vision.to_dict()), clip.visual)


@pytest.mark.parametrize("form", ["original", "timm"])
def test_core_weights_feed_a_shape_without_heads(
    form: str, make_tower: MakeTower, core_config: VisionConfig, tmp_path: Path
) -> None:
    tower = make_tower(core_config)
    headless = core_config.replace(output_dim=None, pool_type="none", use_ln_post=False)
    loaded = VisionTransformer.from_pretrained(save(tower, form, tmp_path / "w.pt"), config=headless)
    pixels = torch.randn(1, 3, 16, 16)
    assert torch.equal(loaded(pixels), tower.forward_features(pixels))


def test_a_clip_model_keeps_its_heads(make_clip: MakeClip, clip_config: ClipConfig, tmp_path: Path) -> None:
    path = save(make_clip(), "original", tmp_path / "w.pt")
    headless = ClipConfig(vision=clip_config.vision.replace(pool_type="tok"), text=clip_config.text)
    with pytest.raises(WeightsError, match=r"has 11 that this model does not: visual\.attn_pool\."):
        CLIP.from_pretrained(path, config=headless)


def test_missing_keys_are_named_in_the_files_own_words(
    make_tower: MakeTower, core_config: VisionConfig, tmp_path: Path
) -> None:
    path = save(make_tower(core_config), "timm", tmp_path / "w.pt")
    state = torch.load(path, weights_only=True)
    del state["blocks.1.attn.qkv.weight"], state["norm.bias"]
    torch.save(state, path)
    with pytest.raises(
        WeightsError,
        match=r"w\.pt: timm weights of another architecture: the file lacks 2 of 43 weights: "
        r"blocks\.1\.attn\.qkv\.weight, norm\.bias\.",
    ):
        VisionTransformer.from_pretrained(path, config=core_config)


def test_too_many_blocks_are_named(make_tower: MakeTower, core_config: VisionConfig, tmp_path: Path) -> None:
    path = save(make_tower(core_config), "original", tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"has 12 that this model does not: transformer\.resblocks\.1\."):
        VisionTransformer.from_pretrained(path, config=core_config.replace(layers=1))


def test_layer_scale_cannot_be_left_out(make_tower: MakeTower, lang_config: VisionConfig, tmp_path: Path) -> None:
    path = save(make_tower(lang_config), "original", tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"has 4 that this model does not: transformer\.resblocks\.0\.ls_1\.gamma"):
        VisionTransformer.from_pretrained(path, config=lang_config.replace(ls_init_value=None))


def test_other_shapes_are_named(make_tower: MakeTower, core_config: VisionConfig, tmp_path: Path) -> None:
    path = save(make_tower(core_config), "timm", tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"'pos_embed' has shape \(17, 16\), expected \(26, 16\)\."):
        VisionTransformer.from_pretrained(path, config=core_config.replace(image_size=20))


def test_the_message_says_which_model_fits(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(VisionTransformer.from_config("PE-Spatial-T16-512").state_dict(), path)
    with pytest.raises(WeightsError, match=r"another architecture.*These weights fit PE-Spatial-T16-512\."):
        VisionTransformer.from_pretrained(path, config={"patch_size": 16, "width": 384, "layers": 12, "heads": 6})


def test_a_tower_that_the_file_lacks(make_clip: MakeClip, clip_config: ClipConfig, tmp_path: Path) -> None:
    clip = make_clip()
    vision = save(clip.visual, "original", tmp_path / "vision.pt")
    with pytest.raises(WeightsError, match=r"vision\.pt: original weights without a text tower; .* VisionTransformer"):
        CLIP.from_pretrained(vision, config=clip_config)
    with pytest.raises(WeightsError, match="without a text tower"):
        TextTransformer.from_pretrained(vision)
    torch.save(clip.text.state_dict(), tmp_path / "text.pt")
    with pytest.raises(WeightsError, match="without a vision tower; load them with TextTransformer"):
        VisionTransformer.from_pretrained(tmp_path / "text.pt")


def test_copies_take_no_more_than_the_weights(make_clip: MakeClip, clip_config: ClipConfig, tmp_path: Path) -> None:
    """Mapped tensors must not drag the whole file along when they are saved or copied."""
    loaded = CLIP.from_pretrained(save(make_clip(), "open_clip", tmp_path / "w.pt"), config=clip_config)
    torch.save(loaded.visual.attn_pool.state_dict(), tmp_path / "part.pt")
    weights = sum(value.nbytes for value in loaded.visual.attn_pool.state_dict().values())
    assert (tmp_path / "part.pt").stat().st_size < weights + 8000
    assert same(copy.deepcopy(loaded), loaded)


def test_quantised_weights_are_refused(make_tower: MakeTower, core_config: VisionConfig, tmp_path: Path) -> None:
    path = save(make_tower(core_config), "original", tmp_path / "w.pt")
    state = torch.load(path, weights_only=True)
    state["ln_post.weight"] = state["ln_post.weight"].to(torch.int8)
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"'ln_post\.weight' has type int8; expected one of float32"):
        VisionTransformer.from_pretrained(path, config=core_config)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("asked", [None, "float32", "bf16", torch.float16])
def test_types(
    stored: torch.dtype,
    asked: str | torch.dtype | None,
    make_clip: MakeClip,
    clip_config: ClipConfig,
    tmp_path: Path,
) -> None:
    clip = make_clip().to(stored)
    path = save(clip, "open_clip", tmp_path / "w.pt")
    loaded = CLIP.from_pretrained(path, config=clip_config, dtype=asked)
    target = {None: stored, "float32": torch.float32, "bf16": torch.bfloat16, torch.float16: torch.float16}[asked]
    assert {value.dtype for value in loaded.state_dict().values()} == {target}
    assert same(loaded, clip.to(target))


def test_an_unknown_type_is_named(make_clip: MakeClip, clip_config: ClipConfig, tmp_path: Path) -> None:
    path = save(make_clip(), "original", tmp_path / "w.pt")
    for asked in ("int8", torch.int8):
        with pytest.raises(ConfigError, match="dtype 'int8' is not supported; choose one of float32"):
            CLIP.from_pretrained(path, config=clip_config, dtype=asked)


def test_mixed_types_are_widened(make_clip: MakeClip, clip_config: ClipConfig, tmp_path: Path) -> None:
    clip = make_clip().to(torch.bfloat16)
    state: StateDict = {key: value.clone() for key, value in clip.state_dict().items()}
    state["visual.ln_post.weight"] = state["visual.ln_post.weight"].float() + 1e-5
    save_file(state, tmp_path / "w.safetensors")
    loaded = CLIP.from_pretrained(tmp_path / "w.safetensors", config=clip_config)
    # The scalar works with any type and keeps its own.
    assert {value.dtype for key, value in loaded.state_dict().items() if key != "logit_scale"} == {torch.float32}
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, state[key].to(value.dtype)), key


def test_loaded_models_are_ready_to_run_and_to_train(
    make_clip: MakeClip, clip_config: ClipConfig, tmp_path: Path
) -> None:
    path = save(make_clip(), "original", tmp_path / "w.pt")
    before = path.read_bytes()
    loaded = CLIP.from_pretrained(path, config=clip_config)
    assert not loaded.training
    assert not loaded.visual.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    loaded.encode_image(torch.randn(1, 3, 16, 16)).sum().backward()
    torch.optim.SGD(loaded.parameters(), lr=0.1).step()
    assert path.read_bytes() == before, "mapped weights are private: training must not write into the file"


def test_device(make_clip: MakeClip, clip_config: ClipConfig, tmp_path: Path) -> None:
    path = save(make_clip(), "original", tmp_path / "w.pt")
    loaded = CLIP.from_pretrained(path, config=clip_config, device="meta")
    assert {parameter.device.type for parameter in loaded.parameters()} == {"meta"}


def test_loading_does_not_import_the_compiler(make_tower: MakeTower, core_config: VisionConfig, tmp_path: Path) -> None:
    make_tower(core_config).save_pretrained(tmp_path / "model")
    program = (
        "import sys, perceptic; perceptic.VisionTransformer.from_pretrained(sys.argv[1]);"
        "print([name for name in ('sympy', 'torch._dynamo', 'torch._inductor') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"

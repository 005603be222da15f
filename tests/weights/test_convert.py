"""Conversion writes the released layouts, whole or not at all, and loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from perceptic.configs import ClipConfig, VisionConfig, vision_config
from perceptic.configs import clip_config as clip_config_of
from perceptic.errors import ConfigError, OutputError, WeightsError
from perceptic.text.bpe_training import train_bpe
from perceptic.weights import convert as converting
from perceptic.weights.convert import convert
from perceptic.weights.foreign_config import read_open_clip, read_timm, write_open_clip, write_timm
from perceptic.weights.formats import FormatName
from perceptic.weights.names import StateDict
from perceptic.weights.pretrained import CLIP, VisionTransformer

MakeClip = Callable[[], CLIP]
MakeTower = Callable[[VisionConfig], VisionTransformer]


def assert_same(model: torch.nn.Module, expected: torch.nn.Module) -> None:
    ours, theirs = model.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value.to(ours[key].dtype)), key


@pytest.mark.parametrize("first", ["original", "open_clip", "perceptic"])
@pytest.mark.parametrize("second", ["original", "open_clip", "perceptic"])
def test_clip_between_all_formats(
    first: FormatName, second: FormatName, make_clip: MakeClip, clip_config: ClipConfig, tmp_path: Path
) -> None:
    clip = make_clip()
    clip.save_pretrained(tmp_path / "start")
    convert(tmp_path / "start", tmp_path / "a", first)
    done = convert(tmp_path / "a", tmp_path / "b", second, config=clip_config)
    assert (done.source_format, done.target_format, done.towers) == (first, second, ("vision", "text"))
    assert done.num_tensors == len(clip.state_dict())
    assert done.parameters == sum(parameter.numel() for parameter in clip.parameters())
    assert_same(CLIP.from_pretrained(tmp_path / "b", config=clip_config), clip)


@pytest.mark.parametrize("kind", ["core", "lang"])
def test_towers_between_all_formats(
    kind: str, make_tower: MakeTower, core_config: VisionConfig, lang_config: VisionConfig, tmp_path: Path
) -> None:
    config = core_config if kind == "core" else lang_config
    tower = make_tower(config)
    tower.save_pretrained(tmp_path / "perceptic")
    convert(tmp_path / "perceptic", tmp_path / "timm", "timm")
    convert(tmp_path / "timm", tmp_path / "original.pt", "original")
    convert(tmp_path / "original.pt", tmp_path / "again", "perceptic", config=config)
    for path in ("timm", "again"):
        loaded = VisionTransformer.from_pretrained(tmp_path / path)
        assert loaded.config == config
        assert_same(loaded, tower)


def test_the_original_layout(make_clip: MakeClip, tmp_path: Path) -> None:
    make_clip().to(torch.bfloat16).save_pretrained(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "model.pt", "original")
    state: StateDict = torch.load(tmp_path / "model.pt", weights_only=True)
    assert type(state) is dict
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert {"visual.conv1.weight", "text_projection", "logit_scale"} <= state.keys()
    # Tensors that share a storage would make the file larger than its weights.
    assert (tmp_path / "model.pt").stat().st_size < 1.2 * sum(v.nbytes for v in state.values()) + 400 * len(state)


def test_the_timm_layout(make_clip: MakeClip, tmp_path: Path) -> None:
    make_clip().save_pretrained(tmp_path / "model")
    done = convert(tmp_path / "model", tmp_path / "timm", "timm")
    assert sorted(path.name for path in (tmp_path / "timm").iterdir()) == ["config.json", "model.safetensors"]
    assert done.towers == ("vision",)
    assert "the text tower is not in the result" in done.notes[0]
    with safe_open(tmp_path / "timm" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_open_clip_layout(make_clip: MakeClip, tmp_path: Path) -> None:
    make_clip().save_pretrained(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "oc", "open_clip")
    assert sorted(path.name for path in (tmp_path / "oc").iterdir()) == [
        "open_clip_config.json",
        "open_clip_model.safetensors",
    ]
    keys = load_file(tmp_path / "oc" / "open_clip_model.safetensors").keys()
    assert {"visual.trunk.patch_embed.proj.weight", "text.text_projection", "logit_scale"} <= keys


@pytest.mark.parametrize("to", ["original", "timm", "perceptic"])
def test_types(to: FormatName, make_clip: MakeClip, tmp_path: Path) -> None:
    make_clip().to(torch.float16).save_pretrained(tmp_path / "model")
    assert convert(tmp_path / "model", tmp_path / "a", to).dtype == ("float32" if to == "original" else "float16")
    assert convert(tmp_path / "model", tmp_path / "b", to, dtype="bfloat16").dtype == "bfloat16"


def test_nothing_is_overwritten_without_force(make_clip: MakeClip, tmp_path: Path) -> None:
    make_clip().save_pretrained(tmp_path / "model")
    (tmp_path / "out.pt").write_text("precious")
    (tmp_path / "out").mkdir()
    for name, to in (("out.pt", "original"), ("out", "timm")):
        with pytest.raises(OutputError, match=rf"{name}: exists; choose another name or force"):
            convert(tmp_path / "model", tmp_path / name, to)  # type: ignore[arg-type]
    assert (tmp_path / "out.pt").read_text() == "precious"
    convert(tmp_path / "model", tmp_path / "out.pt", "original", force=True)
    convert(tmp_path / "model", tmp_path / "out", "timm", force=True)
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("to", ["original", "timm"])
def test_a_failing_disk_leaves_nothing(
    to: FormatName, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip().save_pretrained(tmp_path / "model")
    real = converting.open_checkpoint
    calls = 0

    def open_damaged(path: Path) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first is the source
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        return real(path)

    monkeypatch.setattr(converting, "open_checkpoint", open_damaged)
    with pytest.raises(WeightsError, match="reads back other than it was written"):
        convert(tmp_path / "model", tmp_path / "out", to)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_impossible_targets(make_tower: MakeTower, core_config: VisionConfig, tmp_path: Path) -> None:
    make_tower(core_config).save_pretrained(tmp_path / "model")
    with pytest.raises(WeightsError, match=r"the open_clip format holds vision \+ text, not vision"):
        convert(tmp_path / "model", tmp_path / "out", "open_clip")
    with pytest.raises(ConfigError, match="no format is named 'onnx'"):
        convert(tmp_path / "model", tmp_path / "out", "onnx")  # type: ignore[arg-type]


def test_the_vocabulary_goes_along(make_clip: MakeClip, clip_config: ClipConfig, tmp_path: Path) -> None:
    tokenizer = train_bpe(["a red circle", "a blue square"] * 3, vocab_size=520, context_length=6)
    text = clip_config.text.replace(vocab_size=tokenizer.vocab_size)
    CLIP(ClipConfig(clip_config.vision, text)).save_pretrained(tmp_path / "model", tokenizer=tokenizer)
    convert(tmp_path / "model", tmp_path / "oc", "open_clip")
    convert(tmp_path / "oc", tmp_path / "again", "perceptic")
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (tmp_path / "model" / "tokenizer.json").read_bytes()


RELEASED = [name for name in VisionTransformer.available_configs() if name != "PE-Core-Nano"]


@pytest.mark.parametrize("name", RELEASED)
def test_descriptions_of_released_models(name: str) -> None:
    config = vision_config(name)
    fields = json.loads(json.dumps(write_timm(config)))
    assert "model_args" not in fields
    assert read_timm(fields) == config


def test_descriptions_of_other_sizes(
    core_config: VisionConfig, lang_config: VisionConfig, clip_config: ClipConfig
) -> None:
    for config in (core_config, lang_config, core_config.replace(use_cls_token=False, mlp_ratio=8960 / 1536)):
        assert read_timm(json.loads(json.dumps(write_timm(config)))) == config
    odd = ClipConfig(clip_config.vision, clip_config.text.replace(mlp_ratio=2.0))
    for clip in (clip_config, odd):
        assert read_open_clip(json.loads(json.dumps(write_open_clip(clip)))) == clip


def test_pooling_that_others_do_not_have(core_config: VisionConfig, clip_config: ClipConfig) -> None:
    assert read_timm(write_timm(core_config.replace(pool_type="tok"))) == core_config.replace(pool_type="tok")
    with pytest.raises(ConfigError, match="pool_type 'avg' cannot be written for timm"):
        write_timm(core_config.replace(pool_type="avg"))
    with pytest.raises(ConfigError, match="pool_type 'tok' cannot be written for open_clip"):
        write_open_clip(ClipConfig(clip_config.vision.replace(pool_type="tok"), clip_config.text))


def test_descriptions_that_say_too_little() -> None:
    assert read_timm({"architecture": "vit_unknown"}) is None
    assert read_timm({"architecture": "vit_unknown", "model_args": None}) is None
    assert read_open_clip({"model_cfg": {"embed_dim": 64, "vision_cfg": {"width": 64}, "text_cfg": {}}}) is None
    with pytest.raises(ConfigError):
        read_timm({"architecture": "vit_pe_core_base_patch16_224", "model_args": {"num_heads": 7}})


def test_stock_open_clip_config_of_a_released_model() -> None:
    """The file open_clip's own repositories carry: no trunk arguments, only the model's name."""
    fields = {
        "model_cfg": {
            "embed_dim": 1024,
            "vision_cfg": {
                "image_size": 224,
                "timm_model_name": "vit_pe_core_base_patch16_224",
                "timm_model_pretrained": False,
                "timm_pool": "map",
                "timm_proj": None,
            },
            "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24},
            "custom_text": True,
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    }
    assert read_open_clip(fields) == clip_config_of("PE-Core-B16-224")

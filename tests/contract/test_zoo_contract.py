"""What every model of the zoo promises, at shrunken size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic import zoo
from perceptic.errors import ConfigError
from perceptic.weights.convert import convert
from perceptic.weights.formats import FormatName
from perceptic.weights.loading import build_empty
from perceptic.weights.pretrained import CLIP, VisionTransformer

MakeModel = Callable[[str], CLIP | VisionTransformer]
MakeTower = Callable[[str], VisionTransformer]
NAMES = zoo.names()
CLIPS = CLIP.available_configs()
# One of each combination of class token, layer scale, head: the others only differ in size.
KINDS = [
    "PE-Core-B16-224",
    "PE-Core-G14-448",
    "PE-Lang-L14-448",
    "PE-Lang-G14-448",
    "PE-Spatial-B16-512",
    "PE-Spatial-G14-448",
]


def pixels_for(tower: VisionTransformer, batch: int = 2, rows: int = 3, columns: int = 3, extra: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    patch = tower.config.patch_size
    return torch.randn(batch, 3, rows * patch + extra, columns * patch, generator=generator).clamp(-1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_kinds_cover_the_zoo(name: str) -> None:
    def flags(of: str) -> tuple[object, ...]:
        config = zoo.find_card(of).vision
        return config.use_cls_token, config.ls_init_value, config.pool_type, config.use_ln_post

    assert flags(name) in {flags(kind) for kind in KINDS}


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name: str, make_tower: MakeTower) -> None:
    tower = make_tower(name)
    config = tower.config
    pixels = pixels_for(tower)
    with torch.inference_mode():
        output, features = tower(pixels), tower.forward_features(pixels)
        stripped = tower.forward_features(pixels, strip_cls_token=True)
    tokens = 9 + config.use_cls_token
    assert features.shape == (2, tokens, config.width)
    assert stripped.shape == (2, 9, config.width)
    assert output.shape == ((2, 12) if config.pool_type == "attn" else (2, tokens, config.width))
    assert tower.output_dim == output.shape[-1]
    assert output.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_any_input_size(name: str, make_tower: MakeTower) -> None:
    tower = make_tower(name)
    prefix = tower.config.num_prefix_tokens
    with torch.inference_mode():
        for rows, columns in ((1, 1), (2, 5), (5, 2), (4, 4)):
            features = tower.forward_features(pixels_for(tower, 1, rows, columns))
            assert features.shape[1] == prefix + rows * columns
            assert features.isfinite().all()
        whole = pixels_for(tower, 1, 2, 3, extra=tower.config.patch_size - 1)
        ragged = tower.forward_features(whole)
        assert torch.equal(ragged, tower.forward_features(whole[:, :, : 2 * tower.config.patch_size]))
    for bad in (torch.zeros(1, 3, tower.config.patch_size - 1, 64), torch.zeros(1, 1, 64, 64), torch.zeros(3, 64, 64)):
        with pytest.raises(ConfigError, match="pixels must be"):
            tower(bad)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_pictures(name: str, make_tower: MakeTower) -> None:
    tower = make_tower(name)
    pixels = pixels_for(tower, batch=3)
    with torch.inference_mode():
        torch.testing.assert_close(tower(pixels)[1:2], tower(pixels[1:2]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_backward_reaches_every_weight(name: str, make_model: MakeModel) -> None:
    model = make_model(name).train()
    tower = model.visual if isinstance(model, CLIP) else model
    if isinstance(model, CLIP):
        image, text, scale = model(pixels_for(tower), torch.randint(1, 60, (2, 8)))
        assert image is not None
        assert text is not None
        F.cross_entropy(scale * image @ text.T, torch.arange(2)).backward()
    else:
        model(pixels_for(tower)).square().sum().backward()
    # Positions and ids that the batch does not use have no gradient, but their tables do.
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_intermediates(name: str, make_tower: MakeTower) -> None:
    tower = make_tower(name)
    pixels = pixels_for(tower, 2, 2, 4)
    with torch.inference_mode():
        last, maps = tower.forward_intermediates(pixels, indices=[0, -1], norm=False)
        sequences = tower.forward_intermediates(pixels, output_fmt="NLC", intermediates_only=True)
        pairs = tower.forward_intermediates(
            pixels, indices=2, return_prefix_tokens=True, norm=True, stop_early=True, intermediates_only=True
        )
        for index, layer in ((0, 0), (1, 2)):
            expected = tower.forward_features(pixels, layer_idx=layer, strip_cls_token=True)
            assert torch.equal(sequences[layer], expected)
            assert torch.equal(maps[index], expected.transpose(1, 2).reshape(2, -1, 2, 4))
        assert torch.equal(last, tower.forward_features(pixels, norm=True))
        assert len(sequences) == 3
        assert len(pairs) == 2
        for layer, (patches, prefix) in zip((1, 2), pairs, strict=True):
            normed = tower.forward_features(pixels, norm=True, layer_idx=layer)
            assert torch.equal(prefix, normed[:, : tower.config.num_prefix_tokens])
            assert torch.equal(patches.flatten(2).transpose(1, 2), normed[:, tower.config.num_prefix_tokens :])


@pytest.mark.parametrize("name", NAMES)
def test_truncate(name: str, make_tower: MakeTower) -> None:
    tower = make_tower(name)
    pixels = pixels_for(tower)
    with torch.inference_mode():
        expected = tower.forward_features(pixels, layer_idx=1)
        tower.truncate(1)
        assert torch.equal(tower.forward_features(pixels), expected)
    assert tower.config.layers == 2


FORMATS = ("original", "timm", "open_clip", "perceptic")


@pytest.mark.parametrize(
    # open_clip has no towers alone.
    ("name", "form"),
    [(name, form) for name in NAMES for form in FORMATS if form != "open_clip" or name in CLIPS],
)
def test_save_and_load(name: str, form: FormatName, make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(name)
    if form == "timm" and isinstance(model, CLIP):
        model = model.visual
    model.save_pretrained(tmp_path / "start")
    convert(tmp_path / "start", tmp_path / "there", form)
    loaded = type(model).from_pretrained(tmp_path / "there", config=model.config)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())
    tower = model.visual if isinstance(model, CLIP) else model
    twin = loaded.visual if isinstance(loaded, CLIP) else loaded
    with torch.inference_mode():
        torch.testing.assert_close(twin(pixels_for(tower)), tower(pixels_for(tower)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(name: str, dtype: torch.dtype, make_tower: MakeTower) -> None:
    tower = make_tower(name)
    for pixels in (pixels_for(tower), pixels_for(tower, 2, 2, 4)):
        with torch.inference_mode():
            expected = tower.float()(pixels)
            actual = tower.to(dtype)(pixels.to(dtype))
        assert actual.dtype == dtype
        # 8 bits of mantissa through 3 blocks; a wrong table or a lost cast goes below 0.9.
        assert F.cosine_similarity(actual.float().flatten(), expected.flatten(), dim=0) > 0.998


@pytest.mark.parametrize("name", NAMES)
def test_meta_device(name: str, make_model: MakeModel) -> None:
    model = make_model(name)
    empty = build_empty(type(model), model.config)
    assert {value.device.type for value in empty.state_dict().values()} == {"meta"}
    tower, twin = (m.visual if isinstance(m, CLIP) else m for m in (model, empty))
    assert twin(pixels_for(tower).to("meta")).shape == tower(pixels_for(tower)).shape
    filled = empty.to_empty(device="cpu")
    filled.load_state_dict(model.state_dict())
    tower, twin = (m.visual if isinstance(m, CLIP) else m for m in (model, filled))
    with torch.inference_mode():
        # Rotary tables are no state: nothing is lost on the way through the meta device.
        assert torch.equal(twin(pixels_for(tower, 1, 4, 2)), tower(pixels_for(tower, 1, 4, 2)))


@pytest.mark.parametrize("name", CLIPS)
def test_clip(name: str, make_model: MakeModel) -> None:
    model = make_model(name)
    assert isinstance(model, CLIP)
    pixels, ids = pixels_for(model.visual, batch=4), torch.randint(1, 60, (3, 8))
    with torch.inference_mode():
        unit = model.encode_image(pixels, normalize=True)
        torch.testing.assert_close(unit.norm(dim=-1), torch.ones(4))
        texts = model.encode_text(ids, normalize=True)
        torch.testing.assert_close(texts.norm(dim=-1), torch.ones(3))
        video = model.encode_video(pixels[None], normalize=True)
        torch.testing.assert_close(video, F.normalize(unit.mean(0, keepdim=True), dim=-1))
        image, text, scale = model(pixels, ids)
        assert image is not None
        assert text is not None
        assert (scale * image @ text.T).shape == (4, 3)
        assert model(pixels).text_features is None
        assert model(text=ids).image_features is None


@pytest.mark.parametrize("name", KINDS)
def test_activation_checkpointing_changes_nothing(name: str, make_model: MakeModel) -> None:
    def gradients(checkpointing: bool) -> dict[str, Tensor]:
        model = make_model(name).train()
        model.set_grad_checkpointing(checkpointing)
        tower = model.visual if isinstance(model, CLIP) else model
        loss = tower(pixels_for(tower)).square().sum()
        if isinstance(model, CLIP):
            loss = loss + model.encode_text(torch.arange(1, 17).reshape(2, 8)).square().sum()
        loss.backward()
        return {key: p.grad for key, p in model.named_parameters() if p.grad is not None}

    plain, checkpointed = gradients(False), gradients(True)
    assert plain.keys() == checkpointed.keys()
    for key, value in plain.items():
        torch.testing.assert_close(checkpointed[key], value, msg=key)

"""A model folder is written whole or not at all, and reads back as what it was."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from perceptic.configs import ClipConfig, Preprocessing, VisionConfig
from perceptic.errors import OutputError, WeightsError, WeightsNotFoundError
from perceptic.text.bpe_training import train_bpe
from perceptic.weights import folder as folders
from perceptic.weights.pretrained import CLIP, TextTransformer, VisionTransformer, load_bundle

MakeClip = Callable[[], CLIP]
MakeTower = Callable[[VisionConfig], VisionTransformer]


def test_clip_round_trip(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip()
    preprocessing = Preprocessing(image_size=16, resize_mode="center_crop", interpolation="bicubic", method="fast")
    folder = clip.save_pretrained(tmp_path / "deep" / "model", preprocessing=preprocessing)
    assert sorted(path.name for path in folder.iterdir()) == sorted(set(folders.OUR_FILES) - {"tokenizer.json"})
    loaded = CLIP.from_pretrained(folder)
    assert loaded.config == clip.config
    assert loaded.preprocessing == loaded.visual.preprocessing == preprocessing
    check_weights(loaded, clip)


def check_weights(found: nn.Module, wanted: nn.Module) -> None:
    weights = found.state_dict()
    for key, value in wanted.state_dict().items():
        assert torch.equal(weights[key], value), key


def check_same(found: nn.Module, wanted: nn.Module, inputs: Tensor) -> None:
    """Weights to the bit. What is mapped from a file begins at another address, where AVX2 sums in another order."""
    check_weights(found, wanted)
    torch.testing.assert_close(found(inputs), wanted(inputs), rtol=0, atol=1e-5)


def test_each_tower_round_trip(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip()
    vision = VisionTransformer.from_pretrained(clip.visual.save_pretrained(tmp_path / "vision"))
    text = TextTransformer.from_pretrained(clip.text.save_pretrained(tmp_path / "text"))
    pixels, ids = torch.randn(2, 3, 16, 16), torch.randint(0, 50, (2, 6))
    check_same(vision, clip.visual, pixels)
    check_same(text, clip.text, ids)
    assert not (tmp_path / "text" / "preprocessing.json").exists()


def test_a_clip_folder_feeds_a_bare_tower(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip()
    folder = clip.save_pretrained(tmp_path / "clip")
    pixels = torch.randn(2, 3, 16, 16)
    for source in (folder, folder / "model.safetensors"):
        check_same(VisionTransformer.from_pretrained(source), clip.visual, pixels)


def test_the_files_say_what_they_are(make_clip: MakeClip, tmp_path: Path) -> None:
    folder = make_clip().save_pretrained(tmp_path / "my-model")
    fields = json.loads((folder / "config.json").read_text())
    assert fields["format"] == "perceptic"
    assert fields["model_type"] == "clip"
    assert fields["architecture"] is None
    readme = (folder / "README.md").read_text()
    assert "perceptic.CLIP.from_pretrained" in readme
    assert readme.startswith("---\nlibrary_name: perceptic")
    VisionTransformer.from_config("PE-Spatial-T16-512").save_pretrained(tmp_path / "spatial")
    assert json.loads((tmp_path / "spatial" / "config.json").read_text())["architecture"] == "PE-Spatial-T16-512"


def test_files_are_as_readable_as_others(make_clip: MakeClip, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    expected = stat.S_IMODE((tmp_path / "other").stat().st_mode)
    folder = make_clip().save_pretrained(tmp_path / "model")
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {expected}


def test_a_given_card_is_written(make_clip: MakeClip, tmp_path: Path) -> None:
    folder = make_clip().save_pretrained(tmp_path / "model", card="# Mine\n")
    assert (folder / "README.md").read_text() == "# Mine\n"


def test_saving_again_replaces_the_model(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip()
    folder = clip.save_pretrained(tmp_path / "model")
    loaded = CLIP.from_pretrained(folder)
    with torch.no_grad():
        loaded.logit_scale.fill_(3.0)
    # The loaded weights are mapped from the very file that is replaced.
    loaded.save_pretrained(folder)
    again = CLIP.from_pretrained(folder)
    assert again.logit_scale.item() == 3.0
    assert torch.equal(again.visual.proj, clip.visual.proj)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_other_files_are_never_touched(make_clip: MakeClip, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match=r"home: holds other files \(thesis\.tex\); choose a new folder"):
        make_clip().save_pretrained(tmp_path / "home")
    assert (tmp_path / "home" / "thesis.tex").read_text() == "precious"
    with pytest.raises(OutputError, match=r"thesis\.tex: is a file; give a folder"):
        make_clip().save_pretrained(tmp_path / "home" / "thesis.tex")


def test_a_failure_leaves_the_old_folder(make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_clip().save_pretrained(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "write_description", fail)
    with pytest.raises(OutputError, match="model: cannot be written: No space left on device"):
        make_clip().save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_tokenizer_travels(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip()
    tokenizer = train_bpe(["a red circle", "a blue square"] * 3, vocab_size=520, context_length=6)
    config = ClipConfig(clip.config.vision, clip.config.text.replace(vocab_size=tokenizer.vocab_size))
    model = CLIP(config)
    folder = model.save_pretrained(tmp_path / "model", tokenizer=tokenizer)
    bundle = load_bundle(folder)
    assert isinstance(bundle.model, CLIP)
    assert bundle.tokenizer is not None
    assert bundle.tokenizer.context_length == model.context_length
    assert torch.equal(bundle.tokenizer("a red square"), tokenizer("a red square"))
    assert bundle.preprocessing == model.preprocessing
    assert bundle.card is None
    assert bundle.name == str(folder)


def test_a_vocabulary_of_another_model_is_refused(make_clip: MakeClip, tmp_path: Path) -> None:
    tokenizer = train_bpe(["a red circle"] * 3, vocab_size=520, context_length=6)
    folder = make_clip().save_pretrained(tmp_path / "model", tokenizer=tokenizer)
    with pytest.raises(WeightsError, match=r"has 50 token embeddings but the vocabulary found has \d+"):
        load_bundle(folder)
    assert load_bundle(folder, kind="vision").tokenizer is None


def rewrite(folder: Path, **changes: object) -> None:
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**fields, **changes}))


def test_damaged_descriptions(make_clip: MakeClip, tmp_path: Path) -> None:
    folder = make_clip().save_pretrained(tmp_path / "model")
    fields = json.loads((folder / "config.json").read_text())["config"]
    cases: list[tuple[dict[str, object], str]] = [
        ({"model_type": "audio"}, 'expected "model_type" of clip, vision, text'),
        ({"config": 3}, 'and a "config" object'),
        (
            {"config": {**fields, "vision": {**fields["vision"], "widht": 3}}},
            "has no key 'widht'; did you mean 'width'",
        ),
        ({"format_version": 99}, "written by a newer perceptic; update"),
    ]
    original = (folder / "config.json").read_text()
    for changes, message in cases:
        (folder / "config.json").write_text(original)
        rewrite(folder, **changes)
        with pytest.raises(WeightsError, match=message):
            CLIP.from_pretrained(folder)
    for content, message in (
        (b"{", "is not valid JSON"),
        (b"[]", "expected a JSON object, not a list"),
        (b"\xff", "JSON"),
    ):
        (folder / "config.json").write_bytes(content)
        with pytest.raises(WeightsError, match=message):
            CLIP.from_pretrained(folder)
    (folder / "config.json").write_text(original)
    (folder / "preprocessing.json").write_text('{"image_size": -3}')
    with pytest.raises(WeightsError, match="image_size must be a positive integer"):
        CLIP.from_pretrained(folder)


def test_an_inconsistent_folder(make_clip: MakeClip, tmp_path: Path) -> None:
    folder = make_clip().save_pretrained(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsNotFoundError, match=r"has a configuration but no weights; expected model\.safetensors"):
        CLIP.from_pretrained(folder)


def test_folders_without_description(make_tower: MakeTower, lang_config: VisionConfig, tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match="no weights in this folder"):
        VisionTransformer.from_pretrained(tmp_path)
    tower = make_tower(lang_config)
    torch.save(tower.state_dict(), tmp_path / "a.pt")
    (tmp_path / "notes.txt").write_text("x")
    assert VisionTransformer.from_pretrained(tmp_path, config=lang_config).config == lang_config
    torch.save(tower.state_dict(), tmp_path / "b.pt")
    with pytest.raises(WeightsNotFoundError, match=r"several weights files \(a\.pt, b\.pt\); give the path of one"):
        VisionTransformer.from_pretrained(tmp_path, config=lang_config)


def test_a_description_of_another_library_is_ignored(
    make_tower: MakeTower, lang_config: VisionConfig, tmp_path: Path
) -> None:
    torch.save(make_tower(lang_config).state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 64}')
    assert VisionTransformer.from_pretrained(tmp_path, config=lang_config).config == lang_config

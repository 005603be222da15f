"""PerceptionLM folders: three formats, read and written, with the original's numbers; damage is named."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from perceptic.configs_plm import PLM_CONFIGS, PerceptionLMPreprocessing
from perceptic.errors import ConfigError, OutputError, PercepticError, TextError, WeightsError, WeightsNotFoundError
from perceptic.weights import plm_card
from perceptic.weights.plm_card import count_plm_parameters, find_plm_card
from perceptic.weights.plm_folder import PLMFormat, read_plm_folder
from perceptic.weights.plm_pretrained import PerceptionLM, load_plm
from perceptic.weights.shards import find_shards, write_shards

NAMES = ["tied_scaled", "untied_unscaled", "untied_scaled_oddgrid", "tied_unscaled_pool1"]
LOGITS = 2e-4
FORMS: list[PLMFormat] = ["perceptic", "original", "huggingface"]


@pytest.fixture
def original(goldens: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A folder as the original writes it: parameters, weights and tokenizer."""

    def build(name: str) -> Path:
        folder = tmp_path / "original" / name
        folder.mkdir(parents=True)
        for file in ("params.json", "consolidated.pth"):
            shutil.copy(goldens / "plm" / name / file, folder)
        shutil.copy(goldens / "plm" / "tokenizer" / "tokenizer.model", folder)
        return folder

    return build


def check_logits(model: PerceptionLM, goldens: Path, name: str) -> None:
    given = load_file(goldens / "plm" / name / "inputs.safetensors")
    wanted = load_file(goldens / "plm" / name / "expected.safetensors")
    with torch.inference_mode():
        logits = model(given["text_short.ids"])
        projected = model.encode_chunks(given["batch.images"])
    torch.testing.assert_close(logits, wanted["text_short.logits"], atol=LOGITS, rtol=0)
    torch.testing.assert_close(projected, wanted["batch.projected"], atol=5e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_original_folder(goldens: Path, original: Callable[[str], Path], name: str) -> None:
    bundle = load_plm(original(name), dtype="float32")
    check_logits(bundle.model, goldens, name)
    assert not bundle.model.training
    assert bundle.tokenizer.image_id == bundle.model.config.image_token_id
    assert bundle.preprocessing == PerceptionLMPreprocessing(
        tile_size=bundle.model.image_size, max_num_tiles=4, max_video_frames=4
    )


@pytest.mark.parametrize("name", ["tied_scaled", "untied_unscaled"])
def test_huggingface_folder(goldens: Path, name: str) -> None:
    model = PerceptionLM.from_pretrained(goldens / "interop" / f"hf_{name}", dtype="float32")
    check_logits(model, goldens, name)
    assert (model.tokenizer is not None) == (name == "tied_scaled")
    assert model.preprocessing.max_num_tiles == (4 if name == "tied_scaled" else 36)


def test_both_formats_have_the_same_weights(goldens: Path, original: Callable[[str], Path]) -> None:
    theirs = PerceptionLM.from_pretrained(goldens / "interop" / "hf_tied_scaled").state_dict()
    ours = PerceptionLM.from_pretrained(original("tied_scaled")).state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_round_trip(original: Callable[[str], Path], tmp_path: Path, name: str, form: PLMFormat) -> None:
    model = PerceptionLM.from_pretrained(original(name))
    folder = model.save_pretrained(tmp_path / "saved", form=form)
    assert read_plm_folder(folder).form == form
    again = PerceptionLM.from_pretrained(folder)
    state, saved = model.state_dict(), again.state_dict()
    assert list(state) == list(saved)
    assert all(torch.equal(state[key], saved[key]) and state[key].dtype == saved[key].dtype for key in state)
    assert again.config.tokens_per_chunk == model.config.tokens_per_chunk
    assert again.config.decoder.ffn_width == model.config.decoder.ffn_width
    assert again.config.decoder.rope_scale_factor == model.config.decoder.rope_scale_factor
    if form != "huggingface":  # that format does not say how many frames
        assert again.config == model.config
        assert again.preprocessing == model.preprocessing
    assert again.tokenizer is not None
    assert model.tokenizer is not None
    assert again.tokenizer.encode("A small dog.") == model.tokenizer.encode("A small dog.")
    model.save_pretrained(folder, form=form)  # an older model folder is replaced


def test_weights_in_several_files(goldens: Path, original: Callable[[str], Path], tmp_path: Path) -> None:
    folder = original("tied_scaled")
    state = torch.load(folder / "consolidated.pth", weights_only=True)
    (folder / "consolidated.pth").unlink()
    keys = sorted(state)
    torch.save({"model": {key: state[key] for key in keys[:20]}}, folder / "consolidated.00.pth")
    torch.save({"model": {key: state[key] for key in keys[20:]}}, folder / "consolidated.01.pth")
    model = PerceptionLM.from_pretrained(folder)
    check_logits(model, goldens, "tied_scaled")
    torch.save({keys[0]: state[keys[0]]}, folder / "consolidated.02.pth")
    with pytest.raises(WeightsError, match="in another of the weights files"):
        PerceptionLM.from_pretrained(folder)

    sharded = model.save_pretrained(tmp_path / "sharded", form="huggingface")
    whole = load_file(sharded / "model.safetensors")
    (sharded / "model.safetensors").unlink()
    write_shards(sharded, whole, max_shard_bytes=200_000)
    assert len(find_shards(sharded)) > 3
    check_logits(PerceptionLM.from_pretrained(sharded), goldens, "tied_scaled")
    find_shards(sharded)[0].unlink()
    with pytest.raises(WeightsNotFoundError, match="is missing"):
        PerceptionLM.from_pretrained(sharded)


def test_dtypes(original: Callable[[str], Path]) -> None:
    folder = original("untied_unscaled")
    assert PerceptionLM.from_pretrained(folder).decoder.norm.weight.dtype == torch.bfloat16
    model = PerceptionLM.from_pretrained(folder, dtype="float32")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


def test_older_huggingface_configs(goldens: Path, tmp_path: Path) -> None:
    folder = tmp_path / "older"
    shutil.copytree(goldens / "interop" / "hf_tied_scaled", folder)

    def older(fields: dict[str, Any]) -> None:
        rope = fields["text_config"].pop("rope_parameters")
        fields["text_config"]["rope_theta"] = rope.pop("rope_theta")
        fields["text_config"]["rope_scaling"] = rope
        del fields["tie_word_embeddings"]

    edit_json(folder / "config.json", older)
    processor = json.loads((folder / "processor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(processor.pop("image_processor")))
    processor.pop("video_processor")
    (folder / "processor_config.json").write_text(json.dumps(processor))
    model = PerceptionLM.from_pretrained(folder)
    check_logits(model, goldens, "tied_scaled")
    assert model.preprocessing.max_num_tiles == 4
    edit_json(folder / "config.json", lambda fields: fields["text_config"].update(rope_scaling=None))
    assert PerceptionLM.from_pretrained(folder).config.decoder.rope_scale_factor == 1


def test_params_of_fine_tunes(original: Callable[[str], Path], caplog: pytest.LogCaptureFixture) -> None:
    folder = original("tied_scaled")

    def fine_tuned(fields: dict[str, Any]) -> None:
        fields["data"]["tokenizer_path"] = "/somewhere/else/tokenizer.model"
        fields["model"] |= {"norm_eps": "1e-05", "some_new_key": 3, "use_scaled_rope": False}
        fields["data"]["vision_input_type"] = "vanilla"

    edit_json(folder / "params.json", fine_tuned)
    with caplog.at_level(logging.WARNING):
        bundle = load_plm(folder)
    assert "the factor decides" in caplog.text
    assert bundle.model.config.decoder.norm_eps == 1e-5
    assert bundle.preprocessing.vision_input_type == "vanilla"


def without(*keys: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        state = torch.load(folder / "consolidated.pth", weights_only=True)
        torch.save({key: value for key, value in state.items() if key not in keys}, folder / "consolidated.pth")

    return change


def with_weight(key: str, value: torch.Tensor) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        state = torch.load(folder / "consolidated.pth", weights_only=True)
        torch.save({**state, key: value}, folder / "consolidated.pth")

    return change


def with_params(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "params.json", change)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda f: (f / "params.json").unlink(), WeightsNotFoundError, "no PerceptionLM in this folder"),
        (lambda f: (f / "consolidated.pth").unlink(), WeightsNotFoundError, "consolidated"),
        (lambda f: (f / "tokenizer.model").unlink(), TextError, "no tokenizer"),
        (lambda f: (f / "params.json").write_text("[1"), WeightsError, "not valid JSON"),
        (lambda f: (f / "params.json").write_text("{}"), WeightsError, "section 'model'"),
        (with_params(lambda p: p["model"].pop("vision_model")), WeightsError, "section 'vision_model'"),
        (with_params(lambda p: p["model"].update(dim="wide")), WeightsError, "dim must be a positive integer"),
        (with_params(lambda p: p["model"].pop("dim")), WeightsError, "dim"),
        (with_params(lambda p: p["model"].update(n_layers=3)), WeightsError, r"lack 9 of .*layers\.2\."),
        (with_params(lambda p: p["model"].update(multiple_of=96)), WeightsError, "has shape"),
        (without("norm.weight"), WeightsError, "lack 1 of .*norm.weight"),
        (with_weight("extra.weight", torch.zeros(2)), WeightsError, "extra.weight"),
        (with_weight("norm.weight", torch.zeros(2)), WeightsError, "has shape"),
        (with_weight("norm.weight", torch.zeros(64, dtype=torch.int8)), WeightsError, "int8"),
        (lambda f: (f / "consolidated.pth").write_bytes(b"PK\x03\x04zz"), WeightsError, "consolidated.pth"),
        (lambda f: (f / "tokenizer.model").write_bytes(b"YQ== 0\n"), TextError, "lacks the byte"),
    ],
)
def test_damage_is_named(
    original: Callable[[str], Path], damage: Callable[[Path], object], error: type[PercepticError], message: str
) -> None:
    folder = original("tied_scaled")
    damage(folder)
    with pytest.raises(error, match=message):
        load_plm(folder)


def test_huggingface_damage(goldens: Path, tmp_path: Path) -> None:
    def broken(change: Callable[[dict[str, Any]], object]) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(goldens / "interop" / "hf_tied_scaled", folder)
        edit_json(folder / "config.json", change)
        return folder

    for change, message in (
        (lambda c: c.pop("text_config"), "section 'text_config'"),
        (lambda c: c["text_config"].pop("hidden_size"), "hidden_size"),
        (lambda c: c["vision_config"].update(architecture="resnet50", model_args={}), "resnet50"),
        (lambda c: c["text_config"]["rope_parameters"].update(rope_type="yarn"), "yarn"),
        (lambda c: c.update(vision_use_cls_token=False), "vision_use_cls_token"),
    ):
        with pytest.raises(WeightsError, match=message):
            PerceptionLM.from_pretrained(broken(change))
    folder = broken(lambda c: None)
    state = load_file(folder / "model.safetensors")
    save_file({key: value for key, value in state.items() if "embed_tokens" not in key}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"model\.language_model\.embed_tokens"):
        PerceptionLM.from_pretrained(folder)


def test_an_index_cannot_point_outside(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../secret.safetensors"}}')
    with pytest.raises(WeightsError, match="plain file name"):
        find_shards(tmp_path)


def test_saving_needs_a_fitting_tokenizer(original: Callable[[str], Path], tmp_path: Path) -> None:
    model = PerceptionLM.from_pretrained(original("tied_scaled"))
    tokenizer, model.tokenizer = model.tokenizer, None
    with pytest.raises(ConfigError, match="no tokenizer"):
        model.save_pretrained(tmp_path / "saved")
    other = PerceptionLM.from_config("PLM-Nano")
    with pytest.raises(ConfigError, match="do not belong together"):
        other.save_pretrained(tmp_path / "saved", tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="known: perceptic"):
        model.save_pretrained(tmp_path / "saved", form="gguf", tokenizer=tokenizer)  # type: ignore[arg-type]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("x")
    with pytest.raises(OutputError, match="thesis"):
        model.save_pretrained(tmp_path / "taken", tokenizer=tokenizer)


def test_unknown_sources(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match="Perception-LM-1B"):
        PerceptionLM.from_pretrained("Perception-LM-1")
    with pytest.raises(WeightsNotFoundError, match="no PerceptionLM"):
        PerceptionLM.from_pretrained(tmp_path)


def test_cards() -> None:
    for spelling in ("Perception-LM-8B", "plm-8b", "facebook/Perception-LM-8B", "perception_lm_8b"):
        card = find_plm_card(spelling)
        assert card is not None
        assert card.repo_id == "facebook/Perception-LM-8B"
        assert count_plm_parameters(card.config) == 9_794_260_736
    assert find_plm_card("PE-Core-L14-336") is None


def test_counting_parameters_agrees_with_the_network() -> None:
    for config in PLM_CONFIGS.values():
        with torch.device("meta"):
            model = PerceptionLM(config)
        assert count_plm_parameters(config) == sum(parameter.numel() for parameter in model.parameters())


def test_the_nano_without_weights_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plm_card, "NANO_FOLDER", tmp_path)
    for spelling in ("PLM-Nano", "plm_nano"):
        with pytest.raises(WeightsNotFoundError, match=r"--model Perception-LM-1B .*FAIR.* perceptic init PLM-Nano"):
            PerceptionLM.from_pretrained(spelling)

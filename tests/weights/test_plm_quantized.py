"""Quantised folders: the same codes however they were made, strict loading, damage named, memory of the codes alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from perceptic.configs_plm import plm_config
from perceptic.errors import ConfigError, OutputError, PercepticError, WeightsError
from perceptic.models.quantized import Quantization, QuantizedDecoder, quantize
from perceptic.weights.plm_convert import convert_plm, is_plm_source
from perceptic.weights.plm_folder import read_plm_folder
from perceptic.weights.plm_pretrained import PerceptionLM, load_plm
from perceptic.weights.plm_quantized import quantization_of
from perceptic.weights.shards import find_shards, write_shards

MIXED = {"layers.*": "int4", "*.w2": "int8", "layers.0.*": "none"}


@pytest.fixture
def original(goldens: Path, tmp_path: Path) -> Callable[[str], Path]:
    def build(name: str) -> Path:
        folder = tmp_path / "original" / name
        folder.mkdir(parents=True)
        for file in ("params.json", "consolidated.pth"):
            shutil.copy(goldens / "plm" / name / file, folder)
        shutil.copy(goldens / "plm" / "tokenizer" / "tokenizer.model", folder)
        return folder

    return build


def same(left: PerceptionLM, right: PerceptionLM) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours
    )


@pytest.mark.parametrize("weights", ["int8", "int4", MIXED])
@pytest.mark.parametrize("name", ["tied_scaled", "untied_unscaled"])
def test_round_trip(original: Callable[[str], Path], tmp_path: Path, name: str, weights: Any) -> None:
    source = original(name)
    model = PerceptionLM.from_pretrained(source, weights=weights)
    assert same(model, quantize(PerceptionLM.from_pretrained(source), weights))
    folder = model.save_pretrained(tmp_path / "saved")
    again = load_plm(folder).model
    assert same(model, again)
    assert quantization_of(again) == quantization_of(model) == read_plm_folder(folder).quantization
    assert not again.training
    ids = torch.arange(8)[None]
    assert torch.equal(again(ids), model(ids))
    again.save_pretrained(folder)
    assert same(model, PerceptionLM.from_pretrained(folder, weights=quantization_of(model)))


def test_the_same_codes_from_every_format(goldens: Path, original: Callable[[str], Path]) -> None:
    """Hugging Face stores the rows of queries and keys in another order: codes must not."""
    ours = PerceptionLM.from_pretrained(original("tied_scaled"), weights="int4")
    theirs = PerceptionLM.from_pretrained(goldens / "interop" / "hf_tied_scaled", weights="int4")
    assert same(ours, theirs)


def test_only_the_decoder_changes(original: Callable[[str], Path]) -> None:
    source = original("tied_scaled")
    plain, model = PerceptionLM.from_pretrained(source), PerceptionLM.from_pretrained(source, weights="int8")
    for key, value in plain.state_dict().items():
        if not key.startswith("decoder.") or "norm" in key:
            assert torch.equal(value, model.state_dict()[key])
    kept = [name for name, _ in model.decoder.named_parameters()]
    assert kept
    assert all("norm" in name for name in kept)


def test_types(original: Callable[[str], Path], tmp_path: Path) -> None:
    folder = PerceptionLM.from_pretrained(original("untied_unscaled"), weights="int4").save_pretrained(
        tmp_path / "saved"
    )
    model = PerceptionLM.from_pretrained(folder, dtype="float32")
    assert model.decoder.dtype == torch.float32
    assert {value.dtype for value in model.vision_model.state_dict().values()} == {torch.float32}
    assert model.decoder.tok_embeddings.codes.dtype == torch.int8
    assert {value.dtype for value in PerceptionLM.from_pretrained(folder).parameters()} == {torch.bfloat16}


def test_weights_in_several_files(original: Callable[[str], Path], tmp_path: Path) -> None:
    model = PerceptionLM.from_pretrained(original("tied_scaled"), weights="int4")
    folder = model.save_pretrained(tmp_path / "saved")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    write_shards(folder, state, max_shard_bytes=100_000)
    assert len(find_shards(folder)) > 3
    assert same(model, PerceptionLM.from_pretrained(folder))
    whole = PerceptionLM.from_pretrained(original("untied_unscaled")).save_pretrained(tmp_path / "whole")
    state = load_file(whole / "model.safetensors")
    (whole / "model.safetensors").unlink()
    write_shards(whole, state, max_shard_bytes=100_000)
    read = PerceptionLM.from_pretrained(whole, weights="int8")
    assert same(read, quantize(PerceptionLM.from_pretrained(whole), "int8"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    fields = json.loads((folder / "config.json").read_text())
    change(fields)
    (folder / "config.json").write_text(json.dumps(fields))


def edit_state(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


WQ = "decoder.layers.0.attention.wq"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edit(f, lambda c: c.pop("quantization")), "codes' has type uint8; expected one of"),
        (lambda f: edit(f, lambda c: c.update(quantization=3)), "must be an object"),
        (lambda f: edit(f, lambda c: c["quantization"].update(format_version=2)), "format_version 2"),
        (lambda f: edit(f, lambda c: c["quantization"].pop("kinds")), "kinds"),
        (lambda f: edit(f, lambda c: c["quantization"].update(kinds={"*": "int3"})), "kinds must map"),
        (lambda f: edit(f, lambda c: c["quantization"].update(kind={})), "did you mean 'kinds'"),
        (lambda f: edit(f, lambda c: c["quantization"].update(kinds={"*": "int8"})), "has shape|has type"),
        (lambda f: edit(f, lambda c: c["quantization"].update(kinds={"*.w2": "int4"})), r"lack \d+ of \d+ weights"),
        (lambda f: edit(f, lambda c: c["quantization"].update(kinds={"wq": "int4"})), "no matrix .* named 'wq'"),
        (lambda f: edit_state(f, lambda s: s.pop(f"{WQ}.codes")), f"lack 1 of .*{WQ}.codes"),
        (lambda f: edit_state(f, lambda s: s.pop(f"{WQ}.scales")), f"lack 1 of .*{WQ}.scales"),
        (lambda f: edit_state(f, lambda s: s.update({f"{WQ}.weight": torch.ones(2)})), f"have 1 .*{WQ}.weight"),
        (lambda f: edit_state(f, lambda s: s.update({f"{WQ}.zeros": torch.ones(2)})), f"{WQ}.zeros"),
        (lambda f: edit_state(f, lambda s: s.update({f"{WQ}.scales": torch.ones(2)})), "has shape"),
        (
            lambda f: edit_state(f, lambda s: s.update({f"{WQ}.scales": s[f"{WQ}.scales"].float()})),
            "has type float32, but its format says bfloat16",
        ),
        (
            lambda f: edit_state(f, lambda s: s.update({f"{WQ}.codes": s[f"{WQ}.codes"].view(torch.int8)})),
            "has type int8, but its format says uint8",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{"), "cut short"),
    ],
)
def test_damage_is_named(
    original: Callable[[str], Path], tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = PerceptionLM.from_pretrained(original("tied_scaled"), weights="int4").save_pretrained(tmp_path / "saved")
    damage(folder)
    with pytest.raises((WeightsError, ConfigError), match=message) as caught:
        PerceptionLM.from_pretrained(folder)
    assert isinstance(caught.value, PercepticError)
    assert isinstance(caught.value, WeightsError) or "quantization" in message or "named" in message


def test_cut_at_any_byte(original: Callable[[str], Path], tmp_path: Path) -> None:
    folder = PerceptionLM.from_pretrained(original("tied_scaled"), weights="int8").save_pretrained(tmp_path / "saved")
    whole = (folder / "model.safetensors").read_bytes()
    for size in range(0, len(whole), len(whole) // 40):
        (folder / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(WeightsError):
            PerceptionLM.from_pretrained(folder)


def test_what_cannot_be(original: Callable[[str], Path], tmp_path: Path) -> None:
    source = original("tied_scaled")
    model = PerceptionLM.from_pretrained(source, weights="int8")
    folder = model.save_pretrained(tmp_path / "saved")
    with pytest.raises(ConfigError, match="stored in int8 already and cannot become int4"):
        PerceptionLM.from_pretrained(folder, weights="int4")
    with pytest.raises(ConfigError, match="weights must be int8 or int4"):
        PerceptionLM.from_pretrained(source, weights="fp8")
    for form in ("huggingface", "original"):
        with pytest.raises(ConfigError, match="does not know decoders of 8 and 4 bits"):
            model.save_pretrained(tmp_path / "other", form=form)  # type: ignore[arg-type]
    assert not (tmp_path / "other").exists()
    state = torch.load(source / "consolidated.pth", weights_only=True)
    state["layers.1.attention.wv.weight"][0, 0] = float("nan")
    torch.save(state, source / "consolidated.pth")
    with pytest.raises(WeightsError, match=r"layers\.1\.attention\.wv\.weight.*not numbers"):
        PerceptionLM.from_pretrained(source, weights="int4")
    assert PerceptionLM.from_pretrained(source) is not None


def test_convert(goldens: Path, original: Callable[[str], Path], tmp_path: Path) -> None:
    source = original("tied_scaled")
    assert is_plm_source(source)
    assert is_plm_source(goldens / "interop" / "hf_tied_scaled")
    assert is_plm_source("plm-1b")
    assert not is_plm_source("PE-Core-B16-224")
    assert not is_plm_source(tmp_path)
    done = convert_plm(source, tmp_path / "small", weights="int4")
    assert (done.source_format, done.target_format, done.weights) == ("original", "perceptic", "int4")
    assert done.num_bytes < (source / "consolidated.pth").stat().st_size
    assert isinstance(PerceptionLM.from_pretrained(tmp_path / "small").decoder, QuantizedDecoder)
    with pytest.raises(OutputError, match="exists"):
        convert_plm(source, tmp_path / "small", weights="int8")
    assert convert_plm(source, tmp_path / "small", weights="int8", force=True).weights == "int8"
    with pytest.raises(ConfigError, match="huggingface format"):
        convert_plm(source, tmp_path / "x", "huggingface", weights="int8")
    assert convert_plm(source, tmp_path / "hf", "huggingface", dtype="float32").weights == "float32"
    assert read_plm_folder(tmp_path / "hf").form == "huggingface"


def test_settings_are_compared_whole() -> None:
    assert Quantization({"*": "int8"}) == Quantization.from_dict({"kinds": {"*": "int8"}})


# Peak resident memory of quantising while loading, over the bytes of the result. The file is four times the result:
# were it held whole, or the floats beside the codes, the figure would be above 4.
PROGRAM = """
import sys
from pathlib import Path
import torch
from perceptic.weights.plm_pretrained import PerceptionLM

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

source, tiny = sys.argv[1:]
PerceptionLM.from_pretrained(tiny, weights="int8", dtype="bfloat16")
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS:")
model = PerceptionLM.from_pretrained(source, weights="int8")
result = sum(value.nbytes for value in model.state_dict().values())
print((status("VmHWM:") - before) / result, Path(source, "model.safetensors").stat().st_size / result)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the memory of a process from /proc")
@pytest.mark.slow
def test_floats_are_never_all_in_memory(original: Callable[[str], Path], tmp_path: Path) -> None:
    tiny = original("tied_scaled")
    tokenizer = PerceptionLM.from_pretrained(tiny).tokenizer
    config = plm_config("PLM-Nano")
    vision = config.vision.replace(layers=1)
    decoder = config.decoder.replace(dim=1024, n_heads=16, n_kv_heads=4, n_layers=8)
    model = PerceptionLM.from_config(config.replace(decoder=decoder, vision=vision))
    assert tokenizer is not None
    model.config = model.config.replace(image_token_id=tokenizer.image_id)
    model.save_pretrained(tmp_path / "large", tokenizer=tokenizer)
    del model
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "large"), str(tiny)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, source = map(float, done.stdout.split())
    assert source > 3.5
    assert 0.9 < peak < 2.5

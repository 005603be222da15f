"""`perceptic convert` and `perceptic models` through the program's own entry point."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from perceptic.cli.main import run
from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.weights.pretrained import CLIP, VisionTransformer

CONFIG = ClipConfig(
    VisionConfig(patch_size=4, width=16, layers=1, heads=2, output_dim=8, image_size=8, attn_pooler_heads=2),
    TextConfig(context_length=6, width=16, heads=2, layers=1, output_dim=8, vocab_size=30),
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return CLIP(CONFIG).save_pretrained(tmp_path / "model")


def test_there_and_back(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", str(model), str(tmp_path / "w.pt"), "--to", "original"]) == 0
    assert "read back and compared: identical" in capsys.readouterr().out
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    arguments = ["convert", str(tmp_path / "w.pt"), str(tmp_path / "oc"), "--to", "open_clip", "--dtype", "bfloat16"]
    assert run([*arguments, "--config", str(tmp_path / "config.json"), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["source_format"] == "original"
    assert done["target_format"] == "open_clip"
    assert done["dtype"] == "bfloat16"
    assert done["destination"] == str(tmp_path / "oc")
    loaded = CLIP.from_pretrained(tmp_path / "oc")
    assert torch.equal(loaded.logit_scale, CLIP.from_pretrained(model).logit_scale.bfloat16())


def test_wrong_usage_exits_2(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert run(["convert", str(model), out]) == 2
    assert run(["convert", str(model), out, "--to", "onnx"]) == 2
    assert run(["convert", str(model), str(model), "--to", "timm"]) == 2
    assert "exists; choose another name, or replace it with --force" in capsys.readouterr().err
    both = ["--name", "PE-Core-B16-224", "--config", str(model / "config.json")]
    assert run(["convert", str(model), out, "--to", "timm", *both]) == 2
    assert not Path(out).exists()


def test_failures_exit_1_with_one_message(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.pt").write_bytes(b"\xff\xd8\xff\xe0 not weights")
    out = str(tmp_path / "out")
    assert run(["convert", str(tmp_path / "bad.pt"), out, "--to", "timm"]) == 1
    assert "bad.pt: is not a checkpoint (a JPEG image)" in capsys.readouterr().err
    assert run(["convert", "PE-Core-B14", out, "--to", "timm"]) == 1
    assert "did you mean 'PE-Core-B16-224'" in capsys.readouterr().err
    assert run(["convert", str(model), out, "--to", "timm", "--name", "PE-Core-T16-384"]) == 1
    assert "another architecture" in capsys.readouterr().err
    assert not Path(out).exists()


def test_name_gives_the_architecture(tmp_path: Path) -> None:
    torch.save(VisionTransformer.from_config("PE-Spatial-T16-512").state_dict(), tmp_path / "w.pt")
    arguments = ["convert", str(tmp_path / "w.pt"), str(tmp_path / "out"), "--to", "timm"]
    assert run([*arguments, "--name", "pe-spatial-t16-512"]) == 0
    assert (
        json.loads((tmp_path / "out" / "config.json").read_text())["architecture"] == "vit_pe_spatial_tiny_patch16_512"
    )


def test_force_replaces(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run(["convert", str(model), str(tmp_path / "out"), "--to", "timm", "--force"]) == 0
    assert (tmp_path / "out" / "config.json").exists()


def test_models_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    out = capsys.readouterr().out
    assert "PE-Core-G14-448" in out
    assert "2,419.3 M" in out
    assert "Apache-2.0" in out
    assert "Perception-LM-8B" in out
    assert "FAIR" in out


def test_models_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in rows] == ["encoder"] * 15 + ["language model"] * 4
    by_name = {row["name"]: row for row in rows}
    assert by_name["PE-Spatial-T16-512"]["parameters"] == 5_683_200
    assert by_name["PE-Core-Nano"]["state"] in ("bundled", "missing")
    assert by_name["Perception-LM-3B"]["parameters"] == 3_516_753_920
    assert "Noncommercial" in by_name["Perception-LM-3B"]["licence"]
    assert by_name["PLM-Nano"]["state"] in ("bundled", "missing")
    assert by_name["PE-Core-B16-224"]["where"] == "facebook/PE-Core-B16-224"


def test_models_json_shows_the_cache(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("perceptic.weights.hub.is_cached", lambda file: file.repo_id == "timm/PE-Core-B-16")
    assert run(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["PE-Core-B16-224"]["state"], rows["PE-Core-B16-224"]["cached"]) == ("cached", ["open_clip"])
    assert rows["PE-Core-L14-336"]["state"] == "download"

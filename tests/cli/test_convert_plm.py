"""`perceptic convert` for language models, and into 8 and 4 bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from perceptic.cli.main import run
from perceptic.weights.plm_folder import read_plm_folder
from perceptic.weights.plm_pretrained import PerceptionLM
from perceptic.weights.plm_quantized import quantization_of


@pytest.fixture
def model(goldens: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(goldens / "interop" / "hf_tied_scaled", folder)
    return folder


def test_fewer_bits(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "small"
    assert run(["convert", str(model), str(small), "--weights", "int4"]) == 0
    out = capsys.readouterr().out
    assert "decoder in int4" in out
    assert "read back and compared: identical" in out
    quantization = quantization_of(PerceptionLM.from_pretrained(small))
    assert quantization is not None
    assert quantization.name == "int4"
    assert run(["convert", str(small), str(tmp_path / "hf"), "--to", "huggingface"]) == 1
    assert "does not know decoders of 8 and 4 bits" in capsys.readouterr().err
    assert run(["convert", str(small), str(tmp_path / "other"), "--weights", "int8"]) == 1
    assert "stored in int4 already" in capsys.readouterr().err


def test_other_formats(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", str(model), str(tmp_path / "o"), "--to", "original", "--dtype", "float32", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["source_format"], done["target_format"], done["weights"]) == ("huggingface", "original", "float32")
    assert read_plm_folder(tmp_path / "o").form == "original"


def test_wrong_usage_exits_2(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert run(["convert", str(model), out, "--to", "timm"]) == 2
    assert "a PerceptionLM cannot be written as timm" in capsys.readouterr().err
    assert run(["convert", str(model), out, "--to", "perceptic", "--name", "PE-Core-B16-224"]) == 2
    assert "leave out --name" in capsys.readouterr().err
    assert run(["convert", str(model), out, "--weights", "int2"]) == 2
    assert run(["convert", str(model), out]) == 2
    assert "--to" in capsys.readouterr().err
    assert not Path(out).exists()

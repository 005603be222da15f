"""`perceptic init`: folders with random weights that load again, say so, and are made the same way every time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import perceptic
from perceptic.cli.main import run
from perceptic.configs import TEXT_CONFIGS
from perceptic.tasks import fresh_model
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.rank_bpe_training import train_rank_bpe
from perceptic.weights.plm_sources import NANO_TOKENIZER

Captured = pytest.CaptureFixture[str]


def test_the_folder_loads_and_says_what_it_is(plm: Path) -> None:
    model = perceptic.PerceptionLM.from_pretrained(plm)
    assert model.tokenizer is not None
    assert model.tokenizer.vocabulary == LlamaTokenizer.from_file(NANO_TOKENIZER).vocabulary
    assert "**Random weights.** Written by `perceptic init PLM-Nano` with seed 0" in (plm / "README.md").read_text()


def test_it_says_loudly_that_the_weights_are_random(tmp_path: Path, capsys: Captured) -> None:
    assert run(["init", "plm-nano", str(tmp_path / "x"), "--dtype", "bfloat16"]) == 0
    captured = capsys.readouterr()
    assert "PLM-Nano, 7,048,192 parameters in bfloat16, 14.1 MB" in captured.out
    assert "The weights are RANDOM" in captured.err
    assert perceptic.PerceptionLM.from_pretrained(tmp_path / "x").decoder.norm.weight.dtype == torch.bfloat16


def test_json(tmp_path: Path, capsys: Captured) -> None:
    assert run(["init", "PE-Core-Nano", str(tmp_path / "x"), "--seed", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["seed"], found["weights"]) == ("PE-Core-Nano", 3, "random")


def test_the_seed_decides_and_nothing_else_is_disturbed(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fresh_model.write_fresh_model("PE-Core-Nano", tmp_path / name, seed=seed)
        files.append((tmp_path / name / "model.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]
    assert torch.equal(torch.rand(3), expected)


def test_an_encoder_with_its_vocabulary_works_at_once(tmp_path: Path, shapes: Path, capsys: Captured) -> None:
    assert run(["init", "PE-Core-Nano", str(tmp_path / "x")]) == 0
    assert run(["classify", str(shapes / "red-circle.png"), "--labels", "a,b", "--model", str(tmp_path / "x")]) == 0


def test_a_tower_without_text(tmp_path: Path) -> None:
    fresh_model.write_fresh_model("facebook/PE-Spatial-T16-512", tmp_path / "x", dtype="bfloat16")
    model = perceptic.VisionTransformer.from_pretrained(tmp_path / "x")
    assert model.config.image_size == model.preprocessing.image_size == 512  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-model"], "no model is named 'no-such-model'"),
        (["PLM-Nono"], "PLM-Nano"),
        (["Perception-LM-1B"], "Perception-LM-1B needs a tokenizer file"),
        (["plm-8b", "--tokenizer", str(NANO_TOKENIZER)], "the tokenizer has 2048 ids"),
        (["PE-Lang-L14-448", "--tokenizer", str(NANO_TOKENIZER)], "has no text tower and takes no tokenizer"),
        (["PE-Core-T16-384", "--tokenizer", str(NANO_TOKENIZER)], "tokenizer.model"),
    ],
)
def test_what_cannot_be_made(arguments: list[str], message: str, tmp_path: Path, capsys: Captured) -> None:
    assert run(["init", *arguments[:1], str(tmp_path / "x"), *arguments[1:]]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_clip_vocabulary_of_another_size(tmp_path: Path, capsys: Captured) -> None:
    own = Path(perceptic.__file__).parent / "assets" / "pe-core-nano" / "tokenizer.json"
    assert run(["init", "PE-Core-T16-384", str(tmp_path / "x"), "--tokenizer", str(own)]) == 1
    assert f"PE-Core-T16-384 {TEXT_CONFIGS['PE-Core-T16-384'].vocab_size}" in capsys.readouterr().err


def test_another_vocabulary_of_the_same_size(tmp_path: Path) -> None:
    texts = [f"{chr(97 + a)}{chr(97 + b)}{chr(97 + c)}" for a in range(26) for b in range(26) for c in range(4)]
    tokenizer = train_rank_bpe(texts, 2048)
    tokenizer.save_rank_file(tmp_path / "own.model")
    assert run(["init", "PLM-Nano", str(tmp_path / "x"), "--tokenizer", str(tmp_path / "own.model")]) == 0
    assert LlamaTokenizer.find(tmp_path / "x").vocabulary == tokenizer.vocabulary


def test_an_existing_folder_is_only_replaced_on_request(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["init", "PE-Core-Nano", str(tmp_path / "empty")]) == 0
    assert run(["init", "PE-Core-Nano", str(tmp_path / "empty")]) == 2
    assert "replace it with --force" in capsys.readouterr().err
    assert run(["init", "PE-Core-Nano", str(tmp_path / "empty"), "--force", "--seed", "1"]) == 0
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    assert run(["init", "PE-Core-Nano", str(tmp_path / "photos"), "--force"]) == 1
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_too_little_memory(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_model, "available_bytes", lambda device: 10_000_000)
    assert run(["init", "PLM-Nano", str(tmp_path / "x")]) == 1
    assert "takes 0.0 GB of memory while its weights are drawn" in capsys.readouterr().err

"""What fewer bits cost on the goldens: the table of docs/quantization.md holds."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from perceptic.inference.agreement import Agreement, agreement, combined
from perceptic.weights.plm_pretrained import PerceptionLM

NAMES = ["tied_scaled", "untied_unscaled", "untied_scaled_oddgrid", "tied_unscaled_pool1"]
# Random models of width 64: the floor of what to expect. Of all positions: the same best token, and mean KL in nats.
LIMITS = {"bfloat16": (0.96, 1e-3), "int8": (0.94, 2.5e-3), "int4": (0.45, 0.4)}


def test_by_hand() -> None:
    reference = torch.tensor([[[0.0, math.log(3.0)], [5.0, 0.0]]])
    logits = torch.tensor([[[math.log(3.0), 0.0], [5.0, 0.0]]])
    found = agreement(reference, logits)
    # One of two agrees; the other is 3/4 log 3 - 1/4 log 3 apart.
    assert found.positions == 2
    assert found.top1 == 0.5
    assert found.mean_kl == pytest.approx(0.25 * math.log(3.0))
    assert agreement(reference, reference + 7) == Agreement(2, 1.0, pytest.approx(0.0, abs=1e-6))
    both = combined([found, Agreement(6, 1.0, 0.0)])
    assert both == Agreement(8, 7 / 8, pytest.approx(0.25 * 2 * math.log(3.0) / 8))


@pytest.mark.parametrize("variant", list(LIMITS))
@torch.inference_mode()
def test_goldens(goldens: Path, tmp_path: Path, variant: str) -> None:
    found = []
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir()
        for file in ("params.json", "consolidated.pth"):
            shutil.copy(goldens / "plm" / name / file, folder)
        given = load_file(goldens / "plm" / name / "inputs.safetensors")
        wanted = load_file(goldens / "plm" / name / "expected.safetensors")
        weights = None if variant == "bfloat16" else variant
        dtype = "bfloat16" if variant == "bfloat16" else "float32"
        model = PerceptionLM.from_pretrained(folder, dtype=dtype, weights=weights)
        # Logits of the original itself, not of our float32.
        found.append(agreement(wanted["text_short.logits"], model(given["text_short.ids"])))
        long = model(given["text_long.ids"])[:, given["text_long.at"]]
        found.append(agreement(wanted["text_long.logits_at"], long))
        spread = model(given["text_spread.ids"], positions=given["text_spread.positions"])
        found.append(agreement(wanted["text_spread.logits"], spread))
    whole = combined(found)
    least, most = LIMITS[variant]
    assert whole.positions > 250
    assert whole.top1 >= least
    assert whole.mean_kl <= most

"""Loading needs the memory of the weights, not twice that (benchmarks/load_memory.py measures released sizes)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from perceptic.configs import ClipConfig, clip_config
from perceptic.weights.convert import convert
from perceptic.weights.pretrained import CLIP

LIMIT = 1.2
# Peak resident memory of a load, over the bytes of the loaded weights. All weights are touched: mapped pages count
# only then. The first load is of a tiny model, so that imported code does not count.
PROGRAM = """
import sys
from pathlib import Path
import torch, perceptic

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

kind, source, dtype, tiny = sys.argv[1:]
model_class = getattr(perceptic, kind)
perceptic.VisionTransformer.from_pretrained(tiny, dtype="bfloat16")
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS:")
model = model_class.from_pretrained(source, dtype=None if dtype == "stored" else dtype)
with torch.inference_mode():
    sum(parameter.sum() for parameter in model.parameters())
print((status("VmHWM:") - before) / sum(parameter.nbytes for parameter in model.parameters()))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model of 152 MB in every format."""
    folder = tmp_path_factory.mktemp("memory")
    base = clip_config("PE-Core-T16-384")
    torch.manual_seed(0)
    CLIP(ClipConfig(base.vision, base.text.replace(layers=2))).save_pretrained(folder / "perceptic")
    convert(folder / "perceptic", folder / "original.pt", "original")
    convert(folder / "perceptic", folder / "open_clip", "open_clip")
    CLIP(ClipConfig(base.vision.replace(layers=1), base.text.replace(layers=1, vocab_size=9))).visual.save_pretrained(
        folder / "tiny"
    )
    return folder


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the memory of a process from /proc")
@pytest.mark.parametrize(
    ("source", "dtype"),
    [
        ("original.pt", "stored"),
        ("open_clip", "bfloat16"),
        pytest.param("original.pt", "bfloat16", marks=pytest.mark.slow),
        pytest.param("perceptic", "stored", marks=pytest.mark.slow),
    ],
)
def test_peak_memory(folder: Path, source: str, dtype: str) -> None:
    command = [sys.executable, "-c", PROGRAM, "CLIP", str(folder / source), dtype, str(folder / "tiny")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # Below 0.9 the measurement itself would be broken: the weights must be somewhere.
    assert 0.9 < float(done.stdout) <= LIMIT

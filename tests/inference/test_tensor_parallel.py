"""Two processes answer as one does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

# One process of `torchrun`: its logits and answers against the whole model's. Prints the largest difference.
PROGRAM = """
import json, sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from safetensors.torch import load_file
from perceptic.inference.generation import generate
from perceptic.inference.prompts import make_prompt
from perceptic.inference.sampling import GenerationOptions
from perceptic.inference.tensor_parallel import shard_decoder
from perceptic.weights.plm_pretrained import PerceptionLM

torch.set_num_threads(1)
dist.init_process_group("gloo")
model = PerceptionLM.from_pretrained(sys.argv[1], dtype="float32")
cases = json.loads(open(sys.argv[2] + "/generation.json").read())["cases"][:4]
images = load_file(sys.argv[2] + "/inputs.safetensors")["gen.images"]
prompts = [make_prompt(model, case["prompt_ids"], images[: case["num_tiles"]]) for case in cases]
ids = torch.arange(2, 60)[None]
options = GenerationOptions(max_new_tokens=12, temperature=0.8, seed=5)
with torch.inference_mode():
    wanted = model(ids)
answers = generate(model, model.tokenizer, prompts, options)
weights = sum(value.numel() for value in model.decoder.layers.parameters())
shard_decoder(model, init_device_mesh("cpu", (dist.get_world_size(),)))
with torch.inference_mode():
    found = model(ids)
again = generate(model, model.tokenizer, prompts, options)
local = sum(getattr(value, "_local_tensor", value).numel() for value in model.decoder.layers.parameters())
print(json.dumps({
    "difference": float((found - wanted).abs().max()),
    "same": [a.token_ids for a in again] == [a.token_ids for a in answers],
    "share": local / weights,
    "answers": len(answers),
}), flush=True)
dist.destroy_process_group()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def model_folder(goldens: Path, folder: Path, name: str) -> Path:
    folder.mkdir()
    for file in ("params.json", "consolidated.pth"):
        shutil.copy(goldens / "plm" / name / file, folder)
    shutil.copy(goldens / "plm" / "tokenizer" / "tokenizer.model", folder)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="processes meet over Gloo on Linux")
def test_two_processes_answer_as_one(goldens: Path, tmp_path: Path) -> None:
    name = "tied_scaled"
    model = model_folder(goldens, tmp_path / "model", name)
    command = [sys.executable, "-c", PROGRAM, str(model), str(goldens / "plm" / name)]
    settings = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings, "RANK": str(rank)})
        for rank in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0
        result = json.loads(output.splitlines()[-1])
        assert result["answers"] == 4
        assert result["difference"] < 1e-5
        assert result["same"]
        assert result["share"] < 0.52

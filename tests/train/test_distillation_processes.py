"""Distillation over the batch of two processes: the loss and the gradients of one process with both halves."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from perceptic.train.distillation import Features, mean_kl

WORKER = """
import json, os, sys
import torch, torch.distributed as dist
from perceptic.train.distillation import Features, mean_kl
values = torch.load(sys.argv[1], weights_only=True)
dist.init_process_group("gloo")
rank, count = dist.get_rank(), dist.get_world_size()
student = [x.chunk(count)[rank].clone().requires_grad_() for x in values["student"]]
teacher = [x.chunk(count)[rank] for x in values["teacher"]]
scale = values["scale"].clone().requires_grad_()
found = mean_kl(Features(*student), Features(*teacher), scale, 9.0, max_scores=int(sys.argv[2]))
found.loss.backward()
out = {"loss": found.loss.item(), "accuracy": found.accuracy.item(), "agreement": found.agreement.item(),
       "scale": scale.grad.item(), "media": student[0].grad.tolist(), "text": student[1].grad.tolist()}
open(f"{sys.argv[1]}.{rank}.json", "w").write(json.dumps(out))
dist.destroy_process_group()
"""


def random_unit(count):
    return F.normalize(torch.randn(count, 4, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("max_scores", [pytest.param(1000, marks=pytest.mark.slow), 8])
def test_two_processes_are_one(tmp_path, max_scores):
    torch.manual_seed(0)
    student, teacher = [random_unit(6), random_unit(6)], [random_unit(6), random_unit(6)]
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    path = tmp_path / "values.pt"
    torch.save({"student": student, "teacher": teacher, "scale": scale.detach()}, path)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    processes = []
    for rank in range(2):
        place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-c", WORKER, str(path), str(max_scores)]
        processes.append(subprocess.Popen(command, env={**os.environ, **place}))
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    found = [json.loads((tmp_path / f"values.pt.{rank}.json").read_text()) for rank in range(2)]

    whole = [x.clone().requires_grad_() for x in student]
    expected = mean_kl(Features(*whole), Features(*teacher), scale, 9.0)
    expected.loss.backward()
    for name in ("loss", "accuracy", "agreement"):
        assert sum(part[name] for part in found) / 2 == pytest.approx(getattr(expected, name).item(), rel=1e-6)
    assert sum(part["scale"] for part in found) / 2 == pytest.approx(scale.grad.item(), rel=1e-10)
    for name, one in zip(("media", "text"), whole, strict=True):
        # Gradients are those of the sum over processes; the trainer takes the mean.
        parts = torch.tensor([row for part in found for row in part[name]], dtype=torch.float64) / 2
        torch.testing.assert_close(parts, one.grad, rtol=1e-9, atol=1e-14)

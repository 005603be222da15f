"""The benchmark of asking runs, on a small model, and both of its sides answer alike (it says so or fails)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "plm.py"


@pytest.mark.slow
def test_quick() -> None:
    pytest.importorskip("transformers")
    command = [sys.executable, str(BENCHMARK), "--quick", "--threads", "1"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    report = json.loads(done.stdout.splitlines()[-1])
    assert [row["num_tokens"] for row in report["prefill"]] == [40, 56, 168]
    assert report["batch"]["answer_tokens"] > 16
    assert {row["side"] for row in report["memory"]} == {"perceptic", "transformers"}
    assert report["second"]["share"] > 0

"""How well the memory that a PerceptionLM takes is known beforehand, and what it is in 16, 8 and 4 bits.

What bounds it. The weights must lie somewhere, once: files are mapped and their pages become the parameters, or
matrices become codes while only a part of the file is mapped. On top come keys and values of every token and, for a
moment, the widest activations. `estimate_memory` says all of it from the headers; here it is held against the peak of
resident memory (VmHWM) of a fresh process that loads, looks at the chunks, reads the prompt and answers, less what was
resident after running a tiny model, so that code does not count. Linux only. Random weights of a released size.

    python benchmarks/plm_memory.py                        # writes 3 GB of random weights to a temporary folder
    python benchmarks/plm_memory.py --folder my-plm        # or a model that is there
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from _plm_sides import make_question, make_tokenizer, quick_config, write_folder

from perceptic.configs_plm import PerceptionLMConfig, plm_config
from perceptic.inference.generation import stream
from perceptic.inference.plm_accelerate import accelerate_plm
from perceptic.inference.prompts import encode_media, make_prompt
from perceptic.inference.sampling import GenerationOptions
from perceptic.models.perception_lm import PerceptionLM
from perceptic.weights.plm_memory import Workload, estimate_memory
from perceptic.weights.plm_pretrained import load_plm

ANSWER_TOKENS = 16


@dataclasses.dataclass(frozen=True)
class Case:
    """A way to load a model, and how many chunks it is shown."""

    weights: str
    chunks: int
    accelerated: bool


CASES = (
    Case("stored", 1, False),
    Case("stored", 8, False),
    Case("stored", 8, True),
    Case("int8", 8, False),
    Case("int8", 8, True),
    Case("int4", 8, True),
    Case("stored", 32, True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a model folder; random weights of --model without it")
    parser.add_argument("--model", default="Perception-LM-1B", help="a name of PLM_CONFIGS")
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "CASE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(Path(arguments.child[0]), Case(**json.loads(arguments.child[1])))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "model"
        if arguments.folder is None:
            write_folder(plm_config(arguments.model), folder)
        rows = [run_child(folder, case) for case in CASES[: arguments.cases]]
    print(f"{'weights':8} {'chunks':>6} {'tokens':>6} {'kernels':>7} {'estimate':>9} {'measured':>9} {'ratio':>6}")
    for row in rows:
        kernels = "yes" if row["accelerated"] else "no"
        print(
            f"{row['weights']:8} {row['chunks']:6} {row['tokens']:6} {kernels:>7} {row['estimate_mb']:9,.0f} "
            f"{row['measured_mb']:9,.0f} {row['ratio']:6.2f}"
        )
    print(json.dumps({"cases": rows}))


def run_child(folder: Path, case: Case) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", str(folder), json.dumps(dataclasses.asdict(case))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(folder: Path, case: Case) -> dict[str, object]:
    answer(prepared(tiny(quick_config()), case), 1)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = read_status("VmRSS")
    weights = None if case.weights == "stored" else case.weights
    bundle = load_plm(folder, weights=weights)
    tokens = answer(prepared(bundle.model, case), case.chunks)
    peak = read_status("VmHWM") - before
    estimate = estimate_memory(folder, weights=weights, workload=Workload(tokens, case.chunks))
    return {
        **dataclasses.asdict(case),
        "tokens": tokens,
        "estimate_mb": round(estimate.needed_bytes / 1e6, 1),
        "measured_mb": round(peak / 1e6, 1),
        "ratio": round(estimate.needed_bytes / peak, 3),
    }


def tiny(config: PerceptionLMConfig) -> PerceptionLM:
    from perceptic.weights.plm_pretrained import PerceptionLM as Loaded

    model = Loaded.from_config(config).to(torch.bfloat16).eval()
    model.tokenizer = make_tokenizer(config.decoder.vocab_size)
    return model


def prepared(model: PerceptionLM, case: Case) -> PerceptionLM:
    return accelerate_plm(model, consume=True) if case.accelerated else model


def answer(model: PerceptionLM, chunks: int) -> int:
    """Look, read and answer. How many tokens prompt and answer have."""
    question = make_question(model.config, chunks)
    media = None if question.pixels is None else encode_media(model, question.pixels)
    prompt = make_prompt(model, question.token_ids, media)
    options = GenerationOptions(max_new_tokens=ANSWER_TOKENS)
    for _ in stream(model, model.tokenizer, prompt, options):  # type: ignore[arg-type]
        pass
    return len(prompt) + ANSWER_TOKENS


def read_status(field: str) -> int:
    """Bytes, from this process's status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


if __name__ == "__main__":
    main()

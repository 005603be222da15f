"""How much memory loading a checkpoint takes, as a multiple of its weights.

What bounds it. The weights must be somewhere: 1.0 is the least. The usual way costs 2.0 and more: the model is built
with random weights, then the file is read beside it and copied over. Here the model is built on the meta device (no
memory), the file is mapped, and its pages become the parameters; a page counts once it has been touched, so that all
weights are summed before measuring. A cast needs new memory for the result; the file is unmapped after every 32 MB,
so that source and result do not add up: the ratio then counts bytes of the type asked for. Above 1.0 remain the
parts that a format stores otherwise (timm splits the pool's projections: a few MB are copied).

Each case runs in a fresh process: peak resident memory (VmHWM, reset after the imports) minus what was resident
before loading, over the bytes of the loaded weights. Linux only. Random weights of a released size.

    python benchmarks/load_memory.py --model PE-Core-B16-224
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from perceptic import optional
from perceptic.weights.convert import convert
from perceptic.weights.pretrained import CLIP

FOLDERS = {"original": "original.pt", "timm": "timm", "open_clip": "open_clip", "perceptic": "perceptic"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="PE-Core-B16-224", help="a Core model of the zoo")
    parser.add_argument("--child", nargs=4, metavar=("LOADER", "CLASS", "SOURCE", "DTYPE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(*arguments.child)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        make_files(arguments.model, Path(scratch))
        results = [run_child(*case) for case in list_cases(Path(scratch))]
    for row in results:
        print(f"{row['loader']:10} {row['source']:22} {row['dtype']:9} {row['ratio']:.3f} x  {row['seconds']:.2f} s")
    worst = max(row["ratio"] for row in results if row["loader"] == "perceptic")
    print(json.dumps({"model": arguments.model, "worst_ratio": worst, "cases": results}))


def make_files(name: str, folder: Path) -> None:
    """Random weights of a released size in every format, written by `convert` itself."""
    torch.manual_seed(0)
    CLIP.from_config(name).save_pretrained(folder / "perceptic")
    for target in ("original", "timm", "open_clip"):
        convert(folder / "perceptic", folder / FOLDERS[target], target)
    # open_clip's other distribution: the same keys as a pickle.
    state = torch.load(folder / FOLDERS["original"], mmap=True, weights_only=True)
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, folder / "wrapped.bin")


def list_cases(folder: Path) -> list[tuple[str, str, str, str]]:
    cases = []
    for source in (*FOLDERS.values(), "wrapped.bin"):
        model_class = "VisionTransformer" if source == "timm" else "CLIP"
        cases += [("perceptic", model_class, str(folder / source), dtype) for dtype in ("stored", "bfloat16")]
    cases.append(("perceptic", "VisionTransformer", str(folder / "original.pt"), "bfloat16"))
    if optional.is_installed("timm"):
        cases.append(("timm", "-", str(folder / "timm"), "stored"))
    if optional.is_installed("open_clip"):
        cases.append(("open_clip", "-", str(folder / "open_clip"), "stored"))
    return cases


def run_child(loader: str, model_class: str, source: str, dtype: str) -> dict[str, object]:
    command = [sys.executable, __file__, "--child", loader, model_class, source, dtype]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    row: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(loader: str, model_class: str, source: str, dtype: str) -> dict[str, object]:
    load = prepare(loader, model_class, source, dtype)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before, start = read_status("VmRSS"), time.perf_counter()
    model = load()
    seconds = time.perf_counter() - start
    with torch.inference_mode():
        float(sum(parameter.sum() for parameter in model.parameters()))
    peak = read_status("VmHWM") - before
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return {
        "loader": loader,
        "source": f"{Path(source).name} {model_class[:6]}",
        "dtype": dtype,
        "weights_mb": round(weights / 1e6, 1),
        "peak_mb": round(peak / 1e6, 1),
        "ratio": round(peak / weights, 4),
        "seconds": round(seconds, 3),
    }


def prepare(loader: str, model_class: str, source: str, dtype: str):  # type: ignore[no-untyped-def]
    """Import everything that loading needs, so that code does not count as weights."""
    if loader == "timm":
        import timm

        timm.create_model("test_vit")  # its lazy imports
        return lambda: timm.create_model(f"local-dir:{source}", pretrained=True)
    if loader == "open_clip":
        import open_clip

        return lambda: open_clip.create_model(f"local-dir:{source}")
    import perceptic

    cls = getattr(perceptic, model_class)
    with tempfile.TemporaryDirectory() as scratch:
        tiny = perceptic.VisionTransformer(perceptic.VisionConfig(patch_size=4, width=8, layers=1, heads=2))
        perceptic.VisionTransformer.from_pretrained(tiny.save_pretrained(Path(scratch) / "tiny"))
    return lambda: cls.from_pretrained(source, dtype=None if dtype == "stored" else dtype)


def read_status(field: str) -> int:
    """Bytes, from this process's status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


if __name__ == "__main__":
    main()

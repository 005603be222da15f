"""Images per second and memory of the vision towers on a CPU, beside timm, and what share of the machine it is.

What bounds it. Nearly all arithmetic is four matrix products a block; the machine's rate for products of these very
shapes is measured in the same run, with weights as they lie (plain) and packed beforehand, and the last column is the
share of the better one that a whole forward pass reaches. In float32 products are slow enough that everything else is
a tenth of the time. In bfloat16, AMX makes products six times faster and the passes over memory between them (GELU,
LayerNorm, rotation, softmax, residual sums, copies) take half: they are what `accelerate()` removes. Batch 1 has
few rows for a product to work on; above batch 8 activations leave the caches, so that `accelerate()` works in parts.

Contenders take turns in one process on the same pixels; a ratio is the median over rounds of timm's time over theirs
in the same round. Warm-up is stated: building the C kernels (once per machine), packing (once per load), compiling.
Peak memory is what a fresh process needs above its imports (VmHWM; Linux), to build, prepare and run one batch.
Random weights: the speed does not depend on them.

    python benchmarks/encode.py            # about 8 minutes on 4 cores
    python benchmarks/encode.py --quick    # B16 at batch 1 and 8
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic.configs import VISION_CONFIGS, VisionConfig
from perceptic.inference.compiled import accelerate
from perceptic.inference.native import load_kernels
from perceptic.models.vision import VisionTransformer

MODELS = {
    "PE-Core-B16-224": "vit_pe_core_base_patch16_224",
    "PE-Core-L14-336": "vit_pe_core_large_patch14_336",
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BATCHES = (1, 8, 32)
MEMORY_BATCH = 8
COMPILED_BATCH = 8
TIMM, EAGER, FAST, TIMM_COMPILED = "timm eager", "perceptic eager", "perceptic accelerated", "timm compiled"
# A case runs rounds until its time is spent, within these limits.
CASE_SECONDS, MIN_ROUNDS, MAX_ROUNDS = 8.0, 2, 15


@dataclass(frozen=True)
class Row:
    """One contender in one case."""

    model: str
    dtype: str
    batch: int
    contender: str
    images_per_second: float
    times_timm: float
    gigaflops: float
    share_of_peak: float
    rounds: int


@dataclass(frozen=True)
class Peak:
    """GFLOP/s of the matrix products of one case alone."""

    model: str
    dtype: str
    batch: int
    plain: float
    packed: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="B16 at batch 1 and 8, without compiling timm")
    parser.add_argument("--models", nargs="*", choices=[*MODELS], help="the default is all")
    parser.add_argument("--dtypes", nargs="*", choices=[*DTYPES], default=[*DTYPES])
    parser.add_argument("--batches", nargs="*", type=int, help="the default is 1 8 32")
    parser.add_argument("--no-compile", action="store_true", help="leave out timm under torch.compile")
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory of fresh processes")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--child", nargs=3, metavar=("MODEL", "DTYPE", "CONTENDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.child:
        print(json.dumps(peak_memory(*arguments.child)))
        return
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    models = arguments.models or [*MODELS][: 1 if arguments.quick else None]
    batches = arguments.batches or (BATCHES[:2] if arguments.quick else BATCHES)
    compile_timm = not (arguments.quick or arguments.no_compile)
    print(f"{arguments.threads} threads, load {os.getloadavg()[0]:.1f} before the start, torch {torch.__version__}")
    warm_up = kernel_build_seconds()
    rows: list[Row] = []
    peaks: list[Peak] = []
    memory: list[dict[str, object]] = []
    for model in models:
        for dtype in arguments.dtypes:
            if not arguments.no_memory:
                memory += [child_memory(model, dtype, name, arguments.threads) for name in (TIMM, EAGER, FAST)]
            contenders, seconds = prepare(model, DTYPES[dtype], compile_timm)
            warm_up |= {f"{model} {dtype} {name}": value for name, value in seconds.items()}
            for batch in batches:
                peaks.append(measure_peak(model, dtype, batch))
                rows += measure(model, dtype, batch, contenders, peaks[-1])
                print_case(rows, peaks[-1])
            del contenders
    print_rest(warm_up, memory)
    report = {"threads": arguments.threads, "load_after": os.getloadavg()[0], "warm_up_seconds": warm_up}
    lists = {"rows": [*map(asdict, rows)], "peaks": [*map(asdict, peaks)], "memory": memory}
    print(json.dumps(report | {"worst": worst_ratios(rows)} | lists))


def prepare(model: str, dtype: torch.dtype, compile_timm: bool) -> tuple[dict[str, Callable[[Tensor], Tensor]], dict]:
    """The contenders and the seconds each took to get ready."""
    torch.manual_seed(0)
    seconds = {}
    ours, theirs = build(EAGER, model, dtype), build(TIMM, model, dtype)
    start = time.perf_counter()
    fast = accelerate(ours)
    seconds[FAST] = time.perf_counter() - start
    contenders: dict[str, Callable[[Tensor], Tensor]] = {TIMM: theirs, EAGER: ours, FAST: fast}
    check_same(ours, fast)
    if compile_timm:
        # Freezing packs the weights: the best that torch.compile offers here.
        torch._inductor.config.freezing = True
        compiled = torch.compile(theirs)
        start = time.perf_counter()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled(pixels_for(ours, COMPILED_BATCH))
        seconds[TIMM_COMPILED] = time.perf_counter() - start
        contenders[TIMM_COMPILED] = compiled
    return contenders, seconds


def build(contender: str, model: str, dtype: torch.dtype) -> torch.nn.Module:
    """A model with random weights, made in its type, so that memory counts nothing else."""
    torch.set_default_dtype(dtype)
    try:
        if contender == TIMM:
            return timm.create_model(MODELS[model]).eval()
        return VisionTransformer(VISION_CONFIGS[model]).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def pixels_for(tower: VisionTransformer, batch: int) -> Tensor:
    side = tower.image_size
    return torch.rand(batch, 3, side, side).mul(2).sub(1).to(tower.conv1.weight.dtype)


def check_same(eager: VisionTransformer, fast: VisionTransformer) -> None:
    """A wrong answer has no speed."""
    pixels = pixels_for(eager, 2)
    with torch.no_grad():
        expected, actual = eager(pixels).float(), fast(pixels).float()
    cosine = F.cosine_similarity(expected, actual).min().item()
    assert cosine > (0.999 if pixels.dtype == torch.bfloat16 else 0.999999), cosine


def measure(
    model: str, dtype: str, batch: int, contenders: dict[str, Callable[[Tensor], Tensor]], peak: Peak
) -> list[Row]:
    """Run the contenders in turns."""
    ours = contenders[EAGER]
    assert isinstance(ours, VisionTransformer)
    pixels = pixels_for(ours, batch)
    running = {name: call for name, call in contenders.items() if name != TIMM_COMPILED or batch == COMPILED_BATCH}
    times: dict[str, list[float]] = {name: [] for name in running}
    with torch.no_grad():
        if batch < max(BATCHES):  # the largest batch runs long enough to forget its first touch
            for call in running.values():
                call(pixels)
        start = time.perf_counter()
        for index in range(MAX_ROUNDS):
            if index >= MIN_ROUNDS and time.perf_counter() - start > CASE_SECONDS:
                break
            for name, call in running.items():
                before = time.perf_counter()
                call(pixels)
                times[name].append(time.perf_counter() - before)
    flops = batch * flops_per_image(ours.config)
    rows = []
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        ratio = statistics.median(theirs / mine for theirs, mine in zip(times[TIMM], seconds, strict=True))
        rate = flops / middle / 1e9
        share = rate / max(peak.plain, peak.packed)
        rows.append(Row(model, dtype, batch, name, batch / middle, ratio, rate, share, len(seconds)))
    return rows


def flops_per_image(config: VisionConfig) -> float:
    """Two per multiplication and addition: patches, blocks, and the pool as the model writes it."""
    tokens, width = config.grid_size**2 + config.num_prefix_tokens, config.width
    block = 8 * tokens * width**2 + 4 * tokens * width * config.mlp_width + 4 * tokens**2 * width
    patches = 2 * config.grid_size**2 * 3 * config.patch_size**2 * width
    pool = 4 * tokens * width**2 if config.pool_type == "attn" else 0
    return config.layers * block + patches + pool


def measure_peak(model: str, dtype: str, batch: int) -> Peak:
    """The four products of a block alone, each on several weights in turn as a pass through the blocks does."""
    config = VISION_CONFIGS[model]
    # As many rows as fit the caches: a larger batch multiplies in parts.
    rows = min(batch, 8) * (config.grid_size**2 + config.num_prefix_tokens)
    width, wide = config.width, config.mlp_width
    plain_seconds = packed_seconds = flops = 0.0
    for outputs, inputs in ((3 * width, width), (width, width), (wide, width), (width, wide)):
        x = torch.randn(rows, inputs).to(DTYPES[dtype])
        weights = [torch.randn(outputs, inputs).to(DTYPES[dtype]) for _ in range(4)]
        packed = [torch.ops.mkldnn._reorder_linear_weight(weight, rows) for weight in weights]
        plain_seconds += best_seconds(lambda w, x=x: F.linear(x, w), weights)
        packed_seconds += best_seconds(
            lambda w, x=x: torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], None), packed
        )
        flops += 2 * rows * outputs * inputs
    return Peak(model, dtype, batch, flops / plain_seconds / 1e9, flops / packed_seconds / 1e9)


@torch.no_grad()
def best_seconds(call: Callable[[Tensor], Tensor], weights: list[Tensor]) -> float:
    """Seconds of one product: the best of some passes over the weights."""
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        for weight in weights:
            call(weight)
        best = min(best, (time.perf_counter() - start) / len(weights))
    return best


def kernel_build_seconds() -> dict[str, float]:
    """Loading the kernels in a fresh process where they are not built yet, and where they are."""
    program = (
        "import sys, time, torch; from perceptic.inference.native import load_kernels; start = time.perf_counter(); "
        "load_kernels(torch.float32, sys.argv[1]); print(time.perf_counter() - start)"
    )
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("kernels, first time on a machine", "kernels, kept from before"):
            command = [sys.executable, "-c", program, folder]
            seconds[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    load_kernels(torch.float32)
    return seconds


def child_memory(model: str, dtype: str, contender: str, threads: int) -> dict[str, object]:
    command = [sys.executable, __file__, "--threads", str(threads), "--child", model, dtype, contender]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def peak_memory(model: str, dtype: str, contender: str) -> dict[str, object]:
    """In a fresh process: peak resident MiB above the imports, to build a model and run one batch."""
    before = resident_mib("VmRSS")
    tower = build(contender, model, DTYPES[dtype])
    pixels = torch.rand(MEMORY_BATCH, 3, *[VISION_CONFIGS[model].image_size] * 2).to(DTYPES[dtype])
    if contender == FAST:
        tower = accelerate(tower, consume=True)
    with torch.no_grad():
        tower(pixels)
    peak = resident_mib("VmHWM") - before
    return {"model": model, "dtype": dtype, "batch": MEMORY_BATCH, "contender": contender, "peak_mib": round(peak)}


def resident_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def worst_ratios(rows: list[Row]) -> dict[str, float]:
    """The least multiple of timm eager's rate, for each contender and type."""
    worst: dict[str, float] = {}
    for row in rows:
        key = f"{row.contender} {row.dtype}"
        worst[key] = min(worst.get(key, float("inf")), row.times_timm)
    return worst


def print_case(rows: list[Row], peak: Peak) -> None:
    print(
        f"\n{peak.model} {peak.dtype} batch {peak.batch}: products alone {peak.plain:.0f} GFLOP/s plain, "
        f"{peak.packed:.0f} packed"
    )
    for row in rows:
        if (row.model, row.dtype, row.batch) == (peak.model, peak.dtype, peak.batch):
            print(
                f"  {row.contender:22} {row.images_per_second:8.2f} images/s  {row.times_timm:5.2f} x timm  "
                f"{row.gigaflops:6.0f} GFLOP/s  {row.share_of_peak:4.0%} of peak  ({row.rounds} rounds)",
                flush=True,
            )


def print_rest(warm_up: dict[str, float], memory: list[dict[str, object]]) -> None:
    print("\nwarm-up seconds")
    for name, seconds in warm_up.items():
        print(f"  {name:50} {seconds:7.2f}")
    if memory:
        print(f"\npeak memory above the imports, batch {MEMORY_BATCH}")
        for row in memory:
            print(f"  {row['model']} {row['dtype']:9} {row['contender']:22} {row['peak_mib']:6} MiB")


if __name__ == "__main__":
    main()

"""How close `embed` comes to the speed of its slower half.

Physics: a 2-megapixel JPEG costs about 10 ms of entropy decoding and inverse DCT and, on Pillow's exact path, about as
much again for the antialiased resize of all its pixels; both grow with the pixels of the file, not with the model. The
model costs the same for every picture. Decoding threads and the model share the cores, so with decoding at D pictures
per second and the model at M, both measured alone on all cores, no schedule on the CPU can exceed 1 / (1/D + 1/M);
`possible` prints that share of the slower rate. On an accelerator the model does not take cores and the bound is
min(D, M). What is left to lose is waiting: batches that wait for pictures, pictures that wait for the model.

The three rates are measured in turns over the same files, in one process, and medians are compared.

    python benchmarks/embed_pipeline.py --files 2000
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from perceptic.inference.core_share import torch_threads
from perceptic.inference.encode import Encoder, load_encoder
from perceptic.media.collection import MediaFile, find_media
from perceptic.media.cores import usable_cores
from perceptic.media.prefetch import decode_stream
from perceptic.media.preprocess import ImageTransform
from perceptic.tasks.embed import embed_to_file
from perceptic.tasks.media_stream import DEFAULT_BATCH_SIZE, MediaLoader

WIDTH, HEIGHT = 1632, 1224  # 2.0 megapixels
JPEG_QUALITY = 90


def main() -> None:
    arguments = parse_arguments()
    folder = arguments.cache / f"jpeg-2mp-{arguments.files}"
    make_pictures(folder, arguments.files)
    encoder = load_encoder(arguments.model, device=arguments.device, dtype=arguments.dtype, method=arguments.method)
    files = find_media([folder])
    rounds = [files[start :: arguments.rounds] for start in range(arguments.rounds)]
    measures: dict[str, Callable[[list[MediaFile]], None]] = {
        "decode_only": lambda part: decode_only(encoder, part),
        "model_only": lambda part: model_only(encoder, len(part), arguments.batch_size),
        "embed": lambda part: embed_only(encoder, part, arguments.batch_size),
    }
    for measure in measures.values():
        measure(files[:64])  # warm-up: threads, page cache, kernels
    rates: dict[str, list[float]] = {name: [] for name in measures}
    for number, part in enumerate(rounds, start=1):
        for name, measure in measures.items():
            started = time.perf_counter()
            measure(part)
            rates[name].append(len(part) / (time.perf_counter() - started))
        print(f"round {number}: " + ", ".join(f"{name} {rates[name][-1]:.1f}/s" for name in measures), flush=True)
    print(json.dumps(report(arguments, encoder, rates)))


def report(arguments: argparse.Namespace, encoder: Encoder, rates: dict[str, list[float]]) -> dict[str, object]:
    """Median rates and the ratio of each round, so that a slow spell of the machine falls on both sides."""
    decode, model, embed = (statistics.median(rates[name]) for name in ("decode_only", "model_only", "embed"))
    ratios = [e / min(d, m) for d, m, e in zip(rates["decode_only"], rates["model_only"], rates["embed"], strict=True)]
    return {
        "benchmark": "embed_pipeline",
        "files": arguments.files,
        "megapixels": round(WIDTH * HEIGHT / 1e6, 2),
        "model": encoder.name,
        "method": encoder.preprocessing.method,
        "dtype": str(encoder.dtype).removeprefix("torch."),
        "cores": usable_cores(),
        "torch_threads": torch.get_num_threads(),
        "decode_only_per_second": round(decode, 1),
        "model_only_per_second": round(model, 1),
        "embed_per_second": round(embed, 1),
        "embed_over_slower_half": round(statistics.median(ratios), 3),
        "possible": round(1 / (1 / decode + 1 / model) / min(decode, model), 3),
    }


def decode_only(encoder: Encoder, files: list[MediaFile]) -> None:
    load = MediaLoader(encoder.preprocessing)
    with torch_threads(1):  # as in `embed`: the decoders are the parallelism
        for _ in decode_stream(files, load, workers=usable_cores()):
            pass


def model_only(encoder: Encoder, count: int, batch_size: int) -> None:
    """Pixels as they leave the decoders, so that normalising belongs to this half."""
    size = encoder.preprocessing.image_size
    transform = ImageTransform(encoder.preprocessing)
    pixels = torch.randint(0, 256, (batch_size, 3, size, size), dtype=torch.uint8)
    for start in range(0, count, batch_size):
        encoder.encode_pixels(transform.normalize(pixels[: count - start]), batch_size)


def embed_only(encoder: Encoder, files: list[MediaFile], batch_size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [file.path for file in files]
        summary = embed_to_file(paths, Path(folder) / "out.parquet", model=encoder, batch_size=batch_size)
    assert summary.embedded == len(files), summary.failures


def make_pictures(folder: Path, count: int) -> None:
    """JPEGs with the statistics of photographs: a 1/f spectrum, so about as many coded coefficients."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [number for number in range(count) if not (folder / f"{number:05d}.jpg").exists()]
    if not missing:
        return
    print(f"making {len(missing)} pictures in {folder} (once)", flush=True)
    rng = np.random.default_rng(0)
    canvas = pink_noise(rng, 2 * HEIGHT, 2 * WIDTH)
    for number in missing:
        top, left = int(rng.integers(HEIGHT)), int(rng.integers(WIDTH))
        image = Image.fromarray(canvas[top : top + HEIGHT, left : left + WIDTH])
        image.save(folder / f"{number:05d}.jpg", quality=JPEG_QUALITY)


def pink_noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 with amplitude falling as 1/frequency."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1
    channels = []
    for _ in range(3):
        spectrum = (rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)) / frequency**1.1
        plane = np.fft.irfft2(spectrum, (height, width))
        channels.append(128 + 48 * plane / plane.std())
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="PE-Core-Nano")
    parser.add_argument("--method", choices=["exact", "fast"], default="exact")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=DEFAULT_BATCH_SIZE)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "perceptic-benchmarks")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""2-megapixel JPEGs to model input: the exact method, the fast method, and what threads add.

Physics. Of the time per picture, JPEG decoding (Huffman decoding and the inverse DCT, about 8 ns per pixel and core
with SIMD) is common to all methods and cannot be shared out within one picture. Resizing reads every source pixel once:
Pillow's filter goes over 4-byte pixels with its own scalar passes, torch's over packed 3-byte pixels with vector
instructions. So the fast method helps the resize alone, and the whole only by the share the resize has. Pictures are
independent: with T threads and no lock held, the rate is T times that of one until cores or memory run out. Draft
decoding halves or quarters both sides inside the JPEG decoder; it skips work that the others do, and changes pixels.

Run: python benchmarks/image_pipeline.py [--image-size 224] [--pictures 48] [--threads 4]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from perceptic.configs import Preprocessing
from perceptic.media.collection import MediaFile
from perceptic.media.images import load_image
from perceptic.media.prefetch import Decoded, decode_stream
from perceptic.media.preprocess import ImageTransform

WIDTH, HEIGHT = 1632, 1224


def jpeg_pictures(count: int) -> list[bytes]:
    """Photograph-like: smooth areas, edges and grain, about 0.4 MB each at quality 85."""
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        coarse = random.integers(0, 256, (HEIGHT // 24, WIDTH // 24, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        grain = random.normal(0, 6, (HEIGHT, WIDTH, 1))
        pixels = (np.asarray(picture.filter(ImageFilter.SHARPEN)) + grain).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=85)
        pictures.append(stream.getvalue())
    return pictures


def rates(methods: dict[str, Callable[[bytes], object]], pictures: list[bytes], rounds: int) -> dict[str, float]:
    """Pictures per second of each method on one thread, the methods alternating."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.perf_counter()
            for picture in pictures:
                method(picture)
            seconds[name].append(time.perf_counter() - start)
    return {name: round(len(pictures) / statistics.median(values), 1) for name, values in seconds.items()}


def threaded_rates(
    methods: dict[str, Callable[[bytes], object]], pictures: list[bytes], threads: int, rounds: int
) -> dict[str, float]:
    files = [MediaFile(Path(str(number)), "image") for number in range(len(pictures))]

    def run(method: Callable[[bytes], object]) -> None:
        for result in decode_stream(files, lambda file: method(pictures[int(file.path.name)]), workers=threads):
            assert isinstance(result, Decoded)

    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.perf_counter()
            run(method)
            seconds[name].append(time.perf_counter() - start)
    return {name: round(len(pictures) / statistics.median(values), 1) for name, values in seconds.items()}


def grey_levels(one: list[torch.Tensor], other: list[torch.Tensor]) -> dict[str, float]:
    difference = torch.stack([(a.int() - b.int()).abs() for a, b in zip(one, other, strict=True)]).double()
    return {"largest": int(difference.max()), "mean": round(float(difference.mean()), 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # one thread per picture in every method
    exact = ImageTransform(Preprocessing(image_size=arguments.image_size))
    fast = ImageTransform(Preprocessing(image_size=arguments.image_size, method="fast"))
    pictures = jpeg_pictures(arguments.pictures)
    decoded = {id(picture): load_image(picture) for picture in pictures[:8]}
    whole: dict[str, Callable[[bytes], torch.Tensor]] = {
        "exact": lambda data: exact.pixels(load_image(data)),
        "fast": lambda data: fast.pixels(load_image(data)),
        "exact_after_draft_decoding": lambda data: exact.pixels(load_image(data, decode_size=arguments.image_size)),
    }
    parts: dict[str, Callable[[bytes], object]] = {
        "decode": load_image,
        "exact_resize": lambda data: exact.pixels(decoded[id(data)]),
        "fast_resize": lambda data: fast.pixels(decoded[id(data)]),
    }
    outputs = {name: [method(data) for data in pictures[:8]] for name, method in whole.items()}
    single = rates(whole, pictures, arguments.rounds)
    report: dict[str, Any] = {
        "picture": f"JPEG of {WIDTH} x {HEIGHT}, {sum(map(len, pictures)) / len(pictures) / 1e6:.2f} MB",
        "image_size": arguments.image_size,
        "load_before": round(os.getloadavg()[0], 1),
        "pictures_per_second_one_thread": single,
        "parts_per_second_one_thread": rates(parts, pictures[:8], arguments.rounds),
        f"pictures_per_second_{arguments.threads}_threads": threaded_rates(
            whole, pictures, arguments.threads, arguments.rounds
        ),
        "fast_over_exact": round(single["fast"] / single["exact"], 2),
        "grey_levels_fast_from_exact": grey_levels(outputs["fast"], outputs["exact"]),
        "grey_levels_draft_from_exact": grey_levels(outputs["exact_after_draft_decoding"], outputs["exact"]),
    }
    resize = report["parts_per_second_one_thread"]
    report["fast_resize_over_exact_resize"] = round(resize["fast_resize"] / resize["exact_resize"], 2)
    print(json.dumps(report))


if __name__ == "__main__":
    main()

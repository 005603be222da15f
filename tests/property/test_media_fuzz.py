"""Damaged images and videos: pixels or a MediaError within ten seconds, nothing else, and nothing printed.

Each case runs in a child process, so that a crash of a C library or an endless loop fails the test and not the run.
The seeds are fixed; the default suite takes a sample of what the slow test tries.
"""

from __future__ import annotations

import io
import multiprocessing
import multiprocessing.connection
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "media"))
from video_files import Recipe, write_video

LIMIT_SECONDS = 10.0
NUM_MUTANTS = 2000
SAMPLE_STEP = 20

IMAGES: dict[str, dict[str, object]] = {
    "JPEG": {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
    "PNG": {},
    "WEBP": {"lossless": True},
    "GIF": {},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
}
VIDEOS = [
    Recipe("fuzz.mp4", num_frames=25, options={"g": "8"}),
    Recipe("fuzz.mkv", num_frames=25, options={"g": "8"}),
    Recipe("fuzz.ts", num_frames=25, options={"g": "8"}),
    Recipe("fuzz.avi", num_frames=25, codec="mpeg4"),
    Recipe("fuzz.webm", num_frames=25, codec="libvpx", options={"b": "300k"}),
    Recipe("fuzz.mov", num_frames=25, codec="libx265", options={"x265-params": "log-level=none"}),
    Recipe("fuzz.h264", num_frames=25, options={"g": "8"}),
    Recipe("fuzz.gif", num_frames=10, codec="gif", pix_fmt="rgb8"),
]


@dataclass(frozen=True)
class Mutant:
    name: str
    is_video: bool
    data: bytes


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Mutant]:
    folder = tmp_path_factory.mktemp("originals")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    whole = []
    for image_format, options in IMAGES.items():
        stream = io.BytesIO()
        noise.save(stream, format=image_format, **options)
        whole.append(Mutant(image_format, False, stream.getvalue()))
    return whole + [Mutant(recipe.name, True, write_video(folder, recipe).read_bytes()) for recipe in VIDEOS]


def _mutants(originals: list[Mutant], numbers: range) -> Iterator[Mutant]:
    for number in numbers:
        original = originals[number % len(originals)]
        yield Mutant(f"{original.name}#{number}", original.is_video, _mutate(original.data, random.Random(number)))


def _mutate(data: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(data)
    # Headers are small beside the pixels, and damage there reaches more code.
    reach = len(damaged) if chance.random() < 0.5 else min(len(damaged), 1024)
    for _ in range(chance.choice([1, 2, 5, 20])):
        place = chance.randrange(reach)
        kind = chance.randrange(5)
        if kind == 0:
            damaged[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            damaged[place] = chance.choice([0, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            damaged[place : place + 4] = chance.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        elif kind == 3:
            end = place + chance.randrange(1, 64)
            damaged[place:place] = damaged[place:end]
        else:
            del damaged[place : place + chance.randrange(1, 64)]
        reach = max(1, min(reach, len(damaged)))
    return bytes(damaged[: chance.randrange(1, len(damaged) + 1)] if chance.random() < 0.2 else damaged)


def _read_mutants(pipe: multiprocessing.connection.Connection, folder: str) -> None:
    """In the child: read what comes through the pipe, answer with the outcome."""
    import torch

    from perceptic.errors import MediaError
    from perceptic.media.images import load_image
    from perceptic.media.torchcodec_reader import load_failure
    from perceptic.media.video import read_video

    torch.set_num_threads(1)
    load_failure()  # loads torchcodec, once, as the first file of an unknown codec would
    pipe.send("ready")
    while (mutant := pipe.recv()) is not None:
        path = Path(folder) / "mutant"
        path.write_bytes(mutant.data)
        try:
            if mutant.is_video:
                frames = read_video(path, num_frames=4)
                assert frames.pixels.shape[:2] == (4, 3)
                read_video(path, frames_per_second=2.0)
            else:
                assert load_image(path).mode == "RGB"
            pipe.send("read")
        except MediaError as error:
            pipe.send("refused" if str(path) in str(error) else f"does not name the file: {error}")
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            pipe.send(f"{type(error).__name__}: {error}")


class _Child:
    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(target=_read_mutants, args=(other_end, str(folder)), daemon=True)
        self.process.start()
        other_end.close()
        assert self.pipe.recv() == "ready"  # importing torch takes its time and is not what is measured

    def outcome(self, mutant: Mutant) -> str:
        self.pipe.send(mutant)
        if not self.pipe.poll(LIMIT_SECONDS):
            return f"took more than {LIMIT_SECONDS} s"
        try:
            return str(self.pipe.recv())
        except EOFError:
            self.process.join()
            return f"crashed with exit code {self.process.exitcode}"

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def _survey(originals: list[Mutant], numbers: range, folder: Path) -> tuple[dict[str, int], list[str]]:
    """How many mutants were read and refused, and what else happened."""
    counts, findings = {"read": 0, "refused": 0}, []
    child = _Child(folder)
    try:
        for mutant in _mutants(originals, numbers):
            outcome = child.outcome(mutant)
            if outcome in counts:
                counts[outcome] += 1
            else:
                findings.append(f"{mutant.name}: {outcome}")
                child.stop()
                child = _Child(folder)
    finally:
        child.stop()
    return counts, findings


def _check(originals: list[Mutant], numbers: range, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    counts, findings = _survey(originals, numbers, folder)
    assert findings == []
    # Damage of both kinds must be met, or the mutations are too weak or too strong to prove anything.
    assert min(counts.values()) > len(numbers) // 10
    printed = capfd.readouterr()
    assert printed.out == ""
    # libtiff writes its complaints past every handler that Pillow offers.
    assert [line for line in printed.err.splitlines() if not line.startswith("tempfile.tif:")] == []


def test_a_sample_of_damaged_media(originals: list[Mutant], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # The step shares no factor with the number of originals, so that all of them take part.
    _check(originals, range(0, NUM_MUTANTS, SAMPLE_STEP - 1), tmp_path, capfd)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_damaged_media(originals: list[Mutant], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    _check(originals, range(NUM_MUTANTS), tmp_path, capfd)
    print(f"{NUM_MUTANTS} mutants in {time.monotonic() - start:.0f} s")

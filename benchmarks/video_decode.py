"""32 uniform frames of a 10-minute 720p H.264 file: perceptic, torchcodec and decord.

Physics. A frame can only be decoded after everything it refers to, back to its keyframe. With 32 frames spread over
the file nearly every one lies in another group of pictures, at a random place in it, so about
32 * interval / 2 of the 14,400 pictures have to pass through the decoder: 4,000 with keyframes every 250, 480 with
every 30. What can be saved:

- pictures to which nothing refers (B-frames, about half here) need not be decoded unless they are wanted;
- the groups are independent, so several decoders work at once, one thread each;
- the colour conversion and the copying of 32 pictures (0.1 s of one core) are small beside that, and so is the scan of
  all packets that finds the keyframes (0.2 s).

torchcodec is called as the original calls it: `VideoDecoder(path)` with its defaults, then `get_frames_at(indices)`.
decord is measured if it is installed. All three run alternately in one process; each peak memory is of a process of
its own, on a 1-minute and on the 10-minute file. Wall-clock times need an idle machine, CPU seconds do not.

Run: python benchmarks/video_decode.py [--rounds 3]
The files are made on the first run (some minutes) and kept in the temporary folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _synthetic_video import long_video

from perceptic.media.sampling import uniform_indices
from perceptic.media.torchcodec_reader import load_failure
from perceptic.media.video import read_video

NUM_FRAMES = 32
SECONDS, RATE = 600, 24


def perceptic_frames(path: Path) -> torch.Tensor:
    return read_video(path, num_frames=NUM_FRAMES, reader="pyav").pixels


def torchcodec_frames(path: Path) -> torch.Tensor:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path))
    pixels: torch.Tensor = decoder.get_frames_at(uniform_indices(len(decoder), NUM_FRAMES)).data
    return pixels


def decord_frames(path: Path) -> torch.Tensor:
    import decord

    reader = decord.VideoReader(str(path))
    frames: npt.NDArray[np.uint8] = reader.get_batch(uniform_indices(len(reader), NUM_FRAMES)).asnumpy()
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def available() -> dict[str, Callable[[Path], torch.Tensor]]:
    contenders = {"perceptic": perceptic_frames}
    reason = load_failure()
    if reason is None:
        contenders["torchcodec"] = torchcodec_frames
    else:
        print(f"without torchcodec: {reason}")
    if importlib.util.find_spec("decord") is not None:
        contenders["decord"] = decord_frames
    else:
        print("without decord: not installed")
    return contenders


def measure(path: Path, rounds: int) -> dict[str, Any]:
    contenders = available()
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    pixels = {}
    for _ in range(rounds):
        for name, read in contenders.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            pixels[name] = read(path)
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - start_cpu)
    result: dict[str, Any] = {"seconds": _medians(wall), "cpu_seconds": _medians(cpu)}
    for peer in contenders.keys() - {"perceptic"}:
        ratios = [theirs / ours for ours, theirs in zip(wall["perceptic"], wall[peer], strict=True)]
        result[f"times_faster_than_{peer}"] = round(statistics.median(ratios), 2)
        difference = (pixels["perceptic"].int() - pixels[peer].int()).abs()
        result[f"largest_pixel_difference_to_{peer}"] = int(difference.max())
    return result


def _medians(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


def peak_megabytes(name: str, path: Path) -> float:
    """Peak memory above what the process holds before reading, in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", name, str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def print_own_peak(name: str, path: Path) -> None:
    read = available()[name]
    read(long_video(seconds=10))  # libraries loaded, code paths warm
    before = _own_memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    read(path)
    print(_own_memory("VmHWM") - before)


def _own_memory(field: str) -> float:
    # Not getrusage: its peak is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-of", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print_own_peak(arguments.memory_of[0], Path(arguments.memory_of[1]))
        return
    report: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 1),
        "file": f"{SECONDS} s of 1280x720 H.264 at {RATE} frames per second, {NUM_FRAMES} frames read",
    }
    for interval in (250, 30):
        path = long_video(SECONDS, interval, rate=RATE)
        report[f"keyframes_every_{interval}"] = measure(path, arguments.rounds)
        print(f"keyframes every {interval}:", json.dumps(report[f"keyframes_every_{interval}"], indent=1))
    report["peak_megabytes"] = {
        name: {f"{seconds}_s": round(peak_megabytes(name, long_video(seconds))) for seconds in (60, SECONDS)}
        for name in available()
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

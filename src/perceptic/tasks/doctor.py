"""Is this installation sound? Looks at every part that can be missing or broken, without touching the network."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from perceptic import zoo
from perceptic.__about__ import __version__
from perceptic.errors import MissingDependencyError, OutputError, PercepticError
from perceptic.inference.encode import load_encoder, resolve_device, unit_vectors
from perceptic.inference.native import load_kernels
from perceptic.inference.processors import cpu_capabilities, has_fast_bfloat16
from perceptic.media.preprocess import ImageTransform
from perceptic.media.torchcodec_reader import load_failure
from perceptic.media.video import read_video
from perceptic.text.vocabulary import HUB_FILE, HUB_REPOSITORY, installed_clip_merges
from perceptic.weights.hub import is_cached
from perceptic.world.encoding import mp4_bytes

State = Literal["ok", "missing", "broken"]

# Made anew with every new bundled file: cd src/perceptic/assets && sha256sum */* > SHA256SUMS
CHECKSUMS = Path(__file__).parents[1] / "assets" / "SHA256SUMS"

_PACKAGES = ("torch", "numpy", "pillow", "av", "tokenizers", "safetensors", "huggingface-hub", "pyarrow")
_FAST_CPU_FEATURES = ("amx_bf16", "avx512_bf16", "avx512_f", "avx2")


@dataclass(frozen=True)
class Finding:
    """One topic. "missing" is optional and no fault; "broken" is essential, and the text says what to do."""

    topic: str
    state: State
    text: str


@dataclass(frozen=True)
class Report:
    """All findings; `healthy` unless one is broken."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        return all(finding.state != "broken" for finding in self.findings)


def examine() -> Report:
    """Look at everything. Takes a few seconds; never raises for what it finds."""
    checks = (_versions, _devices, _cpu, _kernels, _pyav, _torchcodec, _vocabulary, _hub, _bundled_files, _self_test)
    return Report(tuple(_guarded(check) for check in checks))


def _guarded(check: Callable[[], Finding]) -> Finding:
    """A check that itself falls over is a finding: that is what people run a doctor for."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - reported, not hidden
        return Finding(check.__name__.strip("_"), "broken", f"{type(error).__name__}: {error}")


def _versions() -> Finding:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return Finding("versions", "ok", f"perceptic {__version__}, Python {sys.version.split()[0]}, {packages}")


def _devices() -> Finding:
    device = resolve_device("auto")
    if device.type == "cuda":
        return Finding("device", "ok", f"cuda: {torch.cuda.get_device_name(0)}")
    return Finding("device", "ok", f"{device.type}; {torch.get_num_threads()} threads on {platform.machine()}")


def _cpu() -> Finding:
    has = cpu_capabilities()
    features = [name for name in _FAST_CPU_FEATURES if has.get(name)]
    kernels = torch.backends.cpu.get_cpu_capability()
    advice = "bfloat16 is fast here: try --dtype bfloat16" if has_fast_bfloat16(torch.device("cpu")) else "use float32"
    return Finding("cpu", "ok", f"torch uses {kernels}; {', '.join(features) or 'no wide units reported'}; {advice}")


def _kernels() -> Finding:
    try:
        load_kernels(torch.float32)
    except (MissingDependencyError, OutputError) as error:
        return Finding("fast kernels", "missing", f"{error}; torch's own are used")
    return Finding("fast kernels", "ok", "compiled for this processor")


def _pyav() -> Finding:
    frames = np.zeros((3, 32, 48, 3), np.uint8)
    frames[..., 0] = 200
    found = read_video(mp4_bytes(frames, 5.0), num_frames=3, reader="pyav")
    good = found.pixels.shape == (3, 3, 32, 48) and abs(float(found.pixels[:, 0].float().mean()) - 200) < 8
    if not good:
        return Finding(
            "video (PyAV)", "broken", "decodes to wrong pixels; reinstall it: pip install --force-reinstall av"
        )
    return Finding("video (PyAV)", "ok", f"av {version('av')} writes and reads H.264")


def _torchcodec() -> Finding:
    failure = load_failure()
    if failure is None:
        return Finding("video (torchcodec)", "ok", f"torchcodec {version('torchcodec')} loads; ask for it by name")
    return Finding("video (torchcodec)", "missing", f"{failure}; PyAV is used")


def _vocabulary() -> Finding:
    installed = installed_clip_merges()
    if installed is not None:
        return Finding("CLIP vocabulary", "ok", f"inside open_clip: {installed}")
    if is_cached(zoo.HubFile(HUB_REPOSITORY, HUB_FILE)):
        return Finding("CLIP vocabulary", "ok", f"in the hub's cache ({HUB_REPOSITORY})")
    advice = "fetched at first use of a released model; or pip install 'perceptic[clip-vocabulary]'"
    return Finding("CLIP vocabulary", "missing", f"not on this machine: {advice}")


def _hub() -> Finding:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    existing = next(parent for parent in (cache, *cache.parents) if parent.exists())
    writable = "writable" if os.access(existing, os.W_OK) else "NOT writable: set HF_HOME to a folder that is"
    mode = "switched off by HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "asked when a released model is named"
    here = [card.name for card in zoo.cards() if card.original is not None and is_cached(card.original)]
    return Finding("hub", "ok", f"{mode}; cache {cache} ({writable}); models there: {', '.join(here) or 'none'}")


def _bundled_files() -> Finding:
    if not CHECKSUMS.exists():
        return Finding("bundled model", "broken", f"{CHECKSUMS} is not there; reinstall perceptic")
    wrong = [name for name, expected in _checksums() if _sha256(CHECKSUMS.parent / name) != expected]
    if wrong:
        return Finding("bundled model", "broken", f"damaged or missing: {', '.join(wrong)}; reinstall perceptic")
    return Finding("bundled model", "ok", f"{zoo.BUNDLED_NAME} and PLM-Nano: all files have their checksums")


def _self_test() -> Finding:
    """A red disc must be nearer to its own words than to others: exercises media, text and both towers."""
    from perceptic import world

    try:
        encoder = load_encoder(zoo.BUNDLED_NAME, needs_text=True, device="cpu")
    except PercepticError as error:
        return Finding("self-test", "broken", str(error))
    scene = world.Scene(
        (world.SceneObject("circle", "red", "large", "solid", x=0.5, y=0.5, radius=0.25, depth=0.5),),
        world.Background("plain", "white", "white"),
    )
    pixels = torch.from_numpy(world.render_pixels(scene, encoder.preprocessing.image_size)).permute(2, 0, 1)
    picture = encoder.encode_pixels(ImageTransform(encoder.preprocessing).normalize(pixels[None]))
    texts = encoder.encode_texts(["a red circle", "a blue square", "a yellow star"])
    similarities = (unit_vectors(picture) @ unit_vectors(texts).T)[0]
    words = ", ".join(f"{value:.2f}" for value in similarities.tolist())
    if int(similarities.argmax()) != 0:
        return Finding("self-test", "broken", f"a red circle is taken for something else (cosines {words})")
    return Finding("self-test", "ok", f"a red circle is known from a blue square and a yellow star (cosines {words})")


def _checksums() -> Iterator[tuple[str, str]]:
    """(file, SHA-256) pairs of a `sha256sum` list."""
    for line in CHECKSUMS.read_text(encoding="utf-8").splitlines():
        digest, name = line.split(maxsplit=1)
        yield name.lstrip("*"), digest


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

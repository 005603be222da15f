"""Kernels in C for x86-64 processors with AVX-512, and AMX where there is it: built once, kept, called on tensors.

`NativeKernels` are those of a vision tower (float32 on AVX-512, bfloat16 on AMX); `inference.decoder_kernels` runs a
decoder's steps from the same library.
`kernels/` is about 2,000 lines. It is compiled with the system's C compiler on first use (about four seconds on four
cores) and the library is kept in the cache folder under a name that changes with the sources, the flags and the
compiler, followed by its own digest, so that a cut or altered file is rebuilt instead of loaded. Several processes
may build at once: each writes a whole file under the same name.

Parallel loops run on the OpenMP threads that torch already has.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perceptic.configs import VisionConfig
from perceptic.errors import MissingDependencyError
from perceptic.files import write_bytes
from perceptic.models.rope import RopeTable

SOURCES = Path(__file__).parent / "kernels"
COMPILERS = ("gcc", "cc")
_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
_AMX = ("avx512_bf16", "amx_tile", "amx_bf16")
_DIGEST_BYTES = 32
_SOURCES = (
    "elementwise.c",
    "attention_f32.c",
    "products.c",
    "product_dots.c",
    "cached_attention.c",
    "decoder_step.c",
    "read_memory.c",
)
_AMX_SOURCES = (
    "attention_bf16.c",
    "product_tiles.c",
    "product_panels.c",
    "causal_attention.c",
    "decoder_read.c",
    "tower_block.c",
)


# The arguments of every kernel, a letter each: p pointer, n 64-bit count, f float. All end with the number of threads.
_SIGNATURES = {
    "layer_norm_f32": "ppppppnnf",
    "gelu_f32": "ppnn",
    "attention_f32": "pppppnnnn",
    "decoder_step": "ppppppn",
    "linear_bf16": "pppn",
    "sum_words": "pn",
}
_AMX_SIGNATURES = {
    "layer_norm_bf16": "ppppppnnf",
    "gelu_bf16": "ppnn",
    "attention_bf16": "ppppnnnn",
    "decoder_read": "pppppnnn",
    "tower_block_bf16": "pppppnn",
}
_C_TYPES: dict[str, Any] = {"p": ctypes.c_void_p, "n": ctypes.c_int64, "f": ctypes.c_float}

Argument = Tensor | int | float | None | Any  # Any: ctypes.byref of a structure


class NativeLibrary:
    """The compiled kernels by their C names. `has_amx` says whether those for AMX tiles are among them."""

    def __init__(self, library: ctypes.CDLL, has_amx: bool) -> None:
        self.has_amx = has_amx
        self._functions: dict[str, Any] = {}
        for name, letters in (_SIGNATURES | (_AMX_SIGNATURES if has_amx else {})).items():
            function = getattr(library, name)
            function.argtypes = [*(_C_TYPES[letter] for letter in letters), ctypes.c_int]
            function.restype = ctypes.c_int64 if name == "sum_words" else None
            self._functions[name] = function

    def run(self, name: str, *arguments: Argument) -> Any:
        """Call a kernel on torch's number of threads. Tensors are given by their memory, which must be contiguous."""
        values = (value.data_ptr() if isinstance(value, Tensor) else value for value in arguments)
        return self._functions[name](*values, torch.get_num_threads())


@dataclass(frozen=True)
class Norm:
    """A LayerNorm's numbers in float32, (D,) each."""

    weight: Tensor
    bias: Tensor
    epsilon: float


class NativeKernels:
    """The kernels of a vision tower. Tensors are contiguous; the type is float32 or bfloat16 throughout."""

    def __init__(self, library: NativeLibrary) -> None:
        self.library = library
        self._types = {torch.float32: "f32"} | ({torch.bfloat16: "bf16"} if library.has_amx else {})

    def supports(self, dtype: torch.dtype, config: VisionConfig) -> bool:
        """Whether a tower of this type and these sizes can run here."""
        widths_fit = config.width % 16 == 0 and config.mlp_width % 16 == 0
        return dtype in self._types and widths_fit and config.head_dim % self.head_step(dtype) == 0

    def head_step(self, dtype: torch.dtype) -> int:
        """What the size of a head must be a multiple of."""
        return 16 if dtype == torch.float32 else 32

    def layer_norm(self, x_BLD: Tensor, norm: Norm, shift_D: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """LayerNorm of x; and x + shift (x itself without a shift)."""
        assert x_BLD.is_contiguous()
        width = x_BLD.shape[-1]
        y_BLD = torch.empty_like(x_BLD)
        shifted_BLD = x_BLD if shift_D is None else torch.empty_like(x_BLD)
        rows = x_BLD.numel() // width
        self._run(
            "layer_norm", x_BLD, norm.weight, norm.bias, y_BLD, shift_D, shifted_BLD, rows, width, norm.epsilon
        )  # fmt: skip
        return y_BLD, shifted_BLD

    def gelu(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """gelu(x + bias), written over x."""
        assert x.is_contiguous()
        width = x.shape[-1]
        self._run("gelu", x, bias, x.numel() // width, width)
        return x

    def attention(self, qkv_BLD: Tensor, bias: Tensor | None, rope: RopeTable | None, heads: int) -> Tensor:
        """Rotary self-attention of (B, L, 3*D), to which `bias` is still to be added, to (B, L, D)."""
        assert qkv_BLD.is_contiguous()
        batch, tokens, width = qkv_BLD.shape
        cosine, sine = (None, None) if rope is None else (rope.cos_LP.contiguous(), rope.sin_LP.contiguous())
        y_BLD = qkv_BLD.new_empty(batch, tokens, width // 3)
        # A bfloat16 product has added its bias before rounding.
        late = (bias,) if qkv_BLD.dtype == torch.float32 else ()
        self._run("attention", qkv_BLD, *late, cosine, sine, y_BLD, batch, tokens, heads, width // 3 // heads)
        return y_BLD

    def _run(self, name: str, x: Tensor, *arguments: Argument) -> None:
        if x.numel():
            self.library.run(f"{name}_{self._types[x.dtype]}", x, *arguments)


def default_cache_folder() -> Path:
    """`$XDG_CACHE_HOME/perceptic/kernels`, or below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "perceptic" / "kernels"


def missing_features(dtype: torch.dtype) -> list[str]:
    """What this machine lacks to run the kernels of `dtype`, in words; empty if nothing."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        return ["Linux on x86-64"]
    wanted = _AVX512 if dtype == torch.float32 else (*_AVX512, *_AMX)
    return [flag for flag in wanted if flag not in _processor_flags()]


def load_kernels(dtype: torch.dtype, cache_folder: str | Path | None = None) -> NativeKernels:
    """The kernels, from the cache or newly built.

    Args:
        dtype: float32 or bfloat16; what the processor must be able to run.
        cache_folder: where the library is kept; None: `default_cache_folder()`.

    Raises:
        MissingDependencyError: another processor or system, no C compiler, or one that cannot build them.
        OutputError: the cache folder cannot be written.
    """
    missing = missing_features(dtype)
    if missing:
        raise MissingDependencyError(f"the {dtype} kernels need {', '.join(missing)}, which this machine lacks")
    return NativeKernels(load_library(cache_folder))


def load_library(cache_folder: str | Path | None = None) -> NativeLibrary:
    """All kernels that this processor can run; it must have AVX-512. Raises as `load_kernels`."""
    missing = missing_features(torch.float32)
    if missing:
        raise MissingDependencyError(f"the kernels need {', '.join(missing)}, which this machine lacks")
    folder = default_cache_folder() if cache_folder is None else Path(cache_folder)
    return _load(folder, has_amx=not missing_features(torch.bfloat16))


@functools.cache
def _load(folder: Path, has_amx: bool) -> NativeLibrary:
    flags, sources = _recipe(has_amx)
    path = folder / f"{_key(flags, sources)}.so"
    if not _is_whole(path):
        content = _build_with_any_compiler(flags, sources)
        write_bytes(path, content + hashlib.sha256(content).digest())
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise MissingDependencyError(f"{path}: the kernels cannot be loaded into this Python: {error}") from error
    if has_amx and not library.prepare_tiles():
        raise MissingDependencyError("the bfloat16 kernels need AMX tiles, which this system does not hand out")
    return NativeLibrary(library, has_amx)


def _recipe(has_amx: bool) -> tuple[list[str], list[Path]]:
    """Compiler flags and source files."""
    flags = ["-O3", "-std=gnu11", "-fPIC", "-fopenmp", "-mtune=native", "-mfma", *(f"-m{name}" for name in _AVX512)]
    names = [*_SOURCES]
    if has_amx:
        flags += ["-mavx512bf16", "-mamx-tile", "-mamx-bf16"]
        names += _AMX_SOURCES
    return flags, [SOURCES / name for name in names]


def _key(flags: list[str], sources: list[Path]) -> str:
    """A name that changes with the flags and the sources."""
    digest = hashlib.sha256("\0".join(flags).encode())
    for source in (*sources, *sorted(SOURCES.glob("*.h"))):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:32]


def _build_with_any_compiler(flags: list[str], sources: list[Path]) -> bytes:
    named = os.environ.get("CC")
    reasons = []
    for name in [named] if named else COMPILERS:
        try:
            return _build(name, flags, sources)
        except FileNotFoundError:
            reasons.append(f"{name} is not installed")
        except (subprocess.CalledProcessError, PermissionError) as error:
            reasons.append(f"{name}: {_last_line(error)}")
    raise MissingDependencyError(
        f"fast CPU kernels need a C compiler with OpenMP, GCC 11 or newer ({'; '.join(reasons)}). Install one, for "
        "example 'apt install gcc' or 'dnf install gcc', or set CC; or ask for kernels='torch', which needs none and "
        "is slower"
    )


def _build(compiler: str, flags: list[str], sources: list[Path]) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:

        def run(*arguments: str) -> None:
            subprocess.run([compiler, *arguments], cwd=scratch, check=True, capture_output=True, text=True)

        with ThreadPoolExecutor(len(sources)) as executor:  # each waits for a compiler of its own
            list(executor.map(lambda source: run(*flags, "-c", str(source)), sources))
        # Linked without an OpenMP library of its own: the calls resolve to the one torch has loaded. A second one
        # would bring a second set of threads.
        run("-shared", *(f"{source.stem}.o" for source in sources), "-o", "kernels.so")
        return (Path(scratch) / "kernels.so").read_bytes()


def _is_whole(path: Path) -> bool:
    """Whether a library is there and ends with the digest of all before."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    return hashlib.sha256(body).digest() == digest


def _last_line(error: subprocess.CalledProcessError | OSError) -> str:
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    return next((line for line in reversed((text or "").splitlines()) if line.strip()), str(error))


@functools.cache
def _processor_flags() -> frozenset[str]:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()

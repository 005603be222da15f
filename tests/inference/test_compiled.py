"""An accelerated tower gives the model's numbers, refuses what it cannot do, and keeps its compiled kernels safely."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.errors import ConfigError, MissingDependencyError, OutputError
from perceptic.inference import native
from perceptic.inference.compiled import AcceleratedVisionTransformer, KernelChoice, accelerate
from perceptic.models.clip import CLIP
from perceptic.models.vision import VisionTransformer

CORE = VisionConfig(
    patch_size=8, width=64, layers=3, heads=2, output_dim=48, image_size=40, use_cls_token=True, attn_pooler_heads=4
)
VARIANTS = {
    "core": CORE,
    "no class token, heads of 96": CORE.replace(use_cls_token=False, width=192),
    "layer scale, tokens out": CORE.replace(
        ls_init_value=0.1, pool_type="none", output_dim=None, use_ln_post=False, mlp_ratio=3.0
    ),
    "average, no rotation, no ln_pre": CORE.replace(pool_type="avg", use_rope2d=False, use_ln_pre=False),
    "class token pool, no positions": CORE.replace(pool_type="tok", use_abs_posemb=False),
}
BOTH_TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
needs_oneDNN_bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def runnable_kernels(dtype: torch.dtype) -> list[KernelChoice]:
    """What this machine can run: CI may have neither AVX-512 nor AMX."""
    if dtype == torch.bfloat16 and not needs_oneDNN_bfloat16:
        pytest.skip("no bfloat16 in this machine's oneDNN")
    return ["torch"] if native.missing_features(dtype) else ["torch", "native"]


def make_tower(config: VisionConfig) -> VisionTransformer:
    torch.manual_seed(0)
    tower = VisionTransformer(config)
    for parameter in tower.parameters():  # biases and scales other than 0 and 1
        parameter.data += 0.05 * torch.randn_like(parameter)
    return tower.eval()


def assert_same(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == dtype
    if dtype == torch.float32:
        torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-5)
    else:
        assert F.cosine_similarity(actual.float(), expected, dim=-1).min() > 0.999
        torch.testing.assert_close(actual.float(), expected, atol=0.03 * expected.abs().max().item(), rtol=0)


@BOTH_TYPES
@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_equals_the_model(variant: str, dtype: torch.dtype, kernel_cache: Path) -> None:
    tower = make_tower(VARIANTS[variant])
    pixels = torch.randn(3, 3, 40, 40)
    with torch.no_grad():
        expected = tower(pixels)
    for kernels in runnable_kernels(dtype):
        twin = accelerate(tower, dtype=dtype, kernels=kernels, cache_folder=kernel_cache)
        assert_same(twin(pixels), expected, dtype)


@BOTH_TYPES
@pytest.mark.parametrize("size", [(8, 8), (40, 40), (43, 61), (16, 200), (144, 136)])
def test_any_image_size(size: tuple[int, int], dtype: torch.dtype, kernel_cache: Path) -> None:
    """One patch, native, ragged, wide, and more tokens than one panel of the kernels (1 + 18 * 17)."""
    tower = make_tower(CORE)
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = tower(pixels)
    for kernels in runnable_kernels(dtype):
        twin = accelerate(tower, dtype=dtype, kernels=kernels, cache_folder=kernel_cache)
        assert_same(twin(pixels), expected, dtype)


@BOTH_TYPES
def test_every_method(dtype: torch.dtype, kernel_cache: Path) -> None:
    tower = make_tower(CORE)
    pixels = torch.randn(2, 3, 40, 40)
    for kernels in runnable_kernels(dtype):
        twin = accelerate(tower, dtype=dtype, kernels=kernels, cache_folder=kernel_cache)
        with torch.no_grad():
            assert_same(
                twin.forward_features(pixels, norm=True, layer_idx=1, strip_cls_token=True),
                tower.forward_features(pixels, norm=True, layer_idx=1, strip_cls_token=True),
                dtype,
            )
            ours = twin.forward_intermediates(pixels, indices=[0, 2], intermediates_only=True)
            theirs = tower.forward_intermediates(pixels, indices=[0, 2], intermediates_only=True)
        for mine, reference in zip(ours, theirs, strict=True):
            assert isinstance(mine, Tensor)
            assert isinstance(reference, Tensor)
            assert_same(mine, reference, dtype)
        shorter, reference_tower = twin, copy.deepcopy(tower)
        shorter.truncate(0)
        reference_tower.truncate(0)
        with torch.no_grad():
            assert_same(shorter(pixels), reference_tower(pixels), dtype)


@BOTH_TYPES
def test_parts_of_a_large_batch(dtype: torch.dtype, kernel_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runnable_kernels(dtype)  # skips what cannot be had here
    tower = make_tower(CORE)
    pixels = torch.randn(7, 3, 40, 40)
    twin = accelerate(tower, dtype=dtype, cache_folder=kernel_cache)
    whole = twin(pixels)
    one_image = 26 * 256 * dtype.itemsize
    monkeypatch.setattr("perceptic.inference.compiled.WIDEST_ACTIVATION_BYTES", 3 * one_image)
    runs: list[int] = []
    inner = twin.transformer.resblocks[0].register_forward_pre_hook(lambda _, inputs: runs.append(len(inputs[0])))
    torch.testing.assert_close(twin(pixels), whole, atol=2e-2 if dtype == torch.bfloat16 else 2e-6, rtol=0)
    inner.remove()
    assert runs == [3, 2, 2]
    assert twin(pixels[:0]).shape == (0, 48)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_the_heads(threads: int, kernel_cache: Path) -> None:
    """One image of one head: query rows are divided among the threads, and the answer stays."""
    tower = make_tower(CORE.replace(width=32, heads=1))
    pixels = torch.randn(1, 3, 80, 80)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        twin = accelerate(tower, cache_folder=kernel_cache)
        with torch.no_grad():
            torch.testing.assert_close(twin(pixels), tower(pixels), atol=2e-5, rtol=1e-5)
    finally:
        torch.set_num_threads(before)


def test_concurrent_calls(kernel_cache: Path) -> None:
    """Nothing is shared between two calls at different sizes."""
    tower = make_tower(CORE)
    twin = accelerate(tower, cache_folder=kernel_cache)
    inputs = [torch.randn(2, 3, 40 + 8 * i, 40) for i in range(4)]
    expected = [twin(pixels) for pixels in inputs]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(twin, inputs * 5))
    for result, reference in zip(results, expected * 5, strict=True):
        torch.testing.assert_close(result, reference, atol=2e-6, rtol=0)


def test_clip_twin(kernel_cache: Path) -> None:
    text = TextConfig(context_length=8, width=32, heads=2, layers=1, output_dim=48, vocab_size=64)
    torch.manual_seed(0)
    clip = CLIP(ClipConfig(vision=CORE, text=text)).eval()
    twin = accelerate(clip, cache_folder=kernel_cache)
    frames, ids = torch.randn(2, 3, 3, 40, 40), torch.randint(0, 64, (2, 8))
    with torch.no_grad():
        for ours, theirs in (
            (twin.encode_image(frames[0], normalize=True), clip.encode_image(frames[0], normalize=True)),
            (twin.encode_video(frames, normalize=True), clip.encode_video(frames, normalize=True)),
            (twin.encode_text(ids), clip.encode_text(ids)),
        ):
            torch.testing.assert_close(ours, theirs, atol=5e-5, rtol=0)
    assert twin.config == clip.config
    assert twin.image_size == 40
    assert not isinstance(clip.visual, AcceleratedVisionTransformer)


def test_the_model_stays_unless_consumed(kernel_cache: Path) -> None:
    tower = make_tower(CORE)
    pixels = torch.randn(2, 3, 40, 40)
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    twin = accelerate(tower, cache_folder=kernel_cache)
    first = twin(pixels)
    torch.testing.assert_close(dict(tower.state_dict()), before, atol=0, rtol=0)
    consumed = accelerate(tower, cache_folder=kernel_cache, consume=True)
    torch.testing.assert_close(consumed(pixels), first, atol=0, rtol=0)
    assert not any(name.startswith("transformer.") for name in tower.state_dict())


def test_what_it_refuses(kernel_cache: Path) -> None:
    tower = make_tower(CORE)
    twin = accelerate(tower, kernels="torch")
    assert not twin(torch.randn(1, 3, 40, 40, requires_grad=True)).requires_grad
    for misuse in (lambda: twin.to(torch.float16), lambda: twin.state_dict(), lambda: twin.train()):
        with pytest.raises(ConfigError, match="model that was given to accelerate"):
            misuse()
    assert twin.eval() is twin
    with pytest.raises(ConfigError, match="accelerated already"):
        accelerate(twin)
    with pytest.raises(ConfigError, match="float32 or bfloat16, not"):
        accelerate(tower, dtype=torch.float16)
    with pytest.raises(ConfigError, match="on the CPU, not on meta"):
        accelerate(VisionTransformer(CORE).to("meta"))
    with pytest.raises(ConfigError, match="'auto', 'native' or 'torch'"):
        accelerate(tower, kernels="fast")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pixels must be"):
        twin(torch.randn(3, 40, 40))


def test_sizes_that_kernels_cannot_run_fall_back(kernel_cache: Path) -> None:
    tower = make_tower(CORE.replace(width=40, heads=2))
    pixels = torch.randn(2, 3, 40, 40)
    twin = accelerate(tower, cache_folder=kernel_cache)
    assert isinstance(twin, AcceleratedVisionTransformer)
    assert not twin.uses_native_kernels
    with torch.no_grad():
        torch.testing.assert_close(twin(pixels), tower(pixels), atol=2e-5, rtol=1e-5)
    if not native.missing_features(torch.float32):
        with pytest.raises(ConfigError, match="multiples of 16"):
            accelerate(tower, kernels="native", cache_folder=kernel_cache)


@pytest.mark.skipif(bool(native.missing_features(torch.float32)), reason="no AVX-512 here")
class TestKernelCache:
    """The library is built once, kept whole, and rebuilt when it is not."""

    @pytest.fixture(autouse=True)
    def _forget_loaded(self) -> None:
        native._load.cache_clear()

    def test_second_load_builds_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        native._load(tmp_path, has_amx=False)
        (library,) = tmp_path.iterdir()
        stamp = library.stat().st_mtime_ns
        native._load.cache_clear()
        monkeypatch.setenv("CC", "/no/such/compiler")
        native._load(tmp_path, has_amx=False)
        assert library.stat().st_mtime_ns == stamp

    @pytest.mark.parametrize("damage", ["cut", "altered", "empty"])
    def test_damaged_library_is_rebuilt(self, damage: str, tmp_path: Path, kernel_cache: Path) -> None:
        native._load(kernel_cache / "float32", has_amx=False)
        (good,) = (kernel_cache / "float32").iterdir()
        content = good.read_bytes()
        middle = len(content) // 2
        broken = {
            "cut": content[:middle],
            "altered": content[:middle] + b"\x00\xff" + content[middle + 2 :],
            "empty": b"",
        }[damage]
        (tmp_path / good.name).write_bytes(broken)
        native._load(tmp_path, has_amx=False)
        (rebuilt,) = tmp_path.iterdir()
        assert native._is_whole(rebuilt)
        assert len(rebuilt.read_bytes()) == len(content)

    def test_sources_and_flags_name_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        flags, sources = native._recipe(has_amx=False)
        assert native._key(flags, sources) == native._key(flags, sources)
        assert native._key([*flags, "-g"], sources) != native._key(flags, sources)
        for source in native.SOURCES.iterdir():
            (tmp_path / source.name).write_bytes(source.read_bytes())
        (tmp_path / "common.h").write_text((native.SOURCES / "common.h").read_text() + "\n")
        before = native._key(flags, sources)
        monkeypatch.setattr(native, "SOURCES", tmp_path)
        assert native._key(*native._recipe(has_amx=False)) != before

    def test_no_compiler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tower = make_tower(CORE)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CC", raising=False)
        with pytest.raises(MissingDependencyError, match=r"gcc is not installed.*apt install gcc.*kernels='torch'"):
            accelerate(tower, kernels="native", cache_folder=tmp_path / "cache")
        assert not accelerate(tower, cache_folder=tmp_path / "cache").uses_native_kernels

    def test_cache_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file in the way")
        tower = make_tower(CORE)
        with pytest.raises(OutputError, match="cache"):
            accelerate(tower, kernels="native", cache_folder=tmp_path / "cache")
        assert not accelerate(tower, cache_folder=tmp_path / "cache").uses_native_kernels

    def test_compiler_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = tmp_path / "broken-cc"
        fake.write_text("#!/bin/sh\necho 'fatal: no such instruction set' >&2\nexit 1\n")
        fake.chmod(0o755)
        monkeypatch.setenv("CC", str(fake))
        with pytest.raises(MissingDependencyError, match="broken-cc: fatal: no such instruction set"):
            native.load_kernels(torch.float32, tmp_path / "cache")
        assert not (tmp_path / "cache").exists()

    def test_two_builders_at_once(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(2) as pool:
            builds = [pool.submit(native._load.__wrapped__, tmp_path, has_amx=False) for _ in range(2)]
            for build in builds:
                build.result()
        (library,) = tmp_path.iterdir()
        assert native._is_whole(library)


def test_another_processor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_processor_flags", lambda: frozenset({"sse2", "avx2"}))
    assert native.missing_features(torch.float32) == ["avx512f", "avx512bw", "avx512dq", "avx512vl"]
    with pytest.raises(MissingDependencyError, match=r"avx512f.*this machine lacks"):
        native.load_kernels(torch.float32)
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert native.missing_features(torch.bfloat16) == ["Linux on x86-64"]

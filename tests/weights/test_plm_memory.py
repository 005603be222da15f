"""Memory is known before loading: exact weights and cache, refusals that name numbers and remedies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from perceptic.configs_plm import PLM_CONFIGS, plm_config
from perceptic.errors import ConfigError, NotEnoughMemoryError, WeightsNotFoundError
from perceptic.models.kv_cache import KVCache
from perceptic.weights import available_memory, plm_memory
from perceptic.weights.available_memory import available_bytes
from perceptic.weights.plm_memory import DeviceMemory, MemoryEstimate, Workload, check_memory, estimate_memory
from perceptic.weights.plm_pretrained import PerceptionLM

GIB = 2**30


@pytest.fixture
def folder(goldens: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in ("params.json", "consolidated.pth"):
        shutil.copy(goldens / "plm" / "untied_unscaled" / file, copy)
    shutil.copy(goldens / "plm" / "tokenizer" / "tokenizer.model", copy)
    return copy


def loaded_bytes(model: PerceptionLM) -> int:
    return sum(value.nbytes for value in model.state_dict().values())


@pytest.mark.parametrize("weights", [None, "int8", "int4", {"*.w2": "int8"}])
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_weights_are_counted_exactly(folder: Path, tmp_path: Path, weights: str | None, dtype: str | None) -> None:
    model = PerceptionLM.from_pretrained(folder, weights=weights, dtype=dtype)
    estimate = estimate_memory(folder, weights=weights, dtype=dtype)
    assert estimate.needed_bytes == loaded_bytes(model)
    saved = model.save_pretrained(tmp_path / "saved")
    assert estimate_memory(saved, dtype=dtype).needed_bytes == loaded_bytes(model)
    assert estimate_memory(saved / "model.safetensors", dtype=dtype).needed_bytes == loaded_bytes(model)


def test_cache_is_counted_exactly() -> None:
    config = plm_config("Perception-LM-1B")
    cache = KVCache.empty(config.decoder, 3, 500, device="meta", dtype=torch.bfloat16)
    estimate = estimate_memory("plm-1b", workload=Workload(num_tokens=500, batch_size=3))
    assert estimate.devices[0].cache_bytes == cache.num_bytes == 3 * 500 * 32 * 1024


@pytest.mark.parametrize("name", [name for name in PLM_CONFIGS if name != "PLM-Nano"])
def test_released_models_need_no_files(name: str) -> None:
    sizes = [estimate_memory(name, weights=weights).needed_bytes for weights in (None, "int8", "int4")]
    assert sizes == sorted(sizes, reverse=True)
    assert estimate_memory(name).weights == "bfloat16"
    with pytest.raises(WeightsNotFoundError):
        estimate_memory(name + "-nothing/x/y")


def test_two_devices(folder: Path) -> None:
    work = Workload(num_tokens=300, num_chunks=2)
    one = estimate_memory(folder, workload=work).devices[0]
    decoder, tower = estimate_memory(folder, vision_device="meta", workload=work).devices
    assert (decoder.device, tower.device) == ("cpu", "meta")
    assert decoder.weights_bytes + tower.weights_bytes == one.weights_bytes
    assert tower.cache_bytes == 0
    assert one.working_bytes == max(decoder.working_bytes, tower.working_bytes)
    assert tower.available_bytes is None
    assert tower.fits


def test_more_work_takes_more(folder: Path) -> None:
    def needed(**work: int) -> int:
        return estimate_memory(folder, workload=Workload(**work)).needed_bytes

    base = needed(num_tokens=100, num_chunks=1)
    assert needed(num_tokens=200, num_chunks=1) > base
    assert needed(num_tokens=100, num_chunks=8) > base
    assert needed(num_tokens=100, num_chunks=1, batch_size=4) > base


def test_what_does_not_fit_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = estimate_memory("plm-8b", workload=Workload(2200, 8, 4), max_bytes=8 * 10**9)
    assert not estimate.fits
    with pytest.raises(NotEnoughMemoryError) as caught:
        check_memory(estimate)
    message = str(caught.value)
    for part in ("Perception-LM-8B in bfloat16", "weights 19.6 GB", "available: 8.0 GB", "2,200 tokens and 8 chunks"):
        assert part in message
    for part in ("weights='int8', weights='int4'", "fewer tiles or frames", "a smaller batch", "another device"):
        assert part in message
    assert isinstance(caught.value, MemoryError)
    with pytest.raises(NotEnoughMemoryError, match="What helps: --weights int4;"):
        check_memory(estimate, remedies="--weights int4")
    quantised = estimate_memory("plm-8b", weights="int4", max_bytes=10**9)
    with pytest.raises(NotEnoughMemoryError) as caught:
        check_memory(quantised)
    assert "weights=" not in str(caught.value)

    monkeypatch.setattr(plm_memory, "available_bytes", lambda device: 1000)
    with pytest.raises(NotEnoughMemoryError, match="model in bfloat16 needs"):
        PerceptionLM.from_pretrained(folder)
    assert PerceptionLM.from_pretrained(folder, check_memory=False).tokenizer is not None
    monkeypatch.setattr(plm_memory, "available_bytes", lambda device: None)
    assert PerceptionLM.from_pretrained(folder).tokenizer is not None


def test_what_fits_is_described() -> None:
    device = DeviceMemory("cuda:0", 3_000_000_000, 50_000_000, 0, None)
    estimate = MemoryEstimate("m", "int8", Workload(), (device,))
    check_memory(estimate)
    assert estimate.describe() == "m in int8 needs 3.0 GB on cuda:0 (weights 3.0 GB, cache 50.0 MB; available: unknown)"


def test_wrong_settings(folder: Path) -> None:
    with pytest.raises(ConfigError, match="int8 or int4"):
        estimate_memory(folder, weights="int1")
    with pytest.raises(WeightsNotFoundError):
        estimate_memory(folder.parent)


def write(root: Path, path: str, content: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def test_available_on_a_machine(tmp_path: Path) -> None:
    assert available_bytes("cpu", tmp_path) is None
    assert available_bytes("mps", tmp_path) is None
    write(tmp_path, "proc/meminfo", "MemTotal:       8388608 kB\nMemAvailable:   4194304 kB\n")
    assert available_bytes("cpu", tmp_path) == 4 * GIB
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    assert available_bytes("cpu", tmp_path) == 4 * GIB


@pytest.mark.parametrize(
    ("group", "folder"),
    [
        ("0::/", "sys/fs/cgroup"),  # inside a container
        ("0::/user.slice/app", "sys/fs/cgroup/user.slice/app"),
        ("0::/user.slice/app", "sys/fs/cgroup/user.slice"),  # the limit of a group above
        ("0::/host/path/of/it", "sys/fs/cgroup"),
    ],
)
def test_limits_of_control_groups(tmp_path: Path, group: str, folder: str) -> None:
    write(tmp_path, "proc/meminfo", "MemAvailable:   4194304 kB\n")
    write(tmp_path, "proc/self/cgroup", f"{group}\n")
    write(tmp_path, f"{folder}/memory.max", "max\n")
    write(tmp_path, f"{folder}/memory.current", f"{GIB}\n")
    assert available_bytes("cpu", tmp_path) == 4 * GIB
    write(tmp_path, f"{folder}/memory.max", f"{2 * GIB}\n")
    assert available_bytes("cpu", tmp_path) == GIB
    write(tmp_path, f"{folder}/memory.stat", f"anon 5\ninactive_file {GIB // 2}\n")
    assert available_bytes("cpu", tmp_path) == GIB * 3 // 2
    write(tmp_path, f"{folder}/memory.current", f"{9 * GIB}\n")
    assert available_bytes("cpu", tmp_path) == 0


def test_older_control_groups(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemAvailable:   4194304 kB\n")
    write(tmp_path, "proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/\n")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{3 * GIB}\n")
    write(tmp_path, "sys/fs/cgroup/memory/memory.usage_in_bytes", f"{GIB}\n")
    assert available_bytes("cpu", tmp_path) == 2 * GIB


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux")
def test_this_machine() -> None:
    free = available_bytes()
    assert free is not None
    assert 0 < free < 2**50
    assert available_memory.available_bytes("meta") is None


def test_a_gpu_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GIB + device.index, 80 * GIB))
    assert available_bytes("cuda:1") == 5 * GIB + 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert available_bytes("cuda:1") is None

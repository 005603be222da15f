"""What a device computes quickly."""

from __future__ import annotations

from typing import Any

import torch


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware: a GPU, or a CPU with AMX or AVX512-BF16. Others take many times
    as long as for float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and any(cpu_capabilities().get(name) for name in ("amx_bf16", "avx512_bf16"))


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a device has units for matrices of bfloat16: AMX on the CPU, or a GPU."""
    if device.type == "cpu":
        return bool(cpu_capabilities().get("amx_bf16"))
    return computes_bfloat16(device)


def cpu_capabilities() -> dict[str, Any]:
    """What newer torch says that the processor can do. Older ones say nothing, and float32 is the safe choice."""
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return found

"""Names of number types, as users and config files write them."""

from __future__ import annotations

import torch

from perceptic.errors import ConfigError

FLOAT_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
    "float64": torch.float64,
}


def parse_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A float type from its name; None stays None. Raises ConfigError on anything else."""
    if dtype is None or (isinstance(dtype, torch.dtype) and dtype in FLOAT_TYPES):
        return dtype
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ConfigError(f"dtype '{name}' is not supported; choose one of {', '.join(DTYPES)}")
    return DTYPES[name]


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")

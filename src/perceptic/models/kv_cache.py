"""The keys and values of tokens already read, as a value.

Extending a cache gives a new one and leaves the old as it was: a conversation can be continued twice from the same
point, and the first n tokens of a cache are a cache. Underneath, versions share one buffer per layer. Columns are
appended in place while they are the buffer's next free ones, as they are in ordinary generation; only the second
continuation from one point pays for a copy.

Rows of a batch end at the same column. Shorter ones have unused columns on their left, `padding` of them.

Shapes: B batch, G key-value heads, S columns, K head size.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perceptic.configs_plm import DecoderConfig

_COLUMN_STEP = 256  # buffers grow in steps of this and of a quarter of their size


class _Buffers:
    """One (B, G, S, K) tensor of keys and one of values per layer, of which the first `used` columns are written."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], used: int) -> None:
        self.keys = keys
        self.values = values
        self.used = used
        self.lock = threading.Lock()

    @property
    def capacity(self) -> int:
        return self.keys[0].shape[2]

    def take(self, start: int, count: int) -> bool:
        """Claim columns start..start+count; False if another continuation has them or there is no room."""
        with self.lock:
            if start != self.used or start + count > self.capacity:
                return False
            self.used += count
            return True


@dataclass(frozen=True)
class KVCache:
    """What a decoder remembers of the tokens so far.

    Attributes:
        length: columns in use; the next token goes to this column.
        padding: int64 (B,), unused columns at the left of each row. None: none in any row.
    """

    _buffers: _Buffers
    length: int
    padding: Tensor | None = None

    @classmethod
    def empty(
        cls,
        config: DecoderConfig,
        batch_size: int = 1,
        capacity: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        padding: Tensor | None = None,
    ) -> KVCache:
        """A cache of no tokens. `capacity` columns are allocated at once; beyond them it grows by copying.

        Args:
            padding: int64 (B,), columns that each row will leave unused before its first token.
        """
        shape = (batch_size, config.num_kv_heads, capacity, config.head_size)
        with torch.inference_mode():
            keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]
            values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]
        return cls(_Buffers(keys, values, used=0), length=0, padding=padding)

    @property
    def batch_size(self) -> int:
        return self._buffers.keys[0].shape[0]

    @property
    def num_layers(self) -> int:
        return len(self._buffers.keys)

    @property
    def num_bytes(self) -> int:
        """Memory of the buffers behind this value, shared with the values it was extended from."""
        return sum(tensor.nbytes for tensor in (*self._buffers.keys, *self._buffers.values))

    def prefix(self, length: int) -> KVCache:
        """The cache of the first `length` tokens; no memory is copied."""
        assert 0 <= length <= self.length, f"a prefix of {length} columns out of {self.length}"
        return dataclasses.replace(self, length=length)

    def grown(self, num_columns: int) -> KVCache:
        """A cache whose buffers have `num_columns` claimed after `length`, to be written with `write`."""
        if self._buffers.take(self.length, num_columns):
            return dataclasses.replace(self, length=self.length + num_columns)
        wanted = self.length + num_columns
        capacity = self._buffers.capacity
        if wanted > capacity:
            capacity = _round_up(max(wanted, capacity + capacity // 4))
        buffers = _Buffers(
            [_copied(tensor, self.length, capacity) for tensor in self._buffers.keys],
            [_copied(tensor, self.length, capacity) for tensor in self._buffers.values],
            used=wanted,
        )
        return KVCache(buffers, wanted, self.padding)

    def move_layer(self, layer: int, device: torch.device) -> None:
        """Keep one layer's keys and values on another device, as all values that share its memory then do."""
        if self._buffers.keys[layer].device != device:
            self._buffers.keys[layer] = self._buffers.keys[layer].to(device)
            self._buffers.values[layer] = self._buffers.values[layer].to(device)

    def write(self, layer: int, keys_BGLK: Tensor, values_BGLK: Tensor) -> None:
        """Fill the last L columns of one layer."""
        start = self.length - keys_BGLK.shape[2]
        self._buffers.keys[layer][:, :, start : self.length] = keys_BGLK
        self._buffers.values[layer][:, :, start : self.length] = values_BGLK

    def keys(self, layer: int) -> Tensor:
        """Keys after RoPE, (B, G, length, K)."""
        return self._buffers.keys[layer][:, :, : self.length]

    def values(self, layer: int) -> Tensor:
        """Values, (B, G, length, K)."""
        return self._buffers.values[layer][:, :, : self.length]

    def rows(self, indices: Sequence[int]) -> KVCache:
        """A cache of some rows (copied)."""
        index = torch.tensor(indices)  # on the CPU it serves every layer, wherever it is
        padding = None if self.padding is None else self.padding[index]
        with torch.inference_mode():
            keys = [tensor[index] for tensor in self._buffers.keys]
            values = [tensor[index] for tensor in self._buffers.values]
        return KVCache(_Buffers(keys, values, used=self.length), self.length, padding)

    def unpadded_row(self, index: int) -> KVCache:
        """The cache of one row alone, without its padding (copied)."""
        start = 0 if self.padding is None else int(self.padding[index])
        with torch.inference_mode():
            keys = [self.keys(layer)[index : index + 1, :, start:].clone() for layer in range(self.num_layers)]
            values = [self.values(layer)[index : index + 1, :, start:].clone() for layer in range(self.num_layers)]
        return KVCache(_Buffers(keys, values, used=self.length - start), self.length - start)


def join(caches: Sequence[KVCache], extra_columns: int = 0) -> KVCache:
    """One batch out of caches of different lengths, aligned at the right; room for `extra_columns` more."""
    lengths = [cache.length for cache in caches]
    longest = max(lengths)
    capacity = _round_up(longest + extra_columns)
    num_layers = caches[0].num_layers

    def aligned(parts: list[Tensor]) -> Tensor:
        first = parts[0]
        joined = first.new_zeros(sum(part.shape[0] for part in parts), first.shape[1], capacity, first.shape[3])
        row = 0
        for part in parts:
            joined[row : row + part.shape[0], :, longest - part.shape[2] : longest] = part
            row += part.shape[0]
        return joined

    with torch.inference_mode():
        keys = [aligned([cache.keys(layer) for cache in caches]) for layer in range(num_layers)]
        values = [aligned([cache.values(layer) for cache in caches]) for layer in range(num_layers)]
    device = keys[0].device
    paddings = [
        (torch.zeros(c.batch_size, dtype=torch.int64, device=device) if c.padding is None else c.padding)
        + (longest - c.length)
        for c in caches
    ]
    padding = torch.cat(paddings)
    return KVCache(_Buffers(keys, values, used=longest), longest, padding if bool(padding.any()) else None)


def _copied(tensor_BGSK: Tensor, length: int, capacity: int) -> Tensor:
    shape = (*tensor_BGSK.shape[:2], capacity, tensor_BGSK.shape[3])
    with torch.inference_mode():
        copy = tensor_BGSK.new_empty(shape)
        copy[:, :, :length] = tensor_BGSK[:, :, :length]
    return copy


def _round_up(columns: int) -> int:
    return -(-columns // _COLUMN_STEP) * _COLUMN_STEP

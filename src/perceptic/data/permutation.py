"""Random orders that are never written down: where the i-th of n things stands, as a function of (i, n, key).

A permutation of a hundred million rows, held by every reader for every data set, would be gigabytes. A Feistel network
over the next power of four is a permutation whatever its round function is; indices it puts beyond n are sent through
again until they land inside (Black and Rogaway 2002, "cycle walking").
"""

from __future__ import annotations

import functools
import hashlib

_NUM_ROUNDS = 6
_64_BITS = (1 << 64) - 1


def permuted(index: int, length: int, *key: int | str) -> int:
    """Which of `length` things comes at place `index` (from 0); every key is another order."""
    assert 0 <= index < length, "there is no such place"
    half_bits = max(1, ((length - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    while True:
        left, right = index >> half_bits, index & mask
        for round_key in _round_keys(key):
            left, right = right, left ^ (_scrambled(right ^ round_key) & mask)
        index = left << half_bits | right
        if index < length:
            return index


@functools.lru_cache(4096)
def _round_keys(key: tuple[int | str, ...]) -> tuple[int, ...]:
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8 * _NUM_ROUNDS).digest()
    return tuple(int.from_bytes(digest[i : i + 8], "little") for i in range(0, len(digest), 8))


def _scrambled(value: int) -> int:
    """The finaliser of splitmix64 (Steele et al. 2014)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return value ^ (value >> 31)

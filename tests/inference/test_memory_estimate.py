"""What the memory estimate assumes of inference is so."""

from __future__ import annotations

from perceptic.inference import prefill, prompts
from perceptic.weights import plm_memory


def test_as_much_at_once_as_inference_takes() -> None:
    assert plm_memory.CHUNKS_AT_ONCE == prompts._CHUNKS_AT_ONCE
    assert plm_memory.ROWS_AT_ONCE == prefill.ROWS_AT_ONCE

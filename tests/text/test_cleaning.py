"""Cleaning: the original's results on the goldens, and the shortcut for plain ASCII."""

from __future__ import annotations

import html
import json
from pathlib import Path

import ftfy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perceptic.errors import TextError
from perceptic.text.cleaning import clean


def _golden(goldens: Path, name: str) -> dict:
    return json.loads((goldens / "clip_tokenizer" / name).read_text(encoding="utf-8"))


def test_lower_equals_the_original_on_every_golden(goldens: Path) -> None:
    golden = _golden(goldens, "texts.json")
    assert len(golden["texts"]) == 365
    assert [clean(text) for text in golden["texts"]] == golden["cleaned"]


@pytest.mark.parametrize("mode", ["canonicalize", "whitespace"])
def test_other_modes_equal_the_original_on_every_golden(goldens: Path, mode: str) -> None:
    texts, golden = _golden(goldens, "texts.json")["texts"], _golden(goldens, "other_cleaners.json")
    assert [clean(text, mode) for text in texts] == golden[mode]["cleaned"]


def test_unknown_mode_names_the_known_ones() -> None:
    with pytest.raises(TextError, match="lower, whitespace, canonicalize"):
        clean("a cat", "upper")  # type: ignore[arg-type]


@settings(deadline=None, max_examples=500)
@given(st.text(st.characters(max_codepoint=0x7F)) | st.text(st.sampled_from("ab&;<>\x1b[0m\r\n\t\x0b\x1c\x7f'\"#39 ")))
@example("&amp;lt;")
@example("\x1b[36;44mblue\x1b[0m")
@example("a\x0bb\x1cc\r\nd\x7f")
def test_ascii_shortcut_changes_nothing(text: str) -> None:
    """Whatever the shortcut skips must have been without effect: compare with the whole repair."""
    repaired = html.unescape(html.unescape(ftfy.fix_text(text)))
    assert clean(text, "whitespace") == " ".join(repaired.split())


def test_every_printable_ascii_pair_survives_the_repair() -> None:
    """The premise of the shortcut, without chance: no two neighbours of plain ASCII trigger a repair."""
    plain = [chr(code) for code in range(32, 127) if chr(code) != "&"]
    text = "".join(left + right for left in plain for right in plain)
    assert html.unescape(html.unescape(ftfy.fix_text(text))) == text

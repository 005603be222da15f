"""Streamed pieces are the text, whole characters only, and end before a stop string."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.inference.text_stream import TextStream
from perceptic.text.llama_tokenizer import LlamaTokenizer

TOKENIZER = LlamaTokenizer.from_file(Path(__file__).parents[1] / "goldens/plm/tokenizer/tokenizer.model")


def run(ids: list[int], stop: tuple[str, ...] = ()) -> tuple[list[str], str | None]:
    stream = TextStream(TOKENIZER, stop)
    pieces = [stream.push(token) for token in ids]
    return [*pieces, stream.finish()], stream.stopped_by


@given(st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=40))
@settings(deadline=None)
def test_pieces_are_the_whole_text(ids: list[int]) -> None:
    pieces, stopped_by = run(ids)
    assert "".join(pieces) == TOKENIZER.decode(ids)
    assert stopped_by is None


@given(st.text(alphabet="ab€😀 ", max_size=30))
@settings(deadline=None)
def test_no_piece_cuts_a_character(text: str) -> None:
    pieces, _ = run(list(text.encode()))
    assert not any("�" in piece for piece in pieces)
    assert "".join(pieces) == text


@given(st.text(alphabet="abc", max_size=30), st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3))
@settings(deadline=None, max_examples=300)
def test_stop_strings(text: str, stop: list[str]) -> None:
    pieces, stopped_by = run(list(text.encode()), tuple(stop))
    found = [text.find(one) for one in stop if one in text]
    streamed = "".join(pieces)
    if not found:
        assert streamed == text
        assert stopped_by is None
    else:
        # The stream stops at the first stop string that is complete, and never shows any of it.
        ends = min(text.find(one) + len(one) for one in stop if one in text)
        assert stopped_by is not None
        assert text[:ends].endswith(stopped_by) or stopped_by in text[:ends]
        assert streamed == text[: text[:ends].find(stopped_by)]


def test_text_before_a_possible_stop_string_comes_at_once() -> None:
    stream = TextStream(TOKENIZER, ("STOP",))
    assert [stream.push(token) for token in b"a ST b"] == ["a", " ", "", "", "ST ", "b"]
    assert stream.finish() == ""

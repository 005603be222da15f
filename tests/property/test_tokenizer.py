"""Properties of the tokenizer on arbitrary text, alone and against open_clip's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.text.bpe_training import train_bpe
from perceptic.text.cleaning import CLEAN_MODES, clean
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.text.pieces import byte_symbols, make_splitter
from perceptic.text.vocabulary import installed_clip_merges

FRAGMENTS = [
    *("a cat", "Dog's", "IT'S", "they'ſ", "don’t", "'", "''s", "l'll", "2024", "½", "Ⅷ", "٣", "日本語", "한국"),
    *(
        "é",
        "e\u0301",
        "\u0345",
        "ß",
        "İ",
        "ΑΣ",
        "ﬆ",
        "ｆｕｌｌ",
        "😀",
        "👨‍👩‍👧",
        "schÃ¶n",
        "â€œx",
        "Ã©",
        "&amp;",
        "&amp;lt;",
    ),
    *("&#39;", "&#x1f600;", "&#xD800;", "&#837;", "&nbsp;", "&lt;end_of_text&gt;", "<start_of_text>", "<end_of_text>"),
    *("<END_OF_TEXT>", "<&#xFB06;art_of_text>", "<b>", "</w>", "_", "...", "!?", "--", "\x1b[1m", "\x00", "\x0b"),
    *("\x1c", "\x7f", "\x85", "\u200b", "\u2028", "\u3000", "\ufeff", "\ud83d", "\ude00", "\ufffd", "\n", "\r\n", "\t"),
    *(" ", "  ", "\u0378", "\u0558", "\U000323b0", "\U0003d000", "\U0010ffff"),
]

anything = st.text(st.characters(exclude_categories=())) | st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(
    "".join
)
texts = anything | st.lists(anything, max_size=4).map(" ".join)


@pytest.fixture(scope="module")
def small() -> ClipTokenizer:
    return train_bpe(["a small red circle above the large green square, isn't it?"], 540, context_length=16)


@settings(deadline=None, max_examples=400)
@given(text=texts)
def test_decoding_gives_back_the_cleaned_text(small: ClipTokenizer, text: str) -> None:
    """All but the spaces, which stand after every piece instead of between words."""
    cleaned = clean(text)
    decoded = small.decode(small.encode(text, allow_special=False))
    # One combining mark belongs to no piece, in the original too.
    expected = cleaned.replace("\u0345", "")
    assert "".join(decoded.split()) == "".join(expected.split())


@settings(deadline=None, max_examples=400)
@given(text=texts, length=st.integers(2, 40))
def test_every_row_is_well_formed(small: ClipTokenizer, text: str, length: int) -> None:
    row = small(text, length, allow_special=False)[0].tolist()
    end = row.index(small.end_id)
    assert len(row) == length
    assert row[0] == small.start_id
    assert all(0 <= token_id < small.start_id for token_id in row[1:end])
    assert set(row[end + 1 :]) <= {0}


@settings(deadline=None, max_examples=200)
@given(parts=st.lists(texts, max_size=6))
def test_a_batch_is_its_texts_and_the_cache_changes_nothing(small: ClipTokenizer, parts: list[str]) -> None:
    fresh = ClipTokenizer(small.merges, small.context_length)
    together = small(parts)
    assert [row.tolist() for row in together] == [fresh(text)[0].tolist() for text in parts]


@settings(deadline=None, max_examples=300)
@given(text=texts, mode=st.sampled_from(CLEAN_MODES))
def test_words_are_encoded_one_by_one(small: ClipTokenizer, text: str, mode: str) -> None:
    """Pieces never span whitespace: the premise of the word cache."""
    cleaned = clean(text, mode)
    pieces = [piece for piece, _ in make_splitter(special_tokens=False).pre_tokenize_str(cleaned)]
    splitter = make_splitter(special_tokens=False)
    by_word = [piece for word in cleaned.split(" ") for piece, _ in splitter.pre_tokenize_str(word)]
    assert pieces == by_word


@pytest.fixture(scope="module")
def peers() -> dict[str, tuple[ClipTokenizer, Any]]:
    path = installed_clip_merges()
    tokenizer = pytest.importorskip("open_clip.tokenizer")
    assert path is not None
    merges = ClipTokenizer.from_merges(path).merges
    return {
        mode: (ClipTokenizer(merges, clean=mode), tokenizer.SimpleTokenizer(context_length=32, clean=mode))
        for mode in CLEAN_MODES
    }


@pytest.mark.parity
@pytest.mark.parametrize("mode", CLEAN_MODES)
@settings(deadline=None, max_examples=1000)
@given(text=texts)
def test_ids_equal_open_clips(peers: dict[str, tuple[ClipTokenizer, Any]], mode: str, text: str) -> None:
    ours, theirs = peers[mode]
    ids = theirs.encode(text)
    assert ours.encode(text) == ids
    assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parity
@settings(deadline=None, max_examples=300)
@given(batch=st.lists(texts, min_size=1, max_size=5), length=st.integers(2, 40))
def test_rows_equal_open_clips(peers: dict[str, tuple[ClipTokenizer, Any]], batch: list[str], length: int) -> None:
    ours, theirs = peers["lower"]
    assert ours(batch, length).equal(theirs(batch, length))


def _reference_pieces() -> Callable[[str], list[str]]:
    regex = pytest.importorskip("regex")
    return regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE).findall


def _our_pieces(text: str) -> list[str]:
    to_byte = {ord(symbol): byte for byte, symbol in byte_symbols().items()}
    pieces = make_splitter(special_tokens=False).pre_tokenize_str(text)
    return [piece.translate(to_byte).encode("latin-1").decode() for piece, _ in pieces]


def _characters(last: int) -> list[str]:
    return [chr(code) for code in range(last + 1) if not 0xD800 <= code < 0xE000]


@pytest.mark.parity
@pytest.mark.parametrize("context", ["a{}!", "1{}a"])
def test_every_code_point_is_split_as_by_the_regex_package(context: str) -> None:
    """Letter, number, sign, space or neither: between "a" and "!" each falls into other pieces."""
    text = " ".join(context.format(character) for character in _characters(0x3FFFF))
    assert _our_pieces(text) == _reference_pieces()(text)


@pytest.mark.parity
@pytest.mark.parametrize("context", ["'{}x", "'l{}x", "'{}ex"])
def test_case_is_folded_in_suffixes_as_by_the_regex_package(context: str) -> None:
    """The long s counts as an s, ligatures do not count as their letters."""
    text = " ".join(context.format(character) for character in _characters(0x1FFFF))
    assert _our_pieces(text) == _reference_pieces()(text)

"""The Llama tokenizer gives the original's ids, and user text never becomes control tokens."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from perceptic.errors import TextError
from perceptic.text.llama_tokenizer import LlamaTokenizer, _slices
from perceptic.text.llama_vocabulary import LlamaVocabulary

GOLDENS = Path(__file__).parents[1] / "goldens"
RANK_FILE = GOLDENS / "plm" / "tokenizer" / "tokenizer.model"
TOKENIZER = LlamaTokenizer.from_file(RANK_FILE)
STRINGS = json.loads((GOLDENS / "plm" / "text" / "strings.json").read_text())


def test_special_ids() -> None:
    for name, token_id in STRINGS["special_tokens"].items():
        assert TOKENIZER.special_ids[name] == token_id
    assert TOKENIZER.special_ids["<|reserved_special_token_1|>"] == STRINGS["reserved_special_token_1"]
    assert TOKENIZER.special_ids["<|reserved_special_token_250|>"] == STRINGS["reserved_special_token_250"]
    assert TOKENIZER.vocab_size == STRINGS["n_words"]
    assert (TOKENIZER.bos_id, TOKENIZER.eos_id) == (STRINGS["bos_token_id"], STRINGS["eos_token_id"])
    assert TOKENIZER.image_id == STRINGS["image_token_id"]
    assert sorted(TOKENIZER.stop_ids) == sorted(STRINGS["stop_tokens"])


@pytest.mark.parametrize("case", STRINGS["cases"], ids=lambda case: repr(case["text"])[:30])
def test_ids(case: dict[str, object]) -> None:
    text = str(case["text"])
    assert TOKENIZER.encode(text, allow_special=True) == case["ids"]
    assert TOKENIZER.decode(TOKENIZER.encode(text, allow_special=True)) == case["decoded"]
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_both_file_formats_give_the_same_ids(tmp_path: Path) -> None:
    TOKENIZER.save_rank_file(tmp_path / "tokenizer.model")
    assert (tmp_path / "tokenizer.model").read_bytes() == RANK_FILE.read_bytes()
    TOKENIZER.save_tokenizer_json(tmp_path / "tokenizer.json")
    again = LlamaTokenizer.from_file(tmp_path / "tokenizer.json")
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert again.vocabulary.tokens == TOKENIZER.vocabulary.tokens
    assert again.special_ids["<|video|>"] == TOKENIZER.special_ids["<|reserved_special_token_1|>"]
    for case in STRINGS["cases"]:
        if case["text"] == "<|reserved_special_token_1|>":
            continue
        assert again.encode(case["text"], allow_special=True) == case["ids"]
        assert theirs.encode(case["text"], add_special_tokens=False).ids == case["ids"]
    assert theirs.encode("Hello").ids[0] == TOKENIZER.bos_id


def test_find_prefers_the_rank_file(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="has neither"):
        LlamaTokenizer.find(tmp_path)
    TOKENIZER.save_tokenizer_json(tmp_path / "tokenizer.json")
    assert "<|video|>" in LlamaTokenizer.find(tmp_path).special_ids
    TOKENIZER.save_rank_file(tmp_path / "tokenizer.model")
    assert "<|video|>" not in LlamaTokenizer.find(tmp_path).special_ids


@given(st.text(alphabet=st.characters(codec=None), max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_without_control_tokens(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert max(ids, default=0) < len(TOKENIZER.vocabulary.tokens)
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert TOKENIZER.decode(ids) == expected


@given(st.lists(st.sampled_from([*TOKENIZER.special_ids, "a", " ", "<|", "|>"]), max_size=8).map("".join))
@settings(max_examples=200, deadline=None)
def test_spelled_out_control_tokens_stay_text(text: str) -> None:
    assert max(TOKENIZER.encode(text), default=0) < len(TOKENIZER.vocabulary.tokens)
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_a_long_run_is_merged() -> None:
    text = " the" * 50_000 + "x" * 200_000  # a quadratic merge would need hours for the second part
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_very_long_texts_are_cut_where_the_original_cuts() -> None:
    run = 250_000
    assert [len(part) for part in _slices("a" * (2 * run + 5))] == [run, run, 5]
    assert [len(part) for part in _slices(("a" * (run - 1) + " ") * 3)] == [3 * run]
    assert [len(part) for part in _slices("a " * 2_100_000)] == [4_000_000, 200_000]
    assert [len(part) for part in _slices("a" * 10 + " " * (run + 1))] == [10 + run, 1]


def test_pickled_tokenizer_is_the_same() -> None:
    again = pickle.loads(pickle.dumps(TOKENIZER))  # noqa: S301 (our own bytes)
    assert again.encode("What is happening?") == TOKENIZER.encode("What is happening?")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.model", b"", "lacks the byte"),
        ("a.model", b"!!! 0\n", "line 1"),
        ("a.model", b"YQ== 1\n", "rank 0"),
        ("a.model", b"YQ==\n", "line 1"),
        ("a.model", b"YQ== 0\nYQ== 1\n", "twice"),
        ("a.json", b"{}", "not a tokenizer.json"),
        ("a.json", b"[1", "not a tokenizer.json"),
        ("a.json", b'{"model": {"vocab": {"a": 0}}, "added_tokens": []}', "special tokens"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError, match=message):
        LlamaTokenizer.from_file(tmp_path / name)


def test_missing_file_and_wrong_types(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="cannot be read"):
        LlamaTokenizer.from_file(tmp_path / "none.model")
    with pytest.raises(TextError, match="must be a string"):
        TOKENIZER.encode(b"bytes")  # type: ignore[arg-type]
    with pytest.raises(TextError, match="outside the vocabulary"):
        TOKENIZER.decode([TOKENIZER.vocab_size])
    with pytest.raises(TextError, match="no special token"):
        LlamaTokenizer(LlamaVocabulary(TOKENIZER.vocabulary.tokens, ("<|begin_of_text|>",)))

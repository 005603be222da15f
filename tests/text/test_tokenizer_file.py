"""tokenizer.json: ours and CLIP's layout from Hugging Face, whole and damaged."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from perceptic.errors import OutputError, TextError
from perceptic.text.bpe_training import train_bpe
from perceptic.text.cleaning import CLEAN_MODES, clean
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.text.vocabulary import build_vocabulary

TEXTS = [
    "a red circle above the green square.",
    "It's 2024: the cat's café, 日本語 😀",
    "snake_case <b>!?</b>",
    "",
    "x" * 99,
]


@pytest.fixture(scope="module")
def small() -> ClipTokenizer:
    return train_bpe(TEXTS[:3], 540, context_length=12)


@pytest.mark.parametrize("mode", CLEAN_MODES)
@pytest.mark.parametrize("length", [2, 12, 77])
def test_saved_and_read_again_is_the_same(small: ClipTokenizer, tmp_path: Path, mode: str, length: int) -> None:
    tokenizer = ClipTokenizer(small.merges, length, mode)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = ClipTokenizer.from_file(tmp_path / "tokenizer.json")
    assert (again.merges, again.context_length, again.clean) == (small.merges, length, mode)
    assert again(TEXTS).equal(tokenizer(TEXTS))
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_context_length_can_be_overridden(small: ClipTokenizer, tmp_path: Path) -> None:
    small.save(tmp_path / "tokenizer.json")
    assert ClipTokenizer.from_file(tmp_path / "tokenizer.json", context_length=5)("a red circle").shape == (1, 5)
    with pytest.raises(TextError, match="at least 2"):
        ClipTokenizer.from_file(tmp_path / "tokenizer.json", context_length=0)


@pytest.mark.parametrize("mode", CLEAN_MODES)
def test_hugging_face_tokenizers_reads_it_and_agrees(small: ClipTokenizer, tmp_path: Path, mode: str) -> None:
    tokenizer = ClipTokenizer(small.merges, 12, mode)
    tokenizer.save(tmp_path / "tokenizer.json")
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in TEXTS:  # nothing here needs ftfy, so its normaliser does the whole cleaning
        assert theirs.encode(text).ids == tokenizer(text)[0].tolist()
        ids = tokenizer.encode(text)
        assert theirs.decode(ids) == tokenizer.decode(ids)


def test_hugging_face_tokenizers_knows_the_special_tokens(small: ClipTokenizer, tmp_path: Path) -> None:
    small.save(tmp_path / "tokenizer.json")
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode("a <end_of_text> b").ids == small("a <end_of_text> b")[0].tolist()


def _clip_as_published(merges: list[tuple[str, str]] | tuple[tuple[str, str], ...], folder: Path) -> Path:
    """The layout of OpenAI's CLIP on the hub: other names for the special tokens, other splitting, no ftfy."""
    vocabulary = build_vocabulary(merges)
    start, end = vocabulary.pop("<start_of_text>"), vocabulary.pop("<end_of_text>")
    vocabulary |= {"<|startoftext|>": start, "<|endoftext|>": end}
    bpe = models.BPE(vocabulary, list(merges), end_of_word_suffix="</w>", unk_token="<|endoftext|>", fuse_unk=False)
    tokenizer = Tokenizer(bpe)
    replace = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), replace, normalizers.Lowercase()])
    pattern = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.add_special_tokens([AddedToken("<|startoftext|>"), AddedToken("<|endoftext|>")])
    path = folder / "tokenizer.json"
    document = json.loads(tokenizer.to_str())
    document["model"]["merges"] = [" ".join(pair) for pair in merges]  # as written before tokenizers 0.20
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_clip_file_from_hugging_face_gives_the_originals_behaviour(small: ClipTokenizer, tmp_path: Path) -> None:
    tokenizer = ClipTokenizer.from_file(_clip_as_published(small.merges, tmp_path))
    assert (tokenizer.merges, tokenizer.context_length, tokenizer.clean) == (small.merges, 32, "lower")
    for text in [*TEXTS, "schÃ¶n &amp;amp; it’s <|endoftext|> <end_of_text>"]:
        assert tokenizer.encode(text) == small.encode(text)


def _damaged(document: dict[str, Any], **changes: Any) -> str:
    return json.dumps({**document, "model": {**document["model"], **changes}})


DAMAGE = {
    "not json": (lambda d: json.dumps(d)[:500], "is not JSON"),
    "binary": (lambda d: "\x00\x01", "is not JSON"),
    "empty": (lambda d: "", "is not JSON"),
    "deep": (lambda d: "[" * 100_000, "is not JSON"),
    "a list": (lambda d: "[]", "expected an object"),
    "no model": (lambda d: "{}", "expected a BPE model"),
    "word piece": (lambda d: _damaged(d, end_of_word_suffix=None), "expected a BPE model"),
    "merges are a number": (lambda d: _damaged(d, merges=7), "no list of merges"),
    "a merge of three": (lambda d: _damaged(d, merges=[["a", "b", "c"]]), "merge number 0"),
    "a merge of numbers": (lambda d: _damaged(d, merges=[[1, 2]]), "merge number 0"),
    "a merge lost": (lambda d: _damaged(d, merges=d["model"]["merges"][1:]), "merge number|has id"),
    "merges out of order": (lambda d: _damaged(d, merges=d["model"]["merges"][::-1]), "merge number|has id"),
    "no vocabulary": (lambda d: _damaged(d, vocab=None), "no vocabulary"),
    "an id moved": (lambda d: _damaged(d, vocab={**d["model"]["vocab"], "a": 7}), "'a' has id 7"),
    "a symbol lost": (lambda d: _damaged(d, vocab={}), "has id None"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_are_named_and_refused(small: ClipTokenizer, tmp_path: Path, name: str) -> None:
    path = tmp_path / "tokenizer.json"
    small.save(path)
    damage, message = DAMAGE[name]
    path.write_text(damage(json.loads(path.read_bytes())), encoding="utf-8")
    with pytest.raises(TextError, match=message) as caught:
        ClipTokenizer.from_file(path)
    assert str(path) in str(caught.value)


def test_mutated_files_are_read_or_refused_never_a_crash(small: ClipTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    small.save(path)
    whole = path.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            ClipTokenizer.from_file(path)
        except TextError:
            refused += 1
    assert refused > 150


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"nothing\.json: the tokenizer cannot be read"):
        ClipTokenizer.from_file(tmp_path / "nothing.json")
    with pytest.raises(TextError, match="cannot be read"):
        ClipTokenizer.from_file(tmp_path)


def test_a_file_that_cannot_be_written(small: ClipTokenizer, tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        small.save(tmp_path)


def test_canonical_punctuation_is_all_of_ascii(small: ClipTokenizer, tmp_path: Path) -> None:
    """The normaliser written for `canonicalize` deletes the same signs as our cleaning."""
    tokenizer = ClipTokenizer(small.merges, 12, "canonicalize")
    tokenizer.save(tmp_path / "tokenizer.json")
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "A" + "".join(chr(code) for code in range(32, 127)).replace("&", "") + "B"
    assert theirs.normalizer.normalize_str(text) == clean(text, "canonicalize")

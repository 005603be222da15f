"""The tokenizer: the original's ids on the goldens; rows, special tokens and errors on a small trained one."""

from __future__ import annotations

import copy
import json
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from perceptic.errors import TextError
from perceptic.text.bpe_training import train_bpe
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.text.vocabulary import installed_clip_merges

CAPTIONS = ["a red circle above the green square.", "Two small cats; one's asleep!", "café 日本語 😀", ""]


@pytest.fixture(scope="module")
def small() -> ClipTokenizer:
    return train_bpe(CAPTIONS[:2] * 3, 530, context_length=16)


@pytest.fixture(scope="module")
def clip() -> ClipTokenizer:
    path = installed_clip_merges()
    if path is None:
        pytest.skip("CLIP's vocabulary is not installed (open_clip_torch)")
    return ClipTokenizer.from_merges(path)


@pytest.fixture(scope="module")
def golden(goldens: Path) -> dict:
    return json.loads((goldens / "clip_tokenizer" / "texts.json").read_text(encoding="utf-8"))


def test_vocabulary_is_clips(clip: ClipTokenizer) -> None:
    assert (clip.vocab_size, clip.start_id, clip.end_id, clip.context_length) == (49408, 49406, 49407, 32)


def test_ids_and_decoded_text_equal_the_originals(clip: ClipTokenizer, golden: dict) -> None:
    assert [clip.encode(text) for text in golden["texts"]] == golden["tokens"]
    assert [clip.decode(ids) for ids in golden["tokens"]] == golden["decoded"]


@pytest.mark.parametrize(("key", "length"), [("ids_32", None), ("ids_72", 72), ("ids_32_override_16", 16)])
def test_rows_equal_the_originals(
    clip: ClipTokenizer, golden: dict, goldens: Path, key: str, length: int | None
) -> None:
    expected = np.load(goldens / "clip_tokenizer" / "ids.npz")[key]
    rows = clip(golden["texts"], length)
    assert rows.dtype == torch.int64
    np.testing.assert_array_equal(rows.numpy(), expected)


def test_canonicalize_ids_equal_the_originals(clip: ClipTokenizer, golden: dict, goldens: Path) -> None:
    expected = json.loads((goldens / "clip_tokenizer" / "other_cleaners.json").read_text(encoding="utf-8"))
    tokenizer = ClipTokenizer(clip.merges, clean="canonicalize")
    assert [tokenizer.encode(text) for text in golden["texts"]] == expected["canonicalize"]["tokens"]


def test_ids_of_the_specification(clip: ClipTokenizer) -> None:
    assert clip.encode("Hello,   World! it's 2024's") == [3306, 267, 1002, 256, 585, 568, 273, 271, 273, 275, 568]
    assert clip.encode("schÃ¶n") == [844, 7255, 333]
    assert clip.encode("<start_of_text> hi <end_of_text> there") == [49406, 1883, 49407, 997]


def test_row_is_start_pieces_end_padding(small: ClipTokenizer) -> None:
    ids = small.encode("a red")
    assert small("a red").tolist() == [[small.start_id, *ids, small.end_id, *[0] * (14 - len(ids))]]
    assert small("").tolist() == [[small.start_id, small.end_id, *[0] * 14]]


@pytest.mark.parametrize("length", [2, 3, 7, 200])
def test_a_text_that_is_too_long_ends_with_the_end(small: ClipTokenizer, length: int) -> None:
    whole = [small.start_id, *small.encode(CAPTIONS[1]), small.end_id]
    row = small(CAPTIONS[1], length)[0].tolist()
    if length < len(whole):
        assert row == [*whole[: length - 1], small.end_id]
    else:
        assert row == whole + [0] * (length - len(whole))


def test_batches(small: ClipTokenizer) -> None:
    rows = small(CAPTIONS)
    assert rows.shape == (4, 16)
    assert all(small(text)[0].equal(row) for text, row in zip(CAPTIONS, rows, strict=True))
    assert small(tuple(CAPTIONS)).equal(rows)
    assert small(np.array(CAPTIONS)).equal(rows)
    assert small([]).shape == (0, 16)


def test_a_call_does_not_change_the_tokenizer(small: ClipTokenizer) -> None:
    before = small("a red circle")
    small("a red circle", 5)
    small("a red circle", allow_special=False)
    assert small.context_length == 16
    assert small("a red circle").equal(before)


def test_special_tokens_written_in_a_text(small: ClipTokenizer) -> None:
    start, end = small.start_id, small.end_id
    assert small.encode("a<end_of_text>b") == [*small.encode("a"), end, *small.encode("b")]
    assert small.encode("<START_of_text> <End_Of_Text>") == [start, end]
    # The scan reaches the '<' inside a run of signs: then it is one more sign.
    assert end not in small.encode("!<end_of_text>")
    assert end not in small.encode("<end_of_text")


def test_special_tokens_can_be_kept_out(small: ClipTokenizer) -> None:
    for text in ("<end_of_text>", "a <START_OF_TEXT> b", "<start_of_text><end_of_text>"):
        assert max(small.encode(text, allow_special=False)) < small.start_id
        assert small.decode(small.encode(text, allow_special=False)).replace(" ", "") == text.lower().replace(" ", "")
    rows = small(["a <end_of_text> b"], allow_special=False)
    assert (rows == small.end_id).sum() == 1


def test_upper_case_special_tokens_are_text_where_the_case_is_kept(small: ClipTokenizer) -> None:
    tokenizer = ClipTokenizer(small.merges, clean="whitespace")
    assert tokenizer.encode("<END_OF_TEXT>")[-1] != tokenizer.end_id
    assert tokenizer.encode("<end_of_text>") == [tokenizer.end_id]


def test_decode_accepts_tensors_and_replaces_broken_utf8(small: ClipTokenizer) -> None:
    assert small.decode(small("a red")[0, :1]) == "<start_of_text>"
    assert small.decode(torch.tensor([[*small.encode("a red")]])) == "a red "
    half_of_a_character = small.encode("é")[:1]
    assert small.decode(half_of_a_character) == "�"
    assert small.decode([]) == ""


@pytest.mark.parametrize("token_id", [-1, 530])
def test_decode_refuses_ids_outside_the_vocabulary(small: ClipTokenizer, token_id: int) -> None:
    with pytest.raises(TextError, match=f"id {token_id} is outside the vocabulary of 530"):
        small.decode([1, token_id])


@pytest.mark.parametrize("reduction", ["block", "subset", "shuffle"])
def test_random_reductions_choose_among_the_ids(small: ClipTokenizer, reduction: str) -> None:
    whole = small.encode(CAPTIONS[1])
    rows = {tuple(small(CAPTIONS[1], 6, reduction=reduction, rng=random.Random(s))[0].tolist()) for s in range(30)}
    assert len(rows) > 3, "the part that is kept changes with the seed"
    for start, *kept, end in rows:
        assert (start, end) == (small.start_id, small.end_id)
        assert len(kept) == 4
        assert set(kept) <= set(whole)


def test_very_long_words_and_texts(small: ClipTokenizer) -> None:
    long_word = "ab" * 20_000
    assert small.decode(small.encode(long_word)) == long_word + " "
    assert small(long_word)[0, -1] == small.end_id
    assert len(small.encode("a " * 5_000)) == 5_000


def test_more_distinct_words_than_the_cache_holds(small: ClipTokenizer) -> None:
    words = [f"w{number:x}" for number in range(70_000)]
    ids = small.encode(" ".join(words))
    assert small.encode(" ".join(words[:100])) == ids[: len(small.encode(" ".join(words[:100])))]


def test_copies_behave_the_same(small: ClipTokenizer) -> None:
    for twin in (pickle.loads(pickle.dumps(small)), copy.deepcopy(small)):  # noqa: S301 - our own bytes
        assert (twin.vocab_size, twin.context_length, twin.clean) == (530, 16, "lower")
        assert twin(CAPTIONS).equal(small(CAPTIONS))


def test_threads_share_one_tokenizer(small: ClipTokenizer) -> None:
    texts = [f"{caption} {number}" for number in range(200) for caption in CAPTIONS]
    expected = ClipTokenizer(small.merges, 16)(texts)
    fresh = ClipTokenizer(small.merges, 16)
    with ThreadPoolExecutor(8) as pool:
        for rows in pool.map(lambda _: fresh(texts), range(16)):
            assert rows.equal(expected)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (3, "a string or a sequence of strings, not int"),
        (None, "not NoneType"),
        ([b"a cat"], r"texts\[0\] must be a string, not bytes"),
        (["a cat", None], r"texts\[1\] must be a string, not NoneType"),
        ([["a", "cat"]], r"texts\[0\] must be a string, not list"),
    ],
)
def test_things_that_are_no_text_are_refused(small: ClipTokenizer, texts: object, message: str) -> None:
    with pytest.raises(TextError, match=message):
        small(texts)  # type: ignore[arg-type]


def test_encode_refuses_what_is_no_string(small: ClipTokenizer) -> None:
    with pytest.raises(TextError, match="must be a string, not list"):
        small.encode(["a cat"])  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [1, 0, -5, 7.5, "16", True])
def test_impossible_context_lengths_are_refused(small: ClipTokenizer, length: object) -> None:
    with pytest.raises(TextError, match="at least 2"):
        small("a cat", length)  # type: ignore[arg-type]
    with pytest.raises(TextError, match="at least 2"):
        ClipTokenizer(small.merges, length)  # type: ignore[arg-type]


def test_unknown_cleaning_mode_is_refused(small: ClipTokenizer) -> None:
    with pytest.raises(TextError, match="lower, whitespace, canonicalize"):
        ClipTokenizer(small.merges, clean="upper")  # type: ignore[arg-type]


@pytest.mark.parametrize("merges", [[("a", "bb")], [("a", "b"), ("a", "b")], [("ab", "c"), ("a", "b")]])
def test_merges_that_do_not_build_on_one_another_are_refused(merges: list[tuple[str, str]]) -> None:
    with pytest.raises(TextError, match="merge number"):
        ClipTokenizer(merges)


def test_another_context_length_keeps_the_vocabulary(small: ClipTokenizer) -> None:
    longer = small.with_context_length(20)
    assert longer.same_vocabulary(small)
    assert longer(CAPTIONS[0]).shape == (1, 20)
    assert not train_bpe(CAPTIONS[:2] * 3, 529, context_length=16).same_vocabulary(small)

"""Learning merges: by hand on a tiny corpus, against a naive recount, and what every such vocabulary promises."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from perceptic.errors import TextError
from perceptic.text.bpe_training import train_bpe
from perceptic.text.clip_tokenizer import ClipTokenizer

NUM_FIXED = 514


def _corpus(count: int = 400) -> list[str]:
    rng = random.Random(3)
    sizes, colours = ["small", "large", "tiny"], ["red", "green", "yellow", "magenta", "cyan"]
    shapes, places = ["circle", "square", "triangle", "crescent"], ["above", "below", "left of"]
    return [
        f"A {rng.choice(sizes)} {rng.choice(colours)} {rng.choice(shapes)} {rng.choice(places)} "
        f"the {rng.choice(colours)} {rng.choice(shapes)}, {rng.randint(1, 9)} in all."
        for _ in range(count)
    ]


def test_merges_of_a_corpus_worked_by_hand() -> None:
    # Pairs of "low" x3, "lower" x2: (l,o) 5, then (lo,w</w>) 3, (lo,w) 2, (e,r</w>) 2, (w,e) 2.
    tokenizer = train_bpe(["low low low lower lower"], NUM_FIXED + 3)
    assert tokenizer.merges == (("l", "o"), ("lo", "w</w>"), ("e", "r</w>"))
    assert tokenizer.encode("low") == [513]
    assert tokenizer.encode("lower") == [512, ord("w") - 33, 514]


def test_equals_a_naive_trainer_that_recounts_everything() -> None:
    corpus = _corpus()
    tokenizer = train_bpe(corpus, NUM_FIXED + 60)
    words = Counter(word for text in corpus for word in text.lower().replace(",", " ,").replace(".", " .").split())
    pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    for merge in tokenizer.merges:
        counts: Counter[tuple[str, str]] = Counter()
        for word, symbols in pieces.items():
            for pair in pairwise(symbols):
                counts[pair] += words[word]
        assert merge == min(counts, key=lambda pair: (-counts[pair], pair))
        for word, symbols in pieces.items():
            pieces[word] = _merge_by_text(symbols, merge)


def _merge_by_text(symbols: list[str], merge: tuple[str, str]) -> list[str]:
    joined = " " + "  ".join(symbols) + " "
    return joined.replace(f" {merge[0]}  {merge[1]} ", f" {merge[0]}{merge[1]} ").split()


@pytest.mark.parametrize("vocab_size", [NUM_FIXED, 560, 570])
def test_layout_of_the_ids(vocab_size: int) -> None:
    tokenizer = train_bpe(_corpus(), vocab_size, context_length=24)
    assert (tokenizer.vocab_size, tokenizer.context_length) == (vocab_size, 24)
    assert (tokenizer.start_id, tokenizer.end_id) == (vocab_size - 2, vocab_size - 1)
    rows = tokenizer(_corpus(50))
    assert rows.max() == tokenizer.end_id, "the text tower finds the end as the largest id"
    assert (rows == tokenizer.end_id).sum(dim=1).tolist() == [1] * 50


def test_more_merges_give_shorter_sequences() -> None:
    text = _corpus(1)[0]
    lengths = [len(train_bpe(_corpus(), size).encode(text)) for size in (NUM_FIXED, 550, 570)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 2 * lengths[-1]


def test_any_text_is_encoded_without_loss() -> None:
    tokenizer = train_bpe(_corpus(), 570)
    for text in ["naïve 日本語 😀", "<b>!?</b> 100%", "zebra"]:
        assert tokenizer.decode(tokenizer.encode(text)).replace(" ", "") == text.replace(" ", "")


def test_order_of_the_texts_does_not_matter(tmp_path: Path) -> None:
    corpus = _corpus()
    train_bpe(corpus, 570).save(tmp_path / "forward.json")
    train_bpe(corpus[::-1], 570).save(tmp_path / "backward.json")
    assert (tmp_path / "forward.json").read_bytes() == (tmp_path / "backward.json").read_bytes()


def test_same_file_whatever_the_hash_seed(tmp_path: Path) -> None:
    program = (
        "import sys; from perceptic.text.bpe_training import train_bpe; "
        "train_bpe(['tea eat ate tae eta aet'] * 2 + ['stop post spot tops'] * 2, 530).save(sys.argv[1])"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", program, str(tmp_path / f"{seed}.json")]
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": seed})
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()


def test_pairs_that_make_an_existing_symbol_again_are_passed_over() -> None:
    # "abc" can come from ab+c and from a+bc; one symbol has one id.
    corpus = ["abc abd xbc"] * 5 + ["abce bcf abcg"] * 7
    largest = _largest_size(corpus)
    tokenizer = train_bpe(corpus, largest)
    made = ["".join(merge) for merge in tokenizer.merges]
    assert len(set(made)) == len(made)


def _largest_size(corpus: list[str]) -> int:
    with pytest.raises(TextError, match="at most") as caught:
        train_bpe(corpus, 10_000)
    return int(str(caught.value).split("at most ")[1].split(",")[0])


def test_a_corpus_too_small_names_the_size_it_supports() -> None:
    largest = _largest_size(["a cat"])
    assert largest == NUM_FIXED + 2
    assert isinstance(train_bpe(["a cat"], largest), ClipTokenizer)
    with pytest.raises(TextError, match=f"at most {largest}"):
        train_bpe(["a cat"], largest + 1)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TextError, match="at least 514"):
        train_bpe(["a cat"], 513)
    with pytest.raises(TextError, match=r"texts\[1\] must be a string, not bytes"):
        train_bpe(["a", b"b"], 514)  # type: ignore[list-item]

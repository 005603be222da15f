"""Learning ranks: by hand on a tiny corpus, against a naive recount, and what every such vocabulary promises."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from perceptic.configs_plm import default_image_token_id
from perceptic.errors import TextError
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.rank_bpe_training import train_rank_bpe

NUM_FIXED = 512


def _corpus(count: int = 400) -> list[str]:
    rng = random.Random(3)
    colours, shapes = ["red", "green", "yellow", "magenta", "cyan"], ["circle", "square", "triangle", "crescent"]
    return [
        f"A {rng.choice(colours)} {rng.choice(shapes)} above the {rng.choice(shapes)}: {rng.randint(100, 999)} in all."
        for _ in range(count)
    ]


LEARNED = train_rank_bpe(_corpus(), NUM_FIXED + 40)


def test_ranks_of_a_corpus_worked_by_hand() -> None:
    # "low" x2 and " low" x1, "er" x2: (l,o) 3, then (lo,w) 3, then (e,r) 2, then ( ,low) 1.
    tokenizer = train_rank_bpe(["low low", "low\ner", "er"], NUM_FIXED + 4)
    assert tokenizer.vocabulary.tokens[256:] == (b"lo", b"low", b"er", b" low")
    assert tokenizer.encode("lower") == [257, 258]


def test_equals_a_naive_trainer_that_recounts_everything() -> None:
    words = Counter(piece for text in _corpus() for piece in re.findall(r" ?[A-Za-z]+|[ \d]|[.:]", text))
    pieces = {word: list(word) for word in words}
    for token in LEARNED.vocabulary.tokens[256:]:
        counts: Counter[tuple[str, str]] = Counter()
        for word, symbols in pieces.items():
            for pair in pairwise(symbols):
                counts[pair] += words[word]
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        assert token == "".join(best).encode()
        for word, symbols in pieces.items():
            joined = " \0".join(["", *symbols, ""]).replace(f"\0{best[0]} \0{best[1]} ", f"\0{best[0]}{best[1]} ")
            pieces[word] = [symbol.removesuffix(" ") for symbol in joined.split("\0")[1:-1]]


def test_the_order_of_the_texts_does_not_matter() -> None:
    shuffled = _corpus()
    random.Random(8).shuffle(shuffled)
    assert train_rank_bpe(shuffled, NUM_FIXED + 40).vocabulary == LEARNED.vocabulary


def test_special_tokens_stand_where_a_model_expects_them() -> None:
    assert LEARNED.vocab_size == NUM_FIXED + 40
    assert LEARNED.image_id == default_image_token_id(LEARNED.vocab_size)
    assert (LEARNED.bos_id, LEARNED.eos_id, LEARNED.eot_id) == (296, 297, 305)


def test_bytes_come_first_and_later_tokens_join_earlier_ones() -> None:
    tokens = LEARNED.vocabulary.tokens
    assert tokens[:256] == tuple(bytes([byte]) for byte in range(256))
    for rank in range(256, len(tokens)):
        earlier = set(tokens[:rank])
        assert any(tokens[rank][:at] in earlier and tokens[rank][at:] in earlier for at in range(1, len(tokens[rank])))


def test_numbers_are_their_digits() -> None:
    assert LEARNED.encode("731") == [ord("7"), ord("3"), ord("1")]
    assert not [token for token in LEARNED.vocabulary.tokens[256:] if re.search(rb"\d", token)]


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_every_text_survives(text: str) -> None:
    assert LEARNED.decode(LEARNED.encode(text)) == text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=6))
def test_whatever_the_corpus_the_vocabulary_is_sound(texts: list[str]) -> None:
    tokenizer = train_rank_bpe([*texts, "a b c ab abc"], NUM_FIXED + 2)
    assert all(tokenizer.decode(tokenizer.encode(text)) == text for text in texts)


def test_files_of_both_formats_read_back(tmp_path: Path) -> None:
    LEARNED.save_rank_file(tmp_path / "tokenizer.model")
    LEARNED.save_tokenizer_json(tmp_path / "tokenizer.json")
    text = "A magenta square above the crescent: 512 in all. Größe?"
    assert LlamaTokenizer.from_file(tmp_path / "tokenizer.model").vocabulary == LEARNED.vocabulary
    assert LlamaTokenizer.from_file(tmp_path / "tokenizer.json").encode(text) == LEARNED.encode(text)
    peer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert peer.encode(text, add_special_tokens=False).ids == LEARNED.encode(text)


def test_what_cannot_be_learned_is_said() -> None:
    with pytest.raises(TextError, match="at most 514, not 600"):
        train_rank_bpe(["ab ab"], 600)
    with pytest.raises(TextError, match="at least 512"):
        train_rank_bpe(["ab"], 511)
    with pytest.raises(TextError, match=r"texts\[1\] must be a string, not int"):
        train_rank_bpe(["ab", 3], 513)  # type: ignore[list-item]
    with pytest.raises(TextError, match=r"texts\[0\] has half a surrogate pair at 1"):
        train_rank_bpe(["a\ud800"], 513)

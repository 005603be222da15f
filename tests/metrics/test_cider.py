"""CIDEr."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.errors import DataError
from perceptic.metrics import caption_tokens, cider_scores

FEW = settings(max_examples=60, deadline=None)
CAPTION = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=7).map(" ".join)


@pytest.mark.parametrize(
    ("captions", "references", "wanted", "mean"),
    [
        (
            ["a cat sits", "two dogs"],
            [["a cat sits", "a cat is sitting"], ["two dogs run"]],
            [4.965005, 3.756471],
            4.360738,
        ),
        (
            ["a man rides a horse", "a red bus stops"],
            [["a man rides a horse", "a person on a horse"], ["a red bus stops here", "the bus is red"]],
            [5.729167, 4.735124],
            5.232146,
        ),
    ],
)
def test_the_spec_s_examples(
    captions: list[str], references: list[list[str]], wanted: list[float], mean: float
) -> None:
    scores = cider_scores(captions, references, tokenize=str.split)
    assert scores == pytest.approx(wanted, abs=1e-6)
    assert scores.mean() == pytest.approx(mean, abs=1e-6)


def test_the_reference_itself_scores_ten() -> None:
    texts = ["a man rides the brown horse", "two red buses stop right here", "some cats sleep under my bed"]
    assert cider_scores(texts, [[text] for text in texts]) == pytest.approx([10, 10, 10])
    assert cider_scores(texts[1:] + texts[:1], [[text] for text in texts]) == pytest.approx([0, 0, 0])


def naive_cider(captions: list[str], references: list[list[str]]) -> list[float]:
    """Straight from the formula, one order of n-grams and one reference at a time."""

    def count(text: str, n: int) -> Counter[str]:
        words = text.split()
        return Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))

    def weight(ngram: str, n: int) -> float:
        seen_in = sum(any(ngram in count(text, n) for text in texts) for texts in references)
        return math.log(len(references)) - math.log(max(1, seen_in))

    def similarity(caption: str, reference: str, n: int) -> float:
        mine = {g: c * weight(g, n) for g, c in count(caption, n).items()}
        theirs = {g: c * weight(g, n) for g, c in count(reference, n).items()}
        norms = math.sqrt(sum(v * v for v in mine.values())) * math.sqrt(sum(v * v for v in theirs.values()))
        dot = sum(min(mine[g], theirs[g]) * theirs[g] for g in mine if g in theirs)
        difference = sum(count(caption, 2).values()) - sum(count(reference, 2).values())
        return dot / norms * math.exp(-(difference**2) / 72) if norms else 0.0

    return [
        10 * sum(similarity(caption, text, n) for text in texts for n in (1, 2, 3, 4)) / 4 / len(texts)
        for caption, texts in zip(captions, references, strict=True)
    ]


@FEW
@given(st.lists(st.tuples(CAPTION, st.lists(CAPTION, min_size=1, max_size=3)), min_size=2, max_size=5))
def test_agrees_with_the_formula(rows: list[tuple[str, list[str]]]) -> None:
    captions, references = (list(column) for column in zip(*rows, strict=True))
    scores = cider_scores(captions, references)
    assert scores == pytest.approx(naive_cider(captions, references), abs=1e-9)
    assert ((scores >= 0) & (scores <= 10 + 1e-9)).all()
    assert scores[::-1] == pytest.approx(cider_scores(captions[::-1], references[::-1]))


def test_captions_of_other_pictures_score_near_nothing() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(60)]
    texts = [" ".join(rng.choice(words, 8)) for _ in range(100)]
    own = cider_scores(texts, [[text] for text in texts]).mean()
    other = cider_scores(np.roll(texts, 1).tolist(), [[text] for text in texts]).mean()
    assert own == pytest.approx(10)
    assert other < 1


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man, riding a horse.", "a man riding a horse"),
        ("It's a dog!", "it 's a dog"),
        ("They don't cannot", "they do n't can not"),
        ("a t-shirt (black/white)", "a t-shirt black/white"),
        ("3.5 of 1,000 at 10:30 in 3d", "3.5 of 1,000 at 10:30 in 3d"),
        ("the U.S. flag...", "the u.s. flag"),
        ('"stop" - it says', "stop it says"),
        ("", ""),
    ],
)
def test_tokens(caption: str, tokens: str) -> None:
    assert caption_tokens(caption) == tokens.split()


def test_an_empty_caption_scores_nothing() -> None:
    assert cider_scores(["", "a dog"], [["a cat"], ["a dog"]])[0] == 0


def test_what_has_no_cider() -> None:
    with pytest.raises(DataError, match="at least one sample"):
        cider_scores([], [])
    with pytest.raises(DataError, match="at least two pictures"):
        cider_scores(["a"], [["a"]])
    with pytest.raises(DataError, match=r"references\[1\]: expected a list of at least one text"):
        cider_scores(["a", "b"], [["a"], []])
    with pytest.raises(DataError, match=r"references\[0\]: expected a list of at least one text, got 'ab'"):
        cider_scores(["a", "b"], ["ab", "b"])

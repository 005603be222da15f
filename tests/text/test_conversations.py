"""Training conversations give the original's ids, response positions and cuts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perceptic.errors import TextError
from perceptic.text.conversations import MediaTokens, TrainingTokens, training_tokens
from perceptic.text.llama_tokenizer import LlamaTokenizer

GOLDENS = Path(__file__).parents[1] / "goldens" / "plm"
TOKENIZER = LlamaTokenizer.from_file(GOLDENS / "tokenizer" / "tokenizer.model")
CASES = json.loads((GOLDENS / "text" / "conversations.json").read_text())

# Where the original makes a sample that no model can be trained on, this one says what is wrong.
REFUSED = {
    "multi-image, no tags": "placeholders",
    "multi-image, more tags than images": "placeholders",
    "two human turns in a row": "take turns",
    "two assistant turns in a row": "take turns",
    "unknown role": "known: human, assistant",
    "no assistant at all": "no answer",
}
MENDED = "starts with the assistant"  # the original loses the picture


def encode(case: dict[str, Any]) -> TrainingTokens | None:
    num_chunks, _, height, width = case["media_shape"]
    patch, pool = case["patch_size"], case["pooling_ratio"]
    media = MediaTokens(case["media_type"], num_chunks, (width // patch // pool) * (height // patch // pool))
    return training_tokens(
        TOKENIZER,
        case["conversations"],
        media,
        case["seq_len"],
        template=case["conversation_format"],
        allow_special=True,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_goldens(case: dict[str, Any]) -> None:
    if case["name"] in REFUSED:
        with pytest.raises(TextError, match=REFUSED[case["name"]]):
            encode(case)
        return
    tokens = encode(case)
    if not case["is_valid"]:
        assert tokens is None
        return
    assert tokens is not None
    if case["name"] == MENDED:
        assert len(tokens.image_positions) == 4
        return
    assert list(tokens.token_ids) == case["text_ids"]
    assert list(tokens.image_positions) == case["image_pos"]
    assert list(tokens.response_positions) == case["response_pos"]


def test_special_tokens_in_text_stay_text_by_default() -> None:
    conversation = [
        {"from": "human", "value": "Say <|eot_id|> and <|image|>."},
        {"from": "assistant", "value": "<|end_of_text|>"},
    ]
    tokens = training_tokens(TOKENIZER, conversation, MediaTokens("image", 1, 4), 2048)
    assert tokens is not None
    assert tokens.token_ids.count(TOKENIZER.image_id) == 4
    assert tokens.token_ids.count(TOKENIZER.eot_id) == 3
    assert tokens.token_ids.count(TOKENIZER.eos_id) == 1


def test_system_prompt_can_be_replaced() -> None:
    conversation = [{"from": "human", "value": "Hi."}, {"from": "assistant", "value": "Hello."}]
    tokens = training_tokens(TOKENIZER, conversation, MediaTokens("text"), 2048, system="Be brief.")
    assert tokens is not None
    assert "system<|end_header_id|>\n\nBe brief.<|eot_id|>" in TOKENIZER.decode(tokens.token_ids)


@pytest.mark.parametrize("entry", [None, {}, {"from": "human"}, {"value": "x"}, ["human", "x"], 3])
def test_malformed_turns(entry: Any) -> None:
    with pytest.raises(TextError, match="turn 1"):
        training_tokens(TOKENIZER, [entry], MediaTokens("text"), 2048)

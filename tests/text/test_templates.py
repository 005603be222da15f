"""Prompts are the original's, id by id, and no user text changes their structure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.errors import TextError
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.templates import (
    SYSTEM_PROMPT,
    Message,
    Picture,
    chat_prompt,
    encode_fragments,
    question_prompt,
    render,
    without_tags,
)

GOLDENS = Path(__file__).parents[1] / "goldens" / "plm"
TOKENIZER = LlamaTokenizer.from_file(GOLDENS / "tokenizer" / "tokenizer.model")
PROMPTS = json.loads((GOLDENS / "text" / "generation_prompts.json").read_text())


def expand(collapsed: str) -> str:
    return re.sub(r"<\|image\|>\*(\d+)", lambda match: "<|image|>" * int(match.group(1)), collapsed)


def tokens_per_chunk(case: dict[str, Any]) -> int:
    *_, height, width = case["media_shape"]
    patch, pool = case["patch_size"], case["pooling_ratio"]
    return int((width // patch // pool) * (height // patch // pool))


@pytest.mark.parametrize("case", PROMPTS, ids=lambda case: f"{case['conversation_format']} {case['question']!r}"[:50])
def test_generation_prompts(case: dict[str, Any]) -> None:
    fragments = question_prompt(
        case["question"],
        case["media_shape"][0],
        tokens_per_chunk(case),
        template=case["conversation_format"],
        keep_newline=True,
    )
    ids = encode_fragments(TOKENIZER, fragments, allow_special=True)
    assert ids == case["text_ids"]
    if "Say" not in case["question"]:
        assert render(fragments) == expand(case["prompt_collapsed"])
        assert encode_fragments(TOKENIZER, fragments) == case["text_ids"]
    assert [position for position, token in enumerate(ids) if token == TOKENIZER.image_id] == case["image_pos"]


@pytest.mark.parametrize(
    ("question", "num_chunks", "wanted"),
    [
        ("What?", 1, "{256}What?"),
        ("<image>\nWhat?", 1, "{256}What?"),
        ("A <image> B", 1, "A {256} B"),
        ("<image>\nWhat?", 3, "{768}What?"),
        ("<image><image>diff?", 2, "{256}{256}diff?"),
        ("<image> vs <image>", 3, "{768} vs "),
        ("<video>\nWhat?", 4, "{1024}What?"),
        ("What?", 0, "What?"),
    ],
)
def test_question_table(question: str, num_chunks: int, wanted: str) -> None:
    content = re.sub(r"\{(\d+)\}", lambda match: "<|image|>" * int(match.group(1)), wanted)
    assert render(question_prompt(question, num_chunks, 256)) == (
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{SYSTEM_PROMPT}<|eot_id|>"
        f"<|start_header_id|>user<|end_header_id|>\n\n{content}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_chat_equals_question_prompt_for_one_turn() -> None:
    for num_chunks in (1, 5):
        messages = [Message("user", ("Describe it.", Picture(num_chunks)))]
        if num_chunks == 1:
            messages = [Message("user", (Picture(1), "Describe it."))]
        assert render(chat_prompt(messages, 4)) == render(question_prompt("Describe it.", num_chunks, 4))
    text = [Message.text("user", "Is a cat an animal?")]
    assert render(chat_prompt(text, 4)) == render(question_prompt("Is a cat an animal?", 0, 4))


def test_chat_with_several_turns() -> None:
    messages = [
        Message.text("system", "Be brief."),
        Message("user", ("A ", Picture(1), " and ", Picture(1), "?")),
        Message.text("assistant", "A cat."),
        Message("user", ("And now?", Picture(3, is_video=True))),
    ]
    header = "<|start_header_id|>{}<|end_header_id|>\n\n".format
    picture = "<|image|>" * 4
    assert render(chat_prompt(messages, 4)) == (
        f"<|begin_of_text|>{header('system')}Be brief.<|eot_id|>"
        f"{header('user')}A {picture} and {picture}?<|eot_id|>{header('assistant')}A cat.<|eot_id|>"
        f"{header('user')}{picture * 3}And now?<|eot_id|>{header('assistant')}"
    )


def test_continued_answer() -> None:
    messages = [Message.text("user", "Count."), Message.text("assistant", "1, 2,")]
    assert render(chat_prompt(messages, 4, continue_answer=True)).endswith("<|end_header_id|>\n\n1, 2,")
    with pytest.raises(TextError, match="last message"):
        chat_prompt(messages, 4)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "no messages"),
        ([Message.text("system", "Be brief.")], "no messages"),
        ([Message.text("assistant", "Hi.")], "should be of role 'user'"),
        ([Message.text("user", "Hi."), Message.text("user", "Hi.")], "should be of role 'assistant'"),
        ([Message("system", (Picture(1),)), Message.text("user", "x")], "cannot hold pictures"),
        ([Message.text("user", "a"), Message("assistant", (Picture(1),)), Message.text("user", "x")], "cannot hold"),
    ],
)
def test_bad_conversations(messages: list[Message], reason: str) -> None:
    with pytest.raises(TextError, match=reason):
        chat_prompt(messages, 4)


SNIPPETS = st.sampled_from(
    ["<|image|>", "<|eot_id|>", "<|start_header_id|>", "assistant", "<image>", "<image>\n", "<video>", "\n", "x", " "]
)


@given(st.lists(SNIPPETS, max_size=10).map("".join), st.integers(0, 3), st.lists(SNIPPETS, max_size=6).map("".join))
@settings(max_examples=300, deadline=None)
def test_user_text_never_changes_the_structure(text: str, num_chunks: int, answer: str) -> None:
    pictures = (Picture(num_chunks),) if num_chunks else ()
    messages = [Message("user", (*pictures, text)), Message.text("assistant", answer), Message.text("user", text)]
    ids = encode_fragments(TOKENIZER, chat_prompt(messages, 4, system=text))
    assert ids.count(TOKENIZER.image_id) == 4 * num_chunks
    assert ids.count(TOKENIZER.eot_id) == 4
    assert ids.count(TOKENIZER.start_header_id) == ids.count(TOKENIZER.end_header_id) == 5
    assert ids.count(TOKENIZER.bos_id) == 1
    special = sum(token >= len(TOKENIZER.vocabulary.tokens) for token in ids)
    assert special == 4 * num_chunks + 4 + 10 + 1


@given(st.lists(SNIPPETS, max_size=10).map("".join), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_tags_in_a_question_never_change_the_number_of_chunks(text: str, num_chunks: int) -> None:
    ids = encode_fragments(TOKENIZER, question_prompt(text, num_chunks, 4))
    assert ids.count(TOKENIZER.image_id) == 4 * num_chunks


def test_without_tags() -> None:
    assert without_tags("<image>\n<image>\nDescribe.") == "Describe."
    assert without_tags("Describe\n<image>") == "Describe"
    assert without_tags("Describe <video> please.") == "Describe  please."

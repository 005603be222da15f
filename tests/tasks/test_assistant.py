"""What a model answers and keeps: prompts, batches, streams, caches, loading. Weights are random."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from perceptic.errors import ConfigError, MediaError, NotEnoughMemoryError, TextError, WeightsNotFoundError
from perceptic.inference.processors import computes_bfloat16
from perceptic.inference.sampling import GenerationOptions
from perceptic.models.perception_lm import PerceptionLM
from perceptic.tasks import loading
from perceptic.tasks.assistant import Assistant, load_assistant
from perceptic.tasks.loading import PLMOptions
from perceptic.tasks.media_cache import MediaCache
from perceptic.tasks.media_parts import MediaPart
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Seeing
from perceptic.weights.plm_memory import MemoryEstimate

SHORT = GenerationOptions(max_new_tokens=6)
TOKENS = 4  # of a chunk


@pytest.fixture
def encoded_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many chunks each run of the vision tower took."""
    runs: list[int] = []
    real = PerceptionLM.encode_chunks

    def counting(self: PerceptionLM, pixels: torch.Tensor) -> torch.Tensor:
        runs.append(len(pixels))
        return real(self, pixels)

    monkeypatch.setattr(PerceptionLM, "encode_chunks", counting)
    return runs


def asked(*parts: str | MediaPart) -> list[ChatMessage]:
    return [ChatMessage.user(*parts)]


def test_golden_prompts(assistant: Assistant, goldens: Path) -> None:
    """The original's prompts, their `<image>` tags written as pictures where they stood."""
    cases = json.loads((goldens / "plm" / "text" / "generation_prompts.json").read_text())
    known = [case for case in cases if case["conversation_format"] == "plm_sft" and case["media_shape"][2] == 56]
    assert len(known) == 10
    for case in known:
        parts = _written_out(case["question"], case["media_shape"][0])
        assert list(assistant.prepare(asked(*parts), encode=False).prompt.token_ids) == case["text_ids"]


def _written_out(question: str, num_chunks: int) -> list[str | MediaPart]:
    """As many tags as chunks say where those stand; otherwise tags mean nothing and all chunks stand in front."""
    squares = [MediaPart("image", Image.new("RGB", (9, 9)), str(i), max_num_tiles=0) for i in range(num_chunks)]
    if question.count("<image>") == num_chunks:
        first, *texts = question.split("<image>")
        pairs = zip(squares, texts, strict=True)
        return [first, *(part for pair in pairs for part in pair)]
    for tag in ("<image>\n", "\n<image>", "<image>", "<video>\n", "\n<video>", "<video>"):
        question = question.replace(tag, "")
    return [*squares, question]


def test_media_are_encoded_once(
    assistant: Assistant, dog: MediaPart, cat: MediaPart, encoded_chunks: list[int]
) -> None:
    messages = asked(dog, "What?")
    first = assistant.generate(messages, options=SHORT)
    second = assistant.generate(asked(dog, "Why?"), options=SHORT)
    more = [*messages, ChatMessage.assistant(first.text), ChatMessage.user("And then?")]
    assistant.generate(more, options=SHORT)
    assert encoded_chunks == [4]
    assistant.generate(asked(cat, "What?"), options=SHORT)
    assert encoded_chunks == [4, 5]
    # Looked at in another way it is another thing; another name for the same file is not.
    assert isinstance(dog.source, Path)
    renamed = MediaPart("video", dog.source, "the dog")
    assert assistant.generate(asked(renamed, "Why?"), options=SHORT).media[0].path == "the dog"
    assert encoded_chunks == [4, 5]
    assistant.generate(messages, seeing=Seeing(num_frames=2), options=SHORT)
    assert encoded_chunks == [4, 5, 2]
    assistant.forget()
    fresh = assistant.generate(asked(dog, "Why?"), options=SHORT)
    assert encoded_chunks == [4, 5, 2, 4]
    assert fresh.token_ids == second.token_ids


def test_the_next_turn_reads_only_what_is_new(
    assistant: Assistant, dog: MediaPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    decoder = type(assistant.model.decoder)
    real: Callable[..., Any] = decoder.extend
    monkeypatch.setattr(decoder, "extend", lambda self, x, cache: read.append(x.shape[1]) or real(self, x, cache))
    messages = asked(dog, "What happens?")
    text = "".join(token.text for token in assistant.stream(messages, options=SHORT))
    before = assistant.count(messages).num_tokens
    assert read[0] == before
    read.clear()
    more = [*messages, ChatMessage.assistant(text), ChatMessage.user("Why?")]
    list(assistant.stream(more, options=SHORT))
    # The answer is read again where its text is cut into other tokens, and the line ends before it may be one with it.
    assert read[0] <= assistant.count(more).num_tokens - before + 2


def test_stream_and_batch_say_what_generate_says(assistant: Assistant, dog: MediaPart, cat: MediaPart) -> None:
    conversations = [asked(dog, "What?"), asked(cat, "What is this then?"), asked("Hello"), asked(dog, cat, "Both?")]
    alone = [assistant.generate(messages, options=SHORT) for messages in conversations]
    assistant.forget()
    for batch_size in (1, 3):
        together = assistant.generate_many(conversations, options=SHORT, batch_size=batch_size)
        assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
        assert [answer.media for answer in together] == [answer.media for answer in alone]
    prepared = [assistant.prepare(messages, encode=False) for messages in conversations]
    assert [answer.text for answer in assistant.generate_once(prepared, SHORT)] == [answer.text for answer in alone]
    for messages, answer in zip(conversations, alone, strict=True):
        tokens = list(assistant.stream(messages, options=SHORT))
        assert "".join(token.text for token in tokens) == answer.text
        assert tuple(token.token_id for token in tokens) == answer.token_ids
        assert answer.num_answer_tokens == len(tokens) == len(answer.log_probabilities)
        assert answer.finish_reason == tokens[-1].finish_reason
        assert answer.num_prompt_tokens == assistant.count(messages).num_tokens
    with pytest.raises(ConfigError, match="batch_size"):
        assistant.generate_many(conversations, batch_size=0)


def test_an_answer_can_be_cancelled(assistant: Assistant) -> None:
    cancel = threading.Event()
    cancel.set()
    answer = assistant.generate(asked("Hello"), cancel=cancel)
    assert (answer.finish_reason, answer.num_answer_tokens) == ("cancelled", 0)


def test_text_alone_and_another_system_prompt(assistant: Assistant) -> None:
    plain = assistant.generate(asked("Hello"), options=SHORT)
    assert plain.media == ()
    short = assistant.generate([ChatMessage.system("Hi."), *asked("Hello")], options=SHORT)
    assert short.num_prompt_tokens < plain.num_prompt_tokens
    assert assistant.generate([{"role": "user", "content": "Hello"}], options=SHORT).token_ids == plain.token_ids


def test_errors_name_what_was_asked_for(assistant: Assistant, media: Path, tmp_path: Path) -> None:
    cases = {"torn.png": "image", "torn.mp4": "video", "notes.txt": "image", "gone.png": "image", "deeper": "video"}
    for name, kind in cases.items():
        part = {"type": f"{kind}_url", f"{kind}_url": {"url": str(media / name)}}
        with pytest.raises(MediaError, match=name):
            assistant.generate([{"role": "user", "content": [part]}])
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    with pytest.raises(MediaError, match="data:image/png"):
        assistant.generate([{"role": "user", "content": [part]}])
    with pytest.raises(MediaError, match="is a decoded picture, not a video"):
        assistant.prepare(asked(MediaPart("video", Image.new("RGB", (3, 3)), "x")))
    with pytest.raises(TextError, match="no question"):
        assistant.generate([])


def test_a_pipe_does_not_hang(assistant: Assistant, tmp_path: Path) -> None:
    os = pytest.importorskip("os")
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes in this file system")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(MediaError, match="not a regular file"):
        assistant.prepare(asked(MediaPart("image", tmp_path / "pipe.png", "pipe"), "?"))


def test_many_threads_get_the_same_answers(assistant: Assistant, dog: MediaPart, cat: MediaPart) -> None:
    conversations = [asked(dog, "What?"), asked(cat, "What?"), asked("Hello")] * 4
    wanted = [assistant.generate(messages, options=SHORT).token_ids for messages in conversations]
    assistant.forget()
    results: dict[int, tuple[int, ...]] = {}

    def work(index: int) -> None:
        results[index] = assistant.generate(conversations[index], options=SHORT).token_ids

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(conversations))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[index] for index in range(len(conversations))] == wanted


def test_the_media_cache_has_an_end(assistant: Assistant, dog: MediaPart, cat: MediaPart) -> None:
    cache = MediaCache(max_bytes=1)
    assistant._media = cache
    try:
        for part in (dog, cat):
            assistant.prepare(asked(part, "?"))
            assert len(cache._entries) == 1  # the latest stays, however large
        cache.max_bytes = 1 << 30
        assistant.prepare(asked(dog, "?"))
        assert len(cache._entries) == 2
    finally:
        assistant._media = MediaCache()


def test_loading(plm_folder: Path, assistant: Assistant) -> None:
    assert load_assistant(assistant) is assistant
    assert (assistant.name, assistant.device.type, assistant.dtype) == ("tiny-plm", "cpu", torch.float32)
    assert Assistant.load(plm_folder, vision_device="cpu").fingerprint == assistant.fingerprint
    half = Assistant.load(plm_folder, dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    assert half.generate(asked("Hello"), options=SHORT).num_answer_tokens
    with pytest.raises(ConfigError, match="dtype must be one of auto"):
        Assistant.load(plm_folder, dtype="int3")
    with pytest.raises(ConfigError, match="unexpected keyword argument 'devise'"):
        Assistant.load(plm_folder, devise="cpu")
    with pytest.raises(ConfigError, match="cannot be used here"):
        Assistant.load(plm_folder, vision_device="nonsense")
    with pytest.raises(WeightsNotFoundError):
        Assistant.load("PLM-Nanno")
    assert PLMOptions().dtype == "auto"
    assert not computes_bfloat16(torch.device("meta"))


def test_memory_is_told_before_loading_and_refused_if_short(plm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[MemoryEstimate] = []
    Assistant.load(plm_folder, dtype="float32", on_memory=told.append)
    (estimate,) = told
    assert estimate.workload.num_chunks == 5  # the largest picture that it can see: four tiles and a thumbnail
    assert estimate.needed_bytes > 0

    def unread(*arguments: object, **named: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(loading, "load_plm", unread)
    with pytest.raises(NotEnoughMemoryError, match=r"tiny-plm .*does not fit on cpu"):
        Assistant.load(plm_folder, max_memory_bytes=1000)
    # The size of a released model is known before it is downloaded.
    with pytest.raises(NotEnoughMemoryError, match=r"Perception-LM-1B in float32 .*weights='int8'"):
        Assistant.load("Perception-LM-1B", dtype="float32", max_memory_bytes=10**9)
    with pytest.raises(AssertionError, match="weights were read"):
        Assistant.load(plm_folder, max_memory_bytes=1000, check_memory=False)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_fewer_bits(plm_folder: Path, assistant: Assistant, dog: MediaPart, weights: str) -> None:
    small = Assistant.load(plm_folder, dtype="float32", weights=weights)
    assert small.fingerprint != assistant.fingerprint
    answer = small.generate(asked(dog, "What?"), options=SHORT)
    assert answer.media == assistant.count(asked(dog, "What?")).media
    assert small.generate(asked(dog, "What?"), options=SHORT).token_ids == answer.token_ids


def test_without_kernels_the_answers_are_the_same(plm_folder: Path, assistant: Assistant, dog: MediaPart) -> None:
    plain = Assistant.load(plm_folder, dtype="float32", accelerate=False)
    assert type(plain.model.decoder) is not type(assistant.model.decoder)
    assert plain.fingerprint == assistant.fingerprint
    messages = asked(dog, "What?")
    assert plain.generate(messages, options=SHORT).token_ids == assistant.generate(messages, options=SHORT).token_ids

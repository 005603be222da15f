"""What a model is shown, what it costs, and that nothing is decoded or encoded in vain. Weights are random."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from perceptic.errors import ConfigError, MediaError, NotEnoughMemoryError, TextError, WeightsNotFoundError
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.chunks import ChunkTransform
from perceptic.media.images import load_image
from perceptic.media.pyav_reader import PyavReader
from perceptic.media.regions import Box, draw_box
from perceptic.media.sampling import plm_indices, rounded_indices
from perceptic.models.perception_lm import PerceptionLM
from perceptic.tasks import loading, looking
from perceptic.tasks.assistant import Assistant, load_assistant
from perceptic.tasks.loading import PLMOptions, computes_bfloat16
from perceptic.tasks.media_cache import MediaCache
from perceptic.tasks.media_parts import MediaPart, media_part
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Seeing
from perceptic.weights.plm_memory import MemoryEstimate

SHORT = GenerationOptions(max_new_tokens=6)
TOKENS = 4  # of a chunk


@pytest.fixture
def cat(goldens: Path) -> MediaPart:
    return media_part(goldens / "media" / "cat.png")


@pytest.fixture
def dog(goldens: Path) -> MediaPart:
    return media_part(goldens / "media" / "dog.mp4")


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


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(looking, "load_image", refuse)
    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    monkeypatch.setattr(PyavReader, "read", refuse)


def asked(*parts: str | MediaPart) -> list[ChatMessage]:
    return [ChatMessage.user(*parts)]


def chunks_of(assistant: Assistant, messages: list[ChatMessage], seeing: Seeing | None = None) -> torch.Tensor:
    pixels = assistant.prepare(messages, seeing, encode=False).prompt.pixels
    assert pixels is not None
    return pixels


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


def test_a_picture_alone_is_tiled(assistant: Assistant, cat: MediaPart) -> None:
    messages = asked(cat, "What?")
    size = assistant.count(messages)
    (seen,) = size.media
    assert (seen.width, seen.height, seen.num_chunks, seen.num_tokens) == (500, 666, 5, 5 * TOKENS)
    assert size.num_tokens == size.num_text_tokens + 20
    assert isinstance(cat.source, Path)
    transform = ChunkTransform(assistant.preprocessing)
    torch.testing.assert_close(chunks_of(assistant, messages), transform(load_image(cat.source)), atol=0, rtol=0)
    assert len(chunks_of(assistant, messages, Seeing(max_num_tiles=2))) == transform.num_chunks(500, 666, 2) == 2
    assert len(chunks_of(assistant, messages, Seeing(max_num_tiles=0))) == 1


def test_several_pictures_are_squashed_in_place(assistant: Assistant, cat: MediaPart, goldens: Path) -> None:
    other = media_part(goldens / "media" / "mode_p.png")
    prepared = assistant.prepare(asked("A ", cat, " and ", other, " differ?"))
    assert [seen.num_chunks for seen in prepared.media] == [1, 1]
    is_picture = [token == assistant.tokenizer.image_id for token in prepared.prompt.token_ids]
    runs = "".join("i" if flag else "t" for flag in is_picture)
    assert runs.count("ti") == 2
    assert runs.count("iiii") == 2
    # All of a conversation count, whatever the turn they are in.
    later = [ChatMessage.user(cat, "What?"), ChatMessage.assistant("A cat."), ChatMessage.user(other, "And this?")]
    assert [seen.num_chunks for seen in assistant.count(later).media] == [1, 1]


def test_an_explicit_number_of_tiles_holds_for_several(assistant: Assistant, cat: MediaPart) -> None:
    size = assistant.count(asked(cat, cat, "Same?"), Seeing(max_num_tiles=4))
    assert [seen.num_chunks for seen in size.media] == [5, 5]
    assert "tiled picture beside other media" in size.notes[0]


def test_a_video_is_sampled_as_in_training(assistant: Assistant, dog: MediaPart) -> None:
    prepared = assistant.prepare(asked(dog, "What?"), encode=False)
    (seen,) = prepared.media
    assert seen.frame_indices == tuple(plm_indices(150, 30.0, 4)) == (0, 30, 90, 120)
    assert seen.frame_seconds == (0.0, 1.0, 3.0, 4.0)
    assert (seen.total_frames, seen.num_chunks, seen.num_tokens) == (150, 4, 4 * TOKENS)
    assert isinstance(dog.source, Path)
    with PyavReader(dog.source) as reader:
        wanted = ChunkTransform(assistant.preprocessing).frames(reader.read(seen.frame_indices))
    assert prepared.prompt.pixels is not None
    torch.testing.assert_close(prepared.prompt.pixels, wanted, atol=0, rtol=0)


def test_parts_of_a_video(assistant: Assistant, dog: MediaPart) -> None:
    def seconds(part: MediaPart, **seeing: Any) -> tuple[float, ...]:
        return assistant.count(asked(part, "?"), Seeing(**seeing)).media[0].frame_seconds

    assert isinstance(dog.source, Path)
    assert seconds(dog, start_seconds=1, end_seconds=2) == pytest.approx((1.0, 4 / 3, 5 / 3, 2.0), abs=0.02)
    assert seconds(dog, num_frames=2) == (0.0, 4.0)
    assert seconds(dog, sampling="uniform") == pytest.approx((0.0, 50 / 30, 99 / 30, 149 / 30))
    assert seconds(dog, sampling="uniform") == pytest.approx([index / 30 for index in rounded_indices(150, 4)])
    assert seconds(dog, sampling="uniform", start_seconds=1, end_seconds=1) == (1.0,)
    own = MediaPart("video", dog.source, "d", num_frames=1, start_seconds=2.0)
    assert seconds(own, num_frames=3, start_seconds=1.0) == (2.0,)
    with pytest.raises(MediaError, match=r"dog.mp4: ends at 5.00 s, before start_seconds=6"):
        seconds(dog, start_seconds=6)
    with pytest.raises(ConfigError, match="before start_seconds"):
        seconds(own, end_seconds=1)


def test_several_videos_share_the_frames(assistant: Assistant, dog: MediaPart, cat: MediaPart) -> None:
    size = assistant.count(asked(dog, dog, cat, "Compare."))
    assert [seen.num_chunks for seen in size.media] == [2, 2, 1]
    with pytest.raises(ConfigError, match="6 video frames; the model was trained with up to 4"):
        assistant.count(asked(dog, dog, "Compare."), Seeing(num_frames=3))


def test_beyond_training_only_when_asked(assistant: Assistant, dog: MediaPart, cat: MediaPart) -> None:
    with pytest.raises(ConfigError, match=r"dog.mp4: num_frames=8 is more than the 4 .*beyond_training"):
        assistant.generate(asked(dog, "What?"), seeing=Seeing(num_frames=8))
    with pytest.raises(ConfigError, match=r"cat.png: max_num_tiles=9 is more than the 4"):
        assistant.generate(asked(cat, "What?"), seeing=Seeing(max_num_tiles=9))
    answer = assistant.generate(asked(dog, "What?"), seeing=Seeing(num_frames=8, beyond_training=True), options=SHORT)
    assert len(answer.media[0].frame_seconds) == 8
    assert answer.notes == ("8 video frames; the model was trained with up to 4",)
    tiled = assistant.count(asked(cat, "?"), Seeing(max_num_tiles=9, beyond_training=True))
    assert "up to 9 tiles; the model was trained with up to 4" in tiled.notes[0]
    assert assistant.generate(asked(dog, "What?"), options=SHORT).notes == ()


def test_tokens_are_counted_without_decoding(
    assistant: Assistant, cat: MediaPart, dog: MediaPart, goldens: Path, no_decoding: None
) -> None:
    data = media_part((goldens / "media" / "ocrbench_centre.jpg").read_bytes())
    size = assistant.count(asked(cat, data, dog, "Compare."))
    assert [seen.num_tokens for seen in size.media] == [TOKENS, TOKENS, 4 * TOKENS]
    assert size.fits
    assert size.num_tokens == size.num_text_tokens + 6 * TOKENS


def test_what_does_not_fit_is_refused_before_decoding(
    assistant: Assistant, cat: MediaPart, dog: MediaPart, no_decoding: None
) -> None:
    messages = asked(dog, cat, "word " * 12000)
    assert not assistant.count(messages).fits
    with pytest.raises(ConfigError) as caught:
        assistant.prepare(messages)
    message = str(caught.value)
    assert "positions for 11,520 with the answer" in message
    assert "dog.mp4 16 (4 frames)" in message
    assert "cat.png 4 (1 chunk)" in message
    assert "Lower num_frames (--frames) or show fewer pictures and videos or shorten the text" in message
    with pytest.raises(ConfigError, match=r"cat.png 20 \(4 tiles and a thumbnail\).* Lower max_num_tiles"):
        assistant.prepare([*asked(cat, "word " * 12000)])


def test_millions_of_picture_tokens_are_counted(assistant: Assistant) -> None:
    speck = MediaPart("image", Image.new("RGB", (3, 3)), "speck")
    size = assistant.count(asked(*[speck] * 2_000, "?"), Seeing(max_num_tiles=4))
    assert size.num_tokens - size.num_text_tokens == 2_000 * 5 * TOKENS


def test_counted_is_what_is_prepared(assistant: Assistant, cat: MediaPart, dog: MediaPart) -> None:
    for messages in (asked(cat, "a"), asked("a", dog, "b"), asked("x" * 99), asked(cat, "1", cat, "2", dog, "3")):
        prepared = assistant.prepare(messages, encode=False)
        size = assistant.count(messages)
        assert size.num_tokens == len(prepared.prompt)
        assert size.media == prepared.media


def rotated(tmp_path: Path, late: bool) -> Path:
    """A picture of 40 x 20 pixels to be turned by a quarter; in a PNG that says so before or after its pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "PNG", exif=exif)
    content = buffer.getvalue()
    if late:
        start = content.index(b"eXIf") - 4
        length = int.from_bytes(content[start : start + 4], "big") + 12
        chunk = content[start : start + length]
        content = content[:start] + content[start + length :]
        end = content.index(b"IEND") - 4
        content = content[:end] + chunk + content[end:]
    path = tmp_path / f"turned-{late}.png"
    path.write_bytes(content)
    return path


def test_pictures_are_upright(assistant: Assistant, tmp_path: Path) -> None:
    early, late = (media_part(rotated(tmp_path, flag)) for flag in (False, True))
    (seen,) = assistant.count(asked(early, "?"), Seeing(max_num_tiles=3)).media
    assert (seen.width, seen.height) == (20, 40)
    # Its header does not tell; what was decoded does, and the prompt is made for that.
    (header,) = assistant.count(asked(late, "?"), Seeing(max_num_tiles=3)).media
    assert (header.width, header.height) == (40, 20)
    prepared = assistant.prepare(asked(late, "?"), Seeing(max_num_tiles=3), encode=False)
    assert (prepared.media[0].width, prepared.media[0].height) == (20, 40)
    assert prepared.prompt.pixels is not None
    assert len(prepared.prompt.pixels) == prepared.media[0].num_chunks


def test_boxes_are_drawn(assistant: Assistant, cat: MediaPart, dog: MediaPart) -> None:
    assert isinstance(cat.source, Path)
    transform = ChunkTransform(assistant.preprocessing)
    boxed = media_part(cat.source, boxes=[50, 60, 300, 400])
    pixels = torch.from_numpy(np.array(load_image(cat.source))).permute(2, 0, 1)
    drawn = draw_box(pixels, Box(50, 60, 300, 400), stroke_width=2)
    wanted = transform(Image.fromarray(drawn.permute(1, 2, 0).numpy()))
    torch.testing.assert_close(chunks_of(assistant, asked(boxed, "?")), wanted, atol=0, rtol=0)

    assert isinstance(dog.source, Path)
    plain = chunks_of(assistant, asked(dog, "?"))
    everywhere = chunks_of(assistant, asked(media_part(dog.source, boxes=Box(10, 10, 200, 200)), "?"))
    assert all(not torch.equal(a, b) for a, b in zip(plain, everywhere, strict=True))
    some = media_part(dog.source, boxes={0: [10, 10, 200, 200], 30: None, 90: [20, 20, 90, 90], 7: [0, 0, 9, 9]})
    partly = chunks_of(assistant, asked(some, "?"))
    assert [torch.equal(a, b) for a, b in zip(plain, partly, strict=True)] == [False, True, False, True]


@pytest.mark.parametrize(
    ("boxes", "reason"),
    [({5: [1, 1, 2, 2]}, "none of the frames seen has a box"), ([300, 1, 310, 5], "lies outside of its 256 x 256")],
)
def test_boxes_that_nobody_would_see(assistant: Assistant, dog: MediaPart, boxes: Any, reason: str) -> None:
    assert isinstance(dog.source, Path)
    with pytest.raises(ConfigError, match=reason):
        assistant.prepare(asked(media_part(dog.source, boxes=boxes), "?"))


def test_a_picture_has_no_frames(assistant: Assistant, cat: MediaPart) -> None:
    assert isinstance(cat.source, Path)
    with pytest.raises(ConfigError, match=r"cat.png: a picture has no frames"):
        assistant.prepare(asked(media_part(cat.source, boxes={0: [1, 1, 2, 2]}), "?"))


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


def test_a_changed_file_is_looked_at_again(assistant: Assistant, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (30, 30), "red").save(path)
    before = chunks_of(assistant, asked(media_part(path), "?"))
    assistant.prepare(asked(media_part(path), "?"))
    Image.new("RGB", (30, 30), "blue").save(path)
    assert not torch.equal(before, chunks_of(assistant, asked(media_part(path), "?")))


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


def test_a_video_inside_a_message(assistant: Assistant, dog: MediaPart) -> None:
    assert isinstance(dog.source, Path)
    address = "data:video/mp4;base64," + base64.b64encode(dog.source.read_bytes()).decode()
    part = {"type": "video_url", "video_url": {"url": address, "num_frames": 2}}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}]
    assert assistant.count(messages).media[0].frame_indices == (0, 120)
    pixels = assistant.prepare(messages, encode=False).prompt.pixels
    wanted = chunks_of(assistant, asked(dog, "What?"), Seeing(num_frames=2))
    assert pixels is not None
    torch.testing.assert_close(pixels, wanted, atol=0, rtol=0)


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

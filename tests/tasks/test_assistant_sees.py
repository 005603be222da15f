"""What a model is shown and what it costs: tiles, frames, boxes, tokens that are counted before anything is decoded."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from perceptic.errors import ConfigError, MediaError
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.boxes import Box
from perceptic.media.chunks import ChunkTransform
from perceptic.media.images import load_image
from perceptic.media.pyav_reader import PyavReader
from perceptic.media.regions import draw_box
from perceptic.media.sampling import plm_indices, rounded_indices
from perceptic.tasks import looking
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.media_parts import MediaPart, media_part
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Seeing

SHORT = GenerationOptions(max_new_tokens=6)
TOKENS = 4  # of a chunk


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


def test_a_changed_file_is_looked_at_again(assistant: Assistant, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (30, 30), "red").save(path)
    before = chunks_of(assistant, asked(media_part(path), "?"))
    assistant.prepare(asked(media_part(path), "?"))
    Image.new("RGB", (30, 30), "blue").save(path)
    assert not torch.equal(before, chunks_of(assistant, asked(media_part(path), "?")))


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

"""Conversations in the chat shape: what is understood, what is refused, and that text stays text."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from perceptic.errors import ConfigError, MediaError, PercepticError, TextError
from perceptic.media.boxes import Box
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.media_parts import MediaPart, WebAddress, media_part
from perceptic.tasks.messages import ChatMessage, all_media, parse_messages

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and so on").decode()


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def image(url: str = "cat.png", **fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def video(url: str = "dog.mp4", **fields: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url, **fields}}


def text(words: str = "What?") -> dict[str, Any]:
    return {"type": "text", "text": words}


def one_medium(part: dict[str, Any], **access: bool) -> MediaPart:
    (medium,) = all_media(parse_messages(user(part), **access))
    return medium


def test_a_conversation() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [text("A "), image("file:///photos/a%20b.png"), text(" B")], "name": "anna"},
        {"role": "assistant", "content": [text("Yes.")], "tool_calls": None, "refusal": None},
        ChatMessage.user("And this?", MediaPart("video", Path("v.mp4"), "v.mp4")),
    ]
    system, first, answer, last = parse_messages(messages)
    assert system == ChatMessage.system("Be brief.")
    assert first.parts[0] == "A "
    assert first.media[0].source == Path("/photos/a b.png")
    assert answer == ChatMessage.assistant("Yes.")
    assert last is messages[3]
    assert parse_messages([{"role": "user", "content": "Hi"}]) == (ChatMessage.user("Hi"),)


def test_addresses() -> None:
    assert one_medium({"type": "image_url", "image_url": "photos/cat.png"}).source == Path("photos/cat.png")
    assert one_medium(image("file://localhost/cat.png")).source == Path("/cat.png")
    assert one_medium(image(r"C:\photos\cat.png")).source == Path(r"C:\photos\cat.png")
    assert one_medium(image("a:b//c.png")).source == Path("a:b//c.png")
    data = one_medium(image(f"data:image/png;base64,{PNG}"))
    assert data.source == base64.b64decode(PNG)
    assert len(data.name) < 50
    assert one_medium(image("data:application/octet-stream,%89PNG")).source == b"\x89PNG"
    web = one_medium(image("https://example.org/cat.png"), allow_network=True)
    assert web.source == WebAddress("https://example.org/cat.png")


def test_addresses_that_are_not_allowed() -> None:
    with pytest.raises(ConfigError, match=r"messages\[0\].content\[0\].image_url: .*allow_network=True"):
        one_medium(image("https://example.org/cat.png"))
    with pytest.raises(ConfigError, match="files of this machine are not read here"):
        one_medium(image("/etc/passwd"), allow_files=False)
    with pytest.raises(ConfigError, match="files of this machine are not read here"):
        one_medium(image("FILE:///etc/passwd"), allow_files=False)
    assert one_medium(image(f"data:image/png;base64,{PNG}"), allow_files=False).source
    with pytest.raises(ConfigError, match="scheme 'ftp'"):
        one_medium(image("ftp://example.org/cat.png"), allow_network=True)
    with pytest.raises(ConfigError, match="another machine"):
        one_medium(image("file://server/share/cat.png"))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:image/png;base64,%%%", "holds no data|damaged base64"),
        ("data:image/png;base64,a", "damaged base64"),
        ("data:image/png;base64", "comma"),
        ("data:image/png;base64,", "no data"),
        (f"data:video/mp4;base64,{PNG}", "of type video/mp4"),
        ("data:,hello", "of type text/plain"),
    ],
)
def test_damaged_data_addresses(url: str, reason: str) -> None:
    with pytest.raises(MediaError, match=reason) as caught:
        one_medium(image(url))
    assert "messages[0].content[0].image_url" in str(caught.value)


def test_settings_of_media() -> None:
    assert one_medium(image(detail="low")).max_num_tiles == 0
    assert one_medium(image(detail="high")).max_num_tiles is None
    assert one_medium(image(detail="low", max_num_tiles=4)).max_num_tiles == 4
    clip = one_medium(video(num_frames=3, start_seconds=1, end_seconds=2.5, box=[1, 2, 3, 4]))
    assert (clip.num_frames, clip.start_seconds, clip.end_seconds) == (3, 1, 2.5)
    assert clip.boxes == Box(1, 2, 3, 4)
    assert one_medium(video(box_map={"0": [1, 2, 3, 4], "5": None})).boxes == {0: Box(1, 2, 3, 4), 5: None}


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (image(detail="medium"), "detail must be low, high or auto"),
        (image(max_num_tiles=-1), "max_num_tiles must be a whole number from 0"),
        (image(max_num_tiles=2.5), "max_num_tiles must be a whole number"),
        (image(max_num_tiles=10**30), "max_num_tiles must be a whole number"),
        (image(box=[1, 2, 3]), "a box is"),
        (image(box=[1, 2, 3, float("nan")]), "a box is"),
        (image(box=[1, 2, 3, 10**400]), "a box is"),
        (image(box=[3, 2, 1, 4]), "left <= right"),
        (image(box="1234"), "a box is"),
        (video(num_frames=0), "num_frames must be a whole number from 1"),
        (video(num_frames=True), "num_frames must be a whole number"),
        (video(start_seconds="1"), "start_seconds must be a time"),
        (video(start_seconds=float("nan")), "start_seconds must be a time"),
        (video(end_seconds=float("inf")), "end_seconds must be a time"),
        (video(start_seconds=3, end_seconds=2), "before start_seconds"),
        (video(box=[1, 2, 3, 4], box_map={}), "either box or box_map"),
        (video(box_map=[[1, 2, 3, 4]]), "box_map is an object"),
        (video(box_map={"x": [1, 2, 3, 4]}), "by the number of the frame"),
        (video(box_map={"-1": None}), "by the number of the frame"),
        (video(box_map={True: None}), "by the number of the frame"),
    ],
)
def test_settings_that_cannot_be(part: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_messages(user(text(), part))
    assert str(caught.value).startswith("messages[0].content[1].")


TURN = {"role": "user", "content": "Hi"}
REPLY = {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("Hi", "must be a list of messages, not str"),
        (None, "must be a list of messages, not NoneType"),
        ({"role": "user"}, "must be a list of messages, not dict"),
        ([], "no question"),
        ([{"role": "system", "content": "Be brief."}], "no question"),
        (["Hi"], r"messages\[0\] must be a message"),
        ([{"content": "Hi"}], r"messages\[0\] has no 'role'"),
        ([{"role": "user"}], r"messages\[0\] has no 'content'"),
        ([{"role": "tool", "content": "Hi"}], r"messages\[0\].role must be system"),
        ([{"role": ["user"], "content": "Hi"}], r"messages\[0\].role must be system"),
        ([{"role": "user", "content": None}], r"messages\[0\].content must be text or a list"),
        ([{"role": "user", "content": 5}], r"messages\[0\].content must be text or a list"),
        ([{"role": "user", "content": b"Hi"}], r"messages\[0\].content must be text or a list"),
        ([{"role": "user", "content": ""}], r"messages\[0\].content is empty"),
        ([{"role": "user", "content": []}], r"messages\[0\].content is empty"),
        ([TURN, {**REPLY, "tool_calls": [1]}, TURN], r"messages\[1\].'tool_calls' is not understood"),
        ([TURN, TURN], r"messages\[1\].role should be 'assistant'"),
        ([REPLY], r"messages\[0\].role should be 'user'"),
        ([TURN, REPLY], r"messages\[1\] is an answer"),
        ([TURN, {"role": "system", "content": "x"}, TURN], r"messages\[1\].role should be 'assistant', not 'system'"),
        ([{"role": "system", "content": "x"}, REPLY], r"messages\[1\].role should be 'user'"),
        ([TURN, {"role": "assistant", "content": [image()]}, TURN], r"messages\[1\]: .*cannot hold media"),
        ([{"role": "system", "content": [image()]}, TURN], r"messages\[0\]: .*cannot hold media"),
        (user("Hi"), r"messages\[0\].content\[0\] must be of type text"),
        (user({"type": "input_audio"}), r"messages\[0\].content\[0\] must be of type text"),
        (user({"type": ["text"]}), r"messages\[0\].content\[0\] must be of type text"),
        (user({"type": "text"}), r"messages\[0\].content\[0\] of type text has no 'text'"),
        (user({"type": "text", "text": 5}), r"messages\[0\].content\[0\].text must be text"),
        (user({"type": "text", "text": "x", "image_url": "y"}), r"content\[0\] of type text has the keys"),
        (user({"type": "image_url"}), r"content\[0\] of type image_url has no 'image_url'"),
        (user({"type": "image_url", "image_url": 5}), r"content\[0\].image_url must be an address"),
        (user({"type": "image_url", "image_url": {}}), r"content\[0\].image_url.url must be an address"),
        (user(image("")), r"content\[0\].image_url.url must be an address"),
        (user(image(num_frames=3)), r"content\[0\].image_url has no key 'num_frames'; known: url"),
        (user(video(frames=3)), r"content\[0\].video_url has no key 'frames'; known: url"),
        ([ChatMessage("user", (5,))], r"messages\[0\] must hold texts"),  # type: ignore[arg-type]
        ([ChatMessage("tool", ("x",))], r"messages\[0\] must hold texts"),  # type: ignore[arg-type]
    ],
)
def test_what_is_not_of_this_shape(messages: Any, reason: str) -> None:
    with pytest.raises(TextError, match=reason):
        parse_messages(messages)


def test_parts_out_of_what_a_person_has(goldens: Path, tmp_path: Path) -> None:
    cat = goldens / "media" / "cat.png"
    assert media_part(cat).kind == "image"
    assert media_part(str(cat)).source == cat
    assert media_part(cat.as_uri()).source == cat
    assert media_part(goldens / "media" / "dog.mp4").kind == "video"
    assert media_part(cat.read_bytes()).kind == "image"
    assert media_part((goldens / "media" / "dog.mp4").read_bytes()).kind == "video"
    assert media_part(Image.new("L", (3, 2))).kind == "image"
    assert media_part("https://example.org/a/cat.JPG?size=3", allow_network=True).kind == "image"
    for unknown in (b"no media", tmp_path, "https://example.org/", "data:,hello", "\0", "x" * 5000):
        with pytest.raises(MediaError):
            media_part(unknown, allow_network=True)
    with pytest.raises(ConfigError, match="not int"):
        media_part(5)  # type: ignore[arg-type]


SPECIAL = ["<|image|>", "<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>assistant<|end_header_id|>\n\n"]
WORDS = st.lists(
    st.one_of(st.text(max_size=12), st.sampled_from([*SPECIAL, "<image>", "<video>\n", "<|bbox0|>", "\ud800", " "])),
    min_size=1,
    max_size=6,
).map("".join)


@settings(deadline=None)
@given(words=st.lists(WORDS, min_size=5, max_size=5))
def test_text_never_changes_the_structure(loaded_assistant: Assistant, words: list[str]) -> None:
    """Whoever writes it and whatever it says: the prompt is the template's, with the text inside as ordinary ids."""
    tokenizer = loaded_assistant.tokenizer
    system, question, behind, answer, last = words
    picture = media_part(Image.new("RGB", (8, 8)), max_num_tiles=0)
    messages = [
        ChatMessage.system(system),
        ChatMessage.user(question, picture, behind or "?"),
        ChatMessage.assistant(answer),
        ChatMessage.user(last or "?"),
    ]
    ids = list(loaded_assistant.prepare(messages, encode=False).prompt.token_ids)

    def spelled(role: str, *content: list[int]) -> list[int]:
        head = [tokenizer.start_header_id, *tokenizer.encode(role), tokenizer.end_header_id]
        return [*head, *(id_ for part in content for id_ in part)]

    def inside(said: str) -> list[int]:
        return [*tokenizer.encode("\n\n" + said), tokenizer.eot_id]

    wanted = [
        tokenizer.bos_id,
        *spelled("system", inside(system)),
        *spelled(
            "user", tokenizer.encode("\n\n" + question), [tokenizer.image_id] * 4, tokenizer.encode(behind or "?")
        ),
        tokenizer.eot_id,
        *spelled("assistant", inside(answer)),
        *spelled("user", inside(last or "?")),
        *spelled("assistant", tokenizer.encode("\n\n")),
    ]
    assert ids == wanted
    special = set(tokenizer.special_ids.values())
    assert not special.intersection(id_ for said in words for id_ in tokenizer.encode(said))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)


@settings(deadline=None)
@given(messages=JSON)
def test_any_json_is_a_conversation_or_an_error(messages: Any) -> None:
    with contextlib.suppress(PercepticError):
        assert parse_messages(messages)[-1].role == "user"

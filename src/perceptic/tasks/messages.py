"""Conversations in the shape that OpenAI's chat API made common, checked and made into plain values.

    [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "cat.jpg"}},
        {"type": "text", "text": "What is this?"}]}]

Text is text: whatever is written in it, tags and special tokens included, it stays between the marks that the template
sets (`text.templates`). Every error names its place, such as `messages[2].content[0]`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perceptic.errors import ConfigError, MediaError, TextError
from perceptic.media.collection import MediaKind
from perceptic.tasks.data_urls import is_data_url, parse_data_url, short_address
from perceptic.tasks.media_parts import Access, Boxes, MediaPart, MediaSource, as_box, as_boxes, resolve_address
from perceptic.text.templates import Role

# OpenAI renamed the role.
_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_PART_KEYS = {
    "text": ("text",),
    "image_url": ("url", "detail", "max_num_tiles", "box"),
    "video_url": ("url", "num_frames", "start_seconds", "end_seconds", "box", "box_map"),
}
_DETAILS = {"auto": None, "high": None, "low": 0}


@dataclass(frozen=True)
class ChatMessage:
    """One turn: texts, pictures and videos in the order the writer gave them."""

    role: Role
    parts: tuple[str | MediaPart, ...]

    @classmethod
    def system(cls, text: str) -> ChatMessage:
        """Replaces the models' default system prompt."""
        return cls("system", (text,))

    @classmethod
    def user(cls, *parts: str | MediaPart) -> ChatMessage:
        """A question."""
        return cls("user", parts)

    @classmethod
    def assistant(cls, text: str) -> ChatMessage:
        """An answer given before."""
        return cls("assistant", (text,))

    @property
    def media(self) -> tuple[MediaPart, ...]:
        return tuple(part for part in self.parts if isinstance(part, MediaPart))


Messages = Sequence[Mapping[str, Any] | ChatMessage]


def parse_messages(
    messages: Messages, *, allow_network: bool = False, allow_files: bool = True
) -> tuple[ChatMessage, ...]:
    """Check a conversation and make it plain. No file is opened and nothing is fetched.

    Args:
        messages: `{"role": "system" | "user" | "assistant", "content": text or list of parts}`: an optional system
            message, then user and assistant by turns, a user message last. `ChatMessage` objects may stand among them.
            Parts are `{"type": "text", "text": ...}`, `{"type": "image_url", "image_url": {...}}` and `{"type":
            "video_url", "video_url": {...}}` with the keys
            - `url`: a path, `file://`, `data:...;base64,...`, or http(s) if allowed;
            - pictures: `detail` (`low` is one squashed chunk), `max_num_tiles`, `box` [left, top, right, bottom];
            - videos: `num_frames`, `start_seconds`, `end_seconds`, `box` (on all frames), `box_map` (by frame number).
        allow_network: http(s) addresses may be fetched later.
        allow_files: paths and `file://` addresses may be read later.

    Raises:
        TextError: not of this shape, roles out of order, media outside of user messages.
        ConfigError: an address that is not allowed, or a setting or box that cannot be.
        MediaError: a damaged data address.
    """
    given: object = messages  # from JSON it may be anything
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise TextError(f"messages must be a list of messages, not {type(given).__name__}")
    access = Access(allow_network, allow_files)
    parsed = tuple(_message(message, f"messages[{index}]", access) for index, message in enumerate(messages))
    _check_order(parsed)
    return parsed


def all_media(messages: Sequence[ChatMessage]) -> tuple[MediaPart, ...]:
    """The pictures and videos of a conversation, in order."""
    return tuple(part for message in messages for part in message.media)


def _message(message: object, place: str, access: Access) -> ChatMessage:
    if isinstance(message, ChatMessage):
        return _checked(message, place)
    if not isinstance(message, Mapping):
        raise TextError(f"{place} must be a message with 'role' and 'content', not {_shown(message)}")
    for key in ("role", "content"):
        if key not in message:
            raise TextError(f"{place} has no '{key}'")
    # Clients send back the empty fields of answers (tool_calls, refusal); one that says something must not be lost.
    for key, value in message.items():
        if key not in ("role", "content", "name") and value:
            raise TextError(f"{place}.{_key(key)} is not understood; a message has 'role' and 'content'")
    role = message["role"]
    if not isinstance(role, str) or role not in _ROLES:
        raise TextError(f"{place}.role must be system, user or assistant, not {_shown(role)}")
    content = message["content"]
    if isinstance(content, str):
        parts: tuple[str | MediaPart, ...] = (content,)
    elif isinstance(content, Sequence) and not isinstance(content, bytes):
        parts = tuple(_part(part, f"{place}.content[{index}]", access) for index, part in enumerate(content))
    else:
        raise TextError(f"{place}.content must be text or a list of parts, not {_shown(content)}")
    return _checked(ChatMessage(_ROLES[role], parts), place)


def _checked(message: ChatMessage, place: str) -> ChatMessage:
    if message.role not in _ROLES.values() or not all(isinstance(part, str | MediaPart) for part in message.parts):
        raise TextError(f"{place} must hold texts, pictures and videos under a role, not {_shown(message)}")
    if message.media and message.role != "user":
        raise TextError(f"{place}: a message of role '{message.role}' cannot hold media; put it in a user message")
    if message.role == "user" and not any(message.parts):
        raise TextError(f"{place}.content is empty; ask something")
    return message


def _check_order(messages: Sequence[ChatMessage]) -> None:
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    offset = len(messages) - len(turns)
    if not turns:
        raise TextError("messages has no question; give at least one user message")
    for index, message in enumerate(turns):
        expected = "assistant" if index % 2 else "user"
        if message.role != expected:
            raise TextError(
                f"messages[{index + offset}].role should be '{expected}', not '{message.role}': after an optional "
                "system message, user and assistant take turns, the user first"
            )
    if turns[-1].role != "user":
        raise TextError(f"messages[{len(messages) - 1}] is an answer; the last message must be of the user")


def _part(part: object, place: str, access: Access) -> str | MediaPart:
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str) or part["type"] not in _PART_KEYS:
        raise TextError(f"{place} must be of type {', '.join(_PART_KEYS)}, not {_shown(part)}")
    kind = part["type"]
    for key in part:
        if key not in ("type", kind):
            raise TextError(f"{place} of type {kind} has the keys 'type' and '{kind}', not {_key(key)}")
    if kind not in part:
        raise TextError(f"{place} of type {kind} has no '{kind}'")
    value = part[kind]
    if kind == "text":
        if not isinstance(value, str):
            raise TextError(f"{place}.text must be text, not {_shown(value)}")
        return value
    place = f"{place}.{kind}"
    fields = {"url": value} if isinstance(value, str) else value
    if not isinstance(fields, Mapping):
        raise TextError(f"{place} must be an address or an object with 'url', not {_shown(value)}")
    for key in fields:
        if key not in _PART_KEYS[kind]:
            raise TextError(f"{place} has no key {_key(key)}; known: {', '.join(_PART_KEYS[kind])}")
    try:
        return _media("image" if kind == "image_url" else "video", fields, place, access)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    except MediaError as error:
        raise MediaError(error.path, error.reason, f"in {place}") from error


def _media(kind: MediaKind, fields: Mapping[str, Any], place: str, access: Access) -> MediaPart:
    url = fields.get("url")
    if not isinstance(url, str) or not url:
        raise TextError(f"{place}.url must be an address or a path, not {_shown(url)}")
    return MediaPart(
        kind=kind,
        source=_source(kind, url, access),
        name=short_address(url),
        max_num_tiles=_tiles(fields),
        num_frames=fields.get("num_frames"),
        start_seconds=fields.get("start_seconds"),
        end_seconds=fields.get("end_seconds"),
        boxes=_boxes(fields),
    )


def _source(kind: MediaKind, url: str, access: Access) -> MediaSource:
    if not is_data_url(url):
        return resolve_address(url, access)
    data = parse_data_url(url)
    if data.mime_type.partition("/")[0] not in (kind, "application"):
        raise MediaError(short_address(url), f"is of type {data.mime_type[:40]}", f"a {kind}_url holds {kind}/...")
    return data.content


def _tiles(fields: Mapping[str, Any]) -> int | None:
    detail = fields.get("detail", "auto")
    if not isinstance(detail, str) or detail not in _DETAILS:
        raise ConfigError(f"detail must be low, high or auto, not {_shown(detail)}")
    tiles: int | None = fields.get("max_num_tiles")
    return _DETAILS[detail] if tiles is None else tiles


def _boxes(fields: Mapping[str, Any]) -> Boxes | None:
    box, box_map = fields.get("box"), fields.get("box_map")
    if box is not None and box_map is not None:
        raise ConfigError("give either box or box_map")
    if box_map is not None and not isinstance(box_map, Mapping):
        raise ConfigError(f"box_map is an object of frame numbers and boxes, not {_shown(box_map)}")
    return as_box(box) if box is not None else None if box_map is None else as_boxes(box_map)


def _shown(value: object) -> str:
    return reprlib.repr(value)


def _key(key: object) -> str:
    return f"'{key}'" if isinstance(key, str) and len(key) < 40 else _shown(key)

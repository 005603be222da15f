"""From a conversation and what is seen of its media to the fragments of a prompt, and whether they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perceptic.errors import ConfigError
from perceptic.tasks.answers import PromptSize
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import MediaSeen
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.llama_vocabulary import IMAGE
from perceptic.text.templates import Fragment, Message, Picture, Special, chat_prompt, encode_fragments


def prompt_fragments(
    conversation: Sequence[ChatMessage], seen: Sequence[MediaSeen], tokens_per_chunk: int
) -> list[Fragment]:
    """The prompt of a conversation; `seen` belongs to its media, in order."""
    pictures = iter([Picture(medium.num_chunks, is_video=medium.kind == "video") for medium in seen])
    return chat_prompt([_with_pictures(message, pictures) for message in conversation], tokens_per_chunk)


def prompt_size(
    tokenizer: LlamaTokenizer,
    conversation: Sequence[ChatMessage],
    seen: Sequence[MediaSeen],
    notes: tuple[str, ...],
    tokens_per_chunk: int,
    max_tokens: int,
) -> PromptSize:
    """How many tokens a prompt will take. Picture tokens are counted, not made: there may be millions."""
    fragments = prompt_fragments(conversation, seen, tokens_per_chunk)
    # Without the run of tokens, its place still parts the texts beside it.
    texts = [Special(IMAGE, 0) if isinstance(f, Special) and f.name == IMAGE else f for f in fragments]
    num_text_tokens = len(encode_fragments(tokenizer, texts))
    num_media_tokens = sum(medium.num_tokens for medium in seen)
    return PromptSize(num_text_tokens + num_media_tokens, num_text_tokens, max_tokens, tuple(seen), notes)


def require_fit(size: PromptSize) -> None:
    """Raises ConfigError for a prompt that leaves no room for an answer, saying what takes how much."""
    if size.fits:
        return
    shares = [f"{medium.path} {medium.num_tokens:,} ({_chunks(medium)})" for medium in size.media]
    raise ConfigError(
        f"the prompt needs {size.num_tokens:,} tokens, but the model has positions for {size.max_tokens:,} with the "
        f"answer: {', '.join([*shares, f'text {size.num_text_tokens:,}'])}. {_advice(size)}"
    )


def _chunks(medium: MediaSeen) -> str:
    if medium.kind == "video":
        return f"{medium.num_chunks} frames"
    return "1 chunk" if medium.num_chunks == 1 else f"{medium.num_chunks - 1} tiles and a thumbnail"


def _advice(size: PromptSize) -> str:
    ways = []
    if any(medium.kind == "video" and medium.num_chunks > 1 for medium in size.media):
        ways.append("lower num_frames (--frames)")
    if any(medium.kind == "image" and medium.num_chunks > 1 for medium in size.media):
        ways.append("lower max_num_tiles (--tiles)")
    if len(size.media) > 1:
        ways.append("show fewer pictures and videos")
    if size.num_text_tokens > size.max_tokens // 4:
        ways.append("shorten the text")
    return " or ".join(ways).capitalize() or "Shorten the text"


def _with_pictures(message: ChatMessage, pictures: Iterator[Picture]) -> Message:
    return Message(message.role, tuple(part if isinstance(part, str) else next(pictures) for part in message.parts))

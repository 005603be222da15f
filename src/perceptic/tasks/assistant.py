"""A PerceptionLM at work: messages in, answers out, with what was seen before kept at hand.

Every further question about the same pictures and videos costs neither decoding nor the vision tower again
(`MediaCache`), and the beginning of the prompt that it shares with an earlier one costs no decoder (`PrefixCache`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perceptic.errors import ConfigError
from perceptic.inference import generation
from perceptic.inference.generation import CancelToken, GeneratedToken
from perceptic.inference.prefix_cache import PrefixCache
from perceptic.inference.prompts import EncodedMedia, encode_media, make_prompt
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.chunks import ChunkTransform
from perceptic.tasks.answers import Answer, PreparedPrompt, PromptSize, answer_of
from perceptic.tasks.loading import LoadedPLM, PLMOptions, load_for_answers
from perceptic.tasks.looking import Looked, OpenMedium, open_medium
from perceptic.tasks.media_cache import EncodedMedium, MediaCache
from perceptic.tasks.media_parts import MediaPart
from perceptic.tasks.messages import ChatMessage, Messages, all_media, parse_messages
from perceptic.tasks.prompting import prompt_fragments, prompt_size, require_fit
from perceptic.tasks.seeing import MediaSeen, Seeing, View, notes_on, plan_views
from perceptic.text.templates import encode_fragments

DEFAULT_PLM = "PLM-Nano"
_CACHED_PREFIXES = 2  # a 36-tile prompt of the 8B takes 1.2 GB


class Assistant:
    """A loaded model with its caches. Safe to share between threads. Build one with `Assistant.load`.

    A model with random weights answers with random words; everything else about it is the same.

    Attributes:
        name: of the model. model, tokenizer, preprocessing: its parts.
        device, dtype: where and in what the decoder computes.
        fingerprint: tells two sets of weights apart.
    """

    def __init__(self, loaded: LoadedPLM) -> None:
        self.name = loaded.name
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.preprocessing = loaded.preprocessing
        self.device, self.dtype = loaded.device, loaded.dtype
        self.fingerprint = loaded.fingerprint
        self._transform = ChunkTransform(loaded.preprocessing)
        self._media = MediaCache()
        self._prefixes = PrefixCache(_CACHED_PREFIXES)

    @classmethod
    def load(cls, source: str | Path = DEFAULT_PLM, **options: Any) -> Assistant:
        """Load a model.

        Args:
            source: a zoo name, hub repository, folder or file.
            options: fields of `PLMOptions`, such as `device`, `dtype`, `weights`, `vision_device`, `local_files_only`.

        Raises:
            ConfigError: an unknown option, device or type.
            NotEnoughMemoryError: the model does not fit.
            WeightsError and its kinds, TextError: it cannot be found or read.
        """
        try:
            chosen = PLMOptions(**options)
        except TypeError as error:
            raise ConfigError(f"Assistant.load: {error}") from error
        return cls(load_for_answers(source, chosen))

    @property
    def max_tokens(self) -> int:
        """Positions of the model, for prompt and answer together."""
        return self.model.config.decoder.max_seqlen

    def look(self, media: Sequence[MediaPart], seeing: Seeing | None = None) -> tuple[MediaSeen, ...]:
        """What will be seen of media that are asked about together, from their headers alone. See `prepare`."""
        with contextlib.ExitStack() as stack:
            views = plan_views(media, seeing or Seeing(), self.preprocessing)
            return tuple(self._medium(view, stack, remembered=True).seen for view in views)

    def count(self, messages: Messages, seeing: Seeing | None = None) -> PromptSize:
        """How many tokens a conversation takes, from the headers of its media. See `prepare`."""
        conversation = parse_messages(messages)
        with contextlib.ExitStack() as stack:
            return self._size(conversation, self._open(conversation, seeing or Seeing(), stack))

    def prepare(self, messages: Messages, seeing: Seeing | None = None, *, encode: bool = True) -> PreparedPrompt:
        """Decode what a conversation shows and put its prompt together.

        Args:
            messages: checked by `parse_messages`. Dictionaries may name files of this machine but no address on the
                web; to decide otherwise, pass what `parse_messages` gives.
            encode: run the vision tower now and remember its result, so that every further question is cheap. False
                leaves it to the generation and remembers nothing: for media that are asked about once.

        Raises:
            TextError: as `parse_messages`.
            MediaError: a picture or video cannot be read.
            ConfigError: more than the model was trained with and not asked for so; or a prompt that does not fit,
                which is found out before anything is decoded. The message says what takes how many tokens.
        """
        conversation = parse_messages(messages)
        with contextlib.ExitStack() as stack:
            opened = self._open(conversation, seeing or Seeing(), stack, remembered=encode)
            require_fit(self._size(conversation, opened))
            looked = [self._look(view, medium, encode) for view, medium in zip(opened.views, opened.media, strict=True)]
        seen = tuple(medium.seen for medium in looked)
        fragments = prompt_fragments(conversation, seen, self.model.tokens_per_chunk)
        token_ids = encode_fragments(self.tokenizer, fragments)
        return PreparedPrompt(make_prompt(self.model, token_ids, _joined(looked)), seen, opened.notes)

    def generate(
        self,
        messages: Messages | PreparedPrompt,
        *,
        seeing: Seeing | None = None,
        options: GenerationOptions | None = None,
        cancel: CancelToken | None = None,
    ) -> Answer:
        """Answer the last message of a conversation.

        Args:
            cancel: once set (by another thread), the answer ends as it is, with the reason `cancelled`.

        Raises:
            TextError, MediaError, ConfigError: see `prepare`.
        """
        prepared = self._prepared(messages, seeing)
        (answer,) = self._run([prepared], options, 1, cancel, self._prefixes)
        return answer

    def stream(
        self,
        messages: Messages | PreparedPrompt,
        *,
        seeing: Seeing | None = None,
        options: GenerationOptions | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[GeneratedToken]:
        """Answer token by token; closing the iterator ends the work. See `generate`.

        What was seen is known to `prepare`, whose result may be passed here.
        """
        prompt = self._prepared(messages, seeing).prompt
        return generation.stream(
            self.model, self.tokenizer, prompt, options, prefix_cache=self._prefixes, cancel=cancel
        )

    def generate_many(
        self,
        conversations: Sequence[Messages | PreparedPrompt],
        *,
        seeing: Seeing | None = None,
        options: GenerationOptions | None = None,
        batch_size: int = 8,
        cancel: CancelToken | None = None,
    ) -> list[Answer]:
        """Answers to several conversations, in their order; each is the answer that it would get alone.

        Args:
            batch_size: how many are prepared and answered together.

        Raises:
            TextError, MediaError, ConfigError: see `prepare`; the first conversation that cannot be answered ends all.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
        answers: list[Answer] = []
        for start in range(0, len(conversations), batch_size):
            batch = [self._prepared(messages, seeing) for messages in conversations[start : start + batch_size]]
            answers += self._run(batch, options, batch_size, cancel, self._prefixes)
        return answers

    def generate_once(
        self, prepared: Sequence[PreparedPrompt], options: GenerationOptions | None = None
    ) -> list[Answer]:
        """Answers to prompts that nobody will come back to, as one batch: nothing of them is remembered."""
        return self._run(prepared, options, max(1, len(prepared)), None, None)

    def forget(self) -> None:
        """Drop what is remembered of media and prompts, and its memory."""
        self._media.clear()
        self._prefixes.clear()

    def _prepared(self, messages: Messages | PreparedPrompt, seeing: Seeing | None) -> PreparedPrompt:
        return messages if isinstance(messages, PreparedPrompt) else self.prepare(messages, seeing)

    def _run(
        self,
        prepared: Sequence[PreparedPrompt],
        options: GenerationOptions | None,
        batch_size: int,
        cancel: CancelToken | None,
        prefixes: PrefixCache | None,
    ) -> list[Answer]:
        prompts = [one.prompt for one in prepared]
        generations = generation.generate(
            self.model, self.tokenizer, prompts, options, batch_size=batch_size, prefix_cache=prefixes, cancel=cancel
        )
        return [answer_of(*pair) for pair in zip(generations, prepared, strict=True)]

    def _open(
        self, conversation: Sequence[ChatMessage], seeing: Seeing, stack: contextlib.ExitStack, remembered: bool = True
    ) -> _Opened:
        views = plan_views(all_media(conversation), seeing, self.preprocessing)
        media = tuple(self._medium(view, stack, remembered) for view in views)
        seen = [medium.seen for medium in media]
        return _Opened(views, media, notes_on(views, seen, seeing, self.preprocessing))

    def _medium(self, view: View, stack: contextlib.ExitStack, remembered: bool) -> OpenMedium | EncodedMedium:
        known = self._media.get(view.key) if remembered else None
        if known is None:
            return open_medium(view, self._transform, self.model.tokens_per_chunk, stack)
        # The same content may go by another name now.
        return replace(known, seen=replace(known.seen, path=view.part.name))

    def _look(self, view: View, medium: OpenMedium | EncodedMedium, encode: bool) -> Looked | EncodedMedium:
        if isinstance(medium, EncodedMedium):
            return medium
        looked = medium.look()
        if not encode:
            return looked
        encoded = EncodedMedium(looked.seen, encode_media(self.model, looked.chunks))
        self._media.store(view.key, encoded)
        return encoded

    def _size(self, conversation: Sequence[ChatMessage], opened: _Opened) -> PromptSize:
        seen = [medium.seen for medium in opened.media]
        return prompt_size(
            self.tokenizer, conversation, seen, opened.notes, self.model.tokens_per_chunk, self.max_tokens
        )


def load_assistant(model: str | Path | Assistant, **options: Any) -> Assistant:
    """A model made ready to answer; an `Assistant` is returned as it is, and the options are ignored."""
    return model if isinstance(model, Assistant) else Assistant.load(model, **options)


@dataclass(frozen=True)
class _Opened:
    """The media of one conversation before they are decoded."""

    views: tuple[View, ...]
    media: tuple[OpenMedium | EncodedMedium, ...]
    notes: tuple[str, ...]


def _joined(looked: Sequence[Looked | EncodedMedium]) -> EncodedMedia | Tensor | None:
    """All chunks of a conversation in one tensor: encoded, or all still to be encoded."""
    encoded = [medium.encoded for medium in looked if isinstance(medium, EncodedMedium)]
    if encoded:
        assert len(encoded) == len(looked), "media are encoded together or not at all"
        keys = tuple(key for medium in encoded for key in medium.keys)
        return EncodedMedia(_cat([medium.features for medium in encoded]), keys)
    chunks = [medium.chunks for medium in looked if isinstance(medium, Looked)]
    return _cat(chunks) if chunks else None


def _cat(parts: Sequence[Tensor]) -> Tensor:
    """Joined; a single part is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))

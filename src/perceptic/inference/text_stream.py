"""Tokens to text while they come: whole characters only, and nothing that may turn out to be a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from perceptic.text.llama_tokenizer import LlamaTokenizer


class TextStream:
    """The text of one answer. The pieces of all `push` and `finish` calls together are the answer."""

    def __init__(self, tokenizer: LlamaTokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped_by: str | None = None  # the stop string that has come

    def push(self, token_id: int) -> str:
        """The text that is certain after one more token; empty inside a character or a possible stop string."""
        return self._release(self._decoder.decode(self._tokenizer.token_bytes(token_id)))

    def finish(self) -> str:
        """The text held back, when no more tokens come."""
        released = self._release(self._decoder.decode(b"", final=True))
        if self.stopped_by is not None:
            return released
        released, self._held = released + self._held, ""
        return released

    def _release(self, text: str) -> str:
        if self.stopped_by is not None:
            return ""
        text = self._held + text
        found = [(text.find(stop), stop) for stop in self._stop if stop in text]
        if found:
            position, self.stopped_by = min(found)
            self._held = ""
            return text[:position]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text are the beginning of the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)

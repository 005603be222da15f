"""Media that have been seen lately, with what the vision tower made of them: encode once, ask often."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from perceptic.inference.prompts import EncodedMedia
from perceptic.tasks.seeing import MediaSeen

DEFAULT_MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class EncodedMedium:
    """What was seen of one medium, and the decoder tokens of its chunks."""

    seen: MediaSeen
    encoded: EncodedMedia

    @property
    def num_bytes(self) -> int:
        return self.encoded.features.nbytes


class MediaCache:
    """The most recently used media, up to a number of bytes. Safe to share between threads.

    A picture of 36 tiles takes 39 MB for the 1B in bfloat16, a video of 32 frames 34 MB. The most recent medium is kept
    whatever its size: the next question is most likely about it.
    """

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, EncodedMedium] = OrderedDict()  # most recent last
        self._lock = threading.Lock()

    def get(self, key: Hashable | None) -> EncodedMedium | None:
        with self._lock:
            entry = None if key is None else self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def store(self, key: Hashable | None, medium: EncodedMedium) -> None:
        if key is None:
            return
        with self._lock:
            self._entries[key] = medium
            self._entries.move_to_end(key)
            total = sum(entry.num_bytes for entry in self._entries.values())
            while total > self.max_bytes and len(self._entries) > 1:
                _, dropped = self._entries.popitem(last=False)
                total -= dropped.num_bytes

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

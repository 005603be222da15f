"""Everything perceptic raises on purpose.

A user can catch `PercepticError` and be sure that the message names the file, key or argument, says what was
expected and what to do next. Anything else that escapes is a bug in perceptic.
"""

from __future__ import annotations

from typing import Final

EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, what a shell reports for a program stopped with Ctrl-C."""


class PercepticError(Exception):
    """Base of every error raised for a user."""


class ConfigError(PercepticError, ValueError):
    """A name, option or configuration value that does not exist or cannot work."""


class MediaError(PercepticError):
    """An image or video that cannot be read. `path` names it; `reason` is one short phrase for tables."""

    def __init__(self, path: object, reason: str, advice: str = "") -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{self.path}: {reason}" + (f" ({advice})" if advice else ""))

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class WeightsError(PercepticError):
    """A checkpoint that is missing, damaged, of a foreign format or of another architecture."""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """No such model name, file, folder or repository."""


class HubError(WeightsError):
    """The model hub could not be reached or refused the file."""


class TextError(PercepticError, ValueError):
    """Text that cannot be tokenised, or a vocabulary that cannot be found or read."""


class DataError(PercepticError):
    """Training or evaluation data that cannot be read or does not fit together."""


class TrainError(PercepticError):
    """A training run that cannot start, continue or be saved."""


class NetworkError(PercepticError):
    """A service that cannot be reached, refuses, or does not answer in its protocol."""


class MissingDependencyError(PercepticError, ImportError):
    """An optional package is needed for this and is not installed."""


class OutputError(PercepticError, OSError):
    """A result that cannot be written: no space, no permission, a folder in the way."""


class NotEnoughMemoryError(PercepticError, MemoryError):
    """A model does not fit in the memory that a device has free."""

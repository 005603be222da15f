"""Describe files: one (`caption`), or whole folders into a JSONL file, resumably (`caption_to_file`)."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perceptic.errors import ConfigError, MediaError
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.collection import MediaFile
from perceptic.media.cores import usable_cores
from perceptic.media.prefetch import Decoded, Failure, decode_stream
from perceptic.tasks.answers import Answer, PreparedPrompt
from perceptic.tasks.ask import Media
from perceptic.tasks.assistant import DEFAULT_PLM, Assistant, load_assistant
from perceptic.tasks.captions_file import CaptionRow, CaptionSettings, CaptionsFile, open_captions
from perceptic.tasks.describe import IMAGE_PROMPT, VIDEO_PROMPT, whole_prompt
from perceptic.tasks.media_list import FileState, MediaList, Paths, absolute_list, file_state, list_media
from perceptic.tasks.media_parts import MediaPart, media_part
from perceptic.tasks.media_stream import OnProgress, Progress, ignore_progress
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Seeing, plan_views

_MOST_DECODERS = 4


@dataclass(frozen=True)
class CaptionSummary:
    """What `caption_to_file` did. `skipped` files had a caption already; `failures` maps path to reason."""

    output: str
    model: str
    files: int
    captioned: int
    skipped: int
    failed: int
    seconds: float
    failures: dict[str, str]


def caption(
    source: Media,
    *,
    model: str | Path | Assistant = DEFAULT_PLM,
    prompt: str | None = None,
    seeing: Seeing | None = None,
    options: GenerationOptions | None = None,
    **loading: Any,
) -> Answer:
    """Describe one picture or video.

    Args:
        source: a path, an address, the bytes of a file, a Pillow image or a `MediaPart`.
        prompt: asked instead of what the released models know: "Describe the image in details." or "What is happening
            in the video?".
        loading: as in `ask`.

    Raises:
        MediaError: the file cannot be read. ConfigError: a prompt that does not fit.
        WeightsError and its kinds: the model cannot be loaded.
    """
    part = source if isinstance(source, MediaPart) else media_part(source)
    assistant = load_assistant(model, **loading)
    return assistant.generate(_messages(part, prompt), seeing=seeing, options=options)


def caption_to_file(
    paths: Paths,
    output: str | Path,
    *,
    model: str | Path | Assistant = DEFAULT_PLM,
    prompt: str | None = None,
    seeing: Seeing | None = None,
    options: GenerationOptions | None = None,
    batch_size: int = 8,
    restart: bool = False,
    on_progress: OnProgress = ignore_progress,
    **loading: Any,
) -> CaptionSummary:
    """Describe many pictures and videos into a JSONL file, in batches, resumably.

    One row is one file: `{"path", "kind", "text", ...}`, or `{"path", "kind", "error"}` with the reason why it could
    not be read. Rows are written as they come. Files that have a caption already (same absolute path, size and
    modification time) are skipped, so the same call again continues after any interruption, SIGKILL included, and adds
    what is new; files that failed are tried again. Rows of files that are not in `paths` stay.

    Args:
        paths: files, folders (searched deeply) and globs.
        output: ends in `.jsonl`; while it is written, `<output>.lock` beside it keeps other processes off.
        prompt, seeing, options, loading: as in `caption`.
        batch_size: files that are answered together. More is faster until memory ends: each takes its prompt's cache,
            0.3 GB for a picture of 36 tiles with the 1B in bfloat16.
        restart: throw away what is there and begin anew.
        on_progress: called after every file.

    Raises:
        ConfigError: another suffix; an existing output made with another model, prompt or settings; more frames or
            tiles than the model was trained with, and not asked for so.
        DataError, MediaError: nothing to describe, or the existing output is no captions file.
        OutputError: no space, no permission, or another process writes the same output.
        KeyboardInterrupt: passed on; what is finished is saved, and its text says how to continue.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
    started = time.monotonic()
    assistant = load_assistant(model, **loading)
    seeing, options = seeing or Seeing(), options or GenerationOptions()
    media = absolute_list(list_media(paths))
    for kind in ("image", "video"):  # settings that fail with every file end the run before it begins
        plan_views([MediaPart(kind, b"", kind)], seeing, assistant.preprocessing)
    with open_captions(Path(output), caption_settings(assistant, prompt, seeing, options), restart) as captions:
        todo = [file for file in media.files if not captions.has(file)]
        run = _Run(assistant, prompt, seeing, options, batch_size)
        failures = _write_rows(run, todo, media, captions, on_progress)
        captions.finish()
    failed = len(failures)
    return CaptionSummary(
        output=str(output),
        model=assistant.name,
        files=len(media.files) + len(media.missing),
        captioned=len(todo) + len(media.missing) - failed,
        skipped=len(media.files) - len(todo),
        failed=failed,
        seconds=round(time.monotonic() - started, 3),
        failures=failures,
    )


def caption_settings(
    assistant: Assistant, prompt: str | None, seeing: Seeing, options: GenerationOptions
) -> CaptionSettings:
    """What captions of these arguments may be mixed with."""
    return CaptionSettings(
        model=assistant.name,
        weights=assistant.fingerprint,
        dtype=str(assistant.dtype).removeprefix("torch."),
        image_prompt=prompt or IMAGE_PROMPT,
        video_prompt=prompt or VIDEO_PROMPT,
        seeing=seeing.to_dict(),
        options=options.to_dict(),
    )


@dataclass(frozen=True)
class _Run:
    """How the files of one run are described."""

    assistant: Assistant
    prompt: str | None
    seeing: Seeing
    options: GenerationOptions
    batch_size: int

    def rows(self, files: Sequence[MediaFile]) -> Generator[CaptionRow, None, None]:
        """One row for each file, those that cannot be read as soon as that is known."""
        workers = min(_MOST_DECODERS, usable_cores())
        # What is decoded waits as float pixels, up to 90 MB a file: no more of it than keeps the model busy.
        decoded = decode_stream(files, self._prepare, workers=workers, ahead=workers + 1)
        waiting: list[Decoded[_Prepared]] = []
        with closing(decoded):
            for result in decoded:
                if isinstance(result, Failure):
                    yield _failed_row(result.file, result.error.reason)
                    continue
                waiting.append(result)
                if len(waiting) == self.batch_size:
                    yield from self._answer(waiting)
                    waiting = []
            yield from self._answer(waiting)

    def _prepare(self, file: MediaFile) -> _Prepared:
        state = file_state(file.path)  # before reading: should it change meanwhile, it is described again
        part = MediaPart(file.kind, file.path, str(file.path))
        try:
            prompt = self.assistant.prepare(_messages(part, self.prompt), self.seeing, encode=False)
        except ConfigError as error:  # of this file alone: settings have been tried before
            raise MediaError(file.path, str(error)) from error
        return _Prepared(prompt, state)

    def _answer(self, waiting: Sequence[Decoded[_Prepared]]) -> Iterator[CaptionRow]:
        answers = self.assistant.generate_once([one.value.prompt for one in waiting], self.options)
        for one, answer in zip(waiting, answers, strict=True):
            yield _answered_row(one.file, answer, one.value.state)


@dataclass(frozen=True)
class _Prepared:
    prompt: PreparedPrompt
    state: FileState


def _write_rows(
    run: _Run, todo: Sequence[MediaFile], media: MediaList, captions: CaptionsFile, on_progress: OnProgress
) -> dict[str, str]:
    """Describe files and keep each row; the reasons of those that failed."""
    failures = dict(media.missing)
    for path, reason in failures.items():
        captions.append(CaptionRow(path, "unknown", error=reason))
    done = 0
    try:
        with closing(run.rows(todo)) as rows:
            for done, row in enumerate(rows, start=1):
                captions.append(row)
                if row.error is not None:
                    failures[row.path] = row.error
                on_progress(Progress(done, len(failures), len(todo)))
    except KeyboardInterrupt:
        message = f"{done} of {len(todo)} files are saved; run the same command again to continue."
        raise KeyboardInterrupt(message) from None
    return failures


def _messages(part: MediaPart, prompt: str | None) -> tuple[ChatMessage, ...]:
    return (ChatMessage.user(part, prompt or whole_prompt(part)),)


def _answered_row(file: MediaFile, answer: Answer, state: FileState) -> CaptionRow:
    seen = answer.media[0]
    return CaptionRow(
        path=str(file.path),
        kind=file.kind,
        text=answer.text,
        finish_reason=answer.finish_reason,
        num_prompt_tokens=answer.num_prompt_tokens,
        num_answer_tokens=answer.num_answer_tokens,
        width=seen.width,
        height=seen.height,
        frame_seconds=seen.frame_seconds,
        notes=answer.notes,
        size_bytes=state[0],
        modified_ns=state[1],
    )


def _failed_row(file: MediaFile, reason: str) -> CaptionRow:
    size, modified = file_state(file.path)
    return CaptionRow(str(file.path), file.kind, error=reason, size_bytes=size, modified_ns=modified)

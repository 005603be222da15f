"""Work that survives any death: finished rows are kept in whole parts beside the output until they are merged.

`out.parquet.parts/` holds `settings.json` and `part-000001.parquet`, `part-000002.parquet`, ... Each is written under a
temporary name and renamed, so a process killed at any instant leaves only whole parts. At the end all parts become the
output in one rename and the folder goes. A folder that is still there therefore holds the truth, and the next run
continues from it; an output without such a folder is complete, and becomes the first part when files are added.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from perceptic.errors import ConfigError, DataError, OutputError
from perceptic.files import write_text
from perceptic.tasks.embeddings_file import (
    FORMATS,
    Embedding,
    EmbeddingSettings,
    read_batches,
    read_settings,
    sidecar,
    to_batch,
    write_embeddings,
    write_part,
)
from perceptic.tasks.file_lock import exclusive_lock
from perceptic.tasks.media_list import FileState


class Journal:
    """The parts of one output. Open it with `open_journal`, which holds the lock.

    Attributes:
        done: path -> (size, modification time) of every file that has a vector. Failed files are not in it: whatever
            was wrong may have been mended without touching the file, so they are tried again.
    """

    def __init__(self, output: Path, settings: EmbeddingSettings, restart: bool = False) -> None:
        self.output = output
        self.settings = settings
        self.folder = parts_folder(output)
        if output.exists():
            read_settings(output)  # never replace a file that is not ours, not even when asked to restart
        if restart:
            for part in self._parts():
                part.unlink()
        # With `restart` the old output stays in place until the new one is whole.
        self._from_output = not restart and not self._parts() and output.exists()
        sources = [output] if self._from_output else self._parts()
        for source in sources:
            self._require_same(source)
        self.done: dict[str, FileState] = {}
        for source in sources:
            for batch in _read_part(source):
                self.done.update(_finished(batch))

    def append(self, rows: list[Embedding]) -> None:
        """Keep rows for good. Raises OutputError (no space, no permission)."""
        if not rows:
            return
        if self._from_output:
            write_part(self.folder / _part_name(0), read_batches(self.output), self.settings)
            self._from_output = False
        parts = self._parts()
        number = int(parts[-1].stem.removeprefix("part-")) + 1 if parts else 1
        write_part(self.folder / _part_name(number), [to_batch(rows, self.settings)], self.settings)

    def finish(self) -> None:
        """Merge all parts into the output, every path once (its newest row), and remove the parts.

        Raises:
            OutputError: the output cannot be written; the parts stay.
        """
        if not self._from_output:
            # Written inside the folder first: what a killed merge leaves lying about goes with the folder.
            whole = self.folder / f"whole{self.output.suffix}"
            write_embeddings(whole, self._newest_rows(), self.settings)
            with _output_errors(self.output):
                if self.output.suffix == ".npy":
                    sidecar(whole).replace(sidecar(self.output))
                whole.replace(self.output)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_rows(self) -> Iterator[pa.RecordBatch]:
        parts = self._parts()
        newest: dict[str, tuple[int, int]] = {}
        for number, part in enumerate(parts):
            paths = (path for batch in _read_part(part) for path in batch.column("path").to_pylist())
            newest.update((path, (number, row)) for row, path in enumerate(paths))
        for number, part in enumerate(parts):
            start = 0
            for batch in _read_part(part):
                rows = range(start, start + len(batch))
                keep = [newest[p] == (number, r) for p, r in zip(batch.column("path").to_pylist(), rows, strict=True)]
                start += len(batch)
                yield batch.filter(pa.array(np.array(keep, dtype=bool)))

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _require_same(self, source: Path) -> None:
        differences = read_settings(source).differences(self.settings)
        if differences:
            raise ConfigError(
                f"{self.output}: was begun with other settings ({'; '.join(differences)}). Use the same settings, "
                "another output file, or --restart to throw away what is there"
            )


@contextlib.contextmanager
def open_journal(output: Path, settings: EmbeddingSettings, restart: bool = False) -> Iterator[Journal]:
    """Lock an output and read what is already done.

    Args:
        restart: begin anew; an existing output of ours is replaced at the end.

    Raises:
        ConfigError: an unknown suffix, or an output made with other settings.
        DataError: the existing file is not an embeddings file, or a part is damaged.
        OutputError: another process writes this output, or the folder cannot be written.
    """
    if output.suffix not in FORMATS:
        raise ConfigError(f"{output}: the output must end in {', '.join(FORMATS)}")
    if output.is_dir():
        raise OutputError(f"{output}: is a folder; give a file name")
    folder = parts_folder(output)
    busy = f"{output}: another process is writing it; wait for it or choose another output"
    with exclusive_lock(folder / "lock", busy):
        try:
            journal = Journal(output, settings, restart)
            # For people who find the folder; each part carries the settings that are compared.
            write_text(folder / "settings.json", json.dumps(asdict(settings), indent=2))
            yield journal
        finally:
            if not any(folder.glob("part-*.parquet")):
                shutil.rmtree(folder, ignore_errors=True)


def parts_folder(output: Path) -> Path:
    """Where unfinished work on `output` lies."""
    return output.with_name(output.name + ".parts")


def _part_name(number: int) -> str:
    return f"part-{number:06d}.parquet"


def _read_part(part: Path) -> Iterator[pa.RecordBatch]:
    try:
        yield from read_batches(part)
    except pa.ArrowException as error:
        raise DataError(f"{part}: is damaged ({error}); delete it, and its files are embedded again") from error


def _finished(batch: pa.RecordBatch) -> Iterator[tuple[str, FileState]]:
    columns = [batch.column(name).to_pylist() for name in ("path", "size_bytes", "modified_ns", "error")]
    for path, size, modified, error in zip(*columns, strict=True):
        if error is None:
            yield path, (size, modified)


@contextlib.contextmanager
def _output_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error

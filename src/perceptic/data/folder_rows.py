"""A folder of captioned pictures and videos as rows of the language model: no question, the caption is the answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perceptic.data.folder_units import CaptionedFile, find_captioned
from perceptic.data.plm_rows import ImageRow, PlmRow, Turn, VideoRow


@dataclass(frozen=True)
class FolderRows:
    """One row a file. Of several captions the most detailed is learned: the third line, a sidecar's human caption."""

    folder: Path
    files: tuple[CaptionedFile, ...]

    @classmethod
    def find(cls, folder: Path) -> FolderRows:
        """See `find_captioned`."""
        return cls(folder, find_captioned(folder))

    def __len__(self) -> int:
        return len(self.files)

    def where(self, index: int) -> str:
        """The file."""
        return str(self.files[index].path)

    def row(self, index: int) -> PlmRow:
        """Row `index`, from 0. Raises SampleError for a file without a caption that can be read."""
        file = self.files[index]
        turns = (Turn("human", ""), Turn("assistant", file.captions()[-1]))
        path = str(file.path.relative_to(self.folder))
        return VideoRow(turns, path, None, None, {}) if file.is_video else ImageRow(turns, path)

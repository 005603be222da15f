"""README and docs are programs: every ```python and ```console block runs, page by page.

A page's blocks share one folder (with `photos/`, a few pictures and clips). Its console blocks run first, in order,
then its Python blocks as one program.
In console blocks the lines after `$ ` are run; what they print is for the reader and not compared. A block after the
line `<!-- not run: reason -->` is left out: downloads, clusters, hours.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?P<skip><!-- not run: [^>]+-->\n)?^```(?P<language>python|console)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    language: str
    code: str


def blocks_of(page: Path) -> list[Block]:
    return [
        Block(match["language"], match["code"]) for match in FENCE.finditer(page.read_text()) if match["skip"] is None
    ]


def commands_of(code: str) -> str:
    """The shell script of a console block: lines after `$ `, with their `\\` continuations."""
    script: list[str] = []
    continued = False
    for line in code.splitlines():
        if line.startswith("$ ") or continued:
            script.append(line.removeprefix("$ "))
            continued = line.endswith("\\")
    return "\n".join(script)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collection")
    run_shell("perceptic world --out made --images 6 --videos 2 --seed 5 --jobs 1 && mkdir photos", folder)
    for source in [*folder.glob("made/images/*.png"), *folder.glob("made/videos/*.mp4")]:
        source.rename(folder / "photos" / source.name)
    return folder / "photos"


def run_shell(script: str, folder: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{script}\n--- stdout\n{done.stdout[-2000:]}\n--- stderr\n{done.stderr[-2000:]}"


def run_python(code: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{code}\n--- stderr\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page: Path, collection: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    if not blocks:
        pytest.skip("no runnable block on this page")
    (tmp_path / "photos").mkdir()
    for source in collection.iterdir():
        (tmp_path / "photos" / source.name).write_bytes(source.read_bytes())
    for block in blocks:
        if block.language == "console":
            run_shell(commands_of(block.code), tmp_path)
    run_python("\n".join(block.code for block in blocks if block.language == "python"), tmp_path)


def test_the_readme_has_runnable_blocks() -> None:
    languages = {block.language for block in blocks_of(ROOT / "README.md")}
    assert languages == {"python", "console"}


def test_continuation_lines_belong_to_their_command() -> None:
    assert commands_of("$ a \\\n    b\nprinted\n$ c\n") == "a \\\n    b\nc"

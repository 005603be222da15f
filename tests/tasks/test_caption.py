"""Captions of many files: every file a row, whatever happens in between. Weights are random."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from perceptic.errors import ConfigError, DataError, MediaError, OutputError
from perceptic.inference.sampling import GenerationOptions
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.caption import CaptionSummary, caption, caption_to_file
from perceptic.tasks.file_lock import exclusive_lock
from perceptic.tasks.media_stream import Progress
from perceptic.tasks.seeing import Seeing

SHORT = GenerationOptions(max_new_tokens=4)


@pytest.fixture
def folder(media: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(media, tmp_path / "media"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "captions.jsonl"


def run(assistant: Assistant, paths: Any, output: Path, **arguments: Any) -> CaptionSummary:
    return caption_to_file(paths, output, **{"model": assistant, "options": SHORT, "batch_size": 3, **arguments})


def rows(output: Path) -> dict[str, dict[str, Any]]:
    lines = output.read_text(encoding="utf-8").splitlines()
    found = {row["path"]: row for row in map(json.loads, lines)}
    assert len(found) == len(lines), "a path has two rows"
    return found


def test_every_file_becomes_a_row(assistant: Assistant, folder: Path, output: Path) -> None:
    seen: list[Progress] = []
    summary = run(assistant, folder, output, on_progress=seen.append)
    assert (summary.files, summary.captioned, summary.failed, summary.skipped) == (8, 6, 2, 0)
    assert summary.model == "tiny-plm"
    assert seen[-1] == Progress(8, 2, 8)
    found = rows(output)
    assert set(found) == {str(path) for path in folder.rglob("*.*") if path.suffix != ".txt"}
    torn = {path: row["error"] for path, row in found.items() if "error" in row}
    assert torn == summary.failures
    assert {Path(path).name for path in torn} == {"torn.png", "torn.mp4"}
    for path, row in found.items():
        if "error" in row:
            assert "text" not in row
            continue
        alone = caption(path, model=assistant, options=SHORT)
        assert row["text"] == alone.text
        assert row["num_prompt_tokens"] == alone.num_prompt_tokens
        assert tuple(row.get("frame_seconds", ())) == alone.media[0].frame_seconds
        assert (row["width"], row["height"]) == (alone.media[0].width, alone.media[0].height)
    assert sorted(path.name for path in output.parent.iterdir()) == ["captions.jsonl", "media"]


def test_what_is_done_is_not_done_again(assistant: Assistant, folder: Path, output: Path) -> None:
    run(assistant, folder, output)
    before = rows(output)
    (folder / "torn.png").unlink()
    shutil.copy(folder / "a.png", folder / "new.png")
    Image.new("RGB", (9, 9), "red").save(folder / "b.jpg")
    again = run(assistant, [folder, folder.parent / "gone.png"], output)
    # torn.mp4 is tried again; the row of the file that is gone stays.
    assert (again.captioned, again.skipped, again.failed) == (2, 5, 2)
    after = rows(output)
    assert set(after) == {*before, str(folder / "new.png"), str(folder.parent / "gone.png")}
    assert after[str(folder.parent / "gone.png")]["error"] == "no such file or folder"
    changed = str(folder / "b.jpg")
    assert (after[changed]["width"], before[changed]["width"]) == (9, 30)
    same = set(before) - {changed, str(folder / "torn.mp4")}
    assert {path: after[path] for path in same} == {path: before[path] for path in same}
    Image.new("RGB", (9, 9), "red").save(folder / "torn.mp4", "PNG")
    assert run(assistant, folder, output).failed == 1


def test_paths_are_absolute(assistant: Assistant, folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    run(assistant, "a.png", output)
    monkeypatch.chdir(folder.parent)
    assert run(assistant, "media/a.png", output).skipped == 1


def test_other_settings_do_not_continue(assistant: Assistant, folder: Path, output: Path) -> None:
    run(assistant, folder / "a.png", output)
    others: list[tuple[str, dict[str, Any]]] = [
        ("image_prompt", {"prompt": "What?"}),
        ("options", {"options": SHORT.replace(temperature=1.0, seed=3)}),
        ("seeing", {"seeing": Seeing(max_num_tiles=1)}),
    ]
    content = output.read_bytes()
    for name, arguments in others:
        with pytest.raises(ConfigError, match=rf"line 1 was made with other settings \({name}: .*--restart"):
            run(assistant, folder / "a.png", output, **arguments)
    assert output.read_bytes() == content
    restarted = run(assistant, folder / "b.jpg", output, restart=True, prompt="What?")
    assert restarted.captioned == 1
    assert list(rows(output)) == [str(folder / "b.jpg")]


def test_other_weights_do_not_continue(assistant: Assistant, folder: Path, output: Path) -> None:
    run(assistant, folder / "a.png", output)
    before, assistant.fingerprint = assistant.fingerprint, "another"
    try:
        with pytest.raises(ConfigError, match="weights: "):
            run(assistant, folder / "a.png", output)
    finally:
        assistant.fingerprint = before


def test_a_cut_row_is_dropped(assistant: Assistant, folder: Path, output: Path) -> None:
    run(assistant, [folder / "a.png", folder / "b.jpg"], output)
    whole = output.read_bytes()
    first_line = whole.index(b"\n") + 1
    for length in (first_line + 1, first_line + 40, len(whole) - 2):
        output.write_bytes(whole[:length])
        summary = run(assistant, [folder / "a.png", folder / "b.jpg"], output)
        assert (summary.skipped, summary.captioned) == (1, 1)
        assert output.read_bytes() == whole
    output.write_bytes(whole[:-1])  # an editor took the last line end
    assert run(assistant, [folder / "a.png", folder / "b.jpg"], output).skipped == 2
    assert output.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"my notes", "line 1 is no JSON"),
        (b"my notes\n", "line 1 is no JSON"),
        (b'{"path": "a.png"}\n', "line 1 is no row of a captions file"),
        (b"[1, 2]", "line 1 is no row"),
        (b'{"text": "\xff"}\n', "line 1 is no JSON"),
        (b'{"path": "a", "text": "x", "made_with": {}}\n{"path": \n', "line 2 is no JSON"),
    ],
)
def test_other_files_are_never_touched(
    assistant: Assistant, folder: Path, output: Path, content: bytes, reason: str
) -> None:
    output.write_bytes(content)
    for restart in (False, True):
        with pytest.raises((DataError, ConfigError), match=f"{reason}|other settings"):
            run(assistant, folder / "a.png", output, restart=restart)
        assert output.read_bytes().rstrip() == content.rstrip()


def test_only_one_process_writes(assistant: Assistant, folder: Path, output: Path) -> None:
    lock = output.with_name("captions.jsonl.lock")
    with exclusive_lock(lock, "busy"), pytest.raises(OutputError, match="another process is writing it"):
        run(assistant, folder / "a.png", output)
    assert run(assistant, folder / "a.png", output).captioned == 1
    assert not lock.exists()


def test_what_cannot_begin(assistant: Assistant, folder: Path, output: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.jsonl"):
        run(assistant, folder, output.with_suffix(".csv"))
    with pytest.raises(ConfigError, match="batch_size"):
        run(assistant, folder, output, batch_size=0)
    with pytest.raises(ConfigError, match="num_frames=9 is more than the 4"):
        run(assistant, folder, output, seeing=Seeing(num_frames=9))
    with pytest.raises(MediaError, match="no such file or folder"):
        run(assistant, tmp_path / "gone", output)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image or video"):
        run(assistant, tmp_path / "empty", output)
    (tmp_path / "dir.jsonl").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        run(assistant, folder, tmp_path / "dir.jsonl")
    assert not output.exists()


def test_a_file_that_does_not_fit_is_a_row(assistant: Assistant, folder: Path, output: Path) -> None:
    summary = run(assistant, folder / "a.png", output, prompt="word " * 12000)
    assert summary.failed == 1
    assert "the prompt needs" in rows(output)[str(folder / "a.png")]["error"]


def test_an_interrupted_run_says_how_to_go_on(assistant: Assistant, folder: Path, output: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="3 of 8 files are saved; run the same command again"):
        run(assistant, folder, output, on_progress=interrupt)
    assert len(rows(output)) == 3
    assert not output.with_name("captions.jsonl.lock").exists()
    run(assistant, folder, output)
    assert len(rows(output)) == 8


def test_names_that_are_not_unicode(assistant: Assistant, folder: Path, output: Path) -> None:
    path = os.fsencode(folder) + b"/\xff\xe9.png"
    try:
        shutil.copy(folder / "a.png", path)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    run(assistant, os.fsdecode(path), output)
    assert run(assistant, os.fsdecode(path), output).skipped == 1


PROGRAM = """
    import sys, time
    from perceptic.tasks.assistant import Assistant
    from perceptic.tasks.caption import caption_to_file
    from perceptic.inference.sampling import GenerationOptions

    def slowly(progress):
        print(progress.done, flush=True)
        time.sleep(0.02)

    model, folder, output = sys.argv[1:]
    assistant = Assistant.load(model, dtype="float32")
    options = GenerationOptions(max_new_tokens=4)
    caption_to_file(folder, output, model=assistant, options=options, batch_size=3, on_progress=slowly)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_run_continues(
    assistant: Assistant, plm_folder: Path, folder: Path, output: Path, tmp_path: Path
) -> None:
    for index in range(20):
        Image.new("RGB", (20, 20), (index, 0, 0)).save(folder / f"more{index}.png")
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, str(program), str(plm_folder), str(folder), str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 5:
                break
        process.send_signal(signal.SIGKILL)
    time.sleep(0.01)
    kept = output.read_bytes()
    saved = kept.count(b"\n")
    assert 5 <= saved < 28
    summary = run(assistant, folder, output)
    failed = kept.count(b'"error"')
    assert summary.skipped == saved - failed
    assert summary.files == len(rows(output)) == 28
    whole = tmp_path / "whole.jsonl"
    run(assistant, folder, whole)
    assert rows(whole) == rows(output)

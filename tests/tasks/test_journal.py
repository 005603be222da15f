"""The journal keeps every row once, whatever happens between two calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.errors import ConfigError, DataError, OutputError
from perceptic.tasks.embeddings_file import FORMATS, Embedding, EmbeddingSettings, read_embeddings
from perceptic.tasks.journal import open_journal, parts_folder

SETTINGS = EmbeddingSettings("tiny", "00ff", 2, {"image_size": 8}, 8, "float32")


def row(name: str, value: float = 1.0, error: str | None = None) -> Embedding:
    vector = None if error else np.array([value, 0], np.float32)
    return Embedding(name, "image", vector, error, size_bytes=1, modified_ns=2)


def stored(output: Path) -> dict[str, float]:
    found = read_embeddings(output)
    assert len(set(found.paths)) == len(found.paths), "a path is there twice"
    return dict(zip(found.paths, found.vectors[:, 0].tolist(), strict=True))


@pytest.mark.parametrize("suffix", FORMATS)
def test_parts_become_one_file_and_the_folder_goes(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    with open_journal(output, SETTINGS) as journal:
        journal.append([row("a", 1), row("b", 2)])
        journal.append([row("c", 3)])
        assert not output.exists()
        journal.finish()
    assert stored(output) == {"a": 1, "b": 2, "c": 3}
    assert not parts_folder(output).exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_was_kept_before_a_death_is_done(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    with open_journal(output, SETTINGS) as journal:
        journal.append([row("a"), row("bad", error="torn")])
    with open_journal(output, SETTINGS) as journal:
        assert journal.done == {"a": (1, 2)}  # the failed one is tried again
        journal.append([row("bad", 5)])
        journal.finish()
    assert stored(output) == {"a": 1, "bad": 5}


@pytest.mark.parametrize("suffix", FORMATS)
def test_adding_to_a_finished_output(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    with open_journal(output, SETTINGS) as journal:
        journal.append([row("a", 1), row("b", 2)])
        journal.finish()
    with open_journal(output, SETTINGS) as journal:
        assert set(journal.done) == {"a", "b"}
        journal.append([row("b", 7), row("c", 3)])
        assert set(stored(output)) == {"a", "b"}, "the old output stays until the new one is whole"
    with open_journal(output, SETTINGS) as journal:  # died before finishing
        assert set(journal.done) == {"a", "b", "c"}
        journal.finish()
    assert stored(output) == {"a": 1, "b": 7, "c": 3}


def test_death_between_the_merge_and_the_removal_of_parts(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    with open_journal(output, SETTINGS) as journal:
        journal.append([row("a")])
        kept = (journal.folder / "part-000001.parquet").read_bytes()
        journal.finish()
    parts_folder(output).mkdir()
    (parts_folder(output) / "part-000001.parquet").write_bytes(kept)
    with open_journal(output, SETTINGS) as journal:
        assert set(journal.done) == {"a"}
        journal.finish()
    assert stored(output) == {"a": 1}


def test_nothing_to_do_leaves_the_output_untouched(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    with open_journal(output, SETTINGS) as journal:
        journal.append([row("a")])
        journal.finish()
    before = output.stat().st_mtime_ns, output.stat().st_ino
    with open_journal(output, SETTINGS) as journal:
        journal.append([])
        journal.finish()
    assert (output.stat().st_mtime_ns, output.stat().st_ino) == before
    assert not parts_folder(output).exists()


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    with open_journal(output, SETTINGS) as journal:
        journal.append([row("a")])
        journal.finish()
    other = EmbeddingSettings("tiny", "eeee", 2, {"image_size": 8}, 4, "float32")
    with pytest.raises(ConfigError, match=r"weights: 00ff there, eeee now; num_frames: 8 there, 4 now.*--restart"):
        open_journal(output, other).__enter__()
    with open_journal(output, other, restart=True) as journal:
        assert journal.done == {}
        assert stored(output) == {"a": 1}, "the old output stays until the new one is whole"
        journal.append([row("z", 9)])
        journal.finish()
    assert stored(output) == {"z": 9}


def test_other_names_for_the_same_weights_are_fine(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    for name in ("tiny", "./folder/tiny"):
        with open_journal(output, EmbeddingSettings(name, "00ff", 2, {"image_size": 8}, 8, "float32")) as journal:
            journal.append([row(name)])
            journal.finish()
    assert set(stored(output)) == {"tiny", "./folder/tiny"}


def test_a_foreign_file_is_never_replaced(tmp_path: Path) -> None:
    output = tmp_path / "mine.parquet"
    output.write_text("my only copy")
    for restart in (False, True):
        with pytest.raises(DataError, match=r"mine\.parquet"):
            open_journal(output, SETTINGS, restart).__enter__()
    assert output.read_text() == "my only copy"
    assert not parts_folder(output).exists()


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    with open_journal(output, SETTINGS) as journal:
        journal.append([row("a")])
    (parts_folder(output) / "part-000001.parquet").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"part-000001\.parquet"):
        open_journal(output, SETTINGS).__enter__()


def test_wrong_outputs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.parquet, \.npz, \.npy"):
        open_journal(tmp_path / "out.csv", SETTINGS).__enter__()
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        open_journal(tmp_path / "folder.parquet", SETTINGS).__enter__()


def test_two_processes_cannot_write_one_output(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    program = (
        "import sys\nfrom pathlib import Path\nfrom perceptic.errors import OutputError\n"
        "from perceptic.tasks.embeddings_file import EmbeddingSettings\n"
        "from perceptic.tasks.journal import open_journal\n"
        "try:\n    open_journal(Path(sys.argv[1]), EmbeddingSettings('t', '0', 2, {}, 8, 'float32')).__enter__()\n"
        "except OutputError as error:\n    print(error)\n"
    )
    with open_journal(output, SETTINGS) as journal:
        journal.append([row("a")])
        second = subprocess.run(
            [sys.executable, "-c", program, str(output)], capture_output=True, text=True, timeout=120, check=True
        )
        assert "another process is writing it" in second.stdout
        journal.finish()
    assert stored(output) == {"a": 1}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_every_path_once_and_the_newest_wins(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], finished: list[bool]
) -> None:
    """Any sequence of appends, with runs that finish or die in between."""
    output = tmp_path_factory.mktemp("journal") / "out.parquet"
    expected: dict[str, float] = {}
    value = 0
    for names, finishes in zip(parts, finished, strict=False):
        with open_journal(output, SETTINGS) as journal:
            rows = []
            for name in names:
                value += 1
                rows.append(row(str(name), value))
                expected[str(name)] = value
            journal.append(rows)
            if finishes:
                journal.finish()
    with open_journal(output, SETTINGS) as journal:
        assert set(journal.done) == set(expected)
        journal.finish()
    assert stored(output) == expected

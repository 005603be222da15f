"""Find a benchmark's data on disk and read them, in any of the layouts that the field uses (docs/eval.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from perceptic.errors import DataError
from perceptic.evaluate.benchmark import Benchmark
from perceptic.evaluate.data_types import EvalData
from perceptic.evaluate.folder_data import read_folders
from perceptic.evaluate.shard_data import read_shards
from perceptic.evaluate.table_data import read_csv, read_jsonl, read_parquet

_SPLIT_NAMES = {
    "test": ("test", "val", "validation", "valid"),
    "val": ("val", "validation", "valid", "test"),
    "dev": ("dev", "val", "validation", "test"),
    "train": ("train", "training"),
}
_ALL_SPLIT_NAMES = frozenset(name for names in _SPLIT_NAMES.values() for name in names)
_TABLES: dict[str, Callable[[list[Path], Path], EvalData]] = {
    ".parquet": read_parquet,
    ".jsonl": read_jsonl,
    ".csv": read_csv,
}
_CLASS_FILE, _TEMPLATE_FILE = "classnames.txt", "zeroshot_classification_templates.txt"


def open_data(benchmark: Benchmark, data: Path, split: str | None = None) -> EvalData:
    """A split of a benchmark's data below (or at) `data`.

    Args:
        data: the data set itself, a folder that has it under its name, or a path with `{dataset}` or
            `{dataset_cleaned}` in it (the released command line's `dataset_root`).
        split: the benchmark's own unless given.

    Raises:
        DataError: nothing there, or nothing that can be read.
    """
    root = locate(benchmark, data)
    return open_split(root, split or benchmark.split)


def locate(benchmark: Benchmark, data: Path) -> Path:
    """Where a benchmark's data lie. Raises DataError, with what was tried, if nothing is there."""
    names = [name for name in (benchmark.release_name, benchmark.name) if name]
    if "{" in str(data):
        tried = [
            Path(str(data).replace("{dataset}", name).replace("{dataset_cleaned}", name.replace("/", "-")))
            for name in names
        ]
    else:
        tried = [data / part for name in names for part in (name, name.replace("/", "-"), Path(name).name)] + [data]
    found = next((path for path in tried if path.exists()), None)
    if found is None:
        listed = ", ".join(dict.fromkeys(map(str, tried)))
        raise DataError(f"{benchmark.name}: no data there (looked for {listed}). Source: {benchmark.data.source}")
    return found


def open_split(root: Path, split: str) -> EvalData:
    """A split of the data set at `root`, whose layout is found by what lies there.

    Raises:
        DataError: nothing that any layout has.
    """
    if root.is_file():
        return _read_file(root)
    folder, notes = _split_folder(root, split)
    data = _read_folder(root, folder, split)
    data = replace(data, templates=_lines(root / _TEMPLATE_FILE), notes=data.notes + notes)
    # Class folders have read the names already: their order is the folders'.
    return data if data.layout == "folders" else _named(data, _lines(root / _CLASS_FILE), root / _CLASS_FILE)


def _read_folder(root: Path, folder: Path, split: str) -> EvalData:
    shards = sorted(folder.glob("*.tar"), key=_shard_order)
    if shards or (folder / "nshards.txt").exists():
        return read_shards(folder, shards)
    for suffix, read in _TABLES.items():
        files = _split_files(folder, split, suffix)
        if files:
            return read(files, root)
    return read_folders(root, folder)


def _read_file(path: Path) -> EvalData:
    if path.suffix == ".tar":
        return read_shards(path.parent, [path])
    read = _TABLES.get(path.suffix.lower())
    if read is None:
        raise DataError(f"{path}: expected a folder, or a file that ends in .tar, {', '.join(_TABLES)}")
    data = replace(read([path], path.parent), templates=_lines(path.parent / _TEMPLATE_FILE))
    return _named(data, _lines(path.parent / _CLASS_FILE), path.parent / _CLASS_FILE)


def _named(data: EvalData, names: tuple[str, ...], file: Path) -> EvalData:
    """Data with the class names of a file beside them.

    Labels that are numbers are lines of the file. Labels that are names keep their meaning: the file may have them in
    another order or more of them, or name the same number of classes anew in their sorted order.
    """
    is_renaming = len(names) == len(data.class_names) and set(names) != set(data.class_names)
    if is_renaming or not names or not data.class_names:
        return replace(data, class_names=names or data.class_names)
    numbers = {name: number for number, name in enumerate(names)}
    unknown = [name for name in data.class_names if name not in numbers]
    if unknown:
        raise DataError(f"{file}: has no line '{unknown[0]}', which is a label of the data")
    items = [
        item if item.label is None else replace(item, label=numbers[data.class_names[item.label]])
        for item in data.items
    ]
    return replace(data, items=tuple(items), class_names=names)


def _split_folder(root: Path, split: str) -> tuple[Path, tuple[str, ...]]:
    """The folder of a split; the root itself where data have no splits."""
    wanted = _SPLIT_NAMES.get(split, (split,))
    for name in wanted:
        if (root / name).is_dir():
            note = () if name == split else (f"The split '{split}' is not there; measured on '{name}'.",)
            return root / name, note
    folders = {path.name for path in root.iterdir() if path.is_dir()}
    if folders and folders <= _ALL_SPLIT_NAMES:
        raise DataError(f"{root}: has no split '{split}', only {', '.join(sorted(folders))}; name one: --set split=...")
    return root, ()


def _split_files(folder: Path, split: str, suffix: str) -> list[Path]:
    """The tables of a split: those that have its name in theirs, else all that name no other split."""
    files = sorted(folder.glob(f"*{suffix}"))
    for name in _SPLIT_NAMES.get(split, (split,)):
        named = [file for file in files if name in file.stem.lower().replace("-", "_").split("_")]
        if named:
            return named
    return [file for file in files if not _ALL_SPLIT_NAMES & set(file.stem.lower().replace("-", "_").split("_"))]


def has_split(root: Path, split: str) -> bool:
    """Whether a data set brings a split of its own, in a folder or in tables named after it."""
    names = _SPLIT_NAMES.get(split, (split,))
    if any((root / name).is_dir() for name in names):
        return True
    stems = [
        set(file.stem.lower().replace("-", "_").split("_")) for suffix in _TABLES for file in root.glob(f"*{suffix}")
    ]
    return any(set(names) & stem for stem in stems)


def _shard_order(path: Path) -> tuple[int, str]:
    return (int(path.stem) if path.stem.isdigit() else -1, path.name)


def _lines(path: Path) -> tuple[str, ...]:
    if not path.exists():
        return ()
    try:
        return tuple(line for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error

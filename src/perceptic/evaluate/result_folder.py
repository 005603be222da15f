"""A folder of results: `results.json`, `table.md`, `report.html`, and for each result its items and pictures.

Every file appears whole. A result is found again by its benchmark, model and settings, so that a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perceptic.errors import DataError
from perceptic.evaluate.report import render_report
from perceptic.evaluate.result import ClassShare, Details, EvalResult, Mistake, Score
from perceptic.evaluate.table import markdown_table
from perceptic.files import write_text

RESULTS, TABLE, REPORT, ITEMS, DETAILS = "results.json", "table.md", "report.html", "items", "details"
_FORMAT = 1


class ResultFolder:
    """Results on disk. Opening one reads what is there.

    Raises:
        DataError: `results.json` is not ours or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: list[EvalResult] = _read(path / RESULTS)

    def find(self, benchmark: str, model: str, settings: Mapping[str, Any]) -> EvalResult | None:
        """A finished result with these settings (the facts that a run finds out are not compared)."""
        wanted = _comparable(settings)
        for result in self.results:
            if (result.benchmark, result.model) == (benchmark, model) and _comparable(result.settings) == wanted:
                return self._with_details(result)
        return None

    def add(self, result: EvalResult, items: Iterable[Mapping[str, Any]]) -> EvalResult:
        """Keep a result with its items, and write everything anew. Returns it with its `items_file`.

        Raises:
            OutputError: the folder cannot be written.
        """
        slug = _slug(result)
        file = f"{ITEMS}/{slug}.jsonl"
        write_text(self.path / file, "".join(json.dumps(_plain(item), ensure_ascii=False) + "\n" for item in items))
        kept = dataclasses.replace(result, items_file=file)
        write_text(self.path / DETAILS / f"{slug}.json", json.dumps(_plain(kept.details), ensure_ascii=False) + "\n")
        self.results = [one for one in self.results if one.items_file != file] + [kept]
        write_results(self.path, self.all())
        return kept

    def all(self) -> list[EvalResult]:
        """Every result with what its report shows."""
        return [self._with_details(result) for result in self.results]

    def _with_details(self, result: EvalResult) -> EvalResult:
        path = self.path / DETAILS / f"{_slug(result)}.json"
        try:
            return dataclasses.replace(result, details=_details(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, KeyError, TypeError):
            return result  # the numbers stand without their pictures


def write_results(folder: Path, results: Sequence[EvalResult]) -> None:
    """`results.json` (all numbers and settings), `table.md` and `report.html` (one file, pictures inside).

    Raises:
        OutputError: the folder cannot be written.
    """
    content = {"format": _FORMAT, "results": json_rows(results)}
    write_text(folder / RESULTS, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / TABLE, markdown_table(results))
    write_text(folder / REPORT, render_report(results))


def _read(path: Path) -> list[EvalResult]:
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise DataError(f"{path}: of format {content['format']}, this version reads {_FORMAT}; give another --out")
        return [_result(row) for row in content["results"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not results of perceptic ({error}); give another --out or remove it") from error


def _result(row: dict[str, Any]) -> EvalResult:
    scores = {
        name: Score(**{key: _number(value) for key, value in score.items()}) for name, score in row["metrics"].items()
    }
    return EvalResult(**{**row, "metrics": scores, "details": Details()})


def _number(value: Any) -> Any:
    """NaN is null in JSON."""
    return math.nan if value is None else value


def _details(value: dict[str, Any]) -> Details:
    mistakes = tuple(
        Mistake(**{**one, "image": None if one["image"] is None else base64.b64decode(one["image"])})
        for one in value["mistakes"]
    )
    return Details(
        classes=tuple(ClassShare(**bar) for bar in value["classes"]),
        class_names=tuple(value["class_names"]),
        confusion=tuple(tuple(row) for row in value["confusion"]),
        mistakes=mistakes,
        notes=tuple(value["notes"]),
    )


def _comparable(settings: Mapping[str, Any]) -> str:
    return json.dumps(_plain({key: value for key, value in settings.items() if key != "facts"}), sort_keys=True)


def _slug(result: EvalResult) -> str:
    """A file name for a result: benchmark, model and a hash of its settings."""
    digest = hashlib.sha256(f"{result.model}{_comparable(result.settings)}".encode()).hexdigest()[:8]
    return re.sub(r"[^\w.-]+", "-", f"{result.benchmark}--{Path(result.model).name}--{digest}")


def _fields(value: Any) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}


def _plain(value: Any) -> Any:
    """Dataclasses, paths, bytes, tuples, numpy numbers and NaN as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(_fields(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not isinstance(value, str):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_rows(results: Sequence[EvalResult]) -> list[dict[str, Any]]:
    """Results as JSON values, without pictures."""
    rows: list[dict[str, Any]] = [_plain({**_fields(result), "details": None}) for result in results]
    return rows

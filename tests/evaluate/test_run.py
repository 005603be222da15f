"""A run's folder: every setting is in it, a second run takes what is there, and the page holds together."""

from __future__ import annotations

import dataclasses
import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from perceptic.errors import ConfigError, DataError, OutputError
from perceptic.evaluate import zero_shot
from perceptic.evaluate.benchmark import find_benchmark
from perceptic.evaluate.request import Common, ModelUnderTest, Request
from perceptic.evaluate.result import Details, EvalResult, Measured, Mistake, Score
from perceptic.evaluate.result_folder import ResultFolder, write_results
from perceptic.evaluate.run import RunCallbacks, RunPlan, run_benchmarks
from perceptic.evaluate.table import markdown_table, table_rows
from perceptic.tasks.file_lock import exclusive_lock


@pytest.fixture
def plan(exported: Path, nano: ModelUnderTest, tmp_path: Path) -> RunPlan:
    data = exported / "zero_shot" / "shape-seen"
    return RunPlan([find_benchmark("zero-shot")], [nano], data=data, out=tmp_path / "out")


def test_a_finished_benchmark_is_not_run_again(plan: RunPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = run_benchmarks(plan)

    def refuse(request: Request[Any]) -> Measured:
        raise AssertionError("measured again")

    monkeypatch.setattr(zero_shot, "run", refuse)
    seen: list[bool] = []
    (second,) = run_benchmarks(plan, RunCallbacks(on_result=lambda result, is_new: seen.append(is_new)))
    assert seen == [False]
    assert second.metrics == first.metrics
    assert len(second.details.mistakes) == len(first.details.mistakes)
    with pytest.raises(AssertionError, match="measured again"):
        run_benchmarks(dataclasses.replace(plan, common=Common(seed=1)))


def test_changed_data_are_measured_again(plan: RunPlan, tmp_path: Path) -> None:
    import shutil

    assert plan.data is not None
    moved = tmp_path / "data"
    shutil.copytree(plan.data, moved)
    own = dataclasses.replace(plan, data=moved)
    run_benchmarks(own)
    (moved / "zeroshot_classification_templates.txt").write_text("{c}\n")
    (result,) = run_benchmarks(own)
    assert result.settings["facts"]["templates"] == ["{c}"]


def test_every_setting_is_kept(plan: RunPlan) -> None:
    assert plan.out is not None
    run_benchmarks(dataclasses.replace(plan, options={"num_frames": 4}, common=Common(limit=20, shuffle_labels=True)))
    content = json.loads((plan.out / "results.json").read_text())
    (row,) = content["results"]
    settings = row["settings"]
    assert settings["options"]["num_frames"] == 4
    assert (settings["limit"], settings["seed"], settings["shuffle_labels"]) == (20, 0, True)
    assert settings["versions"]["torch"]
    assert settings["weights"]
    assert len(settings["facts"]["data_hash"]) == 32
    items = (plan.out / row["items_file"]).read_text().splitlines()
    assert len(items) == row["num_items"] == 20
    assert {"id", "truth", "prediction"} <= set(json.loads(items[0]))
    assert "labels shuffled, limit 20, num_frames=4" in (plan.out / "table.md").read_text()


class Page(HTMLParser):
    """Counts tags and complains about ones that are never closed."""

    VOID = frozenset({"meta", "link", "br", "img", "rect", "line", "circle", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.external: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.external += [
            value or "" for name, value in attrs if name in ("src", "href") and (value or "")[:4] == "http"
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing(plan: RunPlan) -> None:
    (result,) = run_benchmarks(plan)
    assert plan.out is not None
    text = (plan.out / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.external == []
    assert page.counts["img"] == len(result.details.mistakes)
    assert "By class" in text
    assert "Confusions" in text


def sample(name: str = "imagenet1k", model: str = "PE-Core-B16-224", **fields: Any) -> EvalResult:
    metrics = {"acc1": Score(78.1, 77.7, 78.5, num_units=50_000, chance=0.1), "acc5": Score(95.0)}
    published = dict(find_benchmark(name).published_for(model))
    return EvalResult(name, model, metrics, {"seed": 0}, 50_000, published=published, **fields)


def test_ours_stands_beside_the_papers() -> None:
    first = table_rows([sample()])[0]
    assert (first.ours, first.paper, first.interval, first.chance) == ("78.1", "78.4", "77.7 to 78.5", "0.1")
    table = markdown_table([sample()])
    assert "| ImageNet-1k | PE-Core-B16-224 | acc1 | 78.1 | 77.7 to 78.5 | 78.4 | 0.1 | 50,000 |" in table
    assert "paper" not in markdown_table([sample(model="PE-Core-Nano")])


def test_the_papers_means_stand_below(tmp_path: Path) -> None:
    names = ("imagenet1k", "imagenetv2", "objectnet", "imagenet-a", "imagenet-r", "imagenet-sketch")
    results = [sample(name) for name in names]
    table = markdown_table(results)
    assert "| Mean of the six ImageNet-like sets | PE-Core-B16-224 | mean of 6 | 78.1 | 77.9 to 78.3 | 73.2 |" in table
    write_results(tmp_path, results)
    assert "Mean of the six" in (tmp_path / "report.html").read_text()
    assert "Mean of the six" not in markdown_table(results[:5])
    control = dataclasses.replace(results[0], settings={"shuffle_labels": True})
    assert "Mean of the six" not in markdown_table([control, *results[1:]])


def test_text_from_data_is_escaped(tmp_path: Path) -> None:
    mistake = Mistake("<script>", "<b>truth", "&prediction")
    details = Details(mistakes=(mistake,), notes=("<i>note",))
    write_results(tmp_path, [sample(model="<model>", details=details)])
    page = (tmp_path / "report.html").read_text()
    for raw in ("<script>", "<b>truth", "<i>note", "<model>"):
        assert raw not in page
    assert "&lt;script&gt;" in page


def test_missing_intervals_are_null_and_come_back(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    folder.add(sample(), [{"id": "a", "score": float("nan")}])
    text = (tmp_path / "results.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    (back,) = ResultFolder(tmp_path).all()
    assert math.isnan(back.metrics["acc5"].low)
    assert back.metrics["acc1"] == sample().metrics["acc1"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"format": 99, "results": []}')
    with pytest.raises(DataError, match="format 99"):
        ResultFolder(tmp_path)
    (tmp_path / "results.json").write_text("torn")
    with pytest.raises(DataError, match="not results of perceptic"):
        ResultFolder(tmp_path)


def test_one_process_writes_to_a_folder(plan: RunPlan) -> None:
    assert plan.out is not None
    with exclusive_lock(plan.out / ".lock", "busy"), pytest.raises(OutputError, match="another process is measuring"):
        run_benchmarks(plan)


def test_lost_pictures_do_not_lose_the_numbers(plan: RunPlan) -> None:
    assert plan.out is not None
    run_benchmarks(plan)
    for file in (plan.out / "details").iterdir():
        file.write_text("torn")
    (back,) = run_benchmarks(plan)
    assert back.details == Details()
    assert back.metrics["acc1"].value > 50


def test_one_bad_data_set_does_not_stop_the_others(plan: RunPlan, tmp_path: Path) -> None:
    failed: dict[str, str] = {}
    both = dataclasses.replace(plan, benchmarks=[find_benchmark("retrieval"), find_benchmark("zero-shot")])
    tell = RunCallbacks(on_failure=lambda benchmark, model, error: failed.update({benchmark.name: str(error)}))
    results = run_benchmarks(both, tell)
    assert [result.benchmark for result in results] == ["zero-shot"]
    assert "no caption" in failed["retrieval"]
    with pytest.raises(DataError, match="no caption"):
        run_benchmarks(dataclasses.replace(plan, benchmarks=[find_benchmark("retrieval")]))


def test_wrong_wishes_are_refused(plan: RunPlan, nano: ModelUnderTest) -> None:
    with pytest.raises(ConfigError, match=r"num_frame: no such option.*num_frames"):
        run_benchmarks(dataclasses.replace(plan, options={"num_frame": 4}))
    with pytest.raises(ConfigError, match="expected int"):
        run_benchmarks(dataclasses.replace(plan, options={"num_frames": "many"}))
    with pytest.raises(ConfigError, match="measures a language model"):
        run_benchmarks(dataclasses.replace(plan, benchmarks=[find_benchmark("plm-fgqa")]))
    with pytest.raises(ConfigError, match=r"needs --data DIR.*classnames.txt"):
        run_benchmarks(dataclasses.replace(plan, data=None, benchmarks=[find_benchmark("imagenet1k")]))

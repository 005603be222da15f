"""A benchmark's name stands for its whole data: parts are refused, or measured on purpose and without the papers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from perceptic.errors import DataError
from perceptic.evaluate.benchmark import Benchmark, DataNote, find_benchmark
from perceptic.evaluate.published_size import SUBSET, FoundSize, check_size, is_comparable
from perceptic.evaluate.request import Common, ModelUnderTest, Request
from perceptic.evaluate.result import EvalResult, Score, make_result
from perceptic.evaluate.result_folder import write_results
from perceptic.evaluate.run import RunPlan, run_benchmarks
from perceptic.evaluate.runners import build_options, runner_for
from perceptic.evaluate.table import markdown_table

WHERE = Path("data")


def check(name: str, items: int, classes: int | None = None, split: str = "") -> dict[str, Any]:
    """What an allowed check says; raises what a strict one does."""
    return dict(check_size(find_benchmark(name), FoundSize(WHERE, items, classes, split), allow_subset=False).facts)


@pytest.mark.parametrize(
    ("name", "items", "classes"),
    [
        ("imagenet1k", 50_000, 1000),
        ("resisc45", 31_500, 45),
        ("resisc45", 6_300, 45),
        ("k400", 19_404, 400),  # videos vanish
        ("plm-fgqa", 11_389, None),  # an earlier revision
        ("msrvtt", 1000, None),
        ("zero-shot", 7, 3),
    ],
)
def test_the_published_size_is_taken(name: str, items: int, classes: int | None) -> None:
    assert check(name, items, classes) == {}


@pytest.mark.parametrize(
    ("name", "items", "classes", "said"),
    [
        ("imagenet1k", 50_000, 999, r"expected 1,000 classes, found 999\."),
        ("imagenet1k", 49_999, 1000, r"expected 50,000 items, found 49,999\."),
        ("imagenet1k", 500, 10, "expected 1,000 classes, found 10; expected 50,000 items, found 500"),
        ("resisc45", 6_301, 45, "expected 31,500 items, found 6,301"),
        ("k400", 9_000, 400, "expected 19,900 items, found 9,000"),
        ("k400", 19_900, 399, "expected 400 classes, found 399"),
        ("plm-fgqa", 20, None, "expected 10,976 items, found 20"),
    ],
)
def test_any_other_is_refused(name: str, items: int, classes: int | None, said: str) -> None:
    with pytest.raises(DataError, match=f"^data: not the set that {name} names: {said}.*--allow-subset"):
        check(name, items, classes)


def test_another_split_has_its_own_number_of_items_and_the_same_classes() -> None:
    assert check("imagenet1k", 1_281_167, 1000, split="train") == {}
    with pytest.raises(DataError, match="expected 1,000 classes, found 10"):
        check("imagenet1k", 1_281_167, 10, split="train")


def test_a_rough_size_is_noted() -> None:
    found = check_size(find_benchmark("k400"), FoundSize(WHERE, 19_404, 400), allow_subset=False)
    assert found.notes == ("The data have 19,404 items; the published set has 19,900.",)


def test_what_the_reading_said_is_said_again() -> None:
    found = FoundSize(WHERE, 25_000, 1000, notes=("No training split: 25000 items were drawn.",))
    with pytest.raises(
        DataError, match=r"expected 50,000 items, found 25,000\. No training split: 25000 items were drawn\. Give"
    ):
        check_size(find_benchmark("imagenet1k-knn"), found, allow_subset=False)


@pytest.mark.parametrize(
    ("name", "settings", "stands"),
    [
        ("imagenet1k", {}, True),
        ("imagenet1k", {"limit": 100}, True),
        ("imagenet1k", {"options": {"split": "val"}}, False),
        ("imagenet1k", {"options": {"split": "test"}}, True),
        ("imagenet1k", {"shuffle_labels": True}, False),
        ("imagenet1k", {"facts": {SUBSET: "10 of 1,000 classes"}}, False),
        ("msrvtt", {"limit": 100}, False),
        ("msrvtt", {"limit": None}, True),
    ],
)
def test_when_published_numbers_stand_beside(name: str, settings: dict[str, Any], stands: bool) -> None:
    assert is_comparable(find_benchmark(name), settings) is stands


def own_benchmark(task: str) -> Benchmark:
    """A benchmark of the exported world's shapes, whose published set is larger."""
    return Benchmark(
        "made-up",
        suite="made",
        task=task,
        title="Made up",
        metrics=("acc1",),
        items=1000,
        classes=160,
        published={"PE-Core-Nano": {"acc1": 99.0}},
        data=DataNote("nowhere"),
    )


@pytest.mark.parametrize("task", ["zero_shot", "knn", "linear_probe", "attention_probe"])
def test_every_runner_refuses_before_it_computes(task: str, exported: Path) -> None:
    benchmark = own_benchmark(task)
    runner = runner_for(benchmark)
    blind = ModelUnderTest("no such model")
    blind.__dict__["encoder"] = SimpleEncoder()
    request = Request(benchmark, blind, build_options(runner, benchmark, {}), exported / "zero_shot" / "shape-seen")
    with pytest.raises(DataError, match=r"expected 160 classes, found 16; expected 1,000 items, found \d+\. .*nowhere"):
        runner.run(request)


def test_retrieval_refuses_before_it_computes(exported: Path) -> None:
    benchmark = find_benchmark("msrvtt")
    runner = runner_for(benchmark)
    blind = ModelUnderTest("no such model")
    blind.__dict__["encoder"] = SimpleEncoder()
    with pytest.raises(DataError, match="expected 1,000 items, found 8"):
        runner.run(Request(benchmark, blind, build_options(runner, benchmark, {}), exported / "clips"))


class SimpleEncoder:
    """Stands where a model is loaded and must not be used."""

    def require_text(self, purpose: str) -> None: ...


def test_a_part_is_marked_and_stands_without_the_paper(exported: Path, nano: ModelUnderTest, tmp_path: Path) -> None:
    plan = RunPlan([own_benchmark("zero_shot")], [nano], data=exported / "zero_shot" / "shape-seen", out=tmp_path)
    with pytest.raises(DataError, match="--allow-subset"):
        run_benchmarks(plan)
    allowed = dataclasses.replace(plan, common=Common(allow_subset=True))
    (result,) = run_benchmarks(allowed)
    assert result.published == {}
    assert "subset: 16 of 160 classes and 64 of 1,000 items" in markdown_table([result])
    assert "Not the published set" in (tmp_path / "report.html").read_text()
    with pytest.raises(DataError, match="--allow-subset"):  # the kept result is no way around
        run_benchmarks(plan)


def test_a_part_is_in_no_mean_and_no_published_line(tmp_path: Path) -> None:
    names = ("imagenet1k", "imagenetv2", "objectnet", "imagenet-a", "imagenet-r", "imagenet-sketch")
    model, metrics = "PE-Core-B16-224", {"acc1": Score(78.1, 77.7, 78.5)}
    results = [EvalResult(name, model, metrics, {}, 50_000) for name in names]
    assert "Mean of the six" in markdown_table(results)
    for settings in ({"facts": {SUBSET: "1 of 2 items"}}, {"limit": 100}):
        part = dataclasses.replace(results[0], settings=settings)
        assert "Mean of the six" not in markdown_table([part, *results[1:]])
    write_results(tmp_path / "whole", results[:1])
    assert "Published acc1" in (tmp_path / "whole" / "report.html").read_text()
    write_results(tmp_path / "part", [dataclasses.replace(results[0], settings={"facts": {SUBSET: "1 of 2 items"}})])
    assert "Published acc1" not in (tmp_path / "part" / "report.html").read_text()


def test_a_whole_set_has_its_published_number() -> None:
    from perceptic.evaluate.result import Measured

    benchmark = own_benchmark("zero_shot")
    result = make_result(benchmark, "PE-Core-Nano", Measured({"acc1": Score(50.0)}), {}, 1.0)
    assert result.published == {"acc1": 99.0}

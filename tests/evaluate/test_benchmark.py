"""The named benchmarks: all tables are there, with their numbers, and a mistyped name finds its neighbours."""

from __future__ import annotations

import pytest

from perceptic.errors import ConfigError
from perceptic.evaluate.benchmark import (
    all_benchmarks,
    find_benchmark,
    find_benchmarks,
    parse_entries,
    suites,
    template_sets,
)
from perceptic.evaluate.runners import is_runnable

DESCRIBED = {"detection", "event_entailment", "segmentation", "depth", "tracking"}
"""Tasks whose benchmarks are named with their published numbers, and not run by `perceptic eval`."""


@pytest.mark.parametrize(
    ("name", "model", "metric", "value"),
    [
        ("imagenet1k", "PE-Core-G14-448", "acc1", 85.4),
        ("imagenet-a", "PE-Core-S16-384", "acc1", 49.5),
        ("fgvc-aircraft", "PE-Core-B16-224", "acc1", 57.0),
        ("mscoco-captions", "PE-Core-L14-336", "text_retrieval_recall@1", 75.9),
        ("k400", "PE-Core-T16-384", "acc1", 41.5),
        ("msvd", "PE-Core-B16-224", "text_retrieval_recall@1", 76.7),
        ("pvd", "PE-Core-G14-448", "video_retrieval_recall@1", 77.0),
        ("imagenet1k-attention", "PE-Core-G14-448", "acc1", 89.8),
        ("davis2017", "PE-Core-G14-448", "j_and_f_last", 42.8),
        ("nyuv2", "PE-Core-G14-448", "rmse", 0.249),
        ("mme", "Perception-LM-8B", "total", 1989),
        ("tempcompass", "Perception-LM-3B", "accuracy", 69.3),
        ("plm-rdcap", "Perception-LM-1B", "soda", 50.3),
    ],
)
def test_published_numbers(name: str, model: str, metric: str, value: float) -> None:
    assert find_benchmark(name).published_for(model)[metric] == value


def test_published_means_are_the_papers() -> None:
    """Means that the papers print beside the columns, from the entries."""
    for suite, model, printed in (
        ("robustness", "PE-Core-B16-224", 73.2),
        ("robustness", "PE-Core-G14-448", 86.6),
        ("fine-grained", "PE-Core-L14-336", 80.0),
        ("fine-grained", "PE-Core-G14-448", 83.7),
    ):
        values = [benchmark.published_for(model)["acc1"] for benchmark in suites()[suite]]
        assert sum(values) / len(values) == pytest.approx(printed, abs=0.06)
    videos = [one.published_for("PE-Core-G14-448") for one in suites()["video-classification"] if one.published]
    assert sum(values["acc1"] for values in videos) / len(videos) == pytest.approx(74.8, abs=0.06)


def test_every_entry_can_be_used() -> None:
    for benchmark in all_benchmarks().values():
        assert benchmark.title
        assert benchmark.metrics
        assert benchmark.data.source or benchmark.suite == "world", f"{benchmark.name} does not say where its data are"
        assert benchmark.templates in {"", *template_sets()}
        for model, values in benchmark.published.items():
            assert set(values) <= set(benchmark.metrics), f"{benchmark.name}: {model}"
        assert is_runnable(benchmark) or benchmark.task in DESCRIBED


def test_names_are_found_and_near_ones_suggested() -> None:
    assert find_benchmark("wds/wds_imagenet1k").name == "imagenet1k"
    assert find_benchmark("ImageNet1k").published_for("facebook/PE-Core-B16-224")["acc1"] == 78.4
    assert find_benchmarks(["imagenet-a", "robustness"])[0].name == "imagenet-a"
    assert len(find_benchmarks(["imagenet-a", "robustness"])) == 6
    with pytest.raises(ConfigError, match="did you mean imagenet1k"):
        find_benchmark("imagenet-1k")
    with pytest.raises(ConfigError, match="--list"):
        find_benchmark("qqqqqqqqqq")


def test_unknown_models_have_no_published_numbers() -> None:
    assert find_benchmark("imagenet1k").published_for("PE-Core-Nano") == {}


def test_template_sets_have_the_papers_sizes() -> None:
    sizes = {name: len(templates) for name, templates in template_sets().items()}
    assert (sizes["imagenet"], sizes["cars"], sizes["country211"], sizes["resisc45"]) == (80, 8, 5, 4)
    assert (sizes["kinetics"], sizes["actions"]) == (28, 48)
    assert all("{c}" in template for templates in template_sets().values() for template in templates)


def test_an_entry_with_an_unknown_key_names_it() -> None:
    text = "benchmarks:\n- {name: a, suite: s, task: zero_shot, title: A, metrics: [acc1], splitt: test}\n"
    with pytest.raises(ConfigError, match=r"splitt.*did you mean 'split'"):
        parse_entries(text, "mine.yaml")

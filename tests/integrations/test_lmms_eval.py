"""The plug-in of lmms-eval: requests in our words, and, where it is installed, the real package with its own task."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from perceptic.errors import ConfigError, MediaError, MissingDependencyError, TextError
from perceptic.inference.sampling import GenerationOptions
from perceptic.integrations.lmms_eval_requests import media_of, options_of
from perceptic.optional import is_installed
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.continuations import score_continuation
from perceptic.tasks.messages import ChatMessage


@pytest.fixture(scope="module")
def plm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PerceptionLM of two layers with random weights."""
    goldens = Path(__file__).parents[1] / "goldens"
    folder = tmp_path_factory.mktemp("plm")
    for file in ("tied_scaled/params.json", "tied_scaled/consolidated.pth", "tokenizer/tokenizer.model"):
        shutil.copy(goldens / "plm" / file, folder)
    return folder


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))


class TestRequests:
    def test_media(self, picture: Image.Image, tmp_path: Path) -> None:
        (one,) = media_of([picture])
        assert (one.kind, one.max_num_tiles) == ("image", None)
        frames = media_of([[picture] * 3])
        assert [frame.max_num_tiles for frame in frames] == [0, 0, 0]
        assert media_of([picture.convert("L")])[0].source.mode == "RGB"  # type: ignore[union-attr]
        assert media_of([]) == media_of([None]) == ()
        video = Path(__file__).parents[1] / "goldens" / "media" / "dog.mp4"
        (part,) = media_of([str(video)])
        assert (part.kind, part.source) == ("video", video)
        with pytest.raises(MediaError):
            media_of([str(tmp_path / "none.xyz")])
        with pytest.raises(ConfigError, match="shows a dict"):
            media_of([{"array": [0.0], "sampling_rate": 16000}])
        with pytest.raises(ConfigError, match="a frame is a Pillow image"):
            media_of([["a"]])

    def test_settings(self, caplog: pytest.LogCaptureFixture) -> None:
        asked = options_of({"max_new_tokens": 16, "temperature": 0, "do_sample": False, "top_p": None, "num_beams": 1})
        assert asked == GenerationOptions(max_new_tokens=16, seed=0)
        drawn = options_of({"temperature": 0.7, "top_p": 0.9, "do_sample": True, "until": ["\n\n", "###"]})
        assert (drawn.temperature, drawn.top_p, drawn.stop) == (0.7, 0.9, ("\n\n", "###"))
        assert options_of({"temperature": 0.7, "do_sample": False}).is_greedy
        assert options_of({"until": "stop"}).stop == ("stop",)
        assert not caplog.records
        with caplog.at_level(logging.WARNING):
            options_of({"num_beams": 5, "length_penalty": 2})
        assert "no beam search" in caplog.text
        assert "length_penalty=2" in caplog.text


def test_continuations_are_as_probable_as_their_tokens(plm: Path, picture: Image.Image) -> None:
    assistant = Assistant.load(plm, dtype="float32", device="cpu")
    prepared = assistant.prepare([ChatMessage.user(*media_of([picture]), "What?")])
    best = assistant.generate(prepared, options=GenerationOptions(max_new_tokens=1)).log_probabilities[0]
    words = [word for word in "abcdefghijklmnopqrstuvwxyz" if len(assistant.tokenizer.encode(word)) == 1]
    scores = [score_continuation(assistant, prepared, word) for word in words]
    assert len(words) > 10
    assert all(score.log_likelihood <= best + 1e-4 for score in scores)
    assert all(score.is_greedy == (score.log_likelihood > best - 1e-4) for score in scores)
    assert sum(math.exp(score.log_likelihood) for score in scores) < 1
    longer = score_continuation(assistant, prepared, "ab")
    assert longer.num_tokens in (1, 2)
    assert longer.log_likelihood < 0
    blind = assistant.prepare([ChatMessage.user("What?")])
    assert score_continuation(assistant, blind, "a").log_likelihood != scores[0].log_likelihood
    with pytest.raises(TextError, match="at least one token"):
        score_continuation(assistant, prepared, "")


def test_without_the_package_the_error_says_how_to_get_it() -> None:
    if is_installed("lmms_eval"):
        pytest.skip("it is installed here")
    with pytest.raises(MissingDependencyError, match=r"perceptic\[lmms-eval\]"):
        import perceptic.integrations.lmms_eval_model  # noqa: F401


def test_the_entry_point_is_declared() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points."lmms_eval.models"]' in text
    assert "perceptic.integrations.lmms_eval_plugin:manifests" in text


def model_class(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Our class over the real base, or over one with the members that the base has, where the package is not."""
    if not is_installed("lmms_eval"):
        base = ModuleType("lmms_eval.api.model")
        base.lmms = _Base  # type: ignore[attr-defined]
        package, api = ModuleType("lmms_eval"), ModuleType("lmms_eval.api")
        package.__spec__ = importlib.machinery.ModuleSpec("lmms_eval", None)
        for name, module in (("lmms_eval", package), ("lmms_eval.api", api), ("lmms_eval.api.model", base)):
            monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "perceptic.integrations.lmms_eval_model", raising=False)
    from perceptic.integrations import lmms_eval_model

    return lmms_eval_model.PercepticLMM


class _Base:
    """The members of `lmms_eval.api.model.lmms` that a model uses (datasets-and-benchmarks section 6.3)."""

    def __init__(self) -> None:
        self.cache_hook = SimpleNamespace(add_partial=lambda *given: None)
        self.task_dict: dict[str, Any] = {}


def request(context: str, doc_id: int, **settings: Any) -> Any:
    arguments = (context, {"max_new_tokens": 3, **settings}, lambda doc: [doc["image"]], doc_id, "own", "test")
    return SimpleNamespace(args=arguments)


def test_answers_come_in_the_order_of_requests_whatever_their_settings(
    plm: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_class(monkeypatch)(pretrained=str(plm), device="cpu", dtype="float32", batch_size="4")
    others = [picture.rotate(90 * turn) for turn in range(3)]
    model.task_dict = {"own": {"test": [{"image": image} for image in others]}}
    kept: list[Any] = []
    model.cache_hook = SimpleNamespace(add_partial=lambda *given: kept.append(given))
    requests = [request("What?", 0), request("Where?", 1, max_new_tokens=5), request("What?", 2), request("Who?", 0)]
    answers = model.generate_until(requests)
    alone = [model.generate_until([one])[0] for one in requests]
    assert answers == alone
    assert len(set(answers)) > 1
    assert [given[0] for given in kept[:4]] == ["generate_until"] * 4
    assert requests[1].args[1] == {"max_new_tokens": 5}


def test_dots_likelihoods_and_what_is_refused(plm: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    found = model_class(monkeypatch)
    model = found(pretrained=str(plm), device="cpu", dtype="float32")
    model.task_dict = {"own": {"test": [{"image": picture}]}}
    monkeypatch.setattr(
        model.assistant, "generate_many", lambda asked, **_: [SimpleNamespace(text="Yes..")] * len(asked)
    )
    assert model.generate_until([request("?", 0)]) == ["Yes."]
    model.strip_dot = False
    assert model.generate_until([request("?", 0)]) == ["Yes.."]
    target = SimpleNamespace(args=("What?", " a dog", lambda doc: [doc["image"]], 0, "own", "test"))
    ((likelihood, is_greedy),) = model.loglikelihood([target])
    assert likelihood < 0
    assert is_greedy is False
    with pytest.raises(NotImplementedError):
        model.generate_until_multi_round([])
    with pytest.raises(ConfigError, match="no argument 'max_frames_num'"):
        found(pretrained=str(plm), max_frames_num=3)


@pytest.mark.parity
class TestRealPackage:
    def test_the_model_is_found_by_its_entry_point(self) -> None:
        pytest.importorskip("lmms_eval")
        from lmms_eval.models.registry_v2 import ModelRegistryV2

        registry = ModelRegistryV2()
        from perceptic.integrations.lmms_eval_plugin import manifests

        registry.register_manifest(manifests())
        assert registry.get_model_class("perceptic").__name__ == "PercepticLMM"
        points = importlib.metadata.entry_points(group="lmms_eval.models")
        assert [point.load()().model_id for point in points if point.name == "perceptic"] == ["perceptic"]

    def test_a_task_of_our_own_is_evaluated(self, plm: Path, picture: Image.Image, tmp_path: Path) -> None:
        pytest.importorskip("lmms_eval")
        evaluator = pytest.importorskip("lmms_eval.evaluator")
        from lmms_eval.tasks import TaskManager

        write_task(tmp_path, picture)
        results = evaluator.simple_evaluate(
            model="perceptic",
            model_args=f"pretrained={plm},device=cpu,dtype=float32",
            tasks=["perceptic_own"],
            batch_size=2,
            task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        )
        assert set(results["results"]["perceptic_own"]) >= {"long,none"}
        assert 0 <= results["results"]["perceptic_own"]["long,none"] <= 1


def write_task(folder: Path, picture: Image.Image) -> None:
    """A task of three questions about pictures beside it: how many answers have more than three letters?"""
    rows = []
    for number in range(3):
        path = folder / f"{number}.png"
        picture.rotate(90 * number).save(path)
        rows.append(f'{{"image": "{path}", "question": "What is it?", "answer": "x"}}')
    (folder / "rows.jsonl").write_text("\n".join(rows))
    (folder / "own_utils.py").write_text(
        "from PIL import Image\n"
        "def visual(doc):\n    return [Image.open(doc['image'])]\n"
        "def score(doc, results):\n    return {'long': float(len(results[0]) > 3)}\n"
        "def mean(values):\n    return sum(values) / len(values)\n"
    )
    (folder / "own.yaml").write_text(
        "task: perceptic_own\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: '{folder / 'rows.jsonl'}'}}}}\n"
        "test_split: test\noutput_type: generate_until\n"
        "doc_to_visual: !function own_utils.visual\ndoc_to_text: question\ndoc_to_target: answer\n"
        "generation_kwargs: {max_new_tokens: 4, temperature: 0, do_sample: false}\n"
        "process_results: !function own_utils.score\n"
        "metric_list:\n  - {metric: long, aggregation: !function own_utils.mean, higher_is_better: true}\n"
        "metadata:\n  - version: 0.0\n"
    )

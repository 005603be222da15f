"""Question answering: rows, prompts, letters and figures, with the examples of datasets-and-benchmarks 5.3."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from perceptic.errors import ConfigError, DataError
from perceptic.evaluate.benchmark import all_benchmarks, find_benchmark
from perceptic.evaluate.multiple_choice import choose
from perceptic.evaluate.qa import Options, question_text, run
from perceptic.evaluate.qa_metrics import METRICS, QaContext, box_iou, score_answers
from perceptic.evaluate.qa_rows import QaRow, read_qa
from perceptic.evaluate.request import Common, ModelUnderTest, Request
from perceptic.evaluate.result import Measured
from perceptic.evaluate.runners import build_options, runner_for
from perceptic.media.boxes import Box

OPTIONS = ("a cat", "a dog", "a bird on a tree", "nothing")


def row(answer: str | Sequence[str] = "x", *, name: str = "1", **fields: Any) -> QaRow:
    answers = (answer,) if isinstance(answer, str) else tuple(answer)
    return QaRow(**{"id": name, "media": (), "kind": "image", "question": "What?", "answers": answers, **fields})


class TestLetters:
    @pytest.mark.parametrize(
        ("rule", "answer", "letter"),
        [
            ("first_character", "B", "B"),
            ("first_character", "B) a dog", "B"),
            ("first_character", "Because", "B"),
            ("first_character", " B", None),
            ("first_character", "", None),
            ("leading_letter", "B. a dog", "B"),
            ("leading_letter", "  C.", "C"),
            ("leading_letter", "(b)", "B"),
            ("leading_letter", "B a dog", None),
            ("first_letter", "The answer is (C), not (D)", "C"),
            ("first_letter", "I think B", "B"),
            ("first_letter", "A dog", "A"),
            ("first_letter", "cat", None),
            ("first_letter", "Z or B", "B"),
            ("mmmu", "(A) or rather (C).", "C"),
            ("mmmu", "It is B for sure, not a C ", "C"),
            ("mmmu", "The picture shows a bird on a tree in the rain", "C"),
            ("clean", "The answer is B.", "B"),
            ("clean", "a dog", "B"),
            ("clean", "(A)(B)", None),
        ],
    )
    def test_rules(self, rule: Any, answer: str, letter: str | None) -> None:
        assert choose(answer, OPTIONS, rule) == letter

    def test_mmmu_guesses_where_nothing_is_named_and_the_seed_decides(self) -> None:
        guesses = [choose(f"no idea {number}", OPTIONS, "mmmu", 0) for number in range(200)]
        assert set(guesses) == set("ABCD")
        assert guesses == [choose(f"no idea {number}", OPTIONS, "mmmu", 0) for number in range(200)]
        assert guesses != [choose(f"no idea {number}", OPTIONS, "mmmu", 1) for number in range(200)]

    def test_what_cannot_be(self) -> None:
        with pytest.raises(ConfigError, match="rule must be one of"):
            choose("A", OPTIONS, "guess")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="expected 2 to 26"):
            choose("A", ["one"])


class TestFigures:
    @pytest.mark.parametrize(
        ("metric", "truth", "answer", "value"),
        [
            ("exact_match", "Red", "red.", 1),
            ("anls", "kitten", "sitting", 0.571429),
            ("anls", ["12.5%", "12.5"], "12.5", 1),
            ("relaxed_accuracy", "100", "105", 1),
            ("relaxed_accuracy", "100", "105.1", 0),
            ("vqa_accuracy", ["blue"] * 2 + ["red"] * 8, "blue", 0.6),
            ("vqav2_accuracy", ["blue"] * 10, "Blue", 1),
            ("ocrbench", "HELLO", "it says hello", 1),
            ("token_f1", "a b", "b c", 0.5),
            ("realworldqa", "C", "(C) left", 1),
            ("realworldqa", "two", "Two.", 1),
            ("realworldqa", "two", "three", 0),
            ("time_iou", "[10, 20]", "[12, 18]", 0.6),
            ("time_iou", "[10, 20]", "sometime", 0),
        ],
    )
    def test_by_hand(self, metric: str, truth: Any, answer: str, value: float) -> None:
        scores = score_answers(metric, [row(truth)], [answer], QaContext())
        assert scores.values == pytest.approx([value], abs=1e-6)

    def test_options(self) -> None:
        rows = [row("B", name=str(number), options=OPTIONS) for number in range(4)]
        scores = score_answers("multiple_choice", rows, ["B", "(B)", "C", "?"], QaContext())
        assert scores.values == [1, 1, 0, 0]
        assert scores.figures["accuracy"].value == 50
        assert scores.figures["accuracy"].chance == 25
        assert scores.failures == [None, None, None, "no option named"]
        with pytest.raises(DataError, match="has no 'options'"):
            score_answers("multiple_choice", [row("B")], ["B"], QaContext())

    def test_groups_of_binary_questions(self) -> None:
        correct = [[1, 1], [1, 0, 1], [1], [0, 0], [1, 1, 1, 1]]  # section 2.3: 3 of 5
        rows, said = [], []
        for group, hits in enumerate(correct):
            for place, hit in enumerate(hits):
                rows.append(row("A", name=f"{group}-{place}", options=("x", "y"), group=str(group)))
                said.append("A" if hit else "B")
        figures = score_answers("mbacc", rows, said, QaContext()).figures
        assert figures["mbacc"].value == pytest.approx(60)
        assert figures["accuracy"].value == pytest.approx(75)

    def test_pope(self) -> None:
        truths = ["yes", "yes", "no", "no", "yes", "no", "yes"]
        said = ["yes", "no", "yes", "no", "yes, there is", "no", "yes"]
        rows = [row(truth, name=str(number)) for number, truth in enumerate(truths)]
        figures = score_answers("pope", rows, said, QaContext()).figures
        assert figures["accuracy"].value == pytest.approx(400 / 7)
        for name in ("precision", "recall", "f1"):
            assert figures[name].value == pytest.approx(66.6667, abs=1e-3)
        clean = score_answers("pope", rows, said, QaContext("clean")).figures
        assert clean["accuracy"].value == pytest.approx(500 / 7)
        with pytest.raises(DataError, match="must be yes or no"):
            score_answers("pope", [row("maybe")], ["yes"], QaContext())

    def test_mme(self) -> None:
        hits = {("existence", "a"): (1, 1), ("existence", "b"): (1, 0), ("count", "a"): (0, 0), ("count", "b"): (1, 1)}
        rows, said = [], []
        for (category, picture), pair in hits.items():
            for place, hit in enumerate(pair):
                rows.append(row("yes", name=f"{category}{picture}{place}", category=category, group=picture))
                said.append("Yes." if hit else "No")
        figures = score_answers("mme", rows, said, QaContext()).figures
        assert figures["total"].value == figures["perception"].value == 225
        assert figures["cognition"].value == 0

    def test_captions(self) -> None:
        rows = [
            row(["a man rides a horse", "a person on a horse"], name="1"),
            row(["a red bus stops here", "the bus is red"], name="2"),
        ]
        scores = score_answers("cider", rows, ["a man rides a horse", "a red bus stops"], QaContext())
        assert scores.figures["cider"].value == pytest.approx(523.2146, abs=1e-3)

    def test_boxes(self, tmp_path: Path) -> None:
        Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
        rows = [row("", name=str(n), media=(tmp_path / "a.png",), box=(0, 0, 100, 100)) for n in range(4)]
        said = ["[000,000,500,999]", "[000,000,250,999]", "there", "[500,000,999,999]"]
        compatible = score_answers("box_iou", rows, said, QaContext("compatible"))
        assert compatible.values == [1, 0, 1, 0]  # the whole picture overlaps by half
        assert score_answers("box_iou", rows, said, QaContext("clean")).values == [1, 0, 0, 0]
        assert compatible.failures == [None, None, "no box", None]
        with pytest.raises(DataError, match="must be a box"):
            score_answers("box_iou", [row("left")], ["[0,0,1,1]"], QaContext())

    def test_overlap_of_boxes(self) -> None:
        assert box_iou(Box(0, 0, 2, 2), Box(1, 1, 3, 3)) == pytest.approx(1 / 7)
        assert box_iou(Box(0, 0, 1, 1), Box(2, 2, 3, 3)) == 0
        assert box_iou(Box(1, 1, 1, 1), Box(1, 1, 1, 1)) == 0
        assert box_iou(Box(3, 3, 0, 0), Box(0, 0, 3, 3)) == 0

    def test_every_metric_refuses_no_rows(self) -> None:
        for name in METRICS:
            with pytest.raises(DataError, match="no row could be scored"):
                score_answers(name, [], [], QaContext())


class TestRows:
    def write(self, folder: Path, *rows: Any) -> Path:
        file = folder / "rows.jsonl"
        file.write_text("".join(json.dumps(one) + "\n" for one in rows))
        return file

    @pytest.mark.parametrize(
        ("options", "answer", "letter"),
        [
            (["x", "y"], "B", "B"),
            (["x", "y"], "(b)", "B"),
            (["x", "y"], 1, "B"),
            (["x", "y"], "y", "B"),
            ({"A": "x", "B": "y", "C": None}, "B", "B"),
            ({"option_0": "x", "option_1": "y"}, "x", "A"),
        ],
    )
    def test_options_by_letter_number_and_text(self, tmp_path: Path, options: Any, answer: Any, letter: str) -> None:
        (found,) = read_qa(self.write(tmp_path, {"question": "?", "options": options, "answer": answer}))
        assert found.answers == (letter,)
        assert len(found.options) == 2

    def test_media_and_further_columns(self, tmp_path: Path) -> None:
        file = self.write(
            tmp_path,
            {"id": 7, "image": "a.png", "question": "?", "answers": ["x", "y"], "category": "c", "group": 3},
            {"video": "b.mp4", "question": "?", "answer": "x"},
            {"image": ["a.png", "c.png"], "question": "?", "answer": [1, 2, 3, 4]},
        )
        one, two, three = read_qa(file)
        assert (one.id, one.answers, one.category, one.group) == ("7", ("x", "y"), "c", "3")
        assert (two.id, two.kind, two.media) == ("2", "video", (tmp_path / "b.mp4",))
        assert len(three.media) == 2
        assert three.box == (1, 2, 3, 4)
        assert read_qa(tmp_path)[0].id == "7"

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ({"question": "?"}, "neither 'answer' nor 'answers'"),
            ({"question": "?", "answers": []}, "'answers' is empty"),
            ({"question": 3, "answer": "x"}, "'question' must be text"),
            ({"question": "?", "answer": "C", "options": ["x", "y"]}, "'C' is none of the 2 options"),
            ({"question": "?", "answer": "A", "options": ["x"]}, "must be 2 to 26 texts"),
            ({"question": "?", "answer": "A", "image": 3}, "a path or bytes"),
        ],
    )
    def test_rows_that_cannot_be_read(self, tmp_path: Path, value: Any, message: str) -> None:
        with pytest.raises(DataError, match=rf"row 1: .*{message}"):
            read_qa(self.write(tmp_path, value))

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="found none"):
            read_qa(tmp_path)
        with pytest.raises(DataError, match="holds no rows"):
            read_qa(self.write(tmp_path))
        twice = {"id": 1, "question": "?", "answer": "x"}
        with pytest.raises(DataError, match="same id"):
            read_qa(self.write(tmp_path, twice, twice))
        (tmp_path / "other.json").write_text("[]")
        with pytest.raises(ConfigError, match=r"found other.json, rows.jsonl"):
            read_qa(tmp_path)
        (tmp_path / "bad.parquet").write_bytes(b"no table")
        with pytest.raises(DataError, match="no parquet"):
            read_qa(tmp_path / "bad.parquet")

    def test_parquet_with_pictures_in_it(self, tmp_path: Path) -> None:
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
        rows = [{"image": {"bytes": content, "path": None}, "question": "?", "answer": "x", "options": None}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
        (found,) = read_qa(tmp_path / "rows.parquet")
        assert found.media == (content,)


class Knowing:
    """Answers by what stands in the question."""

    name, fingerprint, dtype = "knowing", "1" * 32, "torch.float32"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def prepare(self, messages: Any, seeing: Any) -> Any:
        return SimpleNamespace(text=messages[0].parts[-1], media=[])

    def generate_many(self, prompts: Any, **_: Any) -> list[Any]:
        self.asked += [prompt.text for prompt in prompts]
        return [SimpleNamespace(text=prompt.text.split("say ")[1].split("\n")[0]) for prompt in prompts]


class TestRun:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        rng = np.random.default_rng(0)
        lines = []
        for number in range(12):
            Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
            category = "even" if number % 2 else "odd"
            word = "abcdefghijkl"[number] * 6
            row = {"image": f"{number}.png", "question": f"say {word}", "answers": [word] * 10}
            lines.append(json.dumps({**row, "category": category, "id": f"q{number}"}))
        (tmp_path / "mine.jsonl").write_text("\n".join(lines))
        return tmp_path / "mine.jsonl"

    def measure(self, data: Path, model: Any = None, common: Common | None = None, **options: Any) -> Measured:
        tested = ModelUnderTest("knowing")
        tested.__dict__["assistant"] = model or Knowing()
        return run(Request(find_benchmark("qa"), tested, Options(**options), data, common or Common()))

    @pytest.mark.parametrize("metric", ["exact_match", "anls", "vqa_accuracy", "token_f1", "judged_accuracy"])
    def test_right_answers_and_truths_of_others(self, data: Path, metric: str) -> None:
        right = self.measure(data, metric=metric, judge="lexical")
        wrong = self.measure(data, metric=metric, judge="lexical", common=Common(shuffle_labels=True))
        headline = next(iter(right.metrics))
        assert right.metrics[headline].value == pytest.approx(100)
        assert wrong.metrics[headline].value < 30
        assert len(right.items) == 12
        assert wrong.details.mistakes[0].image is not None
        assert {bar.name for bar in right.details.classes} == {"even", "odd"}

    def test_answers_are_kept(self, data: Path, tmp_path: Path) -> None:
        common, second = Common(cache=tmp_path / "cache"), Knowing()
        self.measure(data, common=common)
        self.measure(data, second, common, metric="anls")
        assert second.asked == []

    def test_a_limit_draws_by_the_seed(self, data: Path) -> None:
        ids = [item["id"] for item in self.measure(data, common=Common(limit=5)).items]
        assert len(ids) == 5
        assert ids == [item["id"] for item in self.measure(data, common=Common(limit=5)).items]
        assert ids != [item["id"] for item in self.measure(data, common=Common(limit=5, seed=1)).items]

    def test_missing_pictures(self, data: Path) -> None:
        (data.parent / "3.png").unlink()
        with pytest.raises(DataError, match=r"1 of 12 rows have no usable media \(.*3.png is not there\)"):
            self.measure(data)
        assert self.measure(data, allow_missing=True).num_failed == 1

    def test_what_is_refused(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PERCEPTIC_JUDGE_URL", raising=False)
        with pytest.raises(ConfigError, match="metric 'bleu' does not exist; choose among exact_match"):
            self.measure(data, metric="bleu")
        model = Knowing()
        with pytest.raises(ConfigError, match="lexical"):
            self.measure(data, model, metric="judged_accuracy")
        assert model.asked == []

    def test_words_around_the_question(self) -> None:
        asked = row(question="WHAT is it?", options=("x", "y"))
        assert question_text(asked, Options(suffix="Go.")) == "WHAT is it?\nA. x\nB. y\nGo."
        assert question_text(row(question="WHAT is it?"), Options(capitalize=True)) == "What is it?"
        assert question_text(row(question="x"), Options(prompt="Describe {question} {it}.")) == "Describe x {it}."
        assert question_text(row(question="a cat"), Options(metric="box_iou")).startswith("Provide a bounding box")


def test_the_public_benchmarks_have_options_that_exist_and_report_their_metric() -> None:
    entries = [entry for entry in all_benchmarks().values() if entry.task == "qa" and entry.name != "qa"]
    assert len(entries) > 40
    for entry in entries:
        options = build_options(runner_for(entry), entry, {})
        assert options.metric in METRICS, entry.name
        answers, extra = ("yes", {}) if options.metric in ("pope", "mme") else ("A", {"options": ("x", "y")})
        if options.metric in ("box_iou", "cider", "judged_accuracy", "vqa_accuracy", "vqav2_accuracy", "time_iou"):
            continue  # need other truths; by hand above
        rows = [row(answers, name=str(n), group="g", category="count", **extra) for n in range(2)]
        figures = score_answers(options.metric, rows, [answers] * 2, QaContext(rule=options.rule)).figures
        assert entry.headline in figures, entry.name

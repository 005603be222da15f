"""PLM-VideoBench on a small world: an oracle is perfect, exchanged truths are not, and killed runs go on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perceptic.errors import ConfigError, DataError
from perceptic.evaluate.benchmark import find_benchmark
from perceptic.evaluate.plm_bench import Options, drawn, run
from perceptic.evaluate.plm_bench_prompts import Asking
from perceptic.evaluate.plm_bench_rows import (
    REGION_SECTIONS,
    BenchSegment,
    FgqaRow,
    RegionRow,
    SgqaRow,
    VideoFolders,
    read_boxes,
    read_rows,
    subjects,
)
from perceptic.evaluate.request import Common, ModelUnderTest, Request
from perceptic.evaluate.result import Measured
from perceptic.media.boxes import Box
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.fresh_model import write_fresh_model
from perceptic.tasks.messages import ChatMessage
from perceptic.world import WorldSettings, export_world

SECTIONS = ("fgqa", "sgqa", "rcap", "rdcap", "rtloc")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released layout, made of eight clips of the world."""
    root = tmp_path_factory.mktemp("world")
    export_world(root, WorldSettings(num_images=0, num_videos=8, num_zero_shot=0, split="validation"))
    return root / "videobench"


class Oracle:
    """Answers by `know(prompt, part)`; stands where a language model would."""

    name, fingerprint, dtype = "oracle", "0" * 32, "torch.float32"

    def __init__(self, know: Callable[[str, Any], str], frames: int = 32) -> None:
        self.know, self.frames = know, frames
        self.preprocessing = SimpleNamespace(max_video_frames=32)
        self.asked: list[str] = []
        self.stop_after: int | None = None
        self.options: list[Any] = []
        self.seeing: list[Any] = []
        self.parts: list[Any] = []

    def prepare(self, messages: Sequence[ChatMessage], seeing: Any) -> Any:
        self.seeing.append(seeing)
        (part, text) = messages[0].parts
        return SimpleNamespace(media=[SimpleNamespace(total_frames=self.frames)], part=part, text=text)

    def generate_many(self, prompts: Sequence[Any], *, options: Any, batch_size: int) -> list[Any]:
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.options.append(options)
        self.asked += [prompt.text for prompt in prompts]
        self.parts += [prompt.part for prompt in prompts]
        return [SimpleNamespace(text=self.know(prompt.text, prompt.part)) for prompt in prompts]


def request(oracle: Any, data: Path, section: str, common: Common | None = None, **options: Any) -> Request[Options]:
    model = ModelUnderTest("oracle")
    model.__dict__["assistant"] = oracle
    settings = Options(**{"section": section, "judge": "lexical", **options})
    whole = replace(common or Common(), allow_subset=True)
    return Request(find_benchmark("plm-fgqa"), model, settings, data, whole)


def knowing(data: Path, mode: str = "compatible") -> Callable[[str, Any], str]:
    """Right answers by prompt, video and boxes, out of the files themselves."""
    known: dict[tuple[str, str, str], str] = {}
    for section in SECTIONS:
        asking = Asking(cast(Any, section), cast(Any, mode))
        rows = read_rows(data, cast(Any, section))
        boxes = read_boxes(data, set(subjects(rows))) if section in REGION_SECTIONS else {}
        for row in rows:
            track = boxes.get((row.video, getattr(row, "masklet_id", -1)))
            known[asking.prompt(row), row.video, str(track)] = truth(asking, row)
    return lambda prompt, part: known[prompt, part.name, str(part.boxes)]


def truth(asking: Asking, row: Any) -> str:
    if isinstance(row, FgqaRow):
        return f"({row.letter})"
    if isinstance(row, SgqaRow):
        return row.answer
    lines = []
    for segment in row.segments:
        shown = asking.shown(row, segment.start_frame, segment.end_frame)
        if asking.section == "rtloc":
            return f"[{shown.start:g}, {shown.end:g}]"
        if asking.section == "rcap":
            return segment.caption
        lines.append(f"Frame [{shown.start:g}, {shown.end:g}]: {segment.caption}")
    return "\n".join(lines)


def test_a_part_of_the_rows_is_measured_only_on_purpose(data: Path) -> None:
    asked = request(Oracle(lambda prompt, part: "(A)"), data, "fgqa")
    count = len(read_rows(data, "fgqa"))
    with pytest.raises(DataError, match=rf"plm_fgqa_test.* expected 10,976 items, found {count}\. .*--allow-subset"):
        run(replace(asked, common=Common()))
    assert run(asked).facts["subset"] == f"{count} of 10,976 items"
    average = measure(Oracle(knowing(data)), data, "all")
    assert f"fgqa {count} of 10,976 items" in average.facts["subset"]


def measure(oracle: Any, data: Path, section: str, common: Common | None = None, **options: Any) -> Measured:
    return run(request(oracle, data, section, common, **options))


class TestScores:
    @pytest.mark.parametrize("mode", ["compatible", "clean"])
    def test_an_oracle_is_perfect_in_every_task_and_on_average(self, data: Path, mode: str) -> None:
        measured = measure(Oracle(knowing(data, mode)), data, "all", mode=mode)
        assert set(measured.metrics) == {"average", *SECTIONS}
        for score in measured.metrics.values():
            assert score.value == pytest.approx(100, abs=1e-4)
        assert measured.facts["mode"] == mode
        assert measured.facts["rcap"]["judge"]["kind"] == "lexical"
        assert any("compare with no published ones" in note for note in measured.details.notes)

    def test_region_tasks_count_as_one_in_the_average(self, data: Path) -> None:
        know = knowing(data)
        oracle = Oracle(lambda prompt, part: "nothing" if "red rectangle" in prompt else know(prompt, part))
        metrics = measure(oracle, data, "all").metrics
        assert metrics["rtloc"].value == metrics["rdcap"].value == 0
        assert metrics["average"].value == pytest.approx((200 + metrics["rcap"].value / 3) / 3)

    def test_truths_of_others_fall(self, data: Path) -> None:
        oracle = Oracle(knowing(data))
        for section in SECTIONS:
            right = measure(oracle, data, section).metrics
            wrong = measure(oracle, data, section, Common(shuffle_labels=True)).metrics
            headline = next(iter(right))
            assert wrong[headline].value < right[headline].value - 25, section

    def test_one_who_always_says_the_same_is_at_chance(self, data: Path) -> None:
        metrics = measure(Oracle(lambda prompt, part: "(A)"), data, "fgqa").metrics
        assert metrics["accuracy"].value == pytest.approx(50, abs=20)
        chance = metrics["mbacc"].chance
        assert chance is not None
        assert 0 < chance < 50
        assert metrics["mbacc"].value <= metrics["accuracy"].value

    def test_unreadable_answers_are_counted(self, data: Path) -> None:
        for section in ("fgqa", "rdcap", "rtloc"):
            metrics = measure(Oracle(lambda prompt, part: "no idea"), data, section).metrics
            assert metrics["read"].value == 0
            assert next(iter(metrics.values())).value == 0

    def test_every_row_can_be_looked_at(self, data: Path) -> None:
        measured = measure(Oracle(lambda prompt, part: "(A)"), data, "fgqa")
        assert len(measured.items) == len(read_rows(data, "fgqa"))
        assert set(measured.items[0]) >= {"id", "video", "answer", "truth", "score", "group", "failure"}
        json.dumps(measured.items)
        mistake = measured.details.mistakes[0]
        assert mistake.image is not None
        assert mistake.image.startswith(b"\x89PNG")
        assert len(measured.details.classes) > 1


class TestAsking:
    def test_prompts_of_both_modes(self) -> None:
        row = FgqaRow("u", "v.mp4", "g", "How?", ("up", "down"), "A")
        text = "Question: How?\nOptions:\n(A) up\n(B) down\nOnly give the best option."
        assert Asking("fgqa", "compatible").prompt(row) == text + "{answer}"
        assert Asking("fgqa", "clean").prompt(row) == text
        asked = Asking("sgqa", "compatible").prompt(SgqaRow("u", "v.mp4", "Where {is} it?", "x"))
        assert asked.endswith("video content: Where {is} it?{answer}")
        assert "of the video.  Provide a detailed answer even if unsure.  Try" in asked
        region = RegionRow("u", "v.mp4", 0, 121, (BenchSegment(30, 91, "A man's dog runs."),))
        assert Asking("rcap", "compatible").prompt(region).endswith("within frames [7, 24] in this 121 frame video.")
        assert Asking("rcap", "clean").prompt(region).endswith("within frames [7, 24] in this 32 frame video.")
        located = Asking("rtloc").prompt(region)
        assert located.startswith("Given the region marked by the red rectangle in the video, please provide")
        assert "when 'A man's dog runs.' happens" in located
        assert "between 0 and 31 in this 32 frame video." in Asking("rdcap").prompt(region)

    @pytest.mark.parametrize(
        ("total", "frames"),
        [
            (121, {0: 0, 30: 7, 31: 8, 33: 8, 60: 15, 90: 23, 120: 31}),
            (80, {0: 0, 15: 6, 38: 15, 79: 31}),
            (48, {5: 3, 47: 31}),
            (32, {index: index for index in range(32)}),
        ],
    )
    def test_frames_are_rescaled_as_the_specification_lists(self, total: int, frames: dict[int, int]) -> None:
        row = RegionRow("u", "v", 0, total, ())
        for frame, shown in frames.items():
            assert Asking("rtloc").shown(row, frame, frame).start == shown
        assert Asking("rtloc", "compatible").shown(row, 0, total).end == 32
        assert Asking("rtloc", "clean").shown(row, 0, total).end == 31

    def test_limits_frames_and_dots(self) -> None:
        limits = {section: Asking(cast(Any, section)).options.max_new_tokens for section in SECTIONS}
        assert limits == {"fgqa": 16, "sgqa": 16, "rtloc": 16, "rcap": 512, "rdcap": 512}
        assert Asking("sgqa", "clean").options.max_new_tokens == 64
        assert Asking("sgqa", "clean", 7).options.max_new_tokens == 7
        assert not Asking("fgqa").options.first_token_may_stop
        assert Asking("fgqa", "clean").options.first_token_may_stop
        assert Asking("fgqa").seeing.sampling == "one_per_second"
        assert Asking("rcap").seeing.sampling == "uniform"
        assert Asking("fgqa").answer("A..") == "A."
        assert Asking("fgqa", "clean").answer("A.") == "A."

    def test_boxes_are_drawn_on_the_frames_of_region_tasks_alone(self, data: Path) -> None:
        oracle = Oracle(lambda prompt, part: "x")
        measure(oracle, data, "rcap")
        assert all(part.boxes for part in oracle.parts)
        row = cast(RegionRow, read_rows(data, "rcap")[0])
        wanted = read_boxes(data, {(row.video, row.masklet_id)})[row.video, row.masklet_id]
        assert dict(oracle.parts[0].boxes) == dict(wanted)
        assert all(seeing.num_frames == 32 for seeing in oracle.seeing)
        other = Oracle(lambda prompt, part: "x")
        measure(other, data, "sgqa")
        assert not any(part.boxes for part in other.parts)
        unseen = Asking("rcap").message(replace(row, total_frames=64), Path("v.mp4"), {1: wanted[0]})
        assert unseen.media[0].boxes is None

    def test_a_model_of_fewer_frames_is_shown_fewer_and_the_report_says_so(self, data: Path) -> None:
        oracle = Oracle(knowing(data))
        oracle.preprocessing.max_video_frames = 8
        measured = measure(oracle, data, "rtloc")
        assert all(seeing.num_frames == 8 for seeing in oracle.seeing)
        assert measured.metrics["mean_recall"].value == pytest.approx(100, abs=1e-4)
        assert any("8 frames are shown" in note for note in measured.details.notes)
        row = RegionRow("u", "v.mp4", 0, 32, (BenchSegment(0, 9, "x"),))
        between = {index: None if index in (0, 4, 9, 13, 18, 22, 27, 31) else Box(1, 1, 2, 2) for index in range(32)}
        assert Asking("rcap", num_frames=8).message(row, Path("v.mp4"), between).media[0].boxes is None
        assert Asking("rcap").message(row, Path("v.mp4"), between).media[0].boxes is not None


class TestResuming:
    def test_a_killed_run_goes_on_and_a_finished_one_asks_nothing(self, data: Path, tmp_path: Path) -> None:
        know, total = knowing(data), len(read_rows(data, "fgqa"))
        oracle = Oracle(know)
        oracle.stop_after = 8
        with pytest.raises(KeyboardInterrupt):
            measure(oracle, data, "fgqa", Common(cache=tmp_path), batch_size=4)
        assert len(oracle.asked) == 8
        (file,) = (tmp_path / "answers").glob("*.jsonl")
        with file.open("ab") as stream:
            stream.write(b'{"key": "cut')  # as a kill in the middle of a line leaves it
        second = Oracle(know)
        measured = measure(second, data, "fgqa", Common(cache=tmp_path), batch_size=4)
        assert len(second.asked) == total - 8
        third = Oracle(know)
        again = measure(third, data, "fgqa", Common(cache=tmp_path))
        assert third.asked == []
        assert again.metrics == measured.metrics
        changed = Oracle(lambda prompt, part: "(A)")
        measure(changed, data, "fgqa", Common(cache=tmp_path), mode="clean")
        assert len(changed.asked) == total

    def test_the_average_costs_nothing_after_its_parts(self, data: Path) -> None:
        oracle = Oracle(knowing(data))
        made = request(oracle, data, "fgqa")
        for section in (*SECTIONS, "all"):
            run(replace(made, options=replace(made.options, section=cast(Any, section))))
        assert len(oracle.asked) == sum(len(read_rows(data, cast(Any, section))) for section in SECTIONS)

    def test_a_limit_draws_whole_questions(self, data: Path) -> None:
        rows = read_rows(data, "fgqa")
        few = cast(list[FgqaRow], drawn(rows, 10, 0))
        assert 0 < len(few) <= 10
        for group in {row.group for row in few}:
            whole = [row for row in rows if cast(FgqaRow, row).group == group]
            assert [row for row in few if row.group == group] == whole
        assert drawn(rows, 10, 0) == few
        assert drawn(rows, 10, 1) != few
        assert drawn(rows, None, 0) == rows


class TestData:
    def test_parquet_says_the_same(self, data: Path, tmp_path: Path) -> None:
        for section in SECTIONS:
            lines = (data / section / f"plm_{section}_test.jsonl").read_text().splitlines()
            table = pa.Table.from_pylist([json.loads(line) for line in lines])
            (tmp_path / section).mkdir()
            pq.write_table(table, tmp_path / section / f"plm_{section}_test.parquet")
            assert read_rows(tmp_path, cast(Any, section)) == read_rows(data, cast(Any, section))

    def test_missing_videos_are_named_and_may_be_allowed(self, data: Path, tmp_path: Path) -> None:
        shutil.copytree(data, tmp_path / "videobench")
        shutil.copytree(data.parent / "videos", tmp_path / "videos")
        gone = read_rows(data, "sgqa")[0].video
        (tmp_path / "videos" / gone).unlink()
        oracle = Oracle(knowing(data))
        with pytest.raises(DataError, match=rf"sgqa: \d+ of \d+ rows .*{re.escape(gone)} is not there.*allow.missing"):
            measure(oracle, tmp_path / "videobench", "sgqa")
        measured = measure(oracle, tmp_path / "videobench", "sgqa", allow_missing=True)
        assert measured.num_failed == sum(row.video == gone for row in read_rows(data, "sgqa"))
        assert measured.metrics["judged_accuracy"].value == pytest.approx(100)
        assert any(gone in note for note in measured.details.notes)
        elsewhere = tmp_path / "elsewhere"
        shutil.copytree(data.parent / "videos", elsewhere)
        assert measure(oracle, tmp_path / "videobench", "sgqa", videos=str(elsewhere)).num_failed == 0

    def test_videos_of_another_frame_rate_are_refused(self, data: Path) -> None:
        with pytest.raises(DataError, match="6 frames per second"):
            measure(Oracle(knowing(data), frames=128), data, "rcap")
        with pytest.raises(DataError, match="has 8 frames"):
            measure(Oracle(knowing(data), frames=8), data, "rcap")

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"has no fgqa/plm_fgqa_test.jsonl"):
            read_rows(tmp_path, "fgqa")
        (tmp_path / "fgqa").mkdir()
        file = tmp_path / "fgqa" / "plm_fgqa_test.jsonl"
        row = {
            "uid": "u", "video": "v", "qa_uid": "g", "question": "q", "answer": "x",
            "options": {"option_0": "a", "option_1": "b"},
        }  # fmt: skip
        for content, message in (
            ("", "holds no rows"),
            ("{", r"jsonl:1: is not JSON"),
            ("[]", "jsonl:1: expected an object, not list"),
            (json.dumps({}), "'answer' must be text|'options' must be an object"),
            (json.dumps(row), "'x' is none of the options"),
            ("\n".join([json.dumps({**row, "answer": "a"})] * 2), "same uid"),
        ):
            file.write_text(content)
            with pytest.raises(DataError, match=message):
                read_rows(tmp_path, "fgqa")
        file.write_text(json.dumps({**row, "answer": "b", "metadata": None, "more": 1}))
        assert cast(FgqaRow, read_rows(tmp_path, "fgqa")[0]).letter == "B"

    def test_boxes_that_are_not_there(self, data: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"metadata_test.jsonl"):
            read_boxes(tmp_path, set())
        with pytest.raises(DataError, match=r"no boxes for 1 subjects, such as masklet 9 of x.mp4"):
            read_boxes(data, {("x.mp4", 9)})
        assert VideoFolders((tmp_path,)).find("../x") is None

    def test_judged_tasks_need_a_judge_before_anything_is_asked(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PERCEPTIC_JUDGE_URL", raising=False)
        oracle = Oracle(knowing(data))
        with pytest.raises(ConfigError, match="lexical"):
            measure(oracle, data, "rcap", judge="")
        assert oracle.asked == []
        assert measure(oracle, data, "rtloc", judge="").num_failed == 0

    def test_a_judge_of_the_environment_is_part_of_the_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Results of another judge must not be taken for these."""
        monkeypatch.setenv("PERCEPTIC_JUDGE_URL", "http://localhost:1/v1")
        monkeypatch.setenv("PERCEPTIC_JUDGE_MODEL", "m")
        assert (Options().judge, Options().judge_model) == ("http://localhost:1/v1", "m")
        assert Options(judge="lexical").judge == "lexical"


def test_a_real_model_is_measured(data: Path, tmp_path: Path) -> None:
    write_fresh_model("PLM-Nano", tmp_path / "model")
    assistant = Assistant.load(tmp_path / "model", device="cpu")
    common = Common(limit=4, cache=tmp_path / "cache")
    for section in ("fgqa", "rtloc"):
        measured = measure(assistant, data, section, common, max_new_tokens=3)
        assert 0 < len(measured.items) <= 4
        assert 0 <= next(iter(measured.metrics.values())).value <= 100


@pytest.mark.slow
def test_a_run_killed_by_the_system_goes_on(data: Path, tmp_path: Path) -> None:
    write_fresh_model("PLM-Nano", tmp_path / "model")
    command = [
        *(sys.executable, "-m", "perceptic", "eval", "plm-fgqa", "--model", str(tmp_path / "model")),
        *("--data", str(data), "--out", str(tmp_path / "out"), "--device", "cpu"),
        *("--set", "batch_size=2", "--set", "max_new_tokens=8", "--allow-subset"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (kept := answers_in(tmp_path)) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        process.kill()
    assert 0 < len(kept) < len(read_rows(data, "fgqa"))
    before = answers_in(tmp_path)
    subprocess.run(command, check=True, capture_output=True)
    after = answers_in(tmp_path)
    assert after[: len(before)] == before
    assert len({line["key"] for line in after}) == len(after)
    (items,) = (tmp_path / "out" / "items").glob("*.jsonl")
    assert len(items.read_text().splitlines()) == len(read_rows(data, "fgqa"))


def answers_in(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of the answers kept so far."""
    lines = [line for file in folder.glob("out/*/answers/*.jsonl") for line in file.read_text().split("\n")[:-1]]
    return [json.loads(line) for line in lines]

"""Claims about the language model: what the rows tell and leave out, how answers are marked, arms, conditions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from perceptic import world
from perceptic.configs_plm import PerceptionLMPreprocessing
from perceptic.data.plm_rows import ImageRow, VideoRow
from perceptic.data.registry import open_mix, parse_mix, read_registry
from perceptic.evaluate.claims import frames, language, overlay, runner, targeted
from perceptic.evaluate.claims.claim import Claim, Quantity, SeedResult, Setting, judge_all
from perceptic.evaluate.claims.language import Choice, Lesson, Marks, marks, named_choice, write_lessons
from perceptic.evaluate.claims.mini import Arm, mini_recipe, run_name
from perceptic.evaluate.claims.report import finding_rows, render_finding
from perceptic.evaluate.claims.runner import ClaimOptions, run_claim
from perceptic.media.chunks import ChunkTransform
from perceptic.media.images import load_image
from perceptic.media.regions import RED
from perceptic.media.sampling import plm_indices
from perceptic.media.video import open_video
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.media_parts import MediaPart
from perceptic.train.plm_recipe import PlmRecipe
from perceptic.train.recipe import load_recipe
from perceptic.weights.plm_folder import read_plm_folder
from perceptic.weights.plm_sources import find_plm_folder

ARMS = (targeted.GENERIC, targeted.WITH_FINE, *frames.SEEING_FRAMES.values())
ARMS = (*ARMS, frames.ONE_CHUNK, frames.TILED, overlay.DRAWN, overlay.WRITTEN)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worlds of a few pictures and clips."""
    for module in (targeted, frames, overlay):
        monkeypatch.setattr(module, "_TRAIN", 8)
        monkeypatch.setattr(module, "_TEST", 4)
    for cached in (targeted.held_out_moves, frames.held_out_letters, overlay.held_out_pairs):
        cached.cache_clear()


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# Answers


@pytest.mark.parametrize(
    ("answer", "name"),
    [("left", "left"), ("On the LEFT.", "left"), ("left or right", None), ("leftwards", None), ("", None)],
)
def test_an_answer_names_one_choice_or_none(answer: str, name: str | None) -> None:
    assert named_choice(answer, ("left", "right")) == name


def test_an_answer_of_another_form_is_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four: one right, one wrong, two that name nothing: 1 + 2 / 2 of 4."""
    given = iter(["left", "left", "a red star", ""])

    @dataclass
    class Answered:
        text: str

    class Parrot:
        def generate_many(self, conversations: Sequence[Any], **_: Any) -> list[Answered]:
            return [Answered(next(given)) for _ in conversations]

    monkeypatch.setattr(Assistant, "load", lambda model: Parrot())
    part = MediaPart("image", b"", "none.png")
    asked = [Choice(part, "Where?", ("left", "right"), wanted) for wanted in ("left", "right", "left", "right")]
    assert marks("any", {"where": asked}) == {"where": Marks(right=50.0, unread=50.0)}


# Rows


def test_rows_are_written_once_and_media_once(tmp_path: Path) -> None:
    lesson = Lesson("image", b"bytes", (("What?", "A star."), ("Which?", "red")))
    calls: list[int] = []

    def sets() -> dict[str, list[Lesson]]:
        calls.append(1)
        return {"one": [lesson, lesson], "other": [replace(lesson, turns=(("Where?", "left"),))]}

    registry = write_lessons(tmp_path / "rows", sets)
    assert write_lessons(tmp_path / "rows", sets) == registry
    assert len(calls) == 1
    assert [path.read_bytes() for path in (tmp_path / "rows" / "media").iterdir()] == [b"bytes"]
    mix = open_mix(parse_mix("one:1,other:3"), read_registry(registry))
    assert mix.lengths == (2, 1)
    row = mix.row_sets[0].row(0)
    assert isinstance(row, ImageRow)
    assert [turn.text for turn in row.turns] == ["<image>\nWhat?", "A star.", "Which?", "red"]
    assert (mix.row_sets[0].root / row.path).read_bytes() == b"bytes"


@pytest.mark.parametrize("index", range(12))
def test_a_clip_shows_its_facts(index: int) -> None:
    move = targeted.timed_move(index, "validation")
    shown = [world.scene_at(move.clip, frame).objects[0] for frame in range(targeted.NUM_FRAMES)]
    visible = [item.opacity == 1.0 for item in shown]
    assert visible[-1]
    assert not visible[0]
    assert visible == sorted(visible)
    assert {"first": True, "second": False}[move.facts["timed"]] == visible[targeted.NUM_FRAMES // 2 - 1]
    first, last = shown[visible.index(True)], shown[-1]
    assert {"left": last.x < 0.5 < first.x, "right": first.x < 0.5 < last.x}[move.facts["fine"]]
    assert all(item.radius < item.x < 1 - item.radius for item in shown)


def test_clips_have_all_facts_equally_often_and_splits_share_none() -> None:
    facts = [tuple(targeted.timed_move(index, "train").facts.values()) for index in range(8)]
    assert all(facts.count(one) == 2 for one in facts)
    assert targeted.timed_move(0, "train").clip != targeted.timed_move(0, "validation").clip


def test_generic_rows_do_not_tell_what_is_asked(few: None, tmp_path: Path) -> None:
    registry = targeted.write_moves(tmp_path)
    told = (registry.parent / "generic.jsonl").read_text().lower()
    for question, choices in targeted.QUESTIONS.values():
        assert question.lower() not in told
        assert not any(choice in told for choice in choices)
    for name, (question, choices) in targeted.QUESTIONS.items():
        rows = rows_of(registry.parent / f"{name}.jsonl")
        answers = [row["conversations"][1]["value"] for row in rows]
        assert {row["conversations"][0]["value"] for row in rows} == {f"<video>\n{question}"}
        assert [answers.count(choice) for choice in choices] == [4, 4]


def test_all_frames_of_a_clip_are_seen(few: None, tmp_path: Path) -> None:
    """The file's frame rate is what the model's rule of one frame a second takes whole."""
    mix = open_mix(parse_mix("generic:1"), read_registry(targeted.write_moves(tmp_path)))
    row = mix.row_sets[0].row(0)
    assert isinstance(row, VideoRow)
    with open_video(mix.row_sets[0].root / row.path) as video:
        rate, total = video.info.frames_per_second, len(video.seconds)
    assert plm_indices(total, rate, 8) == list(range(8))
    assert plm_indices(total, rate, 2) == [0, 7]


@pytest.mark.parametrize("index", range(6))
def test_a_box_shows_one_of_two(index: int) -> None:
    pair = overlay.pair_picture(index, "validation")
    assert pair.fact("colour", 0) != pair.fact("colour", 1)
    assert pair.fact("shape", 0) != pair.fact("shape", 1)
    for which, box in enumerate(pair.boxes):
        assert 0 <= box.left < box.right < 64
        assert box.left / 64 <= pair.objects[which].x <= box.right / 64
        assert box.top / 64 <= pair.objects[which].y <= box.bottom / 64
        shown = np.asarray(load_image(pair.boxed(which)))
        assert tuple(shown[int(box.top), int(box.left)]) == RED
        assert (shown != pair.pixels).any()
    assert np.array_equal(np.asarray(load_image(pair.bare)), pair.pixels)


def test_drawn_and_written_rows_ask_the_same(few: None, tmp_path: Path) -> None:
    folder = overlay.write_pairs(tmp_path).parent
    drawn, written = (rows_of(folder / f"{name}.jsonl") for name in ("drawn", "written"))
    for one, other in zip(drawn, written, strict=True):
        answers = [[turn["value"] for turn in row["conversations"][1::2]] for row in (one, other)]
        assert answers[0] == answers[1]
        assert one["image"] != other["image"]
        assert "[" in other["conversations"][0]["value"]


def test_without_a_box_half_is_right(few: None) -> None:
    """Both objects of a picture are asked for in the same words: whatever is answered, one of them is meant."""
    asked = overlay.held_out_pairs()["not at all"]
    seen: dict[tuple[Any, str], list[str]] = {}
    for one in asked:
        seen.setdefault((one.part.identity, one.question), []).append(one.wanted)
    assert all(len(wanted) == len(set(wanted)) == 2 for wanted in seen.values())


@pytest.mark.parametrize("index", range(6))
def test_a_letter_lies_in_one_tile(index: int) -> None:
    item = frames.lettered(index, "validation").item
    for centre in (item.x, item.y):
        assert min(centre, abs(centre - 0.5), 1 - centre) > item.radius
    transform = ChunkTransform(PerceptionLMPreprocessing(tile_size=64, max_num_tiles=4))
    assert len(transform.pixels(load_image(frames.lettered(index, "validation").png))) == 5


# Arms


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_arm_is_a_recipe(arm: Arm, few: None, tmp_path: Path) -> None:
    path = tmp_path / "language.yaml"
    path.write_text(mini_recipe(arm.recipe))
    recipe = load_recipe(path, (*arm.scaled(0.5).all_changes, *arm.prepare(tmp_path), "seed=1"))
    assert isinstance(recipe, PlmRecipe)
    assert recipe.num_steps == 120
    (phase,) = recipe.phases
    assert recipe.data.registry is not None
    open_mix(parse_mix(phase.mix), read_registry(Path(recipe.data.registry)))
    wanted = {"2 frames": (2, 1), "8 frames": (8, 1), "four tiles": (4, 4)}.get(arm.name, (4, 1))
    assert (phase.settings.max_video_frames, phase.settings.max_num_tiles) == wanted
    assert phase.settings.vision_input_type == ("thumb+tile" if arm is frames.TILED else "vanilla")


def test_arms_that_see_more_see_as_many_samples(few: None, tmp_path: Path) -> None:
    def room(arm: Arm) -> int:
        (tokens,) = (change for change in arm.prepare(tmp_path) if change.startswith("phases.0.max_tokens="))
        return int(tokens.partition("=")[2])

    tokens_per_chunk = read_plm_folder(find_plm_folder("PLM-Nano")).config.tokens_per_chunk
    fewer, more = frames.SEEING_FRAMES[2], frames.SEEING_FRAMES[8]
    assert room(more) - room(fewer) == targeted.SAMPLES * 6 * tokens_per_chunk
    assert len({run_name(arm, 0) for arm in ARMS}) == len(ARMS)


def test_runs_and_results_are_of_one_set_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def experiment(seed: int, setting: Setting) -> SeedResult:
        calls.append(seed)
        return SeedResult({"gain": 1.0})

    claim = Claim(99, "T", "S", "E", (Quantity("gain", "points", "above"),), experiment, 1.0, begins_with="PLM-Nano")
    names = []
    for weights in ("one", "one", "other"):
        for module in (language, runner):
            monkeypatch.setattr(module, "weights_of", lambda model, weights=weights: weights)
        names.append(run_name(targeted.GENERIC, 0))
        run_claim(claim, ClaimOptions(num_seeds=1), tmp_path)
    assert names[0] == names[1] != names[2]
    assert calls == [0, 0]


# Effects and conditions


def fake_marks(**right: float) -> dict[str, Marks]:
    return {kind: Marks(value, 0.0) for kind, value in right.items()}


def test_targeted_rows_that_teach_their_skill_alone() -> None:
    found = {
        "before": fake_marks(fine=50, timed=52, colour=90),
        targeted.GENERIC.name: fake_marks(fine=51, timed=53, colour=95),
        targeted.WITH_FINE.name: fake_marks(fine=81, timed=54, colour=95),
        targeted.WITH_TIMED.name: fake_marks(fine=50, timed=73, colour=95),
    }
    effects = targeted._effects(found)
    assert set(effects) == {quantity.name for quantity in targeted.CLAIM.quantities}
    assert effects["fine questions, by fine rows"] == 30
    assert effects["timed questions, by timed rows"] == 20
    assert effects["timed questions, by fine rows"] == 1
    assert effects["fine questions, by timed rows"] == -1
    assert effects["matching gains above crossing ones"] == 25
    assert effects["both, by generic rows alone"] == 1
    assert effects["fine questions after fine rows, above guessing"] == 31


def test_gains_by_frames_and_tiles() -> None:
    found = {
        "2 frames": fake_marks(timed=50, colour=90),
        "4 frames": fake_marks(timed=70, colour=91),
        "8 frames": fake_marks(timed=90, colour=92),
        frames.ONE_CHUNK.name: fake_marks(letter=40, colour=95),
        frames.TILED.name: fake_marks(letter=70, colour=95),
    }
    effects = frames._effects(found)
    assert set(effects) == {quantity.name for quantity in frames.CLAIM.quantities}
    assert effects["times in clips, 8 frames above 2"] == 40
    assert effects["letters, four tiles above one chunk"] == 30
    assert effects["both gains above those in colours, mean"] == 34
    assert effects["letters with four tiles, above guessing"] == 60
    curves = frames._curves(found, {1: 50.0, 2: 55.0, 8: 90.0})
    assert [curve.y for curve in curves][::2] == [(50, 70, 90), (50.0, 55.0, 90.0)]


def test_nothing_is_decided_without_a_condition(tmp_path: Path) -> None:
    assert judge_all(["holds"], ["holds"]) == "holds"
    for condition in ("does not hold", "undecided"):
        assert judge_all(["does not hold"], [condition]) == "undecided"
    quantities = (
        Quantity("skill", "points", "above", 10.0, is_condition=True),
        Quantity("gain", "points", "above"),
    )

    def experiment(seed: int, setting: Setting) -> SeedResult:
        return SeedResult({"skill": 1.0 + seed / 10, "gain": -5.0 - seed / 10})

    finding = run_claim(Claim(99, "T", "S", "E", quantities, experiment, 1.0), ClaimOptions(), tmp_path)
    assert finding is not None
    assert (finding.verdict, finding.unmet) == ("undecided", ("skill",))
    assert [row[-1] for row in finding_rows(finding)] == ["condition: not met", "does not hold"]
    assert "A condition is not met: skill." in render_finding(finding)


@pytest.mark.slow
@pytest.mark.parametrize("claim", [targeted.CLAIM, frames.CLAIM, overlay.CLAIM], ids=lambda claim: str(claim.number))
def test_a_claim_runs_from_end_to_end(claim: Claim, few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step an arm, on a few clips: every effect and score is there."""
    monkeypatch.setattr(overlay, "_CLIPS", 4)
    found = claim.run(0, Setting(tmp_path, scale=1 / 240))
    assert set(found.effects) == {quantity.name for quantity in claim.quantities}
    assert all(0 <= score <= 100 for score in found.scores.values())
    recipes = [yaml.safe_load(path.read_text()) for path in tmp_path.glob("runs/*/recipe.yaml")]
    assert {recipe["init"] for recipe in recipes} == {"PLM-Nano"}

"""World versions for the language model as benchmarks: entries, scores, chance and both controls."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from perceptic.errors import ConfigError
from perceptic.evaluate.benchmark import suites
from perceptic.evaluate.request import Common, ModelUnderTest, Request
from perceptic.evaluate.world_plm import Options, run
from perceptic.tasks.world_exam_items import SECTIONS, ExamWorld

ENTRIES = [entry for entry in suites()["world"] if entry.task == "world_plm"]


class Knowing:
    """Knows the answers of a section by question and picture."""

    name, fingerprint = "knowing", "0" * 32

    def __init__(self, section: str, number: int, seed: int = 0) -> None:
        items = SECTIONS[section].items(ExamWorld(), number, seed)
        self.known = {(item.question, item.part.source): item.wanted for item in items}

    def generate_many(self, conversations: Any, **_: Any) -> list[Any]:
        parts = [message.parts for (message,) in conversations]
        return [SimpleNamespace(text=self.known.get((text, part.source), "?")) for part, text in parts]


def request(section: str, number: int = 12, **common: Any) -> Request[Options]:
    model = ModelUnderTest("knowing")
    model.__dict__["assistant"] = Knowing(section, number)
    return Request(ENTRIES[0], model, Options(section, number), None, Common(**common))


def test_there_is_an_entry_for_each_section() -> None:
    assert [entry.options["section"] for entry in ENTRIES] == list(SECTIONS)
    assert all(entry.metrics == ("score", "shuffled") for entry in ENTRIES)


@pytest.mark.parametrize("section", ["colour", "motion_direction"])
def test_one_who_knows_and_both_controls(section: str) -> None:
    right = run(request(section))
    assert right.metrics["score"].value == 100
    assert right.metrics["shuffled"].value < 40
    chance = right.metrics["score"].chance
    assert chance is not None
    assert 0 < chance < 60
    assert right.details.mistakes == ()
    exchanged = run(request(section, shuffle_labels=True))
    assert exchanged.metrics["score"].value < 75
    assert {"id", "question", "answer", "truth", "score"} <= set(right.items[0])
    assert len({item["id"] for item in right.items}) == 12


def test_mistakes_have_pictures_and_a_limit_holds() -> None:
    made = request("event_order")
    made.model.__dict__["assistant"].known = {}
    measured = run(replace(made, common=Common(limit=3)))
    assert len(measured.items) == 3
    assert measured.metrics["score"].value == 0
    assert all(mistake.image and mistake.image.startswith(b"\x89PNG") for mistake in measured.details.mistakes)


def test_what_does_not_exist() -> None:
    made = request("shape")
    with pytest.raises(ConfigError, match="section 'smell' does not exist"):
        run(replace(made, options=Options("smell")))

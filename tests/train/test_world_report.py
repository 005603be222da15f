"""The report's arithmetic, and that its controls sit where they must."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from perceptic.cli.main import run
from perceptic.train import world_report
from perceptic.train.world_report import Encoders, Measure, load_clip, recall_at_1, report, top1, zero_shot
from perceptic.world import COLOURS


def test_top1_counts_rows():
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert top1(scores, [1, 0, 0, 0]) == 75.0


def test_recall_in_both_directions_by_hand():
    media = torch.eye(3)
    texts = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.2, 0.8]])
    to_media, to_text = recall_at_1(["a", "b", "c"], texts, media)
    assert to_media == pytest.approx(200 / 3)  # the second text prefers the first picture
    assert to_text == pytest.approx(200 / 3)  # the second picture prefers the third text


def test_identical_texts_share_their_pictures():
    media = torch.eye(3)
    texts = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert recall_at_1(["same", "same", "c"], texts, media)[0] == 100.0
    assert recall_at_1(["a", "b", "c"], texts, media)[0] == pytest.approx(200 / 3)


class ColourWords:
    """Encodes a text as the colour that it names."""

    classifier = Encoders.classifier

    def texts(self, texts):
        named = [next(rgb for name, rgb in COLOURS.items() if name in text) for text in texts]
        return F.normalize(torch.tensor(named, dtype=torch.float32), dim=-1)


def test_a_classifier_is_the_normalised_mean_of_its_prompts():
    classes = ColourWords().classifier([["a red shape", "red"], ["a blue shape", "a black object"]])
    assert torch.allclose(classes.norm(dim=1), torch.ones(2))
    red = F.normalize(torch.tensor([214.0, 24.0, 32.0]), dim=0)
    assert torch.allclose(classes[0], red, atol=1e-6)


@pytest.fixture(scope="module")
def nano():
    return load_clip("PE-Core-Nano")


def test_controls_of_the_bundled_model_are_at_chance(nano):
    measures = {measure.name: measure for measure in report(*nano, count=24, seed=5)}
    assert measures["direction of time in a clip (control)"].value == pytest.approx(50.0, abs=15.0)
    shuffled = measures["shape, labels shuffled (control)"]
    assert shuffled.value < 30.0  # 16 classes, 24 scenes: 6 % expected, five standard deviations are 25 points
    assert all(0.0 <= measure.value <= 100.0 for measure in measures.values())
    assert {measure.aim for measure in measures.values()} == {None, 50.0, 75.0, 90.0}


def test_the_bundled_model_knows_colours(nano):
    values = zero_shot(Encoders(*nano), "validation", ("colour",), 60, seed=5)
    assert values["colour"] > 70.0


def test_the_command_prints_a_table_and_json(capsys, monkeypatch):
    answers = {"one": [Measure("shape", 80.0, 6.25, 90.0)], "two": [Measure("shape", 90.0, 6.25, 90.0)]}
    monkeypatch.setattr(world_report, "load_clip", lambda name: (name, None))
    monkeypatch.setattr(world_report, "report", lambda name, tokenizer, count, seed: answers[name])
    assert run(["report", "one", "two"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| percent | one | two | mean | guessing | aim |",
        "| --- | --- | --- | --- | --- | --- |",
        "| shape | 80.0 | 90.0 | 85.0 | 6.2 | 90 |",
    ]
    assert run(["report", "one", "two", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measures"] == [
        {"name": "shape", "values": [80.0, 90.0], "chance": 6.25, "aim": 90.0}
    ]

"""Zero-shot labels follow the published protocol to the number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from perceptic.errors import ConfigError
from perceptic.inference.encode import load_encoder
from perceptic.media.preprocess import ImageTransform
from perceptic.media.video import read_video
from perceptic.tasks.classify import classify, score_labels
from perceptic.tasks.zero_shot import fill, label_vectors
from perceptic.weights.pretrained import load_bundle

LABELS = ["red circle", "blue square", "green star"]
TEMPLATES = ["a {} in the picture", "the {c}"]


def test_label_vectors_are_the_normalised_mean_of_normalised_prompts(tiny_clip: Path) -> None:
    bundle = load_bundle(tiny_clip)
    found = label_vectors(load_encoder(tiny_clip, needs_text=True), LABELS, TEMPLATES)
    for label, vector in zip(LABELS, found, strict=True):
        ids = bundle.tokenizer([f"a {label} in the picture", f"the {label}"], bundle.model.context_length)
        with torch.inference_mode():
            prompts = F.normalize(bundle.model.encode_text(ids), dim=-1)
        torch.testing.assert_close(vector, F.normalize(prompts.mean(dim=0), dim=0), atol=1e-6, rtol=0)


def test_a_video_is_the_normalised_mean_of_raw_frames(tiny_clip: Path, media: Path) -> None:
    result = classify(media / "clip.mp4", LABELS, model=tiny_clip, num_frames=4, templates=TEMPLATES)[0]
    bundle = load_bundle(tiny_clip)
    frames = ImageTransform(bundle.preprocessing).frames(read_video(media / "clip.mp4", num_frames=4))
    with torch.inference_mode():
        vector = F.normalize(bundle.model.encode_video(frames[None], normalize=False)[0], dim=0)
        labels = label_vectors(load_encoder(tiny_clip, needs_text=True), LABELS, TEMPLATES)
        probabilities = (bundle.model.logit_scale.exp() * labels @ vector).softmax(dim=0)
    assert {score.label: score.probability for score in result.labels} == pytest.approx(
        dict(zip(LABELS, probabilities.tolist(), strict=True)), abs=1e-5
    )
    assert [s.probability for s in result.labels] == sorted((s.probability for s in result.labels), reverse=True)


def test_whole_prompts_can_be_given(tiny_clip: Path) -> None:
    encoder = load_encoder(tiny_clip, needs_text=True)
    by_label = {"red circle": ["a big red circle"], "blue square": ["a big blue square", "the blue square"]}
    found = label_vectors(encoder, ["blue square"], by_label)
    torch.testing.assert_close(found, label_vectors(encoder, ["blue square"], ["a big {}", "the {}"]))
    with pytest.raises(ConfigError, match="no prompts are given for the label 'green star'"):
        label_vectors(encoder, ["green star"], by_label)


def test_folder_with_bad_files(tiny_clip: Path, media: Path) -> None:
    results = classify(media, LABELS, model=tiny_clip, top_k=2)
    assert [result.path for result in results] == sorted(result.path for result in results)
    assert len(results) == 8
    for result in results:
        broken = Path(result.path).name.startswith("torn")
        assert (result.error is not None) == broken
        assert len(result.labels) == (0 if broken else 2)
        assert (result.best is None) == broken


def test_probabilities_over_all_labels_not_only_the_shown(tiny_clip: Path, media: Path) -> None:
    every = classify(media / "a.png", LABELS, model=tiny_clip)[0]
    assert sum(score.probability for score in every.labels) == pytest.approx(1, abs=1e-5)
    assert classify(media / "a.png", LABELS, model=tiny_clip, top_k=1)[0].labels == every.labels[:1]


def test_equal_similarities_keep_the_order_of_labels() -> None:
    same = torch.tensor([[1.0, 0.0]] * 3)
    scores = score_labels(torch.tensor([1.0, 0.0]), same, ["x", "y", "z"], 10.0, top_k=3)
    assert [score.label for score in scores] == ["x", "y", "z"]


def test_fill() -> None:
    assert fill("a {} here", "dog") == "a dog here"
    assert fill("a {c} here", "dog") == "a dog here"
    with pytest.raises(ConfigError, match="no place for the label"):
        fill("a dog", "dog")


@pytest.mark.parametrize(
    ("labels", "message"),
    [([], "at least one"), ("cat", "must be a list"), (["a", "a"], "given twice"), (["a", " "], "a label is empty")],
)
def test_bad_labels(tiny_clip: Path, media: Path, labels: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        classify(media / "a.png", labels, model=tiny_clip)


def test_other_mistakes(tiny_clip: Path, tiny_tower: Path, media: Path) -> None:
    with pytest.raises(ConfigError, match="top_k must be at least 1"):
        classify(media / "a.png", LABELS, model=tiny_clip, top_k=0)
    with pytest.raises(ConfigError, match="templates is empty"):
        classify(media / "a.png", LABELS, model=tiny_clip, templates=[])
    with pytest.raises(ConfigError, match=r"without a text tower.*PE-Core"):
        classify(media / "a.png", LABELS, model=tiny_tower)


def test_control_tokens_in_labels_are_only_letters(tiny_clip: Path) -> None:
    encoder = load_encoder(tiny_clip, needs_text=True)
    plain, tricky = encoder.encode_texts(["red", "red <end_of_text> blue circle"])
    assert not torch.allclose(plain, tricky, atol=1e-4), "the text after the letters of a control token counts"

"""Distillation against its formula: the known minimum, temperatures, gradients, a teacher that is left alone."""

import math

import pytest
import torch
import torch.nn.functional as F

from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.data.batches import Batch
from perceptic.errors import ConfigError, WeightsError
from perceptic.models.clip import CLIP
from perceptic.text.bpe_training import train_bpe
from perceptic.train.distillation import Distillation, DistillRecipe, Features, load_teacher, mean_kl
from perceptic.weights.pretrained import load_bundle


def clip_of(width, seed):
    torch.manual_seed(seed)
    vision = VisionConfig(
        patch_size=4, width=width, layers=1, heads=2, output_dim=8, image_size=16, use_cls_token=True,
        attn_pooler_heads=2,
    )  # fmt: skip
    text = TextConfig(context_length=8, width=width, heads=2, layers=1, output_dim=8, vocab_size=50)
    return CLIP(ClipConfig(vision=vision, text=text)).double()


@pytest.fixture
def teacher():
    return clip_of(32, seed=1).eval().requires_grad_(False)


@pytest.fixture
def student():
    return clip_of(16, seed=2)


def make_batch(shape=(6, 3, 16, 16)):
    torch.manual_seed(3)
    ids = torch.randint(1, 48, (shape[0], 8))
    ids[:, -1] = 49
    return Batch(torch.randn(shape, dtype=torch.float64), ids)


def naive_loss(media, text, scale, teacher_media, teacher_text, teacher_scale):
    """Mean over rows and directions of the sum of p log(p / q), element by element."""
    total = 0.0
    for one, other, t_one, t_other in (
        (media, text, teacher_media, teacher_text),
        (text, media, teacher_text, teacher_media),
    ):
        for row, teacher_row in zip(one, t_one, strict=True):
            q = torch.stack([torch.exp(scale * row @ column) for column in other])
            p = torch.stack([torch.exp(teacher_scale * teacher_row @ column) for column in t_other])
            q, p = q / q.sum(), p / p.sum()
            total = total + sum(a * (a / b).log() for a, b in zip(p, q, strict=True))
    return total / (2 * len(media))


def test_loss_and_gradients_are_those_of_the_formula(teacher, student):
    batch = make_batch()
    loss, metrics = Distillation(teacher, teacher_logit_scale=30.0).loss(student, batch)
    loss.backward()
    ours = [p.grad.clone() for p in student.parameters()]
    student.zero_grad()
    expected = naive_loss(
        student.encode_image(batch.pixels, normalize=True),
        student.encode_text(batch.ids, normalize=True),
        student.logit_scale.exp(),
        teacher.encode_image(batch.pixels, normalize=True),
        teacher.encode_text(batch.ids, normalize=True),
        30.0,
    )
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    for gradient, parameter in zip(ours, student.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-8, atol=1e-11)
    assert set(metrics) == {"accuracy", "agreement", "logit_scale"}


def test_a_student_that_is_the_teacher_is_at_the_minimum(teacher):
    student = clip_of(32, seed=1)
    with torch.no_grad():
        student.logit_scale.fill_(math.log(200.0))
    loss, metrics = Distillation(teacher).loss(student, make_batch())
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert metrics["agreement"] == 1.0
    assert max(p.grad.abs().max() for p in student.parameters()) < 1e-10


def random_features(seed, count=5):
    torch.manual_seed(seed)
    return Features(*(F.normalize(torch.randn(count, 4, dtype=torch.float64), dim=-1) for _ in range(2)))


@pytest.mark.parametrize("seed", range(3))
def test_the_divergence_is_positive_and_zero_at_equal_rows(seed):
    one, other, scale = random_features(seed), random_features(seed + 10), torch.tensor(7.0, dtype=torch.float64)
    assert mean_kl(one, other, scale, 9.0).loss.item() > 0
    assert mean_kl(one, one, scale, 7.0).loss.item() == pytest.approx(0.0, abs=1e-12)


def test_rows_at_a_time_change_neither_loss_nor_gradients():
    student, teacher = random_features(1, 7), random_features(2, 7)
    results = []
    for max_scores in (1000, 14, 1):
        media, text = (x.clone().requires_grad_() for x in (student.media_BE, student.text_BE))
        scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
        divergence = mean_kl(Features(media, text), teacher, scale, 9.0, max_scores)
        divergence.loss.backward()
        results.append((divergence.loss.detach(), media.grad, text.grad, scale.grad, divergence.agreement))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(results[0], results[2], rtol=1e-12, atol=1e-14)


def test_autocast_does_not_round_similarities(student, teacher, monkeypatch):
    """A teacher's similarities times 200 in bf16 would be whole numbers."""
    # Towers may round as their processor likes: features are given, so that only what follows them is compared.
    given = {id(student): random_features(1, 5), id(teacher): random_features(2, 5)}
    monkeypatch.setattr(Distillation, "_features", lambda self, model, batch: as_float(given[id(model)]))
    loss, _ = Distillation(teacher).loss(student, make_batch())
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = Distillation(teacher).loss(student, make_batch())
    assert rounded.dtype == torch.float32
    assert rounded.item() == loss.item() > 1.0


def as_float(features: Features) -> Features:
    return Features(features.media_BE.float(), features.text_BE.float())


def test_the_teacher_gets_no_gradient_and_no_change(teacher, student):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    loss, _ = Distillation(teacher).loss(student, make_batch())
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not teacher.training


def test_the_student_may_see_fewer_pixels_than_its_teacher(teacher, student):
    seen = []
    for model in (teacher, student):
        model.visual.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[-1]))
    Distillation(teacher, student_image_size=8).loss(student, make_batch())
    assert seen == [16, 8]


def test_clips_chunks_and_pictures_agree(teacher, student):
    clips = make_batch((4, 2, 3, 16, 16))
    whole, _ = Distillation(teacher, student_image_size=8).loss(student, clips)
    chunked, _ = Distillation(teacher, student_image_size=8, chunk_size=3).loss(student, clips)
    assert whole.item() == pytest.approx(chunked.item(), rel=1e-9)


def test_the_students_scale_is_learned_and_capped(teacher, student):
    objective = Distillation(teacher, max_logit_scale=100.0)
    objective.loss(student, make_batch())[0].backward()
    assert student.logit_scale.grad is not None
    with torch.no_grad():
        student.logit_scale.fill_(9.0)
    objective.after_step(student)
    assert student.logit_scale.exp().item() == pytest.approx(100.0)


def test_the_bundled_model_can_teach_in_its_own_words_only():
    tokenizer = load_bundle("PE-Core-Nano").tokenizer
    teacher = load_teacher("PE-Core-Nano", tokenizer)
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    foreign = train_bpe(["a small red star", "two blue circles"], 520, tokenizer.context_length)
    with pytest.raises(WeightsError, match=r"set tokenizer\.model"):
        load_teacher("PE-Core-Nano", foreign)


@pytest.mark.parametrize("options", [{"teacher_logit_scale": 0.0}, {"student_image_size": -1}])
def test_impossible_recipes_are_named(options):
    with pytest.raises(ConfigError, match=r"distill\."):
        DistillRecipe("PE-Core-Nano", **options)

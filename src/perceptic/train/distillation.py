"""Distillation of a small model from a large one by their similarity matrices (training-recipes 1.8).

Student and teacher each encode the pictures and texts of a batch. Every row of the matrix of similarities, picture to
texts and text to pictures, is a distribution; the student minimises KL(teacher || student) over both. The teacher's
logit scale is fixed and sharper than the student's cap (200 and 100: half the temperature); the student's is learned.

Shapes: B batch, E embedding size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from perceptic.data.augmentation import resize
from perceptic.data.batches import Batch
from perceptic.errors import ConfigError, WeightsError
from perceptic.models.clip import CLIP
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.train.encoding import encode_media, encode_text, unit_vectors
from perceptic.train.global_loss import first_row, gather_rows
from perceptic.train.objectives import cap_logit_scale
from perceptic.weights.pretrained import load_bundle


@dataclass(frozen=True)
class DistillRecipe:
    """What a run distils from.

    Attributes:
        teacher: name or folder of a CLIP model with the run's tokenizer.
        teacher_logit_scale: fixed factor on the teacher's similarities (1.7: 200, twice the student's cap).
        student_image_size: pixels a side that the student sees; the teacher sees the batch as the stage's image_size
            made it. 0: both see the same. So a teacher can look at 448 pixels while its student learns at 224.
    """

    teacher: str
    teacher_logit_scale: float = 200.0
    student_image_size: int = 0

    def __post_init__(self) -> None:
        if not self.teacher_logit_scale > 0.0:
            raise ConfigError(f"distill.teacher_logit_scale: expected more than 0, not {self.teacher_logit_scale}")
        if self.student_image_size < 0:
            raise ConfigError(f"distill.student_image_size: expected 0 or more, not {self.student_image_size}")


def load_teacher(source: str, tokenizer: ClipTokenizer, device: torch.device | str = "cpu") -> CLIP:
    """A CLIP model to learn from: frozen, in eval mode, fp32.

    Raises:
        WeightsError: no such model, it has no text tower, or its tokenizer is not the run's, in which case the ids of
            a batch would be other words to it.
    """
    bundle = load_bundle(source, kind="clip", dtype=torch.float32, device=device)
    assert isinstance(bundle.model, CLIP)
    theirs = bundle.tokenizer
    if theirs is None or not theirs.same_vocabulary(tokenizer):
        raise WeightsError(f"distill.teacher: {source} reads other token ids than the run; set tokenizer.model to it")
    return bundle.model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Features:
    """Unit vectors of a batch's media and texts."""

    media_BE: Tensor
    text_BE: Tensor

    def turned(self) -> Features:
        """Texts for media and media for texts."""
        return Features(self.text_BE, self.media_BE)


@dataclass(frozen=True)
class Distillation:
    """Batches of pairs to a student whose similarities follow the teacher's.

    Attributes:
        teacher: see `load_teacher`. teacher_logit_scale, student_image_size: see `DistillRecipe`.
        max_logit_scale, chunk_size: as in `Contrastive`.
    """

    teacher: CLIP
    teacher_logit_scale: float = 200.0
    student_image_size: int = 0
    max_logit_scale: float = 100.0
    chunk_size: int = 0

    def loss(self, model: CLIP, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss; metrics `accuracy` (share of media whose own text is the student's nearest), `agreement` (share whose
        nearest text is the teacher's nearest) and `logit_scale`."""
        with torch.no_grad():
            targets = self._features(self.teacher, batch)
        student = self._features(model, Batch(self._student_pixels(batch.pixels), batch.ids))
        scale = model.logit_scale.exp()
        # Similarities times 200 in bf16 would be off by one.
        with torch.autocast(batch.pixels.device.type, enabled=False):
            to_text = mean_kl(student, targets, scale, self.teacher_logit_scale)
            to_media = mean_kl(student.turned(), targets.turned(), scale, self.teacher_logit_scale)
        return (to_text.loss + to_media.loss) / 2, {
            "accuracy": to_text.accuracy,
            "agreement": to_text.agreement,
            "logit_scale": scale.detach(),
        }

    def after_step(self, model: CLIP) -> None:
        """Cap the student's logit scale."""
        cap_logit_scale(model, self.max_logit_scale)

    def _features(self, model: CLIP, batch: Batch) -> Features:
        return Features(
            unit_vectors(encode_media(model, batch.pixels, self.chunk_size)),
            unit_vectors(encode_text(model, batch.ids, self.chunk_size)),
        )

    def _student_pixels(self, pixels: Tensor) -> Tensor:
        size = self.student_image_size
        if not size:
            return pixels
        small = resize(pixels.reshape(-1, *pixels.shape[-3:]), size)
        return small.reshape(*pixels.shape[:-2], size, size)


@dataclass(frozen=True)
class RowKl:
    """Means over rows of this process: the divergence, and how often the student's nearest is the own pair
    (`accuracy`) or the teacher's nearest (`agreement`)."""

    loss: Tensor
    accuracy: Tensor
    agreement: Tensor


def mean_kl(
    student: Features, teacher: Features, scale: Tensor, teacher_scale: float, max_scores: int = 1 << 22
) -> RowKl:
    """KL(softmax(teacher's similarities) || softmax(student's)), of each medium to the texts of all processes.

    The matrices are made some rows at a time, `max_scores` numbers of each, and again in the backward pass. Gradients
    are such that their mean over processes is that of the whole batch (see `gather_rows`).
    """
    texts_GE = gather_rows(student.text_BE)
    with torch.no_grad():
        teacher_texts_GE = gather_rows(teacher.text_BE)
    own_B = first_row(student.text_BE) + torch.arange(len(texts_GE), device=texts_GE.device)[: len(student.media_BE)]
    losses: list[Tensor] = []
    nearest: list[Tensor] = []
    teacher_nearest: list[Tensor] = []
    rows = max(1, max_scores // len(texts_GE))
    for media_SE, teacher_SE in zip(student.media_BE.split(rows), teacher.media_BE.split(rows), strict=True):
        arguments = media_SE, texts_GE, scale, teacher_scale * teacher_SE, teacher_texts_GE
        if len(media_SE) == len(student.media_BE):
            losses.append(_row_sum(*arguments))
        else:
            losses.append(checkpoint(_row_sum, *arguments, use_reentrant=False))
        with torch.no_grad():
            nearest.append((media_SE @ texts_GE.T).argmax(dim=1))
            teacher_nearest.append((teacher_SE @ teacher_texts_GE.T).argmax(dim=1))
    found_B = torch.cat(nearest)
    return RowKl(
        loss=torch.stack(losses).sum() / len(found_B),
        accuracy=(found_B == own_B).float().mean(),
        agreement=(found_B == torch.cat(teacher_nearest)).float().mean(),
    )


def _row_sum(media_SE: Tensor, texts_GE: Tensor, scale: Tensor, teacher_SE: Tensor, teacher_GE: Tensor) -> Tensor:
    """The sum of the rows' divergences."""
    student_SG = (scale * media_SE @ texts_GE.T).log_softmax(dim=1)
    teacher_SG = (teacher_SE @ teacher_GE.T).log_softmax(dim=1)
    return F.kl_div(student_SG, teacher_SG, reduction="sum", log_target=True)

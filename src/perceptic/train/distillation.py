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

from perceptic.data.augmentation import resize
from perceptic.data.batches import Batch
from perceptic.errors import ConfigError, WeightsError
from perceptic.models.clip import CLIP
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.train.encoding import encode_media, encode_text, unit_vectors
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
        logits_BB = scale * student.media_BE @ student.text_BE.T
        teacher_BB = self.teacher_logit_scale * targets.media_BE @ targets.text_BE.T
        loss = (mean_kl(teacher_BB, logits_BB) + mean_kl(teacher_BB.T, logits_BB.T)) / 2
        nearest_B = logits_BB.argmax(dim=1)
        own_B = torch.arange(len(logits_BB), device=logits_BB.device)
        return loss, {
            "accuracy": (nearest_B == own_B).float().mean(),
            "agreement": (nearest_B == teacher_BB.argmax(dim=1)).float().mean(),
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


def mean_kl(teacher_BB: Tensor, student_BB: Tensor) -> Tensor:
    """Mean over rows of KL(softmax(teacher) || softmax(student))."""
    return F.kl_div(
        student_BB.log_softmax(dim=1), teacher_BB.log_softmax(dim=1), reduction="batchmean", log_target=True
    )

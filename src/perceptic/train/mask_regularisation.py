"""Masked copies of some pictures of a batch, drawn towards what the unmasked ones give (training-recipes 1.4, step 8).

The papers: 1/16 of the batch is copied and masked (ratio 0.4); at the output, masked tokens are pulled to their
unmasked counterparts by cosine similarity; the contrastive loss never sees a masked picture, and the gradients of the
two are kept apart. Here: the targets carry no gradient, so the regulariser's comes from the masked copies alone.

Not published, and decided here: single patches at random places are hidden (no blocks); a hidden patch is mid-grey,
which the bias-free patch projection turns into a zero vector, so the model needs no mask token; tokens are compared
after the final LayerNorm; the weight is 1.

Shapes: B pictures, L patches, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic.errors import ConfigError
from perceptic.models.vision import VisionTransformer
from perceptic.train.encoding import unit_vectors


@dataclass(frozen=True)
class MaskRecipe:
    """Mask regularisation of a run.

    Attributes:
        share: of each batch's pictures that are copied and masked; at least one is.
        ratio: of a copy's patches that are hidden; at least one is, and one stays.
        weight: of the regulariser beside the main loss.
    """

    share: float = 1 / 16
    ratio: float = 0.4
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("share", "ratio"):
            value = getattr(self, name)
            if not 0.0 < value <= 1.0:
                raise ConfigError(f"mask.{name}: expected more than 0 and at most 1, not {value}")
        if self.weight < 0.0:
            raise ConfigError(f"mask.weight: expected 0 or more, not {self.weight}")


def mask_loss(visual: VisionTransformer, pixels: Tensor, recipe: MaskRecipe) -> Tensor:
    """Mean over masked tokens of 1 - cos(masked, unmasked), without the weight.

    Masks are drawn from torch's global generator, which checkpoints keep.

    Args:
        pixels: (B, 3, h, w), the whole batch; its first pictures are copied (batches are in random order).
    """
    chosen = pixels[: max(1, int(len(pixels) * recipe.share))]
    with torch.no_grad():
        target_BLD = visual.forward_features(chosen, norm=True, strip_cls_token=True)
    rows, columns = visual.grid(chosen)
    hidden_BL = draw_masks(len(chosen), rows * columns, recipe.ratio).to(pixels.device)
    masked_BLD = visual.forward_features(
        hide_patches(chosen, hidden_BL, visual.config.patch_size), norm=True, strip_cls_token=True
    )
    cosines_BL = (unit_vectors(masked_BLD) * unit_vectors(target_BLD)).sum(dim=-1)
    return 1.0 - cosines_BL[hidden_BL].mean()


def draw_masks(count: int, num_patches: int, ratio: float) -> Tensor:
    """Boolean (count, num_patches), True where a patch is hidden: in every row the same number."""
    num_hidden = min(max(1, round(ratio * num_patches)), max(1, num_patches - 1))
    places = torch.rand(count, num_patches).argsort(dim=1)[:, :num_hidden]
    return torch.zeros(count, num_patches, dtype=torch.bool).scatter(1, places, True)


def hide_patches(pixels: Tensor, hidden_BL: Tensor, patch_size: int) -> Tensor:
    """Pixels with the patches of `hidden_BL` (row by row) at 0, mid-grey. Edges beyond the last patch stay."""
    rows, columns = pixels.shape[-2] // patch_size, pixels.shape[-1] // patch_size
    grid = hidden_BL.view(-1, 1, rows, columns)
    mask = grid.repeat_interleave(patch_size, dim=2).repeat_interleave(patch_size, dim=3)
    height, width = pixels.shape[-2:]
    mask = F.pad(mask, (0, width - mask.shape[-1], 0, height - mask.shape[-2]))
    return pixels.masked_fill(mask, 0.0)

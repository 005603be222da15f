"""From vision features to decoder tokens: a two-layer MLP per patch, then mean pooling (spec 2.4).

Shapes: C chunks, N patches, W vision width, D decoder width, T tokens.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from perceptic.errors import ConfigError


class Projector(nn.Module):
    """Linear, exact GELU, Linear, then `pooling_ratio` x `pooling_ratio` patches to one token."""

    def __init__(self, vision_width: int, width: int, pooling_ratio: int) -> None:
        super().__init__()
        self.width = width
        self.pooling_ratio = pooling_ratio
        self.projector = nn.Sequential(nn.Linear(vision_width, width), nn.GELU(), nn.Linear(width, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normals at three deviations of width^-0.5, biases too (spec 2.7)."""
        std = self.width**-0.5
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=std, a=-3 * std, b=3 * std)

    def forward(self, features_CNW: Tensor) -> Tensor:
        """(C, N, W) features of a square grid, row by row, to (C, T, D) tokens.

        Raises:
            ConfigError: N is not a square number.
        """
        return self.pool(self.projector(features_CNW))

    def pool(self, x_CND: Tensor) -> Tensor:
        """Mean over blocks of the grid; where the grid is no multiple of the ratio, adaptive windows overlap."""
        if self.pooling_ratio == 1:
            return x_CND
        side = math.isqrt(x_CND.shape[1])
        if side * side != x_CND.shape[1]:
            raise ConfigError(
                f"pooling needs a square grid of patches, not {x_CND.shape[1]} patches: give square chunks"
            )
        x_CDhw = x_CND.transpose(1, 2).unflatten(2, (side, side))
        return F.adaptive_avg_pool2d(x_CDhw, side // self.pooling_ratio).flatten(2).transpose(1, 2)

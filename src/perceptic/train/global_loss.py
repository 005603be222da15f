"""Contrastive losses over the batches of all processes together, in memory linear in the batch of one.

The pairs of all processes are scored, but no matrix of scores is ever whole. Texts come round by round: in each, every
process gives the same number of its own to all, so that a round is a quarter of a process's own texts, however many
processes there are. Within a round, a few rows of scores are made at a time. The backward pass makes them again.

Both directions of InfoNCE are read off the same scores: a row's sum is local, and a column's needs one number of each
process. So a score is computed twice in all (forward, backward), not four times as where each direction gathers for
itself.

Values are those of the whole batch, the same in every process. Gradients are such that the *mean* over processes, which
FSDP and DDP take, is the gradient of the whole batch. Without processes, it is all one batch.

Shapes: B pairs of this process, G of all, C of one round (of all processes), S rows at a time, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

_MAX_SCORES = 1 << 19
"""Scores in memory at a time: 2 MiB in fp32, of which two or three copies are worked on."""

_ROUNDS = 4
"""Rounds for each process: texts of a round are a quarter of a process's own."""


@dataclass(frozen=True)
class PairLoss:
    """Loss of the whole batch, and the share of media whose own text has the highest score of all (detached)."""

    loss: Tensor
    accuracy: Tensor


def info_nce(
    media_BE: Tensor,
    text_BE: Tensor,
    scale: Tensor,
    *,
    group: ProcessGroup | None = None,
    max_scores: int = _MAX_SCORES,
) -> PairLoss:
    """Symmetric InfoNCE: mean of the media-to-text and text-to-media cross-entropies (training-recipes 1.1).

    Args:
        media_BE, text_BE: unit vectors of this process's pairs, as many in every process, not of half precision.
        scale: scalar that similarities are multiplied by.
        group: processes that share a batch; the default group where there is one.
        max_scores: numbers in memory at a time.
    """
    loss, accuracy = _InfoNce.apply(media_BE, text_BE, scale, _Pairs(group, max_scores))
    return PairLoss(loss, accuracy)


def sigmoid_pairs(
    media_BE: Tensor,
    text_BE: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    group: ProcessGroup | None = None,
    max_scores: int = _MAX_SCORES,
) -> PairLoss:
    """SigLIP's loss (arXiv 2303.15343): every pair of the batch is its own yes-or-no question, summed per medium.

    Args:
        bias: scalar added to every score; it begins at -10, since nearly all pairs are a no. Others as `info_nce`.
    """
    loss, accuracy = _SigmoidPairs.apply(media_BE, text_BE, scale, bias, _Pairs(group, max_scores))
    return PairLoss(loss, accuracy)


def gather_rows(x_BE: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Rows of all processes (G, E), one process after the other. Its backward pass sums over processes.

    With a loss that is the mean over this process's own rows, gradients are as those of this module's losses.
    """
    gathered: Tensor = _GatherRows.apply(x_BE, group)
    return gathered


def first_row(x_BE: Tensor, group: ProcessGroup | None = None) -> int:
    """Where this process's rows begin in `gather_rows(x_BE)`."""
    return _rank(group) * len(x_BE)


@dataclass(frozen=True)
class _Block:
    """Scores of some media and one round of texts.

    Attributes:
        rows: these media, in this process's batch. columns: these texts, counted in the order of rounds.
        scores_SC: their cosines, by the scale. own_S: of each row, the column of its own text, or -1.
    """

    rows: slice
    columns: slice
    texts_CE: Tensor
    scores_SC: Tensor
    own_S: Tensor

    @property
    def own_pairs(self) -> tuple[Tensor, Tensor]:
        """Rows and columns of the pairs that belong together."""
        rows = (self.own_S >= 0).nonzero().squeeze(1)
        return rows, self.own_S[rows]


@dataclass(frozen=True)
class _Pairs:
    """All scores of this process's media, a block at a time."""

    group: ProcessGroup | None
    max_scores: int

    @property
    def count(self) -> int:
        return _count(self.group)

    def visit(
        self,
        media_BE: Tensor,
        text_BE: Tensor,
        scale: Tensor,
        visitor: Callable[[_Block], None],
        texts_done: Callable[[slice], None] = lambda own: None,
    ) -> None:
        """Show every block to the visitor, in the same order whenever it is asked.

        A visitor, not an iterator: between two blocks nobody holds the last one, of which there is thus never but one.

        Args:
            texts_done: called behind each round, with its rows of `text_BE`.
        """
        batch = len(media_BE)
        per_round = -(-batch // (_ROUNDS * self.count))
        first_column = 0
        for start in range(0, batch, per_round):
            own_CE = text_BE[start : start + per_round]
            texts_CE = _all_gather(own_CE, self.group)
            columns = slice(first_column, first_column + len(texts_CE))
            # Of a row of this round, the own text is at this column; of others it is in another round.
            own_B = torch.full((batch,), -1, device=media_BE.device)
            own_B[start : start + len(own_CE)] = first_row(own_CE, self.group) + torch.arange(
                len(own_CE), device=media_BE.device
            )
            size = max(1, self.max_scores // len(texts_CE))
            for row in range(0, batch, size):
                rows = slice(row, min(row + size, batch))
                scores_SC = (media_BE[rows] @ texts_CE.T).mul_(scale)
                visitor(_Block(rows, columns, texts_CE, scores_SC, own_B[rows]))
                del scores_SC
            del texts_CE
            texts_done(slice(start, start + len(own_CE)))
            first_column = columns.stop


class _Gradients:
    """What gradients of scores mean for media, texts and scale."""

    def __init__(self, media_BE: Tensor, text_BE: Tensor, scale: Tensor, pairs: _Pairs) -> None:
        self.inputs = media_BE, text_BE, scale
        self.pairs = pairs
        self.media_BE = torch.zeros_like(media_BE)
        self.text_BE = torch.empty_like(text_BE)
        self.scale = torch.zeros_like(scale)
        self._texts_CE: Tensor | None = None

    def gather(self, of_scores: Callable[[_Block], Tensor]) -> None:
        """Visit the blocks once more.

        Args:
            of_scores: the gradient of a block's scores.
        """

        def add(block: _Block) -> None:
            self._add(block, of_scores(block))

        self.pairs.visit(*self.inputs, add, self._end_round)

    def _add(self, block: _Block, gradient_SC: Tensor) -> None:
        media_BE, _, scale = self.inputs
        self.scale += _dot(gradient_SC, block.scores_SC) / scale
        gradient_SC = gradient_SC.mul_(scale)
        self.media_BE[block.rows].addmm_(gradient_SC, block.texts_CE)
        if self._texts_CE is None:
            self._texts_CE = torch.zeros_like(block.texts_CE)
        self._texts_CE.addmm_(gradient_SC.T, media_BE[block.rows])

    def _end_round(self, own: slice) -> None:
        assert self._texts_CE is not None
        self.text_BE[own] = _reduce_scatter(self._texts_CE, self.pairs.group)
        self._texts_CE = None


class _InfoNce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, media_BE: Tensor, text_BE: Tensor, scale: Tensor, pairs: _Pairs) -> tuple[Tensor, Tensor]:
        with torch.autocast(media_BE.device.type, enabled=False):
            batch, total = len(media_BE), len(media_BE) * pairs.count
            row_sums_B = media_BE.new_full((batch,), -torch.inf)
            column_sums_G = media_BE.new_full((total,), -torch.inf)
            best_B, own_B = row_sums_B.clone(), torch.empty_like(row_sums_B)

            def take(block: _Block) -> None:
                rows, columns = block.own_pairs
                own_B[block.rows.start + rows] = block.scores_SC[rows, columns]
                best_B[block.rows] = best_B[block.rows].maximum(block.scores_SC.amax(dim=1))
                for sums, where, dim in ((row_sums_B, block.rows, 1), (column_sums_G, block.columns, 0)):
                    sums[where] = torch.logaddexp(sums[where], _logsumexp(block.scores_SC, dim))

            pairs.visit(media_BE, text_BE, scale, take)
            column_sums_G = _all_logsumexp(column_sums_G, pairs.group)
            # Every process has all columns: each gives its share of their mean.
            distances = (row_sums_B - own_B).mean() + column_sums_G.mean() - own_B.mean()
            loss = _all_mean(distances / 2, pairs.group)
            accuracy = _all_mean((own_B >= best_B).to(media_BE.dtype).mean(), pairs.group)
        ctx.save_for_backward(media_BE, text_BE, scale, row_sums_B, column_sums_G)
        ctx.pairs = pairs
        ctx.mark_non_differentiable(accuracy)
        return loss, accuracy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        media_BE, text_BE, scale, row_sums_B, column_sums_G = ctx.saved_tensors
        gradients = _Gradients(media_BE, text_BE, scale, ctx.pairs)
        weight = loss_gradient / (2 * len(media_BE))

        def of_scores(block: _Block) -> Tensor:
            gradient_SC: Tensor = (block.scores_SC - row_sums_B[block.rows, None]).exp_()
            gradient_SC += (block.scores_SC - column_sums_G[None, block.columns]).exp_()
            rows, columns = block.own_pairs
            gradient_SC[rows, columns] -= 2
            return gradient_SC.mul_(weight)

        gradients.gather(of_scores)
        return gradients.media_BE, gradients.text_BE, gradients.scale, None


class _SigmoidPairs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, media_BE: Tensor, text_BE: Tensor, scale: Tensor, bias: Tensor, pairs: _Pairs
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(media_BE.device.type, enabled=False):
            best_B = media_BE.new_full((len(media_BE),), -torch.inf)
            own_B = torch.empty_like(best_B)
            total = torch.zeros_like(scale)

            def take(block: _Block) -> None:
                scores_SC = block.scores_SC.add_(bias)
                rows, columns = block.own_pairs
                own_B[block.rows.start + rows] = own_scores = scores_SC[rows, columns]
                best_B[block.rows] = best_B[block.rows].maximum(scores_SC.amax(dim=1))
                # -log sigmoid(-s) of every pair; where it is a yes, -log sigmoid(s) = that less s.
                total.add_(F.softplus(scores_SC).sum() - own_scores.sum())

            pairs.visit(media_BE, text_BE, scale, take)
            loss = _all_mean(total / len(media_BE), pairs.group)
            accuracy = _all_mean((own_B >= best_B).to(media_BE.dtype).mean(), pairs.group)
        ctx.save_for_backward(media_BE, text_BE, scale, bias)
        ctx.pairs = pairs
        ctx.mark_non_differentiable(accuracy)
        return loss, accuracy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        media_BE, text_BE, scale, bias = ctx.saved_tensors
        gradients = _Gradients(media_BE, text_BE, scale, ctx.pairs)
        bias_gradient = torch.zeros_like(bias)
        weight = loss_gradient / len(media_BE)

        def of_scores(block: _Block) -> Tensor:
            gradient_SC: Tensor = (block.scores_SC + bias).sigmoid_()
            rows, columns = block.own_pairs
            gradient_SC[rows, columns] -= 1
            gradient_SC.mul_(weight)
            bias_gradient.add_(gradient_SC.sum())
            return gradient_SC

        gradients.gather(of_scores)
        return gradients.media_BE, gradients.text_BE, gradients.scale, bias_gradient, None


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BE: Tensor, group: ProcessGroup | None) -> Tensor:
        ctx.group = group
        gathered = _all_gather(x_BE, group)
        return gathered.clone() if gathered is x_BE else gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_GE: Tensor) -> tuple[Tensor, None]:
        return _reduce_scatter(gradient_GE, ctx.group), None


def _logsumexp(scores_SC: Tensor, dim: int) -> Tensor:
    """As `torch.logsumexp`, with one temporary of the scores' size."""
    largest = scores_SC.amax(dim=dim, keepdim=True)
    return (scores_SC - largest).exp_().sum(dim=dim).log_() + largest.squeeze(dim)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.flatten(), b.flatten())


def _count(group: ProcessGroup | None) -> int:
    return dist.get_world_size(group) if dist.is_initialized() else 1


def _rank(group: ProcessGroup | None) -> int:
    return dist.get_rank(group) if dist.is_initialized() else 0


def _all_gather(x_BE: Tensor, group: ProcessGroup | None) -> Tensor:
    if _count(group) == 1:
        return x_BE
    gathered = x_BE.new_empty((_count(group) * len(x_BE), *x_BE.shape[1:]))
    dist.all_gather_into_tensor(gathered, x_BE.contiguous(), group=group)
    return gathered


def _reduce_scatter(x_GE: Tensor, group: ProcessGroup | None) -> Tensor:
    if _count(group) == 1:
        return x_GE
    own = x_GE.new_empty((len(x_GE) // _count(group), *x_GE.shape[1:]))
    dist.reduce_scatter_tensor(own, x_GE.contiguous(), group=group)
    return own


def _all_mean(value: Tensor, group: ProcessGroup | None) -> Tensor:
    if _count(group) > 1:
        dist.all_reduce(value, group=group)
    return value / _count(group)


def _all_logsumexp(x_G: Tensor, group: ProcessGroup | None) -> Tensor:
    if _count(group) == 1:
        return x_G
    largest = x_G.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX, group=group)
    sums = (x_G - largest).exp_()
    dist.all_reduce(sums, group=group)
    return sums.log_() + largest

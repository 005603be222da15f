"""PerceptionLM's objective: next-token cross-entropy over what the assistant says (spec 2.6, 9.11 to 9.13).

Logits of 128 thousand words are the largest thing in a step. They are made for learned tokens only and, where those are
many, a slice at a time, and again in the backward pass instead of being kept.

Shapes: B sequences, L tokens, N learned tokens, D width, V vocabulary, C chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from perceptic.configs_plm import PerceptionLMPreprocessing
from perceptic.data.packing import PackedBatch
from perceptic.media.chunks import ChunkTransform
from perceptic.models.perception_lm import PerceptionLM

Weighting = Literal["process", "token"]

_MAX_LOGITS = 1 << 26
"""Logits in memory at a time: 256 MiB in fp32."""


@dataclass(frozen=True)
class TokenLosses:
    """Of each learned token: its negative log-likelihood in nats (N,), and whether it was the likeliest (N,)."""

    nll_N: Tensor
    is_first_N: Tensor


@dataclass(frozen=True)
class ResponseLoss:
    """Mean negative log-likelihood of the tokens that the assistant says, headers and ends of turns included.

    Attributes:
        preprocessing: mean and deviation of the pixels.
        weighting: of processes that train together. `process` takes each one's mean over its own tokens, and the mean
            of those (the original); `token` counts every token of all processes alike.
        max_logits: numbers in memory at a time.
    """

    preprocessing: PerceptionLMPreprocessing
    weighting: Weighting = "process"
    max_logits: int = _MAX_LOGITS

    def loss(self, model: PerceptionLM, batch: PackedBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss; metrics `accuracy` (share of learned tokens that were the likeliest), `labels`, `tokens`, `samples`.

        A batch without learned tokens has loss 0 and gradients of 0.
        """
        hidden_ND = self._hidden(model, batch).flatten(0, 1)[batch.label_positions]
        losses = token_losses(model.decoder.logits, hidden_ND, batch.targets, self._rows(model))
        divisor = self._divisor(len(batch.targets), losses.nll_N.device)
        loss = losses.nll_N.sum() / divisor
        return loss, _metrics(batch, losses.is_first_N.float().sum() / divisor)

    def after_step(self, model: PerceptionLM) -> None:
        """Nothing is constrained."""

    def _hidden(self, model: PerceptionLM, batch: PackedBatch) -> Tensor:
        """Hidden states (B, L, D).

        A batch without pictures looks at a dummy chunk, which every embedding depends on by a factor of 0: under
        sharding each process must run tower and decoder, forward and backward, as often as the others.
        """
        if batch.chunks is not None:
            return model.hidden_packed(batch.token_ids, self._pixels(batch.chunks), batch.packing())
        size = model.image_size
        dummy = model.encode_chunks(torch.zeros(1, 3, size, size, device=batch.token_ids.device))
        x_BLD = model.embed(batch.token_ids) + 0.0 * dummy.mean()
        return model.decoder.forward_packed(x_BLD, batch.packing())

    def _pixels(self, chunks: Tensor) -> Tensor:
        """Chunks in [-1, 1]. Float chunks are taken to be so already."""
        return chunks if chunks.is_floating_point() else ChunkTransform(self.preprocessing).normalize(chunks)

    def _rows(self, model: PerceptionLM) -> int:
        return max(1, self.max_logits // model.config.decoder.vocab_size)

    def _divisor(self, num_labels: int, device: torch.device) -> Tensor | int:
        """What sums over this process's learned tokens are divided by, so that means over processes are as asked."""
        if self.weighting == "process" or not dist.is_initialized():
            return max(1, num_labels)
        all_labels = torch.tensor(float(num_labels), device=device)
        dist.all_reduce(all_labels)
        return all_labels.clamp(min=1) / dist.get_world_size()


@dataclass(frozen=True)
class PatchLoss(ResponseLoss):
    """Mean negative log-likelihood of the words of patches, as the output head reads them off the patches.

    A patch becomes near to the words for what it shows, which a decoder that has read those words can use at once. Each
    question has a softmax of its own over the words that answer it in the micro-batch, of all processes together.
    Batches are those of `data.patch_words`.

    Attributes:
        depth: blocks of the decoder that a patch has gone through when it is read. 0: the projector's tokens.
        balance: a patch counts by the frequency of its word among the question's to the power of minus this. 0: all
            patches alike; 1: all words alike.
    """

    depth: int = 0
    balance: float = 0.0

    def loss(self, model: PerceptionLM, batch: PackedBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and the metrics of responses; all pictures must have been asked as many questions."""
        hidden_RPD = self._patches(model, batch)
        wanted_RKP = batch.targets.unflatten(0, (len(hidden_RPD), -1, hidden_RPD.shape[1]))
        wanted_KN = wanted_RKP.transpose(0, 1).flatten(1)
        answers_KV = _answers(wanted_KN, model.config.decoder.vocab_size)
        words = answers_KV.any(dim=0).nonzero().flatten()
        logits_NW = F.linear(hidden_RPD.flatten(0, 1), model.decoder.head_weight[words]).float()
        divisor = self._divisor(len(batch.targets), logits_NW.device)
        loss, num_first = logits_NW.new_zeros(()), logits_NW.new_zeros(())
        for wanted_N, is_answer_V in zip(wanted_KN, answers_KV, strict=True):
            choices = is_answer_V[words].nonzero().flatten()
            among = logits_NW[:, choices]
            # Words are in ascending order of their ids.
            place_N = torch.searchsorted(words[choices], wanted_N)
            nll_N = F.cross_entropy(among, place_N, reduction="none")
            loss = loss + (nll_N * self._weights(place_N, len(choices))).sum() / divisor
            num_first += (among.detach().argmax(dim=-1) == place_N).sum()
        return loss, _metrics(batch, num_first / divisor)

    def _weights(self, place_N: Tensor, num_words: int) -> Tensor:
        """Of each patch by how frequent its word is in all processes, 1 on average."""
        counts_W = place_N.bincount(minlength=num_words).float()
        if dist.is_initialized():
            dist.all_reduce(counts_W)
        weights_W = counts_W.clamp(min=1.0) ** -self.balance
        return (weights_W * counts_W.sum() / (weights_W * counts_W).sum())[place_N]

    def _patches(self, model: PerceptionLM, batch: PackedBatch) -> Tensor:
        """Patches as they are read, (R pictures or clips, P patches, D)."""
        assert batch.chunks is not None, "patches come with their pictures"
        tokens_CTD = model.encode_chunks(self._pixels(batch.chunks))
        num_rows, num_patches = batch.num_samples, tokens_CTD.shape[0] * tokens_CTD.shape[1] // batch.num_samples
        if self.depth == 0:
            read: Tensor = model.decoder.norm(tokens_CTD)
            return read.reshape(num_rows, num_patches, -1)
        x_RLD = model.embed(batch.token_ids, tokens_CTD)
        hidden_RLD = model.decoder.forward_packed(x_RLD, batch.packing(), self.depth)
        positions_RKP = batch.label_positions.unflatten(0, (num_rows, -1, num_patches))
        return hidden_RLD.flatten(0, 1)[positions_RKP[:, 0]]


@dataclass(frozen=True)
class AccompaniedLoss:
    """A loss with those of the patches that are learned along: their weighted sum.

    Attributes:
        main: of the batch itself. beside: loss and weight of each batch of its `beside`.
    """

    main: ResponseLoss
    beside: tuple[tuple[PatchLoss, float], ...]

    def loss(self, model: PerceptionLM, batch: PackedBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum, and the metrics of the batch itself with `patch_accuracy_0`, `patch_accuracy_1`... of the others."""
        loss, metrics = self.main.loss(model, batch)
        for index, ((objective, weight), patches) in enumerate(zip(self.beside, batch.beside, strict=True)):
            extra, found = objective.loss(model, patches)
            loss = loss + weight * extra
            metrics[f"patch_accuracy_{index}"] = found["accuracy"]
        return loss, metrics

    def after_step(self, model: PerceptionLM) -> None:
        """Nothing is constrained."""


def _metrics(batch: PackedBatch, accuracy: Tensor) -> dict[str, Tensor]:
    return {
        "accuracy": accuracy,
        "labels": torch.tensor(len(batch.targets)),
        "tokens": torch.tensor(batch.num_real_tokens),
        "samples": torch.tensor(batch.num_samples),
    }


def _answers(wanted_KN: Tensor, vocab_size: int) -> Tensor:
    """Which words answer each question in any process, (K, V) bool."""
    found_KV = torch.zeros(len(wanted_KN), vocab_size, device=wanted_KN.device).scatter_(1, wanted_KN, 1.0)
    if dist.is_initialized():
        dist.all_reduce(found_KV, dist.ReduceOp.MAX)
    return found_KV > 0


def token_losses(
    logits: Callable[[Tensor], Tensor], hidden_ND: Tensor, targets_N: Tensor, rows_at_once: int
) -> TokenLosses:
    """Losses of single tokens with at most `rows_at_once` x V logits in memory, in the backward pass too.

    Args:
        logits: the output head, (n, D) to (n, V).
    """
    recompute = torch.is_grad_enabled() and len(targets_N) > rows_at_once
    parts = []
    for hidden, targets in zip(hidden_ND.split(rows_at_once), targets_N.split(rows_at_once), strict=True):
        if recompute:
            parts.append(checkpoint(_losses, logits, hidden, targets, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(_losses(logits, hidden, targets))
    return TokenLosses(torch.cat([nll for nll, _ in parts]), torch.cat([is_first for _, is_first in parts]))


def _losses(logits: Callable[[Tensor], Tensor], hidden_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    logits_NV = logits(hidden_ND).float()
    nll_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    return nll_N, logits_NV.detach().argmax(dim=-1) == targets_N

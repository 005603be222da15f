"""One process of those that tests of parallel training start: `parallel_worker.py FOLDER JOB...`.

Each job is a function below; process 0 writes what it returns to FOLDER/JOB.json. A test calls the same functions with
`Processes` of one to get what it compares with.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from perceptic.configs import ClipConfig, clip_config
from perceptic.configs_plm import PerceptionLMPreprocessing, plm_config
from perceptic.data.packing import PackedBatch
from perceptic.data.samples import SampleError
from perceptic.data.skipped import SkippedSamples
from perceptic.errors import DataError
from perceptic.models.clip import CLIP
from perceptic.models.perception_lm import PerceptionLM
from perceptic.train.checkpoint import TrainState
from perceptic.train.ema import MovingAverage
from perceptic.train.global_loss import first_row, gather_rows, info_nce, sigmoid_pairs
from perceptic.train.optimizers import make_optimizer
from perceptic.train.parallel import Processes, joined
from perceptic.train.parallel_model import clip_gradients, share_model, whole_weights
from perceptic.train.parallel_recipe import ParallelRecipe
from perceptic.train.plm_objective import ResponseLoss
from perceptic.train.sharded_checkpoint import ShardedCheckpoints
from perceptic.train.sharded_state import tensors_of
from perceptic.train.sources import require_few_skipped

GLOBAL_BATCH, STEPS = 8, 3


def own(processes: Processes, x: Any) -> Any:
    """This process's part of a global batch."""
    size = len(x) // processes.count
    return x[processes.rank * size : (processes.rank + 1) * size]


def make_clip(seed: int = 0) -> CLIP:
    torch.manual_seed(seed)
    config = clip_config("PE-Core-Nano")
    vision = config.vision.replace(width=32, layers=2, heads=2, output_dim=16, attn_pooler_heads=2)
    text = config.text.replace(width=32, layers=2, heads=2, output_dim=16, vocab_size=600)
    return CLIP(ClipConfig(vision=vision, text=text)).double().train()


def clip_batch(processes: Processes, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(step)
    pixels = torch.randn(GLOBAL_BATCH, 3, 32, 32, generator=random, dtype=torch.float64)
    ids = torch.randint(1, 599, (GLOBAL_BATCH, 16), generator=random)
    ids[:, -1] = 599
    return own(processes, pixels), own(processes, ids)


def clip_step(model: CLIP, optimizer: torch.optim.Optimizer, processes: Processes, step: int) -> list[float]:
    """Two passes through the tower, and one behind the model's back, as chunks and masks make them."""
    pixels, ids = clip_batch(processes, step)
    media = torch.cat([model.encode_image(chunk) for chunk in pixels.split(2)])
    texts = model.encode_text(ids)
    unit = [F.normalize(x, dim=-1) for x in (media, texts)]
    loss = info_nce(unit[0], unit[1], model.logit_scale.exp()).loss
    features = model.visual.forward_features(pixels, norm=True)
    (loss + 0.01 * (features - 1).square().mean()).backward()
    norm = clip_gradients(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return [loss.item(), norm]


def optimizer_of(model: nn.Module, name: Any = "adamw") -> torch.optim.Optimizer:
    optimizer = make_optimizer(name, model, (0.9, 0.95), 1e-8, 0.05, {"visual.": 0.5})
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * group["rate"]
    return optimizer


def train_clip(processes: Processes, recipe: ParallelRecipe, name: str = "adamw") -> list[float]:
    model = make_clip()
    share_model(model, recipe, processes)
    optimizer = optimizer_of(model, name)
    figures = [figure for step in range(STEPS) for figure in clip_step(model, optimizer, processes, step)]
    return [*figures, sum(value.abs().sum().item() for value in whole_weights(model).values())]


def clip_full(processes: Processes) -> list[float]:
    return train_clip(processes, ParallelRecipe(shard="full"))


def clip_lamb(processes: Processes) -> list[float]:
    return train_clip(processes, ParallelRecipe(shard="none"), "lamb")


def clip_hybrid(processes: Processes) -> list[float]:
    """Two groups, whatever the number of processes, and activation checkpointing."""
    recipe = ParallelRecipe(shard="hybrid", replicate=min(2, processes.count), activation_checkpointing=True)
    return train_clip(processes, recipe)


def make_plm(tied: bool) -> PerceptionLM:
    torch.manual_seed(0)
    config = plm_config("PLM-Nano")
    decoder = config.decoder.replace(
        dim=32, n_layers=2, n_heads=2, n_kv_heads=1, multiple_of=32, vocab_size=64, weight_tying=tied
    )
    vision = config.vision.replace(width=48, layers=2, image_size=16, patch_size=4)
    model = PerceptionLM(config.replace(decoder=decoder, vision=vision, image_token_id=63, pooling_ratio=2)).train()
    return model.double()


def plm_batch(processes: Processes, model: PerceptionLM, step: int) -> PackedBatch:
    """Four sequences of two samples; only the first of all has a picture."""
    random = torch.Generator().manual_seed(step)
    ids = torch.randint(0, 60, (4, 24), generator=random)
    ids[0, 2 : 2 + model.tokens_per_chunk] = 63
    chunks = torch.randn(1, 3, 16, 16, generator=random, dtype=torch.float64)
    learned = torch.rand(4, 24, generator=random) < torch.tensor([[0.2], [0.9], [0.5], [0.4]])
    targets = torch.randint(0, 60, (4, 24), generator=random)
    ids, learned, targets = own(processes, ids), own(processes, learned), own(processes, targets)
    return PackedBatch(
        token_ids=ids,
        sample_lengths=tuple((14, 10) for _ in ids),
        chunks=chunks if processes.rank == 0 else None,
        label_positions=learned.flatten().nonzero().squeeze(1),
        targets=targets[learned],
    )


def train_plm(processes: Processes, tied: bool, frozen: bool) -> list[float]:
    model = make_plm(tied)
    model.set_frozen(vision=frozen, decoder=frozen)
    share_model(model, ParallelRecipe(shard="full", activation_checkpointing=not frozen), processes)
    optimizer = optimizer_of(model)
    # Few logits at a time, so that the head is used in the backward pass too.
    objective = ResponseLoss(PerceptionLMPreprocessing(tile_size=16), weighting="token", max_logits=64 * 5)
    figures = []
    for step in range(STEPS):
        loss, _ = objective.loss(model, plm_batch(processes, model, step))
        loss.backward()
        norm = clip_gradients(model.parameters(), None)
        optimizer.step()
        optimizer.zero_grad()
        figures += [processes.mean({"loss": loss.item()})["loss"], norm]
    return figures


def plm_tied(processes: Processes) -> list[float]:
    return train_plm(processes, tied=True, frozen=False)


def plm_frozen(processes: Processes) -> list[float]:
    return train_plm(processes, tied=False, frozen=True)


def plm_bf16(processes: Processes) -> list[float]:
    """Weights that travel in bf16 under autocast: close, not equal."""
    model = make_plm(True).float()
    share_model(model, ParallelRecipe(shard="full", gather="bf16"), processes)
    objective = ResponseLoss(PerceptionLMPreprocessing(tile_size=16), weighting="token")
    batch = plm_batch(processes, model, 0)
    if batch.chunks is not None:
        object.__setattr__(batch, "chunks", batch.chunks.float())
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = objective.loss(model, batch)
    loss.backward()
    return [processes.mean({"loss": loss.item()})["loss"], clip_gradients(model.parameters(), None)]


def losses(processes: Processes) -> dict[str, Any]:
    """Values and gradients of the losses over a batch of 44: its rounds are not of one size."""
    random = torch.Generator().manual_seed(3)
    batch = 44
    # A shared part makes scores that matter.
    common = torch.randn(batch, 7, generator=random, dtype=torch.float64)
    sides = [common + torch.randn(batch, 7, generator=random, dtype=torch.float64) for _ in range(2)]
    found: dict[str, Any] = {}
    for name in ("info_nce", "sigmoid_pairs", "gather_rows"):
        media, texts = (own(processes, F.normalize(side, dim=-1)).requires_grad_() for side in sides)
        scale, bias = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (9.0, -3.0))
        if name == "gather_rows":
            everything = gather_rows(texts)
            assert torch.equal(everything[first_row(texts) :][: len(texts)], texts)
            loss = (scale * media @ everything.T + bias).exp().sum(dim=1).log().mean()
            values = [loss.item()]
        else:
            # 40 scores at a time: several slices of rows in every round.
            pairs = (
                info_nce(media, texts, scale, max_scores=40)
                if name == "info_nce"
                else sigmoid_pairs(media, texts, scale, bias, max_scores=40)
            )
            loss, values = pairs.loss, [pairs.loss.item(), pairs.accuracy.item()]
        loss.backward()
        wanted = [x.grad if x.grad is not None else torch.zeros_like(x) for x in (scale, bias)]
        found[name] = {
            "values": [processes.mean({"": value})[""] for value in values],
            "media": torch.cat(processes.gather(media.grad)).tolist(),
            "texts": torch.cat(processes.gather(texts.grad)).tolist(),
            "scalars": [processes.mean({"": gradient.item()})[""] for gradient in wanted],
        }
        for side in ("media", "texts"):  # of the mean over processes, as FSDP takes it
            found[name][side] = (torch.tensor(found[name][side]).double() / processes.count).tolist()
    return found


def agreement(processes: Processes) -> dict[str, Any]:
    last = processes.rank == processes.count - 1
    before = Path(sys.argv[1]) / "ready.txt"
    with processes.first_goes_ahead():
        if processes.is_first:
            before.write_text("ready")
        text = before.read_text()
    return {
        "any": processes.any(last),
        "none": processes.any(False),
        "mean": processes.mean({"b": float(processes.rank), "a": 1.0}),
        "sum": processes.sum(1.0),
        "readers": [[reader.index, reader.count] for reader in processes.gather(processes.reader)],
        "text": text,
        "machines": processes.machines,
    }


def skips(processes: Processes) -> dict[str, Any]:
    """Each process passes over two samples, for a reason of its own; limits hold for all of them."""
    error = SampleError("a.tar", f"reason {processes.rank}")
    found: dict[str, Any] = {}
    for limit in (3, 4):
        skipped = SkippedSamples(limit)
        for _ in range(2):
            skipped.note(error)
        total = int(processes.combine({"skipped": skipped.total})["skipped"])
        try:
            require_few_skipped(skipped, total, processes)
            found[str(limit)] = None
        except DataError as raised:
            found[str(limit)] = str(raised)
    found["agree"] = len(set(processes.gather(found["3"]))) == 1
    return found


def checkpoints_of(processes: Processes, keep: int = 2) -> ShardedCheckpoints:
    return ShardedCheckpoints(Path(sys.argv[1]) / "checkpoints", keep, processes)


def random_state(processes: Processes, step: int) -> torch.Tensor:
    return torch.Generator().manual_seed(100 * processes.rank + step).get_state()


def state_of(
    processes: Processes, step: int, model: CLIP, optimizer: torch.optim.Optimizer, average: MovingAverage
) -> TrainState:
    tensors = tensors_of(model, optimizer)
    return TrainState(
        step=step,
        model=tensors["model"],
        optimizer=tensors["optimizer"],
        random_state=random_state(processes, step),
        data={"clips": {}},
        samples=8 * step,
        average=average.state(),
        best=0.5,
    )


def total(model: CLIP) -> float:
    """A sum over all weights, the same in every process."""
    return sum(value.abs().sum().item() for value in whole_weights(model, everywhere=True).values())


def save(processes: Processes) -> list[float]:
    """Three checkpoints of which two are kept; training goes on while each is written. Returns what comes after."""
    model = make_clip()
    share_model(model, ParallelRecipe(shard="full"), processes)
    optimizer, checkpoints, average = optimizer_of(model), checkpoints_of(processes), MovingAverage(model, 0.9)
    figures = []
    for step in range(5):
        if step == 1:
            checkpoints.save_best(state_of(processes, step, model, optimizer, average))
            best = total(model)
        if step in (1, 2, 3):
            checkpoints.save(state_of(processes, step, model, optimizer, average))
        figures += clip_step(model, optimizer, processes, step)
        average.update(model)
    checkpoints.wait()
    average.copy_to(model)
    return [*figures, total(model), best]


def load(processes: Processes) -> dict[str, Any]:
    """Go on from the newest checkpoint into a model of other weights."""
    model = make_clip(seed=9)
    share_model(model, ParallelRecipe(shard="auto"), processes)
    optimizer, checkpoints, average = optimizer_of(model), checkpoints_of(processes), MovingAverage(model, 0.9)
    found = checkpoints.newest()
    assert found.state is not None
    averages = average.state()
    checkpoints.load(found.state, model, optimizer, averages)
    average.restore(averages)
    step = found.state.step
    figures = []
    for later in range(step, 5):
        figures += clip_step(model, optimizer, processes, later)
        average.update(model)
    average.copy_to(model)
    figures.append(total(model))
    same_random = torch.equal(found.state.random_state, random_state(processes, step))
    checkpoints.load_best(model, optimizer)
    figures.append(total(model))
    return {
        "step": step,
        "samples": found.state.samples,
        "best": found.state.best,
        "warnings": list(found.warnings),
        "figures": figures,
        "same_random": not processes.any(not same_random),
        "rates": [group["rate"] for group in optimizer.param_groups],
    }


JOBS: dict[str, Callable[[Processes], Any]] = {
    job.__name__: job
    for job in (
        clip_full, clip_lamb, clip_hybrid, plm_tied, plm_frozen, plm_bf16, losses, agreement, skips, save, load
    )
}  # fmt: skip


def main() -> None:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with joined("cpu") as processes:
        for name in sys.argv[2:]:
            result = JOBS[name](processes)
            if processes.is_first:
                (folder / f"{name}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()

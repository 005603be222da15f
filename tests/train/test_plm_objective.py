"""PerceptionLM's loss is the original's, packed or not, in slices or whole, and never NaN."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from perceptic.configs_plm import PerceptionLMPreprocessing, plm_config
from perceptic.data.packing import PackedBatch, collate, pack_all
from perceptic.data.plm_samples import TrainingSample
from perceptic.errors import TrainError
from perceptic.models.perception_lm import PerceptionLM
from perceptic.text.conversations import MediaTokens, TrainingTokens, training_tokens
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.train.plm_objective import ResponseLoss, token_losses
from perceptic.train.plm_stages import PAPER_STAGES, PlmStage, go_on_from
from perceptic.weights.plm_pretrained import PerceptionLM as PretrainedPerceptionLM

GOLDENS = Path(__file__).parents[1] / "goldens" / "plm"
TOKENIZER = LlamaTokenizer.from_file(GOLDENS / "tokenizer" / "tokenizer.model")
NAMES = ["tied_scaled", "untied_unscaled", "untied_scaled_oddgrid", "tied_unscaled_pool1"]
OBJECTIVE = ResponseLoss(PerceptionLMPreprocessing())


@pytest.fixture
def build(tmp_path: Path) -> Callable[[str], PerceptionLM]:
    """A model of the goldens in fp32, not training."""

    def make(name: str) -> PerceptionLM:
        for file in ("params.json", "consolidated.pth"):
            shutil.copy(GOLDENS / name / file, tmp_path)
        shutil.copy(GOLDENS / "tokenizer" / "tokenizer.model", tmp_path)
        return PretrainedPerceptionLM.from_pretrained(tmp_path, dtype="float32").eval()

    return make


def golden_samples(name: str, model: PerceptionLM) -> tuple[list[TrainingSample], Tensor]:
    """The four conversations of a golden batch, and its chunks without the dummy of the text."""
    batch = json.loads((GOLDENS / name / "batch.json").read_text())
    samples = []
    for given, num_chunks in zip(batch["conversations"], batch["num_chunks"], strict=True):
        kind = given["media_type"]
        media = MediaTokens(kind, 0 if kind == "text" else num_chunks, model.tokens_per_chunk)
        tokens = training_tokens(TOKENIZER, given["conversations"], media, batch["seq_len"])
        assert tokens is not None
        samples.append(TrainingSample(kind, tokens, None))
    kinds = [kind for kind, n in zip(batch["media_type"], batch["num_chunks"], strict=True) for _ in range(n)]
    images = load_file(GOLDENS / name / "inputs.safetensors")["batch.images"]
    return samples, images[torch.tensor([kind != "text" for kind in kinds])]


def batch_of(sequences: Sequence[Sequence[TrainingSample]], num_tokens: int, chunks: Tensor | None) -> PackedBatch:
    return dataclasses.replace(collate(sequences, num_tokens, TOKENIZER.eos_id), chunks=chunks)


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", NAMES)
def test_packed_samples_have_the_originals_loss_and_gradients(name: str, build: Callable[[str], PerceptionLM]) -> None:
    model = build(name)
    samples, images = golden_samples(name, model)
    wanted = json.loads((GOLDENS / name / "grads.json").read_text())
    num_tokens = sum(sample.num_inputs for sample in samples) + 5
    loss, metrics = OBJECTIVE.loss(model, batch_of([samples], num_tokens, images))
    assert loss.item() == pytest.approx(wanted["loss"], abs=1e-5)
    assert metrics["samples"] == 4
    assert metrics["tokens"] == num_tokens - 5
    found = gradients(model, loss)
    assert len(found) == len(wanted["grads"])
    for key, gradient in wanted["grads"].items():
        ours = found[key if key.startswith("vision_") else f"decoder.{key}"]
        assert ours.norm().item() == pytest.approx(gradient["l2"], rel=2e-4, abs=1e-6), key
        assert ours.flatten()[:4].tolist() == pytest.approx(gradient["first"], rel=1e-3, abs=2e-5), key


@pytest.mark.parametrize("name", NAMES)
def test_every_token_has_the_originals_probability(name: str, build: Callable[[str], PerceptionLM]) -> None:
    model = build(name)
    samples, images = golden_samples(name, model)
    wanted = load_file(GOLDENS / name / "expected.safetensors")["batch.label_logprob"]
    unpacked = collate([[sample] for sample in samples], wanted.shape[1], TOKENIZER.eos_id)
    two_rows = batch_of([samples[:3], samples[3:]], 400, images)
    with torch.no_grad():
        hidden_ND = model.hidden_packed(two_rows.token_ids, images, two_rows.packing()).flatten(0, 1)
        losses = token_losses(model.decoder.logits, hidden_ND[two_rows.label_positions], two_rows.targets, 7)
    torch.testing.assert_close(-losses.nll_N, wanted.flatten()[unpacked.label_positions], atol=2e-4, rtol=0)


def test_packed_equals_unpacked(build: Callable[[str], PerceptionLM]) -> None:
    """Sixteen samples of many lengths: a sequence each, padded to the longest, against a few packed sequences."""
    model = build("tied_scaled")
    generator = torch.Generator().manual_seed(3)
    samples = [random_sample(model, generator, num_chunks=i % 3) for i in range(16)]
    alone = collate([[sample] for sample in samples], max(sample.num_inputs for sample in samples), TOKENIZER.eos_id)
    sequences = pack_all(samples, lambda sample: sample.num_inputs, 150)
    packed = collate(sequences, 150, TOKENIZER.eos_id)
    assert len(sequences) < 12
    results = []
    for batch in (alone, packed):
        loss, _ = OBJECTIVE.loss(model, batch)
        results.append((loss.item(), gradients(model, loss)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-5)
    for key, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][key], gradient, atol=1e-5, rtol=1e-4)


def random_sample(model: PerceptionLM, generator: torch.Generator, num_chunks: int) -> TrainingSample:
    length = int(torch.randint(4, 60, (), generator=generator))
    text = torch.randint(0, 500, (length,), generator=generator).tolist()
    image = [TOKENIZER.image_id] * (num_chunks * model.tokens_per_chunk)
    ids = (1, *image, *text)
    size = model.image_size
    chunks = torch.randint(0, 256, (num_chunks, 3, size, size), generator=generator, dtype=torch.uint8)
    tokens = TrainingTokens(ids, tuple(range(1, 1 + len(image))), tuple(range(len(ids) - length // 2, len(ids))))
    return TrainingSample("image" if num_chunks else "text", tokens, chunks if num_chunks else None)


def test_bytes_and_normalised_pixels_are_the_same(build: Callable[[str], PerceptionLM]) -> None:
    model = build("tied_scaled")
    batch = collate([[random_sample(model, torch.Generator().manual_seed(0), 2)]], 100, 0)
    assert batch.chunks is not None
    as_floats = dataclasses.replace(batch, chunks=batch.chunks.float() / 127.5 - 1)
    with torch.no_grad():
        losses = [OBJECTIVE.loss(model, one)[0].item() for one in (batch, as_floats)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize("rows", [1, 7, 40, 100])
def test_slices_have_the_gradients_of_the_whole(rows: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(40, 16, requires_grad=True)
    weight = torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(0, 50, (40,))
    most = 0

    def logits(x: Tensor) -> Tensor:
        nonlocal most
        most = max(most, len(x))
        return F.linear(x, weight)

    losses = token_losses(logits, hidden, targets, rows)
    whole = F.cross_entropy(F.linear(hidden, weight), targets, reduction="none")
    torch.testing.assert_close(losses.nll_N, whole)
    assert torch.equal(losses.is_first_N, F.linear(hidden, weight).argmax(-1) == targets)
    factors = torch.randn(40)
    for ours, theirs in zip(
        torch.autograd.grad((losses.nll_N * factors).sum(), (hidden, weight)),
        torch.autograd.grad((whole * factors).sum(), (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    assert most == min(rows, 40)


def test_logits_are_not_kept(build: Callable[[str], PerceptionLM]) -> None:
    """What autograd keeps for the backward pass has no axis as long as the vocabulary, but for the head itself."""
    model = build("untied_unscaled")
    batch = collate([[random_sample(model, torch.Generator().manual_seed(0), 0)]], 100, 0)
    assert len(batch.targets) > 2
    vocabulary = model.config.decoder.vocab_size
    kept: list[tuple[int, ...]] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(tuple(x.shape))
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        dataclasses.replace(OBJECTIVE, max_logits=2 * vocabulary).loss(model, batch)
    dim = model.config.decoder.dim
    heads = [(vocabulary, dim), (dim, vocabulary)]
    assert kept
    assert not [shape for shape in kept if vocabulary in shape and shape not in heads]


def without_labels(batch: PackedBatch) -> PackedBatch:
    nothing = torch.zeros(0, dtype=torch.int64)
    return dataclasses.replace(batch, label_positions=nothing, targets=nothing)


@pytest.mark.parametrize("num_chunks", [0, 1])
@pytest.mark.parametrize("has_labels", [False, True])
def test_every_batch_has_a_loss_and_touches_every_trained_parameter(
    num_chunks: int, has_labels: bool, build: Callable[[str], PerceptionLM]
) -> None:
    model = build("tied_scaled").train()
    batch = collate([[random_sample(model, torch.Generator().manual_seed(0), num_chunks)]], 100, 0)
    for stage in PAPER_STAGES.values():
        model.requires_grad_(True)
        stage.freeze(model)
        loss, metrics = OBJECTIVE.loss(model, batch if has_labels else without_labels(batch))
        assert (loss.item() > 0) == has_labels
        assert 0 <= metrics["accuracy"].item() <= 1
        found = gradients(model, loss)
        assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
        assert all(gradient.isfinite().all() for gradient in found.values())
        learned = any(gradient.abs().max() > 0 for gradient in found.values())
        # With the decoder frozen, text alone teaches nothing.
        assert learned == (has_labels and (num_chunks > 0 or not stage.freeze_decoder))


def test_token_weighting_counts_all_processes_alike(
    build: Callable[[str], PerceptionLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("tied_scaled")
    generator = torch.Generator().manual_seed(5)
    batches = [collate([[random_sample(model, generator, 0)]], 70, 0) for _ in range(2)]
    counts = [len(batch.targets) for batch in batches]
    means = [OBJECTIVE.loss(model, batch)[0].item() for batch in batches]
    objective = dataclasses.replace(OBJECTIVE, weighting="token")
    assert objective.loss(model, batches[0])[0].item() == pytest.approx(means[0]), "one process has all tokens"

    def all_reduce(count: Tensor) -> None:
        assert count.item() in counts
        count.fill_(sum(counts))

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    weighted = [objective.loss(model, batch)[0].item() for batch in batches]
    wanted = sum(mean * count for mean, count in zip(means, counts, strict=True)) / sum(counts)
    assert counts[0] != counts[1]
    assert sum(weighted) / 2 == pytest.approx(wanted, rel=1e-5)
    assert [OBJECTIVE.loss(model, batch)[0].item() for batch in batches] == pytest.approx(means)


def test_stages_are_the_papers() -> None:
    one, two, three = (PAPER_STAGES[i] for i in (1, 2, 3))
    assert [stage.max_tokens for stage in (one, two, three)] == [1280, 6144, 11520]
    config = plm_config("Perception-LM-1B")
    assert one.model_config(config).vision.ls_init_value is None
    assert one.model_config(config).tokens_per_chunk == 1024
    assert three.model_config(config) == config
    seen = two.preprocessing(PerceptionLMPreprocessing())
    assert (seen.max_num_tiles, seen.max_video_frames, seen.vision_input_type) == (16, 16, "thumb+tile")


def tiny(stage: PlmStage) -> PerceptionLM:
    config = plm_config("PLM-Nano")
    small = config.replace(
        decoder=config.decoder.replace(dim=32, n_layers=1, multiple_of=32),
        vision=config.vision.replace(width=48, layers=2),
    )
    torch.manual_seed(0)
    return PerceptionLM(stage.model_config(small))


def test_a_stage_goes_on_from_the_one_before() -> None:
    first, second = tiny(PlmStage(layer_scale_init=None, drop_path=0.0)), tiny(PlmStage())
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1.0)
    go_on_from(second, first.state_dict())
    learned = first.state_dict()
    for name, value in second.state_dict().items():
        assert torch.equal(value, learned[name] if name in learned else torch.full_like(value, 0.1)), name
    assert len(second.state_dict()) == len(learned) + 4


def test_weights_that_do_not_fit_the_stage() -> None:
    model = tiny(PlmStage(layer_scale_init=None))
    state = model.state_dict()
    cases: list[tuple[dict[str, Any], str]] = [
        ({k: v for k, v in state.items() if k != "decoder.norm.weight"}, r"lack decoder.norm.weight \(and 0 more\)"),
        (tiny(PlmStage()).state_dict(), "have, and the model does not, vision_model"),
        ({**state, "decoder.norm.weight": torch.zeros(3)}, "do not fit the model"),
    ]
    for wrong, message in cases:
        with pytest.raises(TrainError, match=message):
            go_on_from(model, wrong)


def test_drop_path_leaves_out_branches_while_training() -> None:
    model = tiny(PlmStage(layer_scale_init=1.0, drop_path=0.5))
    chunks = torch.rand(8, 3, model.image_size, model.image_size)
    with torch.no_grad():
        assert not torch.equal(model.train().encode_chunks(chunks), model.encode_chunks(chunks))
        assert torch.equal(model.eval().encode_chunks(chunks), model.encode_chunks(chunks))

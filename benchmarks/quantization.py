"""What storing a PerceptionLM's decoder in fewer bits costs in quality, against float32.

What bounds it. Rounding weights adds noise to every product: relative to the weights its energy is 8e-5 in int8 (one
scale a row), 5.6e-3 in int4 (16 fitted levels, a scale for 32 weights), 3e-6 in bfloat16, whose activations round too.
Noise of independent weights averages out over the width of a product, so that wide models suffer less than narrow
ones; and a trained model is sure of most tokens where a random one is sure of none. The goldens are random and 64
wide, the worst of both; the released shape is random: both are upper bounds for trained models, not estimates.
`--model` measures a trained one, on texts that it makes up itself.

Top-1: the fraction of positions with the same most probable next token. KL: mean divergence of the float32 model's
distribution from the other's, in nats.

    python benchmarks/quantization.py                     # goldens: seconds
    python benchmarks/quantization.py --shape             # and a random Perception-LM-1B decoder: 12 GB, minutes
    python benchmarks/quantization.py --model my-plm      # a model of your own
    python benchmarks/quantization.py --levels            # where the 16 levels of int4 come from
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from perceptic.configs_plm import plm_config
from perceptic.inference.agreement import Agreement, agreement, combined
from perceptic.inference.generation import generate
from perceptic.inference.prompts import make_prompt
from perceptic.inference.sampling import GenerationOptions
from perceptic.models.decoder import Decoder
from perceptic.models.quantized import quantize_decoder
from perceptic.models.quantized_matrix import GROUP, LEVELS
from perceptic.weights.plm_pretrained import PerceptionLM, load_plm

GOLDENS = Path(__file__).parents[1] / "tests" / "goldens" / "plm"
VARIANTS = ("bfloat16", "int8", "int4")
SHAPE_POSITIONS = 384
ANSWER_TOKENS, ANSWERS = 128, 4


@dataclass(frozen=True)
class Row:
    """One variant of one model against its float32."""

    model: str
    variant: str
    agreement: Agreement
    decoder_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="store_true", help="also a random decoder of a released shape")
    parser.add_argument("--config", default="Perception-LM-1B", help="which shape")
    parser.add_argument("--model", help="a trained model: name or folder")
    parser.add_argument("--levels", action="store_true", help="fit the levels of int4 again")
    arguments = parser.parse_args()
    if arguments.levels:
        print_levels()
        return
    rows = [] if arguments.model else list(golden_rows())
    if arguments.shape:
        rows += shape_rows(arguments.config)
    if arguments.model:
        rows += trained_rows(arguments.model)
    print(f"{'model':40} {'decoder':9} {'MB':>8} {'positions':>9} {'top-1':>7} {'KL':>10}")
    for row in rows:
        found = row.agreement
        print(
            f"{row.model:40} {row.variant:9} {row.decoder_mb:8,.1f} {found.positions:9} {found.top1:7.1%} "
            f"{found.mean_kl:10.2e}"
        )
    print(json.dumps({"rows": [asdict(row) for row in rows]}))


def golden_rows() -> Iterator[Row]:
    """The small models with the original's numbers: long texts, and conversations with pictures."""
    names = ["tied_scaled", "untied_unscaled", "untied_scaled_oddgrid", "tied_unscaled_pool1"]
    for variant in VARIANTS:
        found, size = [], 0.0
        for name in names:
            with golden_folder(name) as folder:
                reference = PerceptionLM.from_pretrained(folder, dtype="float32")
                model = load_variant(folder, variant)
            given = load_file(GOLDENS / name / "inputs.safetensors")
            for ids in (given["text_long.ids"], given["text_short.ids"]):
                found.append(compare(reference, model, lambda m, ids=ids: m(ids)))
            size += megabytes(model.decoder)
        yield Row("goldens (4 models of width 64, random)", variant, combined(found), size)


def golden_folder(name: str) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    for file in (GOLDENS / name / "params.json", GOLDENS / name / "consolidated.pth"):
        (Path(folder.name) / file.name).symlink_to(file)
    return folder


def load_variant(folder: str, variant: str) -> PerceptionLM:
    """bfloat16 throughout, or a decoder in fewer bits that computes in float32: what storage alone costs."""
    if variant == "bfloat16":
        return PerceptionLM.from_pretrained(folder, dtype="bfloat16")
    return PerceptionLM.from_pretrained(folder, dtype="float32", weights=variant)


def compare(reference: PerceptionLM, model: PerceptionLM, run: Callable[[PerceptionLM], Tensor]) -> Agreement:
    with torch.inference_mode():
        return agreement(run(reference), run(model))


def shape_rows(name: str) -> list[Row]:
    """A decoder as wide and deep as a released one, with the weights it would start training from."""
    torch.manual_seed(0)
    config = plm_config(name).decoder
    decoder = Decoder(config).eval()
    ids = torch.randint(0, config.vocab_size, (1, SHAPE_POSITIONS))
    reference = logits_of(decoder, ids)
    rows = []
    for variant in VARIANTS[1:]:
        small = quantize_decoder(decoder, variant)
        rows.append(
            Row(f"{name} decoder (random)", variant, agreement(reference, logits_of(small, ids)), megabytes(small))
        )
    decoder.bfloat16()
    found = agreement(reference, logits_of(decoder, ids))
    return [Row(f"{name} decoder (random)", "bfloat16", found, megabytes(decoder)), *rows]


@torch.inference_mode()
def logits_of(decoder: Decoder, ids: Tensor) -> Tensor:
    return decoder.logits(decoder(decoder.embed(ids)))


def trained_rows(source: str) -> list[Row]:
    """Texts that the float32 model makes up, a word drawn at a time, and what the others would have said."""
    bundle = load_plm(source, dtype="float32")
    start = make_prompt(bundle.model, [bundle.tokenizer.bos_id])
    options = [GenerationOptions(max_new_tokens=ANSWER_TOKENS, temperature=1.0, seed=seed) for seed in range(ANSWERS)]
    answers = generate(bundle.model, bundle.tokenizer, [start] * ANSWERS, options)
    texts = [torch.tensor([[*start.token_ids, *answer.token_ids]]) for answer in answers]
    rows = []
    for variant in VARIANTS:
        model = load_variant(source, variant)
        found = [compare(bundle.model, model, lambda m, ids=ids: m(ids)) for ids in texts]
        rows.append(Row(source, variant, combined(found), megabytes(model.decoder)))
    return rows


def megabytes(decoder: Decoder) -> float:
    return sum(value.nbytes for value in decoder.state_dict().values()) / 1e6


def print_levels() -> None:
    """Fit 16 levels to normal and Student-t weights in groups of 32, and compare with other sets of levels."""
    torch.manual_seed(0)
    samples = {
        "normal": torch.randn(100_000, GROUP),
        "Student-t (5)": torch.distributions.StudentT(5.0).sample((100_000, GROUP)) / 1.29,
    }
    fitted = torch.tensor(LEVELS, dtype=torch.float32)
    both = torch.cat([values[:50_000] for values in samples.values()])
    for _ in range(10):
        codes, scales = best_codes(both, fitted)
        sums = torch.zeros(16).index_add_(0, codes.flatten(), (both * scales).flatten())
        weights = torch.zeros(16).index_add_(0, codes.flatten(), scales.square().expand_as(both).flatten())
        fitted = sums / weights
        fitted = fitted * 127 / fitted.abs().max()
    print("fitted again:", [round(float(level), 1) for level in fitted])
    print("of the format:", list(LEVELS))
    even = torch.arange(-8.0, 8.0)
    for name, levels in (("fitted", torch.tensor(LEVELS, dtype=torch.float32)), ("even", even)):
        losses = {kind: loss(values, levels) for kind, values in samples.items()}
        print(f"{name:8}", ", ".join(f"{kind}: {value * 1e3:.2f}e-3" for kind, value in losses.items()))


def best_codes(groups: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (G, 32) and scales (G, 1) of least squared error among a few scales."""
    largest = groups.gather(1, groups.abs().argmax(1, keepdim=True))
    borders = (levels[1:] + levels[:-1]) / 2
    best_codes, best_scales, least = None, None, None
    for end in (levels[0], levels[-1]):
        for factor in (1.0, 0.9):
            scales = largest / end * factor
            for _ in range(2):
                codes = torch.bucketize(groups / scales, borders)
                values = levels[codes]
                errors = (groups - scales * values).square().sum(1, keepdim=True)
                if least is None or best_codes is None or best_scales is None:
                    best_codes, best_scales, least = codes, scales, errors
                better = errors < least
                best_codes = torch.where(better, codes, best_codes)
                best_scales, least = torch.where(better, scales, best_scales), torch.minimum(errors, least)
                scales = (groups * values).sum(1, keepdim=True) / values.square().sum(1, keepdim=True)
    assert best_codes is not None
    assert best_scales is not None
    return best_codes, best_scales


def loss(groups: Tensor, levels: Tensor) -> float:
    codes, scales = best_codes(groups, levels)
    return float((groups - scales * levels[codes]).square().sum() / groups.square().sum())


if __name__ == "__main__":
    main()
